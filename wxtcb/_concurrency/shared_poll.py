"""Shared polling: one poll serves all callers that wait for the same state.

However many callers wait, one poll runs at a time, and one starts at most every second.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Generic, TypeVar

import attrs

from wxtcb._concurrency.single_flight import SharedTask

T = TypeVar("T")


@attrs.frozen
class Snapshot(Generic[T]):
    """Result of a poll that started at `started_at`, on the clock of the event loop."""

    started_at: float
    value: T


@attrs.frozen(eq=False)
class Poller(Generic[T]):
    """Poller of a single caller: every poll runs in the caller's task."""

    fetch: Callable[[], Awaitable[T]]
    now: Callable[[], float]
    sleep: Callable[[float], Awaitable[None]]

    async def poll(self, _newer_than: float, /) -> Snapshot[T]:
        """Poll now."""
        started_at = self.now()
        return Snapshot(started_at, await self.fetch())


@attrs.define(repr=False, eq=False)
class SharedPoller(Generic[T]):
    """Poller for many callers; two polls start at least `min_interval` seconds apart."""

    fetch: Callable[[], Coroutine[None, None, T]]
    now: Callable[[], float]
    sleep: Callable[[float], Awaitable[None]]
    min_interval: float = 1.0
    _task: SharedTask[Snapshot[T]] | None = attrs.field(init=False, default=None)

    async def poll(self, newer_than: float, /) -> Snapshot[T]:
        """Return the result of a poll that started at or after *newer_than*; raise the error of that poll.

        All callers of one poll get the same object, so they can share what they compute from it.
        """
        # The conditions are checked again after each wait, because another caller may have started a poll meanwhile.
        while (task := self._task) is None or task.started_at < newer_than:
            if task is not None and not task.finished.is_set():
                await task.finished.wait()
            elif task is not None and (wait := task.started_at + self.min_interval - self.now()) > 0:
                await self.sleep(wait)
            else:
                started_at = self.now()
                self._task = SharedTask.start(partial(self._fetch_snapshot, started_at), started_at)
        return await task.result()

    async def _fetch_snapshot(self, started_at: float) -> Snapshot[T]:
        return Snapshot(started_at, await self.fetch())

    def close(self) -> None:
        """Cancel a running poll; its waiters get `SessionClosed`."""
        if self._task is not None:
            self._task.cancel()

    async def aclose(self) -> None:
        """Cancel a running poll and wait until it has ended."""
        if self._task is not None:
            await self._task.aclose()
