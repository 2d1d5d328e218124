"""Memory and CPU time of 10,000 tasks that wait for one token refresh.

Each waiter is a task in `TokenCache.get`. Memory is what `tracemalloc` counts while all of them wait, including the
tasks. CPU time counts from the first task to the end of the last one. The baseline is the same number of tasks that
wait for an `asyncio.Event`.

Also the longest of many concurrent calls while the token is invalidated again and again at a sandbox in another
process, minus the longest token refresh.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import statistics
import time
import tracemalloc
from collections.abc import Callable, Coroutine
from typing import Final

import attrs
from figures import Figure, Interval
from harness import Block, interleave, main
from provisioning import run_sandbox

from wxtcb.api import environment
from wxtcb.events import CallFinished, TokenRefreshed
from wxtcb.secret import Secret
from wxtcb.telemetry.dispatch import HookDispatcher
from wxtcb.tokens.cache import TokenCache
from wxtcb.tokens.providers import ComponentToken, FetchFunction
from wxtcb.tokens.refresh import TokenRefresher
from wxtcb.tokens.state_repository import StateRepository
from wxtcb.tokens.stores import MemoryStore

KILOBYTE: Final = 1_000
BASELINE: Final = "tasks that wait for an `asyncio.Event`"


@attrs.frozen
class Waitable:
    """A function that waits, and a function that ends all waits."""

    wait: Callable[[], Coroutine[None, None, object]]
    release: Callable[[], None]


@attrs.frozen
class BlockedProvider:
    """Token provider that returns a token when `released` is set."""

    released: asyncio.Event = attrs.field(factory=asyncio.Event)
    invalidates_previous: bool = True

    async def prepare(self) -> FetchFunction:
        """Return the fetch function."""
        return self.fetch

    async def fetch(self, _may_send: Callable[[], bool]) -> ComponentToken:
        """Wait until released, and return a token."""
        await self.released.wait()
        return ComponentToken(component_access_token=Secret("bench"), expires_in=7200)


def refresh_waitable() -> Waitable:
    """Return the first token refresh of a new cache."""
    provider, now = BlockedProvider(), asyncio.get_running_loop().time
    state = StateRepository(MemoryStore(now), "wx0123456789abcdef")
    cache = TokenCache(
        TokenRefresher("benchmark", state, provider, HookDispatcher(), now, asyncio.sleep),
    )
    return Waitable(cache.get, provider.released.set)


def event_waitable() -> Waitable:
    """Return a new event."""
    event = asyncio.Event()
    return Waitable(event.wait, event.set)


async def _start_waiters(waitable: Waitable, waiters: int) -> list[asyncio.Task[object]]:
    tasks = [asyncio.create_task(waitable.wait()) for _ in range(waiters)]
    # After three turns of the loop, the task of the refresh waits too.
    for _ in range(3):
        await asyncio.sleep(0)
    return tasks


async def waiter_memory(waitable: Waitable, waiters: int) -> float:
    """Return the kilobytes per task while all wait."""
    gc.collect()
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    tasks = await _start_waiters(waitable, waiters)
    during, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    waitable.release()
    await asyncio.gather(*tasks)
    return (during - before) / waiters / KILOBYTE


def wait_block(create: Callable[[], Waitable], waiters: int) -> Block:
    """Return a block that costs milliseconds of CPU time for all waiters together."""

    async def block() -> float:
        started = time.process_time()
        waitable = create()
        tasks = await _start_waiters(waitable, waiters)
        waitable.release()
        await asyncio.wait(tasks)
        return (time.process_time() - started) * 1e3

    return block


@attrs.define
class MaxDurations:
    """Hook that records the duration of the longest call and of the longest token refresh, in milliseconds."""

    call: float = 0.0
    refresh: float = 0.0

    def __call__(self, event: object) -> None:
        if isinstance(event, CallFinished):
            self.call = max(self.call, event.elapsed * 1e3)
        if isinstance(event, TokenRefreshed):
            self.refresh = max(self.refresh, event.elapsed * 1e3)


async def run_storm(tasks: int, invalidations: int) -> MaxDurations:
    """Run calls in *tasks* tasks; invalidate the token after every `2 * tasks` calls, so many times in all."""
    durations, interval = MaxDurations(), 2 * tasks
    numbers = iter(range(1, (invalidations + 1) * interval))
    with run_sandbox() as sandbox:
        async with sandbox.session(hooks=[durations], max_fetches_per_hour=None) as session:

            async def work() -> None:
                for number in numbers:
                    await environment.describe_envs(session)
                    if number % interval == 0:
                        await sandbox.invalidate_token()

            await asyncio.gather(*(work() for _ in range(tasks)))
    return durations


async def measure(options: argparse.Namespace) -> list[Figure]:
    """Measure memory once, and CPU time in rounds; the control waits for an event a second time."""
    rounds, waiters = (2, 500) if options.quick else (30, 10_000)
    value, baseline = await waiter_memory(refresh_waitable(), waiters), await waiter_memory(event_waitable(), waiters)
    memory = Figure(
        f"memory per waiter (tracemalloc), {waiters:,} waiters",
        Interval.exact(value),
        "KB",
        limit=2.0,
        value=value,
        baseline=baseline,
        value_unit="KB",
    )
    variants = {"baseline": event_waitable, "wxtcb": refresh_waitable, "control": event_waitable}
    costs = await interleave({name: wait_block(create, waiters) for name, create in variants.items()}, rounds)
    cpu = Figure(
        f"one refresh, {waiters:,} waiters",
        Interval.ratio(costs["wxtcb"], costs["baseline"]),
        value=statistics.median(costs["wxtcb"]),
        baseline=statistics.median(costs["baseline"]),
        value_unit="ms CPU",
        baseline_name=BASELINE,
        control=Interval.ratio(costs["control"], costs["baseline"]),
    )
    tasks, invalidations = (50, 2) if options.quick else (500, 50)
    durations = await run_storm(tasks, invalidations)
    longest = Figure(
        f"longest of {tasks} concurrent calls, {invalidations} invalidated tokens, minus the longest refresh",
        Interval.exact(durations.call - durations.refresh),
        "ms",
        value=durations.call,
        baseline=durations.refresh,
        value_unit="ms",
        baseline_name="for the figure in ms of elapsed time, the longest token refresh",
    )
    return [memory, cpu, longest]


if __name__ == "__main__":
    raise SystemExit(main(__doc__, measure))
