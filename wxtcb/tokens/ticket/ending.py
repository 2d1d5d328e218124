"""The end of tasks that run what is the user's, and may cling to life."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Final

LAST_WORDS: Final = 1.0


def is_under_way(task: asyncio.Task[None]) -> bool:
    """Tell whether a task still runs; one whose loop is closed never will again."""
    return not task.done() and not task.get_loop().is_closed()


def cancel_tasks(tasks: Iterable[asyncio.Task[None]]) -> None:
    """Cancel those of *tasks* that still run."""
    for task in filter(is_under_way, tasks):
        task.cancel()


async def end_tasks(tasks: Iterable[asyncio.Task[None]], patience: float) -> None:
    """Wait for *tasks*, cancel those that are not done after *patience* seconds, and give them a second to end.

    What clings to life for longer is left behind. If this is cancelled meanwhile, so are they, at once.
    """
    going = [*filter(is_under_way, tasks)]
    if not going:
        return
    try:
        await asyncio.wait(going, timeout=patience)
    finally:
        cancel_tasks(going)
    await asyncio.wait(going, timeout=LAST_WORDS)
