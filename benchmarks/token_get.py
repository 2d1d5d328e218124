"""What does it cost to get a token that is fresh?

Every call does it, so it must be next to nothing: beside it an `await` of an empty coroutine function, and for context
the same `get` under an `asyncio.Lock`. Loops go four at a time, so that they are not what is measured.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable
from typing import Final

from figures import Figure, Interval
from harness import Block, interleave, main

from wxtcb.secret import Secret
from wxtcb.telemetry.dispatch import HookDispatcher
from wxtcb.tokens.cache import TokenCache
from wxtcb.tokens.providers import ComponentToken, FetchFunction
from wxtcb.tokens.refresh import TokenRefresher
from wxtcb.tokens.state_repository import StateRepository
from wxtcb.tokens.stores import MemoryStore

FLOOR: Final = "an `await` of an empty coroutine function"


class Source:
    """Gives a token at once."""

    invalidates_previous = True

    async def prepare(self) -> FetchFunction:
        """Give what fetches."""
        return self.fetch

    async def fetch(self, _may_send: Callable[[], bool]) -> ComponentToken:
        """Make one."""
        return ComponentToken(component_access_token=Secret("bench"), expires_in=7200)


async def get(cache: TokenCache, turns: int) -> None:
    """Get the fresh token, as every call does."""
    for _ in range(turns // 4):
        cache.cached()
        cache.cached()
        cache.cached()
        cache.cached()


async def _empty() -> None: ...


async def wait_for_nothing(_cache: TokenCache, turns: int) -> None:
    """Await an empty coroutine function."""
    for _ in range(turns // 4):
        await _empty()
        await _empty()
        await _empty()
        await _empty()


async def get_locked(cache: TokenCache, turns: int) -> None:
    """Get the token under a lock that nobody else wants."""
    lock = asyncio.Lock()
    for _ in range(turns):
        async with lock:
            cache.cached()


def timing(work: Callable[[TokenCache, int], Awaitable[None]], cache: TokenCache, turns: int) -> Block:
    """Make a block that costs nanoseconds of processor time per turn."""

    async def block() -> float:
        started = time.process_time_ns()
        await work(cache, turns)
        return (time.process_time_ns() - started) / turns

    return block


async def measure(chosen: argparse.Namespace) -> list[Figure]:
    """Take turns; the control awaits nothing a second time."""
    rounds, turns = (3, 1_000) if chosen.quick else (60, 100_000)
    now = asyncio.get_running_loop().time
    cache = TokenCache(
        TokenRefresher(
            "here",
            StateRepository(MemoryStore(now), "wx0123456789abcdef"),
            Source(),
            HookDispatcher(),
            now,
            asyncio.sleep,
        ),
    )
    await cache.get()
    works = {"floor": wait_for_nothing, "get": get, "get under a lock": get_locked, "control": wait_for_nothing}
    costs = await interleave({name: timing(work, cache, turns) for name, work in works.items()}, rounds)
    await cache.aclose()
    return [_figure(costs, "get", 2.5), _figure(costs, "get under a lock", None)]


def _figure(costs: dict[str, list[float]], name: str, bar: float | None) -> Figure:
    return Figure(
        f"{name}, the token being fresh",
        Interval.ratio(costs[name], costs["floor"]),
        bar=bar,
        ours=statistics.median(costs[name]),
        floor=statistics.median(costs["floor"]),
        measure="ns CPU",
        beside=FLOOR,
        control=Interval.ratio(costs["control"], costs["floor"]),
    )


if __name__ == "__main__":
    raise SystemExit(main(__doc__, measure))
