"""One task that many wait for.

A flight runs a coroutine in a task of its own, in an empty context. Cancelling a waiter, or all of them, touches
neither the task nor the other waiters; each waiter gets an exception of its own.
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
    """A started piece of work; `done` is set when it ended, well or not."""

    started_at: float
    done: asyncio.Event = attrs.field(init=False, factory=asyncio.Event)
    _task: asyncio.Task[None] = attrs.field(init=False)
    _value: T = attrs.field(init=False)
    _error: WxtcbError | None = attrs.field(init=False, default=None)

    @classmethod
    def start(cls, coroutine_function: Callable[[], Coroutine[None, None, T]], now: float) -> SharedTask[T]:
        """Start *work*; what it raises reaches the waiters."""
        flight = cls(now)
        flight._task = asyncio.get_running_loop().create_task(
            flight._run(coroutine_function), context=contextvars.Context()
        )
        return flight

    async def _run(self, coroutine_function: Callable[[], Coroutine[None, None, T]]) -> None:
        try:
            self._value = await coroutine_function()
        except WxtcbError as error:
            self._error = error
        except asyncio.CancelledError:
            self._error = _session_closed_error()
            raise
        except BaseException as error:
            self._error = WxtcbError(f"wxtcb failed in itself ({type(error).__name__}); please report it")
            raise
        finally:
            self.done.set()

    async def wait(self) -> T:
        """Wait for the end; return the value, or raise a copy of the error."""
        await self.done.wait()
        if self._error is not None:
            raise _copy_error(self._error)
        return self._value

    def cancel(self) -> None:
        """Begin to end the work; who waits for it gets `SessionClosed` now."""
        if not self.done.is_set():
            self._error = _session_closed_error()
            self.done.set()
        if not self._task.cancelling():  # once: a second would break into the clean-up that the first began
            self._task.cancel()

    async def aclose(self) -> None:
        """Cancel, and wait for the end of the work."""
        self.cancel()
        await asyncio.wait([self._task])


def _session_closed_error() -> SessionClosed:
    return SessionClosed("the session was closed while this call waited; nothing was sent for it")


def _copy_error(error: WxtcbError) -> WxtcbError:
    mine = copy.copy(error)
    if hasattr(mine, "__notes__"):
        mine.__notes__ = [*mine.__notes__]  # a shallow copy shares the list
    return mine
