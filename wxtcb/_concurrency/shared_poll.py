"""One shared look for everybody who waits.

However many wait, one look is under way at a time, and one starts at most every second.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import Generic, TypeVar

import attrs

from wxtcb._concurrency.single_flight import SharedTask

T = TypeVar("T")


@attrs.frozen
class Snapshot(Generic[T]):
    """What was seen by a look that started at `started_at`, on the clock of the event loop."""

    started_at: float
    value: T


@attrs.frozen(eq=False)
class Poller(Generic[T]):
    """Looks of one waiter alone, made in its own task."""

    fetch: Callable[[], Awaitable[T]]
    now: Callable[[], float]
    sleep: Callable[[float], Awaitable[None]]

    async def poll(self, _newer_than: float, /) -> Snapshot[T]:
        """Look now."""
        started_at = self.now()
        return Snapshot(started_at, await self.fetch())


@attrs.define(repr=False, eq=False)
class SharedPoller(Generic[T]):
    """Looks on behalf of many; `min_interval` is the least time in seconds between the starts of two looks."""

    fetch: Callable[[], Coroutine[None, None, T]]
    now: Callable[[], float]
    sleep: Callable[[float], Awaitable[None]]
    min_interval: float = 1.0
    _task: SharedTask[T] | None = attrs.field(init=False, default=None)

    async def poll(self, newer_than: float, /) -> Snapshot[T]:
        """Return a look that started at or after *moment*; raise what that look raised."""
        while (flight := self._task) is None or flight.started_at < newer_than:
            if flight is not None and not flight.done.is_set():
                await flight.done.wait()
            elif flight is not None and (wait := flight.started_at + self.min_interval - self.now()) > 0:
                await self.sleep(wait)
            else:
                self._task = SharedTask.start(self.fetch, self.now())
        return Snapshot(flight.started_at, await flight.wait())

    def close(self) -> None:
        """Begin to end a look under way; who waits for it gets `SessionClosed`."""
        if self._task is not None:
            self._task.cancel()

    async def aclose(self) -> None:
        """Close, and wait for the end of a look under way."""
        if self._task is not None:
            await self._task.aclose()
