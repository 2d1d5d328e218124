"""The stores of this package beyond what all must do: the memory, and the life of a SqliteStore."""

from __future__ import annotations

import asyncio
import gc
import json
import subprocess
import sys
from concurrent.futures import Future
from pathlib import Path

import pytest

import wxtcb
from wxtcb.errors import InvalidArgument, TokenStoreError
from wxtcb.tokens.files.worker import FileOperation
from wxtcb.tokens.stores import MemoryStore, SqliteStore

APPID = "wx0123456789abcdef"


@pytest.fixture
async def store(tmp_path):
    """Give a store in a file."""
    async with SqliteStore(tmp_path / "tokens.db") as opened:
        yield opened


def python(code, *args, **options):
    """Run *code* in an interpreter of its own; it must end within a minute, and well."""
    command = [sys.executable, *options.pop("flags", ()), "-c", code, *map(str, args)]
    environ = {"PYTHONPATH": str(Path(wxtcb.__file__).parents[1])}
    return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=True, **options)


async def test_memory_tells_the_time_of_the_clock_it_was_given():
    """Leases are measured by it."""
    assert (await MemoryStore(lambda: 77.0).load(APPID)).store_time == 77.0


def test_a_waiter_in_a_loop_that_was_closed_under_it_hinders_no_swap():
    """A bell that cannot ring any more is passed over."""
    store = MemoryStore()
    loop = asyncio.new_event_loop()
    waiting = loop.create_task(store.wait_for_change(APPID, version="", timeout=60))
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    assert asyncio.run(store.compare_and_set(APPID, "document", version=""))
    waiting._log_destroy_pending = False


async def test_memory_rings_once_for_two_changes_in_a_row():
    """A bell that has rung is not rung again."""
    store = MemoryStore()
    waiting = asyncio.create_task(store.wait_for_change(APPID, version="", timeout=60))
    await asyncio.sleep(0)
    assert await store.compare_and_set(APPID, "one", version="")
    assert await store.compare_and_set(APPID, "two", version=(await store.load(APPID)).version)
    await waiting


@pytest.mark.parametrize("path", [None, 7, b"tokens.db", "", "tokens\0.db", ":memory:"])
def test_a_path_that_is_none_is_refused(path):
    """It must name a file; ":memory:", which would be one store for each process, is MemoryStore's."""
    with pytest.raises(InvalidArgument, match="path must be"):
        SqliteStore(path)


async def test_a_relative_path_is_that_of_the_day_the_store_was_built(tmp_path, monkeypatch):
    """A process that changes its directory keeps its file."""
    monkeypatch.chdir(tmp_path)
    async with SqliteStore("tokens.db") as store:
        monkeypatch.chdir("/")
        assert await store.compare_and_set(APPID, "document", version="")
    assert (tmp_path / "tokens.db").exists()


async def test_the_file_is_made_when_it_is_first_needed(tmp_path):
    """Building and closing a store touches no disk."""
    async with SqliteStore(tmp_path / "tokens.db"):
        pass
    assert list(tmp_path.iterdir()) == []


async def test_the_clock_is_that_which_was_given(tmp_path):
    """All processes of a machine have the same one; tests have theirs."""
    async with SqliteStore(tmp_path / "tokens.db", clock=lambda: 77.0) as store:
        assert (await store.load(APPID)).store_time == 77.0


async def test_what_the_clock_raises_is_raised(tmp_path):
    """The thread of the store outlives it."""

    def broken():
        raise ArithmeticError("no time")

    async with SqliteStore(tmp_path / "tokens.db", clock=broken) as store:
        with pytest.raises(ArithmeticError):
            await store.load(APPID)
        assert await store.compare_and_set(APPID, "document", version="")


async def test_a_closed_store_answers_nothing_and_keeps_what_it_kept(tmp_path):
    """Its file would be opened again for nobody to close; a new store has everything."""
    store = SqliteStore(tmp_path / "tokens.db")
    assert await store.compare_and_set(APPID, "document", version="")
    await store.aclose()
    await store.aclose()
    for ask in (
        store.load(APPID),
        store.compare_and_set(APPID, "x", version=""),
        store.wait_for_change(APPID, version="", timeout=1),
    ):
        with pytest.raises(TokenStoreError, match="was closed"):
            await ask
    assert [file.name for file in tmp_path.iterdir()] == ["tokens.db"]
    async with SqliteStore(tmp_path / "tokens.db") as again:
        assert (await again.load(APPID)).document == "document"


async def test_closing_ends_what_waits_and_finishes_what_was_asked(tmp_path):
    """A compare_and_set on its way is kept, a wait for a change fails, one that was cancelled is forgotten."""
    store = SqliteStore(tmp_path / "tokens.db")
    waiting, dropped = (asyncio.create_task(store.wait_for_change(APPID, version="", timeout=60)) for _ in range(2))
    await asyncio.sleep(0.05)
    dropped.cancel()
    compare_and_set = asyncio.create_task(store.compare_and_set("wx2", "document", version=""))
    await asyncio.sleep(0)
    await store.aclose()
    assert await compare_and_set
    with pytest.raises(TokenStoreError, match="was closed"):
        await waiting


async def test_a_worker_that_ended_takes_no_more_jobs(store):
    """Who was given the worker just before the end hears the same as all others, and does not wait for ever."""
    worker = store._workers.for_this_process()
    await store.aclose()
    with pytest.raises(TokenStoreError, match="was closed"):
        worker.submit(lambda _: None)


@pytest.mark.parametrize(
    "tell", [lambda job: job.settle("late"), lambda job: job.fail(TokenStoreError("late"))], ids=["answer", "failure"]
)
def test_a_job_that_was_given_up_is_told_nothing(tell):
    """Its answer, or its failure, comes too late and is dropped."""
    job = FileOperation(lambda _: None, Future(), 0.0)
    job.future.cancel()
    tell(job)
    assert job.future.cancelled()


async def test_closing_goes_on_when_its_caller_is_cancelled(store):
    """Who asks again hears when it is done."""
    await store.load(APPID)
    closing = asyncio.create_task(store.aclose())
    await asyncio.sleep(0)
    closing.cancel()
    await asyncio.gather(closing, return_exceptions=True)
    await store.aclose()


async def test_what_was_cancelled_before_its_turn_is_not_done(store):
    """Of many swaps given up at once none that had not begun is made up for later."""
    await store.load(APPID)
    calls = [asyncio.create_task(store.compare_and_set(f"wx{number}", "document", version="")) for number in range(200)]
    await asyncio.sleep(0)
    for call in calls:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)
    assert (await store.load("wx199")).document is None


async def test_a_waiter_that_was_cancelled_is_forgotten(store, until):
    """The thread looks no more when nobody waits."""
    waiting = asyncio.create_task(store.wait_for_change(APPID, version="", timeout=60))
    worker = store._workers.for_this_process()
    await until(lambda: worker._watches)
    waiting.cancel()
    await until(lambda: not worker._watches)


async def test_a_store_that_was_forgotten_open_says_so(tmp_path, until):
    """A ResourceWarning names the file, which is closed; one that was closed, or never used, says nothing."""

    async def forget():
        async with SqliteStore(tmp_path / "closed.db") as closed:
            await closed.load(APPID)
        SqliteStore(tmp_path / "unused.db")
        await SqliteStore(tmp_path / "tokens.db").load(APPID)
        gc.collect()

    with pytest.warns(ResourceWarning, match=r"never closed: .*tokens\.db") as told:
        await forget()
    assert len(told) == 1
    await until(lambda: len(list(tmp_path.glob("tokens.db*"))) == 1)


def test_sqlite_is_loaded_when_a_store_is_built():
    """`import wxtcb` does not load it, nor does the module of the stores."""
    told = python(
        "import json, sys, wxtcb, wxtcb.tokens.stores, wxtcb.tokens.store_urls; print(json.dumps([*sys.modules]))"
    )
    assert {"sqlite3", "cryptography", "redis", "wxtcb.tokens.files.worker"} & set(json.loads(told.stdout)) == set()


def test_an_interpreter_ends_without_waiting_for_a_store(tmp_path):
    """Who exits with a store open, even in the middle of a wait, exits at once; what was kept is kept."""
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
    told = python(code, tmp_path / "tokens.db", flags=["-W", "default"])
    assert "ResourceWarning: a SqliteStore was never closed" in told.stderr
    assert "Traceback" not in told.stderr

    async def look():
        async with SqliteStore(tmp_path / "tokens.db") as store:
            return (await store.load("wx")).document

    assert asyncio.run(look()) == "document"


def test_a_store_is_used_on_both_sides_of_a_fork(tmp_path):
    """A child has a connection of its own, also while the parent waits; neither disturbs the other."""
    code = """
import asyncio, os, sys, warnings
from wxtcb.tokens.stores import SqliteStore
warnings.simplefilter("ignore", DeprecationWarning)  # of a fork with threads, which is the case in question
store = SqliteStore(sys.argv[1])

async def count():
    for _ in range(50):
        while True:
            kept = await store.load("wx")
            if await store.compare_and_set("wx", str(int(kept.document or "0") + 1), version=kept.version):
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

async def look():
    print((await store.load("wx")).document)
    await store.aclose()

asyncio.run(look())
"""
    told = python(code, tmp_path / "tokens.db", flags=["-W", "error"])
    assert (told.stdout, told.stderr) == ("250\n", "")
