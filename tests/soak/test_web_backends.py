"""Web backends whose processes also provision, while these are killed and restarted."""

from __future__ import annotations

import asyncio
import collections
import random
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
    Fault(FaultKind.SLOW, path=CREATE, seconds=0.3, probability=0.5),
)


@pytest.mark.parametrize("name", ["fastapi", "aiohttp"])
async def test_every_browser_sees_the_end(name: str, tmp_path, scale: float) -> None:
    """While processes are killed and restarted, each browser sees its tenant done once, and none is created twice."""
    tenants, processes, kills = (300, 4, 6) if scale == 1.0 else (40, 2, 1)
    chance = random.Random(14)
    server = shared_postgres()
    world = World(ready_after=ReadyPolicy.after_seconds(0.5), visible_after=0.2)
    async with (
        Sandbox(world=world) as sandbox,
        running(name, sandbox, server, tmp_path, processes) as backends,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=LIMITS) as http,
    ):
        for fault in FAULTS:
            sandbox.faults.add(fault)
        started = time.monotonic()
        browsers = [Browser(backends, http, f"customer-{n}", appid(n)) for n in range(tenants)]

        async def environments(share: float) -> None:
            while len(world.environments) < share * tenants:
                await asyncio.sleep(0.01)

        async def disturb() -> None:
            for kill in range(kills):
                await environments((kill + 1) / (kills + 3))
                # The first one is the process that works.
                elected = backends.elected() if kill % 2 == 0 else None
                await backends.kill(chance.randrange(processes) if elected is None else elected)
            await environments((kills + 1) / (kills + 3))
            for number in range(processes):
                await backends.restart(number)

        disturbing = asyncio.create_task(disturb())
        await asyncio.gather(*(browser.run() for browser in browsers))
        await disturbing
        seconds = time.monotonic() - started
        codes = [await backends.stop(number) for number in range(processes)]
    aliases = collections.Counter(row.alias for row in world.environments.values())
    connections = sum(browser.connections for browser in browsers)
    print(
        f"\n{name}: {tenants} tenants, {processes} processes, {kills} killed and {processes} restarted in {seconds:.1f} s;"
        f" {connections} streams, {max(backends.stop_seconds):.2f} s to stop at most"
    )
    print(backends.log()) if "Traceback" in backends.log() else None
    assert [len(browser.ends) for browser in browsers] == [1] * tenants
    print(collections.Counter((e["state"], e["outcome"], e["problem"]) for b in browsers for e in b.ends))
    assert [end for browser in browsers if (end := browser.ends[0])["state"] != "done"] == []
    assert set(aliases.values()) == {1}
    assert len(aliases) == tenants
    assert {browser.ends[0]["env"] for browser in browsers} == set(world.environments)
    assert "Traceback" not in backends.log()
    assert set(codes) <= {0, -15}
