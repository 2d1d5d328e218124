"""The pushes that are no tickets: each is handed on in a task of its own, after WeChat has its answer."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Awaitable, Callable
from typing import Final

import attrs

from wxtcb.events import NoticeDropped
from wxtcb.telemetry.dispatch import Observers
from wxtcb.tokens.ticket.ending import cancel_tasks, end_tasks
from wxtcb.tokens.ticket.message import Notice

MOST_AT_ONCE: Final = 100
PATIENCE: Final = 5.0


@attrs.define(eq=False)
class Notices:
    """Owns the tasks that `on_notice` runs in, at most 100; a notice more is dropped, and an event says so."""

    on_notice: Callable[[Notice], Awaitable[object]] | None
    observers: Observers
    _tasks: set[asyncio.Task[None]] = attrs.field(init=False, factory=set["asyncio.Task[None]"])

    def hand_on(self, notice: Notice) -> None:
        """Begin to hand *notice* on."""
        if self.on_notice is None:
            return
        if len(self._tasks) >= MOST_AT_ONCE:
            self.observers.emit(NoticeDropped(notice.info_type, len(self._tasks)))
            return
        run = _run(self.on_notice, notice)
        task = asyncio.get_running_loop().create_task(run, context=contextvars.Context())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def aclose(self) -> None:
        """Wait five seconds for those under way, then cancel them and give them one more."""
        await end_tasks(self._tasks, PATIENCE)

    def cancel(self) -> None:
        """Cut off those under way."""
        cancel_tasks(self._tasks)


async def _run(on_notice: Callable[[Notice], Awaitable[object]], notice: Notice) -> None:
    try:
        await on_notice(notice)
    except Exception as error:
        context = {"message": f"on_notice of a wxtcb.TicketReceiver raised at {notice!r}", "exception": error}
        asyncio.get_running_loop().call_exception_handler(context)
