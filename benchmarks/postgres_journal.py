"""Cost of the journal in PostgreSQL, for the process that provisions, for the database, and for who submits.

The records of 2,000 tenants are stored, 64 tenants at a time: 5 commits each, as for a create, its environment, one
mini program and one service. Then 100,000 tenants are submitted, and submitted again without a change. The server is
the one of the tests, without fsync: what the disk costs depends on the machine only. CPU time of the database is that
of all its processes; statements are those of the commits.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Final

import attrs
from figures import Figure, Interval
from harness import main

from wxtcb.provision import PostgresJournal
from wxtcb.provision.desired import Submit
from wxtcb.provision.postgres.connection import Lane
from wxtcb.provision.record import HistoryEntry, Intent, ServiceState, TenantRecord

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.postgres_server import Postgres, start_postgres

IN_FLIGHT: Final = 64
ENTRY: Final = HistoryEntry(1.7e9, "create 1 intended under alias t0123456789abcdef")


async def measure(options: argparse.Namespace) -> list[Figure]:
    """Measure on a server of its own."""
    tenants, submitted, rounds = (20, 100, 1) if options.quick else (2_000, 100_000, 5)
    values: dict[str, list[float]] = defaultdict(list)
    server = start_postgres()
    try:
        for _ in range(rounds):
            await _measure_commits(server, tenants, values)
            await _measure_submissions(server, submitted, values)
    finally:
        server.stop()
    commits, submissions = f"{tenants:,} tenants of 5 commits", f"{submitted:,} tenants"
    return [
        Figure(f"{commits}, client, per tenant", Interval.of(values["client"]), "ms CPU", 0.3),
        Figure(f"{commits}, database, per tenant", Interval.of(values["database"]), "ms CPU", 0.15),
        Figure(f"{commits}, statements", Interval.of(values["statements"]), "", tenants / 10),
        Figure(f"submit {submissions}", Interval.of(values["submit"]), "s", 5.0),
        Figure(f"submit {submissions} again", Interval.of(values["again"]), "s", 5.0),
        Figure(f"status of one of {submissions}", Interval.of(values["status"]), "ms", 5.0),
        Figure(f"take 500 of {submissions}", Interval.of(values["take"]), "ms", 50.0),
    ]


async def _measure_commits(server: Postgres, count: int, values: dict[str, list[float]]) -> None:
    statements = Counter[str]()
    fetch = Lane.fetch

    async def counted(self: Lane, statement: str, *args: object, **options: object) -> object:
        statements[statement] += 1
        return await fetch(self, statement, *args, **options)

    async with PostgresJournal(server.url(server.create_database())) as journal:
        await journal.load()
        term = await journal.election.acquire("benchmark", 600.0)
        numbers = iter(range(count))

        async def work() -> None:
            for number in numbers:
                for record in _records(number):
                    await journal.commit(record, ENTRY, epoch=term.epoch)

        Lane.fetch = counted
        client, database = time.process_time(), _database_cpu(server)
        await asyncio.gather(*(work() for _ in range(IN_FLIGHT)))
        values["client"].append((time.process_time() - client) / count * 1e3)
        values["database"].append((_database_cpu(server) - database) / count * 1e3)
        values["statements"].append(statements.total())
        Lane.fetch = fetch


def _records(number: int) -> list[TenantRecord]:
    intended = TenantRecord(
        tenant=f"tenant-{number}",
        alias=f"t{number:016x}",
        version=1,
        attempt=1,
        intent=Intent(deadline=1.7e9, window=45.0),
    )
    bound = attrs.evolve(intended, version=2, intent=None, env=f"env-{number:010x}", tranid="1", opened_at=1.7e9)
    shared = attrs.evolve(bound, version=3, links={"wx0123456789abcdef": "https://example.com/confirm"})
    sent = attrs.evolve(shared, version=4, services={"api": ServiceState.SENT})
    return [intended, bound, shared, sent, attrs.evolve(sent, version=5, services={"api": ServiceState.DONE})]


async def _measure_submissions(server: Postgres, count: int, values: dict[str, list[float]]) -> None:
    submissions = [
        Submit(tenant=f"tenant-{number}", alias=f"t{number:016x}", spec=b'{"tenant": "tenant-%d"}' % number)
        for number in range(count)
    ]
    async with PostgresJournal(server.url(server.create_database())) as journal:
        term = await journal.election.acquire("benchmark", 600.0)
        for name in ("submit", "again"):
            started = time.perf_counter()
            await journal.desired.change(submissions)
            values[name].append(time.perf_counter() - started)
        started = time.perf_counter()
        for _ in range(100):
            await journal.desired.select([f"tenant-{count // 2}"])
        values["status"].append((time.perf_counter() - started) * 10)
        started = time.perf_counter()
        await journal.desired.take(term.epoch, 500)
        values["take"].append((time.perf_counter() - started) * 1e3)


def _database_cpu(server: Postgres) -> float:
    return sum(sum(process.cpu_times()[:2]) for process in server.processes())


if __name__ == "__main__":
    sys.exit(main(__doc__, measure, packages=("psycopg",)))
