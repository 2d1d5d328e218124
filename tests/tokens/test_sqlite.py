"""The file of a SqliteStore: who may read it, what is refused, what locks and losses do."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import shutil
import sqlite3
import stat
import subprocess
from pathlib import Path

import pytest

from wxtcb import _sqlite as files
from wxtcb.errors import TokenStoreError
from wxtcb.tokens.files import sqlite, worker
from wxtcb.tokens.shared_state import STORE_TIMEOUT, SharedState
from wxtcb.tokens.stores import SqliteStore

from .hearing import LONG, heard

APPID = "wx0123456789abcdef"


@pytest.fixture
def path(tmp_path):
    """Give the path of a file that is not there yet."""
    return tmp_path / "tokens.db"


@pytest.fixture
async def store(path):
    """Give a store in it."""
    async with SqliteStore(path) as opened:
        yield opened


@contextlib.contextmanager
def database(path, *statements):
    """Open the file as any program might, say *statements*, and close it."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as opened:
        for statement in statements:
            opened.execute(statement)
        yield opened


@pytest.fixture(params=[0, 0o377])
def umask(request):
    """Take no right away from new files, as a careless service might, or too many."""
    before = os.umask(request.param)
    yield
    os.umask(before)


def mode_of(path):
    """Return the rights to a file."""
    return stat.S_IMODE(Path(path).stat().st_mode)


def bytes_of(path):
    """Return what is in a file, read by another process: to close it in this one would end the locks of SQLite."""
    return subprocess.run(["cat", path], check=True, capture_output=True).stdout


async def keep(store, document="document"):
    """Keep a document, whatever is kept."""
    assert await store.compare_and_set(APPID, document, version=(await store.load(APPID)).version)


async def test_nobody_else_can_read_the_file_or_what_is_beside_it(umask, path, store, monkeypatch):
    """All three have mode 600 whatever the umask, and had so when they were made."""
    born = []
    link = Path.hardlink_to
    monkeypatch.setattr(Path, "hardlink_to", lambda self, draft: (born.append(mode_of(draft)), link(self, draft)))
    await keep(store)
    assert {file.name: mode_of(file) for file in path.parent.iterdir()} == dict.fromkeys(
        ("tokens.db", "tokens.db-wal", "tokens.db-shm"), 0o600
    )
    assert born == [0o600]


@pytest.mark.parametrize("beside", ["", "-wal", "-shm", "-journal"])
async def test_a_file_that_others_may_read_is_refused(path, beside):
    """What stood open may have been read: that is said, not mended in silence; with mode 600 all is well."""
    async with SqliteStore(path) as first:
        await keep(first)
    file = path.with_name(path.name + beside)
    file.touch()
    file.chmod(0o640)
    async with SqliteStore(path) as store:
        with pytest.raises(TokenStoreError, match=f"{file} has mode 640.*must have 600") as caught:
            await store.load(APPID)
        assert caught.value.permanent
        assert mode_of(file) == 0o640
        file.chmod(0o600)
        assert (await store.load(APPID)).document == "document"


async def test_an_empty_file_is_made_a_store(path, store):
    """So is one that somebody made in time, with the right mode."""
    path.touch(mode=0o600)
    await keep(store)


@pytest.mark.parametrize(
    "garbage",
    [b"x", b"x" * 99, b"SQLite format 3\0", b"\0" * 4096, b"garbage" * 2000],
    ids=["1", "99", "head", "zeros", "14000"],
)
async def test_a_file_that_is_no_database_is_refused_and_left_as_it_is(path, store, garbage):
    """It may be somebody's."""
    path.write_bytes(garbage)
    path.chmod(0o600)
    for _ in range(2):
        with pytest.raises(TokenStoreError, match=r"tokens\.db") as caught:
            await store.compare_and_set(APPID, "document", version="")
        assert caught.value.permanent
    assert path.read_bytes() == garbage
    assert [file.name for file in path.parent.iterdir()] == ["tokens.db"]


@pytest.mark.parametrize("journal", ["delete", "wal"])
async def test_the_database_of_another_program_is_refused_and_left_as_it_is(path, store, journal):
    """Its tables, its format and its journal stay what they were."""
    with database(path, f"PRAGMA journal_mode={journal}", "CREATE TABLE kept (document)", "PRAGMA user_version=1"):
        path.chmod(0o600)
    before = path.read_bytes()
    with pytest.raises(TokenStoreError, match="database of another program") as caught:
        await store.load(APPID)
    assert caught.value.permanent
    assert path.read_bytes() == before


async def test_the_file_of_another_version_is_refused(path):
    """It is not made older, nor guessed at."""
    async with SqliteStore(path) as first:
        await keep(first)
    with database(path, "PRAGMA user_version=2"):
        pass
    async with SqliteStore(path) as store:
        with pytest.raises(TokenStoreError, match="another version of wxtcb") as caught:
            await store.load(APPID)
        assert caught.value.permanent


async def test_a_directory_or_none_at_all_is_refused(tmp_path):
    """The error says what is there and what is not."""
    (tmp_path / "file").touch()
    for name, words in (("", "is no file"), ("none/tokens.db", "there is no directory"), ("file/t.db", "Not a dir")):
        async with SqliteStore(tmp_path / name) as store:
            with pytest.raises(TokenStoreError, match=words):
                await store.load(APPID)


async def test_a_file_that_cannot_be_written_is_refused(path, store, monkeypatch):
    """A store that can only be read would fail when it matters."""
    await keep(store)
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write everything
    async with SqliteStore(path) as second:
        with pytest.raises(TokenStoreError, match="readable and writable") as caught:
            await second.load(APPID)
        assert caught.value.permanent


async def test_a_disk_without_a_write_ahead_log_is_refused(store, monkeypatch):
    """SQLite falls back in silence; a reader would then wait for a writer."""
    pragma = files.pragma
    monkeypatch.setattr(files, "pragma", lambda db, words: "delete" if "WAL" in words else pragma(db, words))
    with pytest.raises(TokenStoreError, match="local disk") as caught:
        await store.load(APPID)
    assert caught.value.permanent


async def test_a_change_is_on_the_disk_when_swap_returns(store, monkeypatch):
    """Every commit is written through, and the log is a write-ahead log."""
    await keep(store)
    asked = store._workers.for_this_process().submit(
        lambda file: [files.pragma(file._opened(), words) for words in ("synchronous", "journal_mode")]
    )
    assert await asyncio.wrap_future(asked) == [2, "wal"]


async def test_who_is_second_to_make_a_file_leaves_it_as_it_is(path, store):
    """Between a look at an empty file and the lock another process may have made it."""
    await keep(store)
    with database(path) as opened:
        sqlite._KIND.create_schema(opened, path)
    assert (await store.load(APPID)).document == "document"


async def test_a_file_put_in_place_of_another_while_it_is_opened_is_opened_again(path, store, monkeypatch):
    """The store never believes a file that is no longer there."""
    connect, drafts = sqlite._connect, iter([path.with_name("draft")])

    def late(where):
        opened = connect(where)
        for draft in drafts:
            draft.touch(mode=0o600)
            draft.replace(path)
        return opened

    monkeypatch.setattr(sqlite, "_connect", late)
    await keep(store)
    async with SqliteStore(path) as other:
        assert (await other.load(APPID)).document == "document"


async def test_an_error_of_sqlite_says_what_it_is_and_the_store_recovers(path, store):
    """The message names the file, nothing shows a document, and the next call opens it anew."""
    await keep(store, "T0KEN")
    with database(path, "ALTER TABLE kept RENAME TO other"):
        with pytest.raises(TokenStoreError, match=r"tokens\.db: no such table") as caught:
            await store.compare_and_set(APPID, "S3CRET", version="")
        assert not caught.value.permanent
        assert caught.value.__context__ is None
        assert caught.value.__cause__ is None
        assert await asyncio.wrap_future(store._workers.for_this_process().submit(lambda file: file._db)) is None
    with database(path, "ALTER TABLE other RENAME TO kept"):
        assert (await store.load(APPID)).document == "T0KEN"


async def test_a_writer_that_holds_the_lock_delays_no_reader(path, store, monkeypatch):
    """While another connection is in the middle of a change, loads and waits go on; swaps follow when it ends."""
    monkeypatch.setattr(worker.Worker.submit, "__defaults__", (LONG,))
    await keep(store, "before")
    with database(path, "BEGIN IMMEDIATE") as slow:
        compare_and_set = asyncio.create_task(keep(store, "after"))
        dropped = asyncio.create_task(store.compare_and_set("wx2", "dropped", version=""))
        for _ in range(50):
            assert (await store.load(APPID)).document == "before"
            await asyncio.sleep(0.001)
        dropped.cancel()
        slow.execute("ROLLBACK")
    await compare_and_set
    assert (await store.load(APPID)).document == "after"
    assert (await store.load("wx2")).document is None


async def test_a_lock_that_is_never_let_go_fails_in_time(path, store):
    """A compare_and_set gives up before those who ask a store do; the store works again when the lock is gone."""
    await keep(store)
    assert worker.PATIENCE < STORE_TIMEOUT
    with (
        database(path, "BEGIN IMMEDIATE"),
        pytest.raises(TokenStoreError, match=f"held the lock on .* for more than {worker.PATIENCE} s"),
    ):
        await heard(keep(store))
    await keep(store)


async def test_closing_does_not_wait_for_a_lock(path, store, monkeypatch):
    """What still met a lock fails, an hour before it would have been given up."""
    monkeypatch.setattr(worker.Worker.submit, "__defaults__", (LONG,))
    await keep(store)
    with database(path, "BEGIN IMMEDIATE"):
        compare_and_set = asyncio.create_task(keep(store))
        await asyncio.sleep(0.05)
        await heard(store.aclose())
        with pytest.raises(TokenStoreError, match="was closed"):
            await heard(compare_and_set)


async def test_the_record_in_a_file_is_the_same_for_all(path, store):
    """`SharedState` stands on it."""
    async with SqliteStore(path) as other:
        await SharedState(store, APPID).update(
            lambda record, now: record.with_lease("n", "me", now, counts_as_fetch=True, not_latest=False)
        )
        assert (await SharedState(other, APPID).read()).state.lease.by == "me"


async def test_a_file_that_lost_its_log_alone_or_kept_it_alone_heals(path, store):
    """Whatever part of the three was deleted in use, the store soon keeps documents again, on all handles."""
    for lost in ("tokens.db", "tokens.db-wal", "tokens.db-shm", "tokens.db-*", "tokens.db*"):
        async with SqliteStore(path) as one, SqliteStore(path) as other:
            await asyncio.gather(keep(one), other.load(APPID))
            for file in path.parent.glob(lost):
                file.unlink()
            for _ in range(3):
                for each in (one, other):
                    with contextlib.suppress(TokenStoreError):
                        await keep(each)
        async with SqliteStore(path) as again:
            await keep(again, lost)
            assert (await again.load(APPID)).document == lost


async def test_waiters_hear_that_the_directory_is_gone(tmp_path):
    """They fail with the reason, and do not wait for what cannot come."""
    folder = tmp_path / "folder"
    folder.mkdir()
    async with SqliteStore(folder / "tokens.db") as store:
        waiting = asyncio.create_task(store.wait_for_change(APPID, version="", timeout=LONG))
        await asyncio.sleep(0.05)
        shutil.rmtree(folder)
        with pytest.raises(TokenStoreError, match="there is no directory"):
            await heard(waiting)


async def test_a_full_disk_loses_nothing(path, store):
    """A compare_and_set that cannot be written fails; what was kept can be read, and small changes find room in the log."""
    await keep(store, "before")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64 * 1024, limits[1]))
    try:
        with pytest.raises(TokenStoreError, match=r"tokens\.db: ") as caught:
            await keep(store, "x" * 500_000)
        assert not caught.value.permanent
        assert (await store.load(APPID)).document == "before"
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    await keep(store, "x" * 500_000)
    assert len((await store.load(APPID)).document) == 500_000


async def test_a_database_that_may_not_grow_makes_room_in_its_log(path, store):
    """What is too large fails; the log is written back, and what fits is kept afterwards."""
    await keep(store, "before")

    def limit(file):
        file._opened().execute("PRAGMA max_page_count = 8")

    await asyncio.wrap_future(store._workers.for_this_process().submit(limit))
    assert b"before" not in bytes_of(path)
    with pytest.raises(TokenStoreError, match="full"):
        await keep(store, "x" * 500_000)
    assert b"before" in bytes_of(path)
    await keep(store, "after")
