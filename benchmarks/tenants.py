"""Time and memory of provisioning 10,000 tenants, 64 at a time.

Each tenant has an environment, one mini program and one service. The sandbox runs in another process and replies
immediately. The journal is on disk; with `--cpu` and `--slow` it is in memory. Memory is the peak during the run minus
the tenants and the report. The limit applies to the resident memory of the process, because `tracemalloc` also counts
memory that is allocated but never used: `orjson.loads` allocates twelve times the size of a list.

With `--cpu`, CPU time per tenant, compared with the same calls on bare aiohttp with 64 in flight. With `--slow`,
environments take 30 seconds to become NORMAL: elapsed time, and the number of listings per second.
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
from memory import MEGABYTE, STATUS, peak_memory, reset_peak
from provisioning import (
    SandboxProcess,
    journal_on_disk,
    make_tenants,
    provision,
    provision_on_aiohttp,
    run_sandbox,
)

from wxtcb.provision import Tenant

MAX_SLOW_SECONDS: Final = 70.0


async def measure(options: argparse.Namespace) -> list[Figure]:
    """Measure one of the three variants."""
    count = 100 if options.quick else 10_000
    if options.slow:
        return await _measure_slow(count, 0.0 if options.quick else 30.0)
    if options.cpu:
        return [await _measure_cpu(20 if options.quick else 1_000, 1 if options.quick else 24)]
    return await _measure_memory(count)


async def _measure_slow(count: int, ready_after: float) -> list[Figure]:
    with run_sandbox(ready_after=ready_after) as sandbox:
        _, seconds = await provision(sandbox, make_tenants(count))
        listings = await sandbox.count_listings()
    name = f"{count:,} tenants, {ready_after:g} s to NORMAL"
    return [
        Figure(name, Interval.exact(seconds), "s", MAX_SLOW_SECONDS),
        Figure(f"{name}: listings", Interval.exact(listings / seconds), "per second", 1.0),
    ]


async def _measure_memory(count: int) -> list[Figure]:
    tenants = make_tenants(count)
    gc.collect()
    with run_sandbox() as sandbox:
        async with journal_on_disk() as journal:
            before = reset_peak()
            report, seconds = await provision(sandbox, tenants, journal)
            resident = peak_memory() - before
    del report
    allocated, report_size, unreleased = await _trace(count)
    name = f"{count:,} tenants"
    figures = [
        Figure(f"{name}, sandbox replies immediately", Interval.exact(seconds), "s"),
        Figure(f"{name}: peak allocated memory (tracemalloc)", Interval.exact(allocated), "MB"),
        Figure(f"{name}: memory not released, without the report", Interval.exact(unreleased), "MB"),
    ]
    if STATUS.exists():
        figures.append(Figure(f"{name}: peak resident memory", Interval.exact(resident - report_size), "MB", 40.0))
    return figures


async def _trace(count: int) -> tuple[float, float, float]:
    """Return three sizes in megabytes, without the tenants: peak without report, report, and unreleased memory."""
    tenants = make_tenants(count)
    gc.collect()
    tracemalloc.start()
    with run_sandbox() as sandbox:
        async with journal_on_disk() as journal:
            report, _ = await provision(sandbox, tenants, journal)
    _, peak = tracemalloc.get_traced_memory()
    gc.collect()
    with_report, _ = tracemalloc.get_traced_memory()
    del report
    gc.collect()
    unreleased, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    report_size = with_report - unreleased
    return (peak - report_size) / MEGABYTE, report_size / MEGABYTE, unreleased / MEGABYTE


async def _measure_cpu(count: int, rounds: int) -> Figure:
    works = {"baseline": provision_on_aiohttp, "wxtcb": _provision, "control": provision_on_aiohttp}
    costs = await interleave({name: _block(work, count) for name, work in works.items()}, rounds)
    return Figure(
        f"{count:,} tenants, per tenant",
        Interval.ratio(costs["wxtcb"], costs["baseline"]),
        value=statistics.median(costs["wxtcb"]),
        baseline=statistics.median(costs["baseline"]),
        value_unit="us CPU",
        baseline_name="the same calls on bare aiohttp",
        control=Interval.ratio(costs["control"], costs["baseline"]),
    )


async def _provision(sandbox: SandboxProcess, tenants: list[Tenant]) -> None:
    await provision(sandbox, tenants)


def _block(work: Callable[[SandboxProcess, list[Tenant]], Awaitable[None]], count: int) -> Block:
    """Return a block of *count* tenants in a new sandbox; it costs microseconds of CPU time per tenant."""

    async def block() -> float:
        tenants = make_tenants(count)
        with run_sandbox() as sandbox:
            started = time.process_time()
            await work(sandbox, tenants)
            return (time.process_time() - started) / count * 1e6

    return block


if __name__ == "__main__":
    raise SystemExit(main(__doc__, measure, "cpu", "slow"))
