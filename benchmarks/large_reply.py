"""For how long does the reply of 10,000 environments keep the event loop from everything else?

`environment.describe_envs` is called while another task does nothing but note how long it has to wait for its turn.
The figure is the longest such wait of a call, looking an environment up included, over 20 calls; beside it what orjson
alone takes for the same JSON, all of which holds the loop.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import time
import tracemalloc
from typing import Final

import orjson
from environments import listing
from figures import Figure, Interval
from harness import main
from loops import new_session, serving

import wxtcb
from wxtcb._protocol.codec import read_reply
from wxtcb.api import environment
from wxtcb.api.environment import DESCRIBE_ENVS

BAR: Final = 20.0


async def longest_wait(session: wxtcb.Session) -> float:
    """Return the longest wait of another task for its turn during one call and a look-up in its reply, in ms."""
    longest = 0.0

    async def watch() -> None:
        nonlocal longest
        last = time.perf_counter()
        while True:
            await asyncio.sleep(0)
            now = time.perf_counter()
            longest, last = max(longest, now - last), now

    watching = asyncio.create_task(watch())
    await asyncio.sleep(0)
    listed = await environment.describe_envs(session)
    assert listed.by_env
    await asyncio.sleep(0)
    watching.cancel()
    return longest * 1e3


def parse_time(data: bytes) -> float:
    """Return the milliseconds that orjson alone takes."""
    started = time.perf_counter()
    parsed = orjson.loads(data)
    taken = time.perf_counter() - started
    del parsed
    return taken * 1e3


def memory(data: bytes) -> float:
    """Return the megabytes that one reply takes while it is kept, its raw JSON included."""
    gc.collect()
    tracemalloc.start()
    reply = read_reply(DESCRIBE_ENVS, data)
    gc.collect()
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    del reply
    return kept / 1e6


async def measure(chosen: argparse.Namespace) -> list[Figure]:
    """Call again and again, after a warm-up."""
    count, calls = (200, 3) if chosen.quick else (10_000, 20)
    data = listing(count)
    with serving(environments=count) as place:
        async with new_session(place) as session:
            await longest_wait(session)
            waits = Interval.of([await longest_wait(session) for _ in range(calls)])
    floor = Interval.of([parse_time(data) for _ in range(calls)]).median
    name = f"{count:,} environments"
    return [
        Figure(f"{name}: loop held", waits, "ms", BAR, waits.median, floor, "ms", "orjson alone"),
        Figure(f"{name}: one list kept (tracemalloc)", Interval.exactly(memory(data)), "MB"),
    ]


if __name__ == "__main__":
    raise SystemExit(main(__doc__, measure))
