"""Election by a SqliteJournal: the lock of the operating system, and the epoch that fences commits."""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import subprocess
import sys
import types

import pytest

from wxtcb.errors import InvalidArgument
from wxtcb.provision.desired import Submit
from wxtcb.provision.journal import Committed, Deposed, JournalError, JournalInUse
from wxtcb.provision.sqlite import election, file
from wxtcb.provision.sqlite.journal import SqliteJournal

from .journal_records import ENTRY, environment, read_files, record, store_record
from .test_sqlite_processes import writing


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
async def other(path):
    """Open it a second time."""
    async with SqliteJournal(path) as opened:
        yield opened


@pytest.fixture
def lock_file(path):
    """Return the path of the lock."""
    return path.with_name("journal.db-lock")


ELECTED = """
import asyncio, os, sys
from wxtcb.provision.sqlite.journal import SqliteJournal

async def main():
    async with SqliteJournal(sys.argv[1]) as journal:
        term = await journal.election.acquire("elsewhere", 30.0)
        os.write(1, f"{term.epoch}\\n".encode())
        sys.stdin.readline()

asyncio.run(main())
"""


def start_elected(path):
    """Start a process that is elected, and wait until it is."""
    command = [sys.executable, "-c", ELECTED, str(path)]
    process = subprocess.Popen(command, env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"1\n"
    return process


async def test_kill_frees_the_lock(path, journal, lock_file):
    """A stopped process keeps its term; a killed one does not, and its file is used again and deleted."""
    with start_elected(path) as process:
        process.send_signal(signal.SIGSTOP)
        assert await journal.election.acquire("here", 30.0) is None
        leader = await journal.election.leader()
        assert (leader.holder, leader.epoch, leader.seconds) == ("elsewhere", 1, None)
        process.kill()
        process.wait(60)
    assert await journal.election.leader() is None
    assert lock_file.exists()
    term = await journal.election.acquire("here", 30.0)
    assert (term.epoch, term.lease) == (2, None)
    await journal.election.release(term)
    assert not lock_file.exists()


async def test_close_ends_the_term(path, journal, lock_file):
    """Another process is elected at once, and the file is complete."""
    async with SqliteJournal(path) as closed:
        await closed.election.acquire("one", 30.0)
    assert await journal.election.leader() is None
    assert (await journal.election.acquire("two", 30.0)).epoch == 2
    await journal.aclose()
    assert [*read_files(path.parent)] == ["journal.db"]


async def test_deleted_lock_lets_no_two_processes_commit(journal, other, lock_file):
    """A second process is elected, and the first one is deposed."""
    first = await journal.election.acquire("one", 30.0)
    lock_file.unlink()
    second = await other.election.acquire("two", 30.0)
    assert (first.epoch, second.epoch) == (1, 2)
    assert not await journal.election.renew(first)
    with pytest.raises(Deposed, match="epoch 2, not 1"):
        await journal.commit(record(), ENTRY, epoch=first.epoch)
    with pytest.raises(Deposed):
        await journal.commit(record("b"), ENTRY, (record(), ENTRY), epoch=first.epoch)
    assert await journal.load() == {}
    assert await other.commit(record(), ENTRY, epoch=second.epoch) == Committed()


@pytest.mark.parametrize("replaced", [True, False])
async def test_lock_deleted_by_its_owner_meanwhile_is_taken_again(journal, lock_file, monkeypatch, replaced):
    """Between opening and locking the file, its owner may delete it."""
    tried, try_lock = [], election._try_lock

    def be_late(fd):
        if not tried:
            lock_file.unlink()
            if replaced:
                lock_file.touch(mode=0o600)
        tried.append(fd)
        return try_lock(fd)

    monkeypatch.setattr(election, "_try_lock", be_late)
    assert (await journal.election.acquire("one", 30.0)).epoch == 1
    assert len(tried) == 2


async def test_look_at_a_free_lock_does_not_prevent_an_election(journal, lock_file, monkeypatch):
    """It takes the lock for a moment, and the candidate tries again."""
    handle = os.open(lock_file, os.O_RDONLY | os.O_CREAT, 0o600)
    fcntl.flock(handle, fcntl.LOCK_EX)
    monkeypatch.setattr(election.time, "sleep", lambda _: fcntl.flock(handle, fcntl.LOCK_UN))
    assert (await journal.election.acquire("one", 30.0)).epoch == 1
    os.close(handle)


async def test_failed_election_releases_the_lock(path, journal, lock_file, monkeypatch):
    """The epoch cannot be stored while another process writes."""
    monkeypatch.setattr(file, "BUSY_TIMEOUT", 0.01)
    await store_record(journal)
    with writing(path):
        with pytest.raises(JournalInUse):
            await journal.election.acquire("one", 30.0)
        await asyncio.sleep(0)
        assert not journal.election.lock.is_held
        assert not lock_file.exists()
    assert (await journal.election.acquire("two", 30.0)).epoch == 1


@pytest.mark.parametrize("elected", [True, False])
async def test_cancelled_election_releases_the_lock(journal, other, elected, lock_file):
    """The term is not known to the caller; one of another process goes on."""
    term = None if elected else await other.election.acquire("two", 30.0)
    await journal.load()
    candidate = asyncio.create_task(journal.election.acquire("one", 30.0))
    await asyncio.sleep(0)
    candidate.cancel()
    with pytest.raises(asyncio.CancelledError):
        await candidate
    await asyncio.gather(*(task for task in asyncio.all_tasks() if task is not asyncio.current_task()))
    await asyncio.sleep(0)
    assert lock_file.exists() is not elected
    assert term is None or await other.election.renew(term)


async def test_release_frees_the_lock_of_a_file_that_cannot_be_written(path, journal, other, monkeypatch):
    """The next process is elected as soon as it can write."""
    monkeypatch.setattr(file, "BUSY_TIMEOUT", 0.01)
    term = await journal.election.acquire("one", 30.0)
    with writing(path), pytest.raises(JournalInUse):
        await journal.election.release(term)
    assert await journal.election.leader() is None
    assert (await other.election.acquire("two", 30.0)).epoch == 2


async def test_elected_process_takes_what_its_predecessor_has_taken(journal, other, lock_file):
    """The predecessor was killed; the deposed one takes nothing."""
    await journal.desired.change([Submit(tenant="a", alias="ta", spec=b"{}")])
    first = await journal.election.acquire("one", 30.0)
    assert len(await journal.desired.take(first.epoch, 10)) == 1
    lock_file.unlink()
    second = await other.election.acquire("two", 30.0)
    assert len(await other.desired.take(second.epoch, 10)) == 1
    with pytest.raises(Deposed):
        await journal.desired.take(first.epoch, 10)


async def test_lock_that_is_a_link_is_rejected(journal, lock_file):
    """In a shared directory, it could lead to a file of another program."""
    await journal.load()
    lock_file.symlink_to(lock_file.with_name("elsewhere"))
    with pytest.raises(JournalError, match="symbolic links"):
        await journal.election.acquire("one", 30.0)
    assert not lock_file.with_name("elsewhere").exists()


async def test_windows_locks_a_byte(journal, other, monkeypatch):
    """There is no flock; an open file cannot be deleted."""
    locked = set()

    def locking(fd, mode, size):
        assert (mode, size) == (2, 1)
        if locked - {fd}:
            raise PermissionError
        locked.add(fd)

    monkeypatch.setitem(sys.modules, "fcntl", None)
    monkeypatch.setitem(sys.modules, "msvcrt", types.SimpleNamespace(LK_NBLCK=2, locking=locking))
    assert (await journal.election.acquire("one", 30.0)).epoch == 1
    assert await other.election.acquire("two", 30.0) is None
    assert (await other.election.leader()).holder == "one"


ORPHANED = """
import asyncio, os, signal, sys
from wxtcb.provision.sqlite.journal import SqliteJournal

journal = SqliteJournal(sys.argv[1])
assert asyncio.run(journal.election.acquire("parent", 30.0)).epoch == 1
read_end, write_end = os.pipe()
if os.fork():
    os.read(read_end, 1)
    os.kill(os.getpid(), signal.SIGKILL)
os.write(write_end, b".")
sys.stdin.read()
os._exit(0)
"""


def start_orphan(path):
    """Start a process that is elected, forks and kills itself; its child lives until the input ends."""
    command = [sys.executable, "-Wignore::DeprecationWarning", "-c", ORPHANED, str(path)]
    return subprocess.Popen(command, env=environment(), stdin=subprocess.PIPE)


async def test_forked_child_does_not_keep_the_lock_of_a_killed_parent(path, journal):
    """The child may live long; the term ends with the parent."""
    with start_orphan(path) as parent:
        assert parent.wait(60) == -signal.SIGKILL
        assert (await journal.election.acquire("one", 30.0)).epoch == 2


def test_wait_is_a_number_of_seconds(path):
    """It is used by `Provisioner.apply`."""
    assert (SqliteJournal(path).wait, SqliteJournal.for_tenants_file(path, wait=5).wait) == (0.0, 5)
    with pytest.raises(InvalidArgument, match="wait"):
        SqliteJournal(path, wait=-1)
