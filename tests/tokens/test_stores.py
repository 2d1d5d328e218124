"""Tests of MemoryStore, and of the lifecycle of a SqliteStore."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from pathlib import Path
from unittest import mock

import pytest

import wxtcb
from wxtcb._concurrency.tasks import run_in_thread
from wxtcb.errors import InvalidArgument, TokenStoreError
from wxtcb.tokens import stores
from wxtcb.tokens.store_urls import open_store
from wxtcb.tokens.stores import MemoryStore, SqliteStore, store_name

from .bounded_wait import LONG, finish

APPID = "wx0123456789abcdef"


@pytest.fixture
async def store(tmp_path):
    """Return an open store in a file."""
    async with SqliteStore(tmp_path / "tokens.db") as opened:
        yield opened


def python(code, *args, **options):
    """Run *code* in a new interpreter; it must exit with 0 within a minute."""
    command = [sys.executable, *options.pop("flags", ()), "-c", code, *map(str, args)]
    environ = {"PYTHONPATH": str(Path(wxtcb.__file__).parents[1])}
    return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=True, **options)


async def test_memory_store_uses_the_given_clock():
    """`store_time` is the time of the clock that the store was given."""
    assert (await MemoryStore(lambda: 77.0).load(APPID)).store_time == 77.0


def test_waiter_of_a_closed_loop_does_not_break_a_write():
    """A waiter whose event loop was closed without cancelling it is skipped."""
    store = MemoryStore()
    loop = asyncio.new_event_loop()
    waiting = loop.create_task(store.wait_for_change(APPID, version="", timeout=60))
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    assert asyncio.run(store.compare_and_set(APPID, "document", version=""))
    waiting._log_destroy_pending = False


async def test_two_writes_in_a_row_wake_a_waiter_once():
    """A waiter that was woken is not woken again."""
    store = MemoryStore()
    waiting = asyncio.create_task(store.wait_for_change(APPID, version="", timeout=60))
    await asyncio.sleep(0)
    assert await store.compare_and_set(APPID, "one", version="")
    assert await store.compare_and_set(APPID, "two", version=(await store.load(APPID)).version)
    await waiting


@pytest.mark.parametrize("path", [None, 7, b"tokens.db", "", "tokens\0.db", ":memory:"])
def test_invalid_path_is_rejected(path):
    """The path must be that of a file; ":memory:" would be a separate store in each process."""
    with pytest.raises(InvalidArgument, match="path must be"):
        SqliteStore(path)


async def test_relative_path_is_resolved_when_the_store_is_created(tmp_path, monkeypatch):
    """A process that changes its directory keeps its file."""
    monkeypatch.chdir(tmp_path)
    async with SqliteStore("tokens.db") as store:
        monkeypatch.chdir("/")
        assert await store.compare_and_set(APPID, "document", version="")
    assert (tmp_path / "tokens.db").exists()


async def test_masked_url_is_that_of_the_absolute_path(tmp_path, monkeypatch):
    """It opens the same file; special characters are percent-encoded."""
    monkeypatch.chdir(tmp_path)
    store = SqliteStore("a?b#c%d 令牌.db")
    assert store.masked_url == f"sqlite:///{tmp_path}/a%3Fb%23c%25d 令牌.db"
    assert open_store(store.masked_url).path == store.path


def test_name_of_a_store_of_another_class_is_that_of_the_class():
    """Its attributes may contain secrets, and are not read."""
    assert store_name(MemoryStore()) == "MemoryStore"
    assert store_name(mock.Mock()) == "Mock"


async def test_no_thread_returns_a_document_in_the_clear(tmp_path, monkeypatch):
    """In debug mode, asyncio logs what a thread returned."""
    results = []

    async def run_and_record(function):
        results.append(await run_in_thread(function))
        return results[-1]

    monkeypatch.setattr(stores, "run_in_thread", run_and_record)
    async with SqliteStore(tmp_path / "tokens.db") as store:
        assert await store.compare_and_set(APPID, "T0KEN", version="")
        assert (await store.load(APPID)).document == "T0KEN"
    assert "T0KEN" not in repr(results)


async def test_file_is_created_at_the_first_use(tmp_path):
    """Creating and closing a store does not touch the disk."""
    async with SqliteStore(tmp_path / "tokens.db"):
        pass
    assert list(tmp_path.iterdir()) == []


async def test_sqlite_store_uses_the_given_clock(tmp_path):
    """`store_time` is the time of the clock that the store was given."""
    async with SqliteStore(tmp_path / "tokens.db", clock=lambda: 77.0) as store:
        assert (await store.load(APPID)).store_time == 77.0


async def test_closed_store_raises_and_its_documents_stay(tmp_path):
    """Each operation of a closed store raises; a new store on the same file has the documents."""
    store = SqliteStore(tmp_path / "tokens.db")
    assert await store.compare_and_set(APPID, "document", version="")
    await store.aclose()
    await store.aclose()
    for operation in (
        store.load(APPID),
        store.compare_and_set(APPID, "x", version=""),
        store.wait_for_change(APPID, version="", timeout=1),
    ):
        with pytest.raises(TokenStoreError, match="was closed"):
            await operation
    assert [file.name for file in tmp_path.iterdir()] == ["tokens.db"]
    async with SqliteStore(tmp_path / "tokens.db") as again:
        assert (await again.load(APPID)).document == "document"


def test_sqlite_is_imported_at_the_first_use():
    """Neither `import wxtcb` nor the modules of the stores import sqlite3 or an extra."""
    finished = python(
        "import json, sys, wxtcb, wxtcb.tokens.stores, wxtcb.tokens.store_urls; print(json.dumps([*sys.modules]))"
    )
    assert {"sqlite3", "cryptography", "redis", "psycopg"} & set(json.loads(finished.stdout)) == set()


def test_interpreter_exits_without_waiting_for_an_open_store(tmp_path):
    """A program that exits during a wait exits at once, without a warning; its document is stored."""
    code = """
import asyncio, sys
from wxtcb.tokens.stores import SqliteStore
store = SqliteStore(sys.argv[1])

async def main():
    assert await store.compare_and_set("wx", "document", version="")
    waiting = asyncio.create_task(store.wait_for_change("wx", version=(await store.load("wx")).version, timeout=1000))
    await asyncio.sleep(0.05)

asyncio.run(main())
"""
    finished = python(code, tmp_path / "tokens.db", flags=["-W", "default"])
    assert finished.stderr == ""

    async def load():
        async with SqliteStore(tmp_path / "tokens.db") as store:
            return (await store.load("wx")).document

    assert asyncio.run(load()) == "document"


def test_store_works_on_both_sides_of_a_fork(tmp_path):
    """Parent and children count in one document with the same store object, and no step is lost."""
    code = """
import asyncio, os, sys, warnings
from wxtcb.tokens.stores import SqliteStore
warnings.simplefilter("ignore", DeprecationWarning)  # a fork with threads is what this tests
store = SqliteStore(sys.argv[1])

async def count():
    for _ in range(50):
        while True:
            stored = await store.load("wx")
            if await store.compare_and_set("wx", str(int(stored.document or "0") + 1), version=stored.version):
                break

async def finish():
    await count()
    await store.aclose()

asyncio.run(count())
children = []
for _ in range(3):
    if child := os.fork():
        children.append(child)
        continue
    asyncio.run(finish())
    os._exit(0)
asyncio.run(count())
assert [os.waitpid(child, 0)[1] for child in children] == [0, 0, 0]

async def show():
    print((await store.load("wx")).document)
    await store.aclose()

asyncio.run(show())
"""
    finished = python(code, tmp_path / "tokens.db", flags=["-W", "error"])
    assert (finished.stdout, finished.stderr) == ("250\n", "")


async def test_closing_fails_waiters_and_finishes_running_writes(store):
    """A write under way succeeds, and a wait for a change raises at its next poll."""
    waiting = asyncio.create_task(store.wait_for_change(APPID, version="", timeout=LONG))
    await store.load(APPID)
    writing = asyncio.create_task(store.compare_and_set("wx2", "document", version=""))
    await asyncio.sleep(0)
    await store.aclose()
    assert await writing
    with pytest.raises(TokenStoreError, match="was closed"):
        await finish(waiting)


async def test_closing_waits_until_no_thread_uses_the_file(store):
    """A file may be deleted after `aclose`: the operation under way has ended by then."""
    release, ended = threading.Event(), []

    def hang(_):
        release.wait(60)
        ended.append(True)

    hanging = asyncio.create_task(store._run(hang))
    await asyncio.sleep(0)
    closing = asyncio.create_task(store.aclose())
    await asyncio.sleep(0)
    assert not closing.done()
    release.set()
    await finish(closing)
    assert ended
    await hanging
