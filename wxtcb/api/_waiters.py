"""Waiting for what the platform does in its own time: looks, one after the other, until what is awaited is there."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from fnmatch import fnmatchcase
from functools import partial
from typing import TYPE_CHECKING, Final, Generic, Protocol, TypeVar

import attrs

from wxtcb._http.retry import Verdict, cause_of, judge
from wxtcb._protocol.endpoint import Repeat
from wxtcb.errors import OperationFailed, OperationGone, OperationTimeout, WxtcbError
from wxtcb.validation import check_seconds

if TYPE_CHECKING:
    from wxtcb._concurrency.shared_poll import Look

S = TypeVar("S")
T = TypeVar("T")

GONE_LOOKS: Final = 3
GONE_SECONDS: Final = 30.0


class Looks(Protocol[S]):
    """Where looks come from: ``session.sweep`` for one that all share, ``session.looks`` for one of your own."""

    async def since(self, moment: float, /) -> Look[S]:
        """Return a look that started at or after *moment*."""
        ...

    @property
    def rest(self) -> Callable[[float], Awaitable[None]]:
        """Do nothing for so many seconds; raise `SessionClosed` when the session closes."""
        ...


class Ending(Protocol):
    """Makes the error of a wait that ended without what was awaited."""

    def __call__(self, message: str, /, *, status: str | None) -> WxtcbError: ...


@attrs.frozen(kw_only=True)
class Awaited(Generic[S, T]):
    """What is awaited: how it is found in a look, and what its statuses mean.

    `ready` are the statuses that end the wait well, `broken` those that end it badly, with what each means; a ``*`` in
    one of these stands for any text. Any other status, one that wxtcb does not know included, is waiting. `reason_of`
    gives what the platform tells of a bad end, or "".
    """

    what: str
    find: Callable[[S], T | None]
    status_of: Callable[[T], str | None]
    ready: frozenset[str]
    broken: Mapping[str, str]
    reason_of: Callable[[T], str] = lambda _: ""
    timeout: Ending = attrs.field(default=attrs.Factory(lambda self: partial(OperationTimeout, what=self.what), True))
    failed: Ending = attrs.field(default=attrs.Factory(lambda self: partial(OperationFailed, what=self.what), True))
    gone: Ending = attrs.field(default=attrs.Factory(lambda self: partial(OperationGone, what=self.what), True))

    def meaning_of(self, status: str) -> str | None:
        """Return what a status that ends the wait badly means, None for any other."""
        return next((self.broken[each] for each in self.broken if fnmatchcase(status, each)), None)


@attrs.define
class Watch(Generic[S, T]):
    """What the looks so far have shown: the last `status`, and since when it has been missing.

    `failure` is what the last look raised, if it failed.
    """

    awaited: Awaited[S, T]
    status: str | None = None
    failure: WxtcbError | None = None
    missing_since: float | None = None
    missing_looks: int = 0
    looked: bool = False

    def judge(self, look: Look[S]) -> T | None:
        """Return what is awaited once it is ready, None to look again.

        Raises the error for a status that will not change, and for three looks in a row and 30 seconds without it.
        """
        self.failure, self.looked = None, True
        found = self.awaited.find(look.seen)
        if found is None:
            self._miss(look.started_at)
            return None
        status = self.awaited.status_of(found)
        self.status, self.missing_since, self.missing_looks = status, None, 0
        if (meaning := self.awaited.meaning_of(status or "")) is not None:
            reason = self.awaited.reason_of(found)
            raise self.awaited.failed(f"{status}: {meaning}{reason and f' ({reason})'}", status=status)
        return found if status in self.awaited.ready else None

    def overdue(self, timeout: float) -> WxtcbError:
        """Make the error of *timeout* seconds that were not enough."""
        seen = f"still {self.status or 'not listed'}" if self.looked else "not seen: no look succeeded"
        hidden = f"; the last look failed: {self.failure.reason}" if self.failure else ""
        later = " or ".join(sorted(self.awaited.ready))
        message = f"{seen} after {timeout:g} s; it may become {later} later{hidden}"
        return self.awaited.timeout(message, status=self.status)

    def fail(self, error: WxtcbError) -> None:
        """Note that a look failed; raise *error* if the next one would fail the same."""
        if judge(Repeat.READ, cause_of(error)) is not Verdict.RETRY:
            raise error
        self.failure = error

    def _miss(self, looked_at: float) -> None:
        if self.missing_since is None:
            self.missing_since = looked_at
        self.missing_looks += 1
        missing = looked_at - self.missing_since
        if self.missing_looks >= GONE_LOOKS and missing >= GONE_SECONDS:
            message = f"missing from {self.missing_looks} looks in a row over {missing:.0f} s; removed, or never there"
            raise self.awaited.gone(message, status=self.status)


async def wait_for(looks: Looks[S], awaited: Awaited[S, T], *, timeout: float, interval: float) -> T:
    """Look every *interval* seconds until what is *awaited* is ready, at most *timeout* seconds; return it.

    A look that failed for a reason that may pass counts as waiting.
    """
    check_seconds("timeout", timeout)
    check_seconds("interval", interval)
    watch = Watch(awaited)
    deadline = asyncio.timeout(timeout)
    try:
        async with deadline:
            return await _watch(looks, watch, interval)
    except TimeoutError:
        if not deadline.expired():
            raise
    raise watch.overdue(timeout)


async def _watch(looks: Looks[S], watch: Watch[S, T], interval: float) -> T:
    now = asyncio.get_running_loop().time
    moment = now()
    while True:
        try:
            look = await looks.since(moment)
        except WxtcbError as error:
            watch.fail(error)
            moment = now() + interval
        else:
            if (found := watch.judge(look)) is not None:
                return found
            moment = look.started_at + interval
            del look  # who rests need not keep a list of all there is
        await looks.rest(moment - now())
