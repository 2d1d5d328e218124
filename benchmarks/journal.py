"""What does the journal on disk cost, and how many tenants can be planned for?

1,000 tenants with an environment, one mini program and one service each, 64 at a time, against a sandbox in another
process that answers at once; with `SqliteJournal` in a file, beside the journal in memory. The processor time is of all
threads of the client's process.

With `--plan`: 100,000 tenants are planned for and queued, once with an empty journal on disk and once with one that
knows them all, each with an environment that the platform lists; time and memory from before the tenants are made until
the first of them is started.
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
from memory import STATUS, forget_peak, peak
from provisioning import Box, journal_on_disk, make_tenants, provision, sandboxed

from wxtcb.provision import Provisioner, SqliteJournal, Tenant, TenantRecord
from wxtcb.provision.journal import HistoryEntry

FLOOR: Final = "the journal in memory"


async def measure(chosen: argparse.Namespace) -> list[Figure]:
    """Measure one of the two variants."""
    if chosen.plan:
        count = 1_000 if chosen.quick else 100_000
        return [figure for known in (False, True) for figure in await _measure_plan(count, known=known)]
    return await _measure_cost(20 if chosen.quick else 1_000, 1 if chosen.quick else 8)


async def _measure_cost(count: int, rounds: int) -> list[Figure]:
    seconds: dict[str, list[float]] = defaultdict(list)
    blocks = {"floor": False, "ours": True, "control": False}
    costs = await interleave(
        {name: _block(count, seconds[name], on_disk=on_disk) for name, on_disk in blocks.items()}, rounds
    )
    walls = {name: _paired(each) for name, each in seconds.items()}
    more = [(ours - floor) / 1e3 for ours, floor in zip(costs["ours"], costs["floor"], strict=True)]
    what = f"{count:,} tenants, per tenant"
    return [
        Figure(f"{what}: more than {FLOOR}", Interval.of(more), "ms CPU", 0.5),
        _compare(what, costs, "us CPU", None),
        _compare(f"{count:,} tenants, wall time", walls, "s", 1.35),
    ]


def _compare(what: str, found: dict[str, list[float]], measured: str, bar: float | None) -> Figure:
    ours, floor = statistics.median(found["ours"]), statistics.median(found["floor"])
    control = Interval.ratio(found["control"], found["floor"])
    result = Interval.ratio(found["ours"], found["floor"])
    return Figure(what, result, bar=bar, ours=ours, floor=floor, measure=measured, beside=FLOOR, control=control)


def _paired(values: list[float]) -> list[float]:
    """Average the two of each round, as `interleave` does with what a block returns, and leave the warm-up out."""
    if len(values) == 1:
        return values
    return [(one + other) / 2 for one, other in zip(values[1::2], values[2::2], strict=True)]


def _block(count: int, seconds: list[float], *, on_disk: bool) -> Block:
    """Make a block of *count* tenants; it costs microseconds of processor time each, and notes how long all took."""

    async def block() -> float:
        tenants = make_tenants(count)
        with sandboxed() as box:
            async with AsyncExitStack() as stack:
                journal = await stack.enter_async_context(journal_on_disk()) if on_disk else None
                started = time.process_time()
                seconds.append((await provision(box, tenants, journal))[1])
                return (time.process_time() - started) / count * 1e6

    return block


async def _measure_plan(count: int, *, known: bool) -> list[Figure]:
    with sandboxed(opened=count if known else 0) as box, tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "journal.db"
        if known:
            await _fill(path, make_tenants(count), box)
        gc.collect()
        before, started = forget_peak(), time.perf_counter()
        async with box.session() as session, SqliteJournal(path) as journal, Provisioner(session, journal=journal) as p:
            run = p.apply(await p.plan(make_tenants(count), all_tenants=True))
            await anext(run.events())
            took, used = time.perf_counter() - started, peak() - before
            await run.cancel(grace=0)
    what = f"{count:,} tenants planned and queued, {'all with an environment' if known else 'none known'}"
    figures = [Figure(what, Interval.exactly(took), "s", 5.0)]
    if STATUS.exists():
        figures.append(Figure(f"{what}: memory resident", Interval.exactly(used), "MB", 150.0))
    return figures


async def _fill(path: Path, tenants: list[Tenant], box: Box) -> None:
    """Let the journal know every tenant, each with the environment that the sandbox lists for it."""
    async with box.session() as session, SqliteJournal(path) as journal, Provisioner(session, journal=journal):
        for number, tenant in enumerate(tenants):
            alias = tenant.resolve_alias(session.component_appid)
            record = TenantRecord(
                tenant=tenant.name, alias=alias, version=1, attempt=1, env=f"env-{number}", opened_at=0.0
            )
            await journal.commit(record, HistoryEntry(0.0, "noted"))


if __name__ == "__main__":
    raise SystemExit(main(__doc__, measure, "plan"))
