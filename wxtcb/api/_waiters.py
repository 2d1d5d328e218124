"""Waiters: poll the platform until a resource has reached the status that a caller waits for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from fnmatch import fnmatchcase
from operator import attrgetter
from typing import TYPE_CHECKING, Final, Generic, Protocol, TypeVar

import attrs

from wxtcb._http.retry import RetryDecision, classify, decide
from wxtcb._protocol.endpoint import Repeat
from wxtcb.errors import OperationFailed, OperationNotFound, OperationNotReady, OperationTimeout, WxtcbError
from wxtcb.validation import check_seconds

if TYPE_CHECKING:
    from wxtcb._concurrency.shared_poll import Snapshot
    from wxtcb.api.environment import EnvInfo, EnvList

S = TypeVar("S")
T = TypeVar("T")

# A list may be incomplete for a short time, and a new resource may appear in it late. Both limits must be passed
# before a resource counts as missing: polls alone could be a second apart, seconds alone could be a single poll.
MAX_MISSING_POLLS: Final = 3
MIN_MISSING_SECONDS: Final = 30.0


class PollSource(Protocol[S]):
    """Source of snapshots: ``session.shared_poller`` for all waiters of a session, ``session.poller`` for one."""

    async def poll(self, newer_than: float, /) -> Snapshot[S]:
        """Return a snapshot that was started at or after *newer_than*, a time of the event loop's clock."""
        ...

    @property
    def sleep(self) -> Callable[[float], Awaitable[None]]:
        """Function that sleeps for a number of seconds, and raises `SessionClosed` when the session closes."""
        ...


@attrs.frozen(kw_only=True)
class WaitCondition(Generic[S, T]):
    """Condition that a waiter waits for: how to find the resource in a snapshot, and what its statuses mean.

    A status in `ready_statuses` ends the wait. A status that matches a key of `failure_statuses` raises; the value
    explains it, and ``*`` in a key matches any text. Every other status, including unknown ones, keeps waiting.
    `reason_of` returns the platform's reason for a failure, or "". `env` is the environment if one is waited for.
    """

    resource: str
    find: Callable[[S], T | None]
    status_of: Callable[[T], str | None]
    ready_statuses: frozenset[str]
    failure_statuses: Mapping[str, str]
    reason_of: Callable[[T], str] = lambda _: ""
    env: str | None = None

    def to_error(self, error_type: type[OperationNotReady], message: str, status: str | None) -> OperationNotReady:
        """Return the error that ends the wait."""
        return error_type(message, resource=self.resource, status=status, env=self.env)

    def failure_meaning(self, status: str) -> str | None:
        """Return the explanation of a failure status, or None for any other status."""
        return next((self.failure_statuses[each] for each in self.failure_statuses if fnmatchcase(status, each)), None)


# Shared, because thousands of environments may be waited for at the same time.
_STATUS_OF: Final = attrgetter("status")
_NORMAL: Final = frozenset({"NORMAL"})
_ENV_FAILURES: Final = {"HALTED": "the platform stopped it (quota exceeded or blocked); see its page in the console"}


def env_normal(env: str) -> WaitCondition[EnvList, EnvInfo]:
    """Return the condition that environment *env* is NORMAL."""
    return WaitCondition(
        resource=f"environment {env}",
        find=lambda listing: listing.by_env.get(env),
        status_of=_STATUS_OF,
        ready_statuses=_NORMAL,
        failure_statuses=_ENV_FAILURES,
        env=env,
    )


@attrs.define
class WaitState(Generic[S, T]):
    """Result of the polls so far: the last `status`, and since when the resource has been missing.

    `last_error` is the error of the last poll, None if it succeeded. Times are those of the event loop's clock.
    """

    condition: WaitCondition[S, T]
    status: str | None = None
    last_error: WxtcbError | None = None
    missing_since: float | None = None
    missing_polls: int = 0
    has_snapshot: bool = False

    def update(self, snapshot: Snapshot[S]) -> T | None:
        """Return the resource if it is ready, or None if the wait goes on.

        Raises the failure error for a failure status, and the not-found error once the resource is missing from
        3 polls in a row over at least 30 seconds.
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
            message = f"{status}: {meaning}{reason and f' ({reason})'}"
            raise self.condition.to_error(OperationFailed, message, status)
        return found if status in self.condition.ready_statuses else None

    def timeout_error(self, timeout: float) -> WxtcbError:
        """Return the error for a wait that did not end within *timeout* seconds."""
        state = f"still {self.status or 'not listed'}" if self.has_snapshot else "not seen: no poll succeeded"
        hint = f"; the last poll failed: {self.last_error.reason}" if self.last_error else ""
        ready = " or ".join(sorted(self.condition.ready_statuses))
        message = f"{state} after {timeout:g} s; it may become {ready} later, so wait again{hint}"
        return self.condition.to_error(OperationTimeout, message, self.status)

    def record_error(self, error: WxtcbError) -> None:
        """Record that a poll failed; raise *error* if the next poll would fail for the same reason."""
        # A poll is a read: what the retry rules repeat for a read is transient, and the next poll is its repetition.
        if decide(Repeat.READ, classify(error)) is not RetryDecision.RETRY:
            raise error
        self.last_error = error

    def _record_missing(self, polled_at: float) -> None:
        if self.missing_since is None:
            self.missing_since = polled_at
        self.missing_polls += 1
        missing = polled_at - self.missing_since
        if self.missing_polls >= MAX_MISSING_POLLS and missing >= MIN_MISSING_SECONDS:
            message = (
                f"missing from {self.missing_polls} polls in a row over {missing:.0f} s: removed, or never created"
            )
            raise self.condition.to_error(OperationNotFound, message, self.status)


async def wait_until(source: PollSource[S], condition: WaitCondition[S, T], *, timeout: float, interval: float) -> T:
    """Poll every *interval* seconds until *condition* is met, for at most *timeout* seconds; return the resource.

    A poll that fails for a transient reason counts as waiting.
    """
    check_seconds("timeout", timeout)
    check_seconds("interval", interval)
    state = WaitState(condition)
    deadline = asyncio.timeout(timeout)
    try:
        async with deadline:
            return await _poll_until_ready(source, state, interval)
    except TimeoutError:
        # A TimeoutError of the poll itself, or of a deadline of the caller, must not be reported as this timeout.
        if not deadline.expired():
            raise
    # Raised outside of `except`: the TimeoutError of asyncio explains nothing, so it is not chained.
    raise state.timeout_error(timeout)


async def _poll_until_ready(source: PollSource[S], state: WaitState[S, T], interval: float) -> T:
    now = asyncio.get_running_loop().time
    next_poll = now()
    while True:
        try:
            snapshot = await source.poll(next_poll)
        except WxtcbError as error:
            state.record_error(error)
            next_poll = now() + interval
        else:
            if (found := state.update(snapshot)) is not None:
                return found
            # Counted from the start of the poll, so that slow replies do not stretch the interval.
            next_poll = snapshot.started_at + interval
            # Thousands of sleeping waiters must not each keep a list of all environments in memory.
            del snapshot
        await source.sleep(next_poll - now())
