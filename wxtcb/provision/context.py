"""Context of the steps of one run: session, journal, environment listing, and calls that must not be repeated."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Final

import anyio
import attrs

from wxtcb.errors import OutcomeUnknown, WxtcbError
from wxtcb.events import Abandoned, Event, RequestResent
from wxtcb.provision.events import RunEvent
from wxtcb.provision.journal import Journal, commit_record
from wxtcb.provision.reconciliation import EnvironmentListing
from wxtcb.provision.record import TenantRecord
from wxtcb.provision.report import EnvironmentOrigin, Problem
from wxtcb.provision.tenant_state import TenantState
from wxtcb.session import Session

__all__ = ["GuardedCall", "StepContext"]

CREATE_WINDOW_MARGIN: Final = 10.0
INTERRUPTED_MESSAGE: Final = "interrupted while waiting for the response; it may have taken effect, and was not retried"


def is_ambiguous(error: WxtcbError) -> bool:
    """Return whether the call that raised *error* may have taken effect."""
    return isinstance(error, OutcomeUnknown) or error.maybe_acted > 0


@attrs.define(eq=False)
class GuardedCall:
    """A call that must not take effect twice; it is not sent after the deadline of `scope`.

    `sent`: its latest request may have left. `ambiguous`: one of its requests may have taken effect.
    """

    context: StepContext
    scope: anyio.CancelScope
    billable: bool
    sent: bool = False
    ambiguous: bool = False

    @property
    def session(self) -> Session:
        return self.context.session.with_options(hooks=[self._on_event], _may_send=self._approve_send)

    def record_error(self, error: WxtcbError) -> None:
        self.ambiguous |= is_ambiguous(error)

    def cancel_if_unsent(self) -> None:
        if not self.sent and not self._is_allowed:
            self.scope.cancel()

    @property
    def _is_allowed(self) -> bool:
        # The scope alone does not hold the deadline: after a pause of the process (SIGSTOP, a suspended machine), the
        # loop may run the callback that sends before the one that cancels. Hence the clock is compared as well.
        in_time = self.context.loop_time() < self.scope.deadline
        return in_time and not (self.context.halted or (self.billable and self.context.stopped))

    def _approve_send(self) -> bool:
        self.sent = self._is_allowed
        return self.sent

    def _on_event(self, event: Event) -> None:
        if isinstance(event, Abandoned):
            self.ambiguous = True
        elif isinstance(event, RequestResent):
            # The request was rejected without effect and is queued again, so it may still be withdrawn.
            self.sent = False
            self.cancel_if_unsent()


@attrs.define(eq=False)
class StepContext:
    """State shared by the steps of one run.

    `session` raises if the outcome of a call is unknown, and returns batches that failed in part. It sends nothing
    once the run is `halted`, and nothing billable once it is `stopped`. Times are in seconds.
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
    _active_calls: set[GuardedCall] = attrs.field(init=False, factory=set)

    def __attrs_post_init__(self) -> None:
        # Errcode -1 of a create may hide a success, so the create must be checked, not retried.
        policy = attrs.evolve(self.session.retry, busy_creates=False)
        self.session = self.session.with_options(retry=policy, partial="return", _may_send=lambda: not self.halted)

    @staticmethod
    def loop_time() -> float:
        return asyncio.get_running_loop().time()

    def to_datetime(self, loop_time: float) -> datetime:
        return datetime.fromtimestamp(self.wall_clock() + loop_time - self.loop_time(), UTC)

    @property
    def create_window(self) -> float:
        """Seconds within which a create ends, including the waits for admission and for a token."""
        return self.session.timeout.total + CREATE_WINDOW_MARGIN

    async def commit(self, tenant_state: TenantState, record: TenantRecord) -> None:
        next_record = attrs.evolve(record, version=tenant_state.record.version + 1)
        await commit_record(self.journal, tenant_state.record, next_record, self.wall_clock())
        # Only after the commit: after a failed one, the state must still hold the version that the journal has.
        tenant_state.record = next_record

    async def bind_environment(
        self, tenant_state: TenantState, env: str, how: EnvironmentOrigin, tranid: str | None = None
    ) -> None:
        since, alias = tenant_state.record.opened_at or self.wall_clock(), tenant_state.plan.alias
        bound = attrs.evolve(tenant_state.record, alias=alias, env=env, tranid=tranid, opened_at=since, intent=None)
        commit = asyncio.ensure_future(self.commit(tenant_state, bound))
        try:
            await asyncio.shield(commit)
        except asyncio.CancelledError:
            # A new environment that is not in the journal would have to be found again by its alias.
            await asyncio.wait([commit], timeout=1)
            commit.cancel()
            raise
        # From now on a listing without the environment is incomplete, once the propagation delay is over.
        self.listing.expected.bound_since[env] = self.loop_time()
        if env != tenant_state.plan.env:
            tenant_state.status = None
        tenant_state.env, tenant_state.how, tenant_state.ambiguous_create = env, how, None

    @contextlib.contextmanager
    def guarded_call(self, deadline: float = math.inf, *, billable: bool = False) -> Iterator[GuardedCall]:
        """Register a call so that `stop` and `halt` can cancel it while unsent; end it at loop time *deadline*."""
        with anyio.CancelScope(deadline=deadline) as scope:
            call = GuardedCall(self, scope, billable)
            self._active_calls.add(call)
            try:
                yield call
            finally:
                self._active_calls.discard(call)

    def stop(self) -> None:
        self.stopped = True
        for call in self._active_calls:
            call.cancel_if_unsent()

    def halt(self) -> None:
        # Both flags are set before `stop` cancels, because the calls decide by them whether they may still be sent.
        self.halted = self.listing.halted = True
        self.stop()
