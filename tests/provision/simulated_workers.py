"""Workers in a simulated history: each serves with the same journal, and a client submits, cancels and decides."""

from __future__ import annotations

import asyncio
from functools import partial

import attrs

from wxtcb.provision import Tenant, term
from wxtcb.provision.desired import Cancel, Decide, Decision, DesiredState, Finish, Submit
from wxtcb.provision.tenant_spec import dump_tenant

from .fake_platform import JournalConnection
from .simulated_history import MAX_FINISH_SECONDS, ProvisioningProcess, SimulatedHistory

# Fewer attempts than in real: they take most of the turns of a history.
CAMPAIGN_INTERVAL = 5.0


@attrs.define(eq=False)
class DesiredConnection:
    """The desired state as one process reaches it (`wxtcb.provision.desired.DesiredTenants`)."""

    connection: JournalConnection

    async def change(self, changes, *, connection=None):
        assert connection is None
        call, process = self.connection.backend.call, self.connection.process

        def action():
            before = {row.tenant: row for row in call("desired.select", [change.tenant for change in changes])}
            effects = call("desired.change", changes)
            after = {row.tenant: row for row in call("desired.select", [*before])}
            for change in changes:
                if isinstance(change, Finish) and before[change.tenant] != after[change.tenant]:
                    self.connection.backend.checker.on_finish(process, before[change.tenant], change)
            return effects

        return await self.connection.write(action)

    async def take(self, epoch, limit):
        process = self.connection.process
        rows = await self.connection.write(partial(self.connection.backend.call, "desired.take", epoch, limit))
        process.taken |= {row.tenant: row.revision for row in rows}
        return rows

    async def select(self, tenants=None, **restrictions):
        names = None if tenants is None else tuple(tenants)
        return await self.connection.read("desired.select", names, **restrictions)

    async def counts(self):
        return await self.connection.read("desired.counts")

    async def wait_for_change(self, seen, timeout):  # noqa: ASYNC109 - as in the protocol
        backend = self.connection.backend
        if backend.notifies:
            return await backend.journal().desired.wait_for_change(seen, timeout)
        await asyncio.sleep(timeout)
        return backend.journal()._changes.count


@attrs.define(eq=False)
class ElectionConnection:
    """The election as one process reaches it (`wxtcb.provision.election.Election`)."""

    connection: JournalConnection

    async def acquire(self, holder, lease):
        term = await self._write("acquire", holder, lease)
        if term is not None:
            self.connection.process.epoch = term.epoch
        return term

    async def renew(self, term):
        return await self._write("renew", term)

    async def release(self, term):
        self.connection.process.epoch = None
        return await self._write("release", term)

    async def leader(self):
        return await self.connection.read("election.leader")

    async def _write(self, name, *args):
        return await self.connection.write(partial(self.connection.backend.call, f"election.{name}", *args))


@attrs.define(eq=False)
class SharedConnection(JournalConnection):
    """The journal, with the desired state and the election, as one process reaches it."""

    wait = None

    @property
    def desired(self):
        return DesiredConnection(self)

    @property
    def election(self):
        return ElectionConnection(self)


@attrs.define(eq=False)
class ServingProcess(ProvisioningProcess):
    """A process that serves until it is cancelled; `taken` holds the revisions that it has taken."""

    taken: dict = attrs.field(init=False, factory=dict)

    def __attrs_post_init__(self):
        super().__attrs_post_init__()
        self.is_candidate = True

    def connect(self):
        return SharedConnection(self, self.backend)

    async def work(self, provisioner):
        await provisioner.serve()


@attrs.define(eq=False)
class WorkerHistory(SimulatedHistory):
    """A history in which processes serve; `decisions` holds those that are not carried out yet."""

    decisions: dict = attrs.field(factory=lambda: {"adopt": {}, "forget": {}, "retry": {}})
    allowances: set = attrs.field(factory=set)

    def __attrs_post_init__(self):
        super().__attrs_post_init__()
        self.backend.journal = lambda: self.store.journal
        self.checker.current_epoch = lambda: self.store.journal.election._epoch
        self.patch.setattr(term, "_CAMPAIGN_INTERVAL", CAMPAIGN_INTERVAL)

    def serve(self, *, concurrency=4, skew=0.0):
        """Start a process that serves."""
        process = self._create(ServingProcess, decisions=self.decisions, allowances=self.allowances, skew=skew)
        process.begin(concurrency)
        return process

    def submit(self, tenants):
        self._change(*(Submit(tenant=each.name, alias=each.alias, spec=dump_tenant(each)) for each in tenants))

    def cancel_tenant(self, tenant):
        self._change(Cancel(tenant))
        self.allowances.discard(tenant)

    def decide(self, tenant, **decision):
        self._change(Decide(tenant, Decision(**decision)))
        kind, value = next(iter(decision.items()))
        self.decisions[kind][tenant] = value
        self.allowances.add(tenant)

    def _change(self, *changes):
        self.store.call("desired.change", changes)

    def rows(self, *states):
        return self.store.call("desired.select", states=states or None)

    def finish(self):
        """Stop all faults, let the workers go on until nothing waits, and decide what a person would decide."""
        self.platform.clear_faults()
        self.backend.clear_faults()
        for process in self.processes:
            process.thaw()
        self.serve()
        self._run_until_settled()
        cancelled = [row.tenant for row in self.rows(DesiredState.CANCELLED)]
        # What is forgotten in the first round no longer prevents creates in the second one.
        for _ in range(2):
            self._decide_all()
            self._run_until_settled()
        for process in self.processes:
            process.cancel()
        self._run_to_end()
        return cancelled

    def _decide_all(self):
        deleted = self.deleted_envs()
        for row in self.rows():
            record = self.checker.records.get(row.tenant)
            alias = record.alias if record and record.may_have_environment else row.alias
            # A cancelled tenant continues, and one whose alias was changed gets it back.
            self.submit([Tenant(row.tenant, alias=alias)])
            if row.tenant in deleted:
                self.decide(row.tenant, forget=deleted[row.tenant])
            elif row.state is DesiredState.NEEDS_ATTENTION:
                self.decide(row.tenant, retry=True)

    def _run_until_settled(self):
        limit = self.timeline.now + MAX_FINISH_SECONDS
        self.timeline.run(lambda: not self.rows(DesiredState.WAITING), limit)
        assert not self.rows(DesiredState.WAITING), f"tenants are forgotten: {self.rows(DesiredState.WAITING)}"
        for process in self.processes:
            assert process.error is None, f"a worker ended by itself: {process.error!r}"

    def unfinished(self, last):
        """Return what is undone without a person's fault; also environments without a tenant."""
        unfinished = [f"{env} belongs to no tenant" for env in self._orphaned_envs()]
        for row in self.rows():
            record = self.checker.records.get(row.tenant)
            is_bound = record is not None and record.env in self.environments()
            if row.state is DesiredState.DONE and is_bound:
                continue
            if not (
                record and record.outcome in ("conflict", "duplicate") and row.alias.lower() in self.touched_aliases
            ):
                unfinished.append(f"{row.tenant} is {row.state.value}: {record}")
        return unfinished
