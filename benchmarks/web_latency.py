"""How much slower is a web app while 10,000 tenants are provisioned beside it, in the same event loop?

A visitor in another process asks the app every 5 ms and takes the time from when each request was due. First it has
the app to itself, then 10,000 tenants are provisioned, 64 at a time, against a sandbox in a third process that answers
after 50 ms, and then it has the app to itself again: the control.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable
from typing import Final

import orjson
from aiohttp import web
from figures import Figure, Interval
from harness import child, main
from provisioning import make_tenants, provision, sandboxed

EVERY: Final = 0.005
BAR: Final = 10.0


async def _greet(_: web.BaseRequest) -> web.Response:
    return web.json_response({"hello": "world"})


@contextlib.asynccontextmanager
async def app() -> AsyncIterator[int]:
    """Serve a web app in this event loop; give its port."""
    runner = web.ServerRunner(web.Server(_greet, access_log=None))
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


async def visited(port: int, meanwhile: Awaitable[object]) -> Interval:
    """Return the p99 of the visitor's latencies, in milliseconds."""
    with child("visitor.py", str(port), str(EVERY)) as visitor:
        await meanwhile
        latencies = orjson.loads(await asyncio.to_thread(visitor.end))
    return Interval.of([latency * 1e3 for latency in latencies], 0.99)


async def measure(chosen: argparse.Namespace) -> list[Figure]:
    """Visit before, during and after."""
    count, pause = (50, 0.2) if chosen.quick else (10_000, 15.0)
    tenants = make_tenants(count)
    async with app() as port:
        with sandboxed(slow=0.05, nice=10) as box:
            before = await visited(port, asyncio.sleep(pause))
            during = await visited(port, provision(box, tenants))
            after = await visited(port, asyncio.sleep(pause))
    return [
        _figure(f"p99 beside {count:,} tenants, less p99 alone", during, before, BAR),
        _figure("control: p99 alone afterwards, less p99 alone", after, before, None),
    ]


def _figure(name: str, ours: Interval, alone: Interval, bar: float | None) -> Figure:
    more = Interval(ours.median - alone.median, ours.low - alone.high, ours.high - alone.low)
    return Figure(name, more, "ms", bar, ours.median, alone.median, "ms", "the web app alone, before")


if __name__ == "__main__":
    raise SystemExit(main(__doc__, measure))
