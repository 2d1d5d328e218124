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
from wxtcb.events import Abandoned, Event, RequestResent
from wxtcb.provision.events import RunEvent, StepOutcomeUnknown
from wxtcb.provision.journal import Journal, TenantRecord, commit_record
from wxtcb.provision.reconciliation import EnvironmentListing
from wxtcb.provision.report import Problem
from wxtcb.provision.tenant_state import TenantState
from wxtcb.session import Session

CREATE_WINDOW_MARGIN: Final = 10.0
INTERRUPTED_MESSAGE: Final = "cut off while its answer was awaited; it may have taken effect, and was not sent again"
_COMMIT_GRACE_SECONDS: Final = 1.0


def is_ambiguous(error: WxtcbError) -> bool:
    """Tell whether the call that raised *error* may have acted."""
    return isinstance(error, OutcomeUnknown) or error.maybe_acted > 0


@attrs.define(eq=False)
class GuardedCall:
    """A call that adds something: whether it is `sent`, and whether a send is in `doubt`.

    It is asked before every send, and hears of a send that was cut off, or refused and is to be repeated. What is
    cancelled before its body can have left leaves no doubt. One that `billable` is not sent once the run is stopped, and
    none past the deadline of `scope`: a process that was paused gets to send before it is cancelled.
    """

    context: StepContext
    scope: anyio.CancelScope
    billable: bool
    sent: bool = False
    ambiguous: bool = False

    @property
    def session(self) -> Session:
        """The session to make the call with."""
        return self.context.session.with_options(hooks=[self._on_event], may_send=self._approve_send)

    def record_error(self, error: WxtcbError) -> None:
        self.ambiguous |= is_ambiguous(error)

    def cancel_if_unsent(self) -> None:
        """End it, unless it is sent, if it may not be sent any more."""
        if not self.sent and not self._is_allowed:
            self.scope.cancel()

    @property
    def _is_allowed(self) -> bool:
        in_time = self.context.loop_time() < self.scope.deadline
        return in_time and not (self.context.halted or (self.billable and self.context.stopped))

    def _approve_send(self) -> bool:
        self.sent = self._is_allowed
        return self.sent

    def _on_event(self, event: Event) -> None:
        if isinstance(event, Abandoned):
            self.ambiguous = True
        elif isinstance(event, RequestResent):
            self.sent = False
            self.cancel_if_unsent()


@attrs.define(eq=False)
class StepContext:
    """Shared by the steps of one run.

    `session` raises where an answer leaves in doubt whether a call acted, and returns batches that failed in part; it
    sends nothing once the run has `halted`, and nothing that spends once it is `stopped`. `settle` is after how many
    seconds a look shows what an unclear create did, `timeout` how many an environment may take to be NORMAL.
    """

    session: Session
    journal: Journal
    settle: float
    timeout: float
    emit: Callable[[RunEvent], None]
    record_problem: Callable[[TenantState, Problem], None]
    listing: EnvironmentListing
    wall_clock: Callable[[], float]
    stopped: bool = False
    halted: bool = False
    _active_calls: set[GuardedCall] = attrs.field(init=False, factory=set[GuardedCall])

    def __attrs_post_init__(self) -> None:
        policy = attrs.evolve(self.session.retry, busy_creates=False)
        self.session = self.session.with_options(retry=policy, partial="return", may_send=lambda: not self.halted)

    @staticmethod
    def loop_time() -> float:
        return asyncio.get_running_loop().time()

    @property
    def create_window(self) -> float:
        """The seconds within which a create is over, waiting for admission and a token included."""
        return self.session.timeout.total + CREATE_WINDOW_MARGIN

    async def commit(self, tenant_state: TenantState, record: TenantRecord) -> None:
        """Keep *record* as the tenant's next version.

        Raises `JournalConflict` if somebody else has changed it, `JournalError` if it cannot be kept.
        """
        following = attrs.evolve(record, version=tenant_state.record.version + 1)
        await commit_record(self.journal, tenant_state.record, following, self.wall_clock())
        tenant_state.record = following

    async def bind_environment(self, tenant_state: TenantState, env: str, tranid: str | None = None) -> None:
        """Bind an environment to its tenant; that ends the intent, and the doubt."""
        since = tenant_state.record.opened_at or self.wall_clock()
        alias = tenant_state.plan.alias
        bound = attrs.evolve(tenant_state.record, alias=alias, env=env, tranid=tranid, opened_at=since, intent=None)
        await _shielded_commit(self.commit(tenant_state, bound))
        self.listing.expected.bound_since[env] = self.loop_time()
        if env != tenant_state.plan.env:
            tenant_state.status = None
        tenant_state.env, tenant_state.ambiguous_create = env, None

    @contextlib.contextmanager
    def guarded_call(self, deadline: float = math.inf, *, billable: bool = False) -> Iterator[GuardedCall]:
        """Hold a call that adds something, so that it can be withdrawn; the scope ends it at *deadline*."""
        with anyio.CancelScope(deadline=deadline) as scope:
            sending = GuardedCall(self, scope, billable)
            self._active_calls.add(sending)
            try:
                yield sending
            finally:
                self._active_calls.discard(sending)

    def stop(self) -> None:
        """Let nothing be opened any more, and end the creates that wait to be sent; what was sent is awaited."""
        self.stopped = True
        for sending in self._active_calls:
            sending.cancel_if_unsent()

    def halt(self) -> None:
        """Let nothing be sent any more, and end the calls that wait to be sent; what was sent is awaited."""
        self.halted = self.listing.halted = True
        self.stop()

    def mark_ambiguous(self, tenant_state: TenantState, problem: Problem) -> None:
        """Put on record that nobody knows yet whether a create acted."""
        tenant_state.ambiguous_create = problem
        self.emit(StepOutcomeUnknown(tenant_state.name, problem))


async def _shielded_commit(commit: Coroutine[None, None, None]) -> None:
    """See a commit through, also when cancelled meanwhile; for a second, that is."""
    task = asyncio.ensure_future(commit)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task], timeout=_COMMIT_GRACE_SECONDS)
        task.cancel()
        raise
