"""The file of a SqliteJournal: rejected files, locks, forks, event loops and full disks."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import resource
import sqlite3
import stat
import subprocess
import threading
from functools import partial
from pathlib import Path

import pytest

from wxtcb._files import sqlite
from wxtcb.errors import InvalidArgument
from wxtcb.provision.journal import Committed, JournalError
from wxtcb.provision.record import HistoryEntry
from wxtcb.provision.sqlite import file, schema
from wxtcb.provision.sqlite.journal import SqliteJournal

from .journal_records import (
    ENTRY,
    IDENTITY,
    create_journal,
    read_files,
    read_in_other_process,
    record,
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


@pytest.mark.parametrize("kind", [str, Path])
def test_journal_of_a_tenants_file_is_next_to_it(tmp_path, kind):
    """It is the one that the command line uses by default, so that a program shares its records."""
    assert SqliteJournal.for_tenants_file(kind(tmp_path / "t.csv")).path == tmp_path / "t.csv.wxtcb.db"


@pytest.fixture(params=[0, 0o377])
def umask(request):
    """Set a umask that removes no permissions from new files, as a careless service might, or too many."""
    before = os.umask(request.param)
    yield
    os.umask(before)


@pytest.fixture
def connections(monkeypatch):
    """Collect the threads that open a file."""
    opened, connect = [], file.connect
    monkeypatch.setattr(
        file, "connect", lambda *given, **more: (opened.append(threading.current_thread()), connect(*given, **more))[1]
    )
    return opened


@pytest.fixture
def transactions(monkeypatch):
    """Collect the journal files whose transactions begin."""
    begun, transaction = [], file.JournalFile.transaction
    monkeypatch.setattr(
        file.JournalFile, "transaction", lambda self, **more: (begun.append(self), transaction(self, **more))[1]
    )
    return begun


@contextlib.contextmanager
def opened_by_another(path, *statements):
    """Open the file as any program might, execute *statements*, and close it."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as opened:
        for statement in statements:
            opened.execute(statement)
        yield opened


async def assert_rejected(path, words, kind=JournalError):
    """Assert that every call of a journal is rejected, and that nothing is created or changed."""
    before = read_files(path.parent) if path.parent.is_dir() else None
    async with SqliteJournal(path) as journal:
        for call in (partial(journal.bind_identity, IDENTITY), journal.load, partial(store_record, journal)):
            with pytest.raises(kind, match=words):
                await call()
    assert before is None or read_files(path.parent) == before


async def test_files_are_private(umask, path, journal, monkeypatch):
    """No other user can read them with any umask, from their creation on."""
    born, link = [], Path.hardlink_to
    monkeypatch.setattr(Path, "hardlink_to", lambda self, draft: (born.append(draft.stat().st_mode), link(self, draft)))
    await store_record(journal)
    await journal.election.acquire("one", 30.0)
    modes = {each.name.removeprefix("journal.db"): each.stat().st_mode & 0o077 for each in path.parent.iterdir()}
    assert modes == dict.fromkeys(("", "-wal", "-shm", "-lock"), 0)
    assert [stat.S_IMODE(mode) for mode in born] == [0o600]


async def test_closed_journal_is_one_complete_file(path):
    """The file alone can be copied."""
    await create_journal(path, *"abc")
    assert [*read_files(path.parent)] == ["journal.db"]
    path.rename(path.with_name("copy.db"))
    async with SqliteJournal(path.with_name("copy.db")) as copy:
        assert [*await copy.load()] == [*"abc"]


async def test_journal_readable_by_others_is_rejected(path):
    """The error names the command that fixes the mode; the mode is not changed silently."""
    await create_journal(path)
    path.chmod(0o644)
    await assert_rejected(path, "journal.db has mode 644, so other users may have read .*chmod 600 /.*journal.db")


async def test_empty_file_is_rejected(path):
    """It may be the rest of a journal whose environments must not be created again."""
    path.touch(mode=0o600)
    await assert_rejected(path, "is empty")


@pytest.mark.parametrize("text", [b"x", b"tenant,alias\na,b\n" * 500, b"\0" * 4096], ids=["1", "8500", "zeros"])
async def test_text_file_is_rejected(path, text):
    """It may be a tenants file."""
    path.write_bytes(text)
    path.chmod(0o600)
    await assert_rejected(path, "is not a journal")


@pytest.mark.parametrize("mode", ["delete", "wal"])
async def test_database_of_another_program_is_rejected(path, mode):
    """Its tables, its journal and its log stay unchanged, including what a crash left in them."""
    with opened_by_another(path, f"PRAGMA journal_mode={mode}", "CREATE TABLE records (tenant)"):
        left = read_files(path.parent)
    for name, data in left.items():
        if not name.endswith("-shm"):
            (path.parent / name).write_bytes(data)
            (path.parent / name).chmod(0o600)
    assert len(read_files(path.parent)) == (2 if mode == "wal" else 1)
    await assert_rejected(path, "another program")


async def test_damaged_journal_is_rejected(path):
    """Damaged pages are found when the file is opened, and the error says what to do."""
    await create_journal(path, *(f"tenant {number}" for number in range(200)))
    whole = path.read_bytes()
    for at in range(4096, len(whole), 4096):
        path.write_bytes(whole[:at] + b"\xff" * 64 + whole[at + 64 :])
        await assert_rejected(path, "damaged .* left unchanged; .* restore a copy")


async def test_log_of_damaged_journal_is_kept(path):
    """It may be needed for a repair."""
    await create_journal(path, *(f"tenant {number}" for number in range(100)))
    async with SqliteJournal(path) as journal:
        await store_record(journal, "last")
        log = read_in_other_process(path.with_name("journal.db-wal"))
    path.write_bytes(path.read_bytes()[:8192])
    path.with_name("journal.db-wal").write_bytes(log)
    path.with_name("journal.db-wal").chmod(0o600)
    await assert_rejected(path, "is damaged")


async def test_corrupt_record_fails_only_its_query(path):
    """The error names the tenant; other queries of the same batch succeed."""
    await create_journal(path, "good", "bad")
    with opened_by_another(path, """UPDATE records SET document = '{"new": 1}', history = 'x' WHERE tenant = 'bad'"""):
        pass
    async with SqliteJournal(path) as journal:
        results = await asyncio.gather(
            journal.load(),
            journal.history(["bad"]),
            store_record(journal, "other"),
            journal.load(["good", "other"]),
            return_exceptions=True,
        )
        for error in results[:2]:
            assert isinstance(error, JournalError)
            assert "damaged: the row of tenant 'bad'" in str(error)
            assert "restore a copy" in str(error)
            assert "do not only delete the row" in str(error)
        assert [results[2], [*results[3]]] == [None, ["good", "other"]]


@pytest.mark.parametrize("stored", ["'{broken'", "CAST(x'ff' AS TEXT)", "x'00'", "7", "''"])
async def test_unreadable_row_is_reported_as_damage(path, stored):
    """Invalid JSON, text or UTF-8 is reported with the tenant, not as an error of SQLite."""
    async with SqliteJournal(path) as journal:
        await store_record(journal, "bad", env="env-1")
    with opened_by_another(path, f"UPDATE records SET document = {stored}, history = CAST(x'ff' AS TEXT)"):
        pass
    async with SqliteJournal(path) as journal:
        for call in (journal.load(), journal.bindings(0.0), journal.history(["bad"])):
            with pytest.raises(JournalError, match="is damaged: the row of tenant 'bad'"):
                await call


async def test_directory_or_missing_parent_is_rejected(tmp_path):
    """The error names what exists and what does not."""
    (tmp_path / "file").touch()
    await assert_rejected(tmp_path, "file")
    await assert_rejected(tmp_path / "none" / "j.db", "none")
    await assert_rejected(tmp_path / "file" / "j.db", "Not a directory")


@pytest.mark.parametrize("what", ["journal.db", ""])
async def test_read_only_file_or_directory_is_rejected(path, monkeypatch, what):
    """Both must be writable, because the log is next to the file."""
    await create_journal(path)
    closed = path.parent / what
    monkeypatch.setattr(os, "access", lambda each, _: each != closed)
    await assert_rejected(path, "writable")


async def test_log_that_cannot_be_opened_is_reported(path):
    """A directory is in its place."""
    await create_journal(path)
    path.with_name("journal.db-wal").mkdir(mode=0o700)
    await assert_rejected(path, "-wal file is not writable")


@pytest.mark.parametrize("lost", ["missing", "empty"])
async def test_log_without_journal_is_kept(path, lost):
    """SQLite would delete it and start with an empty database."""
    path.with_name("journal.db-wal").write_bytes(b"what was stored last")
    path.with_name("journal.db-wal").chmod(0o600)
    if lost == "empty":
        path.touch(mode=0o600)
    await assert_rejected(path, "journal.db is missing, but its log journal.db-wal exists")


async def test_disk_without_write_ahead_log_is_rejected(path, monkeypatch):
    """SQLite would fall back to another journal mode silently."""
    pragma = sqlite.pragma
    monkeypatch.setattr(sqlite, "pragma", lambda db, words: "delete" if "WAL" in words else pragma(db, words))
    async with SqliteJournal(path) as journal:
        with pytest.raises(JournalError, match="local disk"):
            await store_record(journal)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (sqlite3.SQLITE_IOERR_LOCK, "local disk"),
        (sqlite3.SQLITE_PROTOCOL, "local disk"),
        (sqlite3.SQLITE_CANTOPEN, "writable"),
        (sqlite3.SQLITE_IOERR_FSYNC, "disk I/O error; the change may have been stored"),
    ],
)
def test_disk_error_is_explained(code, words):
    """Errors that this machine cannot produce are explained, too."""
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = code
    assert words in str(file.to_journal_error(error, Path("/j.db")))


@pytest.mark.parametrize("text", [b"no path", 7, "", "a\0b", ":memory:"])
def test_invalid_path_is_rejected(text):
    """It is rejected at once, and no file of that name is created."""
    with pytest.raises(InvalidArgument, match="path must be"):
        SqliteJournal(text)


def test_nothing_happens_before_first_call(path):
    """A journal can be built outside a loop, and an unused one has nothing to close."""
    journal = SqliteJournal(path)
    assert (journal.durable, read_files(path.parent)) == (True, {})
    asyncio.run(journal.aclose())
    assert read_files(path.parent) == {}


def test_forgotten_journal_warns_and_is_closed(path):
    """The warning names the file, which another journal can then open."""

    async def forget():
        await store_record(SqliteJournal(path))
        gc.collect()

    with pytest.warns(ResourceWarning, match="SqliteJournal was never closed: .*journal.db"):
        asyncio.run(forget())
    for thread in threading.enumerate():
        if thread.name == "wxtcb-journal":
            thread.join(60)
    assert [*read_files(path.parent)] == ["journal.db"]


async def test_closed_journal_rejects_calls(path, journal):
    """Earlier calls are finished, and closing twice is allowed."""
    early = asyncio.create_task(store_record(journal))
    await asyncio.sleep(0)
    await asyncio.gather(journal.aclose(), journal.aclose())
    await early
    with pytest.raises(JournalError, match="was closed"):
        await journal.load()


async def test_file_is_used_by_its_own_thread_only(journal, connections):
    """SQLite itself rejects a connection in another thread than the one that opened it."""
    await store_record(journal)
    await journal.load()
    await journal.bindings(0.0)
    assert [thread.name for thread in connections] == ["wxtcb-journal"]


def test_several_loops_use_one_journal(path):
    """They use it one after the other, and at once from several threads; the file is opened once."""
    journal = SqliteJournal(path)
    asyncio.run(store_record(journal, "a"))
    threads = [threading.Thread(target=asyncio.run, args=[store_record(journal, name)]) for name in "bcde"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(asyncio.run(journal.load())) == [*"abcde"]
    asyncio.run(journal.aclose())


def test_closed_loop_does_not_block_other_callers(path, monkeypatch):
    """Its query is executed, and the next loop gets its answer."""
    journal = SqliteJournal(path)
    gate = threading.Event()
    monkeypatch.setattr(schema, "select_bindings", lambda _: gate.wait(60))

    async def leave():
        task = asyncio.ensure_future(journal.bindings(0.0))
        await asyncio.sleep(0)
        return task

    loop = asyncio.new_event_loop()
    task = loop.run_until_complete(leave())
    loop.close()
    gate.set()
    asyncio.run(store_record(journal))
    asyncio.run(journal.aclose())
    with contextlib.suppress(RuntimeError):
        task.cancel()
    task._log_destroy_pending = False


async def test_waiting_calls_share_a_transaction(journal, transactions, monkeypatch, settle):
    """64 calls that wait for the file make one transaction, and each gets its own result."""
    begun, gate = threading.Event(), threading.Event()
    monkeypatch.setattr(schema, "select_bindings", lambda _: (begun.set(), gate.wait(60), {})[2])
    first = asyncio.create_task(journal.bindings(0.0))
    await asyncio.to_thread(begun.wait, 60)
    waiting = [asyncio.create_task(store_record(journal, str(number))) for number in range(64)]
    await settle()
    before = len(transactions)
    gate.set()
    await asyncio.gather(first, *waiting)
    assert len(transactions) == before + 1
    assert len(await journal.load()) == 64


async def test_cancelled_commit_is_stored_or_not(journal):
    """At any moment, the next version follows the stored one, and other callers are not affected."""
    version = 0
    for turns in range(60):
        task = asyncio.create_task(journal.commit(record(version=version + 1), ENTRY))
        other = asyncio.create_task(store_record(journal, f"other {turns}"))
        for _ in range(turns % 6):
            await asyncio.sleep(0)
        if turns % 4 == 3:
            await asyncio.sleep(0.001)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await other
        loaded = await journal.load(["a"])
        now = loaded["a"].version if loaded else 0
        assert now in (version, version + 1)
        version = now
    assert 0 < version < 60
    assert len((await journal.history(["a"]))["a"]) == version


async def test_cancelled_close_is_completed(path, journal):
    """The file is closed all the same."""
    await store_record(journal)
    closing = asyncio.create_task(journal.aclose())
    await asyncio.sleep(0)
    closing.cancel()
    await asyncio.gather(closing, return_exceptions=True)
    await journal.aclose()
    assert [*read_files(path.parent)] == ["journal.db"]


async def test_deleted_log_loses_nothing(path, journal):
    """Its contents are written into the file while they are still known, so a crash afterwards loses nothing."""
    await store_record(journal, "a")
    path.with_name("journal.db-wal").unlink()
    await store_record(journal, "b")
    for what in ("", "-wal"):
        copy = path.with_name(f"copy.db{what}")
        copy.write_bytes(read_in_other_process(f"{path}{what}"))
        copy.chmod(0o600)
    async with SqliteJournal(path.with_name("copy.db")) as again:
        assert [*await again.load()] == ["a", "b"]


async def execute(journal, words):
    """Execute a statement on the connection of a journal."""
    await journal._thread.run(lambda db: db.execute(words).fetchall())


async def test_full_disk_stores_nothing_and_journal_continues(path, journal, connections):
    """Nothing of the failed commit is stored; the log frees space, and the file stays open."""
    await store_record(journal)
    await execute(journal, "PRAGMA max_page_count = 10")
    large = record(version=2, metadata={"x": "y" * 100_000})
    with pytest.raises(JournalError, match=r"no space left .* nothing was stored"):
        await journal.commit(large, ENTRY)
    assert (await journal.load())["a"].version == 1
    assert path.with_name("journal.db-wal").stat().st_size == 0
    await execute(journal, "PRAGMA max_page_count = 100000")
    assert await journal.commit(large, ENTRY) == Committed()
    assert len(connections) == 1


async def test_file_is_reopened_after_disk_error(journal, connections):
    """The failed connection is not trusted; a new one reads what is on the disk."""
    await store_record(journal)
    large = record(version=2, metadata={"x": "y" * 500_000})
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(JournalError, match="disk I/O error; the change may have been stored"):
            await journal.commit(large, ENTRY)
        assert (await journal.load())["a"].version == 1
        await store_record(journal, "small")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert await journal.commit(large, ENTRY) == Committed()
    assert len(connections) == 2


async def test_failed_checkpoint_is_reported_at_close(path):
    """The log stays, and reopening finds everything."""
    journal = SqliteJournal(path)
    for number in range(20):
        await store_record(journal, str(number), metadata={"x": "y" * 20_000})
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))
    try:
        with pytest.raises(JournalError, match=r"disk I/O error.*keep /.*journal.db-wal"):
            await journal.aclose()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.with_name("journal.db-wal").stat().st_size > 400_000
    async with SqliteJournal(path) as again:
        assert len(await again.load()) == 20


async def test_text_that_cannot_be_encoded_fails_alone(journal):
    """A lone surrogate cannot be stored; other commits of the same moment succeed."""
    results = await asyncio.gather(
        journal.commit(record("a", tranid="\ud800"), ENTRY),
        journal.commit(record("b"), HistoryEntry(1.0, "\ud800")),
        journal.commit(record("c"), ENTRY),
        return_exceptions=True,
    )
    assert ["cannot be stored" in str(each) for each in results] == [True, True, False]
    assert [*await journal.load()] == ["c"]


async def test_unexpected_exception_fails_only_its_batch(journal, monkeypatch):
    """Its callers get an error, and the thread continues."""
    await store_record(journal)
    with monkeypatch.context() as patch:
        patch.setattr(schema, "select_bindings", lambda _: 1 // 0)
        with pytest.raises(JournalError, match="ZeroDivisionError"):
            await journal.bindings(0.0)
    await store_record(journal, version=2)


FULL_DISK = """
import asyncio, pathlib, subprocess, sys
from wxtcb.provision.journal import Committed, JournalError
from wxtcb.provision.record import HistoryEntry, TenantRecord
from wxtcb.provision.sqlite.journal import SqliteJournal

folder = pathlib.Path(sys.argv[1]).parent
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "small", folder], check=True)

async def store_record(journal, name):
    record = TenantRecord(tenant=name, alias="ta", version=1, metadata={"x": "y" * 10_000})
    assert await journal.commit(record, HistoryEntry(1.0, "noted")) == Committed()
    return name

async def main():
    async with SqliteJournal(sys.argv[1]) as journal:
        stored = []
        try:
            for number in range(1000):
                stored.append(await store_record(journal, str(number)))
        except JournalError as error:
            print(error)
        assert 10 < len(stored) < 200, stored
        assert [*await journal.load()] == stored
        subprocess.run(["mount", "-o", "remount,size=8m", folder], check=True)
        stored.append(await store_record(journal, "more"))
    async with SqliteJournal(sys.argv[1]) as journal:
        assert [*await journal.load()] == stored

asyncio.run(main())
"""


def test_full_file_system_loses_nothing(path):
    """Commits fail while it is full; stored records are there, and commits succeed once there is space."""
    alone = ("unshare", "--mount", "--map-root-user")
    try:
        subprocess.run([*alone, "mount", "-t", "tmpfs", "none", path.parent], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no small disk can be made here")
    assert "no space left" in run_python(FULL_DISK, path, before=alone)


FORKED = """
import asyncio, os, sys
from wxtcb.provision.journal import Committed, JournalError
from wxtcb.provision.record import HistoryEntry, TenantRecord
from wxtcb.provision.sqlite.journal import SqliteJournal

ENTRY = HistoryEntry(1.0, "noted")
journal = SqliteJournal(sys.argv[1])
untouched = SqliteJournal(sys.argv[1] + "2")

def store_record(version):
    record = TenantRecord(tenant="a", alias="ta", version=version)
    assert asyncio.run(journal.commit(record, ENTRY)) == Committed()

store_record(1)
assert asyncio.run(journal.election.acquire("parent", 30.0)).epoch == 1
child = os.fork()
if not child:
    try:
        store_record(2)
    except JournalError as error:
        print(error, flush=True)
    record = TenantRecord(tenant="b", alias="tb", version=1)
    assert asyncio.run(untouched.commit(record, ENTRY)) == Committed()
    asyncio.run(untouched.aclose())
    asyncio.run(journal.aclose())
    sys.exit(7)
_, status = os.waitpid(child, 0)
assert os.waitstatus_to_exitcode(status) == 7, status
assert asyncio.run(journal.election.leader()).holder == "parent"
for version in range(2, 30):
    store_record(version)
assert os.path.getsize(sys.argv[1] + "-wal")
os._exit(0)
"""


@pytest.mark.usefixtures("measured")
async def test_forked_child_cannot_use_the_journal(path):
    """It neither hangs nor uses or closes its parent's connection; its own journals work."""
    done = run_python(FORKED, path, "-Wignore::DeprecationWarning")
    assert "was opened before this process was forked" in done
    async with SqliteJournal(path) as journal:
        assert (await journal.load())["a"].version == 29


def test_sqlite_is_imported_on_first_use(path):
    """A program without a journal file does not import SQLite."""
    code = """
import sys
early = {*sys.modules}
import wxtcb.provision
late = {"sqlite3", "wxtcb._files.sqlite", "wxtcb.provision.sqlite"}
print(sorted(late & {*sys.modules} - early), "SqliteJournal" in dir(wxtcb.provision))
from wxtcb.provision import SqliteJournal
print(late <= {*sys.modules}, SqliteJournal.__name__)
"""
    assert run_python(code, path).splitlines() == ["[] True", "True SqliteJournal"]
