"""Engine: provisions one tenant. Runs, workers and web requests all call `Engine.run_tenant`."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Final

import attrs

from wxtcb._concurrency.tasks import Backoff
from wxtcb.errors import QuotaExceeded, SendVetoed, WxtcbError
from wxtcb.provision.context import SharedContext, StaleRecord, StepContext, TenantEnded
from wxtcb.provision.error_policy import (
    IncompleteListing,
    describe_unexpected,
    drop_traceback,
    is_fatal,
    quota_reset_at,
)
from wxtcb.provision.events import StepDone, StepFailed, TenantFinished, TenantStarted
from wxtcb.provision.journal import Deposed, JournalConflict, commit_record, commit_record_changes
from wxtcb.provision.plan import Action, OperatorDecisions, Plan, TenantPlan
from wxtcb.provision.planner import Planner, restrict_tenant
from wxtcb.provision.reconciliation import MAX_LISTING_AGE
from wxtcb.provision.record import RecordChange, TenantRecord
from wxtcb.provision.report import Outcome, Problem, StopReason, TenantReport
from wxtcb.provision.step import Step
from wxtcb.provision.tenant import Tenant
from wxtcb.provision.tenant_state import ENVIRONMENT_STEP_NAME, TenantState
from wxtcb.provision.work_group import Stop, WorkGroup

__all__ = ["Engine"]

# Seconds before a tenant begins again with a record that another process has changed.
_STALE_BACKOFF: Final = Backoff(0.05, 5.0)
_MAX_STORED_PROBLEM: Final = 1000


def find_stop(error: WxtcbError, now: float, *, is_create: bool) -> Stop | None:
    """Return the stop that *error* causes for all tenants, or None if it concerns one tenant; *now* is in Unix time."""
    if isinstance(error, Deposed):
        return Stop(StopReason.DEPOSED, str(error), halts=True)
    if is_fatal(error):
        return Stop(StopReason.FATAL_ERROR, str(error), halts=True)
    # These prevent creates only: other steps of other tenants go on.
    if is_create and isinstance(error, QuotaExceeded):
        return Stop(StopReason.QUOTA_EXCEEDED, str(error), quota_reset_at(error, datetime.fromtimestamp(now, UTC)))
    if is_create and isinstance(error, IncompleteListing):
        return Stop(StopReason.INCOMPLETE_LISTING, str(error))
    return None


@attrs.define(eq=False)
class _Attempt:
    """Work of one caller on a tenant, and the future of the report for others that wait for it."""

    plan: TenantPlan
    joined: asyncio.Future[TenantReport] | None = None


@attrs.define(eq=False)
class Engine:
    """Provisioner of single tenants, for as long as a `Provisioner` is open.

    It has no task of its own: each tenant runs in the task of its caller. A tenant that another caller works on is not
    worked on twice: both get the same report.
    """

    planner: Planner
    steps: tuple[Step, ...]
    shared: SharedContext
    uniform: Callable[[float, float], float] = random.uniform
    groups: list[WorkGroup] = attrs.field(init=False, factory=list[WorkGroup])
    _in_progress: dict[str, _Attempt] = attrs.field(init=False, factory=dict[str, "_Attempt"])

    @contextlib.contextmanager
    def working(self, group: WorkGroup) -> Iterator[None]:
        """Until the block ends, stop *group* when something stops all tenants."""
        self.groups.append(group)
        try:
            yield
        finally:
            self.groups.remove(group)

    async def commit_changes(self, plan: Plan) -> None:
        """Commit the changes that the operator's decisions of *plan* make; raise `JournalError`."""
        shared = self.shared
        # Before anything else: the steps rely on the decided records being in the journal.
        await commit_record_changes(shared.journal, plan.record_changes, shared.wall_clock(), epoch=shared.epoch)
        if plan.record_changes:
            shared.listing.bindings.expire()
        shared.listing.offer(plan.alias_index, plan.listed_at, forgotten=frozenset(plan.decisions.forget.values()))

    async def store_problem(self, tenant: str, alias: str, outcome: Outcome, problem: str) -> None:
        """Store why a tenant cannot even be planned; raise `JournalError`."""
        record = (await self.shared.journal.load([tenant])).get(tenant) or TenantRecord(tenant=tenant, alias=alias)
        after = attrs.evolve(
            record, version=record.version + 1, outcome=outcome.value, problem=problem[:_MAX_STORED_PROBLEM]
        )
        # If another process changes the record meanwhile, its outcome is the newer one.
        await commit_record(
            self.shared.journal, RecordChange(record, after), self.shared.wall_clock(), epoch=self.shared.epoch
        )

    def __attrs_post_init__(self) -> None:
        self.shared.record_problem = self.record_problem

    async def plan(
        self, tenants: Sequence[Tenant], aliases: Sequence[str], decisions: OperatorDecisions, *, max_age: float
    ) -> Plan:
        """Return a plan of tenants, from a listing that began at most *max_age* seconds ago."""
        newer_than = StepContext.loop_time() - max_age
        bindings = await self.shared.listing.bindings.read()
        plan = await self.planner.plan(tenants, aliases, decisions, newer_than=newer_than, known_bindings=bindings)
        self.shared.listing.offer(plan.alias_index, plan.listed_at)
        return plan

    async def run_tenant(self, group: WorkGroup, plan: TenantPlan, *, index: int = 0) -> TenantReport:
        """Carry out *plan* and return the report of the tenant; takes over a slot from the caller, and releases it.

        Never raises an `Exception`: what went wrong is in the report, and in `WorkGroup.unexpected_error` too if it was
        not expected.
        """
        context = StepContext(self.shared, group, TenantState.from_plan(index, plan), holds_slot=True)
        name = context.state.name
        group.active[name] = context.state
        try:
            group.emit(TenantStarted(name, plan.alias))
            report = await self._join(context) or await self._work(context)
            del group.active[name]
            group.emit(TenantFinished(report))
            return report
        finally:
            context.release_slot()

    async def _work(self, context: StepContext) -> TenantReport:
        name = context.state.name
        attempt = self._in_progress[name] = _Attempt(context.state.plan)
        try:
            await self._run(context)
            report = context.state.to_report()
            await self._store_outcome(context, report)
            return report
        finally:
            del self._in_progress[name]
            if attempt.joined is not None:
                attempt.joined.set_result(context.state.to_report())

    async def _join(self, context: StepContext) -> TenantReport | None:
        """Return the report of another caller that does the same for the tenant, or None once there is none."""
        while (attempt := self._in_progress.get(context.state.name)) is not None:
            context.release_slot()
            # Made only now: most of thousands of tenants are worked on by one caller.
            attempt.joined = attempt.joined or asyncio.get_running_loop().create_future()
            report: TenantReport = await asyncio.shield(attempt.joined)
            # If the other caller was stopped, or wanted something else for the tenant, this one continues.
            is_result = report.outcome is not Outcome.UNFINISHED and attempt.plan.is_same_request(context.state.plan)
            if is_result or context.stopped:
                return report
        return None

    async def _run(self, context: StepContext) -> None:
        stale_count = 0
        while True:
            try:
                await self._run_steps(context)
                context.state.ended = True
            except StaleRecord:
                stale_count += 1
                if await self._begin_again(context, stale_count):
                    continue
            except TenantEnded:
                context.state.ended = True
            except SendVetoed:
                # A request that was not sent is no failure: the tenant is unfinished.
                pass
            except WxtcbError as error:
                self._end_with_error(context, error)
            # A step may be written by the user, so it may raise anything.
            except Exception as error:
                self._end_with_unexpected(context, error)
            return

    async def _run_steps(self, context: StepContext) -> None:
        state = context.state
        if state.blocked_outcome is not None:
            # The plan may have been made from a record that another process has changed since.
            await context.ensure_current()
            return
        for position, step in enumerate(self.steps):
            state.how, previous = None, state.step
            # Before the predicate, which may be the user's: if it raises, the problem names the step.
            state.step = step.name
            if not step.is_needed(state.plan.tenant, state.effective_record, state.status):
                state.step = previous
                continue
            if state.cancelled:
                raise SendVetoed(endpoint="provisioning")
            context.urgency = position
            await context.acquire_slot()
            await step.run(context)
            if not any(problem.step == step.name for problem in state.problems):
                state.completed_steps += (step.name,)
                context.group.emit(StepDone(state.name, step.name, state.env or "", state.how))

    async def _begin_again(self, context: StepContext, stale_count: int) -> bool:
        """Plan the tenant again from its new record, and return whether it goes on."""
        state, plan = context.state, context.state.plan
        # The jitter keeps two processes that work on one tenant from disturbing each other again and again.
        delay = _STALE_BACKOFF.delay(stale_count)
        # An adoption that was decided is still to be carried out; `Tenant.env` is part of the tenant.
        is_decided = plan.action is Action.ADOPT and plan.env and plan.tenant.env is None and not plan.record.intent
        adopt = {state.name: plan.env} if is_decided and plan.env else {}
        context.release_slot()
        try:
            await context.group.sleep(self.uniform(delay / 2, delay))
            await context.acquire_slot(resumed=True)
            decisions = OperatorDecisions(adopt=adopt, resend_links=state.resend_links)
            with context.group.interruptible():
                newer = await self.plan([plan.tenant], [plan.alias], decisions, max_age=MAX_LISTING_AGE)
            # The tenant may have been marked as removed meanwhile, which the plan takes back.
            await self.commit_changes(newer)
        except SendVetoed:
            return False
        except JournalConflict:
            # It was changed once more: the next step finds the old record stale again.
            return True
        except WxtcbError as error:
            self._end_with_error(context, error)
            return False
        # A new environment that could not be recorded must stay in the report, and so must what was done.
        context.state = TenantState.from_plan(state.index, restrict_tenant(newer.tenants[0], plan))
        context.state.completed_steps, context.state.step = state.completed_steps, state.step
        context.state.cancelled = state.cancelled
        context.group.active[state.name] = context.state
        return True

    async def _store_outcome(self, context: StepContext, report: TenantReport) -> None:
        """Store what became of a tenant that is not done, so that every process can ask for it."""
        record = context.record
        outcome, problem = ("", "") if report.outcome.is_done else (report.outcome.value, report.summary)
        problem = problem[:_MAX_STORED_PROBLEM]
        if report.outcome is Outcome.UNFINISHED or (record.outcome, record.problem) == (outcome, problem):
            return
        after = attrs.evolve(record, version=record.version + 1, outcome=outcome, problem=problem)
        # The report has it in any case. What prevents this commit prevents the next one of the tenant, too.
        with contextlib.suppress(StaleRecord, TenantEnded, WxtcbError):
            await context.commit_change(RecordChange(record, after))

    def _end_with_error(self, context: StepContext, error: WxtcbError) -> None:
        step = context.state.step or ENVIRONMENT_STEP_NAME
        stop = find_stop(error, self.shared.wall_clock(), is_create=step == ENVIRONMENT_STEP_NAME)
        if stop is not None and not stop.halts:
            # What every tenant would meet is no failure of this one: it is unfinished.
            self.stop_all(stop)
            return
        context.record_problem(Problem(step=step, message=str(error), error=error))
        context.state.ended = True

    def _end_with_unexpected(self, context: StepContext, error: Exception) -> None:
        state, group = context.state, context.group
        message = f"unexpected exception in the step ({describe_unexpected(error)}); report it to its author"
        step_error = WxtcbError(message)
        step_error.__cause__ = error
        group.unexpected_error = group.unexpected_error or error
        # The caller raises the first one, with its traceback.
        if error is not group.unexpected_error:
            drop_traceback(error)
        # A create that was intended may have been sent before the exception.
        unknown = state.record.intent is not None
        step = state.step or ENVIRONMENT_STEP_NAME
        context.record_problem(Problem(step=step, message=message, outcome_unknown=unknown, error=step_error))
        state.ended = True

    def record_problem(self, state: TenantState, problem: Problem, group: WorkGroup) -> None:
        state.problems += (problem,)
        group.emit(StepFailed(state.name, problem))
        if problem.error is not None:
            if (stop := find_stop(problem.error, self.shared.wall_clock(), is_create=False)) is not None:
                self.stop_all(stop)
            drop_traceback(problem.error)

    def find_plan_stop(self, error: WxtcbError) -> Stop:
        """Return the stop after an error without which no tenant can be planned."""
        stop = find_stop(error, self.shared.wall_clock(), is_create=True)
        return stop or Stop(StopReason.PLAN_FAILED, str(error))

    def on_poll_error(self, error: WxtcbError) -> None:
        if (stop := find_stop(error, self.shared.wall_clock(), is_create=True)) is not None:
            self.stop_all(stop)

    def stop_all(self, stop: Stop) -> None:
        """Stop every group: each of its tenants would meet the same."""
        for group in tuple(self.groups):
            group.stop_for(stop)
