"""The newest ticket of a platform, in memory at once and in the shared record as soon as the store takes it."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from typing import Final

import attrs

from wxtcb.errors import TokenStoreError, WxtcbError
from wxtcb.events import TicketReceived, TicketUnsaved
from wxtcb.secret import Secret
from wxtcb.telemetry.dispatch import Observers
from wxtcb.tokens.shared_state import SharedRecord
from wxtcb.tokens.state import LONGEST_PAUSE, KeptTicket, Record
from wxtcb.tokens.ticket.ending import cancel_tasks, end_tasks, is_under_way

WORTH_WAITING: Final = 1.0
LAST_TRY: Final = 10.0


@attrs.define(eq=False)
class _Arrival:
    """A ticket that was pushed, and what the store said of it: `tried` once it said anything, `settled` for good."""

    value: Secret
    created: int
    settled: bool = False
    is_newest: bool = False
    tried: asyncio.Event = attrs.field(factory=asyncio.Event)


@attrs.define(eq=False)
class TicketKeeper:
    """Keeps the newest ticket by CreateTime. One task writes it, and tries again for as long as the store is down.

    It belongs to one event loop; after that is closed, to another.
    """

    shared: SharedRecord
    observers: Observers
    _newest: _Arrival | None = attrs.field(init=False, default=None)
    _writer: asyncio.Task[None] | None = attrs.field(init=False, default=None)
    _news: asyncio.Event = attrs.field(init=False, factory=asyncio.Event)
    _closing: bool = attrs.field(init=False, default=False)

    async def keep(self, value: Secret, created: int) -> TicketReceived:
        """Keep a ticket, if it is the newest, and tell what became of it within a second; the writing goes on."""
        if self._newest is not None and created <= self._newest.created:
            return TicketReceived(created, kept=False)
        arrival = self._newest = _Arrival(value, created)
        self._go_on_writing()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(WORTH_WAITING):
                await arrival.tried.wait()
        in_memory = not arrival.settled and arrival is self._newest
        return TicketReceived(created, kept=arrival.is_newest or in_memory, in_memory=in_memory)

    async def newest(self) -> Secret | None:
        """Return the newest ticket of memory and store; without one in memory, raise the store's failure."""
        try:
            kept = (await self.shared.read()).record.ticket
        except TokenStoreError:
            if self._newest is None:
                raise
        else:
            self._learn(kept)
        return None if self._newest is None else self._newest.value

    async def aclose(self) -> None:
        """End, after a last try to write what is not written yet; a store that hangs is left after 11 seconds."""
        self._closing = True
        if self._newest is not None:
            await end_tasks([self._go_on_writing()], LAST_TRY)

    def cancel(self) -> None:
        """Write no more."""
        if self._writer is not None:
            cancel_tasks([self._writer])

    def _go_on_writing(self) -> asyncio.Task[None]:
        """Wake the writer, or start one."""
        if self._writer is None or not is_under_way(self._writer):
            self._news = asyncio.Event()
            self._writer = asyncio.get_running_loop().create_task(self._write(), context=contextvars.Context())
        self._news.set()
        return self._writer

    def _learn(self, kept: KeptTicket | None) -> None:
        """Go on with the ticket of the store, unless ours is newer."""
        if kept is not None and (self._newest is None or kept.created >= self._newest.created):
            self._newest = _Arrival(kept.value, kept.created, settled=True)

    async def _write(self) -> None:
        pause = 1.0
        while (arrival := self._newest) is not None and not arrival.settled:
            self._news.clear()
            is_last = self._closing
            failure = await self._try(arrival)
            if failure is None:
                continue
            self.observers.emit(TicketUnsaved(arrival.created, failure.reason, None if is_last else pause))
            if is_last:
                return
            await self._rest(pause)
            pause = min(LONGEST_PAUSE, 2 * pause)

    async def _try(self, arrival: _Arrival) -> WxtcbError | None:
        def add(record: Record, now: float) -> Record | None:
            return record.with_ticket(arrival.value, arrival.created, now)

        try:
            arrival.is_newest = await self.shared.change(add) is not None
            arrival.settled = True
        except WxtcbError as error:
            return error
        finally:
            arrival.tried.set()
        return None

    async def _rest(self, seconds: float) -> None:
        """Wait, but no longer than until there is a newer ticket, or the end."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._news.wait()
