"""Measure what one call costs the client's processor: through the library, and on bare aiohttp.

`python benchmarks/call_overhead.py` prints user and system time per call for `environment.create_env` and for a tuned
loop over `aiohttp.ClientSession.post`: same server, same timeouts, same number in flight. Both are measured in one run,
in blocks that alternate; a second bare loop is the control. If the control differs by more than 2 %, the machine was
too busy, and the run says so and exits with 1.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import math
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Final

import aiohttp
import orjson
from yarl import URL

import wxtcb
from wxtcb.api import environment

Call = Callable[[], Awaitable[object]]

ORDER: Final = ("bare", "wxtcb", "control", "control", "wxtcb", "bare")
TOLERANCE: Final = 0.02
ALIAS: Final = "bench"
HEADERS: Final = {"Content-Type": "application/json; charset=utf-8"}


@contextlib.contextmanager
def serving(environments: int = 0, *, apart: bool = True) -> Iterator[str]:
    """Run the server in a process of its own, with *apart* on another core where that can be chosen; give its URL."""
    command = [sys.executable, str(Path(__file__).with_name("server.py")), str(environments)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        if apart:
            pin_apart(process.pid)
        assert process.stdout is not None
        assert process.stdin is not None
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.stdin.close()


def pin_apart(server: int) -> None:
    """Keep this process on one core and the server on another."""
    if not hasattr(os, "sched_setaffinity"):
        return
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, cores[:1])
    os.sched_setaffinity(server, cores[1:2] or cores[:1])


@contextlib.asynccontextmanager
async def bare(base_url: str) -> AsyncIterator[Call]:
    """Open what a careful author would write by hand for this one call, without retries, renewal or typed replies."""
    url = URL(f"{base_url}/componenttcb/createenv?access_token=bench-token-0123456789abcdef", encoded=True)
    limits = aiohttp.ClientTimeout(total=35, connect=5)
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers=HEADERS,
        timeout=limits,
    ) as http:

        async def call() -> object:
            reply = await http.post(url, data=orjson.dumps({"alias": ALIAS}), allow_redirects=False)
            return orjson.loads(await reply.read())

        yield call


@contextlib.asynccontextmanager
async def library(base_url: str, *, plain: bool, hooks: int) -> AsyncIterator[Call]:
    """Open a session as everybody would, or a *plain* one on an aiohttp session; its timeouts are the default."""
    async with contextlib.AsyncExitStack() as stack:
        http = None
        if plain:
            http = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0), cookie_jar=aiohttp.DummyCookieJar(), headers=HEADERS
            )
            await stack.enter_async_context(http)
        session = wxtcb.Session(
            component_appid="wx0123456789abcdef",
            component_appsecret="bench",
            ticket="ticket@@@bench",
            base_url=base_url,
            http=http,
            hooks=[lambda _: None for _ in range(hooks)],
        )
        await stack.enter_async_context(session)

        async def call() -> object:
            return await environment.create_env(session, alias=ALIAS)

        yield call


async def cost(call: Call, calls: int, in_flight: int) -> float:
    """Return the microseconds of processor time per call, over *calls* calls with *in_flight* under way."""
    left = iter(range(calls))

    async def work() -> None:
        for _ in left:
            await call()

    gc.collect()
    started = time.process_time()
    await asyncio.gather(*(work() for _ in range(in_flight)))
    return (time.process_time() - started) / calls * 1e6


async def measure(base_url: str, chosen: argparse.Namespace) -> dict[str, list[float]]:
    """Return per loop the costs of its pairs of blocks; within a round every loop runs twice, mirrored."""
    mine = library(base_url, plain=chosen.plain, hooks=chosen.hooks)
    async with bare(base_url) as one, mine as other, bare(base_url) as control:
        loops = {"bare": one, "wxtcb": other, "control": control}
        for call in loops.values():
            await cost(call, chosen.calls, chosen.in_flight)
        gc.freeze()
        costs: dict[str, list[float]] = {name: [] for name in loops}
        for _ in range(chosen.rounds):
            pair = dict.fromkeys(loops, 0.0)
            for name in ORDER:
                pair[name] += await cost(loops[name], chosen.calls, chosen.in_flight) / 2
            for name, each in pair.items():
                costs[name].append(each)
    return costs


def interval(values: list[float]) -> tuple[float, float, float]:
    """Return the median and its 95 % interval, by order statistics: nothing is assumed of the distribution."""
    ranked, count = sorted(values), len(values)
    rank = max(0, math.floor((count - 1.96 * math.sqrt(count)) / 2))
    return statistics.median(ranked), ranked[rank], ranked[count - 1 - rank]


def report(costs: dict[str, list[float]]) -> bool:
    """Print the figures; return whether the control lets them count."""
    for name, label in (("bare", "bare aiohttp loop"), ("wxtcb", "wxtcb create_env")):
        print(f"{label:22} {statistics.median(costs[name]):7.1f} us of client CPU per call")
    ratios = {
        name: interval([mine / floor for mine, floor in zip(costs[name], costs["bare"], strict=True)])
        for name in ("wxtcb", "control")
    }
    for name, label in (("wxtcb", "wxtcb / bare"), ("control", "control: bare / bare")):
        middle, low, high = ratios[name]
        print(f"{label:22} {middle:7.3f} (95 %: {low:.3f} to {high:.3f})")
    steady = abs(ratios["control"][0] - 1) <= TOLERANCE
    if not steady:
        print(f"VOID: the control is off by more than {TOLERANCE:.0%}; run again on a quieter machine")
    return steady


def versions() -> str:
    """Say what was measured, and on what."""
    names = ("wxtcb", "aiohttp", "attrs", "cattrs", "orjson", "yarl")
    found = " ".join(f"{name} {_version(name)}" for name in names)
    return f"Python {platform.python_version()}, {platform.system()} {platform.machine()}, {found}"


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "(not installed)"


def main() -> int:
    """Measure, print, and exit with 1 if the run is void."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--calls", type=int, default=500, help="calls per block")
    parser.add_argument("--in-flight", type=int, default=32)
    parser.add_argument("--hooks", type=int, default=0, help="hooks that do nothing")
    parser.add_argument("--plain", action="store_true", help="through aiohttp.ClientSession, as with http= or proxy=")
    chosen = parser.parse_args()
    print(versions())
    print(
        f"{'plain' if chosen.plain else 'direct'} transport, {chosen.hooks} hooks, {chosen.in_flight} in flight, ",
        end="",
    )
    print(f"{chosen.rounds} rounds of {len(ORDER)} blocks of {chosen.calls} calls")
    with serving() as base_url:
        costs = asyncio.run(measure(base_url, chosen))
    return 0 if report(costs) else 1


if __name__ == "__main__":
    raise SystemExit(main())
