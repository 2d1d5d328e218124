"""What do 10,000 tasks cost that wait for one renewal of the token?

Each waiter is a task in `TokenCache.wait`. Memory is what `tracemalloc` counts at the moment when all of them wait, the
tasks included; time is the processor's, from the first task to the last one done. Beside it as many tasks that wait for
an `asyncio.Event`.

Whole calls wait as well: the longest of many that go on at once, while the token is killed again and again at a sandbox
in another process, is shown beside the longest renewal.
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
from provisioning import sandboxed

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
FLOOR: Final = "tasks that wait for an `asyncio.Event`"


@attrs.frozen
class Wait:
    """Something to wait for, and the way to let it happen."""

    wait: Callable[[], Coroutine[None, None, object]]
    happen: Callable[[], None]


@attrs.frozen
class Source:
    """Gives a token once it is let."""

    let: asyncio.Event = attrs.field(factory=asyncio.Event)
    invalidates_previous: bool = True

    async def prepare(self) -> FetchFunction:
        """Give what fetches."""
        return self.fetch

    async def fetch(self, _may_send: Callable[[], bool]) -> ComponentToken:
        """Wait, and make one."""
        await self.let.wait()
        return ComponentToken(component_access_token=Secret("bench"), expires_in=7200)


def by_cache() -> Wait:
    """Wait for the first token of a cache."""
    source, now = Source(), asyncio.get_running_loop().time
    cache = TokenCache(
        TokenRefresher(
            "here",
            StateRepository(MemoryStore(now), "wx0123456789abcdef"),
            source,
            HookDispatcher(),
            now,
            asyncio.sleep,
        ),
    )
    return Wait(cache.get, source.let.set)


def by_event() -> Wait:
    """Wait for an event."""
    event = asyncio.Event()
    return Wait(event.wait, event.set)


async def _gather_waiters(renewal: Wait, waiters: int) -> list[asyncio.Task[object]]:
    tasks = [asyncio.create_task(renewal.wait()) for _ in range(waiters)]
    for _ in range(3):
        await asyncio.sleep(0)
    return tasks


async def memory(renewal: Wait, waiters: int) -> float:
    """Return the kilobytes per task while all wait."""
    gc.collect()
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    tasks = await _gather_waiters(renewal, waiters)
    during, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    renewal.happen()
    await asyncio.gather(*tasks)
    return (during - before) / waiters / KILOBYTE


def timing(make: Callable[[], Wait], waiters: int) -> Block:
    """Make a block that costs milliseconds of processor time for all waiters."""

    async def block() -> float:
        started = time.process_time()
        renewal = make()
        tasks = await _gather_waiters(renewal, waiters)
        renewal.happen()
        await asyncio.wait(tasks)
        return (time.process_time() - started) * 1e3

    return block


@attrs.define
class Longest:
    """The milliseconds of the longest call and of the longest renewal."""

    call: float = 0.0
    renewal: float = 0.0

    def hear(self, event: object) -> None:
        """Note an event of a session."""
        if isinstance(event, CallFinished):
            self.call = max(self.call, event.elapsed * 1e3)
        if isinstance(event, TokenRefreshed):
            self.renewal = max(self.renewal, event.elapsed * 1e3)


async def storm(tasks: int, kills: int) -> Longest:
    """Let *tasks* call again and again, and kill the token whenever each may have called twice."""
    longest, between = Longest(), 2 * tasks
    left = iter(range(1, (kills + 1) * between))
    with sandboxed() as box:
        async with box.session(hooks=[longest.hear], max_fetches_per_hour=None) as session:

            async def work() -> None:
                for number in left:
                    await environment.describe_envs(session)
                    if number % between == 0:
                        await box.kill_token()

            await asyncio.gather(*(work() for _ in range(tasks)))
    return longest


async def measure(chosen: argparse.Namespace) -> list[Figure]:
    """Take the memory once, and the time in turns; the control waits for an event a second time."""
    rounds, waiters = (2, 500) if chosen.quick else (30, 10_000)
    ours, floor = await memory(by_cache(), waiters), await memory(by_event(), waiters)
    kept = Figure(
        f"memory per waiter (tracemalloc), {waiters:,} of them", Interval.exactly(ours), "KB", 2.0, ours, floor, "KB"
    )
    makes = {"floor": by_event, "cache": by_cache, "control": by_event}
    costs = await interleave({name: timing(make, waiters) for name, make in makes.items()}, rounds)
    spent = Figure(
        f"one renewal, {waiters:,} waiters",
        Interval.ratio(costs["cache"], costs["floor"]),
        ours=statistics.median(costs["cache"]),
        floor=statistics.median(costs["floor"]),
        measure="ms CPU",
        beside=FLOOR,
        control=Interval.ratio(costs["control"], costs["floor"]),
    )
    tasks, kills = (50, 2) if chosen.quick else (500, 50)
    longest = await storm(tasks, kills)
    waited = Figure(
        f"longest of {tasks} calls at once while the token is killed {kills} times, less the longest renewal",
        Interval.exactly(longest.call - longest.renewal),
        "ms",
        ours=longest.call,
        floor=longest.renewal,
        measure="ms",
        beside="the longest renewal of the token, where milliseconds are no processor time",
    )
    return [kept, spent, waited]


if __name__ == "__main__":
    raise SystemExit(main(__doc__, measure))
