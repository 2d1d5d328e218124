"""The file of a SqliteJournal after power cuts and kills: all that was told to be kept is there, and nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import random
import sqlite3
import subprocess
import sys
from pathlib import Path

import attrs
import pytest

import wxtcb
from wxtcb._sqlite import UnusableFile
from wxtcb.provision.journal import HistoryEntry, Intent, TenantRecord
from wxtcb.provision.sqlite import file, schema
from wxtcb.provision.sqlite.file import JournalFile
from wxtcb.provision.sqlite.journal import SqliteJournal

FRAME = 24 + 4096
HEAD = 32

WORK = """
import asyncio, os, sys
import attrs
from wxtcb.provision.journal import HistoryEntry, TenantRecord
from wxtcb.provision.sqlite.journal import SqliteJournal

async def work(journal, record):
    while await journal.commit(attrs.evolve(record, version=record.version + 1), HistoryEntry(1.0, "noted")):
        record = attrs.evolve(record, version=record.version + 1)
        os.write(1, f"{record.tenant} {record.version}\\n".encode())
    raise AssertionError("not kept")

async def main():
    async with SqliteJournal(sys.argv[1]) as journal:
        names = [f"tenant-{number}" for number in range(16)]
        kept = await journal.load(names)
        os.write(1, b"begun 0\\n")
        await asyncio.gather(*(work(journal, kept.get(name) or TenantRecord(tenant=name, alias=name)) for name in names))

asyncio.run(main())
"""


@attrs.frozen
class Disk:
    """What was on the disk when something was told to be kept, and what that was."""

    main: bytes
    log: bytes
    records: dict
    told: dict


def cat(path):
    """Return what is in a file, read by another process: to close it in this one would end the locks of SQLite."""
    return subprocess.run(["cat", path], check=True, capture_output=True).stdout


async def played(path):
    """Return the disks of a life: batches of opens, binds and refusals; before it, none."""
    disks = [Disk(b"", b"", {}, {})]
    async with SqliteJournal(path) as journal:
        records = {}
        for batch in range(12):
            names = [f"tenant-{(batch + number) % 5}" for number in range(1 + batch % 3)]
            for name in names:
                before = records.get(name) or TenantRecord(tenant=name, alias=f"t{name}")
                more = {"env": f"env-{name}"} if before.intent else {"intent": Intent(deadline=9.0)}
                records[name] = attrs.evolve(
                    before, version=before.version + 1, metadata={"x": "y" * 900 * batch}, **more
                )
            moments = [HistoryEntry(float(batch), f"version {records[name].version}") for name in names]
            kept = zip(names, moments, strict=True)
            assert all(await asyncio.gather(*(journal.commit(records[name], moment) for name, moment in kept)))
            await journal.load([])  # the log is emptied, if it has grown, before this is answered
            disks.append(Disk(cat(path), cat(f"{path}-wal"), dict(records), dict(await journal.history(records))))
    return disks


@pytest.fixture(params=[60_000, 10**9], ids=["emptied logs", "one log"])
async def life(request, tmp_path, monkeypatch):
    """Give the disks of a life whose log is written back now and then, or never."""
    monkeypatch.setattr(file, "_MAX_WAL_BYTES", request.param)
    return await played(tmp_path / "journal.db")


def found(folder, main, log):
    """Return what a journal finds on a disk, None if it refuses it; whatever else it raises is a failure."""
    path = folder / "found.db"
    for where, data in ((path, main), (Path(f"{path}-wal"), log)):
        where.write_bytes(data)
        where.chmod(0o600)
    opened = JournalFile(path)
    try:
        with opened.transaction() as db:
            records = schema.select_records(db, None)
            assert {env: each.tenant for env, each in schema.select_bindings(db).items()} == {
                each.env: each.tenant for each in records.values() if each.env is not None
            }
            return records, schema.select_history(db, records)
    except (sqlite3.DatabaseError, UnusableFile, schema.CorruptRow):
        return None
    finally:
        with contextlib.suppress(sqlite3.Error):
            opened.close()


def cuts_of(start, end):
    """Return every byte around the frames of a log, and many between them."""
    near = {HEAD + frame * FRAME + off for frame in range(end // FRAME + 2) for off in range(-9, 34)}
    return sorted(each for each in near | {*range(start, end + 1, 211)} | {start, end} if start <= each <= end)


def sample(dice, cuts, number):
    """Return some of the cuts, the first and the last among them."""
    return {cuts[0], cuts[-1], *dice.sample(cuts, min(number, len(cuts)))}


def test_a_log_cut_behind_what_was_kept_loses_nothing(life, tmp_path):
    """Wherever the next transaction is cut off, all that was told to be kept before is there, and no part of it."""
    dice, tried = random.Random(2), 0
    for before, after in itertools.pairwise(life[1:]):
        grown = after.main == before.main and len(after.log) > len(before.log)
        for cut in sample(dice, cuts_of(len(before.log), len(after.log)), 20) if grown else ():
            expected = after if cut == len(after.log) else before
            assert found(tmp_path, after.main, after.log[:cut]) == (expected.records, expected.told)
            tried += 1
    assert tried >= 20


def test_a_log_cut_anywhere_tells_of_a_moment_that_was(life, tmp_path):
    """Even where the disk lost what it had promised to keep, no two moments mix."""
    moments = [(each.records, each.told) for each in life]
    dice = random.Random(3)
    for disk in life[1:]:
        for cut in sample(dice, cuts_of(0, len(disk.log)), 20):
            assert found(tmp_path, disk.main, disk.log[:cut]) in moments


def test_a_file_cut_anywhere_is_refused_or_tells_of_a_moment_that_was(life, tmp_path):
    """With its log, and without one after a clean end."""
    moments = [(each.records, each.told) for each in life]
    last = (tmp_path / "journal.db").read_bytes()
    assert found(tmp_path, last, b"") == moments[-1]
    dice = random.Random(4)
    for cut in {0, 1, len(last) - 1, *dice.sample(range(len(last)), 100)}:
        assert found(tmp_path, last[:cut], b"") in (None, moments[0])
    for disk in life[1:]:
        for cut in dice.sample(range(len(disk.main)), 10):
            assert found(tmp_path, disk.main[:cut], disk.log) in (None, *moments)


def test_a_process_killed_again_and_again_loses_nothing_it_told(tmp_path):
    """Sixteen tenants change as fast as they can; no kill takes back what was told, or locks the file."""
    dice = random.Random(5)
    environ = {**os.environ, "PYTHONPATH": str(Path(wxtcb.__file__).parents[1])}
    told = {}
    for _ in range(10):
        command = [sys.executable, "-c", WORK, str(tmp_path / "journal.db")]
        with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE) as process:
            assert process.stdout.readline() == b"begun 0\n"
            lines = [process.stdout.readline().decode() for _ in range(dice.randrange(1, 200))]
            process.kill()
            lines += process.stdout.read().decode().splitlines(keepends=True)
        told |= {name: int(version) for name, version in (line.split() for line in lines if line.endswith("\n"))}
        asyncio.run(check(tmp_path / "journal.db", told))


async def check(path, told):
    """See that all that was told is there, and its history with it."""
    async with SqliteJournal(path) as journal:
        kept = await journal.load()
        assert all(kept[name].version >= version for name, version in told.items())
        moments = await journal.history(kept)
        assert {name: len(each) for name, each in moments.items()} == {
            name: each.version for name, each in kept.items()
        }
