"""The newest ticket of a platform, in memory at once and in the shared record as soon as the store takes it."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from typing import Final

import attrs

from wxtcb._concurrency.tasks import cancel_tasks, end_tasks, is_running
from wxtcb.errors import TokenStoreError, WxtcbError
from wxtcb.events import TicketReceived, TicketWriteFailed
from wxtcb.secret import Secret
from wxtcb.telemetry.dispatch import HookDispatcher
from wxtcb.tokens.shared_state import SharedState
from wxtcb.tokens.state import MAX_BACKOFF, StoredTicket, TokenState

MAX_WRITE_WAIT: Final = 1.0
FINAL_WRITE_TIMEOUT: Final = 10.0


@attrs.define(eq=False)
class _PendingTicket:
    """A ticket that was pushed, and what the store said of it: `attempted` once it said anything, `is_resolved` for good."""

    value: Secret
    create_time: int
    is_resolved: bool = False
    is_newest: bool = False
    attempted: asyncio.Event = attrs.field(factory=asyncio.Event)


@attrs.define(eq=False)
class TicketWriter:
    """Keeps the newest ticket by CreateTime. One task writes it, and tries again for as long as the store is down.

    It belongs to one event loop; after that is closed, to another.
    """

    shared_state: SharedState
    dispatcher: HookDispatcher
    _newest: _PendingTicket | None = attrs.field(init=False, default=None)
    _write_task: asyncio.Task[None] | None = attrs.field(init=False, default=None)
    _wake_event: asyncio.Event = attrs.field(init=False, factory=asyncio.Event)
    _closing: bool = attrs.field(init=False, default=False)

    async def submit(self, value: Secret, create_time: int) -> TicketReceived:
        """Keep a ticket, if it is the newest, and tell what became of it within a second; the writing goes on."""
        if self._newest is not None and create_time <= self._newest.create_time:
            return TicketReceived(create_time, is_newest=False)
        arrival = self._newest = _PendingTicket(value, create_time)
        self._ensure_write_task()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(MAX_WRITE_WAIT):
                await arrival.attempted.wait()
        in_memory = not arrival.is_resolved and arrival is self._newest
        return TicketReceived(create_time, is_newest=arrival.is_newest or in_memory, in_memory_only=in_memory)

    async def newest(self) -> Secret | None:
        """Return the newest ticket of memory and store; without one in memory, raise the store's failure."""
        try:
            kept = (await self.shared_state.read()).state.ticket
        except TokenStoreError:
            if self._newest is None:
                raise
        else:
            self._merge_stored(kept)
        return None if self._newest is None else self._newest.value

    async def aclose(self) -> None:
        """End, after a last try to write what is not written yet; a store that hangs is left after 11 seconds."""
        self._closing = True
        if self._newest is not None:
            await end_tasks([self._ensure_write_task()], FINAL_WRITE_TIMEOUT)

    def cancel(self) -> None:
        """Write no more."""
        if self._write_task is not None:
            cancel_tasks([self._write_task])

    def _ensure_write_task(self) -> asyncio.Task[None]:
        """Wake the writer, or start one."""
        if self._write_task is None or not is_running(self._write_task):
            self._wake_event = asyncio.Event()
            self._write_task = asyncio.get_running_loop().create_task(
                self._write_until_stored(), context=contextvars.Context()
            )
        self._wake_event.set()
        return self._write_task

    def _merge_stored(self, stored: StoredTicket | None) -> None:
        """Go on with the ticket of the store, unless ours is newer."""
        if stored is not None and (self._newest is None or stored.created >= self._newest.create_time):
            self._newest = _PendingTicket(stored.value, stored.created, is_resolved=True)

    async def _write_until_stored(self) -> None:
        pause = 1.0
        while (arrival := self._newest) is not None and not arrival.is_resolved:
            self._wake_event.clear()
            is_last = self._closing
            failure = await self._try_write(arrival)
            if failure is None:
                continue
            self.dispatcher.emit(TicketWriteFailed(arrival.create_time, failure.reason, None if is_last else pause))
            if is_last:
                return
            await self._sleep_until_woken(pause)
            pause = min(MAX_BACKOFF, 2 * pause)

    async def _try_write(self, pending: _PendingTicket) -> WxtcbError | None:
        def add(record: TokenState, now: float) -> TokenState | None:
            return record.with_ticket(pending.value, pending.create_time, now)

        try:
            pending.is_newest = await self.shared_state.update(add) is not None
            pending.is_resolved = True
        except WxtcbError as error:
            return error
        finally:
            pending.attempted.set()
        return None

    async def _sleep_until_woken(self, seconds: float) -> None:
        """Wait, but no longer than until there is a newer ticket, or the end."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wake_event.wait()
