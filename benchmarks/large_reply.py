"""Longest time that a reply of 10,000 environments blocks the event loop.

Another task yields to the event loop again and again, and records how long it waits each time. The figure is its
longest wait during one `environment.describe_envs` and the creation of the index `by_env`, over 20 calls. The baseline
is the time that orjson alone takes for the same JSON, all of which blocks the loop. Also the memory of such a list.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import time
import tracemalloc
from typing import Final

import orjson
from environments import environment_list
from figures import Figure, Interval
from harness import main
from loops import new_session, run_server

import wxtcb
from wxtcb._protocol.codec import read_reply
from wxtcb.api import environment
from wxtcb.api.environment import DESCRIBE_ENVS

LIMIT: Final = 20.0


async def longest_wait(session: wxtcb.Session) -> float:
    """Return the longest wait of another task, in milliseconds, during one call and the creation of its index."""
    longest = 0.0

    async def watch() -> None:
        nonlocal longest
        last = time.perf_counter()
        while True:
            await asyncio.sleep(0)
            now = time.perf_counter()
            longest, last = max(longest, now - last), now

    watcher = asyncio.create_task(watch())
    await asyncio.sleep(0)
    listed = await environment.describe_envs(session)
    assert listed.by_env
    # The watcher must run once more to record the last wait.
    await asyncio.sleep(0)
    watcher.cancel()
    return longest * 1e3


def parse_time(data: bytes) -> float:
    """Return the milliseconds that orjson alone takes."""
    started = time.perf_counter()
    parsed = orjson.loads(data)
    elapsed = time.perf_counter() - started
    # The objects are deleted after the measurement.
    del parsed
    return elapsed * 1e3


def reply_memory(data: bytes) -> float:
    """Return the megabytes of one stored reply, including its raw JSON."""
    gc.collect()
    tracemalloc.start()
    reply = read_reply(DESCRIBE_ENVS, data)
    gc.collect()
    allocated, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    del reply
    return allocated / 1e6


async def measure(options: argparse.Namespace) -> list[Figure]:
    """Measure all calls after a warm-up."""
    count, calls = (200, 3) if options.quick else (10_000, 20)
    data = environment_list(count)
    with run_server(environments=count) as target:
        async with new_session(target) as session:
            await longest_wait(session)
            waits = Interval.of([await longest_wait(session) for _ in range(calls)])
    baseline = Interval.of([parse_time(data) for _ in range(calls)]).median
    name = f"{count:,} environments"
    return [
        Figure(f"{name}: event loop blocked", waits, "ms", LIMIT, waits.median, baseline, "ms", "orjson alone"),
        Figure(f"{name}: memory of one list (tracemalloc)", Interval.exact(reply_memory(data)), "MB"),
    ]


if __name__ == "__main__":
    raise SystemExit(main(__doc__, measure))
