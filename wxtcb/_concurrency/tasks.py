"""Task helpers: blocking work in threads, bounded shutdown of tasks, cooperative iteration and backoff."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Final, TypeVar

import anyio
import attrs

T = TypeVar("T")

CANCEL_GRACE: Final = 1.0
YIELD_EVERY: Final = 100
_MAX_DOUBLINGS: Final = 64


@attrs.frozen
class Backoff:
    """Delay in seconds between repeated attempts: `initial` after the first failure, then doubled up to `maximum`."""

    initial: float
    maximum: float

    def delay(self, failures: int) -> float:
        """Return the seconds to wait after *failures* failures in a row (1 or more)."""
        # The exponent is bounded because 2.0 ** 1024 raises OverflowError, and an outage can cause that many failures.
        return min(self.maximum, self.initial * 2.0 ** min(failures - 1, _MAX_DOUBLINGS))


async def run_in_thread(function: Callable[[], T]) -> T:
    """Run a blocking *function* in a worker thread and return its result.

    If the caller is cancelled, the function still runs to its end before CancelledError is raised. The owner of a file
    may therefore close or remove it afterwards: no thread is still using it.
    """
    # An executor future, unlike a task, is not cancelled by `asyncio.run` when the loop shuts down.
    future = asyncio.get_running_loop().run_in_executor(None, function)
    cancelled = await wait_shielded(future)
    if cancelled is None:
        return future.result()
    # Retrieve the exception, so that asyncio does not log it as "never retrieved": the cancellation takes precedence.
    future.exception()
    raise asyncio.CancelledError(*cancelled.args)


async def cancel_and_wait(task: asyncio.Task[None]) -> None:
    """Cancel *task* and wait until it is done.

    If the caller is cancelled meanwhile, CancelledError is raised only after the task is done.
    """
    task.cancel()
    cancelled = await wait_shielded(task)
    if cancelled is not None:
        raise asyncio.CancelledError(*cancelled.args)


async def wait_shielded(future: asyncio.Future[T]) -> asyncio.CancelledError | None:
    """Wait until *future* is done and return the CancelledError that arrived meanwhile, if any."""
    cancelled: asyncio.CancelledError | None = None
    # The shield stops anyio, which would deliver its cancellation again in every turn of the loop. The `except` is for
    # asyncio's own `Task.cancel`, which no anyio scope holds back.
    with anyio.CancelScope(shield=True):
        while not future.done():
            try:
                await asyncio.wait([future])
            except asyncio.CancelledError as error:
                cancelled = error
    return cancelled


def is_running(task: asyncio.Task[None]) -> bool:
    """Return whether *task* can still make progress."""
    # A task whose loop was closed never becomes done, so waiting for it would never end.
    return not task.done() and not task.get_loop().is_closed()


def cancel_tasks(tasks: Iterable[asyncio.Task[None]]) -> None:
    """Cancel those of *tasks* that still run."""
    for task in filter(is_running, tasks):
        task.cancel()


async def end_tasks(tasks: Iterable[asyncio.Task[None]], timeout: float) -> None:
    """Wait up to *timeout* seconds for *tasks*, cancel the rest, and give them `CANCEL_GRACE` seconds to finish.

    Tasks still running after the grace period are abandoned. If the caller is cancelled, the tasks are cancelled at
    once.
    """
    running = [*filter(is_running, tasks)]
    if not running:
        return
    try:
        await asyncio.wait(running, timeout=timeout)
    finally:
        cancel_tasks(running)
    await asyncio.wait(running, timeout=CANCEL_GRACE)


async def cooperative_iter(items: Iterable[T]) -> AsyncIterator[T]:
    """Iterate over *items*, and let other tasks run after every `YIELD_EVERY` of them.

    Ten thousand items in one go would block the event loop for tens of milliseconds.
    """
    for number, item in enumerate(items, 1):
        yield item
        if number % YIELD_EVERY == 0:
            await asyncio.sleep(0)
