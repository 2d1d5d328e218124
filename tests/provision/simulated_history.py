"""A simulated history of provisioning: processes start and end, the platform fails, and people interfere."""

from __future__ import annotations

import asyncio
import contextlib
import math
from operator import attrgetter
from pathlib import Path
from tempfile import TemporaryDirectory

import attrs
import pytest

import wxtcb
from wxtcb import session as session_module
from wxtcb.provision import MemoryJournal, Outcome, Provisioner, SqliteJournal, Tenant
from wxtcb.provision.engine import Engine
from wxtcb.sandbox import Sandbox, World

from .fake_platform import FakeTransport, JournalBackend, JournalConnection, Platform
from .invariants import InvariantChecker
from .virtual_time import EPOCH, ProcessState, Timeline, VirtualProcess

SETTLE = 20.0
TIMEOUT = wxtcb.Timeout()
WINDOW = TIMEOUT.total + 10.0
MAX_FINISH_SECONDS = 7200.0
LOOP_CLOCK_OFFSET = 4096.0


@attrs.define(eq=False)
class InMemoryStore:
    """A journal in memory that outlives the processes of a history."""

    journal: MemoryJournal = attrs.field(init=False)

    def start(self, clock):
        self.journal = MemoryJournal(clock=clock)

    def call(self, name, *args, **kwargs):
        """Execute a method of the journal at once."""
        try:
            attrgetter(name)(self.journal)(*args, **kwargs).send(None)
        except StopIteration as end:
            return end.value
        raise AssertionError(f"{name} waits")

    def reopen(self):
        """Do nothing: a journal in memory is always open."""

    def close(self):
        """Do nothing."""


@attrs.define(eq=False)
class OnDiskStore:
    """A journal in a file; it is reopened when a process starts while no other one runs."""

    folder: TemporaryDirectory = attrs.field(factory=TemporaryDirectory)
    loop: asyncio.AbstractEventLoop = attrs.field(factory=asyncio.new_event_loop)
    journal: SqliteJournal = attrs.field(init=False, default=None)

    def start(self, clock):
        """Do nothing: what depends on the clock of the storage is not used."""

    def call(self, name, *args, **kwargs):
        return self.loop.run_until_complete(getattr(self.journal, name)(*args, **kwargs))

    def reopen(self):
        if self.journal is not None:
            self.call("aclose")
        self.journal = SqliteJournal(Path(self.folder.name) / "journal.db")

    def close(self):
        self.call("aclose")
        self.loop.close()
        self.folder.cleanup()


@attrs.define(eq=False)
class ProvisioningProcess(VirtualProcess):
    """A process that provisions; `skew` is the error of its own wall clock.

    `known_envs` maps the environments that it knows to the time after which they must be listed, less the propagation
    delay. `misled`: its last list was incomplete. `epoch`: that of its term. `allowances`: tenants for which decisions
    of a person allow further creates.
    """

    platform: Platform = attrs.field(kw_only=True)
    backend: JournalBackend = attrs.field(kw_only=True)
    decisions: dict = attrs.field(kw_only=True, factory=dict)
    allowances: set = attrs.field(kw_only=True, factory=set)
    skew: float = attrs.field(kw_only=True, default=0.0)
    settle: float = attrs.field(init=False, default=SETTLE)
    known_envs: dict = attrs.field(init=False, factory=dict)
    intents: dict = attrs.field(init=False, factory=dict)
    pending_writes: list = attrs.field(init=False, factory=list)
    misled: bool = attrs.field(init=False, default=False)
    thawed_at: float = attrs.field(init=False, default=-math.inf)
    records_read_at: dict = attrs.field(init=False, factory=dict)
    is_candidate: bool = attrs.field(init=False, default=False)
    epoch: int | None = attrs.field(init=False, default=None)
    error: object = attrs.field(init=False, default=None)

    def begin(self, concurrency):
        self.loop.transport = FakeTransport(self, self.platform, TIMEOUT.total)
        self.start(self._provision(concurrency))

    async def _provision(self, concurrency):
        session = wxtcb.Session(
            component_appid=self.platform.sandbox.component_appid,
            component_appsecret="unused",
            base_url="http://127.0.0.1:1",
            max_fetches_per_hour=None,
            token_source=self.loop.transport.fetch_token,
        )
        options = {"settle": SETTLE, "timeout": 600.0, "clock": self.wall_time, "concurrency": concurrency}
        try:
            async with session, Provisioner(session, journal=self.connect(), **options) as provisioner:
                session._lifecycle.resources.limiter.wall_clock = self.wall_time
                await self.work(provisioner)
        except wxtcb.WxtcbError as error:
            self.error = error

    def wall_time(self):
        return self.timeline.wall_time() + self.skew

    def connect(self):
        return JournalConnection(self, self.backend)

    async def work(self, provisioner):
        raise NotImplementedError

    def cancel(self):
        """Cancel its work, as Ctrl-C does."""
        self.main.cancel()

    def thaw(self):
        super().thaw()
        self.thawed_at = self.timeline.now
        self.platform.checker.on_thawed(self)

    def kill(self, *, stored):
        """End it, as kill -9 does; its writes in flight are stored, or lost."""
        for pending in [*self.pending_writes] if stored else ():
            with contextlib.suppress(wxtcb.WxtcbError):
                pending.execute()
        self.pending_writes.clear()
        self.terminate()

    def count(self, event, name):
        self.timeline.counts[f"{event} {name}"] += 1

    def missing_from(self, envs, at):
        """Return the known environments that a list of that moment must contain, and does not."""
        return {env for env, since in self.known_envs.items() if since + SETTLE <= at} - envs


@attrs.define(eq=False)
class ApplyingProcess(ProvisioningProcess):
    """A process that provisions a list of tenants once, *pause* seconds after it has planned."""

    tenants: list = attrs.field(kw_only=True)
    pause: float = attrs.field(kw_only=True, default=0.0)
    run: object = attrs.field(init=False, default=None)
    report: object = attrs.field(init=False, default=None)

    async def work(self, provisioner):
        plan = await provisioner.plan(self.tenants, **self.decisions)
        await asyncio.sleep(self.pause)
        self.run = provisioner.apply(plan)
        self.report = await self.run.wait()

    def cancel(self):
        if self.run is None:
            super().cancel()
        else:
            self.loop.create_task(self.run.cancel())


@attrs.define(eq=False)
class SimulatedHistory:
    """The time, the platform, the journal, the processes, and the tenants that are requested.

    `touched_aliases` holds the aliases, in lower case, of environments that people changed at the console.
    """

    store: InMemoryStore | OnDiskStore = attrs.field(factory=InMemoryStore)
    timeline: Timeline = attrs.field(factory=Timeline)
    tenants: list = attrs.field(factory=lambda: [Tenant(f"t{number}", alias=f"a{number}") for number in range(3)])
    removed_tenants: list = attrs.field(factory=list)
    touched_aliases: set = attrs.field(factory=set)
    sandbox: Sandbox = attrs.field(init=False)
    checker: InvariantChecker = attrs.field(init=False)
    platform: Platform = attrs.field(init=False)
    backend: JournalBackend = attrs.field(init=False)
    patch: pytest.MonkeyPatch = attrs.field(init=False, factory=pytest.MonkeyPatch)
    started_processes: int = 0

    def __attrs_post_init__(self):
        world = World(clock=lambda: self.timeline.now, started_at_unix=EPOCH, token_ttl=10**9)
        self.sandbox = Sandbox(world=world)
        self.checker = InvariantChecker(self.timeline, world, SETTLE, WINDOW)
        self.platform = Platform(self.sandbox, self.timeline, self.checker)
        self.store.start(lambda: EPOCH + self.timeline.now)
        self.backend = JournalBackend(self.timeline, self.checker, self.store.call)
        self.patch.setattr(Engine, "run_tenant", self._check_reports(Engine.run_tenant))
        self.patch.setattr(session_module, "open_transport", lambda *_, **__: asyncio.get_running_loop().transport)

    @property
    def processes(self):
        """The processes that are not over."""
        self.timeline.processes[:] = [
            process for process in self.timeline.processes if process.state is not ProcessState.OVER
        ]
        return self.timeline.processes

    def begin(self, *, pause=0.0, concurrency=4, tenants=None, skew=0.0, **decisions):
        """Start a process that provisions *tenants*."""
        if not self.processes:
            self.store.reopen()
        process = self._create(
            ApplyingProcess,
            decisions=decisions,
            allowances={*decisions.get("adopt", ()), *decisions.get("forget", ()), *decisions.get("retry", ())},
            tenants=[*(self.tenants if tenants is None else tenants)],
            pause=pause,
            skew=skew,
        )
        process.begin(concurrency)
        return process

    def _create(self, factory, **fields):
        self.started_processes += 1
        # Each process has another monotonic clock: a time that crosses a process boundary by mistake is far off.
        base = LOOP_CLOCK_OFFSET * self.started_processes
        return factory(self.timeline, base, platform=self.platform, backend=self.backend, **fields)

    def _check_reports(self, run_tenant):
        async def run_and_check(engine, group, plan, *, index=0):
            report = await run_tenant(engine, group, plan, index=index)
            # What is unknown to a process that was stopped may be known to another one.
            if not group.halted:
                self.checker.on_reported(asyncio.get_running_loop().transport.process, report)
            return report

        return run_and_check

    def environments(self):
        """Return all environments that people can see, by id."""
        return self.sandbox.world.environments

    def create_by_hand(self, alias):
        self.touched_aliases.add(alias.lower())
        self.sandbox.world.add(alias)

    def delete_by_hand(self, env):
        self.sandbox.world.remove(env)

    def change_alias_by_hand(self, env, alias):
        """Change an alias at the platform's console."""
        self.touched_aliases |= {alias.lower(), self.environments()[env].alias.lower()}
        self.sandbox.world.remove(env)
        self.sandbox.world.add(alias, env=env)

    def bound_envs(self):
        """Return the environments that exist and that the journal knows."""
        return [env for env in self.environments() if env in self.checker.bound]

    def ambiguous_aliases(self):
        """Return the aliases under which an environment may have been created."""
        return [record.alias for record in self.checker.records.values() if record.intent]

    def deleted_envs(self):
        """Return the environments that the journal knows and that do not exist any more, by tenant."""
        bound = self.checker.bound.items()
        return {tenant: env for env, (tenant, _) in bound if env not in self.environments()}

    def finish(self):
        """Stop all faults, let all processes end, and run two more to the end; return the last one."""
        self.platform.clear_faults()
        self.backend.clear_faults()
        for process in self.processes:
            process.thaw()
        self._begin_last()
        self._run_to_end()
        self.timeline.advance(WINDOW + SETTLE)
        last = self._begin_last()
        self._run_to_end()
        return last

    def _begin_last(self):
        tenants = [*self._requested_tenants()]
        failed = [each.name for each in tenants if each.name in self.checker.records]
        return self.begin(tenants=tenants, forget=self.deleted_envs(), retry=failed)

    def _run_to_end(self):
        self.timeline.run(limit=self.timeline.now + MAX_FINISH_SECONDS)
        assert not self.processes, "a process does not end"

    def _requested_tenants(self):
        """Return the tenants under the aliases that the journal knows them by."""
        known = {name: record.alias for name, record in self.checker.records.items() if record.may_have_environment}
        requested = {name: Tenant(name, alias=alias) for name, alias in known.items()}
        used = {alias.lower() for alias in known.values()}
        for tenant in self.tenants:
            if tenant.name not in requested and tenant.alias.lower() not in used:
                requested[tenant.name] = tenant
        return requested.values()

    def unfinished(self, last):
        """Return what the last process left undone without a person's fault; also environments without a tenant."""
        if last.report is None:
            return [repr(last.error)]
        if orphans := self._orphaned_envs():
            return [f"{env} belongs to no tenant" for env in orphans]
        unfinished = (entry for entry in last.report.tenants if not entry.outcome.is_done)
        caused_by_hand = (Outcome.CONFLICT, Outcome.DUPLICATE)
        return [
            entry
            for entry in unfinished
            if not (entry.outcome in caused_by_hand and entry.alias.lower() in self.touched_aliases)
        ]

    def close(self):
        for process in self.processes:
            process.kill(stored=False)
        self.store.close()
        self.patch.undo()

    def violations(self):
        """Return the rules that were broken so far."""
        self.checker.check_histories(self.store.call("history", [*self.checker.records]))
        return self.checker.violations

    def _orphaned_envs(self):
        created = (each for each in self.checker.creates if each.env in self.environments() and not each.excused)
        return [
            each.env
            for each in created
            if each.env not in self.checker.bound and each.alias not in self.touched_aliases
        ]
