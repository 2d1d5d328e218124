"""Run: provisions a list of tenants, and emits the events and the report."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator, Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Final

import anyio
import attrs

from wxtcb.errors import SendVetoed, WxtcbError
from wxtcb.provision.engine import Engine
from wxtcb.provision.event_stream import EventStream
from wxtcb.provision.events import RunEvent, RunStopped, StepDone, TenantFinished, Waiting
from wxtcb.provision.journal import JournalError
from wxtcb.provision.plan import Plan, TenantPlan
from wxtcb.provision.report import Outcome, Progress, Report, RunInfo, RunProgress, StopReason, TenantReport
from wxtcb.provision.tenant_state import TenantState
from wxtcb.provision.term import TermHolder
from wxtcb.provision.work_group import CANCELLED, START_PRIORITY, Stop, WorkGroup

__all__ = ["Run"]

# Seconds without an event after which the run reports what it waits for. `Waiting` names them.
MAX_SILENCE: Final = 2.0


@attrs.define(eq=False)
class ReportCollector:
    """Collector of the reports of all tenants in their order."""

    names_and_aliases: tuple[tuple[str, str], ...]
    _finished: dict[int, TenantReport] = attrs.field(init=False, factory=dict)

    @property
    def progress(self) -> Progress:
        return Progress(len(self._finished), len(self.names_and_aliases))

    def finish(self, index: int, report: TenantReport) -> None:
        self._finished[index] = report

    def iter_reports(self, active: Mapping[str, TenantState]) -> Iterator[TenantReport]:
        for index, (name, alias) in enumerate(self.names_and_aliases):
            if index in self._finished:
                yield self._finished[index]
            elif name in active:
                yield active[name].to_report()
            else:
                yield TenantReport(tenant=name, alias=alias, outcome=Outcome.UNFINISHED)


@attrs.define(eq=False)
class Run:
    """Provisioning of tenants in progress; made by `Provisioner.apply`, which has started it already.

    `await run` is the same as `await run.wait()`.
    """

    _engine: Engine
    _terms: TermHolder | None
    _create_group: Callable[[Callable[[RunEvent], None], Callable[[Stop], None]], WorkGroup]
    _collector: ReportCollector
    _make_plan: Callable[[], Awaitable[Plan]]
    _run_info: RunInfo
    _grace: float
    _max_failures: int | None
    _group: WorkGroup = attrs.field(init=False)
    _is_planned: bool = attrs.field(init=False, default=False)
    _stop_event: RunStopped | None = attrs.field(init=False, default=None)
    _failure_count: int = attrs.field(init=False, default=0)
    _grace_expired: bool = attrs.field(init=False, default=False)
    _planned_steps: Counter[str] = attrs.field(init=False, factory=Counter[str])
    _done_steps: Counter[str] = attrs.field(init=False, factory=Counter[str])
    _event_stream: EventStream = attrs.field(init=False)
    _silence_timer: asyncio.TimerHandle = attrs.field(init=False)
    _started_at: float = attrs.field(init=False, factory=WorkGroup.loop_time)
    _elapsed: float | None = attrs.field(init=False, default=None)
    _result_retrieved: bool = attrs.field(init=False, default=False)
    _task: asyncio.Task[None] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._event_stream = EventStream(self._engine.shared.wall_clock)
        self._group = self._create_group(self._on_event, self._on_stop)
        self._silence_timer = asyncio.get_running_loop().call_later(MAX_SILENCE, self._on_silence)
        self._task = asyncio.get_running_loop().create_task(self._execute())
        self._task.add_done_callback(self._on_task_done)

    @property
    def ended(self) -> bool:
        return self._elapsed is not None

    @property
    def report(self) -> Report:
        elapsed = WorkGroup.loop_time() - self._started_at if self._elapsed is None else self._elapsed
        tenants = tuple(self._collector.iter_reports(self._group.active))
        if (stop := self._stop_event) is None:
            return Report(tenants, elapsed, run_info=self._run_info)
        return Report(tenants, elapsed, stop.reason, stop.message, stop.retry_after, self._run_info)

    @property
    def progress(self) -> RunProgress:
        """Number of finished tenants, and of done steps; costs little, so that it can be read after each event."""
        done, planned = self._done_steps, self._planned_steps
        # A step of the user may become necessary for a tenant after the plan was made.
        totals = {step.name: max(planned[step.name], done[step.name]) for step in self._engine.steps}
        steps = {name: Progress(done[name], total) for name, total in totals.items() if total}
        return RunProgress(self._collector.progress, MappingProxyType(steps))

    def events(self) -> AsyncIterator[RunEvent]:
        """Iterate over events from now until the run ends.

        Of more than 10,000 unread events the oldest are dropped; an `EventsDropped` event then says how many.
        """
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
        self._group.stop_for(CANCELLED)
        try:
            with anyio.move_on_after(self._grace if grace is None else grace):
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
            if not self._collector.names_and_aliases:
                return
            with self._engine.working(self._group):
                await self._run_all()
        except asyncio.CancelledError:
            # Cancelled from outside, such as by the end of `asyncio.run`, the report must not look like a complete run.
            self._group.stop_for(CANCELLED)
            if not self._grace_expired:
                raise
        if self._group.unexpected_error is not None:
            raise self._group.unexpected_error

    async def _run_all(self) -> None:
        try:
            with self._group.interruptible():
                if self._terms is not None:
                    await self._terms.acquire_for_run()
        except SendVetoed:
            return
        except JournalError as error:
            self._group.stop_for(Stop(StopReason.FATAL_ERROR, str(error), halts=True))
            return
        try:
            if (plan := await self._prepare()) is not None:
                await self._run_tenants(plan)
        finally:
            if self._terms is not None:
                await self._terms.release_for_run()

    async def _prepare(self) -> Plan | None:
        engine = self._engine
        try:
            with self._group.interruptible():
                plan = await self._make_plan()
                await engine.shared.listing.bindings.read()
            await engine.commit_changes(plan)
        except SendVetoed:
            return None
        except WxtcbError as error:
            self._group.stop_for(engine.find_plan_stop(error))
            return None
        self._planned_steps.update(step for tenant_plan in plan.tenants for step in tenant_plan.steps)
        self._is_planned = True
        return plan

    async def _run_tenants(self, plan: Plan) -> None:
        limiter = self._engine.shared.limiter
        async with asyncio.TaskGroup() as tasks:
            watching = tasks.create_task(self._group.watch.run())
            async with asyncio.TaskGroup() as tenants:
                for index, tenant_plan in enumerate(plan.tenants):
                    # A tenant starts when nothing more urgent needs the slot: few are unfinished at any time.
                    try:
                        await limiter.acquire(START_PRIORITY, self._group.wait)
                    except SendVetoed:
                        break
                    if self._group.stopped:
                        limiter.release()
                        break
                    tenants.create_task(self._run_tenant(index, tenant_plan))
            watching.cancel()

    async def _run_tenant(self, index: int, plan: TenantPlan) -> None:
        report = await self._engine.run_tenant(self._group, plan, index=index)
        self._collector.finish(index, report)
        self._failure_count += report.outcome in (Outcome.FAILED, Outcome.UNKNOWN)
        if self._max_failures and self._failure_count >= self._max_failures:
            message = f"{self._failure_count} tenants failed, which is as many as max_failures allows"
            self._group.stop_for(Stop(StopReason.MAX_FAILURES, message))

    def _on_event(self, event: RunEvent) -> None:
        if isinstance(event, StepDone):
            self._done_steps[event.step] += 1
        self._event_stream.emit(event)

    def _on_stop(self, stop: Stop) -> None:
        # Only the first reason counts: the later ones are often its consequences.
        if self._stop_event is None and not self.ended:
            self._stop_event = RunStopped(stop.reason, stop.message, stop.retry_after)
            self._event_stream.emit(self._stop_event)

    def _on_silence(self) -> None:
        """Emit what the run waits for, if nothing was emitted for a while."""
        loop = asyncio.get_running_loop()
        remaining = self._event_stream.last_emitted_at + MAX_SILENCE - loop.time()
        self._silence_timer = loop.call_later(remaining if remaining > 0 else MAX_SILENCE, self._on_silence)
        if remaining <= 0:
            for event in self._list_waits(loop.time()):
                self._event_stream.emit(event)

    def _list_waits(self, now: float) -> Iterator[Waiting]:
        if not self._is_planned:
            yield Waiting("the list of environments for the plan", self._collector.progress.total)
            return
        counts, ends_at, active_count = Counter[str](), dict[str, float](), 0
        for state in self._group.active.values():
            if state.pending_wait is None:
                active_count += 1
            else:
                reason, end = state.pending_wait.describe(now)
                counts[reason] += 1
                ends_at[reason] = max(end, ends_at.get(reason, end))
        if active_count:
            is_paused = self._group.session.stats().calls_paused
            reason = "the minute limit of the platform" if is_paused else "requests in progress"
            yield Waiting(reason, active_count)
        for reason, count in counts.items():
            yield Waiting(reason, count, self._to_datetime(ends_at[reason]))

    def _to_datetime(self, loop_time: float) -> datetime | None:
        if not math.isfinite(loop_time):
            return None
        return datetime.fromtimestamp(self._engine.shared.wall_clock() + loop_time - WorkGroup.loop_time(), UTC)

    def _on_task_done(self, _task: asyncio.Task[None]) -> None:
        self._silence_timer.cancel()
        self._elapsed = WorkGroup.loop_time() - self._started_at
        try:
            # Tenants in progress at a hard cancellation have no other end; a listener must learn what became of them.
            for state in self._group.active.values():
                self._event_stream.emit(TenantFinished(state.to_report()))
        finally:
            self._event_stream.close()
