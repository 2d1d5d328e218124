"""The pushes that are no tickets: each is handed on in a task of its own, after WeChat has its answer."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Awaitable, Callable
from typing import Final

import attrs

from wxtcb._concurrency.tasks import cancel_tasks, end_tasks
from wxtcb.events import NotificationDropped
from wxtcb.telemetry.dispatch import HookDispatcher
from wxtcb.tokens.ticket.message import Notification

MAX_CONCURRENT_NOTIFICATIONS: Final = 100
NOTIFICATION_CLOSE_TIMEOUT: Final = 5.0


@attrs.define(eq=False)
class NotificationTasks:
    """Owns the tasks that `on_notification` runs in, at most 100; a notice more is dropped, and an event says so."""

    on_notification: Callable[[Notification], Awaitable[object]] | None
    dispatcher: HookDispatcher
    _tasks: set[asyncio.Task[None]] = attrs.field(init=False, factory=set["asyncio.Task[None]"])

    def dispatch(self, notification: Notification) -> None:
        """Begin to hand *notice* on."""
        if self.on_notification is None:
            return
        if len(self._tasks) >= MAX_CONCURRENT_NOTIFICATIONS:
            self.dispatcher.emit(NotificationDropped(notification.info_type, len(self._tasks)))
            return
        run = _run_callback(self.on_notification, notification)
        task = asyncio.get_running_loop().create_task(run, context=contextvars.Context())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def aclose(self) -> None:
        """Wait five seconds for those under way, then cancel them and give them one more."""
        await end_tasks(self._tasks, NOTIFICATION_CLOSE_TIMEOUT)

    def cancel(self) -> None:
        """Cut off those under way."""
        cancel_tasks(self._tasks)


async def _run_callback(
    on_notification: Callable[[Notification], Awaitable[object]], notification: Notification
) -> None:
    try:
        await on_notification(notification)
    except Exception as error:
        context = {
            "message": f"on_notification of a wxtcb.TicketReceiver raised at {notification!r}",
            "exception": error,
        }
        asyncio.get_running_loop().call_exception_handler(context)
