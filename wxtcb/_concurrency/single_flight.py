"""Single flight: one task whose result many callers wait for.

Cancelling a waiter, or all of them, affects neither the task nor the other waiters.
"""

from __future__ import annotations

import asyncio
import contextvars
import copy
from collections.abc import Callable, Coroutine
from typing import Generic, TypeVar

import attrs

from wxtcb.errors import SessionClosed, WxtcbError

T = TypeVar("T")


@attrs.define(repr=False, eq=False)
class SharedTask(Generic[T]):
    """Running task with many waiters; `finished` is set when it has succeeded, failed or been cancelled."""

    started_at: float
    finished: asyncio.Event = attrs.field(init=False, factory=asyncio.Event)
    _task: asyncio.Task[None] = attrs.field(init=False)
    _value: T = attrs.field(init=False)
    _error: WxtcbError | None = attrs.field(init=False, default=None)

    @classmethod
    def start(cls, coroutine_function: Callable[[], Coroutine[None, None, T]], now: float) -> SharedTask[T]:
        """Start *coroutine_function* in a task of its own; *now* becomes `started_at`."""
        shared = cls(now)
        # An empty context: the task belongs to no caller, so it must not inherit context variables (a span, a request
        # id) from the one that happens to start it.
        shared._task = asyncio.get_running_loop().create_task(
            shared._run(coroutine_function), context=contextvars.Context()
        )
        return shared

    async def _run(self, coroutine_function: Callable[[], Coroutine[None, None, T]]) -> None:
        try:
            self._value = await coroutine_function()
        except WxtcbError as error:
            self._error = error
        except asyncio.CancelledError:
            self._error = _session_closed_error()
            raise
        except BaseException as error:
            self._error = WxtcbError(f"internal error in wxtcb ({type(error).__name__}); please report it")
            # Raised again, so that the loop's exception handler reports the traceback.
            raise
        finally:
            self.finished.set()

    async def result(self) -> T:
        """Wait until the task has finished and return its value, or raise a copy of its error."""
        await self.finished.wait()
        if self._error is not None:
            raise _copy_error(self._error)
        return self._value

    def cancel(self) -> None:
        """Cancel the task without waiting for its end; its waiters get `SessionClosed` at once."""
        if not self.finished.is_set():
            self._error = _session_closed_error()
            self.finished.set()
        # Only once: a second cancellation would interrupt the clean-up that the first one started.
        if not self._task.cancelling():
            self._task.cancel()

    async def aclose(self) -> None:
        """Cancel the task and wait until it has ended."""
        self.cancel()
        # `asyncio.wait` neither raises the task's exception nor cancels the task together with the caller.
        await asyncio.wait([self._task])


def _session_closed_error() -> SessionClosed:
    return SessionClosed("the session was closed while this call waited; no request was sent for it")


def _copy_error(error: WxtcbError) -> WxtcbError:
    """Copy *error* for one waiter: raising the same object in several tasks would mix their tracebacks and notes."""
    copied = copy.copy(error)
    if hasattr(copied, "__notes__"):
        # A shallow copy shares the list with the original.
        copied.__notes__ = [*copied.__notes__]
    return copied
