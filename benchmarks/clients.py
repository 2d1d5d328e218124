"""What does a call cost the client's processor, beside the clients that people use?

Everybody posts the same JSON to the same server with 32 calls in flight and reads the reply's JSON.

- aiohttp as people write it: one session, `json=`, `params=`, `async with`, `reply.json()`;
- httpx: one `AsyncClient`, `json=`, `params=`, `reply.json()`;
- wechatpy knows none of these calls and is not asynchronous: `WeChatClient.post` with the path, its base URL pointed at
  the server, in 32 threads, and its pool of connections widened to 32 so that none is thrown away.
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
from harness import Block, Call, calling, interleave, main
from loops import ALIAS, PATH, TOKEN, Place, bare, library, serving
from requests.adapters import HTTPAdapter
from wechatpy.client import WeChatClient

IN_FLIGHT: Final = 32
BARS: Final = {"aiohttp as people write it": 0.95, "httpx": 0.25, "wechatpy, 32 threads": 0.25}


@contextlib.asynccontextmanager
async def plain_aiohttp(place: Place) -> AsyncIterator[Call]:
    """Open a session and call as the tutorial does."""
    url = place.url + PATH
    async with aiohttp.ClientSession() as http:

        async def call() -> object:
            async with http.post(url, params={"access_token": TOKEN}, json={"alias": ALIAS}) as reply:
                reply.raise_for_status()
                return await reply.json()

        yield call


@contextlib.asynccontextmanager
async def over_httpx(place: Place) -> AsyncIterator[Call]:
    """Open a client and call as the tutorial does."""
    url = place.url + PATH
    async with httpx.AsyncClient() as http:

        async def call() -> object:
            reply = await http.post(url, params={"access_token": TOKEN}, json={"alias": ALIAS})
            return reply.raise_for_status().json()

        yield call


class PointedClient(WeChatClient):
    """A client of wechatpy for another address, with a pool as large as needed."""

    def __init__(self, place: Place) -> None:
        super().__init__("wx0123456789abcdef", "bench", access_token=TOKEN)
        self.API_BASE_URL = place.url
        self._http.mount("http://", HTTPAdapter(pool_maxsize=IN_FLIGHT))


@contextlib.contextmanager
def over_wechatpy(place: Place, calls: int) -> Iterator[Block]:
    """Make a block of calls in threads; the processor time of all threads counts."""
    client = PointedClient(place)

    def call(_: int) -> object:
        return client.post(PATH, data={"alias": ALIAS})

    with ThreadPoolExecutor(IN_FLIGHT) as pool:

        async def block() -> float:
            started = time.process_time()
            await asyncio.to_thread(lambda: list(pool.map(call, range(calls))))
            return (time.process_time() - started) / calls * 1e6

        yield block


async def measure(chosen: argparse.Namespace) -> list[Figure]:
    """Take turns; the control is a second aiohttp as people write it."""
    rounds, calls = (1, 64) if chosen.quick else (40, 320)
    with serving() as place:
        async with contextlib.AsyncExitStack() as stack:
            ways = {
                "aiohttp as people write it": plain_aiohttp(place),
                "wxtcb": library(place),
                "httpx": over_httpx(place),
                "tuned": bare(place),
                "control": plain_aiohttp(place),
            }
            opened = {name: await stack.enter_async_context(way) for name, way in ways.items()}
            blocks = {name: calling(call, calls, IN_FLIGHT) for name, call in opened.items()}
            blocks["wechatpy, 32 threads"] = stack.enter_context(over_wechatpy(place, calls))
            costs = await interleave(blocks, rounds)
    return [_figure(costs, other) for other in BARS]


def _figure(costs: dict[str, list[float]], other: str) -> Figure:
    return Figure(
        f"wxtcb / {other}",
        Interval.ratio(costs["wxtcb"], costs[other]),
        bar=BARS[other],
        ours=statistics.median(costs["wxtcb"]),
        floor=statistics.median(costs[other]),
        measure="us CPU",
        beside="the client named",
        control=Interval.ratio(costs["control"], costs["aiohttp as people write it"]),
    )


if __name__ == "__main__":
    raise SystemExit(main(__doc__, measure, packages=["httpx", "wechatpy", "requests"]))
