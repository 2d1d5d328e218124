"""The file of a SqliteJournal and other programs: locks, and changes while it is in use."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from wxtcb._files import sqlite
from wxtcb.provision.journal import JournalError, JournalInUse
from wxtcb.provision.sqlite import file, schema
from wxtcb.provision.sqlite.journal import SqliteJournal

from .journal_records import (
    IDENTITY,
    create_journal,
    environment,
    read_files,
    read_in_other_process,
    run_python,
    store_record,
)


@pytest.fixture
def path(tmp_path):
    """Return the path of a file that does not exist yet."""
    return tmp_path / "journal.db"


@pytest.fixture
async def journal(path):
    """Open a journal in it."""
    async with SqliteJournal(path) as opened:
        yield opened


@pytest.fixture
def connections(monkeypatch):
    """Collect the threads that open a file."""
    opened, connect = [], file.connect
    monkeypatch.setattr(file, "connect", lambda path: (opened.append(threading.current_thread()), connect(path))[1])
    return opened


async def test_second_journal_of_this_process_is_rejected(path, journal, monkeypatch):
    """Each call fails after three attempts until the first journal is closed; the first is not affected."""
    await store_record(journal)
    opens, open_file = [], file._open_locked
    monkeypatch.setattr(file, "_open_locked", lambda *given: (opens.append(given), open_file(*given))[1])
    async with SqliteJournal(path) as second:
        for asked in range(1, 4):
            with pytest.raises(JournalInUse, match="in use by another process"):
                await second.load()
            assert len(opens) == 3 * asked
        await store_record(journal, version=2)
        await journal.aclose()
        assert (await second.load())["a"].version == 2


OTHER = """
import asyncio, sys
from wxtcb.provision.journal import JournalInUse
from wxtcb.provision.sqlite.journal import SqliteJournal

async def main():
    async with SqliteJournal(sys.argv[1]) as journal:
        try:
            print(len(await journal.load()))
        except JournalInUse:
            print("in use")

asyncio.run(main())
"""


async def test_closing_the_file_elsewhere_releases_no_lock(path):
    """A backup that reads the file in this process releases SQLite's lock, but not the lock on the log."""
    async with SqliteJournal(path) as journal:
        await store_record(journal)
        path.read_bytes()
        assert run_python(OTHER, path) == "in use\n"
        await store_record(journal, version=2)
    assert run_python(OTHER, path) == "1\n"


async def test_journal_in_use_is_not_read(path, journal, connections):
    """A read during a write of another process could look like damage."""
    await store_record(journal)
    path.read_bytes()
    async with SqliteJournal(path) as second:
        with pytest.raises(JournalInUse):
            await second.load()
    assert len(connections) == 1


async def test_log_locked_by_a_faster_process_is_rejected(path, monkeypatch):
    """A process that finds no log while another creates one must get its lock in the end, or give up."""
    hold, held = file.WalLock.acquire, []
    wal = path.with_name("journal.db-wal")

    def be_late(self):
        if wal.exists() and len(held) < 3:
            held.append(os.open(wal, os.O_RDONLY))
            fcntl.flock(held[-1], fcntl.LOCK_EX)
        hold(self)

    monkeypatch.setattr(file.WalLock, "acquire", be_late)
    async with SqliteJournal(path) as journal:
        with pytest.raises(JournalInUse):
            await journal.load()
        assert len(held) == 3
        for handle in held:
            os.close(handle)
        await store_record(journal)


async def test_sqlite_lock_holds_without_flock(path, monkeypatch):
    """Windows has no flock; there, a close elsewhere does not release SQLite's lock."""
    monkeypatch.setitem(sys.modules, "fcntl", None)
    async with SqliteJournal(path) as journal, SqliteJournal(path) as second:
        await store_record(journal)
        assert not file._LOCKED_FDS
        with pytest.raises(JournalInUse):
            await second.load()
        await store_record(journal, version=2)
    assert [*read_files(path.parent)] == ["journal.db"]


async def test_short_lock_is_retried(path, monkeypatch):
    """Two processes that open the file at once may both meet a lock; one of them still gets it."""
    await create_journal(path)
    tries, connect = [], file.connect
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN").execute("SELECT * FROM records").fetchone()

    def try_to(where):
        tries.append(where)
        if len(tries) == 2:
            other.close()
        return connect(where)

    monkeypatch.setattr(file, "connect", try_to)
    async with SqliteJournal(path) as journal:
        assert [*await journal.load()] == ["a"]
    assert len(tries) == 2


@pytest.mark.parametrize("by", ["nothing", "an empty file", "another journal"])
async def test_journal_removed_while_open_is_not_created_again(path, journal, by):
    """An empty one would let everything be created again; once it is restored, calls succeed."""
    await store_record(journal)
    path.rename(path.with_name("moved.db"))
    if by == "an empty file":
        path.touch(mode=0o600)
    elif by == "another journal":
        await create_journal(path.with_name("other.db"), "b")
        path.with_name("other.db").rename(path)
    for _ in range(2):
        with pytest.raises(JournalError, match="was removed or replaced while it was in use"):
            await store_record(journal, version=2)
    path.with_name("moved.db").replace(path)
    await store_record(journal, version=2)
    assert (await journal.load())["a"].version == 2


@pytest.mark.parametrize("by", ["nothing", "another journal"])
async def test_closing_a_removed_journal_raises(path, by):
    """A moved file is completed, and the file in its place is left unchanged."""
    journal = SqliteJournal(path)
    await store_record(journal)
    path.rename(path.with_name("moved.db"))
    if by == "another journal":
        await create_journal(path.with_name("other.db"), "b")
        path.with_name("other.db").rename(path)
    with pytest.raises(JournalError, match=r"was removed or replaced .* move it back"):
        await journal.aclose()
    for name, expected in (("moved.db", "a"), *([("journal.db", "b")] if by == "another journal" else ())):
        async with SqliteJournal(path.with_name(name)) as found:
            assert [*await found.load()] == [expected]


@pytest.fixture
async def overwritten(path):
    """Open a journal and overwrite its file with an older copy; return both."""
    await create_journal(path)
    old = path.read_bytes()
    journal = SqliteJournal(path)
    for number in range(50):
        await store_record(journal, f"tenant {number}")
    path.write_bytes(old)
    yield journal, old
    with contextlib.suppress(JournalError):
        await journal.aclose()


OVERWRITTEN = r"another program wrote to .*journal.db or replaced journal.db-wal"


async def test_closing_an_overwritten_journal_raises(path, overwritten):
    """The log does not belong to the older copy, so the two are not mixed."""
    journal, old = overwritten
    log = read_in_other_process(path.with_name("journal.db-wal"))
    with pytest.raises(JournalError, match=OVERWRITTEN):
        await journal.aclose()
    assert (path.read_bytes(), path.with_name("journal.db-wal").read_bytes()) == (old, log)


async def test_overwritten_journal_rejects_calls(overwritten):
    """Nothing is stored in it or read from it."""
    journal, _ = overwritten
    for call in (store_record(journal, "more"), journal.load()):
        with pytest.raises(JournalError, match=OVERWRITTEN):
            await call


def test_large_log_is_not_written_into_another_file(path, monkeypatch):
    """The change is still reported afterwards."""
    opened = file.JournalFile(path)
    with opened.transaction() as db:
        schema.bind_identity(db, IDENTITY)
    monkeypatch.setattr(file, "_MAX_WAL_BYTES", 0)
    path.write_bytes(b"older")
    opened.checkpoint()
    assert read_in_other_process(path) == b"older"
    with pytest.raises(sqlite.UnusableFile, match=OVERWRITTEN):
        opened.close()
    assert path.read_bytes() == b"older"


async def test_replaced_log_is_not_used(path):
    """Nothing is stored until the right log is back."""
    async with SqliteJournal(path) as journal:
        await store_record(journal)
        moved, log = path.with_name("moved"), path.with_name("journal.db-wal")
        log.rename(moved)
        log.touch(mode=0o600)
        with pytest.raises(JournalError, match=OVERWRITTEN):
            await store_record(journal, version=2)
        moved.replace(log)
        await store_record(journal, version=2)


async def test_close_releases_a_file_that_cannot_be_checked(path, monkeypatch):
    """The error is reported, and the next journal can open the file."""
    journal = SqliteJournal(path)
    await store_record(journal)
    with monkeypatch.context() as patch:
        patch.setattr(file, "file_identity", lambda _: next(Path(__file__).iterdir()))
        with pytest.raises(JournalError, match=r"Not a directory.*keep .*-wal"):
            await journal.aclose()
    async with SqliteJournal(path) as again:
        assert [*await again.load()] == ["a"]


ORPHANED = """
import asyncio, os, signal, sys
from wxtcb.provision.record import HistoryEntry, TenantRecord
from wxtcb.provision.sqlite.journal import SqliteJournal

journal = SqliteJournal(sys.argv[1])
assert asyncio.run(journal.commit(TenantRecord(tenant="a", alias="ta", version=1), HistoryEntry(1.0, "noted")))
read_end, write_end = os.pipe()
if os.fork():
    os.read(read_end, 1)
    os.kill(os.getpid(), signal.SIGKILL)
os.write(write_end, b".")
sys.stdin.read()
os._exit(0)
"""


def test_forked_child_does_not_keep_the_lock_of_a_killed_parent(path):
    """The child may live long; the lock ends with the parent."""
    command = [sys.executable, "-Wignore::DeprecationWarning", "-c", ORPHANED, str(path)]
    with subprocess.Popen(command, env=environment(), stdin=subprocess.PIPE) as parent:
        assert parent.wait(60) == -signal.SIGKILL
        asyncio.run(create_journal(path, "b"))
