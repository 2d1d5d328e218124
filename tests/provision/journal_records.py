"""What the tests of journals in files share: records to keep, and other processes that look at the file."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import wxtcb
from wxtcb.provision.journal import HistoryEntry, JournalIdentity, TenantRecord
from wxtcb.provision.sqlite.journal import SqliteJournal

NOW = HistoryEntry(1.7e9, "noted")
HOME = JournalIdentity(component_appid="wx", on_loopback=True, namespace="n")


def record(name="a", version=1, **more):
    """Return a record of a tenant."""
    return TenantRecord(tenant=name, alias=f"t{name}", version=version, **more)


async def keep(journal, name="a", version=1, **more):
    """Have a record kept."""
    assert await journal.commit(record(name, version, **more), NOW)


async def made(path, *names):
    """Make a journal with some tenants, and close it."""
    async with SqliteJournal(path) as journal:
        for name in names or ("a",):
            await keep(journal, name)


def contents(folder):
    """Return what is in a folder."""
    return {each.name: each.read_bytes() for each in folder.iterdir() if each.is_file()}


def cat(path):
    """Return what is in a file, read by another process: to close it in this one would end the locks of SQLite."""
    return subprocess.run(["cat", path], check=True, capture_output=True).stdout


def environment():
    """Return that of a process that finds the library."""
    return {**os.environ, "PYTHONPATH": str(Path(wxtcb.__file__).parents[1])}


def run_python(code, path, *options, before=()):
    """Run a program on the file to its end, and return what it prints."""
    command = [*before, sys.executable, *options, "-c", code, str(path)]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
