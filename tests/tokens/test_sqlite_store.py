"""Tests of the file of a SqliteStore: permissions, rejected files, locks, losses and full disks."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import sqlite3
import stat
import threading
from pathlib import Path

import pytest

from wxtcb._files import sqlite
from wxtcb.errors import InvalidArgument, TokenStoreError
from wxtcb.tokens import stores
from wxtcb.tokens.state_repository import STORE_TIMEOUT, StateRepository
from wxtcb.tokens.stores import LOCK_TIMEOUT, SqliteStore

from .bounded_wait import LONG, finish

APPID = "wx0123456789abcdef"


@pytest.fixture
def path(tmp_path):
    """Return the path of a file that does not exist yet."""
    return tmp_path / "tokens.db"


@pytest.fixture
async def store(path):
    """Return an open store on that path."""
    async with SqliteStore(path) as opened:
        yield opened


@contextlib.contextmanager
def database(path, *statements):
    """Open the file as another program would, and execute *statements*."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as opened:
        for statement in statements:
            opened.execute(statement)
        yield opened


@pytest.fixture(params=[0, 0o377])
def umask(request):
    """Set a umask that removes no permission from new files, or one that removes too many."""
    before = os.umask(request.param)
    yield
    os.umask(before)


def mode_of(path):
    """Return the permissions of a file."""
    return stat.S_IMODE(Path(path).stat().st_mode)


async def write(store, document="document"):
    """Write a document over the stored one."""
    assert await store.compare_and_set(APPID, document, version=(await store.load(APPID)).version)


async def test_files_are_private_from_the_start(umask, path, store, monkeypatch):
    """Database, log and shared memory have mode 600 under any umask, also at the moment they appear."""
    modes = []
    link = Path.hardlink_to
    monkeypatch.setattr(Path, "hardlink_to", lambda self, draft: (modes.append(mode_of(draft)), link(self, draft)))
    await write(store)
    # A second connection keeps the log and the shared memory in place.
    with database(path, "PRAGMA user_version"):
        await write(store)
        assert {file.name: mode_of(file) for file in path.parent.iterdir()} == dict.fromkeys(
            ("tokens.db", "tokens.db-wal", "tokens.db-shm"), 0o600
        )
    assert modes == [0o600]


@pytest.mark.parametrize("suffix", ["", "-wal", "-shm", "-journal"])
async def test_file_readable_by_others_is_rejected(path, suffix):
    """The error names the file and its mode; with mode 600 the store works."""
    async with SqliteStore(path) as first:
        await write(first)
    file = path.with_name(path.name + suffix)
    file.touch()
    file.chmod(0o640)
    async with SqliteStore(path) as store:
        with pytest.raises(TokenStoreError, match=f"{file}.* 640.* 600") as caught:
            await store.load(APPID)
        assert caught.value.permanent
        assert mode_of(file) == 0o640
        file.chmod(0o600)
        assert (await store.load(APPID)).document == "document"


async def test_old_documents_are_overwritten_while_the_store_is_open(path, store):
    """A ticket is valid for 12 hours; neither the file nor its log keeps an old one."""
    async with SqliteStore(path) as reader:
        for number in range(30):
            await write(store, f"TICKET-{number:02}-" * 50)
            assert (await reader.load(APPID)).document.startswith(f"TICKET-{number:02}")
        files = b"".join(file.read_bytes() for file in path.parent.iterdir())
    assert [number for number in range(30) if b"TICKET-%02d" % number in files] == [29]


@pytest.fixture
def give_away(monkeypatch):
    """Return a function that gives a file or link to another user; without root, this process becomes another user."""

    def give(path):
        if os.geteuid() == 0:
            os.chown(path, 12345, -1, follow_symlinks=False)
        else:
            own = os.geteuid()
            monkeypatch.setattr(os, "geteuid", lambda: own + 1)

    return give


async def test_file_of_another_user_is_rejected(path, give_away):
    """In a shared directory, another user could create the file, and read every token."""
    path.touch(mode=0o600)
    give_away(path)
    async with SqliteStore(path) as store:
        with pytest.raises(TokenStoreError, match="belongs to another user") as caught:
            await store.compare_and_set(APPID, "SECRET", version="")
    assert caught.value.permanent
    assert path.read_bytes() == b""


def test_link_of_another_user_is_rejected(path, give_away):
    """It could lead to a file that its owner can read."""
    path.symlink_to(path.with_name("other"))
    give_away(path)
    with pytest.raises(InvalidArgument, match="belongs to another user"):
        SqliteStore(path)


async def test_empty_private_file_becomes_a_store(path, store):
    """An empty file with mode 600 is used."""
    path.touch(mode=0o600)
    await write(store)


@pytest.mark.parametrize(
    "content",
    [b"x", b"x" * 99, b"SQLite format 3\0", b"\0" * 4096, b"garbage" * 2000],
    ids=["1", "99", "head", "zeros", "14000"],
)
async def test_file_that_is_no_database_is_rejected_and_unchanged(path, store, content):
    """A file that is not a database raises a permanent error, and no other file appears next to it."""
    path.write_bytes(content)
    path.chmod(0o600)
    for _ in range(2):
        with pytest.raises(TokenStoreError, match=r"tokens\.db") as caught:
            await store.compare_and_set(APPID, "document", version="")
        assert caught.value.permanent
    assert path.read_bytes() == content
    assert [file.name for file in path.parent.iterdir()] == ["tokens.db"]


@pytest.mark.parametrize("journal", ["delete", "wal"])
async def test_database_of_another_program_is_rejected_and_unchanged(path, store, journal):
    """Tables, format and journal mode of another program's database stay unchanged."""
    with database(path, f"PRAGMA journal_mode={journal}", "CREATE TABLE kept (document)", "PRAGMA user_version=1"):
        path.chmod(0o600)
    before = path.read_bytes()
    with pytest.raises(TokenStoreError, match="another program") as caught:
        await store.load(APPID)
    assert caught.value.permanent
    assert path.read_bytes() == before


async def test_file_of_another_version_is_rejected(path):
    """A file with another schema version raises a permanent error."""
    async with SqliteStore(path) as first:
        await write(first)
    with database(path, "PRAGMA user_version=2"):
        pass
    async with SqliteStore(path) as store:
        with pytest.raises(TokenStoreError, match="another version of wxtcb") as caught:
            await store.load(APPID)
        assert caught.value.permanent


async def test_directory_and_missing_directory_are_rejected(tmp_path):
    """The error says whether the path is a directory, or its directory is missing."""
    (tmp_path / "file").touch()
    for name, words in (("", "file"), ("none/tokens.db", "directory"), ("file/t.db", "Not a dir")):
        async with SqliteStore(tmp_path / name) as store:
            with pytest.raises(TokenStoreError, match=words):
                await store.load(APPID)


async def test_file_that_cannot_be_written_is_rejected(path, store, monkeypatch):
    """A read-only file raises a permanent error already when it is read."""
    path.touch(mode=0o600)
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write every file
    with pytest.raises(TokenStoreError, match="readable and writable") as caught:
        await store.load(APPID)
    assert caught.value.permanent


async def test_disk_without_write_ahead_log_is_rejected(store, monkeypatch):
    """A file system on which SQLite cannot use a write-ahead log raises a permanent error."""
    pragma = sqlite.pragma
    monkeypatch.setattr(
        sqlite, "pragma", lambda db, statement: "delete" if "WAL" in statement else pragma(db, statement)
    )
    with pytest.raises(TokenStoreError, match="local disk") as caught:
        await store.load(APPID)
    assert caught.value.permanent


async def test_write_is_synchronous_and_goes_to_a_write_ahead_log(path, store):
    """Each connection commits with synchronous = FULL, in WAL mode."""
    await write(store)
    settings = await store._run(lambda db: [sqlite.pragma(db, name) for name in ("synchronous", "journal_mode")])
    assert settings == [2, "wal"]


async def test_operations_share_one_connection(store):
    """The file is opened once, and again after an error of SQLite."""
    first = await store._run(lambda db: db)
    assert await store._run(lambda db: db) is first
    with pytest.raises(TokenStoreError, match="syntax"):
        await store._run(lambda db: db.execute("no SQL"))
    assert await store._run(lambda db: db) is not first


async def test_no_connection_is_open_during_a_fork(store):
    """SQLite's locks belong to a process, so neither side continues with a connection from before the fork."""
    first = await store._run(lambda db: db)
    stores._before_fork()
    loading = asyncio.create_task(store.load(APPID))
    await asyncio.sleep(0)
    assert store._file._db is None
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        first.execute("SELECT 1")
    stores._after_fork()
    await finish(loading)


def test_forgotten_file_is_closed(path):
    """A store that is deleted without `aclose` leaves no open connection."""
    forgotten = stores._SqliteFile(path)
    connection = forgotten.run(lambda db: db)
    del forgotten
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        connection.execute("SELECT 1")


async def test_no_sqlite_call_runs_on_the_event_loop(store):
    """Operations run in a worker thread."""
    assert await store._run(lambda _: threading.current_thread()) is not threading.current_thread()


async def test_sqlite_error_is_reported_and_the_store_recovers(path, store):
    """The message names the file but no document; the next operation works."""
    await write(store, "T0KEN")
    with database(path, "ALTER TABLE kept RENAME TO other"):
        with pytest.raises(TokenStoreError, match=r"tokens\.db: no such table") as caught:
            await store.compare_and_set(APPID, "S3CRET", version="")
        assert not caught.value.permanent
        assert "S3CRET" not in f"{caught.value!r} {caught.value.__cause__!r}"
    with database(path, "ALTER TABLE other RENAME TO kept"):
        assert (await store.load(APPID)).document == "T0KEN"


async def test_lock_of_a_writer_delays_no_reader(path, store, monkeypatch):
    """Loads work while another connection is in the middle of a write; a write follows when it ends."""
    monkeypatch.setattr(stores, "LOCK_TIMEOUT", 60)
    await write(store, "before")
    with database(path, "BEGIN IMMEDIATE") as slow:
        writing = asyncio.create_task(write(store, "after"))
        for _ in range(50):
            assert (await store.load(APPID)).document == "before"
        slow.execute("ROLLBACK")
    await finish(writing)
    assert (await store.load(APPID)).document == "after"


async def test_lock_that_is_never_released_fails_the_write(path, store):
    """A write gives up before the callers of a store do; the next one works when the lock is gone."""
    await write(store)
    assert LOCK_TIMEOUT < STORE_TIMEOUT
    with (
        database(path, "BEGIN IMMEDIATE"),
        pytest.raises(TokenStoreError, match=f"lock on .* {LOCK_TIMEOUT} s"),
    ):
        await finish(write(store))
    await write(store)


async def test_cancelled_write_never_lands_later(path, store, monkeypatch):
    """A cancelled write has succeeded or failed when its CancelledError is raised."""
    monkeypatch.setattr(stores, "LOCK_TIMEOUT", 0.05)
    await write(store, "before")
    with database(path, "BEGIN IMMEDIATE"):
        writing = asyncio.create_task(store.compare_and_set(APPID, "x", version=(await store.load(APPID)).version))
        await asyncio.sleep(0)
        writing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await finish(writing)
    assert (await store.load(APPID)).document == "before"


async def test_state_repository_in_a_file_is_shared(path, store):
    """`StateRepository` on one handle reads what another handle wrote."""
    async with SqliteStore(path) as other:
        await StateRepository(store, APPID).update(
            lambda state, now: state.with_lease("n", "me", now, counts_as_fetch=True, not_latest=False)
        )
        assert (await StateRepository(other, APPID).read()).state.lease.owner == "me"


async def test_store_recovers_from_deleted_files(path):
    """Whichever of the three files is deleted during use, every handle soon works again."""
    for lost in ("tokens.db", "tokens.db-wal", "tokens.db-shm", "tokens.db-*", "tokens.db*"):
        async with SqliteStore(path) as one, SqliteStore(path) as other:
            await asyncio.gather(write(one), other.load(APPID))
            # An open connection keeps log and shared memory, as a process that is writing does.
            with database(path, "SELECT * FROM kept"):
                for file in path.parent.glob(lost):
                    file.unlink()
                for _ in range(3):
                    for each in (one, other):
                        with contextlib.suppress(TokenStoreError):
                            await write(each)
        async with SqliteStore(path) as again:
            await write(again, lost)
            assert (await again.load(APPID)).document == lost


async def test_waiter_fails_if_the_directory_is_deleted(tmp_path):
    """A wait for a change raises an error that names the file; it does not wait for its whole time."""
    folder = tmp_path / "folder"
    folder.mkdir()
    async with SqliteStore(folder / "tokens.db") as store:
        waiting = asyncio.create_task(store.wait_for_change(APPID, version="", timeout=LONG))
        await asyncio.sleep(0.05)
        # Moved and not deleted: a poll may create SQLite's -wal and -shm files while a directory is being deleted.
        folder.rename(tmp_path / "moved")
        with pytest.raises(TokenStoreError, match=r"tokens\.db"):
            await finish(waiting)


async def test_full_disk_loses_no_document(path, store):
    """A write that does not fit fails; the stored document stays readable, and writes work when there is room again."""
    await write(store, "before")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64 * 1024, limits[1]))
    try:
        with pytest.raises(TokenStoreError, match=r"tokens\.db: ") as caught:
            await write(store, "x" * 500_000)
        assert not caught.value.permanent
        assert (await store.load(APPID)).document == "before"
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    await write(store, "x" * 500_000)
    assert len((await store.load(APPID)).document) == 500_000
