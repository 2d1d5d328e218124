"""Measure for how long the reply of 10,000 environments keeps the event loop from everything else.

`python benchmarks/large_reply.py` calls `environment.describe_envs` on a server in a process of its own, while another
task does nothing but note how long it had to wait for its turn. It prints the longest such wait of a call (the median
over the calls), how long orjson alone takes for the same JSON, the time of reading the reply in slices and at once, and
the memory that one list takes. It exits with 1 if the longest wait is above its limit.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import statistics
import time
import tracemalloc
from collections.abc import Callable
from typing import Final

import orjson
from call_overhead import serving, versions
from environments import listing

import wxtcb
from wxtcb.api import environment
from wxtcb.wire import read_large_reply, read_reply

LIMIT: Final = 20.0


async def longest_wait(session: wxtcb.Session) -> float:
    """Return the longest wait of another task for its turn during one call and what its reply is used for, in ms."""
    longest = 0.0
    looking = True

    async def watch() -> None:
        nonlocal longest
        last = time.perf_counter()
        while looking:
            await asyncio.sleep(0)
            now = time.perf_counter()
            longest, last = max(longest, now - last), now

    watching = asyncio.create_task(watch())
    await asyncio.sleep(0)
    listed = await environment.describe_envs(session)
    assert listed.by_env
    await asyncio.sleep(0)
    del listed
    looking = False
    await watching
    return longest * 1e3


async def waits(base_url: str, calls: int) -> list[float]:
    """Return the longest wait of each call, in ms."""
    async with wxtcb.Session(
        component_appid="wx0123456789abcdef", component_appsecret="bench", ticket="ticket@@@bench", base_url=base_url
    ) as session:
        await longest_wait(session)
        return [await longest_wait(session) for _ in range(calls)]


def taken(work: Callable[[], object], times: int) -> float:
    """Return how long *work* takes, in ms: the median."""
    spent = []
    for _ in range(times):
        started = time.perf_counter()
        made = work()
        spent.append(time.perf_counter() - started)
        del made
    return statistics.median(spent) * 1e3


async def taken_in_slices(data: bytes, times: int) -> float:
    """Return how long reading in slices takes when nobody else wants a turn, in ms: the median."""
    spent = []
    for _ in range(times):
        started = time.perf_counter()
        made = await read_large_reply(environment.DESCRIBE_ENVS, data)
        spent.append(time.perf_counter() - started)
        del made
    return statistics.median(spent) * 1e3


def memory(count: int) -> float:
    """Return the MB that one reply takes while it is kept, its raw JSON included."""
    gc.collect()
    tracemalloc.start()
    reply = asyncio.run(read_large_reply(environment.DESCRIBE_ENVS, listing(count)))
    gc.collect()
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert isinstance(reply, environment.EnvList)
    return kept / 1e6


def main() -> int:
    """Measure, print, and exit with 1 if the loop was held for too long."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--environments", type=int, default=10_000)
    parser.add_argument("--calls", type=int, default=20)
    chosen = parser.parse_args()
    data = listing(chosen.environments)
    print(versions())
    print(f"{chosen.environments} environments, {len(data) / 1e6:.1f} MB, {chosen.calls} calls")
    with serving(chosen.environments, apart=False) as base_url:
        longest = asyncio.run(waits(base_url, chosen.calls))
    print(f"{'loop held at most':26} {statistics.median(longest):6.1f} ms (worst call: {max(longest):.1f})")
    print(f"{'orjson.loads alone':26} {taken(lambda: orjson.loads(data), chosen.calls):6.1f} ms")
    print(f"{'read in slices':26} {asyncio.run(taken_in_slices(data, chosen.calls)):6.1f} ms")
    at_once = taken(lambda: read_reply(environment.DESCRIBE_ENVS, data), chosen.calls)
    print(f"{'read at once':26} {at_once:6.1f} ms")
    print(f"{'memory of one list':26} {memory(chosen.environments):6.1f} MB")
    return 0 if statistics.median(longest) <= LIMIT else 1


if __name__ == "__main__":
    raise SystemExit(main())
