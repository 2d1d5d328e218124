"""Work group: tenants that are worked on together, and that stop together."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Final

import anyio
import attrs

from wxtcb.errors import OutcomeUnknown, SendVetoed, WxtcbError
from wxtcb.events import Abandoned, Event, RequestResent
from wxtcb.provision.events import RunEvent
from wxtcb.provision.listing_watch import ListingWatch
from wxtcb.provision.report import StopReason
from wxtcb.session import Session

if TYPE_CHECKING:
    from wxtcb._concurrency.limiter import PathReservation
    from wxtcb.provision.tenant_state import TenantState

__all__ = ["GuardedCall", "Stop", "WorkGroup"]


@attrs.frozen
class Stop:
    """Reason for which no tenant can go on; with `halts`, no further request may be sent at all."""

    reason: StopReason
    message: str
    retry_after: datetime | None = None
    halts: bool = False


CANCELLED: Final = Stop(StopReason.CANCELLED, "cancelled", halts=True)
# Of a tenant that starts: it gets a slot only if no tenant that has started needs it, so that few are unfinished.
START_PRIORITY: Final = (1,)


def is_ambiguous(error: WxtcbError) -> bool:
    """Return whether the call that raised *error* may have taken effect."""
    return isinstance(error, OutcomeUnknown) or error.maybe_acted > 0


@attrs.define(eq=False)
class WorkGroup:
    """Tenants that stop together: those of one run, or those that are desired.

    `emit` gets the events of its tenants, and `on_stop` the reason of each stop. Once the group is `stopped`, no tenant
    starts and no create is sent, but what is under way is finished. Once it is `halted`, no request is sent, and what
    waits gets `SendVetoed`. `active` holds the tenants that have started and not ended, by name.
    """

    session: Session
    emit: Callable[[RunEvent], None]
    on_stop: Callable[[Stop], None]
    watch: ListingWatch
    unexpected_error: Exception | None = attrs.field(init=False, default=None)
    stopped: bool = attrs.field(init=False, default=False)
    halted: bool = attrs.field(init=False, default=False)
    active: dict[str, TenantState] = attrs.field(init=False, factory=dict)
    _calls: set[GuardedCall] = attrs.field(init=False, factory=set)
    _waits: set[asyncio.Future[None]] = attrs.field(init=False, factory=set)
    _scopes: set[anyio.CancelScope] = attrs.field(init=False, factory=set)

    def __attrs_post_init__(self) -> None:
        # Errcode -1 of a create may hide a success, so the create must be checked, not retried.
        policy = attrs.evolve(self.session.retry, busy_creates=False)
        self.session = self.session.with_options(retry=policy, partial="return", _may_send=lambda: not self.halted)

    @staticmethod
    def loop_time() -> float:
        return asyncio.get_running_loop().time()

    async def wait(self, future: asyncio.Future[None]) -> None:
        """Wait for *future*; raise `SendVetoed` as soon as the group is halted."""
        if self.halted:
            future.cancel()
            raise _halted()
        self._waits.add(future)
        try:
            await future
        finally:
            self._waits.discard(future)
            if future.done() and not future.cancelled():
                # Retrieved, so that asyncio does not log it: the caller may have been cancelled in the same turn.
                future.exception()

    async def sleep(self, seconds: float) -> None:
        """Sleep; raise `SendVetoed` as soon as the group is halted."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        timer = loop.call_later(seconds, _set_done, future)
        try:
            await self.wait(future)
        finally:
            timer.cancel()

    @contextlib.contextmanager
    def interruptible(self) -> Iterator[None]:
        """Raise `SendVetoed` out of the block as soon as the group is stopped; nothing in it may be half done then."""
        if self.stopped:
            raise _halted()
        with anyio.CancelScope() as scope:
            self._scopes.add(scope)
            try:
                yield
            finally:
                self._scopes.discard(scope)
        if scope.cancelled_caught:
            raise _halted()

    @contextlib.contextmanager
    def guarded_call(
        self, deadline: float = math.inf, *, billable: bool = False, reservation: PathReservation | None = None
    ) -> Iterator[GuardedCall]:
        """Register a call so that `stop` and `halt` can cancel it while unsent; end it at loop time *deadline*."""
        with anyio.CancelScope(deadline=deadline) as scope:
            call = GuardedCall(self, scope, billable, reservation)
            self._calls.add(call)
            try:
                yield call
            finally:
                self._calls.discard(call)

    def stop_for(self, stop: Stop) -> None:
        if stop.halts:
            self.halt()
        else:
            self.stop()
        self.on_stop(stop)

    def stop(self) -> None:
        self.stopped = True
        for call in self._calls:
            call.cancel_if_unsent()
        for scope in self._scopes:
            scope.cancel()

    def halt(self) -> None:
        # Both flags are set before `stop` cancels, because the calls decide by them whether they may still be sent.
        self.halted = self.stopped = True
        self.stop()
        for future in self._waits:
            if not future.done():
                future.set_exception(_halted())


def _halted() -> SendVetoed:
    return SendVetoed(endpoint="provisioning")


def _set_done(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


@attrs.define(eq=False)
class GuardedCall:
    """A call that must not take effect twice; it is not sent after the deadline of `scope`.

    `sent`: its latest request may have left. `ambiguous`: one of its requests may have taken effect.
    """

    group: WorkGroup
    scope: anyio.CancelScope
    billable: bool
    reservation: PathReservation | None = None
    sent: bool = False
    ambiguous: bool = False

    @property
    def session(self) -> Session:
        return self.group.session.with_options(
            hooks=[self._on_event], _may_send=self._approve_send, _reservation=self.reservation
        )

    def record_error(self, error: WxtcbError) -> None:
        self.ambiguous |= is_ambiguous(error)

    def cancel_if_unsent(self) -> None:
        if not self.sent and not self._is_allowed:
            self.scope.cancel()

    @property
    def _is_allowed(self) -> bool:
        # The scope alone does not hold the deadline: after a pause of the process (SIGSTOP, a suspended machine), the
        # loop may run the callback that sends before the one that cancels. Hence the clock is compared as well.
        in_time = self.group.loop_time() < self.scope.deadline
        return in_time and not (self.group.halted or (self.billable and self.group.stopped))

    def _approve_send(self) -> bool:
        self.sent = self._is_allowed
        return self.sent

    def _on_event(self, event: Event) -> None:
        if isinstance(event, Abandoned):
            self.ambiguous = True
        elif isinstance(event, RequestResent):
            # The request was rejected without effect and is queued again, so it may still be withdrawn.
            self.sent = False
