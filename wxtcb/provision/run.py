"""Run: executes the steps that `scheduler` hands out, applies their results, and emits the events and the report."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator
from datetime import UTC, datetime
from itertools import starmap
from types import MappingProxyType
from typing import Any, Final

import anyio
import attrs

from wxtcb._concurrency.shared_poll import SharedPoller
from wxtcb.api.environment import DESCRIBE_ENVS, EnvList
from wxtcb.errors import QuotaExceeded, SendVetoed, WxtcbError
from wxtcb.provision.context import StepContext
from wxtcb.provision.error_policy import (
    IncompleteListing,
    describe_unexpected,
    drop_traceback,
    is_fatal,
    quota_reset_at,
)
from wxtcb.provision.events import RunEvent, RunStopped, StepDone, StepFailed, TenantFinished, TenantStarted, Waiting
from wxtcb.provision.journal import Journal, commit_record_changes
from wxtcb.provision.plan import Plan
from wxtcb.provision.reconciliation import EnvironmentListing
from wxtcb.provision.report import (
    Outcome,
    Problem,
    Progress,
    Report,
    RunInfo,
    RunProgress,
    StopReason,
    TenantReport,
)
from wxtcb.provision.scheduler import EnvironmentPoller, Scheduler
from wxtcb.provision.step import Step, StepResult
from wxtcb.provision.tenant_state import TenantState
from wxtcb.session import Session

__all__ = ["Run"]

# Seconds without an event after which the run reports what it waits for. `Waiting` names them.
MAX_SILENCE: Final = 2.0


@attrs.frozen
class RunSettings:
    """Settings of a run, as described at `wxtcb.provision.Provisioner`; times are in seconds."""

    concurrency: int
    timeout: float
    interval: float
    settle: float
    grace: float
    max_failures: int | None
    wall_clock: Callable[[], float]


@attrs.define(eq=False)
class EventStream:
    """Distributor of a run's events; each subscriber has an unbounded queue, so that none can slow down the run."""

    wall_clock: Callable[[], float]
    last_emitted_at: float = attrs.field(init=False, factory=StepContext.loop_time)
    _sequence: int = attrs.field(init=False, default=0)
    _queues: list[asyncio.Queue[RunEvent | None]] = attrs.field(init=False, factory=list)
    _closed: bool = attrs.field(init=False, default=False)

    def subscribe(self) -> AsyncIterator[RunEvent]:
        # The queue is added here, not in the generator: events before the first `anext` must not be lost.
        queue: asyncio.Queue[RunEvent | None] = asyncio.Queue()
        self._queues.append(queue)
        if self._closed:
            queue.put_nowait(None)
        return self._iterate(queue)

    def emit(self, event: RunEvent) -> None:
        self._sequence += 1
        self.last_emitted_at = StepContext.loop_time()
        if self._queues:
            at = datetime.fromtimestamp(self.wall_clock(), UTC)
            self._put(attrs.evolve(event, at=at, sequence=self._sequence))

    def close(self) -> None:
        self._closed = True
        self._put(None)

    def _put(self, event: RunEvent | None) -> None:
        for queue in self._queues:
            queue.put_nowait(event)

    async def _iterate(self, queue: asyncio.Queue[RunEvent | None]) -> AsyncIterator[RunEvent]:
        try:
            while (event := await queue.get()) is not None:
                yield event
        finally:
            self._queues.remove(queue)


@attrs.define(eq=False)
class ReportCollector:
    """Collector of the reports of all tenants in their order; of a finished tenant only the report is stored."""

    names_and_aliases: tuple[tuple[str, str], ...]
    active: dict[int, TenantState] = attrs.field(init=False, factory=dict)
    _finished: dict[int, TenantReport] = attrs.field(init=False, factory=dict)

    @property
    def progress(self) -> Progress:
        return Progress(len(self._finished), len(self.names_and_aliases))

    def finish(self, tenant_state: TenantState) -> TenantReport:
        tenant_state.ended = True
        del self.active[tenant_state.index]
        report = self._finished[tenant_state.index] = tenant_state.to_report()
        return report

    def iter_reports(self) -> Iterator[TenantReport]:
        for index, (name, alias) in enumerate(self.names_and_aliases):
            if index in self._finished:
                yield self._finished[index]
            elif index in self.active:
                yield self.active[index].to_report()
            else:
                yield TenantReport(tenant=name, alias=alias, outcome=Outcome.UNFINISHED)


@attrs.define(eq=False)
class Run:
    """Provisioning of tenants in progress; made by `Provisioner.apply`, which has started it already.

    `await run` is the same as `await run.wait()`.
    """

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
    _planned_steps: Counter[str] = attrs.field(init=False, factory=Counter[str])
    _done_steps: Counter[str] = attrs.field(init=False, factory=Counter[str])
    _event_stream: EventStream = attrs.field(init=False)
    _silence_timer: asyncio.TimerHandle = attrs.field(init=False)
    _started_at: float = attrs.field(init=False, factory=lambda: asyncio.get_running_loop().time())
    _elapsed: float | None = attrs.field(init=False, default=None)
    _result_retrieved: bool = attrs.field(init=False, default=False)
    _task: asyncio.Task[None] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._scheduler = Scheduler(self._steps)
        self._event_stream = EventStream(self._settings.wall_clock)
        self._silence_timer = asyncio.get_running_loop().call_later(MAX_SILENCE, self._on_silence)
        self._task = asyncio.get_running_loop().create_task(self._execute())
        self._task.add_done_callback(self._on_task_done)

    @property
    def ended(self) -> bool:
        return self._elapsed is not None

    @property
    def report(self) -> Report:
        elapsed = StepContext.loop_time() - self._started_at if self._elapsed is None else self._elapsed
        tenants = tuple(self._collector.iter_reports())
        if (stop := self._stop_event) is None:
            return Report(tenants, elapsed, run_info=self._run_info)
        return Report(tenants, elapsed, stop.reason, stop.message, stop.retry_after, self._run_info)

    @property
    def progress(self) -> RunProgress:
        """Number of finished tenants, and of done steps; costs little, so that it can be read after each event."""
        done, planned = self._done_steps, self._planned_steps
        # A step of the user may become necessary for a tenant after the plan was made.
        totals = {step.name: max(planned[step.name], done[step.name]) for step in self._steps}
        steps = {name: Progress(done[name], total) for name, total in totals.items() if total}
        return RunProgress(self._collector.progress, MappingProxyType(steps))

    @property
    def aliases(self) -> frozenset[str]:
        return frozenset(alias.lower() for _, alias in self._collector.names_and_aliases)

    def events(self) -> AsyncIterator[RunEvent]:
        """Iterate over events from now until the run ends. Unread events are buffered without limit."""
        return self._event_stream.subscribe()

    async def wait(self) -> Report:
        """Wait for the end and return the report; raise only an unexpected exception of a step, or of wxtcb."""
        # Not `await self._task`: if the caller is cancelled, the run continues.
        await asyncio.wait([self._task])
        self._result_retrieved = True
        self._task.result()
        return self.report

    def __await__(self) -> Generator[Any, None, Report]:
        return self.wait().__await__()

    async def cancel(self, *, grace: float | None = None) -> None:
        """Send no further request, and return when the run has ended.

        Requests in progress have *grace* seconds (by default the total timeout). A create without answer is unknown.
        """
        self._halt(StopReason.CANCELLED, "cancelled")
        try:
            with anyio.move_on_after(self._settings.grace if grace is None else grace):
                await asyncio.wait([self._task])
        finally:
            if not self._task.done():
                # Set before the cancellation, so that `_execute` can distinguish it from any other cancellation.
                self._grace_expired = True
                self._task.cancel()
        await asyncio.wait([self._task])

    def raise_unretrieved_error(self) -> None:
        if self._task.done() and not self._task.cancelled() and not self._result_retrieved:
            self._task.result()

    async def _execute(self) -> None:
        try:
            if self._collector.names_and_aliases and (prepared := await self._prepare()):
                await self._execute_plan(*prepared)
        except asyncio.CancelledError:
            # Cancelled from outside, such as by the end of `asyncio.run`, the report must not look like a complete run.
            self._stop(StopReason.CANCELLED, "cancelled")
            if not self._grace_expired:
                raise

    async def _prepare(self) -> tuple[Plan, StepContext] | None:
        settings, wall_clock = self._settings, self._settings.wall_clock
        with self._planning_scope:
            try:
                plan = await self._make_plan()
                # Before anything else: the steps rely on the decided records being in the journal.
                await commit_record_changes(self._journal, plan.record_changes, wall_clock())
                poller, bindings = self._session.shared_poller(DESCRIBE_ENVS), await self._journal.bindings()
                listing = EnvironmentListing.from_plan(poller, plan, bindings, settings.settle, wall_clock())
                settle, timeout, emit = settings.settle, settings.timeout, self._event_stream.emit
                context = StepContext(
                    self._session, self._journal, settle, timeout, emit, self._record_problem, listing, wall_clock
                )
                # The run may have been stopped while the plan was made.
                context.stopped, context.halted = self._scheduler.stopped, self._scheduler.halted
            except WxtcbError as error:
                self._stop_if_creates_blocked(error)
                self._stop(StopReason.FATAL_ERROR if is_fatal(error) else StopReason.PLAN_FAILED, str(error))
            else:
                return plan, context
        return None

    async def _execute_plan(self, plan: Plan, context: StepContext) -> None:
        # Lazy: of 10,000 tenants, only those in progress have a state in memory.
        self._planned_steps.update(step for tenant_plan in plan.tenants for step in tenant_plan.steps)
        self._scheduler.unstarted_tenants = starmap(TenantState.from_plan, enumerate(plan.tenants))
        self._context = context
        async with asyncio.TaskGroup() as group:
            group.create_task(self._poll_environments(context.listing.poller))
            worker_count = min(self._settings.concurrency, len(plan.tenants))
            await asyncio.wait([group.create_task(self._run_worker(context)) for _ in range(worker_count)])
            self._polling_scope.cancel()
        if self._unexpected_error is not None:
            raise self._unexpected_error

    async def _poll_environments(self, poller: SharedPoller[EnvList]) -> None:
        interval, on_decision, on_error = self._settings.interval, self._on_wait_decided, self._on_poll_error
        with self._polling_scope:
            await EnvironmentPoller(self._scheduler, poller, interval, on_decision, on_error).run()

    async def _run_worker(self, context: StepContext) -> None:
        while (batch := await self._scheduler.next_batch()) is not None:
            step, tenant_states = batch
            try:
                if step is None:
                    self._start_tenant(tenant_states[0])
                else:
                    await self._run_step(context, step, tenant_states)
            finally:
                self._scheduler.finish_batch(len(tenant_states))
            # Thousands of tenants may need no request at all; without this the loop would be blocked for all of them.
            await asyncio.sleep(0)

    def _start_tenant(self, tenant_state: TenantState) -> None:
        self._collector.active[tenant_state.index] = tenant_state
        self._event_stream.emit(TenantStarted(tenant_state.name, tenant_state.plan.alias))
        if tenant_state.blocked_outcome:
            self._finish_tenant(tenant_state)
        else:
            self._enqueue_next_step(tenant_state, self._steps)

    def _enqueue_next_step(self, tenant_state: TenantState, steps: tuple[Step, ...]) -> None:
        tenant, tenant_state.pending_wait, tenant_state.how = tenant_state.plan.tenant, None, None
        for step in steps:
            try:
                is_needed = step.is_needed(tenant, tenant_state.effective_record, tenant_state.status)
            # A step may be written by the user, so its predicate may raise anything.
            except Exception as error:
                self._on_unexpected_error(step, [tenant_state], error)
                break
            if is_needed:
                tenant_state.step = step.name
                self._scheduler.enqueue(step, tenant_state)
                return
        self._finish_tenant(tenant_state)

    async def _run_step(self, context: StepContext, step: Step, tenant_states: list[TenantState]) -> None:
        try:
            result = await step.run(context, tenant_states)
        except WxtcbError as error:
            # A request that was not sent, and a create that is blocked for all tenants, are no failure of a tenant.
            # These tenants stay queued, and are reported as unfinished.
            if isinstance(error, SendVetoed) or (step.billable and self._stop_if_creates_blocked(error)):
                result = StepResult.RETRY
            else:
                for tenant_state in tenant_states:
                    self._record_problem(tenant_state, Problem(step=step.name, message=str(error), error=error))
                result = StepResult.END
        except Exception as error:
            result = self._on_unexpected_error(step, tenant_states, error)
        for tenant_state in tenant_states:
            self._apply_result(tenant_state, step, result)

    def _on_unexpected_error(self, step: Step, tenant_states: list[TenantState], error: Exception) -> StepResult:
        message = f"unexpected exception in the step ({describe_unexpected(error)}); report it to its author"
        step_error = WxtcbError(message)
        step_error.__cause__ = error
        self._unexpected_error = self._unexpected_error or error
        # `wait` raises the first one, with its traceback.
        if error is not self._unexpected_error:
            drop_traceback(error)
        for tenant_state in tenant_states:
            # A create that was intended may have been sent before the exception.
            unknown = tenant_state.record.intent is not None
            problem = Problem(step=step.name, message=message, outcome_unknown=unknown, error=step_error)
            self._record_problem(tenant_state, problem)
        return StepResult.END

    def _stop_if_creates_blocked(self, error: WxtcbError) -> bool:
        if isinstance(error, QuotaExceeded):
            self._stop(StopReason.QUOTA_EXCEEDED, str(error), quota_reset_at(error, datetime.now(UTC)))
        elif isinstance(error, IncompleteListing):
            self._stop(StopReason.INCOMPLETE_LISTING, str(error))
        return isinstance(error, QuotaExceeded | IncompleteListing)

    def _apply_result(self, tenant_state: TenantState, step: Step, result: StepResult) -> None:
        match result:
            case StepResult.NEXT:
                if not any(problem.step == step.name for problem in tenant_state.problems):
                    tenant_state.completed_steps += (step.name,)
                    self._done_steps[step.name] += 1
                    done = StepDone(tenant_state.name, step.name, tenant_state.env or "", tenant_state.how)
                    self._event_stream.emit(done)
                self._enqueue_next_step(tenant_state, self._steps[self._steps.index(step) + 1 :])
            case StepResult.RETRY:
                self._scheduler.enqueue(step, tenant_state)
            case StepResult.WAIT if tenant_state.pending_wait:
                self._scheduler.add_wait(tenant_state, tenant_state.pending_wait)
            case StepResult.END if tenant_state.blocked_outcome or tenant_state.problems:
                self._finish_tenant(tenant_state)
            case _:
                raise TypeError(f"step {step.name} ended with {result} but without a problem or wait; record one first")

    def _record_problem(self, tenant_state: TenantState, problem: Problem) -> None:
        tenant_state.problems += (problem,)
        self._event_stream.emit(StepFailed(tenant_state.name, problem))
        if problem.error is not None:
            if is_fatal(problem.error):
                self._halt(StopReason.FATAL_ERROR, str(problem.error))
            drop_traceback(problem.error)

    def _finish_tenant(self, tenant_state: TenantState) -> None:
        report = self._collector.finish(tenant_state)
        self._event_stream.emit(TenantFinished(report))
        self._failure_count += report.outcome in (Outcome.FAILED, Outcome.UNKNOWN)
        if self._settings.max_failures and self._failure_count >= self._settings.max_failures:
            message = f"{self._failure_count} tenants failed, which is as many as max_failures allows"
            self._stop(StopReason.MAX_FAILURES, message)

    def _on_wait_decided(self, tenant_state: TenantState, decision: StepResult | Problem | Exception) -> None:
        del self._scheduler.pending_waits[tenant_state]
        step = next(each for each in self._steps if each.name == tenant_state.step)
        if isinstance(decision, Problem):
            self._record_problem(tenant_state, decision)
            decision = StepResult.END
        elif isinstance(decision, Exception):
            decision = self._on_unexpected_error(step, [tenant_state], decision)
        self._apply_result(tenant_state, step, decision)
        # Last: if this was the final wait, but the tenant is queued again, the workers must not end.
        self._scheduler.wake_workers_if_done()

    def _on_poll_error(self, error: WxtcbError) -> None:
        if is_fatal(error):
            self._halt(StopReason.FATAL_ERROR, str(error))
        self._stop_if_creates_blocked(error)

    def _stop(self, reason: StopReason, message: str, retry_after: datetime | None = None) -> None:
        self._scheduler.stopped = True
        if self._context is not None:
            self._context.stop()
        # Only the first reason counts: the later ones are often its consequences.
        if self._stop_event is None and not self.ended:
            self._stop_event = RunStopped(reason, message, retry_after)
            self._event_stream.emit(self._stop_event)

    def _halt(self, reason: StopReason, message: str) -> None:
        self._stop(reason, message)
        self._scheduler.halt()
        if self._context is not None:
            self._context.halt()
        self._planning_scope.cancel()
        self._polling_scope.cancel()

    def _on_silence(self) -> None:
        """Emit what the run waits for, if nothing was emitted for a while."""
        loop = asyncio.get_running_loop()
        remaining = self._event_stream.last_emitted_at + MAX_SILENCE - loop.time()
        self._silence_timer = loop.call_later(remaining if remaining > 0 else MAX_SILENCE, self._on_silence)
        if remaining <= 0:
            for event in self._list_waits(loop.time()):
                self._event_stream.emit(event)

    def _list_waits(self, now: float) -> Iterator[Waiting]:
        if self._context is None:
            yield Waiting("the list of environments for the plan", self._collector.progress.total)
            return
        if self._scheduler.active_count:
            is_paused = self._session.stats().calls_paused
            reason = "the minute limit of the platform" if is_paused else "requests in progress"
            yield Waiting(reason, self._scheduler.active_count)
        counts, ends_at = Counter[str](), dict[str, float]()
        # A halted run waits only for requests.
        for wait in () if self._scheduler.halted else self._scheduler.pending_waits.values():
            reason, end = wait.describe(now)
            counts[reason] += 1
            ends_at[reason] = max(end, ends_at.get(reason, end))
        for reason, count in counts.items():
            end = ends_at[reason]
            yield Waiting(reason, count, self._context.to_datetime(end) if math.isfinite(end) else None)

    def _on_task_done(self, _task: asyncio.Task[None]) -> None:
        self._silence_timer.cancel()
        self._elapsed = StepContext.loop_time() - self._started_at
        try:
            # Tenants in progress at a cancellation have no other end; a listener must learn what became of them.
            for tenant_state in self._collector.active.values():
                self._event_stream.emit(TenantFinished(tenant_state.to_report()))
        finally:
            self._event_stream.close()
