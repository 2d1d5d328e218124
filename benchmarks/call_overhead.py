"""Client CPU time of one call, compared with a tuned loop over bare aiohttp.

The loop has a prepared URL, headers on the session, orjson and the same timeouts; no retries, no token refresh and no
typed reply. Both call the same server, over HTTP and TLS, with 1, 32 and 256 calls in flight. wxtcb runs without hooks
and with two hooks.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
from typing import Final

from figures import Figure, Interval
from harness import call_block, interleave, main
from loops import Target, bare_aiohttp, run_server, wxtcb_call

LIMITS: Final = {(32, 0): 1.08, (32, 2): 1.12}
SCHEMES: Final = {"http": "HTTP", "https": "TLS"}


def _ignore(_: object) -> None:
    """Do nothing: the cheapest possible hook."""


async def measure(options: argparse.Namespace) -> list[Figure]:
    """Measure each scheme with each number of calls in flight."""
    rounds, calls = (1, 64) if options.quick else (60, 500)
    figures = []
    for scheme in SCHEMES:
        with run_server(scheme) as target:
            for in_flight in (1, 32, 256):
                costs = await _measure_costs(target, in_flight, rounds, max(calls, in_flight))
                figures += [_figure(costs, scheme, in_flight, hooks) for hooks in (0, 2)]
    return figures


async def _measure_costs(target: Target, in_flight: int, rounds: int, calls: int) -> dict[str, list[float]]:
    async with contextlib.AsyncExitStack() as stack:
        enter, connections = stack.enter_async_context, max(100, in_flight)
        variants = {
            "baseline": await enter(bare_aiohttp(target)),
            "0 hooks": await enter(wxtcb_call(target, connections=connections)),
            "2 hooks": await enter(wxtcb_call(target, connections=connections, hooks=[_ignore, lambda _: None])),
            "control": await enter(bare_aiohttp(target)),
        }
        return await interleave({name: call_block(call, calls, in_flight) for name, call in variants.items()}, rounds)


def _figure(costs: dict[str, list[float]], scheme: str, in_flight: int, hooks: int) -> Figure:
    values, baseline = costs[f"{hooks} hooks"], costs["baseline"]
    return Figure(
        f"{SCHEMES[scheme]}, {in_flight} in flight, {'two hooks' if hooks else 'no hook'}",
        Interval.ratio(values, baseline),
        limit=LIMITS.get((in_flight, hooks)),
        value=statistics.median(values),
        baseline=statistics.median(baseline),
        value_unit="us CPU",
        baseline_name="a tuned loop over bare aiohttp",
        control=Interval.ratio(costs["control"], baseline),
    )


if __name__ == "__main__":
    raise SystemExit(main(__doc__, measure))
