"""A history of provisioning: processes that come and go, a platform that misbehaves, and people who meddle."""

from __future__ import annotations

import asyncio
from pathlib import Path
from tempfile import TemporaryDirectory

import attrs
import pytest

import wxtcb
from wxtcb import session as session_module
from wxtcb.provision import MemoryJournal, Outcome, Provisioner, SqliteJournal, Tenant
from wxtcb.sandbox import Sandbox, World

from .fake_platform import Desk, JournalDoor, Platform, Wire
from .invariants import Witness
from .virtual_time import Host, State, Timeline

SETTLE = 20.0
TIMEOUT = wxtcb.Timeout()
WINDOW = TIMEOUT.total + 10.0
HOURS = 7200.0


@attrs.define(eq=False)
class InMemory:
    """A journal that outlives the processes of a history."""

    journal: object = attrs.field(factory=MemoryJournal)

    def call(self, name, *args):
        """Do at once what a process asks of the journal."""
        try:
            getattr(self.journal, name)(*args).send(None)
        except StopIteration as end:
            return end.value
        raise AssertionError(f"{name} waits")

    def reopen(self):
        """There is nothing to open."""

    def close(self):
        """Nor to close."""


@attrs.define(eq=False)
class OnDisk:
    """A journal in a file, which is opened anew by each process that comes when there is no other."""

    folder: TemporaryDirectory = attrs.field(factory=TemporaryDirectory)
    loop: asyncio.AbstractEventLoop = attrs.field(factory=asyncio.new_event_loop)
    journal: SqliteJournal = attrs.field(init=False, default=None)

    def call(self, name, *args):
        return self.loop.run_until_complete(getattr(self.journal, name)(*args))

    def reopen(self):
        if self.journal is not None:
            self.call("aclose")
        self.journal = SqliteJournal(Path(self.folder.name) / "journal.db")

    def close(self):
        self.call("aclose")
        self.loop.close()
        self.folder.cleanup()


@attrs.define(eq=False)
class Process(Host):
    """A process that provisions once: what it was told to do, knows, intends, and has in flight.

    `misled` is whether the last list that it was given lacked some.
    """

    platform: Platform = attrs.field(kw_only=True)
    desk: Desk = attrs.field(kw_only=True)
    decisions: dict = attrs.field(kw_only=True, factory=dict)
    knew: dict = attrs.field(init=False, factory=dict)
    intents: dict = attrs.field(init=False, factory=dict)
    pending: list = attrs.field(init=False, factory=list)
    misled: bool = attrs.field(init=False, default=False)
    run: object = attrs.field(init=False, default=None)
    report: object = attrs.field(init=False, default=None)
    error: object = attrs.field(init=False, default=None)

    def begin(self, tenants, pause, concurrency):
        self.loop.wire = Wire(self, self.platform, TIMEOUT.total)
        self.start(self._provision(tenants, pause, concurrency))

    async def _provision(self, tenants, pause, concurrency):
        box = self.platform.box
        session = wxtcb.Session(
            component_appid=box.component_appid,
            component_appsecret="unused",
            base_url="http://127.0.0.1:1",
            max_fetches_per_hour=None,
            token_source=self.loop.wire.fetch_token,
        )
        options = {"settle": SETTLE, "timeout": 600.0, "clock": self.line.wall, "concurrency": concurrency}
        door = JournalDoor(self, self.desk)
        try:
            async with session, Provisioner(session, journal=door, **options) as provisioner:
                session._lifecycle.resources.limiter.wall_clock = self.line.wall
                plan = await provisioner.plan(tenants, **self.decisions)
                await asyncio.sleep(pause)
                self.run = provisioner.apply(plan)
                self.report = await self.run.wait()
        except wxtcb.WxtcbError as error:
            self.error = error

    def cancel(self):
        """Let somebody press Ctrl-C."""
        if self.run is None:
            self.main.cancel()
        else:
            self.loop.create_task(self.run.cancel())

    def kill(self, *, kept):
        """End it as kill -9 does; its commits in flight are kept, or lost."""
        for pending in [*self.pending] if kept else ():
            pending.happen()
        self.pending.clear()
        self.die()

    def mark(self, what, name):
        self.line.marks[f"{what} {name}"] += 1

    def lacks(self, shown, at):
        """Return the environments that a list of that moment must show, and does not."""
        return {env for env, since in self.knew.items() if since + SETTLE <= at} - shown


@attrs.define(eq=False)
class Past:
    """Everything there is: the time, the platform, the journal, the processes, and what the people want."""

    store: InMemory | OnDisk = attrs.field(factory=InMemory)
    line: Timeline = attrs.field(factory=Timeline)
    tenants: list = attrs.field(factory=lambda: [Tenant(f"t{number}", alias=f"a{number}") for number in range(3)])
    removed: list = attrs.field(factory=list)
    touched: set = attrs.field(factory=set)
    box: Sandbox = attrs.field(init=False)
    witness: Witness = attrs.field(init=False)
    platform: Platform = attrs.field(init=False)
    desk: Desk = attrs.field(init=False)
    patch: pytest.MonkeyPatch = attrs.field(init=False, factory=pytest.MonkeyPatch)
    begun: int = 0

    def __attrs_post_init__(self):
        self.box = Sandbox(world=World(clock=lambda: self.line.now, started_at_unix=1_800_000_000.0, token_ttl=10**9))
        self.witness = Witness(self.line, self.box.world, SETTLE, WINDOW)
        self.platform = Platform(self.box, self.line, self.witness)
        self.desk = Desk(self.line, self.witness, self.store.call)
        self.patch.setattr(session_module, "open_transport", lambda *_, **__: asyncio.get_running_loop().wire)

    @property
    def processes(self):
        """Those that are not over."""
        self.line.hosts[:] = [host for host in self.line.hosts if host.state is not State.OVER]
        return self.line.hosts

    def begin(self, *, pause=0.0, concurrency=4, tenants=None, **decisions):
        """Start a process."""
        if not self.processes:
            self.store.reopen()
        self.begun += 1
        base = 4096.0 * self.begun
        process = Process(self.line, base, platform=self.platform, desk=self.desk, decisions=decisions)
        process.begin([*(self.tenants if tenants is None else tenants)], pause, concurrency)
        return process

    def listed(self):
        """Return all environments that the people can see, by id."""
        return self.box.world.environments

    def open_by_hand(self, alias):
        self.touched.add(alias.lower())
        self.box.world.add(alias)

    def delete_by_hand(self, env):
        self.box.world.remove(env)

    def give_alias_by_hand(self, env, alias):
        """Let the platform's console change an alias."""
        self.touched |= {alias.lower(), self.listed()[env].alias.lower()}
        self.box.world.remove(env)
        self.box.world.add(alias, env=env)

    def known(self):
        """Return the environments that there are and the journal knows."""
        return [env for env in self.listed() if env in self.witness.bound]

    def in_doubt(self):
        """Return the aliases under which something may have been opened."""
        return [record.alias for record in self.witness.records.values() if record.intent]

    def deleted(self):
        """Return what the journal knows and nobody has any more, by tenant."""
        return {tenant: env for env, (tenant, _) in self.witness.bound.items() if env not in self.listed()}

    def finish(self):
        """Let everything be well, all processes end, and two more do what is left; return the last."""
        self.platform.calm()
        self.desk.acts.clear()
        for process in self.processes:
            process.thaw()
        self.begin(tenants=self._wanted(), forget=self.deleted())
        self._run_out()
        self.line.pass_time(WINDOW + SETTLE)
        last = self.begin(tenants=self._wanted(), forget=self.deleted())
        self._run_out()
        return last

    def _run_out(self):
        self.line.run(limit=self.line.now + HOURS)
        assert not self.processes, "a process has no end"

    def _wanted(self):
        """Return the tenants under the aliases that the journal knows them by."""
        known = {name: record.alias for name, record in self.witness.records.items() if record.is_open}
        wanted = {name: Tenant(name, alias=alias) for name, alias in known.items()}
        taken = {alias.lower() for alias in known.values()}
        for tenant in self.tenants:
            if tenant.name not in wanted and tenant.alias.lower() not in taken:
                wanted[tenant.name] = tenant
        return wanted.values()

    def unsettled(self, last):
        """Return what the last process left, except where people caused it; what was opened and is nobody's, too."""
        if last.report is None:
            return [repr(last.error)]
        if orphans := self._orphans():
            return [f"{env} is nobody's" for env in orphans]
        left = (entry for entry in last.report.tenants if not entry.outcome.is_done)
        theirs = (Outcome.CONFLICT, Outcome.DUPLICATE)
        return [entry for entry in left if not (entry.outcome in theirs and entry.alias.lower() in self.touched)]

    def close(self):
        for process in self.processes:
            process.kill(kept=False)
        self.store.close()
        self.patch.undo()

    def wrongs(self):
        """Return what has happened that must not."""
        self.witness.follow_histories(self.store.call("history", [*self.witness.records]))
        return self.witness.wrongs

    def _orphans(self):
        ours = (each for each in self.witness.creates if each.env in self.listed() and not each.excused)
        return [each.env for each in ours if each.env not in self.witness.bound and each.alias not in self.touched]
