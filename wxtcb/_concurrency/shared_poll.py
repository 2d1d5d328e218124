"""One shared look for everybody who waits.

However many wait, one look is under way at a time, and one starts at most every second.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import Generic, TypeVar

import attrs

from wxtcb._concurrency.single_flight import Flight

T = TypeVar("T")


@attrs.frozen
class Look(Generic[T]):
    """What was seen by a look that started at `started_at`, on the clock of the event loop."""

    started_at: float
    seen: T


@attrs.frozen(eq=False)
class OwnLooks(Generic[T]):
    """Looks of one waiter alone, made in its own task."""

    look: Callable[[], Awaitable[T]]
    now: Callable[[], float]
    rest: Callable[[float], Awaitable[None]]

    async def since(self, _moment: float, /) -> Look[T]:
        """Look now."""
        started_at = self.now()
        return Look(started_at, await self.look())


@attrs.define(repr=False, eq=False)
class Sweep(Generic[T]):
    """Looks on behalf of many; `every` is the least time in seconds between the starts of two looks."""

    look: Callable[[], Coroutine[None, None, T]]
    now: Callable[[], float]
    rest: Callable[[float], Awaitable[None]]
    every: float = 1.0
    _flight: Flight[T] | None = attrs.field(init=False, default=None)

    async def since(self, moment: float, /) -> Look[T]:
        """Return a look that started at or after *moment*; raise what that look raised."""
        while (flight := self._flight) is None or flight.started_at < moment:
            if flight is not None and not flight.landed.is_set():
                await flight.landed.wait()
            elif flight is not None and (wait := flight.started_at + self.every - self.now()) > 0:
                await self.rest(wait)
            else:
                self._flight = Flight.launch(self.look, self.now())
        return Look(flight.started_at, await flight.wait())

    def close(self) -> None:
        """Begin to end a look under way; who waits for it gets `SessionClosed`."""
        if self._flight is not None:
            self._flight.cancel()

    async def aclose(self) -> None:
        """Close, and wait for the end of a look under way."""
        if self._flight is not None:
            await self._flight.aclose()
