"""Long work on the loop, with turns for others in between."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Final, TypeVar

T = TypeVar("T")

YIELD_EVERY: Final = 100


async def cooperative_iter(items: Iterable[T]) -> AsyncIterator[T]:
    """Go through *items*, and let others have a turn on the loop every hundred: there may be ten thousand."""
    for number, item in enumerate(items, 1):
        yield item
        if number % YIELD_EVERY == 0:
            await asyncio.sleep(0)
