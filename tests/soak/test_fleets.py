"""Fleets: many processes on one token store, while tokens, processes and the store itself are killed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import runpy
import sqlite3
from pathlib import Path

import attrs
import pytest

from wxtcb.tokens.sources import API_COMPONENT_TOKEN
from wxtcb.tokens.state import LEASE_DURATION

from .fleet import Fleet, Watch

running_valkey = runpy.run_path(str(Path(__file__).parents[1] / "tokens" / "valkey_server.py"))["running_valkey"]

SLOW = {"trouble": "slow", "path": API_COMPONENT_TOKEN.path}


@attrs.frozen
class Server:
    """Where a store is, and what takes it away and brings it back."""

    url: str
    stop: object
    start: object


@contextlib.contextmanager
def valkey(_, **config):
    """Run a server that forgets everything when it is killed."""
    with running_valkey(**config) as server:
        yield Server(server.url, server.kill, server.start)


@contextlib.contextmanager
def valkey_on_disk(folder):
    """Run a server that writes each change to its disk."""
    with valkey(folder, appendonly="yes", appendfsync="always") as server:
        yield server


@contextlib.contextmanager
def sqlite_locked(folder):
    """Give a file in which another program can hold a lock."""
    with contextlib.closing(sqlite3.connect(folder / "tokens.db", isolation_level=None)) as other:

        def stop():
            other.execute("BEGIN EXCLUSIVE")

        def start():
            other.execute("ROLLBACK")

        (folder / "tokens.db").chmod(0o600)
        yield Server(f"sqlite:///{folder}/tokens.db", stop, start)


@contextlib.contextmanager
def sqlite_moved(folder):
    """Give a file whose directory can be taken away."""
    here, there = folder / "here", folder / "there"
    here.mkdir()
    yield Server(f"sqlite:///{here}/tokens.db", lambda: here.rename(there), lambda: there.rename(here))


FULL_LENGTH = bool(os.environ.get("WXTCB_SOAK"))
PLACES = {"sqlite": sqlite_moved, "valkey": valkey}


@pytest.fixture
def place(request, tmp_path):
    """Give the store that the test is for."""
    with request.param(tmp_path) as server:
        yield server


def at_places(places, *always):
    """Run a test at each of *places*, every day only at those called *always*."""
    names = places if FULL_LENGTH else always
    return pytest.mark.parametrize("place", [places[name] for name in names], ids=names, indirect=True)


@contextlib.asynccontextmanager
async def sailing(box, url, *, tasks, pause=0.0, **options):
    """Give a fleet on the store at *url*, and a watch over its record; nothing stays when this ends."""
    fleet, watch = Fleet(box.way, tasks, pause, {"token_store": url, **options}), Watch()
    following = asyncio.create_task(watch.follow(url, box.way["component_appid"]))
    try:
        yield fleet, watch
    finally:
        await fleet.abandon()
        following.cancel()
        await asyncio.wait([following])


@at_places(PLACES, "sqlite", "valkey")
async def test_one_fetch_in_the_world_for_each_token_that_is_killed(box_process, scale, place):
    """Eight processes of 200 tasks, the token killed whenever all go on: no call fails, nothing is fetched in vain."""
    kills, many = int(40 * scale), scale == 1
    async with box_process() as box, sailing(box, place.url, tasks=200 if many else 40) as (fleet, watch):
        await fleet.start(8 if many else 2)
        for _ in range(kills):
            await box.order("kill-token")
            await fleet.goes_on()
        assert await fleet.end()
        state = await box.state()
    print(fleet.counts(), {name: state[name] for name in ("kills", "mints")})
    assert fleet.failed == {}
    assert (state["kills"], state["mints"]) == (kills, kills + 1)
    assert watch.steps_back() == []


async def test_fleet_without_a_shared_store_fetches_in_vain(box_process, scale):
    """The control: the same with a store for each process, which the ceiling alone would end."""
    async with box_process() as box:
        fleet = Fleet(box.way, 20)
        try:
            await fleet.start(2)
            await box.order("kill-token")
            async with asyncio.timeout(120):
                while (state := await box.state())["mints"] <= state["kills"] + 1 + 3:
                    await asyncio.sleep(0.05)
        finally:
            await fleet.abandon()
    print({name: state[name] for name in ("kills", "mints")})


@attrs.define(eq=False)
class Trouble:
    """Kills and pauses processes; `lost` counts those that had the right to renew then."""

    fleet: Fleet
    watch: Watch
    lost: int = 0
    hits: list = attrs.field(factory=list)

    async def kill_one(self, victim):
        """Kill *victim*, and start another one in its stead."""
        await self.fleet.kill(victim)
        await self._count(victim, "killed")
        await self.fleet.start(1)

    async def pause_holder(self):
        """Pause whoever renews next, in the middle of it, for longer than a lease lasts; it goes on afterwards."""
        while self.watch.lease is None or (victim := self.fleet.holder(self.watch.lease)) is None:
            await asyncio.sleep(0.01)
        victim.pause()
        await self._count(victim, "paused")
        await asyncio.sleep(LEASE_DURATION + 1.5)
        victim.resume()
        await victim.goes_on(1)

    async def _count(self, victim, what):
        await self.watch.looks_again()
        lease = self.watch.lease
        held = lease is not None and lease.owner.endswith(f":{victim.process.pid}")
        self.lost += held
        self.hits.append(f"{what} {'holding' * held}".strip())


async def kill_tokens(box, fleet):
    """Kill the token again and again, each time when all that run have gone on."""
    while True:
        await fleet.goes_on()
        await box.order("kill-token")


@at_places(PLACES, "valkey")
async def test_processes_killed_and_paused_in_mid_renewal_cost_a_fetch_each(box_process, scale, place):
    """Kill -9 and SIGSTOP: none but the killed loses a call, nothing older is stored, and few tokens are in vain."""
    dice, many = random.Random(7), scale == 1
    async with box_process() as box, sailing(box, place.url, tasks=50 if many else 20) as (fleet, watch):
        await fleet.start(6 if many else 2)
        trouble = Trouble(fleet, watch)
        await box.order("faults", [{**SLOW, "seconds": 0.4}])
        killing = asyncio.create_task(kill_tokens(box, fleet))
        for _ in range(8 if many else 1):
            await asyncio.sleep(dice.uniform(0.2, 1.5))
            await trouble.kill_one(dice.choice(fleet.workers))
        for _ in range(4 if many else 1):
            await trouble.pause_holder()
            await trouble.kill_one(dice.choice(fleet.workers))
        killing.cancel()
        await asyncio.wait([killing])
        await fleet.goes_on()
        assert await fleet.end()
        state = await box.state()
    print(fleet.counts(), state["kills"], state["mints"], trouble.lost, trouble.hits)
    assert fleet.failed == {}
    assert state["mints"] <= state["kills"] + 1 + trouble.lost
    assert watch.steps_back() == []


OUTAGES = {
    "valkey": valkey,
    "valkey on disk": valkey_on_disk,
    "sqlite locked": sqlite_locked,
    "sqlite moved": sqlite_moved,
}


@at_places(OUTAGES, "sqlite locked")
@pytest.mark.parametrize("seconds", [5.0, 20.0] if FULL_LENGTH else [5.0])
async def test_store_that_goes_and_comes_back(box_process, scale, place, seconds):
    """With a living token nobody notices. With a dead one all wait five seconds for the store, then each for itself."""
    processes = 4 if scale == 1 else 2
    async with box_process() as box, sailing(box, place.url, tasks=20, pause=0.02) as (fleet, _watch):
        await fleet.start(processes)
        place.stop()
        await asyncio.sleep(seconds * scale)
        assert fleet.failed == {}
        assert (await box.state())["mints"] == 1
        place.start()
        await fleet.goes_on()
        place.stop()
        await box.order("kill-token")
        await asyncio.sleep(seconds * scale)
        away, failed = await box.state(), fleet.failed
        place.start()
        async with asyncio.timeout(300):
            while True:  # until nothing fails for two seconds
                seen = sum(fleet.failed.values())
                await asyncio.sleep(2.0 if scale == 1 else 0.4)
                await fleet.goes_on()
                if sum(fleet.failed.values()) == seen:
                    break
        await box.order("kill-token")
        await fleet.goes_on()
        assert await fleet.end()
        state = await box.state()
    print(fleet.counts(), f"mints while away {away['mints']}, in all {state['mints']}, alone {fleet.told('alone')},")
    print(f"failed while away {sum(failed.values())}; {fleet.failed}")
    if seconds == 5:
        assert fleet.failed == {}
        assert state["mints"] == 3
    assert away["mints"] <= 1 + processes
    assert all(alone <= 1 for alone in fleet.told("alone"))
    assert state["mints"] <= 1 + processes + processes + 1
