"""Events to everybody who listens; nobody who listens can slow the run down."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import attrs

from wxtcb.provision.events import RunEvent


@attrs.define(eq=False)
class EventStream:
    """Keeps a queue for every listener, without a bound, until `close`."""

    _queues: list[asyncio.Queue[RunEvent | None]] = attrs.field(init=False, factory=list)
    _closed: bool = attrs.field(init=False, default=False)

    def subscribe(self) -> AsyncIterator[RunEvent]:
        """Return the events from now on; the iterator ends when the run does."""
        queue: asyncio.Queue[RunEvent | None] = asyncio.Queue()
        self._queues.append(queue)
        if self._closed:
            queue.put_nowait(None)
        return self._iterate(queue)

    def emit(self, event: RunEvent) -> None:
        for queue in self._queues:
            queue.put_nowait(event)

    def close(self) -> None:
        """Let every iterator end after what it has not yet fetched."""
        self._closed = True
        for queue in self._queues:
            queue.put_nowait(None)

    async def _iterate(self, queue: asyncio.Queue[RunEvent | None]) -> AsyncIterator[RunEvent]:
        try:
            while (event := await queue.get()) is not None:
                yield event
        finally:
            self._queues.remove(queue)
