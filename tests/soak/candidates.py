"""Many real processes with one journal: started, killed, paused, terminated, and observed from outside."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sqlite3
import sys
import time
from collections import Counter
from pathlib import Path

import attrs

import wxtcb
from tests.soak.candidate import make_tenants
from wxtcb.provision import Provisioner, ProvisioningClient
from wxtcb.provision.desired import DesiredState
from wxtcb.provision.journal import JournalError
from wxtcb.provision.journal_urls import open_journal

PROGRAM = Path(__file__).with_name("candidate.py")
CREATE = "/componenttcb/createenv"
LIST = "/componenttcb/describeenvs"
SHARE = "/componenttcb/batchshareenv"
# Creates that succeed without a response, that fail without an effect, or that take longer than their timeout.
FAULTS = (
    {"kind": "busy-after", "path": CREATE, "probability": 0.025},
    {"kind": "drop-after", "path": CREATE, "probability": 0.025},
    {"kind": "busy", "path": CREATE, "probability": 0.05},
    {"kind": "slow", "path": CREATE, "probability": 0.03, "seconds": 3.0},
    {"kind": "incomplete-list", "path": LIST, "probability": 0.02},
)
# A transition to DONE is stored in the transaction that makes it, so each one is counted exactly once.
POSTGRES_ENDS = (
    "CREATE TABLE ends (tenant text)",
    """
    CREATE FUNCTION note_end() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN INSERT INTO ends VALUES (new.tenant); RETURN new; END $$
    """,
    """
    CREATE TRIGGER note_end AFTER UPDATE ON wxtcb_desired FOR EACH ROW
    WHEN (new.state = 'done' AND old.state <> 'done') EXECUTE FUNCTION note_end()
    """,
)
SQLITE_ENDS = (
    "CREATE TABLE ends (tenant TEXT)",
    """
    CREATE TRIGGER note_end AFTER UPDATE ON desired WHEN new.state = 'done' AND old.state <> 'done'
    BEGIN INSERT INTO ends VALUES (new.tenant); END
    """,
)


@attrs.frozen(kw_only=True)
class Times:
    """Seconds of the guarantee: `window` is within which a create ends; `lease` that of the elected process."""

    settle: float = 1.5
    lease: float = 3.0
    connect: float = 0.5
    reply: float = 1.5
    window: float = 4.0
    interval: float = 0.5

    def options(self):
        options = attrs.asdict(self)
        return options | {"window_margin": options.pop("window") - self.connect - self.reply}


SHORT = Times(settle=1.0, lease=1.0, connect=0.3, reply=0.7, window=1.5, interval=0.3)


@attrs.define(eq=False)
class Candidate:
    """One process, and the lines that it has printed."""

    process: asyncio.subprocess.Process
    lines: list = attrs.field(factory=list)
    paused: bool = False
    reader: asyncio.Task = attrs.field(init=False)

    def __attrs_post_init__(self):
        self.reader = asyncio.create_task(self._read())

    async def _read(self):
        while line := await self.process.stdout.readline():
            # The last line of a killed process may be incomplete.
            with contextlib.suppress(json.JSONDecodeError):
                self.lines.append(json.loads(line))

    @property
    def running(self):
        return self.process.returncode is None

    def of_kind(self, kind):
        return [line for line in self.lines if line["kind"] == kind]

    @property
    def epoch(self):
        """The epoch of its present term, as far as it has reported; None if it is not elected."""
        terms = [line for line in self.lines if line["kind"] in ("term", "term ended")]
        return terms[-1]["epoch"] if terms and terms[-1]["kind"] == "term" else None

    def pause(self):
        self.paused = True
        self.process.send_signal(signal.SIGSTOP)

    def resume(self):
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGCONT)
        self.paused = False

    async def kill(self):
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        await self.reader
        await self.process.wait()

    async def terminate(self):
        self.process.terminate()
        await self.reader
        return await self.process.wait()


@attrs.define(eq=False)
class Hosts:
    """The candidates of one platform, their journal, and what became of the tenants."""

    sandbox: object
    journal_url: str
    token_store: str
    times: Times
    concurrency: int = 16
    postgres: object = None
    candidates: list = attrs.field(factory=list)
    killed: list = attrs.field(factory=list)

    def session_options(self):
        return {**self.sandbox.session_options, "token_store": self.token_store}

    async def start(self, number=1, **options):
        """Start *number* more candidates, and return them."""
        given = {
            "work": "serve",
            "careless": False,
            "clock_offset": 0.0,
            "count": 0,
            "concurrency": self.concurrency,
            "journal": self.journal_url,
            "session": self.session_options(),
            **self.times.options(),
            **options,
        }
        command = (sys.executable, "-m", "tests.soak.candidate", json.dumps(given))
        new = []
        for _ in range(number):
            process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
            new.append(Candidate(process))
        self.candidates += new
        return new

    async def kill(self, candidate):
        self.candidates.remove(candidate)
        self.killed.append(candidate)
        await candidate.kill()

    async def end(self):
        """End all candidates in any state."""
        await asyncio.gather(*(self.kill(each) for each in (*self.candidates,)))

    def elected(self):
        """Return the running candidate with the newest term; None if none has one."""
        present = [each for each in self.candidates if each.running and not each.paused and each.epoch is not None]
        return max(present, key=lambda each: each.epoch, default=None)

    async def next_elected(self, *, after=0):
        """Wait for a running candidate with a term that is newer than *after*."""
        while (elected := self.elected()) is None or elected.epoch <= after:
            await asyncio.sleep(0.01)
        return elected

    @property
    def everyone(self):
        return (*self.candidates, *self.killed)

    def finished(self):
        """Return how many times the processes reported each tenant as done."""
        lines = [line for each in self.everyone for line in each.of_kind("finished")]
        return Counter(line["tenant"] for line in lines if line["outcome"] in ("done", "awaiting confirmation"))

    async def created(self):
        """Return the number of environments of each alias."""
        return Counter(row["alias"] for row in (await self.sandbox.state())["environments"])

    async def calls(self, path=CREATE):
        return (await self.sandbox.state())["counts"].get(path, 0)

    async def wait_for_creates(self, more):
        """Wait until the platform has received so many more creates; return at once if all tenants are done."""
        goal = await self.calls() + more
        while await self.calls() < goal and DesiredState.WAITING in (await self.states() or (DesiredState.WAITING,)):
            await asyncio.sleep(0.1)

    @contextlib.asynccontextmanager
    async def client(self):
        async with open_journal(self.journal_url) as journal:
            yield ProvisioningClient(journal)

    async def submit(self, count):
        """Submit *count* tenants to the journal, which is new, and count from now on each tenant that is done."""
        async with open_journal(self.journal_url) as journal, wxtcb.Session(**self.session_options()) as session:
            async with Provisioner(session, journal=journal):
                pass
            await ProvisioningClient(journal).submit(make_tenants(count))
        self._execute(*(POSTGRES_ENDS if self.postgres else SQLITE_ENDS))

    def ends(self):
        """Return how many times each tenant has become DONE."""
        return Counter(tenant for (tenant,) in self._execute("SELECT tenant FROM ends"))

    async def states(self):
        """Return the number of tenants by state; None while the database is away."""
        async with self.client() as client:
            try:
                return {state: number for state, number in (await client.counts()).items() if number}
            except JournalError:
                return None

    async def wait_until_done(self):
        """Wait until all tenants are done; return the seconds.

        A tenant that has used up its creates needs a decision, and this one lets it continue. That happens if the
        platform rejects three creates of a tenant in a row, or if their processes are killed.
        """
        started, decided = time.monotonic(), 0
        async with self.client() as client:
            while True:
                with contextlib.suppress(JournalError):
                    if not (await client.counts())[DesiredState.WAITING]:
                        exhausted = [status async for status in client.needs_attention()]
                        if not exhausted:
                            print(f"{decided} decisions")
                            return time.monotonic() - started
                        for status in exhausted:
                            assert "creates" in status.problem
                            await client.decide(status.tenant, retry=True)
                            decided += 1
                await asyncio.sleep(0.05)

    async def audit(self, count):
        """Return the audit of the tenants."""
        times = self.times
        timeout = wxtcb.Timeout(connect=times.connect, reply=times.reply)
        async with (
            open_journal(self.journal_url) as journal,
            wxtcb.Session(**self.session_options(), timeout=timeout, max_fetches_per_hour=None) as session,
            Provisioner(session, journal=journal, settle=times.settle) as provisioner,
        ):
            return await provisioner.audit(make_tenants(count))

    def _execute(self, *statements):
        if self.postgres:
            return self.postgres.execute(*statements, database=self.journal_url.rpartition("?")[0].rpartition("/")[2])
        db = sqlite3.connect(self.journal_url.removeprefix("sqlite:///"), timeout=30)
        with contextlib.closing(db), db:
            return [db.execute(statement).fetchall() for statement in statements][-1]
