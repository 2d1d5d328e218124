"""A run under way: workers that take steps, and one watcher of those who wait for what a look will show."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Final

import anyio
import attrs

from wxtcb._concurrency.shared_poll import SharedPoller
from wxtcb.api.environment import DESCRIBE_ENVS, EnvList
from wxtcb.errors import QuotaExceeded, SendVetoed, WxtcbError
from wxtcb.provision.context import StepContext
from wxtcb.provision.error_policy import IncompleteListing, drop_traceback, is_fatal, quota_reset_at
from wxtcb.provision.events import RunEvent, RunStopped, StepDone, StepFailed, TenantFinished, TenantStarted
from wxtcb.provision.journal import Binding, Journal, commit_record_changes
from wxtcb.provision.plan import Plan
from wxtcb.provision.reconciliation import EnvironmentListing
from wxtcb.provision.report import Outcome, Problem, Report, RunInfo, TenantReport
from wxtcb.provision.scheduler import EnvironmentPoller, Scheduler
from wxtcb.provision.step import Step, StepResult
from wxtcb.provision.tenant_state import TenantState
from wxtcb.session import Session


@attrs.frozen(kw_only=True)
class RunSettings:
    """What a run goes by; see `wxtcb.provision.Provisioner`."""

    concurrency: int
    timeout: float
    interval: float
    settle: float
    grace: float
    max_failures: int | None
    wall_clock: Callable[[], float]


@attrs.define(eq=False)
class EventStream:
    """Keeps a queue for every listener, without a bound, until `close`."""

    _queues: list[asyncio.Queue[RunEvent | None]] = attrs.field(init=False, factory=list)
    _closed: bool = attrs.field(init=False, default=False)

    def subscribe(self) -> AsyncIterator[RunEvent]:
        """Return the events from now on; the iterator ends when the run does."""
        queue: asyncio.Queue[RunEvent | None] = asyncio.Queue()
        self._queues.append(queue)
        if self._closed:
            queue.put_nowait(None)
        return self._iterate(queue)

    def emit(self, event: RunEvent) -> None:
        for queue in self._queues:
            queue.put_nowait(event)

    def close(self) -> None:
        """Let every iterator end after what it has not yet fetched."""
        self._closed = True
        for queue in self._queues:
            queue.put_nowait(None)

    async def _iterate(self, queue: asyncio.Queue[RunEvent | None]) -> AsyncIterator[RunEvent]:
        try:
            while (event := await queue.get()) is not None:
                yield event
        finally:
            self._queues.remove(queue)


@attrs.define(eq=False)
class ReportCollector:
    """Keeps the tenants under way, and of those that have ended the report alone.

    `names_and_aliases` has name and alias of all of them, in their order.
    """

    names_and_aliases: tuple[tuple[str, str], ...]
    active: dict[int, TenantState] = attrs.field(init=False, factory=dict[int, TenantState])
    _finished: dict[int, TenantReport] = attrs.field(init=False, factory=dict[int, TenantReport])

    def start(self, tenant_state: TenantState) -> None:
        self.active[tenant_state.index] = tenant_state

    def finish(self, tenant_state: TenantState) -> TenantReport:
        """Note that nothing more is done for a tenant, and return what came of it."""
        tenant_state.ended = True
        del self.active[tenant_state.index]
        report = self._finished[tenant_state.index] = tenant_state.to_report()
        return report

    def iter_reports(self) -> Iterator[TenantReport]:
        """Return how every tenant stands now."""
        for place, (name, alias) in enumerate(self.names_and_aliases):
            if place in self._finished:
                yield self._finished[place]
            elif place in self.active:
                yield self.active[place].to_report()
            else:
                yield TenantReport(tenant=name, alias=alias, outcome=Outcome.UNFINISHED)


CANCELLED_REASON: Final = "cancelled"


@attrs.define(eq=False)
class Run:
    """Tenants being provisioned; made by `Provisioner.apply`, which has started it already."""

    _session: Session
    _journal: Journal
    _steps: tuple[Step, ...]
    _settings: RunSettings
    _collector: ReportCollector
    _make_plan: Callable[[], Awaitable[Plan]]
    _run_info: RunInfo
    _scheduler: Scheduler = attrs.field(init=False)
    _context: StepContext | None = attrs.field(init=False, default=None)
    _stop_event: RunStopped | None = attrs.field(init=False, default=None)
    _failure_count: int = attrs.field(init=False, default=0)
    _grace_expired: bool = attrs.field(init=False, default=False)
    _unexpected_error: Exception | None = attrs.field(init=False, default=None)
    _planning_scope: anyio.CancelScope = attrs.field(init=False, factory=anyio.CancelScope)
    _polling_scope: anyio.CancelScope = attrs.field(init=False, factory=anyio.CancelScope)
    _event_stream: EventStream = attrs.field(init=False, factory=EventStream)
    _started_at: float = attrs.field(init=False)
    _elapsed: float | None = attrs.field(init=False, default=None)
    _result_retrieved: bool = attrs.field(init=False, default=False)
    _task: asyncio.Task[None] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._started_at = self._loop_time()
        self._scheduler = Scheduler(self._steps)
        self._task = asyncio.get_running_loop().create_task(self._execute())
        self._task.add_done_callback(lambda _: self._on_task_done())

    @property
    def ended(self) -> bool:
        return self._elapsed is not None

    @property
    def report(self) -> Report:
        """How every tenant stands now; those under way and those not started are unfinished."""
        elapsed = self._loop_time() - self._started_at if self._elapsed is None else self._elapsed
        tenants = tuple(self._collector.iter_reports())
        if self._stop_event is None:
            return Report(tenants, elapsed, run_info=self._run_info)
        return Report(tenants, elapsed, self._stop_event.reason, self._stop_event.retry_after, self._run_info)

    @property
    def aliases(self) -> frozenset[str]:
        """The aliases it works on, in lower case."""
        return frozenset(alias.lower() for _, alias in self._collector.names_and_aliases)

    def events(self) -> AsyncIterator[RunEvent]:
        """Tell what happens from now on, until the run ends; what is not fetched is kept for you, without a bound."""
        return self._event_stream.subscribe()

    async def wait(self) -> Report:
        """Wait for the end and return the report; raises nothing but a mistake of a step, or of wxtcb."""
        await asyncio.wait([self._task])
        self._result_retrieved = True
        self._task.result()
        return self.report

    async def cancel(self, *, grace: float | None = None) -> None:
        """Send nothing that is not sent yet, and return when the run has ended.

        What is under way gets *grace* seconds to be answered, by default as many as a request may take. A create that
        is still unanswered then is reported as unknown.
        """
        self._halt(CANCELLED_REASON)
        try:
            with anyio.move_on_after(self._settings.grace if grace is None else grace):
                await asyncio.wait([self._task])
        finally:
            if not self._task.done():
                self._grace_expired = True
                self._task.cancel()
        await asyncio.wait([self._task])

    def raise_unretrieved_error(self) -> None:
        """Raise what has ended the run, if it was a mistake of a step, or of wxtcb, and nobody has waited for it."""
        if self._task.done() and not self._task.cancelled() and not self._result_retrieved:
            self._task.result()

    async def _execute(self) -> None:
        try:
            if self._collector.names_and_aliases and (found := await self._prepare()):
                await self._execute_plan(*found)
        except asyncio.CancelledError:
            if not self._grace_expired:
                raise

    async def _prepare(self) -> tuple[Plan, StepContext] | None:
        """Make the plan; what keeps it from being made keeps everybody from being started."""
        with self._planning_scope:
            try:
                plan = await self._make_plan()
                await commit_record_changes(self._journal, plan.record_changes, self._settings.wall_clock())
                return plan, self._create_context(plan, await self._journal.bindings())
            except WxtcbError as error:
                self._stop_if_creates_blocked(error)
                self._stop(str(error))
        return None

    async def _execute_plan(self, plan: Plan, context: StepContext) -> None:
        self._scheduler.unstarted_tenants = (
            TenantState.from_plan(place, planned) for place, planned in enumerate(plan.tenants)
        )
        self._context = context
        async with asyncio.TaskGroup() as group:
            group.create_task(self._poll_environments(context.listing.poller))
            hands = min(self._settings.concurrency, len(plan.tenants))
            await asyncio.wait([group.create_task(self._run_worker(context)) for _ in range(hands)])
            self._polling_scope.cancel()
        if self._unexpected_error is not None:
            raise self._unexpected_error

    def _create_context(self, plan: Plan, bindings: Mapping[str, Binding]) -> StepContext:
        return StepContext(
            self._session,
            self._journal,
            settle=self._settings.settle,
            timeout=self._settings.timeout,
            emit=self._event_stream.emit,
            record_problem=self._record_problem,
            listing=EnvironmentListing.from_plan(
                self._session.shared_poller(DESCRIBE_ENVS),
                plan,
                bindings,
                settle=self._settings.settle,
                wall_time=self._settings.wall_clock(),
            ),
            wall_clock=self._settings.wall_clock,
            stopped=self._scheduler.stopped,
            halted=self._scheduler.halted,
        )

    async def _poll_environments(self, poller: SharedPoller[EnvList]) -> None:
        with self._polling_scope:
            await EnvironmentPoller(
                self._scheduler, poller, self._settings.interval, self._on_wait_decided, self._on_poll_error
            ).run()

    async def _run_worker(self, context: StepContext) -> None:
        while (job := await self._scheduler.next_batch()) is not None:
            try:
                if job.step is None:
                    self._start_tenant(job.tenant_states[0])
                else:
                    await self._run_step(context, job.step, job.tenant_states)
            finally:
                self._scheduler.finish_batch()
            await asyncio.sleep(0)  # there may be thousands with nothing to wait for

    def _start_tenant(self, tenant_state: TenantState) -> None:
        self._collector.start(tenant_state)
        self._event_stream.emit(TenantStarted(tenant_state.name, tenant_state.plan.alias))
        if tenant_state.blocked_outcome:
            self._finish_tenant(tenant_state)
        else:
            self._enqueue_next_step(tenant_state, self._steps)

    async def _run_step(self, context: StepContext, step: Step, tenant_states: list[TenantState]) -> None:
        try:
            move = await step.run(context, tenant_states)
        except WxtcbError as error:
            move = self._on_step_error(step, tenant_states, error)
        except Exception as error:
            move = self._on_unexpected_error(step, tenant_states, error)
        for work in tenant_states:
            self._apply_result(work, step, move)

    def _on_step_error(self, step: Step, tenant_states: list[TenantState], error: WxtcbError) -> StepResult:
        """Hold an error against its tenants; but a quota that is used up is nobody's own, nor is a stop."""
        if isinstance(error, SendVetoed) or (step.billable and self._stop_if_creates_blocked(error)):
            return StepResult.RETRY
        for work in tenant_states:
            self._record_problem(work, Problem(step=step.name, message=str(error), error=error))
        return StepResult.END

    def _on_unexpected_error(self, step: Step, tenant_states: list[TenantState], error: Exception) -> StepResult:
        """End the tenants of a step that failed as none should; the others go on, and the run ends with the error."""
        self._unexpected_error = self._unexpected_error or error
        for work in tenant_states:
            message = f"the step failed by a mistake of its own ({type(error).__name__}: {error})"
            self._record_problem(
                work, Problem(step=step.name, message=message, outcome_unknown=work.record.intent is not None)
            )
        return StepResult.END

    def _stop_if_creates_blocked(self, error: WxtcbError) -> bool:
        """Stop at a quota that is used up, or at a list that proves nothing, and tell whether it is one."""
        if isinstance(error, QuotaExceeded):
            self._stop(str(error), quota_reset_at(error, datetime.now(UTC)))
        elif isinstance(error, IncompleteListing):
            self._stop(str(error))
        else:
            return False
        return True

    def _apply_result(self, tenant_state: TenantState, step: Step, result: StepResult) -> None:
        match result:
            case StepResult.NEXT:
                self._record_step_done(tenant_state, step)
                self._enqueue_next_step(tenant_state, self._steps[self._steps.index(step) + 1 :])
            case StepResult.RETRY:
                self._scheduler.enqueue(step, tenant_state)
            case StepResult.WAIT if tenant_state.pending_wait:
                self._scheduler.add_wait(tenant_state, tenant_state.pending_wait)
            case StepResult.END if tenant_state.blocked_outcome or tenant_state.problems:
                self._finish_tenant(tenant_state)
            case _:
                raise TypeError(f"step {step.name} ended with {result}, without a reason or what to wait for")

    def _enqueue_next_step(self, tenant_state: TenantState, steps: tuple[Step, ...]) -> None:
        """Let the tenant wait for the first of *steps* that it wants, or end."""
        tenant, tenant_state.pending_wait = tenant_state.plan.tenant, None
        for step in steps:
            try:
                is_wanted = step.is_needed(tenant, tenant_state.effective_record, tenant_state.status)
            except Exception as error:
                self._on_unexpected_error(step, [tenant_state], error)
                break
            if is_wanted:
                tenant_state.step = step.name
                self._scheduler.enqueue(step, tenant_state)
                return
        self._finish_tenant(tenant_state)

    def _on_wait_decided(self, tenant_state: TenantState, decision: StepResult | Problem) -> None:
        self._scheduler.remove_wait(tenant_state)
        if isinstance(decision, Problem):
            self._record_problem(tenant_state, decision)
            self._finish_tenant(tenant_state)
        else:
            self._apply_result(
                tenant_state, next(step for step in self._steps if step.name == tenant_state.step), decision
            )
        self._scheduler.wake_workers_if_done()

    def _record_step_done(self, tenant_state: TenantState, step: Step) -> None:
        if not any(problem.step == step.name for problem in tenant_state.problems):
            tenant_state.completed_steps += (step.name,)
            self._event_stream.emit(StepDone(tenant_state.name, step.name, tenant_state.env or ""))

    def _record_problem(self, tenant_state: TenantState, problem: Problem) -> None:
        tenant_state.problems += (problem,)
        self._event_stream.emit(StepFailed(tenant_state.name, problem))
        if problem.error is not None:
            self._halt_if_fatal(problem.error)
            drop_traceback(problem.error)

    def _halt_if_fatal(self, error: WxtcbError) -> None:
        """Spare the other tenants an error that would be theirs too."""
        if is_fatal(error):
            self._halt(str(error))

    def _on_poll_error(self, error: WxtcbError) -> None:
        self._halt_if_fatal(error)
        self._stop_if_creates_blocked(error)

    def _finish_tenant(self, tenant_state: TenantState) -> None:
        report = self._collector.finish(tenant_state)
        self._event_stream.emit(TenantFinished(report))
        self._failure_count += report.outcome in (Outcome.FAILED, Outcome.UNKNOWN)
        if self._settings.max_failures and self._failure_count >= self._settings.max_failures:
            self._stop(f"{self._failure_count} tenants failed, which is as many as max_failures allows")

    def _stop(self, reason: str, retry_at: datetime | None = None) -> None:
        """Start no other tenant."""
        self._scheduler.stop()
        if self._context is not None:
            self._context.stop()
        if self._stop_event is None and not self.ended:
            self._stop_event = RunStopped(reason, retry_at)
            self._event_stream.emit(self._stop_event)

    def _halt(self, reason: str) -> None:
        """Start no other tenant, and send nothing more for those under way."""
        self._stop(reason)
        self._scheduler.halt()
        if self._context is not None:
            self._context.halt()
        self._planning_scope.cancel()
        self._polling_scope.cancel()

    def _on_task_done(self) -> None:
        for work in self._collector.active.values():
            self._event_stream.emit(TenantFinished(work.to_report()))
        self._elapsed = self._loop_time() - self._started_at
        self._event_stream.close()

    @staticmethod
    def _loop_time() -> float:
        return asyncio.get_running_loop().time()
