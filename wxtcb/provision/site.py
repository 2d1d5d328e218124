"""What the steps of one run stand on: the session, the journal, the looks, and a way to send what cannot be undone."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Callable, Iterator
from typing import Final

import anyio
import attrs

from wxtcb.api.environment import EnvList
from wxtcb.errors import OutcomeUnknown, WxtcbError
from wxtcb.events import Abandoned, Event
from wxtcb.provision.events import RunEvent, StepInDoubt
from wxtcb.provision.journal import Journal, Record
from wxtcb.provision.looks import Looks
from wxtcb.provision.report import Problem
from wxtcb.provision.work import Work
from wxtcb.session import Session
from wxtcb.sweep import Look

SPARE: Final = 10.0


class JournalConflict(WxtcbError):
    """The journal has a newer record of this tenant: somebody else works on it, or the plan is an old one."""


def is_doubtful(error: WxtcbError) -> bool:
    """Tell whether the call that raised *error* may have acted."""
    return isinstance(error, OutcomeUnknown) or error.maybe_acted > 0


@attrs.define(eq=False)
class Sending:
    """A call that adds something: whether it was `sent`, and whether a send is in `doubt`.

    It is asked before every send, and hears of a send that was cut off. What is cancelled before its body can have
    left leaves no doubt.
    """

    site: Site
    scope: anyio.CancelScope
    sent: bool = False
    doubt: bool = False

    @property
    def session(self) -> Session:
        """The session to make the call with."""
        return self.site.session.with_options(hooks=[self._hear], may_send=self._may_send)

    def heed(self, error: WxtcbError) -> None:
        self.doubt |= is_doubtful(error)

    def _may_send(self) -> bool:
        self.sent |= not self.site.halted
        return not self.site.halted

    def _hear(self, event: Event) -> None:
        self.doubt |= isinstance(event, Abandoned)


@attrs.define(eq=False)
class Site:
    """Shared by the steps of one run.

    `session` raises where an answer leaves in doubt whether a call acted, and returns batches that failed in part; it
    sends nothing once the run has `halted`. `settle` is after how many seconds a look shows what an unclear create did,
    `patience` how many an environment may take to be NORMAL. `bound` has the environments that belong to tenants, each
    with the moment since when that is so.
    """

    session: Session
    journal: Journal
    looks: Looks
    settle: float
    patience: float
    tell: Callable[[RunEvent], None]
    note: Callable[[Work, Problem], None]
    bound: dict[str, float]
    wall: Callable[[], float] = time.time
    halted: bool = False
    _sendings: set[Sending] = attrs.field(init=False, factory=set[Sending])

    def __attrs_post_init__(self) -> None:
        policy = attrs.evolve(self.session.retry, busy_creates=False)
        self.session = self.session.with_options(retry=policy, partial="return", may_send=lambda: not self.halted)

    @staticmethod
    def now() -> float:
        return asyncio.get_running_loop().time()

    @property
    def window(self) -> float:
        """The seconds within which a create is over, waiting for admission and a token included."""
        return self.session.timeout.whole + SPARE

    async def commit(self, work: Work, record: Record) -> None:
        """Keep *record* as the tenant's next version; `JournalConflict` if somebody else has changed it."""
        following = attrs.evolve(record, version=work.record.version + 1)
        if not await self.journal.commit(following):
            raise JournalConflict(
                f"the journal has a newer record of tenant {work.name!r}: another run works on it. Plan again"
            )
        work.record = following

    async def bind(self, work: Work, env: str, tranid: str | None = None) -> None:
        """Bind an environment to its tenant; that ends the intent, and the doubt."""
        work.env, work.doubt = env, None
        self.bound[env] = self.now()
        with anyio.CancelScope(shield=True):
            await self.commit(work, attrs.evolve(work.record, env=env, tranid=tranid, intent=None))

    @contextlib.contextmanager
    def sending(self, deadline: float = math.inf) -> Iterator[Sending]:
        """Hold a call that adds something, for `withdraw`; the scope ends it at *deadline*."""
        with anyio.CancelScope(deadline=deadline) as scope:
            sending = Sending(self, scope)
            self._sendings.add(sending)
            try:
                yield sending
            finally:
                self._sendings.discard(sending)

    def halt(self) -> None:
        """Let nothing be sent any more, and end the calls that wait to be sent; what was sent is awaited."""
        self.halted = True
        for sending in self._sendings:
            if not sending.sent:
                sending.scope.cancel()

    def doubt(self, work: Work, problem: Problem) -> None:
        """Put on record that nobody knows yet whether a create acted."""
        work.doubt = problem
        self.tell(StepInDoubt(work.name, problem))

    def shows_all(self, look: Look[EnvList]) -> bool:
        """Tell whether *look* shows every environment that must be visible by now."""
        settled = look.started_at - self.settle
        shown = look.seen.by_env
        return all(env in shown for env, since in self.bound.items() if since <= settled)
