"""Fleets: many processes on one token store, while tokens, processes and the store itself fail."""

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

from wxtcb.tokens.providers import API_COMPONENT_TOKEN
from wxtcb.tokens.token_state import LEASE_DURATION

from .fleet import Fleet, Watch

running_valkey = runpy.run_path(str(Path(__file__).parents[1] / "tokens" / "valkey_server.py"))["running_valkey"]

SLOW = {"kind": "slow", "path": API_COMPONENT_TOKEN.path}


@attrs.frozen
class Server:
    """The URL of a store, and functions that stop and start it."""

    url: str
    stop: object
    start: object


@contextlib.contextmanager
def valkey(_, **config):
    """Run a server that loses everything when it is killed."""
    with running_valkey(**config) as server:
        yield Server(server.url, server.kill, server.start)


@contextlib.contextmanager
def valkey_on_disk(folder):
    """Run a server that writes each change to its disk."""
    with valkey(folder, appendonly="yes", appendfsync="always") as server:
        yield server


@contextlib.contextmanager
def sqlite_locked(folder):
    """Provide a file that another program can lock."""
    with contextlib.closing(sqlite3.connect(folder / "tokens.db", isolation_level=None)) as other:

        def stop():
            other.execute("BEGIN EXCLUSIVE")

        def start():
            other.execute("ROLLBACK")

        (folder / "tokens.db").chmod(0o600)
        yield Server(f"sqlite:///{folder}/tokens.db", stop, start)


@contextlib.contextmanager
def sqlite_moved(folder):
    """Provide a file whose directory can be moved away."""
    here, there = folder / "here", folder / "there"
    here.mkdir()
    yield Server(f"sqlite:///{here}/tokens.db", lambda: here.rename(there), lambda: there.rename(here))


FULL_LENGTH = bool(os.environ.get("WXTCB_SOAK"))
STORES = {"sqlite": sqlite_moved, "valkey": valkey}


@pytest.fixture
def store(request, tmp_path):
    """Open the store of the test."""
    with request.param(tmp_path) as server:
        yield server


def with_stores(stores, *always):
    """Run a test with each of *stores*; without WXTCB_SOAK=1, only with those named *always*."""
    names = stores if FULL_LENGTH else always
    return pytest.mark.parametrize("store", [stores[name] for name in names], ids=names, indirect=True)


@contextlib.asynccontextmanager
async def running_fleet(sandbox, url, *, tasks, pause=0.0, **options):
    """Provide a fleet on the store at *url*, and a watch over its state; end both at the exit."""
    fleet, watch = Fleet(sandbox.session_options, tasks, pause, {"token_store": url, **options}), Watch()
    following = asyncio.create_task(watch.follow(url, sandbox.session_options["component_appid"]))
    try:
        yield fleet, watch
    finally:
        await fleet.abandon()
        following.cancel()
        await asyncio.wait([following])


@with_stores(STORES, "sqlite", "valkey")
async def test_fleet_fetches_once_per_invalidated_token(start_sandbox, scale, store):
    """No call of eight processes of 200 tasks fails, and no token is fetched in vain."""
    kills, many = int(40 * scale), scale == 1
    async with (
        start_sandbox() as sandbox,
        running_fleet(sandbox, store.url, tasks=200 if many else 40) as (fleet, watch),
    ):
        await fleet.start(8 if many else 2)
        for _ in range(kills):
            await sandbox.post("kill-token")
            await fleet.make_progress()
        assert await fleet.end()
        state = await sandbox.state()
    print(fleet.summary(), {name: state[name] for name in ("forced_expirations", "tokens_issued")})
    assert fleet.failed == {}
    assert (state["forced_expirations"], state["tokens_issued"]) == (kills, kills + 1)
    assert watch.regressions() == []


async def test_fleet_without_shared_store_fetches_in_vain(start_sandbox, scale):
    """Control: with a store per process, only the fetch limit would end the fetches."""
    async with start_sandbox() as sandbox:
        fleet = Fleet(sandbox.session_options, 20)
        try:
            await fleet.start(2)
            await sandbox.post("kill-token")
            async with asyncio.timeout(300):
                while (state := await sandbox.state())["tokens_issued"] <= state["forced_expirations"] + 1 + 3:
                    await asyncio.sleep(0.05)
        finally:
            await fleet.abandon()
    print({name: state[name] for name in ("forced_expirations", "tokens_issued")})


@attrs.define(eq=False)
class Disturbance:
    """Kills and pauses processes; `lost` counts those that held the lease at that moment."""

    fleet: Fleet
    watch: Watch
    lost: int = 0
    hits: list = attrs.field(factory=list)

    async def kill_one(self, victim):
        """Kill *victim*, and start another process in its place."""
        await self.fleet.kill(victim)
        await self._count(victim, "killed")
        await self.fleet.start(1)

    async def pause_holder(self):
        """Pause the next lease holder during its refresh for longer than a lease lasts; then let it continue."""
        while self.watch.lease is None or (victim := self.fleet.holder(self.watch.lease)) is None:
            await asyncio.sleep(0.01)
        victim.pause()
        await self._count(victim, "paused")
        await asyncio.sleep(LEASE_DURATION + 1.5)
        victim.resume()
        await victim.make_progress(1)

    async def _count(self, victim, action):
        await self.watch.poll_again()
        lease = self.watch.lease
        held = lease is not None and lease.owner.endswith(f":{victim.process.pid}")
        self.lost += held
        self.hits.append(f"{action} {'holding' * held}".strip())


async def kill_tokens(sandbox, fleet):
    """Invalidate the token again and again, each time after all processes have continued."""
    while True:
        await fleet.make_progress()
        await sandbox.post("kill-token")


@with_stores(STORES, "valkey")
async def test_killed_or_paused_refresh_costs_one_fetch(start_sandbox, scale, store):
    """Only killed processes lose calls, no older token is stored, and few tokens are fetched in vain."""
    rng, many = random.Random(7), scale == 1
    async with (
        start_sandbox() as sandbox,
        running_fleet(sandbox, store.url, tasks=50 if many else 20) as (fleet, watch),
    ):
        await fleet.start(6 if many else 2)
        disturbance = Disturbance(fleet, watch)
        await sandbox.post("faults", [{**SLOW, "seconds": 0.4}])
        killing = asyncio.create_task(kill_tokens(sandbox, fleet))
        for _ in range(8 if many else 1):
            await asyncio.sleep(rng.uniform(0.2, 1.5))
            await disturbance.kill_one(rng.choice(fleet.workers))
        for _ in range(4 if many else 1):
            await disturbance.pause_holder()
            await disturbance.kill_one(rng.choice(fleet.workers))
        killing.cancel()
        await asyncio.wait([killing])
        await fleet.make_progress()
        assert await fleet.end()
        state = await sandbox.state()
    print(fleet.summary(), state["forced_expirations"], state["tokens_issued"], disturbance.lost, disturbance.hits)
    assert fleet.failed == {}
    assert state["tokens_issued"] <= state["forced_expirations"] + 1 + disturbance.lost
    assert watch.regressions() == []


OUTAGES = {
    "valkey": valkey,
    "valkey on disk": valkey_on_disk,
    "sqlite locked": sqlite_locked,
    "sqlite moved": sqlite_moved,
}


@with_stores(OUTAGES, "sqlite locked")
@pytest.mark.parametrize("seconds", [5.0, 20.0] if FULL_LENGTH else [5.0])
async def test_store_outage(start_sandbox, scale, store, seconds):
    """With a valid token no call fails; with an invalid one, each process waits five seconds and refreshes alone."""
    processes = 4 if scale == 1 else 2
    async with start_sandbox() as sandbox, running_fleet(sandbox, store.url, tasks=20, pause=0.02) as (fleet, _watch):
        await fleet.start(processes)
        store.stop()
        await asyncio.sleep(seconds * scale)
        assert fleet.failed == {}
        assert (await sandbox.state())["tokens_issued"] == 1
        store.start()
        await fleet.make_progress()
        store.stop()
        await sandbox.post("kill-token")
        await asyncio.sleep(seconds * scale)
        away, failed = await sandbox.state(), fleet.failed
        store.start()
        async with asyncio.timeout(300):
            # Until no call fails for two seconds.
            while True:
                failures = sum(fleet.failed.values())
                await asyncio.sleep(2.0 if scale == 1 else 0.4)
                await fleet.make_progress()
                if sum(fleet.failed.values()) == failures:
                    break
        await sandbox.post("kill-token")
        await fleet.make_progress()
        assert await fleet.end()
        state = await sandbox.state()
    alone = fleet.counts("store_write_failures")
    print(
        fleet.summary(),
        f"fetches during outage {away['tokens_issued']}, total {state['tokens_issued']}, refreshed alone {alone},",
    )
    print(f"failed during outage {sum(failed.values())}; {fleet.failed}")
    if seconds == 5:
        assert fleet.failed == {}
        assert state["tokens_issued"] == 3
    assert away["tokens_issued"] <= 1 + processes
    assert all(alone <= 1 for alone in fleet.counts("store_write_failures"))
    assert state["tokens_issued"] <= 1 + processes + processes + 1
