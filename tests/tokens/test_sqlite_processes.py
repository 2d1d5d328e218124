"""SqliteStore among real processes: killed, stopped, and all at once."""

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

from .hearing import LONG, heard

COUNT = """
import asyncio, sys
from wxtcb.tokens.stores import SqliteStore

async def main():
    async with SqliteStore(sys.argv[1]) as store:
        while True:
            kept = await store.load("wx")
            if await store.compare_and_set("wx", str(int(kept.document or "0") + 1), version=kept.version):
                sys.stdout.write("x")
                sys.stdout.flush()

asyncio.run(main())
"""
STAND_STILL = """
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
    """Give a function that starts a program on the file; what it prints is in the file returned with it."""
    environ = {**os.environ, "PYTHONPATH": str(Path(wxtcb.__file__).parents[1])}
    with contextlib.ExitStack() as stack:

        def run(code):
            told = tmp_path / f"told-{random.getrandbits(64):x}"
            output = stack.enter_context(told.open("w"))
            command = [sys.executable, "-c", code, str(tmp_path / "tokens.db")]
            process = stack.enter_context(subprocess.Popen(command, stdout=output, env=environ))
            stack.callback(process.kill)
            return process, told

        yield run


def kill(process):
    """End a process as a power cut would, and wait until it is gone."""
    process.kill()
    process.wait()


async def test_processes_killed_at_random_lose_nothing_and_spoil_nothing(tmp_path, start, until):
    """Four count up, twelve are killed: what was told to be kept is kept, and at most one step more for each killed."""
    dice = random.Random(11)
    running, ended = [start(COUNT) for _ in range(4)], []
    await until(lambda: all(told.stat().st_size > 5 for _, told in running))
    for _ in range(12):
        process, told = running.pop(0)
        kill(process)
        ended.append(told)
        running.append(start(COUNT))
        await asyncio.sleep(dice.uniform(0, 0.1))
    for process, told in running:
        kill(process)
        ended.append(told)
    acknowledged = sum(told.stat().st_size for told in ended)
    async with SqliteStore(tmp_path / "tokens.db") as store:
        kept = int((await store.load("wx")).document)
    assert acknowledged <= kept <= acknowledged + len(ended)
    with contextlib.closing(sqlite3.connect(tmp_path / "tokens.db")) as opened:
        assert opened.execute("PRAGMA integrity_check").fetchone() == ("ok",)


async def test_a_process_stopped_in_the_middle_of_a_change_holds_nobody_up(tmp_path, start, until):
    """Others load while it stands, the stores just opened as well; swaps fail then, and work when it is dead."""
    async with SqliteStore(tmp_path / "tokens.db") as store, SqliteStore(tmp_path / "tokens.db") as other:
        assert await store.compare_and_set("wx", "whole", version="")
        stopped, told = start(STAND_STILL)
        await until(told.read_text)
        await until(lambda: os.waitid(os.P_PID, stopped.pid, os.WSTOPPED | os.WNOHANG))
        kept = await heard(other.load("wx"))
        assert kept.document == "whole"
        with pytest.raises(TokenStoreError, match="another process held the lock"):
            await heard(store.compare_and_set("wx", "late", version=kept.version))
        kill(stopped)
        assert await store.compare_and_set("wx", "late", version=kept.version)


async def test_a_change_of_another_process_is_heard(tmp_path, start, until):
    """Who waits for it need not wait until its time is over."""
    async with SqliteStore(tmp_path / "tokens.db") as store:
        assert await store.compare_and_set("wx", "0", version="")
        kept = await store.load("wx")
        waiting = asyncio.create_task(store.wait_for_change("wx", version=kept.version, timeout=LONG))
        _, told = start(COUNT)
        await until(lambda: told.stat().st_size)
        await heard(waiting)


async def test_a_file_deleted_beside_a_process_that_does_nothing_is_made_anew(tmp_path, start, until):
    """What the idle process holds of the old file, and what lies beside it, does not spoil the new one."""
    async with SqliteStore(tmp_path / "tokens.db") as store:
        for number in range(20):
            assert await store.compare_and_set(f"wx{number}", "old" * 5000, version="")
        _, told = start(IDLE)
        await until(told.read_text)
        (tmp_path / "tokens.db").unlink()
        for number in range(3):
            assert await store.compare_and_set(f"wx{number}", "new", version="")
            assert (await store.load(f"wx{number}")).document == "new"
