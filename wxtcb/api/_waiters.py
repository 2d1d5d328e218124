"""Waiting for what the platform does in its own time: looks, one after the other, until what is awaited is there."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from fnmatch import fnmatchcase
from functools import partial
from typing import TYPE_CHECKING, Final, Generic, Protocol, TypeVar

import attrs

from wxtcb._http.retry import RetryDecision, classify, decide
from wxtcb._protocol.endpoint import Repeat
from wxtcb.errors import OperationFailed, OperationNotFound, OperationTimeout, WxtcbError
from wxtcb.validation import check_seconds

if TYPE_CHECKING:
    from wxtcb._concurrency.shared_poll import Snapshot

S = TypeVar("S")
T = TypeVar("T")

MAX_MISSING_POLLS: Final = 3
MIN_MISSING_SECONDS: Final = 30.0


class PollSource(Protocol[S]):
    """Where looks come from: ``session.sweep`` for one that all share, ``session.looks`` for one of your own."""

    async def poll(self, newer_than: float, /) -> Snapshot[S]:
        """Return a look that started at or after *moment*."""
        ...

    @property
    def sleep(self) -> Callable[[float], Awaitable[None]]:
        """Do nothing for so many seconds; raise `SessionClosed` when the session closes."""
        ...


class ErrorFactory(Protocol):
    """Makes the error of a wait that ended without what was awaited."""

    def __call__(self, message: str, /, *, status: str | None) -> WxtcbError: ...


@attrs.frozen(kw_only=True)
class WaitCondition(Generic[S, T]):
    """What is awaited: how it is found in a look, and what its statuses mean.

    `ready_statuses` are the statuses that end the wait well, `failure_statuses` those that end it badly, with what each means; a ``*`` in
    one of these stands for any text. Any other status, one that wxtcb does not know included, is waiting. `reason_of`
    gives what the platform tells of a bad end, or "".
    """

    resource: str
    find: Callable[[S], T | None]
    status_of: Callable[[T], str | None]
    ready_statuses: frozenset[str]
    failure_statuses: Mapping[str, str]
    reason_of: Callable[[T], str] = lambda _: ""
    timeout_error: ErrorFactory = attrs.field(
        default=attrs.Factory(lambda self: partial(OperationTimeout, resource=self.resource), True)
    )
    failure_error: ErrorFactory = attrs.field(
        default=attrs.Factory(lambda self: partial(OperationFailed, resource=self.resource), True)
    )
    not_found_error: ErrorFactory = attrs.field(
        default=attrs.Factory(lambda self: partial(OperationNotFound, resource=self.resource), True)
    )

    def failure_meaning(self, status: str) -> str | None:
        """Return what a status that ends the wait badly means, None for any other."""
        return next((self.failure_statuses[each] for each in self.failure_statuses if fnmatchcase(status, each)), None)


@attrs.define
class WaitState(Generic[S, T]):
    """What the looks so far have shown: the last `status`, and since when it has been missing.

    `last_error` is what the last look raised, if it failed.
    """

    condition: WaitCondition[S, T]
    status: str | None = None
    last_error: WxtcbError | None = None
    missing_since: float | None = None
    missing_polls: int = 0
    has_snapshot: bool = False

    def update(self, snapshot: Snapshot[S]) -> T | None:
        """Return what is awaited once it is ready, None to look again.

        Raises the error for a status that will not change, and for three looks in a row and 30 seconds without it.
        """
        self.last_error, self.has_snapshot = None, True
        found = self.condition.find(snapshot.value)
        if found is None:
            self._record_missing(snapshot.started_at)
            return None
        status = self.condition.status_of(found)
        self.status, self.missing_since, self.missing_polls = status, None, 0
        if (meaning := self.condition.failure_meaning(status or "")) is not None:
            reason = self.condition.reason_of(found)
            raise self.condition.failure_error(f"{status}: {meaning}{reason and f' ({reason})'}", status=status)
        return found if status in self.condition.ready_statuses else None

    def timeout_error(self, timeout: float) -> WxtcbError:
        """Make the error of *timeout* seconds that were not enough."""
        seen = f"still {self.status or 'not listed'}" if self.has_snapshot else "not seen: no look succeeded"
        hidden = f"; the last look failed: {self.last_error.reason}" if self.last_error else ""
        later = " or ".join(sorted(self.condition.ready_statuses))
        message = f"{seen} after {timeout:g} s; it may become {later} later{hidden}"
        return self.condition.timeout_error(message, status=self.status)

    def record_error(self, error: WxtcbError) -> None:
        """Note that a look failed; raise *error* if the next one would fail the same."""
        if decide(Repeat.READ, classify(error)) is not RetryDecision.RETRY:
            raise error
        self.last_error = error

    def _record_missing(self, polled_at: float) -> None:
        if self.missing_since is None:
            self.missing_since = polled_at
        self.missing_polls += 1
        missing = polled_at - self.missing_since
        if self.missing_polls >= MAX_MISSING_POLLS and missing >= MIN_MISSING_SECONDS:
            message = f"missing from {self.missing_polls} looks in a row over {missing:.0f} s; removed, or never there"
            raise self.condition.not_found_error(message, status=self.status)


async def wait_until(source: PollSource[S], condition: WaitCondition[S, T], *, timeout: float, interval: float) -> T:
    """Look every *interval* seconds until what is *awaited* is ready, at most *timeout* seconds; return it.

    A look that failed for a reason that may pass counts as waiting.
    """
    check_seconds("timeout", timeout)
    check_seconds("interval", interval)
    watch = WaitState(condition)
    deadline = asyncio.timeout(timeout)
    try:
        async with deadline:
            return await _poll_until_ready(source, watch, interval)
    except TimeoutError:
        if not deadline.expired():
            raise
    raise watch.timeout_error(timeout)


async def _poll_until_ready(source: PollSource[S], state: WaitState[S, T], interval: float) -> T:
    now = asyncio.get_running_loop().time
    moment = now()
    while True:
        try:
            look = await source.poll(moment)
        except WxtcbError as error:
            state.record_error(error)
            moment = now() + interval
        else:
            if (found := state.update(look)) is not None:
                return found
            moment = look.started_at + interval
            del look  # who rests need not keep a list of all there is
        await source.sleep(moment - now())
