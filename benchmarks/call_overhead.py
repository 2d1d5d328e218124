"""What does a call cost the client's processor, beside a tuned loop over bare aiohttp?

The loop has a ready URL, headers on the session, orjson, the same timeouts, and no retries, renewal or typed reply.
Both call the same server, over HTTP and over TLS, with 1, 32 and 256 calls in flight, without hooks and with two.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
from typing import Final

from figures import Figure, Interval
from harness import calling, interleave, main
from loops import Place, bare, library, serving

BARS: Final = {(32, 0): 1.08, (32, 2): 1.12}
SCHEMES: Final = {"http": "HTTP", "https": "TLS"}
FLOOR: Final = "a tuned loop over bare aiohttp"


def _ignore(_: object) -> None:
    """Listen, as the cheapest hook there is."""


async def measure(chosen: argparse.Namespace) -> list[Figure]:
    """Take turns, for every number in flight and both schemes."""
    rounds, calls = (1, 64) if chosen.quick else (60, 500)
    found = []
    for scheme in SCHEMES:
        with serving(scheme) as place:
            for in_flight in (1, 32, 256):
                costs = await _take_turns(place, in_flight, rounds, max(calls, in_flight))
                found += [_figure(costs, scheme, in_flight, hooks) for hooks in (0, 2)]
    return found


async def _take_turns(place: Place, in_flight: int, rounds: int, calls: int) -> dict[str, list[float]]:
    async with contextlib.AsyncExitStack() as stack:
        enter, connections = stack.enter_async_context, max(100, in_flight)
        ways = {
            "floor": await enter(bare(place)),
            "0 hooks": await enter(library(place, connections=connections)),
            "2 hooks": await enter(library(place, connections=connections, hooks=[_ignore, lambda _: None])),
            "control": await enter(bare(place)),
        }
        return await interleave({name: calling(call, calls, in_flight) for name, call in ways.items()}, rounds)


def _figure(costs: dict[str, list[float]], scheme: str, in_flight: int, hooks: int) -> Figure:
    ours, floor = costs[f"{hooks} hooks"], costs["floor"]
    return Figure(
        f"{SCHEMES[scheme]}, {in_flight} in flight, {'two hooks' if hooks else 'no hook'}",
        Interval.ratio(ours, floor),
        bar=BARS.get((in_flight, hooks)),
        ours=statistics.median(ours),
        floor=statistics.median(floor),
        measure="us CPU",
        beside=FLOOR,
        control=Interval.ratio(costs["control"], floor),
    )


if __name__ == "__main__":
    raise SystemExit(main(__doc__, measure))
