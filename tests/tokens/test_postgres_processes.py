"""Tests of PostgresStore with several processes, which are killed, or write while the server goes away."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

import wxtcb
from tests.postgres_server import start_postgres
from wxtcb.tokens.postgres import PostgresStore

COUNT = """
import asyncio, sys
from wxtcb.errors import TokenStoreError
from wxtcb.tokens.postgres import PostgresStore

async def main():
    async with PostgresStore.from_url(sys.argv[1]) as store:
        while True:
            try:
                stored = await store.load("wx")
                done = await store.compare_and_set("wx", str(int(stored.document or "0") + 1), version=stored.version)
            except TokenStoreError:
                # It may have taken effect.
                sys.stdout.write("?")
            else:
                sys.stdout.write("x" if done else "")
            sys.stdout.flush()

asyncio.run(main())
"""
# Prints each fetch, and each token that 250 callers got. The arguments are URL, name, and seconds of a lease and of a
# fetch.
CALL = """
import asyncio, sys
import wxtcb
from wxtcb.tokens import lease, refresh, token_state

for module in (lease, refresh, token_state):
    module.LEASE_DURATION = float(sys.argv[3])
lease.RENEW_INTERVAL = 1.0
refresh.STORE_OUTAGE_WAIT = 60.0

async def fetch():
    print("fetch", flush=True)
    await asyncio.sleep(float(sys.argv[4]))
    return wxtcb.tokens.ComponentToken(f"T0KEN{sys.argv[2]}", 7200)

async def main():
    # Not required, because the server may restart just now.
    options = {"token_source": fetch, "token_store": sys.argv[1], "store_required": False}
    async with wxtcb.Session(component_appid="wx0123456789abcdef", **options) as session:
        tokens = await asyncio.gather(*(session.token() for _ in range(250)))
        print("got", *{token.reveal() for token in tokens}, flush=True)

asyncio.run(main())
"""


@pytest.fixture
def url(postgres):
    """Return the URL of an empty database."""
    name = postgres.create_database()
    yield postgres.url(name)
    postgres.drop_database(name)


@pytest.fixture
def start(tmp_path):
    """Return a function that starts a program with arguments, and returns the process and the file of its output."""
    environ = {**os.environ, "PYTHONPATH": str(Path(wxtcb.__file__).parents[1])}
    with contextlib.ExitStack() as stack:

        def run(code, *args):
            output = tmp_path / f"output-{random.getrandbits(64):x}"
            stream = stack.enter_context(output.open("w"))
            command = [sys.executable, "-c", code, *args]
            process = stack.enter_context(subprocess.Popen(command, stdout=stream, env=environ))
            stack.callback(process.kill)
            return process, output

        yield run


def kill(process):
    """Kill a process and wait until it has ended."""
    process.kill()
    process.wait()


async def test_killed_processes_and_a_crashed_server_lose_no_acknowledged_write(start, until):
    """The stored count is that of the acknowledged writes, plus at most the writes whose replies got lost."""
    dice = random.Random(11)
    server = start_postgres(synchronous_commit="off")
    try:
        running, ended = [start(COUNT, server.url()) for _ in range(4)], []
        await until(lambda: all(output.stat().st_size > 5 for _, output in running))
        for stop in (None, server.shutdown, None, server.crash, None, server.crash):
            process, output = running.pop(0)
            kill(process)
            ended.append(output)
            if stop:
                await asyncio.to_thread(stop)
                await asyncio.to_thread(server.start)
            running.append(start(COUNT, server.url()))
            await asyncio.sleep(dice.uniform(0, 0.1))
        await until(lambda: all("x" in output.read_text() for _, output in running))
        for process, output in running:
            kill(process)
            ended.append(output)
        texts = [output.read_text() for output in ended]
        acknowledged, unknown = (sum(text.count(sign) for text in texts) for sign in "x?")
        async with PostgresStore.from_url(server.url()) as store:
            stored = int((await store.load("wx")).document)
        assert acknowledged <= stored <= acknowledged + unknown + len(ended)
    finally:
        server.stop()


async def test_thousand_callers_in_four_processes_cause_one_fetch(start, until, url):
    """One process fetches, and all callers get its token."""
    outputs = [start(CALL, url, str(number), "60", "0.3")[1] for number in range(4)]
    await until(lambda: all("got" in output.read_text() for output in outputs))
    lines = [line for output in outputs for line in output.read_text().splitlines()]
    assert lines.count("fetch") == 1
    assert len({line for line in lines if line != "fetch"}) == 1


async def test_process_killed_during_its_fetch_is_replaced_by_another(start, until, url):
    """The lease of a killed process ends by the server's clock, and one of those that wait fetches."""
    holder, held = start(CALL, url, "0", "3", "1000")
    await until(held.read_text)
    outputs = [start(CALL, url, str(number), "3", "0")[1] for number in range(1, 4)]
    kill(holder)
    await until(lambda: all("got" in output.read_text() for output in outputs))
    lines = [line for output in outputs for line in output.read_text().splitlines()]
    assert lines.count("fetch") == 1
    assert len({line for line in lines if line != "fetch"}) == 1


async def test_server_that_restarts_during_a_fetch_is_no_second_fetch(start, until):
    """The process that fetches stores its token when the server is back, and the others get it."""
    server = start_postgres()
    try:
        outputs = [start(CALL, server.url(), str(number), "60", "0.3")[1] for number in range(4)]
        await until(lambda: any(output.read_text() for output in outputs))
        await asyncio.to_thread(server.restart)
        await until(lambda: all("got" in output.read_text() for output in outputs))
        lines = [line for output in outputs for line in output.read_text().splitlines()]
        assert lines.count("fetch") == 1
        assert len({line for line in lines if line != "fetch"}) == 1
    finally:
        server.stop()
