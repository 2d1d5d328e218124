"""CPU time of reading a valid token from the cache.

Every call does this. The baseline is an `await` of an empty coroutine function. For comparison, the same under an
`asyncio.Lock`.
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

BASELINE: Final = "an `await` of an empty coroutine function"


class ImmediateProvider:
    """Token provider that returns a token immediately."""

    invalidates_previous = True

    async def prepare(self) -> FetchFunction:
        """Return the fetch function."""
        return self.fetch

    async def fetch(self, _may_send: Callable[[], bool]) -> ComponentToken:
        """Return a token."""
        return ComponentToken(component_access_token=Secret("bench"), expires_in=7200)


# The loops contain four repetitions, so that the loops themselves do not dominate.
async def read_token(cache: TokenCache, times: int) -> None:
    """Read the valid token, as every call does."""
    for _ in range(times // 4):
        cache.cached()
        cache.cached()
        cache.cached()
        cache.cached()


async def _empty() -> None: ...


async def await_empty(_cache: TokenCache, times: int) -> None:
    """Await an empty coroutine function."""
    for _ in range(times // 4):
        await _empty()
        await _empty()
        await _empty()
        await _empty()


async def read_token_locked(cache: TokenCache, times: int) -> None:
    """Read the valid token under an uncontended lock."""
    lock = asyncio.Lock()
    for _ in range(times):
        async with lock:
            cache.cached()


def work_block(work: Callable[[TokenCache, int], Awaitable[None]], cache: TokenCache, times: int) -> Block:
    """Return a block that does *work* so many times; it costs nanoseconds of CPU time each."""

    async def block() -> float:
        started = time.process_time_ns()
        await work(cache, times)
        return (time.process_time_ns() - started) / times

    return block


async def measure(options: argparse.Namespace) -> list[Figure]:
    """Measure all variants; the control awaits the empty coroutine function a second time."""
    rounds, times = (3, 1_000) if options.quick else (60, 100_000)
    now = asyncio.get_running_loop().time
    state = StateRepository(MemoryStore(now), "wx0123456789abcdef")
    cache = TokenCache(
        TokenRefresher("benchmark", state, ImmediateProvider(), HookDispatcher(), now, asyncio.sleep),
    )
    await cache.get()
    works = {
        "baseline": await_empty,
        "cached token": read_token,
        "cached token under a lock": read_token_locked,
        "control": await_empty,
    }
    costs = await interleave({name: work_block(work, cache, times) for name, work in works.items()}, rounds)
    await cache.aclose()
    return [_figure(costs, "cached token", 2.5), _figure(costs, "cached token under a lock", None)]


def _figure(costs: dict[str, list[float]], name: str, limit: float | None) -> Figure:
    return Figure(
        name,
        Interval.ratio(costs[name], costs["baseline"]),
        limit=limit,
        value=statistics.median(costs[name]),
        baseline=statistics.median(costs["baseline"]),
        value_unit="ns CPU",
        baseline_name=BASELINE,
        control=Interval.ratio(costs["control"], costs["baseline"]),
    )


if __name__ == "__main__":
    raise SystemExit(main(__doc__, measure))
