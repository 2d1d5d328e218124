"""Worker: provisions what is desired, while this process is elected."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Sequence
from datetime import UTC, datetime
from typing import Final, NoReturn

import anyio
import attrs

from wxtcb._concurrency.tasks import Backoff, wait_shielded
from wxtcb._http.retry import RetryDecision, classify, decide
from wxtcb._protocol.endpoint import Repeat
from wxtcb.errors import InvalidArgument, OperationTimeout, SendVetoed, WxtcbError
from wxtcb.provision.desired import DesiredState, DesiredTenant, DesiredTenants, Finish
from wxtcb.provision.election import Term
from wxtcb.provision.engine import Engine
from wxtcb.provision.events import ElectionUnavailable, RunEvent, RunStopped, TermEnded, TermStarted
from wxtcb.provision.journal import JournalConflict, UnserializableRecord
from wxtcb.provision.plan import OperatorDecisions, TenantPlan
from wxtcb.provision.reconciliation import MAX_LISTING_AGE
from wxtcb.provision.report import Outcome, StopReason, TenantReport
from wxtcb.provision.tenant import Tenant
from wxtcb.provision.tenant_spec import load_tenant
from wxtcb.provision.term import TermHolder
from wxtcb.provision.work_group import CANCELLED, START_PRIORITY, Stop, WorkGroup

__all__ = ["Drained", "Worker"]

_BATCH_SIZE: Final = 500
# Seconds after which what is desired is read again although no change was noticed.
_POLL_INTERVAL: Final = 5.0
_MIN_READ_INTERVAL: Final = 0.1
# Seconds for which a worker that is cancelled waits for responses before it lets another process be elected.
_HANDOVER_SECONDS: Final = 0.5
MAX_TRIES: Final = 8
_RETRY_BACKOFF: Final = Backoff(60.0, 3600.0)
# Not longer: what an operator has fixed, such as a deleted environment, should not wait for an hour.
_PAUSE_BACKOFF: Final = Backoff(60.0, 300.0)

GroupFactory = Callable[[Callable[[RunEvent], None], Callable[[Stop], None]], WorkGroup]


@attrs.frozen
class Drained:
    """Result of `Provisioner.drain`.

    - `elected`: whether this process was elected to the end; if not, another one works, or will do so.
    - `waiting`: number of tenants that still wait.
    - `retry_after`: time in UTC at which to drain again, such as after an exhausted quota; None if nothing waits.
    """

    elected: bool
    waiting: int = 0
    retry_after: datetime | None = None


@attrs.define(eq=False)
class Worker:
    """Worker of one provisioner.

    `create_group` makes a work group from functions for events and for stops; `on_event` gets all events. `grace` is
    the number of seconds for which a worker that is cancelled waits for responses.
    """

    engine: Engine
    terms: TermHolder
    desired: DesiredTenants
    create_group: GroupFactory
    on_event: Callable[[RunEvent], None]
    grace: float
    _period: Period | None = attrs.field(init=False, default=None)

    async def serve(self) -> NoReturn:
        """Work whenever this process is elected, until it is cancelled."""
        pauses = 0
        while True:
            term = await self.terms.campaign(lambda error: self.on_event(ElectionUnavailable(str(error))))
            stop = await self._work(term, self._serve_term(term))
            # Another process may be able to do what this one is not, such as with another IP address.
            pauses = 0 if stop is None or stop.reason is StopReason.DEPOSED else pauses + 1
            if pauses:
                await asyncio.sleep(_PAUSE_BACKOFF.delay(pauses))

    async def drain(self) -> Drained:
        """Work until nothing is due, if this process is elected."""
        if (term := await self.terms.try_acquire()) is None:
            return Drained(elected=False)
        stop = await self._work(term, self._run_period(term, until_idle=True))
        if stop is not None and stop.reason is StopReason.DEPOSED:
            return Drained(elected=False)
        waiting, now = (await self.desired.counts())[DesiredState.WAITING], self.engine.shared.wall_clock()
        retry_after = stop.retry_after.astimezone(UTC) if stop and stop.retry_after else None
        if retry_after is None and (stop or waiting):
            retry_after = datetime.fromtimestamp(now + _PAUSE_BACKOFF.initial, UTC)
        return Drained(True, waiting, retry_after)

    async def _serve_term(self, term: Term) -> Stop | None:
        pauses, now = 0, asyncio.get_running_loop().time
        while True:
            started_at = now()
            stop = await self._run_period(term, until_idle=False)
            if stop is None or stop.halts:
                return stop
            # Work that went on for a while was no continuation of the last trouble.
            pauses = 1 if now() - started_at > _PAUSE_BACKOFF.maximum else pauses + 1
            seconds = _PAUSE_BACKOFF.delay(pauses)
            if stop.retry_after is not None:
                seconds = max(1.0, stop.retry_after.timestamp() - self.engine.shared.wall_clock())
            await asyncio.sleep(seconds)

    async def _run_period(self, term: Term, *, until_idle: bool) -> Stop | None:
        self._period = period = Period(self, term, until_idle)
        try:
            return await period.run()
        finally:
            self._period = None

    async def _work(self, term: Term, work: Coroutine[None, None, Stop | None]) -> Stop | None:
        """Run *work* during *term*; if the caller is cancelled, hand over before the last responses have arrived."""
        self.on_event(TermStarted(term.epoch))
        stop: Stop | None = None
        reason = "released"
        # Tasks of their own: the cancellation of the caller must not cut off requests in progress.
        task, keeper = asyncio.ensure_future(work), asyncio.ensure_future(self.terms.keep(term))
        try:
            await asyncio.wait([task, keeper], return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                stop = task.result()
            else:
                stop = Stop(StopReason.DEPOSED, keeper.result(), halts=True)
                await self._end(task, stop, self.grace)
            reason = stop.message if stop else reason
        except asyncio.CancelledError:
            reason = "cancelled"
            # A further cancellation ends the waits for responses.
            with anyio.CancelScope(shield=True), contextlib.suppress(asyncio.CancelledError):
                await self._end(task, CANCELLED, _HANDOVER_SECONDS)
                await self.terms.release(term)
                await asyncio.wait([task], timeout=self.grace)
            raise
        finally:
            # However often the caller is cancelled: no task may be left, and no other process kept waiting.
            cancelled = await wait_shielded(asyncio.ensure_future(self._clean_up(term, task, keeper)))
            self.on_event(TermEnded(term.epoch, reason))
        if cancelled is not None:
            raise cancelled
        return stop

    async def _clean_up(self, term: Term, task: asyncio.Task[Stop | None], keeper: asyncio.Task[str]) -> None:
        task.cancel()
        keeper.cancel()
        await asyncio.wait([task, keeper])
        await self.terms.release(term)

    async def _end(self, task: asyncio.Task[Stop | None], stop: Stop, seconds: float) -> None:
        """Send nothing more, and wait so many *seconds* for the responses of what was sent."""
        if self._period is None:
            # During a pause nothing is in progress.
            task.cancel()
        else:
            self._period.group.stop_for(stop)
        await asyncio.wait([task], timeout=seconds)


@attrs.define(eq=False)
class _Entry:
    """A desired tenant in progress, and a newer revision of it that was taken meanwhile."""

    desired: DesiredTenant
    newer: DesiredTenant | None = None


@attrs.define(eq=False)
class Period:
    """Work without a pause, in one *term*: until all tenants have to stop, or with `until_idle` until none is due."""

    worker: Worker
    term: Term
    until_idle: bool
    group: WorkGroup = attrs.field(init=False)
    _stop: Stop | None = attrs.field(init=False, default=None)
    _entries: dict[str, _Entry] = attrs.field(init=False, factory=dict[str, _Entry])
    # Taken while an earlier revision was in progress, which has ended.
    _again: list[DesiredTenant] = attrs.field(init=False, factory=list[DesiredTenant])
    # Taken, but not started.
    _unstarted: list[DesiredTenant] = attrs.field(init=False, factory=list[DesiredTenant])
    _finishes: list[Finish] = attrs.field(init=False, factory=list[Finish])
    _finish_lock: asyncio.Lock = attrs.field(init=False, factory=asyncio.Lock)
    _wakeup: asyncio.Event = attrs.field(init=False, factory=asyncio.Event)

    def __attrs_post_init__(self) -> None:
        self.group = self.worker.create_group(self.worker.on_event, self._on_stop)

    async def run(self) -> Stop | None:
        """Return why the period ended, or None if nothing is due."""
        async with asyncio.TaskGroup() as tasks:
            with self.worker.engine.working(self.group):
                helpers = [tasks.create_task(self.group.watch.run()), tasks.create_task(self._listen())]
                try:
                    async with asyncio.TaskGroup() as tenants:
                        await self._feed(tenants)
                finally:
                    for helper in helpers:
                        helper.cancel()
        if self._stop is not None and not self._stop.halts:
            # Until the pause is over, none of them is due; they are taken again in this term.
            for desired in (*self._unstarted, *self._again):
                await self._finish(self._waiting(desired, self._stop))
        return self._stop

    def _on_stop(self, stop: Stop) -> None:
        # Only the first reason counts, unless a later one lets nothing more be sent.
        if self._stop is None or (stop.halts and not self._stop.halts):
            self._stop = stop
            self.worker.on_event(RunStopped(stop.reason, stop.message, stop.retry_after))
        self._wakeup.set()

    def _fail(self, error: WxtcbError) -> None:
        self.group.stop_for(self.worker.engine.find_plan_stop(error))

    async def _listen(self) -> None:
        """Wake up `_feed` when something may have changed."""
        seen = 0
        try:
            while True:
                seen = await self.worker.desired.wait_for_change(seen, _POLL_INTERVAL)
                self._wakeup.set()
                await asyncio.sleep(_MIN_READ_INTERVAL)
        except WxtcbError as error:
            self._fail(error)

    async def _feed(self, tenants: asyncio.TaskGroup) -> None:
        """Start what is desired, as slots are free."""
        try:
            while not self.group.stopped:
                self._wakeup.clear()
                taken = await self.worker.desired.take(self.term.epoch, _BATCH_SIZE)
                again, self._again = self._again, []
                if taken or again:
                    await self._start_all((*again, *taken), tenants)
                elif self.until_idle and not self._entries:
                    return
                else:
                    await self._wakeup.wait()
                    await self._mark_cancelled()
        except SendVetoed:
            # The group was stopped meanwhile.
            return
        except WxtcbError as error:
            self._fail(error)

    async def _mark_cancelled(self) -> None:
        if self._entries:
            select = self.worker.desired.select
            for desired in await select(tuple(self._entries), states=[DesiredState.CANCELLED]):
                if (state := self.group.active.get(desired.tenant)) is not None:
                    state.cancelled = True

    async def _start_all(self, taken: Sequence[DesiredTenant], tenants: asyncio.TaskGroup) -> None:
        newest: dict[str, DesiredTenant] = {}
        for desired in taken:
            if (entry := self._entries.get(desired.tenant)) is not None:
                # It begins once the present attempt has ended.
                entry.newer = desired
            else:
                # One that waited for the end of an attempt may have been taken once more; the later row is the newer.
                newest[desired.tenant] = desired
        self._unstarted = [*newest.values()]
        for desired, plan in await self._plan_all(tuple(self._unstarted)):
            await self.worker.engine.shared.limiter.acquire(START_PRIORITY, self.group.wait)
            if self.group.stopped:
                self.worker.engine.shared.limiter.release()
                return
            self._unstarted.remove(desired)
            self._entries[desired.tenant] = _Entry(desired)
            tenants.create_task(self._run_tenant(desired, plan))

    async def _plan_all(self, batch: Sequence[DesiredTenant]) -> list[tuple[DesiredTenant, TenantPlan]]:
        """Plan the tenants of *batch* together, and carry out their decisions; what is invalid needs attention."""
        parsed: list[tuple[DesiredTenant, Tenant]] = []
        for desired in batch:
            try:
                parsed.append((desired, load_tenant(desired.spec, desired.tenant)))
            except WxtcbError as error:
                await self._reject(desired, str(error))
        plain = [pair for pair in parsed if pair[0].decision is None and pair[1].env is None]
        # What cannot be planned, such as a decision that cannot be carried out, concerns no other tenant.
        alone = [pair for pair in parsed if pair not in plain]
        plans: list[tuple[DesiredTenant, TenantPlan]] = []
        try:
            plans += await self._plan(plain) if plain else []
        except (InvalidArgument, JournalConflict, UnserializableRecord):
            alone = parsed
        for desired, tenant in alone:
            try:
                plans += await self._plan([(desired, tenant)])
            except JournalConflict:
                # Another process changes the record at the same time.
                self._unstarted.remove(desired)
                self._again.append(desired)
                await self.group.sleep(_MIN_READ_INTERVAL)
            except (InvalidArgument, UnserializableRecord) as error:
                await self._reject(desired, str(error))
        return plans

    async def _plan(self, pairs: Sequence[tuple[DesiredTenant, Tenant]]) -> list[tuple[DesiredTenant, TenantPlan]]:
        engine, decisions, max_age = self.worker.engine, OperatorDecisions(), MAX_LISTING_AGE
        if (decision := pairs[0][0].decision) is not None:
            name = pairs[0][0].tenant
            # The person has seen something newer than the last listing, such as the console.
            max_age = 0.0
            decisions = OperatorDecisions(
                adopt={name: decision.adopt} if decision.adopt else {},
                forget={name: decision.forget} if decision.forget else {},
                # Every decision of a person allows further creates.
                retry=frozenset({name}),
                revision=pairs[0][0].revision,
            )
        aliases = [desired.alias for desired, _ in pairs]
        with self.group.interruptible():
            plan = await engine.plan([tenant for _, tenant in pairs], aliases, decisions, max_age=max_age)
        await engine.commit_changes(plan)
        return [(desired, each) for (desired, _), each in zip(pairs, plan.tenants, strict=True)]

    async def _reject(self, desired: DesiredTenant, problem: str) -> None:
        """Store that a tenant cannot be planned."""
        self._unstarted.remove(desired)
        await self.worker.engine.store_problem(desired.tenant, desired.alias, Outcome.FAILED, problem)
        finish = Finish(tenant=desired.tenant, revision=desired.revision, state=DesiredState.NEEDS_ATTENTION)
        await self._finish(finish)

    async def _run_tenant(self, desired: DesiredTenant, plan: TenantPlan) -> None:
        report = await self.worker.engine.run_tenant(self.group, plan)
        entry = self._entries.pop(desired.tenant)
        if (error := self.group.unexpected_error) is not None:
            self.group.unexpected_error = None
            message = f"unexpected exception while tenant {desired.tenant!r} was provisioned"
            asyncio.get_running_loop().call_exception_handler({"message": message, "exception": error})
        if entry.newer is not None:
            self._again.append(entry.newer)
        if (finish := self._judge(desired, plan, report)) is not None:
            await self._finish(finish)
        self._wakeup.set()

    def _judge(self, desired: DesiredTenant, plan: TenantPlan, report: TenantReport) -> Finish | None:
        """Return what becomes of a tenant after an attempt; None if it stays as it is for the next term."""
        if self._stop is not None and self._stop.halts and not report.outcome.is_done:
            # Cut off: what it could not check, such as an ambiguous create, is checked by the next term.
            return None
        # With a step, the tenant was stopped at it.
        if report.outcome is Outcome.UNFINISHED or report.step is not None:
            return self._waiting(desired, self._stop)
        state, delay = DesiredState.NEEDS_ATTENTION, 0.0
        # The list proves nothing about any new tenant at the moment; an operator need not decide about each of them.
        is_postponed = plan.is_postponed and report.reason == plan.reason
        if report.outcome.is_done:
            state = DesiredState.DONE
        elif desired.tries + 1 < MAX_TRIES and (may_succeed_later(report) or is_postponed):
            state, delay = DesiredState.WAITING, _RETRY_BACKOFF.delay(desired.tries + 1)
        failed = state is DesiredState.WAITING
        return Finish(tenant=desired.tenant, revision=desired.revision, state=state, delay=delay, failed=failed)

    def _waiting(self, desired: DesiredTenant, stop: Stop | None) -> Finish:
        now, delay = self.worker.engine.shared.wall_clock(), _PAUSE_BACKOFF.initial
        if stop is not None and stop.retry_after is not None:
            delay = max(1.0, stop.retry_after.timestamp() - now)
        return Finish(tenant=desired.tenant, revision=desired.revision, state=DesiredState.WAITING, delay=delay)

    async def _finish(self, finish: Finish) -> None:
        """Store *finish*, together with what else has finished while an earlier batch is stored."""
        self._finishes.append(finish)
        if self._finish_lock.locked():
            return
        async with self._finish_lock:
            while self._finishes:
                batch, self._finishes = self._finishes, []
                try:
                    await self.worker.desired.change(batch)
                except WxtcbError as error:
                    # They are taken again in the next term, and found done.
                    self._fail(error)
                    return


def may_succeed_later(report: TenantReport) -> bool:
    """Return whether another attempt may succeed without a person."""
    errors = [problem.error for problem in report.problems]
    return report.outcome in (Outcome.FAILED, Outcome.UNKNOWN) and all(
        error is not None
        # An attempt begins by checking what exists, so it may be repeated like a read.
        and (isinstance(error, OperationTimeout) or decide(Repeat.READ, classify(error)) is RetryDecision.RETRY)
        for error in errors
    )
