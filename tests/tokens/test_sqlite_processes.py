"""Tests of SqliteStore with several processes, which are killed, stopped, or write at the same time."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

import wxtcb
from wxtcb.errors import TokenStoreError
from wxtcb.tokens.stores import SqliteStore

from .bounded_wait import LONG, finish

COUNT = """
import asyncio, sys
from wxtcb.tokens.stores import SqliteStore

async def main():
    async with SqliteStore(sys.argv[1]) as store:
        while True:
            stored = await store.load("wx")
            if await store.compare_and_set("wx", str(int(stored.document or "0") + 1), version=stored.version):
                sys.stdout.write("x")
                sys.stdout.flush()

asyncio.run(main())
"""
STOP_DURING_WRITE = """
import os, signal, sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute("BEGIN IMMEDIATE")
db.execute("UPDATE kept SET document = 'half'")
print("stopping", flush=True)
os.kill(os.getpid(), signal.SIGSTOP)
"""
IDLE = """
import asyncio, sys
from wxtcb.tokens.stores import SqliteStore

async def main():
    async with SqliteStore(sys.argv[1]) as store:
        await store.load("wx")
        print("idle", flush=True)
        await asyncio.sleep(1000)

asyncio.run(main())
"""


@pytest.fixture
def start(tmp_path):
    """Return a function that starts a program on the file, and returns the process and the file of its output."""
    environ = {**os.environ, "PYTHONPATH": str(Path(wxtcb.__file__).parents[1])}
    with contextlib.ExitStack() as stack:

        def run(code):
            output = tmp_path / f"output-{random.getrandbits(64):x}"
            stream = stack.enter_context(output.open("w"))
            command = [sys.executable, "-c", code, str(tmp_path / "tokens.db")]
            process = stack.enter_context(subprocess.Popen(command, stdout=stream, env=environ))
            stack.callback(process.kill)
            return process, output

        yield run


def kill(process):
    """Kill a process and wait until it has ended."""
    process.kill()
    process.wait()


async def test_killed_processes_lose_no_acknowledged_write(tmp_path, start, until):
    """The stored count is that of the acknowledged writes, plus at most one for each killed process."""
    dice = random.Random(11)
    running, ended = [start(COUNT) for _ in range(4)], []
    await until(lambda: all(output.stat().st_size > 5 for _, output in running))
    for _ in range(12):
        process, output = running.pop(0)
        kill(process)
        ended.append(output)
        running.append(start(COUNT))
        await asyncio.sleep(dice.uniform(0, 0.1))
    for process, output in running:
        kill(process)
        ended.append(output)
    acknowledged = sum(output.stat().st_size for output in ended)
    async with SqliteStore(tmp_path / "tokens.db") as store:
        stored = int((await store.load("wx")).document)
    assert acknowledged <= stored <= acknowledged + len(ended)
    with contextlib.closing(sqlite3.connect(tmp_path / "tokens.db")) as opened:
        assert opened.execute("PRAGMA integrity_check").fetchone() == ("ok",)


async def test_process_stopped_during_a_write_blocks_no_reader(tmp_path, start, until):
    """While a process is stopped in a write, loads work and writes fail; after it is killed, writes work."""
    async with SqliteStore(tmp_path / "tokens.db") as store, SqliteStore(tmp_path / "tokens.db") as other:
        assert await store.compare_and_set("wx", "whole", version="")
        stopped, output = start(STOP_DURING_WRITE)
        await until(output.read_text)
        await until(lambda: os.waitid(os.P_PID, stopped.pid, os.WSTOPPED | os.WNOHANG))
        stored = await finish(other.load("wx"))
        assert stored.document == "whole"
        with pytest.raises(TokenStoreError, match="another process held the lock"):
            await finish(store.compare_and_set("wx", "late", version=stored.version))
        kill(stopped)
        assert await store.compare_and_set("wx", "late", version=stored.version)


async def test_change_by_another_process_wakes_a_waiter(tmp_path, start, until):
    """A wait for a change ends when another process writes."""
    async with SqliteStore(tmp_path / "tokens.db") as store:
        assert await store.compare_and_set("wx", "0", version="")
        stored = await store.load("wx")
        waiting = asyncio.create_task(store.wait_for_change("wx", version=stored.version, timeout=LONG))
        _, output = start(COUNT)
        await until(lambda: output.stat().st_size)
        await finish(waiting)


async def test_deleted_file_is_created_again_although_a_process_has_the_store_open(tmp_path, start, until):
    """Neither the idle process nor the leftover files of the old database affect the new one."""
    async with SqliteStore(tmp_path / "tokens.db") as store:
        for number in range(20):
            assert await store.compare_and_set(f"wx{number}", "old" * 5000, version="")
        _, output = start(IDLE)
        await until(output.read_text)
        (tmp_path / "tokens.db").unlink()
        for number in range(3):
            assert await store.compare_and_set(f"wx{number}", "new", version="")
            assert (await store.load(f"wx{number}")).document == "new"
