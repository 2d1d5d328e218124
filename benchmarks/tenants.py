"""What does it take to provision 10,000 tenants, 64 at a time?

Each has an environment, one mini program and one service. The sandbox is in another process and answers at once; the
journal is on the disk, as for whoever provisions so many (with `--cpu` and `--slow` it is in memory). Memory is the
peak during the run less what was there before (the specifications) and what is left after it (the results). What counts
is the resident set of the process: `tracemalloc` also counts what is asked for and never touched, and
`orjson.loads` asks for twelve times the size of a list.

With `--cpu`: what does a tenant cost the processor, beside the same calls on bare aiohttp, 64 in flight? With `--slow`,
where environments take 30 seconds to become NORMAL: how long does it take, and how often is looked?
"""

from __future__ import annotations

import argparse
import gc
import statistics
import time
import tracemalloc
from collections.abc import Awaitable, Callable
from typing import Final

from figures import Figure, Interval
from harness import Block, interleave, main
from memory import MEGABYTE, STATUS, forget_peak, peak
from provisioning import Box, by_hand, journal_on_disk, make_tenants, provision, sandboxed

from wxtcb.provision import Tenant

ABOUT_A_MINUTE: Final = 70.0


async def measure(chosen: argparse.Namespace) -> list[Figure]:
    """Measure one of the three variants."""
    count = 100 if chosen.quick else 10_000
    if chosen.slow:
        return await _measure_slow(count, 0.0 if chosen.quick else 30.0)
    if chosen.cpu:
        return [await _compare(20 if chosen.quick else 1_000, 1 if chosen.quick else 24)]
    return await _measure_memory(count)


async def _measure_slow(count: int, ready_after: float) -> list[Figure]:
    with sandboxed(ready_after=ready_after) as box:
        _, seconds = await provision(box, make_tenants(count))
        looks = await box.looks()
    name = f"{count:,} tenants, {ready_after:g} s to NORMAL"
    return [
        Figure(name, Interval.exactly(seconds), "s", ABOUT_A_MINUTE),
        Figure(f"{name}: looks", Interval.exactly(looks / seconds), "a second", 1.0),
    ]


async def _measure_memory(count: int) -> list[Figure]:
    tenants = make_tenants(count)
    gc.collect()
    with sandboxed() as box:
        async with journal_on_disk() as journal:
            before = forget_peak()
            report, seconds = await provision(box, tenants, journal)
            resident = peak() - before
    del report
    asked_for, results, left = await _trace(count)
    what = f"{count:,} tenants"
    figures = [
        Figure(f"{what}, a sandbox that answers at once", Interval.exactly(seconds), "s"),
        Figure(f"{what}: memory asked for", Interval.exactly(asked_for), "MB"),
        Figure(f"{what}: memory left besides the report", Interval.exactly(left), "MB"),
    ]
    if STATUS.exists():
        figures.append(Figure(f"{what}: memory resident", Interval.exactly(resident - results), "MB", 40.0))
    return figures


async def _trace(count: int) -> tuple[float, float, float]:
    """Return the megabytes asked for besides specifications and results, those of the results, and what else stays."""
    tenants = make_tenants(count)
    gc.collect()
    tracemalloc.start()
    with sandboxed() as box:
        async with journal_on_disk() as journal:
            report, _ = await provision(box, tenants, journal)
    _, peak = tracemalloc.get_traced_memory()
    gc.collect()
    after, _ = tracemalloc.get_traced_memory()
    del report
    gc.collect()
    left, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return (peak - (after - left)) / MEGABYTE, (after - left) / MEGABYTE, left / MEGABYTE


async def _compare(count: int, rounds: int) -> Figure:
    costs = await interleave(
        {"floor": _timing(by_hand, count), "ours": _timing(_provision, count), "control": _timing(by_hand, count)},
        rounds,
    )
    return Figure(
        f"{count:,} tenants, per tenant",
        Interval.ratio(costs["ours"], costs["floor"]),
        ours=statistics.median(costs["ours"]),
        floor=statistics.median(costs["floor"]),
        measure="us CPU",
        beside="the same calls on bare aiohttp",
        control=Interval.ratio(costs["control"], costs["floor"]),
    )


async def _provision(box: Box, tenants: list[Tenant]) -> None:
    await provision(box, tenants)


def _timing(work: Callable[[Box, list[Tenant]], Awaitable[None]], count: int) -> Block:
    """Make a block of *count* tenants in a new sandbox; it costs microseconds of processor time per tenant."""

    async def block() -> float:
        tenants = make_tenants(count)
        with sandboxed() as box:
            started = time.process_time()
            await work(box, tenants)
            return (time.process_time() - started) / count * 1e6

    return block


if __name__ == "__main__":
    raise SystemExit(main(__doc__, measure, "cpu", "slow"))
