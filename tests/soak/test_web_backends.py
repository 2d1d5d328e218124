"""Web backends whose processes also provision, while these are killed and restarted."""

from __future__ import annotations

import asyncio
import collections
import random
import signal
import time

import aiohttp
import pytest

from tests.examples.backends import LIMITS, Browser, appid, running
from tests.postgres_server import shared_postgres
from wxtcb.sandbox import Fault, FaultKind, ReadyPolicy, Sandbox, World

CREATE = "/componenttcb/createenv"
# Ambiguous and failed creates, and responses that take their time.
FAULTS = (
    Fault(FaultKind.BUSY_AFTER, path=CREATE, probability=0.025),
    Fault(FaultKind.DROP_AFTER, path=CREATE, probability=0.025),
    Fault(FaultKind.BUSY, probability=0.05),
    Fault(FaultKind.SLOW, path=CREATE, seconds=0.3),
)


@pytest.mark.parametrize("name", ["fastapi", "aiohttp"])
async def test_every_browser_sees_the_end(name: str, tmp_path, scale: float) -> None:
    """While processes are killed and restarted, each browser sees its tenant done once, and none is created twice."""
    tenants, processes, kills, restarts = 300, 4, 6, 4
    if scale < 1.0:
        # Starting a process takes longest, so each backend gets one event.
        tenants, processes, kills, restarts = 40, 2, int(name == "fastapi"), int(name == "aiohttp")
    chance = random.Random(14)
    world = World(ready_after=ReadyPolicy.after_seconds(0.5), visible_after=0.2)
    async with (
        Sandbox(world=world) as sandbox,
        running(name, sandbox, shared_postgres(), tmp_path, processes) as backends,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=LIMITS) as http,
    ):
        for fault in FAULTS:
            sandbox.faults.add(fault)
        started = time.monotonic()
        browsers = [Browser(backends, http, f"customer-{n}", appid(n)) for n in range(tenants)]
        following = asyncio.gather(*(browser.run() for browser in browsers))
        async with asyncio.TaskGroup() as starting:
            for event in range(kills + restarts):
                while not following.done() and len(world.environments) < tenants * (event + 1) / (kills + restarts + 1):
                    await asyncio.sleep(0.01)
                if event < kills:
                    # Every second time the one that works. The next event does not wait for its successor.
                    alive = [n for n, process in enumerate(backends.processes) if process.returncode is None]
                    elected = backends.elected() if event % 2 == 0 else None
                    starting.create_task(backends.kill(elected if elected in alive else chance.choice(alive)))
                    # Until its end is noticed.
                    await asyncio.sleep(0.2)
                else:
                    await backends.restart(event % processes)
        await following
        seconds = time.monotonic() - started
        codes = [await backends.stop(number) for number in range(processes)]
    connections = sum(browser.connections for browser in browsers)
    print(
        f"\n{name}: {tenants} tenants, {processes} processes, {kills} kills, {restarts} restarts: {seconds:.1f} s,"
        f" {connections} streams, {max(backends.stop_seconds):.2f} s to stop at most"
    )
    if "Traceback" in backends.log():
        print(backends.log())
    aliases = collections.Counter(row.alias for row in world.environments.values())
    # Streams were cut, so without a second connection not every browser would have seen the end.
    assert connections > tenants
    assert [len(browser.ends) for browser in browsers] == [1] * tenants
    assert [end for browser in browsers if (end := browser.ends[0])["state"] != "done"] == []
    assert (len(aliases), set(aliases.values())) == (tenants, {1})
    assert {browser.ends[0]["env"] for browser in browsers} == set(world.environments)
    assert "Traceback" not in backends.log()
    assert set(codes) <= {0, -signal.SIGTERM}
