"""Priority limiter: a limit on what runs at the same time; a free slot goes to the most urgent waiter."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from heapq import heappop, heappush

import attrs

Priority = tuple[int, ...]
"""Smaller is more urgent; equal ones are served in the order of their arrival."""


@attrs.define(repr=False, eq=False)
class PriorityLimiter:
    """Limiter with `slots` slots."""

    slots: int
    _free: int = attrs.field(init=False, default=attrs.Factory(lambda self: self.slots, takes_self=True))
    _waiters: list[tuple[Priority, int, asyncio.Future[None]]] = attrs.field(init=False, factory=list)
    _numbers: itertools.count[int] = attrs.field(init=False, factory=itertools.count)

    def try_acquire(self) -> bool:
        """Take a slot and return True if one is free."""
        # A free slot means that no waiter is left: `release` passes slots on directly.
        if self._free:
            self._free -= 1
            return True
        return False

    async def acquire(
        self, priority: Priority, wait: Callable[[asyncio.Future[None]], Awaitable[None]] | None = None
    ) -> None:
        """Wait for a slot; call `release` to return it. *wait* waits for a future, which it may let fail."""
        if self.try_acquire():
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heappush(self._waiters, (priority, next(self._numbers), waiter))
        try:
            await (waiter if wait is None else wait(waiter))
        except BaseException:
            # The slot was passed to this waiter in the same turn of the loop in which it was cancelled.
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                self.release()
            raise

    def release(self) -> None:
        """Return a slot; it goes to the most urgent waiter."""
        while self._waiters:
            *_, waiter = heappop(self._waiters)
            if not waiter.done():
                waiter.set_result(None)
                return
        self._free += 1
