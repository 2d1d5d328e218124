"""The file of a SqliteJournal after power failures and kills: all stored records are there, and nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import random
import sqlite3
import subprocess
import sys
from functools import partial
from pathlib import Path

import attrs
import pytest

import wxtcb
from wxtcb._files.sqlite import UnusableFile
from wxtcb.provision.desired import DesiredState, Submit
from wxtcb.provision.journal import Committed
from wxtcb.provision.record import HistoryEntry, Intent, TenantRecord
from wxtcb.provision.sqlite import schema
from wxtcb.provision.sqlite.file import JournalFile
from wxtcb.provision.sqlite.journal import SqliteJournal

from .journal_records import read_in_other_process

# Sizes in a -wal file: https://www.sqlite.org/fileformat.html#the_write_ahead_log
FRAME = 24 + 4096
HEAD = 32

PROGRAM = """
import asyncio, os, sys
import attrs
from wxtcb.provision.journal import Committed
from wxtcb.provision.record import HistoryEntry, TenantRecord
from wxtcb.provision.sqlite.journal import SqliteJournal

async def work(journal, record):
    while True:
        record = attrs.evolve(record, version=record.version + 1)
        assert await journal.commit(record, HistoryEntry(1.0, "noted")) == Committed()
        os.write(1, f"{record.tenant} {record.version}\\n".encode())

async def main():
    async with SqliteJournal(sys.argv[1]) as journal:
        names = [f"tenant-{number}" for number in range(16)]
        stored = await journal.load(names)
        os.write(1, b"begun 0\\n")
        records = (stored.get(name) or TenantRecord(tenant=name, alias=name) for name in names)
        await asyncio.gather(*(work(journal, record) for record in records))

asyncio.run(main())
"""


@attrs.frozen
class Disk:
    """Contents of the disk after a commit, and the records and histories that the journal had then."""

    main: bytes
    log: bytes
    records: dict
    histories: dict


async def record_disks(path, wal_pages):
    """Return the contents of the disk after each batch of creates and bindings; the first is empty."""
    disks = [Disk(b"", b"", {}, {})]
    async with SqliteJournal(path) as journal:
        await journal._thread.run(lambda db: db.execute(f"PRAGMA wal_autocheckpoint = {wal_pages}").close())
        records = {}
        for batch in range(12):
            names = [f"tenant-{(batch + number) % 5}" for number in range(1 + batch % 3)]
            for name in names:
                before = records.get(name) or TenantRecord(tenant=name, alias=f"t{name}")
                more = {"env": f"env-{name}"} if before.intent else {"intent": Intent(deadline=9.0)}
                records[name] = attrs.evolve(
                    before, version=before.version + 1, metadata={"x": "y" * 900 * batch}, **more
                )
            entries = [HistoryEntry(float(batch), f"version {records[name].version}") for name in names]
            stored = zip(names, entries, strict=True)
            results = await asyncio.gather(*(journal.commit(records[name], entry) for name, entry in stored))
            assert [*results] == [Committed()] * len(names)
            disks.append(
                Disk(
                    read_in_other_process(path),
                    read_in_other_process(f"{path}-wal"),
                    dict(records),
                    dict(await journal.history(records)),
                )
            )
    return disks


@pytest.fixture(params=[15, 10**9], ids=["checkpoints", "one log"])
async def disks(request, tmp_path):
    """Return the disks of a journal whose log is written back now and then, or never."""
    return await record_disks(tmp_path / "journal.db", request.param)


def open_disk(folder, main, log):
    """Return what a journal reads from a disk; None if it rejects the disk. Any other exception is a failure."""
    path = folder / "found.db"
    for where, data in ((path, main), (Path(f"{path}-wal"), log)):
        where.write_bytes(data)
        where.chmod(0o600)
    opened = JournalFile(path)
    try:
        with opened.transaction() as db:
            records = schema.select_records(db)
            assert {env: each.tenant for env, each in schema.select_bindings(db).items()} == {
                each.env: each.tenant for each in records.values() if each.env is not None
            }
            return records, schema.select_history(db, records)
    except (sqlite3.DatabaseError, UnusableFile, schema.CorruptRow):
        return None
    finally:
        with contextlib.suppress(sqlite3.Error):
            opened.close()


def cut_positions(start, end):
    """Return every byte around the frames of a log, and many between them."""
    near = {HEAD + frame * FRAME + off for frame in range(end // FRAME + 2) for off in range(-9, 34)}
    return sorted(each for each in near | {*range(start, end + 1, 211)} | {start, end} if start <= each <= end)


def sample(rng, cuts, number):
    """Return some of the positions, including the first and the last."""
    return {cuts[0], cuts[-1], *rng.sample(cuts, min(number, len(cuts)))}


def test_log_cut_after_stored_records_loses_nothing(disks, tmp_path):
    """Wherever the next transaction is cut off, all stored records are there, and no part of that transaction."""
    rng, tried = random.Random(2), 0
    for before, after in itertools.pairwise(disks[1:]):
        grown = after.main == before.main and len(after.log) > len(before.log)
        for cut in sample(rng, cut_positions(len(before.log), len(after.log)), 20) if grown else ():
            expected = after if cut == len(after.log) else before
            assert open_disk(tmp_path, after.main, after.log[:cut]) == (expected.records, expected.histories)
            tried += 1
    assert tried >= 20


@pytest.mark.parametrize("disks", [10**9], indirect=True)
def test_log_cut_anywhere_shows_one_moment(disks, tmp_path):
    """Even if the disk lost data that it had reported as written, no two moments are mixed before a checkpoint."""
    moments = [(each.records, each.histories) for each in disks]
    rng = random.Random(3)
    for disk in disks[1:]:
        for cut in sample(rng, cut_positions(0, len(disk.log)), 20):
            assert open_disk(tmp_path, disk.main, disk.log[:cut]) in moments


def test_truncated_file_is_rejected_or_shows_one_moment(disks, tmp_path):
    """This holds with a log, and without one after a clean close."""
    moments = [(each.records, each.histories) for each in disks]
    last = (tmp_path / "journal.db").read_bytes()
    assert open_disk(tmp_path, last, b"") == moments[-1]
    rng = random.Random(4)
    for cut in {0, 1, len(last) - 1, *rng.sample(range(len(last)), 100)}:
        assert open_disk(tmp_path, last[:cut], b"") in (None, moments[0])
    for disk in disks[1:]:
        for cut in rng.sample(range(len(disk.main)), 10):
            assert open_disk(tmp_path, disk.main[:cut], disk.log) in (None, *moments)


def test_killed_process_loses_no_reported_commit(tmp_path):
    """Sixteen tenants change as fast as possible; no kill loses a reported version or leaves the file locked."""
    rng = random.Random(5)
    environ = {**os.environ, "PYTHONPATH": str(Path(wxtcb.__file__).parents[1])}
    reported = {}
    for _ in range(10):
        command = [sys.executable, "-c", PROGRAM, str(tmp_path / "journal.db")]
        with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE) as process:
            assert process.stdout.readline() == b"begun 0\n"
            lines = [process.stdout.readline().decode() for _ in range(rng.randrange(1, 200))]
            process.kill()
            lines += process.stdout.read().decode().splitlines(keepends=True)
        reported |= {name: int(version) for name, version in (line.split() for line in lines if line.endswith("\n"))}
        asyncio.run(check(tmp_path / "journal.db", reported))


async def check(path, reported):
    """Assert that all reported versions are there, with their histories."""
    async with SqliteJournal(path) as journal:
        records = await journal.load()
        assert all(records[name].version >= version for name, version in reported.items())
        moments = await journal.history(records)
        assert {name: len(each) for name, each in moments.items()} == {
            name: each.version for name, each in records.items()
        }


CANDIDATE = """
import asyncio, os, sys
import attrs
from wxtcb.provision.desired import DesiredState, Finish
from wxtcb.provision.journal import Committed, Deposed
from wxtcb.provision.record import HistoryEntry, TenantRecord
from wxtcb.provision.sqlite.journal import SqliteJournal

async def serve(journal, epoch, desired):
    record = (await journal.load([desired.tenant])).get(desired.tenant)
    record = record or TenantRecord(tenant=desired.tenant, alias=desired.alias)
    while record.version < 5:
        record = attrs.evolve(record, version=record.version + 1)
        assert await journal.commit(record, HistoryEntry(1.0, "noted"), epoch=epoch) == Committed()
        os.write(1, f"{record.tenant} {record.version}\\n".encode())
    await journal.desired.change(
        [Finish(tenant=desired.tenant, revision=desired.revision, state=DesiredState.DONE)]
    )

async def main():
    async with SqliteJournal(sys.argv[1]) as journal:
        seen = 0
        while (await journal.desired.counts())[DesiredState.WAITING]:
            if term := await journal.election.acquire(f"{os.getpid()}", 30.0):
                while tenants := await journal.desired.take(term.epoch, 20):
                    await asyncio.gather(*(serve(journal, term.epoch, each) for each in tenants))
            seen = await journal.desired.wait_for_change(seen, 0.05)

asyncio.run(main())
"""


def test_killed_candidates_lose_nothing(tmp_path):
    """Whichever process is elected and killed, another one finishes the work, and each version is stored once."""
    path, rng, count = tmp_path / "journal.db", random.Random(6), 300
    environ = {**os.environ, "PYTHONPATH": str(Path(wxtcb.__file__).parents[1])}
    asyncio.run(submit(path, count))
    command = [sys.executable, "-c", CANDIDATE, str(path)]
    read_end, write_end = os.pipe()
    with os.fdopen(read_end, encoding="utf-8") as output, contextlib.ExitStack() as stack:
        start = partial(subprocess.Popen, command, env=environ, stdout=write_end)
        candidates = [stack.enter_context(start()) for _ in range(3)]
        lines = []
        for _ in range(4):
            lines += [output.readline() for _ in range(200)]
            candidates.pop(rng.randrange(3)).kill()
            candidates.append(stack.enter_context(start()))
        os.close(write_end)
        lines += output
        assert {each.wait(60) for each in candidates} == {0}
    assert len(lines) == len({*lines})
    asyncio.run(check(path, {name: int(version) for name, version in map(str.split, lines)}))
    asyncio.run(check_done(path, count))


async def submit(path, count):
    """Submit tenants."""
    async with SqliteJournal(path) as journal:
        await journal.desired.change(
            [Submit(tenant=f"t{number}", alias=f"a{number}", spec=b"{}") for number in range(count)]
        )


async def check_done(path, count):
    """Assert that all tenants are done, with five versions each."""
    async with SqliteJournal(path) as journal:
        assert (await journal.desired.counts())[DesiredState.DONE] == count
        assert [record.version for record in (await journal.load()).values()] == [5] * count
