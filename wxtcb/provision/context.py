"""What the steps of one run stand on: the session, the journal, the looks, and a way to send what cannot be undone."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Callable, Coroutine, Iterator
from typing import Final

import anyio
import attrs

from wxtcb.errors import OutcomeUnknown, WxtcbError
from wxtcb.events import Abandoned, Event, Resending
from wxtcb.provision.events import RunEvent, StepInDoubt
from wxtcb.provision.journal import Journal, Record
from wxtcb.provision.keeping import keep
from wxtcb.provision.looks import Looks
from wxtcb.provision.report import Problem
from wxtcb.provision.tenant_state import Work
from wxtcb.session import Session

SPARE: Final = 10.0
CUT_OFF: Final = "cut off while its answer was awaited; it may have taken effect, and was not sent again"
_A_MOMENT: Final = 1.0


def is_doubtful(error: WxtcbError) -> bool:
    """Tell whether the call that raised *error* may have acted."""
    return isinstance(error, OutcomeUnknown) or error.maybe_acted > 0


@attrs.define(eq=False)
class Sending:
    """A call that adds something: whether it is `sent`, and whether a send is in `doubt`.

    It is asked before every send, and hears of a send that was cut off, or refused and is to be repeated. What is
    cancelled before its body can have left leaves no doubt. One that `spends` is not sent once the run is stopped, and
    none past the deadline of `scope`: a process that was paused gets to send before it is cancelled.
    """

    site: Site
    scope: anyio.CancelScope
    spends: bool
    sent: bool = False
    doubt: bool = False

    @property
    def session(self) -> Session:
        """The session to make the call with."""
        return self.site.session.with_options(hooks=[self._hear], may_send=self._may_send)

    def heed(self, error: WxtcbError) -> None:
        self.doubt |= is_doubtful(error)

    def withdraw(self) -> None:
        """End it, unless it is sent, if it may not be sent any more."""
        if not self.sent and not self._is_wanted:
            self.scope.cancel()

    @property
    def _is_wanted(self) -> bool:
        in_time = self.site.now() < self.scope.deadline
        return in_time and not (self.site.halted or (self.spends and self.site.stopped))

    def _may_send(self) -> bool:
        self.sent = self._is_wanted
        return self.sent

    def _hear(self, event: Event) -> None:
        if isinstance(event, Abandoned):
            self.doubt = True
        elif isinstance(event, Resending):
            self.sent = False
            self.withdraw()


@attrs.define(eq=False)
class Site:
    """Shared by the steps of one run.

    `session` raises where an answer leaves in doubt whether a call acted, and returns batches that failed in part; it
    sends nothing once the run has `halted`, and nothing that spends once it is `stopped`. `settle` is after how many
    seconds a look shows what an unclear create did, `patience` how many an environment may take to be NORMAL.
    """

    session: Session
    journal: Journal
    settle: float
    patience: float
    tell: Callable[[RunEvent], None]
    note: Callable[[Work, Problem], None]
    looks: Looks
    wall: Callable[[], float]
    stopped: bool = False
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
        """Keep *record* as the tenant's next version.

        Raises `JournalConflict` if somebody else has changed it, `JournalError` if it cannot be kept.
        """
        following = attrs.evolve(record, version=work.record.version + 1)
        await keep(self.journal, work.record, following, self.wall())
        work.record = following

    async def bind(self, work: Work, env: str, tranid: str | None = None) -> None:
        """Bind an environment to its tenant; that ends the intent, and the doubt."""
        since = work.record.opened_at or self.wall()
        alias = work.planned.alias
        bound = attrs.evolve(work.record, alias=alias, env=env, tranid=tranid, opened_at=since, intent=None)
        await _insist(self.commit(work, bound))
        self.looks.expected.since[env] = self.now()
        if env != work.planned.env:
            work.status = None
        work.env, work.doubt = env, None

    @contextlib.contextmanager
    def sending(self, deadline: float = math.inf, *, spends: bool = False) -> Iterator[Sending]:
        """Hold a call that adds something, so that it can be withdrawn; the scope ends it at *deadline*."""
        with anyio.CancelScope(deadline=deadline) as scope:
            sending = Sending(self, scope, spends)
            self._sendings.add(sending)
            try:
                yield sending
            finally:
                self._sendings.discard(sending)

    def stop(self) -> None:
        """Let nothing be opened any more, and end the creates that wait to be sent; what was sent is awaited."""
        self.stopped = True
        for sending in self._sendings:
            sending.withdraw()

    def halt(self) -> None:
        """Let nothing be sent any more, and end the calls that wait to be sent; what was sent is awaited."""
        self.halted = self.looks.halted = True
        self.stop()

    def doubt(self, work: Work, problem: Problem) -> None:
        """Put on record that nobody knows yet whether a create acted."""
        work.doubt = problem
        self.tell(StepInDoubt(work.name, problem))


async def _insist(commit: Coroutine[None, None, None]) -> None:
    """See a commit through, also when cancelled meanwhile; for a second, that is."""
    task = asyncio.ensure_future(commit)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task], timeout=_A_MOMENT)
        task.cancel()
        raise
