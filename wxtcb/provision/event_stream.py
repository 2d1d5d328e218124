"""Event stream: distributes the events of a run to any number of subscribers, none of which can slow down the run."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Final

import attrs

from wxtcb.provision.events import EventsDropped, RunEvent

MAX_UNREAD: Final = 10_000


@attrs.define(eq=False)
class _Subscriber:
    """Unread events of one subscriber; the oldest are dropped when there are more than `MAX_UNREAD`."""

    events: deque[RunEvent] = attrs.field(factory=lambda: deque(maxlen=MAX_UNREAD))
    dropped: int = 0
    wakeup: asyncio.Event = attrs.field(factory=asyncio.Event)

    def put(self, event: RunEvent) -> None:
        self.dropped += len(self.events) == MAX_UNREAD
        self.events.append(event)
        self.wakeup.set()


@attrs.define(eq=False)
class EventStream:
    """Distributor of events; `wall_clock` gives the time of each."""

    wall_clock: Callable[[], float]
    last_emitted_at: float = attrs.field(init=False, factory=lambda: asyncio.get_running_loop().time())
    _sequence: int = attrs.field(init=False, default=0)
    _subscribers: list[_Subscriber] = attrs.field(init=False, factory=list[_Subscriber])
    _closed: bool = attrs.field(init=False, default=False)

    def subscribe(self) -> AsyncIterator[RunEvent]:
        # Added here, not in the generator: events before the first `anext` must not be lost.
        subscriber = _Subscriber()
        self._subscribers.append(subscriber)
        return self._iterate(subscriber)

    def emit(self, event: RunEvent) -> None:
        self._sequence += 1
        self.last_emitted_at = asyncio.get_running_loop().time()
        if self._subscribers:
            at = datetime.fromtimestamp(self.wall_clock(), UTC)
            event = attrs.evolve(event, at=at, sequence=self._sequence)
            for subscriber in self._subscribers:
                subscriber.put(event)

    def close(self) -> None:
        self._closed = True
        for subscriber in self._subscribers:
            subscriber.wakeup.set()

    async def _iterate(self, subscriber: _Subscriber) -> AsyncIterator[RunEvent]:
        try:
            while True:
                if subscriber.dropped:
                    count, subscriber.dropped = subscriber.dropped, 0
                    yield EventsDropped(count)
                elif subscriber.events:
                    yield subscriber.events.popleft()
                elif self._closed:
                    return
                else:
                    subscriber.wakeup.clear()
                    await subscriber.wakeup.wait()
        finally:
            self._subscribers.remove(subscriber)


@attrs.define(eq=False)
class EventNotifier:
    """Caller of a function for each event, of a worker that has no end; `callback` may be None."""

    wall_clock: Callable[[], float]
    callback: Callable[[RunEvent], None] | None
    _sequence: int = attrs.field(init=False, default=0)

    def emit(self, event: RunEvent) -> None:
        if self.callback is None:
            return
        self._sequence += 1
        at = datetime.fromtimestamp(self.wall_clock(), UTC)
        try:
            self.callback(attrs.evolve(event, at=at, sequence=self._sequence))
        # The function is the user's. What it raises must neither fail a tenant nor end the worker.
        except Exception as error:
            context = {"message": "a function for provisioning events failed", "exception": error}
            asyncio.get_running_loop().call_exception_handler(context)
