"""Records, and other processes that use the file, for the tests of the SQLite journal."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import wxtcb
from wxtcb.provision.journal import Committed
from wxtcb.provision.record import HistoryEntry, JournalIdentity, TenantRecord
from wxtcb.provision.sqlite.journal import SqliteJournal

ENTRY = HistoryEntry(1.7e9, "noted")
IDENTITY = JournalIdentity(component_appid="wx", on_loopback=True, namespace="n")


def record(name="a", version=1, **more):
    """Return a record of a tenant."""
    return TenantRecord(tenant=name, alias=f"t{name}", version=version, **more)


async def store_record(journal, name="a", version=1, **more):
    """Store a record."""
    assert await journal.commit(record(name, version, **more), ENTRY) == Committed()


async def create_journal(path, *names):
    """Create a journal with some tenants, and close it."""
    async with SqliteJournal(path) as journal:
        for name in names or ("a",):
            await store_record(journal, name)


def read_files(folder):
    """Return the contents of the files in a folder, except the index of a log, which can be made again."""
    files = (each for each in folder.iterdir() if each.is_file() and not each.name.endswith("-shm"))
    return {each.name: each.read_bytes() for each in files}


def read_in_other_process(path):
    """Return the contents of a file, read by another process: closing it here would release the locks of SQLite."""
    return subprocess.run(["cat", path], check=True, capture_output=True).stdout


def environment():
    """Return the environment variables of a process that imports wxtcb."""
    return {**os.environ, "PYTHONPATH": str(Path(wxtcb.__file__).parents[1])}


def run_python(code, path, *options, before=()):
    """Run a program on the file, and return its output."""
    command = [*before, sys.executable, *options, "-c", code, str(path)]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
