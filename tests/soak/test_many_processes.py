"""Many processes that provision with one journal, while they are killed and paused, and their database restarts.

WXTCB_SOAK=1 runs them with 1,000 and 600 tenants and the times of the guarantee; otherwise a smaller number of tenants
and shorter times.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
from collections import Counter

import pytest

from tests.postgres_server import start_postgres
from tests.soak.candidates import CREATE, FAULTS, LIST, SHARE, SHORT, Hosts, Times
from wxtcb.provision.desired import DesiredState

FULL_LENGTH = bool(os.environ.get("WXTCB_SOAK"))
TIMES = Times() if FULL_LENGTH else SHORT
STORAGES = ["postgresql", "sqlite"]
# Few and slow creates at a time, so that every disturbance meets some of them.
CONCURRENCY = 16 if FULL_LENGTH else 4
SLOW_CREATES = {"kind": "slow", "path": CREATE, "seconds": 0.15}


@pytest.fixture(scope="module")
def postgres():
    """Return a server that tests may restart and crash."""
    server = start_postgres()
    yield server
    server.stop()


@pytest.fixture
def run_hosts(start_sandbox, tmp_path, request):
    """Return a context manager of hosts with a new journal and a new platform that has *faults*."""

    @contextlib.asynccontextmanager
    async def run(storage, count, *, faults=FAULTS, times=TIMES, **sandbox_options):
        server, url = None, f"sqlite://{tmp_path}/journal.db"
        token_store = f"sqlite:///{tmp_path}/tokens.db"
        if storage == "postgresql":
            server = request.getfixturevalue("postgres")
            url = token_store = server.url(server.create_database())
        sandbox_options = {"visible_after": 0.5, "ready_after": 1.0, **sandbox_options}
        async with start_sandbox(**sandbox_options) as sandbox:
            await sandbox.post("faults", [*faults, SLOW_CREATES])
            hosts = Hosts(sandbox, url, token_store, times, CONCURRENCY, server)
            try:
                await hosts.submit(count)
                yield hosts
            finally:
                await hosts.end()

    return run


async def check_all_done(hosts, count):
    """Assert that each tenant is done, and has become so once, with one environment; and that an audit passes."""
    created, state = await hosts.created(), await hosts.sandbox.state()
    ends, finished, audit = hosts.ends(), hosts.finished(), await hosts.audit(count)
    print(
        f"{created.total()} environments of {len(created)} tenants, {ends.total()} ends, {finished.total()} reported; "
        f"{[state['counts'].get(path, 0) for path in (CREATE, LIST, SHARE)]} creates, listings, shares"
    )
    expected = Counter(f"a{number}" for number in range(count))
    assert {alias: number for alias, number in created.items() if number != 1} == {}
    assert created == expected
    assert await hosts.states() == {DesiredState.DONE: count}
    assert ends == Counter(f"t{number}" for number in range(count))
    assert audit.passed


async def restart_database(hosts, *, crash):
    """Restart the database, or crash it; it is back after a moment."""
    if hosts.postgres is not None:
        await asyncio.to_thread(hosts.postgres.crash if crash else hosts.postgres.shutdown)
        await asyncio.sleep(0.3)
        await asyncio.to_thread(hosts.postgres.start)


@pytest.mark.parametrize("storage", STORAGES)
async def test_candidates_replace_each_other(run_hosts, storage):
    """The elected process is killed, the next is paused past its lease, the database restarts and crashes: all done."""
    count = 1000 if FULL_LENGTH else 60
    part = count // 6
    async with run_hosts(storage, count) as hosts:
        await hosts.start(4)
        first = await hosts.next_elected()
        await hosts.wait_for_creates(part)
        epoch = first.epoch
        await hosts.kill(first)
        second = await hosts.next_elected(after=epoch)
        await hosts.wait_for_creates(part)
        epoch = second.epoch
        second.pause()
        if hosts.postgres is not None:
            await hosts.next_elected(after=epoch)
        else:
            # The lock of a stopped process does not end.
            await asyncio.sleep(2 * TIMES.lease)
            second.resume()
        await hosts.wait_for_creates(part)
        await restart_database(hosts, crash=False)
        second.resume()
        await hosts.wait_for_creates(part)
        await restart_database(hosts, crash=True)
        seconds = await hosts.wait_until_done()
        print(f"done {seconds:.1f} s after the last event")
        await check_all_done(hosts, count)
