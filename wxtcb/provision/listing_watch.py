"""Waits for the environment list: one shared poll serves all tenants that wait for it."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Protocol

import anyio
import attrs

from wxtcb._concurrency.shared_poll import SharedPoller, Snapshot
from wxtcb._concurrency.tasks import cooperative_iter
from wxtcb.api.environment import EnvList
from wxtcb.errors import WxtcbError

__all__ = ["ListingWait", "ListingWatch"]


class ListingWait(Protocol):
    """The condition that a tenant waits for; meanwhile the tenant holds no slot and sends no request."""

    @property
    def due_at(self) -> float:
        """Loop time before which a listing cannot satisfy the condition."""
        ...

    def describe(self, now: float, /) -> tuple[str, float]:
        """Return what is waited for at loop time *now*, as a noun phrase, and the loop time at which that ends.

        The time is infinite if there is no limit.
        """
        ...

    def evaluate(self, snapshot: Snapshot[EnvList]) -> bool:
        """Return whether the wait is over after a listing; raise the error that ends it."""
        ...

    def check_timeout(self, now: float) -> bool:
        """Return whether the wait is over after a failed listing; raise the error that ends it."""
        ...


@attrs.define(eq=False)
class ListingWatch:
    """Poller of the environment list while tenants wait for it.

    It polls when the first wait is due, at most every `interval` seconds; `on_error` gets the error of a failed poll.
    """

    poller: SharedPoller[EnvList]
    interval: float
    on_error: Callable[[WxtcbError], None]
    _waits: dict[asyncio.Future[None], ListingWait] = attrs.field(init=False, factory=dict)
    _earliest_due_at: float = attrs.field(init=False, default=math.inf)
    _due_changed: asyncio.Event = attrs.field(init=False, factory=asyncio.Event)
    _next_poll_at: float = attrs.field(init=False, default=-math.inf)

    def add(self, wait: ListingWait) -> asyncio.Future[None]:
        """Return a future that is done when *wait* is over; it holds the error if one ends the wait."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waits[future] = wait
        if wait.due_at < self._earliest_due_at:
            self._earliest_due_at = wait.due_at
            self._due_changed.set()
        return future

    def remove(self, future: asyncio.Future[None]) -> None:
        self._waits.pop(future, None)

    async def run(self) -> None:
        """Poll until this is cancelled."""
        clock = asyncio.get_running_loop().time
        while True:
            while (delay := max(self._earliest_due_at, self._next_poll_at) - clock()) > 0:
                self._due_changed.clear()
                with anyio.move_on_after(delay):
                    await self._due_changed.wait()
            newer_than = clock()
            # Reset before the poll: waits that are added during it must move the due time again.
            self._earliest_due_at, snapshot, now = math.inf, None, newer_than
            try:
                snapshot = await self.poller.poll(newer_than)
                now = snapshot.started_at
            except WxtcbError as error:
                self.on_error(error)
            self._next_poll_at = now + self.interval
            # A failed poll decides nothing, but waits must still time out while the platform is unreachable.
            await self._evaluate_all(snapshot, now)

    async def _evaluate_all(self, snapshot: Snapshot[EnvList] | None, now: float) -> None:
        # A copy: waits end, and tenants add some, while this yields to the loop.
        async for future, wait in cooperative_iter(tuple(self._waits.items())):
            if future.done():
                continue
            try:
                is_over = wait.evaluate(snapshot) if snapshot else wait.check_timeout(now)
            # A wait may be written by the user, so it may raise anything.
            except Exception as error:
                future.set_exception(error)
            else:
                if is_over:
                    future.set_result(None)
                else:
                    self._earliest_due_at = min(self._earliest_due_at, wait.due_at)
