"""Client CPU time of one call, compared with other HTTP clients.

Each client posts the same JSON to the same server, with 32 calls in flight, and parses the JSON of the reply.

- aiohttp, typical use: one session, `json=`, `params=`, `async with`, `reply.json()`;
- httpx: one `AsyncClient`, `json=`, `params=`, `reply.json()`;
- wechatpy has none of these calls and is not asynchronous: `WeChatClient.post` gets the path, its base URL is that of
  the server, and it runs in 32 threads. Its pool is enlarged to 32 connections, so that none is discarded.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import statistics
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import aiohttp
import httpx
from figures import Figure, Interval
from harness import Block, Call, call_block, interleave, main
from loops import ALIAS, PATH, TOKEN, Target, bare_aiohttp, run_server, wxtcb_call
from requests.adapters import HTTPAdapter
from wechatpy.client import WeChatClient

IN_FLIGHT: Final = 32
TYPICAL: Final = "aiohttp, typical use"
LIMITS: Final = {TYPICAL: 0.95, "httpx": 0.25, "wechatpy, 32 threads": 0.25}


@contextlib.asynccontextmanager
async def typical_aiohttp(target: Target) -> AsyncIterator[Call]:
    """Open a session that calls as aiohttp's documentation shows it."""
    url = target.url + PATH
    async with aiohttp.ClientSession() as http:

        async def call() -> object:
            async with http.post(url, params={"access_token": TOKEN}, json={"alias": ALIAS}) as reply:
                reply.raise_for_status()
                return await reply.json()

        yield call


@contextlib.asynccontextmanager
async def httpx_client(target: Target) -> AsyncIterator[Call]:
    """Open a client that calls as httpx's documentation shows it."""
    url = target.url + PATH
    async with httpx.AsyncClient() as http:

        async def call() -> object:
            reply = await http.post(url, params={"access_token": TOKEN}, json={"alias": ALIAS})
            return reply.raise_for_status().json()

        yield call


class LocalWeChatClient(WeChatClient):
    """A client of wechatpy with another base URL and a larger pool."""

    def __init__(self, target: Target) -> None:
        super().__init__("wx0123456789abcdef", "bench", access_token=TOKEN)
        self.API_BASE_URL = target.url
        self._http.mount("http://", HTTPAdapter(pool_maxsize=IN_FLIGHT))


@contextlib.contextmanager
def wechatpy_block(target: Target, calls: int) -> Iterator[Block]:
    """Return a block of *calls* calls in threads; it costs microseconds of CPU time per call, of all threads."""
    client = LocalWeChatClient(target)

    def call(_: int) -> object:
        return client.post(PATH, data={"alias": ALIAS})

    with ThreadPoolExecutor(IN_FLIGHT) as pool:

        async def block() -> float:
            started = time.process_time()
            await asyncio.to_thread(lambda: list(pool.map(call, range(calls))))
            return (time.process_time() - started) / calls * 1e6

        yield block


async def measure(options: argparse.Namespace) -> list[Figure]:
    """Measure all clients; the control is a second `typical_aiohttp`."""
    rounds, calls = (1, 64) if options.quick else (40, 320)
    with run_server() as target:
        async with contextlib.AsyncExitStack() as stack:
            variants = {
                TYPICAL: typical_aiohttp(target),
                "wxtcb": wxtcb_call(target),
                "httpx": httpx_client(target),
                "tuned": bare_aiohttp(target),
                "control": typical_aiohttp(target),
            }
            opened = {name: await stack.enter_async_context(variant) for name, variant in variants.items()}
            blocks = {name: call_block(call, calls, IN_FLIGHT) for name, call in opened.items()}
            blocks["wechatpy, 32 threads"] = stack.enter_context(wechatpy_block(target, calls))
            costs = await interleave(blocks, rounds)
    return [_figure(costs, other) for other in LIMITS]


def _figure(costs: dict[str, list[float]], other: str) -> Figure:
    return Figure(
        f"wxtcb / {other}",
        Interval.ratio(costs["wxtcb"], costs[other]),
        limit=LIMITS[other],
        value=statistics.median(costs["wxtcb"]),
        baseline=statistics.median(costs[other]),
        value_unit="us CPU",
        baseline_name="the other client",
        control=Interval.ratio(costs["control"], costs[TYPICAL]),
    )


if __name__ == "__main__":
    raise SystemExit(main(__doc__, measure, packages=["httpx", "wechatpy", "requests"]))
