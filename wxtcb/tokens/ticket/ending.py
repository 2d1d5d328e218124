"""The end of tasks that run what is the user's, and may cling to life."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Final

CANCEL_GRACE: Final = 1.0


def is_running(task: asyncio.Task[None]) -> bool:
    """Tell whether a task still runs; one whose loop is closed never will again."""
    return not task.done() and not task.get_loop().is_closed()


def cancel_tasks(tasks: Iterable[asyncio.Task[None]]) -> None:
    """Cancel those of *tasks* that still run."""
    for task in filter(is_running, tasks):
        task.cancel()


async def end_tasks(tasks: Iterable[asyncio.Task[None]], timeout: float) -> None:
    """Wait for *tasks*, cancel those that are not done after *patience* seconds, and give them a second to end.

    What clings to life for longer is left behind. If this is cancelled meanwhile, so are they, at once.
    """
    going = [*filter(is_running, tasks)]
    if not going:
        return
    try:
        await asyncio.wait(going, timeout=timeout)
    finally:
        cancel_tasks(going)
    await asyncio.wait(going, timeout=CANCEL_GRACE)
