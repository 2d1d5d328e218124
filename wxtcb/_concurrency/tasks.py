"""Files, which only threads may wait for, and what has to end before its owner goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

import anyio

T = TypeVar("T")


async def run_in_thread(function: Callable[[], T]) -> T:
    """Run *work* in a thread and wait for its end, also when cancelled meanwhile, which is raised after it.

    So no thread goes on with a file that its owner has closed or removed.
    """
    running = asyncio.get_running_loop().run_in_executor(
        None, function
    )  # no task, which `asyncio.run` cancels at its end
    cancelled = await _wait_shielded(running)
    if cancelled is None:
        return running.result()
    running.exception()  # which nobody is told, for being cancelled comes first
    raise asyncio.CancelledError(*cancelled.args)


async def cancel_and_wait(task: asyncio.Task[None]) -> None:
    """Cancel a task and wait for its end, also when cancelled meanwhile, which is raised after it."""
    task.cancel()
    cancelled = await _wait_shielded(task)
    if cancelled is not None:
        raise asyncio.CancelledError(*cancelled.args)


async def _wait_shielded(future: asyncio.Future[T]) -> asyncio.CancelledError | None:
    """Wait until it is done, and return what cancelled the waiting."""
    cancelled: asyncio.CancelledError | None = None
    with anyio.CancelScope(shield=True):
        while not future.done():
            try:
                await asyncio.wait([future])
            except asyncio.CancelledError as error:
                cancelled = error
    return cancelled
