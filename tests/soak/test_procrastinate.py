"""A fleet of procrastinate workers that drains several platforms, while its processes and its database fail.

WXTCB_SOAK=1 runs it with 40 platforms of 25 tenants, 4 workers, and the times of the guarantee; otherwise it is small.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from collections import Counter
from itertools import pairwise
from operator import itemgetter
from pathlib import Path

import attrs
import procrastinate
import psycopg
import pytest

from tests.postgres_server import start_postgres
from tests.soak.procrastinate_worker import make_app
from wxtcb.provision import ProvisioningClient, Service, Tenant
from wxtcb.provision.desired import DesiredState
from wxtcb.provision.journal import JournalError, JournalIdentity
from wxtcb.provision.postgres.journal import PostgresJournal

FULL_LENGTH = bool(os.environ.get("WXTCB_SOAK"))
PLATFORMS, TENANTS, WORKERS = (40, 25, 4) if FULL_LENGTH else (6, 5, 2)
CREATE, LIST = "/componenttcb/createenv", "/componenttcb/describeenvs"
FOLDER = Path(__file__).parent
# Seconds. A create ends within connect + reply + window_margin.
FULL_TIMES = {
    "settle": 1.5,
    "lease": 3.0,
    "connect": 0.5,
    "reply": 1.5,
    "window_margin": 2.0,
    "interval": 0.5,
    "stalled_after": 4.0,
}
SHORT_TIMES = {
    "settle": 1.0,
    "lease": 1.0,
    "connect": 0.3,
    "reply": 0.7,
    "window_margin": 0.5,
    "interval": 0.3,
    "stalled_after": 1.5,
}
TIMES = FULL_TIMES if FULL_LENGTH else SHORT_TIMES


@pytest.fixture(scope="module")
def postgres():
    """Return a server that the test may restart."""
    server = start_postgres(max_connections=900)
    yield server
    server.stop()


def make_tenants():
    services = [Service.from_name("api")]
    return [
        Tenant(f"t{number}", alias=f"a{number}", appids=[f"wx{number % 3:016}"], services=services)
        for number in range(TENANTS)
    ]


@attrs.define(eq=False)
class Worker:
    """One process, which is started again when it ends by itself, and the lines that it has printed."""

    options: dict
    lines: list = attrs.field(factory=list)
    errors: list = attrs.field(factory=list)
    process: asyncio.subprocess.Process | None = None
    starts: int = 0
    is_over: bool = False
    paused_at: float = 0.0
    supervisor: asyncio.Task = attrs.field(init=False)

    def __attrs_post_init__(self):
        self.supervisor = asyncio.create_task(self._supervise())

    async def _supervise(self):
        # Not as the main module: procrastinate warns of an app in it.
        program = "from tests.soak.procrastinate_worker import run; run()"
        command = (sys.executable, "-c", program, json.dumps(self.options))
        pipe = asyncio.subprocess.PIPE
        while not self.is_over:
            self.process = await asyncio.create_subprocess_exec(*command, stdout=pipe, stderr=pipe)
            self.starts += 1
            await asyncio.gather(self._read(), self._read_errors())
            await self.process.wait()
            self.lines.append({"kind": "process ended", "at": time.monotonic()})
            await asyncio.sleep(0.2)

    async def _read(self):
        while line := await self.process.stdout.readline():
            # The last line of a killed process may be incomplete.
            with contextlib.suppress(json.JSONDecodeError):
                self.lines.append(json.loads(line))

    async def _read_errors(self):
        while line := await self.process.stderr.readline():
            self.errors.append(line.decode())

    def pause(self):
        self.paused_at = time.monotonic()
        self.process.send_signal(signal.SIGSTOP)

    def resume(self):
        self.process.send_signal(signal.SIGCONT)

    async def end(self, number=signal.SIGTERM):
        """End the process for good."""
        self.is_over = True
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(number)
        await self.supervisor

    def in_term(self):
        """Return the number of platforms that it drains at present."""
        kinds = Counter(line["kind"] for line in self.lines)
        return kinds["term"] - kinds["term ended"]


@attrs.define(eq=False)
class Fleet:
    """Platforms, their journals in one database, and the workers."""

    process: asyncio.subprocess.Process
    options: dict
    clients: dict
    workers: list = attrs.field(factory=list)
    killed: list = attrs.field(factory=list)

    def start(self, number):
        self.workers += [Worker(self.options) for _ in range(number)]

    async def platforms(self):
        """Return the state of each platform."""
        self.process.stdin.write(b"\n")
        return json.loads(await self.process.stdout.readline())

    async def submit(self):
        """Submit the tenants of each platform, each in one transaction with its job."""
        app, blueprint = make_app(self.options)
        async with app.open_async():
            for platform, client in self.clients.items():
                async with await psycopg.AsyncConnection.connect(self.options["database"]) as connection:
                    await blueprint.submit(platform, client, make_tenants(), connection=connection)

    async def let_continue(self):
        """Let the tenants continue that have used up their creates, as a person would."""
        app, blueprint = make_app(self.options)
        async with app.open_async():
            for platform, client in self.clients.items():
                exhausted = [status async for status in client.needs_attention()]
                for status in exhausted:
                    assert "creates" in status.problem
                    await client.decide(status.tenant, retry=True)
                if exhausted:
                    await blueprint.defer(platform)

    async def counts(self):
        """Return the number of tenants in each state, over all platforms."""
        total = Counter()
        for client in self.clients.values():
            total.update(await client.counts())
        return total

    async def wait_for(self, condition, seconds=300):
        async with asyncio.timeout(seconds):
            while not await condition():
                await asyncio.sleep(0.2)

    async def has_created(self, number):
        """Return whether the platforms have created so many environments."""
        return sum(sum(state["created"].values()) for state in (await self.platforms()).values()) >= number

    async def all_done(self):
        with contextlib.suppress(JournalError, procrastinate.exceptions.ConnectorException):
            counts = await self.counts()
            if not counts[DesiredState.WAITING] and counts[DesiredState.NEEDS_ATTENTION]:
                await self.let_continue()
            return counts[DesiredState.DONE] == len(self.clients) * TENANTS
        return False


def is_end(line, term):
    """Return whether nothing was sent in *term* after *line*."""
    if line["kind"] == "process ended":
        return True
    if line.get("platform") != term["platform"]:
        return False
    # The line of the end is printed once the last responses have arrived.
    halted = line["kind"] == "stopped" and line["reason"] in ("cancelled", "deposed")
    return halted or (line["kind"] == "term ended" and line["epoch"] == term["epoch"])


def list_terms(worker):
    """Return the terms of a worker, each with its platform, begin, end and epoch."""
    terms = []
    for line in worker.lines:
        for term in terms:
            if term["end"] is None and is_end(line, term):
                term["end"] = line["at"]
        if line["kind"] == "term":
            terms.append({"platform": line["platform"], "begin": line["at"], "end": None, "epoch": line["epoch"]})
    for term in terms:
        # A process that is paused sends nothing, and reports its end when it goes on.
        if term["begin"] < worker.paused_at < term["end"]:
            term["end"] = min(term["end"], worker.paused_at + TIMES["lease"])
    return terms


def find_overlaps(workers):
    """Return the pairs of terms of one platform of which the second began before the first had ended."""
    terms = sorted((term for worker in workers for term in list_terms(worker)), key=itemgetter("platform", "epoch"))
    # What two processes print at the same moment may be read a moment apart.
    return [
        pair
        for pair in pairwise(terms)
        if pair[0]["platform"] == pair[1]["platform"] and pair[0]["end"] > pair[1]["begin"] + 0.5
    ]


@contextlib.asynccontextmanager
async def run_fleet(postgres, platforms=PLATFORMS, *, exhausted=(), midnight_in=None):
    database = postgres.url(postgres.create_database())
    arguments = json.dumps({"count": platforms, "ready_after": 0.5, "exhausted": exhausted})
    pipe = asyncio.subprocess.PIPE
    command = (sys.executable, str(FOLDER / "platforms_process.py"), arguments)
    process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, limit=2**24)
    sessions = json.loads(await process.stdout.readline())
    options = {
        "database": database,
        "sessions": sessions,
        "schemas": {appid: f"platform{number}" for number, appid in enumerate(sessions)},
        "times": TIMES,
        "concurrency": platforms,
        "midnight_in": midnight_in,
    }
    async with contextlib.AsyncExitStack() as stack:
        app, _ = make_app(options)
        async with app.open_async():
            await app.schema_manager.apply_schema_async()
        clients = {}
        for appid, schema in options["schemas"].items():
            journal = await stack.enter_async_context(PostgresJournal(database, schema=schema))
            # What the first provisioner of the platform does.
            await journal.bind_identity(JournalIdentity(component_appid=appid, on_loopback=True, namespace=appid))
            clients[appid] = ProvisioningClient(journal)
        fleet = Fleet(process, options, clients)
        try:
            yield fleet
        finally:
            await asyncio.gather(*(worker.end(signal.SIGKILL) for worker in fleet.workers))
            process.stdin.close()
            await process.wait()


async def check(fleet):
    """All tenants have exactly one environment each, and no platform was drained by two workers at a time."""
    states = await fleet.platforms()
    expected = {tenant.alias: 1 for tenant in make_tenants()}
    assert {platform: state["created"] for platform, state in states.items()} == dict.fromkeys(states, expected)
    assert find_overlaps(fleet.workers) == []


async def test_fleet_loses_workers_and_its_database_restarts(postgres):
    """One worker is killed for good, one is stopped for longer than its lease, and the database restarts once.

    Nothing is created twice and nothing is lost, and each platform is drained by one worker at a time.
    """
    started = time.monotonic()
    async with run_fleet(postgres) as fleet:
        total = PLATFORMS * TENANTS
        await fleet.submit()
        fleet.start(WORKERS)
        await fleet.wait_for(lambda: fleet.has_created(total // 8))
        victim = max(fleet.workers, key=Worker.in_term)
        print(f"killed at {time.monotonic() - started:.1f} s with {victim.in_term()} platforms")
        await victim.end(signal.SIGKILL)
        if FULL_LENGTH:
            fleet.start(1)
        await fleet.wait_for(lambda: fleet.has_created(total // 4))
        running = [worker for worker in fleet.workers if worker is not victim]
        paused = max(running, key=Worker.in_term)
        print(f"stopped at {time.monotonic() - started:.1f} s with {paused.in_term()} platforms")
        paused.pause()
        await asyncio.sleep(14.0 if FULL_LENGTH else 2.0)
        postgres.restart()
        paused.resume()
        await fleet.wait_for(fleet.all_done)
        print(f"done after {time.monotonic() - started:.1f} s")
        await asyncio.gather(*(worker.end() for worker in running))
        terms = [term for worker in fleet.workers for term in list_terms(worker)]
        print(f"{len(terms)} terms; processes were started {[worker.starts for worker in fleet.workers]} times")
        await check(fleet)
    # A job that two workers have run ends without an error in either of them.
    assert [line for worker in fleet.workers for line in worker.errors if "Job was not found" in line] == []


async def test_quota_pause_comes_back(postgres):
    """A platform whose daily quota is exhausted goes on after its midnight, without anyone deferring a job."""
    async with run_fleet(postgres, 3, exhausted=[0], midnight_in=6.0) as fleet:
        await fleet.submit()
        fleet.start(1)
        await fleet.wait_for(fleet.all_done)
        stopped = [line for line in fleet.workers[0].lines if line["kind"] == "stopped"]
        assert [line["reason"] for line in stopped] == ["quota_exceeded"]
        await fleet.workers[0].end()
        await check(fleet)
