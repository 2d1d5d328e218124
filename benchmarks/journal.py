"""Cost of the journal on disk, and of planning for many tenants.

1,000 tenants, each with an environment, one mini program and one service, are provisioned 64 at a time with
`SqliteJournal` in a file. The sandbox runs in another process and replies immediately. The baseline is the journal in
memory. CPU time is that of all threads of the client process.

With `--plan`, 100,000 tenants are planned and queued: once with an empty journal on disk, and once with a journal that
contains all of them, each with an environment that the platform lists. Measured are time and memory from before the
tenants are created until the first one is started.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import tempfile
import time
from collections import defaultdict
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

from figures import Figure, Interval
from harness import Block, interleave, main
from memory import STATUS, peak_memory, reset_peak
from provisioning import SandboxProcess, journal_on_disk, make_tenants, provision, run_sandbox

from wxtcb.provision import Provisioner, SqliteJournal, Tenant, TenantRecord
from wxtcb.provision.journal import Committed
from wxtcb.provision.record import HistoryEntry

BASELINE: Final = "the journal in memory"


async def measure(options: argparse.Namespace) -> list[Figure]:
    """Measure one of the two variants."""
    if options.plan:
        count = 1_000 if options.quick else 100_000
        return [figure for recorded in (False, True) for figure in await _measure_plan(count, recorded=recorded)]
    return await _measure_cost(20 if options.quick else 1_000, 1 if options.quick else 8)


async def _measure_cost(count: int, rounds: int) -> list[Figure]:
    seconds: dict[str, list[float]] = defaultdict(list)
    variants = {"baseline": False, "on disk": True, "control": False}
    costs = await interleave(
        {name: _block(count, seconds[name], on_disk=on_disk) for name, on_disk in variants.items()}, rounds
    )
    walls = {name: _paired(each) for name, each in seconds.items()}
    differences = [
        (value - baseline) / 1e3 for value, baseline in zip(costs["on disk"], costs["baseline"], strict=True)
    ]
    name = f"{count:,} tenants, per tenant"
    return [
        Figure(f"{name}, minus {BASELINE}", Interval.of(differences), "ms CPU", 0.5),
        _compare(name, costs, "us CPU", None),
        _compare(f"{count:,} tenants, wall time", walls, "s", 1.35),
    ]


def _compare(name: str, costs: dict[str, list[float]], value_unit: str, limit: float | None) -> Figure:
    return Figure(
        name,
        Interval.ratio(costs["on disk"], costs["baseline"]),
        limit=limit,
        value=statistics.median(costs["on disk"]),
        baseline=statistics.median(costs["baseline"]),
        value_unit=value_unit,
        baseline_name=BASELINE,
        control=Interval.ratio(costs["control"], costs["baseline"]),
    )


def _paired(values: list[float]) -> list[float]:
    """Return the mean of the two values of each round without the warm-up, as `interleave` does with its costs."""
    if len(values) == 1:
        return values
    return [(one + other) / 2 for one, other in zip(values[1::2], values[2::2], strict=True)]


def _block(count: int, seconds: list[float], *, on_disk: bool) -> Block:
    """Return a block of *count* tenants; it costs microseconds of CPU time per tenant.

    Each run of it appends its wall time to *seconds*.
    """

    async def block() -> float:
        tenants = make_tenants(count)
        with run_sandbox() as sandbox:
            async with AsyncExitStack() as stack:
                journal = await stack.enter_async_context(journal_on_disk()) if on_disk else None
                started = time.process_time()
                seconds.append((await provision(sandbox, tenants, journal))[1])
                return (time.process_time() - started) / count * 1e6

    return block


async def _measure_plan(count: int, *, recorded: bool) -> list[Figure]:
    with run_sandbox(opened=count if recorded else 0) as sandbox, tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "journal.db"
        if recorded:
            await _record_tenants(path, make_tenants(count), sandbox)
        gc.collect()
        memory_before, started = reset_peak(), time.perf_counter()
        async with (
            sandbox.session() as session,
            SqliteJournal(path) as journal,
            Provisioner(session, journal=journal) as provisioner,
        ):
            run = provisioner.apply(await provisioner.plan(make_tenants(count), all_tenants=True))
            await anext(run.events())
            seconds, memory = time.perf_counter() - started, peak_memory() - memory_before
            await run.cancel(grace=0)
    name = f"{count:,} tenants planned and queued, {'all with an environment' if recorded else 'all new'}"
    figures = [Figure(name, Interval.exact(seconds), "s", 5.0)]
    if STATUS.exists():
        figures.append(Figure(f"{name}: peak resident memory", Interval.exact(memory), "MB", 150.0))
    return figures


async def _record_tenants(path: Path, tenants: list[Tenant], sandbox: SandboxProcess) -> None:
    """Write a record for each tenant to the journal, with the environment that the sandbox lists for it."""
    async with sandbox.session() as session, SqliteJournal(path) as journal, Provisioner(session, journal=journal):
        for number, tenant in enumerate(tenants):
            alias = tenant.resolve_alias(session.component_appid)
            record = TenantRecord(
                tenant=tenant.name, alias=alias, version=1, attempt=1, env=f"env-{number}", opened_at=0.0
            )
            result = await journal.commit(record, HistoryEntry(0.0, "noted"))
            assert result == Committed()


if __name__ == "__main__":
    raise SystemExit(main(__doc__, measure, "plan"))
