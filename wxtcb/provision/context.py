"""Context of the steps of one tenant: what a step may read, store and wait for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Final

import attrs

from wxtcb._concurrency.batcher import Batcher
from wxtcb._concurrency.priority_limiter import PriorityLimiter
from wxtcb._concurrency.tasks import end_tasks, wait_shielded
from wxtcb.provision.election import Term
from wxtcb.provision.journal import Committed, Journal, Stale, commit_record
from wxtcb.provision.listing_watch import ListingWait
from wxtcb.provision.plan import alias_in_use_message
from wxtcb.provision.reconciliation import EnvironmentListing
from wxtcb.provision.record import Binding, RecordChange, TenantRecord
from wxtcb.provision.report import EnvironmentOrigin, Outcome, Problem
from wxtcb.provision.tenant import Tenant
from wxtcb.provision.tenant_state import TenantState
from wxtcb.provision.work_group import WorkGroup
from wxtcb.session import Session

__all__ = ["SharedContext", "StaleRecord", "StepContext", "TenantEnded"]

CREATE_WINDOW_MARGIN: Final = 10.0
INTERRUPTED_MESSAGE: Final = "interrupted while waiting for the response; it may have taken effect, and was not retried"


class TenantEnded(Exception):
    """The state of the tenant says why it ends."""


class StaleRecord(Exception):
    """Another process has changed the record of the tenant: what follows from the old one is void."""


@attrs.define(eq=False)
class SharedContext:
    """What all tenants of a provisioner share; times are in seconds.

    `term` is set while this process is elected: commits are then rejected once another process is.
    """

    journal: Journal
    listing: EnvironmentListing
    limiter: PriorityLimiter
    settle: float
    timeout: float
    wall_clock: Callable[[], float]
    share_batcher: Batcher[StepContext]
    # Set by the engine.
    record_problem: Callable[[TenantState, Problem, WorkGroup], None] = attrs.field(init=False)
    term: Term | None = None

    @property
    def epoch(self) -> int | None:
        return None if self.term is None else self.term.epoch


@attrs.define(eq=False)
class StepContext:
    """One tenant at one step.

    A custom step uses `tenant`, `record`, `env` and `status` of its environment, `session`, `commit`, `record_problem`
    and `wait`. A step begins with one of the slots that ``Provisioner(concurrency=)`` limits; `wait` releases it, and
    `acquire_slot` waits for another one before further requests.
    """

    shared: SharedContext
    group: WorkGroup
    state: TenantState
    # Of the step: a later step is more urgent, so that few tenants are unfinished at any time.
    urgency: int = 0
    holds_slot: bool = False

    @property
    def tenant(self) -> Tenant:
        return self.state.plan.tenant

    @property
    def record(self) -> TenantRecord:
        """Newest record of the tenant that the journal has stored."""
        return self.state.record

    @property
    def env(self) -> str:
        """Environment of the tenant; "" if it has none."""
        return self.state.env or ""

    @property
    def status(self) -> str | None:
        """Status of the environment in the last listing that showed it."""
        return self.state.status

    @property
    def session(self) -> Session:
        """View on the session that sends nothing more once the run is cancelled."""
        return self.group.session

    @property
    def stopped(self) -> bool:
        return self.group.stopped

    @property
    def halted(self) -> bool:
        return self.group.halted

    @property
    def settle(self) -> float:
        return self.shared.settle

    @property
    def create_window(self) -> float:
        """Seconds within which a create ends, including the waits for admission and for a token."""
        return self.session.timeout.total + CREATE_WINDOW_MARGIN

    @staticmethod
    def loop_time() -> float:
        return asyncio.get_running_loop().time()

    def to_datetime(self, loop_time: float) -> datetime:
        return datetime.fromtimestamp(self.shared.wall_clock() + loop_time - self.loop_time(), UTC)

    def record_problem(self, problem: Problem) -> None:
        """Record a failure of the step; the tenant's other steps may continue."""
        self.shared.record_problem(self.state, problem, self.group)

    def end_with(self, problem: Problem) -> TenantEnded:
        """Record *problem*, and return the exception that ends the tenant."""
        self.record_problem(problem)
        return TenantEnded()

    async def commit(self, record: TenantRecord) -> None:
        """Store *record* as the next version; once this returns, it survives a crash.

        If another process has changed the record, the step is cancelled, and the tenant continues with the new record.
        Raises `JournalError`.
        """
        state = self.state
        # Work goes on, so the outcome of an earlier attempt is over.
        after = attrs.evolve(record, version=state.record.version + 1, outcome="", problem="")
        await self.commit_change(RecordChange(state.record, after))
        # Only after the commit: after a failed one, the state must still hold the version that the journal has.
        state.record = after

    async def commit_change(self, change: RecordChange) -> None:
        shared = self.shared
        answer = await commit_record(shared.journal, change, shared.wall_clock(), epoch=shared.epoch)
        if isinstance(answer, Committed):
            return
        if isinstance(answer, Stale):
            raise StaleRecord
        self.state.blocked_outcome = Outcome.CONFLICT
        self.state.reason = (
            f"alias {change.after.alias} is in use by tenant {answer.tenant!r} of the journal: choose another alias"
        )
        raise TenantEnded

    async def block(self, envs: tuple[str, ...]) -> TenantEnded:
        """Return the exception that ends the tenant because *envs* have its alias; raise `StaleRecord`."""
        owners = await self.ensure_current(envs)
        self.state.block(envs)
        if len(envs) == 1 and (owner := owners.get(envs[0], self.tenant.name)) != self.tenant.name:
            self.state.reason = (
                f"alias {self.record.alias} is in use by {envs[0]}, which the journal assigns to tenant {owner!r}: "
                "choose another alias"
            )
        else:
            self.state.reason = alias_in_use_message(self.record.alias, envs)
        return TenantEnded()

    async def ensure_current(self, envs: Iterable[str] = ()) -> dict[str, str]:
        """Raise `StaleRecord` if another process has changed the record; return the owners of *envs* by environment.

        Nothing is judged a conflict, a duplicate or unknown by a record that may be old.
        """
        name = self.tenant.name
        records = await self.shared.journal.load([name], envs=envs)
        stored = records.get(name)
        if (stored.version if stored else 0) != self.record.version:
            raise StaleRecord
        return {record.env: record.tenant for record in records.values() if record.env is not None}

    async def bind_environment(self, env: str, how: EnvironmentOrigin, tranid: str | None = None) -> None:
        """Store that *env* belongs to the tenant."""
        commit = asyncio.get_running_loop().create_task(self._commit_binding(env, tranid))
        try:
            await asyncio.shield(commit)
        except asyncio.CancelledError:
            # A new environment that is not in the journal would have to be found again by its alias.
            await wait_shielded(asyncio.ensure_future(end_tasks([commit], timeout=1)))
            raise
        state = self.state
        # From now on a listing without the environment is incomplete, once the propagation delay is over.
        self.shared.listing.bindings.add(env, Binding(state.name, self.shared.wall_clock()))
        if env != state.plan.env:
            state.status = None
        state.env, state.how, state.ambiguous_create = env, how, None

    async def _commit_binding(self, env: str, tranid: str | None) -> None:
        state = self.state
        while True:
            record = state.record
            since = record.opened_at or self.shared.wall_clock()
            bound = attrs.evolve(
                record, alias=state.plan.alias, env=env, tranid=tranid, opened_at=since, intent=None, creates_sent=0
            )
            try:
                await self.commit(bound)
            except StaleRecord:
                # Only a response proves that the environment is the tenant's. Anything else is judged again.
                if tranid is None:
                    raise
                stored = (await self.shared.journal.load([record.tenant])).get(record.tenant)
                if stored is None or stored.env is not None:
                    raise
                # Another process has changed something else, such as its own intent: the environment must not be lost.
                state.record = stored
            else:
                return

    async def acquire_slot(self, *, resumed: bool = False) -> None:
        """Wait for a slot; a tenant that has *resumed* after a wait goes before others at the same step."""
        if not self.holds_slot:
            priority = (-self.urgency, not resumed)
            await self.shared.limiter.acquire(priority, self.group.wait)
            self.holds_slot = True

    def release_slot(self) -> None:
        if self.holds_slot:
            self.holds_slot = False
            self.shared.limiter.release()

    async def wait(self, wait: ListingWait) -> None:
        """Release the slot, and wait until listings satisfy *wait*; raise the error that ends it."""
        self.release_slot()
        self.state.pending_wait = wait
        future = self.group.watch.add(wait)
        try:
            await self.group.wait(future)
        finally:
            self.group.watch.remove(future)
            self.state.pending_wait = None
