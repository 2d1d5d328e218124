"""Latency of a web app while 10,000 tenants are provisioned in the same event loop.

A client in another process sends a request to the app every 5 ms; a latency counts from when the request was due. First
the app runs alone. Then 10,000 tenants are provisioned, 64 at a time, against a sandbox in a third process that replies
after 50 ms. Then the app runs alone again, which is the control.
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
from harness import main, run_script
from provisioning import make_tenants, provision, run_sandbox

INTERVAL: Final = 0.005
LIMIT: Final = 10.0


async def _greet(_: web.BaseRequest) -> web.Response:
    return web.json_response({"hello": "world"})


@contextlib.asynccontextmanager
async def run_app() -> AsyncIterator[int]:
    """Serve a web app in this event loop, and yield its port."""
    runner = web.ServerRunner(web.Server(_greet, access_log=None))
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


async def measure_p99(port: int, meanwhile: Awaitable[object]) -> Interval:
    """Return the p99 of the client's latencies until *meanwhile* is done, in milliseconds."""
    with run_script("latency_client.py", str(port), str(INTERVAL)) as client:
        await meanwhile
        latencies = orjson.loads(await asyncio.to_thread(client.finish))
    return Interval.of([latency * 1e3 for latency in latencies], 0.99)


async def measure(options: argparse.Namespace) -> list[Figure]:
    """Measure before, during and after the provisioning."""
    count, pause = (50, 0.2) if options.quick else (10_000, 15.0)
    tenants = make_tenants(count)
    async with run_app() as port:
        # The nice value keeps the sandbox from competing with the app and its client for the processor.
        with run_sandbox(slow=0.05, nice=10) as sandbox:
            before = await measure_p99(port, asyncio.sleep(pause))
            during = await measure_p99(port, provision(sandbox, tenants))
            after = await measure_p99(port, asyncio.sleep(pause))
    return [
        _figure(f"p99 while {count:,} tenants are provisioned, minus p99 alone", during, before, LIMIT),
        _figure("control: p99 alone afterwards, minus p99 alone before", after, before, None),
    ]


def _figure(name: str, value: Interval, alone: Interval, limit: float | None) -> Figure:
    difference = Interval(value.median - alone.median, value.low - alone.high, value.high - alone.low)
    return Figure(name, difference, "ms", limit, value.median, alone.median, "ms", "the web app alone, before")


if __name__ == "__main__":
    raise SystemExit(main(__doc__, measure))
