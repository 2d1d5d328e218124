"""Ticket writer: keeps the newest ticket in memory and writes it to the store as soon as the store accepts it."""

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
from wxtcb.tokens.state_repository import StateRepository
from wxtcb.tokens.token_state import RETRY_BACKOFF

# WeChat waits 5 seconds for the answer to a push. The ticket is safe in memory, so there is no reason to wait as long.
MAX_WRITE_WAIT: Final = 1.0
FINAL_WRITE_TIMEOUT: Final = 10.0


@attrs.define(eq=False)
class _PendingTicket:
    """A ticket and the progress of its write: resolved once the store has this ticket, the newest, or a newer one."""

    value: Secret
    create_time: int
    is_resolved: bool = False
    is_newest: bool = False
    attempted: asyncio.Event = attrs.field(factory=asyncio.Event)


@attrs.define(eq=False)
class TicketWriter:
    """The newest ticket by CreateTime. One task writes it, and retries while the store is down.

    A writer belongs to one event loop. After that loop is closed it may be used in another one.
    """

    state_repository: StateRepository
    dispatcher: HookDispatcher
    _newest: _PendingTicket | None = attrs.field(init=False, default=None)
    _write_task: asyncio.Task[None] | None = attrs.field(init=False, default=None)
    _wake_event: asyncio.Event = attrs.field(init=False, factory=asyncio.Event)
    _closing: bool = attrs.field(init=False, default=False)

    async def submit(self, value: Secret, create_time: int) -> TicketReceived:
        """Keep a ticket if it is the newest, and return the result of the first second of writing it."""
        if self._newest is not None and create_time <= self._newest.create_time:
            return TicketReceived(create_time, is_newest=False)
        pending = self._newest = _PendingTicket(value, create_time)
        self._ensure_write_task()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(MAX_WRITE_WAIT):
                await pending.attempted.wait()
        # A newer ticket may have arrived during the wait.
        in_memory = not pending.is_resolved and pending is self._newest
        return TicketReceived(create_time, is_newest=pending.is_newest or in_memory, in_memory_only=in_memory)

    async def newest(self) -> Secret | None:
        """Return the newest ticket; raise `TokenStoreError` if the store is down and memory has none."""
        try:
            stored = (await self.state_repository.read()).state.ticket
        except TokenStoreError:
            if self._newest is None:
                raise
            return self._newest.value
        # Another receiver may have stored a newer ticket. Remembering it makes `submit` ignore older ones.
        if stored is not None and (self._newest is None or stored.create_time >= self._newest.create_time):
            self._newest = _PendingTicket(stored.value, stored.create_time, is_resolved=True)
        return None if self._newest is None else self._newest.value

    async def aclose(self) -> None:
        """Try once more to write a ticket that is not stored yet; give up on a store that hangs after 11 seconds."""
        self._closing = True
        if self._newest is not None:
            await end_tasks([self._ensure_write_task()], FINAL_WRITE_TIMEOUT)

    def cancel(self) -> None:
        """Stop writing."""
        if self._write_task is not None:
            cancel_tasks([self._write_task])

    def _ensure_write_task(self) -> asyncio.Task[None]:
        """Wake the task that writes, or start one."""
        if self._write_task is None or not is_running(self._write_task):
            # A new event, because the old one may belong to an event loop that is closed.
            self._wake_event = asyncio.Event()
            loop, context = asyncio.get_running_loop(), contextvars.Context()
            self._write_task = loop.create_task(self._write_until_stored(), context=context)
        self._wake_event.set()
        return self._write_task

    async def _write_until_stored(self) -> None:
        failures = 0
        while (pending := self._newest) is not None and not pending.is_resolved:
            self._wake_event.clear()
            # Read before the attempt: `aclose` during the attempt wakes this task for one more.
            is_last = self._closing
            error = await self._try_write(pending)
            if error is None:
                continue
            failures += 1
            backoff = RETRY_BACKOFF.delay(failures)
            self.dispatcher.emit(TicketWriteFailed(pending.create_time, error.reason, None if is_last else backoff))
            if is_last:
                return
            # A newer ticket, or the end, cuts the backoff short.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(backoff):
                    await self._wake_event.wait()

    async def _try_write(self, pending: _PendingTicket) -> WxtcbError | None:
        value, created = pending.value, pending.create_time
        try:
            update = self.state_repository.update(lambda state, now: state.with_ticket(value, created, now))
            pending.is_newest = await update is not None
            pending.is_resolved = True
        except WxtcbError as error:
            return error
        finally:
            pending.attempted.set()
        return None
