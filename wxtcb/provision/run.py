"""A run under way: workers that take steps, and one watcher of those who wait for what a look will show."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Final

import anyio
import attrs

from wxtcb._concurrency.shared_poll import Sweep
from wxtcb.api.environment import DESCRIBE_ENVS, EnvList
from wxtcb.errors import QuotaExhausted, Withheld, WxtcbError
from wxtcb.provision.broadcast import Broadcast
from wxtcb.provision.context import Site
from wxtcb.provision.error_policy import ListIncomplete, back_at, hits_everybody, lighten
from wxtcb.provision.events import RunEvent, RunStopped, StepDone, StepFailed, TenantFinished, TenantStarted
from wxtcb.provision.journal import Binding, Journal
from wxtcb.provision.keeping import release
from wxtcb.provision.ledger import Ledger
from wxtcb.provision.looks import Looks
from wxtcb.provision.pace import Pace
from wxtcb.provision.plan import Plan
from wxtcb.provision.report import Origin, Outcome, Problem, Report
from wxtcb.provision.scheduler import Agenda
from wxtcb.provision.step import Step
from wxtcb.provision.tenant_state import Work
from wxtcb.provision.waiting import Move
from wxtcb.provision.watcher import Watcher
from wxtcb.session import Session

CANCELLED: Final = "cancelled"


@attrs.define(eq=False)
class Run:
    """Tenants being provisioned; made by `Provisioner.apply`, which has started it already."""

    _session: Session
    _journal: Journal
    _steps: tuple[Step, ...]
    _pace: Pace
    _ledger: Ledger
    _make_plan: Callable[[], Awaitable[Plan]]
    _origin: Origin
    _agenda: Agenda = attrs.field(init=False)
    _site: Site | None = attrs.field(init=False, default=None)
    _stopped: RunStopped | None = attrs.field(init=False, default=None)
    _failures: int = attrs.field(init=False, default=0)
    _cut_off: bool = attrs.field(init=False, default=False)
    _mistake: Exception | None = attrs.field(init=False, default=None)
    _planning: anyio.CancelScope = attrs.field(init=False, factory=anyio.CancelScope)
    _watching: anyio.CancelScope = attrs.field(init=False, factory=anyio.CancelScope)
    _told: Broadcast = attrs.field(init=False, factory=Broadcast)
    _started: float = attrs.field(init=False)
    _elapsed: float | None = attrs.field(init=False, default=None)
    _waited_for: bool = attrs.field(init=False, default=False)
    _task: asyncio.Task[None] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._started = self._now()
        self._agenda = Agenda(self._steps)
        self._task = asyncio.get_running_loop().create_task(self._work())
        self._task.add_done_callback(lambda _: self._conclude())

    @property
    def ended(self) -> bool:
        return self._elapsed is not None

    @property
    def report(self) -> Report:
        """How every tenant stands now; those under way and those not started are unfinished."""
        elapsed = self._now() - self._started if self._elapsed is None else self._elapsed
        tenants = tuple(self._ledger.reports())
        if self._stopped is None:
            return Report(tenants, elapsed, origin=self._origin)
        return Report(tenants, elapsed, self._stopped.reason, self._stopped.come_back_at, self._origin)

    @property
    def aliases(self) -> frozenset[str]:
        """The aliases it works on, in lower case."""
        return frozenset(alias.lower() for _, alias in self._ledger.wanted)

    def events(self) -> AsyncIterator[RunEvent]:
        """Tell what happens from now on, until the run ends; what is not fetched is kept for you, without a bound."""
        return self._told.listen()

    async def wait(self) -> Report:
        """Wait for the end and return the report; raises nothing but a mistake of a step, or of wxtcb."""
        await asyncio.wait([self._task])
        self._waited_for = True
        self._task.result()
        return self.report

    async def cancel(self, *, grace: float | None = None) -> None:
        """Send nothing that is not sent yet, and return when the run has ended.

        What is under way gets *grace* seconds to be answered, by default as many as a request may take. A create that
        is still unanswered then is reported as unknown.
        """
        self._halt(CANCELLED)
        try:
            with anyio.move_on_after(self._pace.grace if grace is None else grace):
                await asyncio.wait([self._task])
        finally:
            if not self._task.done():
                self._cut_off = True
                self._task.cancel()
        await asyncio.wait([self._task])

    def raise_failure(self) -> None:
        """Raise what has ended the run, if it was a mistake of a step, or of wxtcb, and nobody has waited for it."""
        if self._task.done() and not self._task.cancelled() and not self._waited_for:
            self._task.result()

    async def _work(self) -> None:
        try:
            if self._ledger.wanted and (found := await self._plan()):
                await self._carry_out(*found)
        except asyncio.CancelledError:
            if not self._cut_off:
                raise

    async def _plan(self) -> tuple[Plan, Site] | None:
        """Make the plan; what keeps it from being made keeps everybody from being started."""
        with self._planning:
            try:
                plan = await self._make_plan()
                await release(self._journal, plan.releases, self._pace.clock())
                return plan, self._open_site(plan, await self._journal.bound())
            except WxtcbError as error:
                self._spare(error)
                self._stop(str(error))
        return None

    async def _carry_out(self, plan: Plan, site: Site) -> None:
        self._agenda.newcomers = (Work.begin(place, planned) for place, planned in enumerate(plan.tenants))
        self._site = site
        async with asyncio.TaskGroup() as group:
            group.create_task(self._watch(site.looks.sweep))
            hands = min(self._pace.concurrency, len(plan.tenants))
            await asyncio.wait([group.create_task(self._serve(site)) for _ in range(hands)])
            self._watching.cancel()
        if self._mistake is not None:
            raise self._mistake

    def _open_site(self, plan: Plan, bound: Mapping[str, Binding]) -> Site:
        return Site(
            self._session,
            self._journal,
            settle=self._pace.settle,
            patience=self._pace.timeout,
            tell=self._told.emit,
            note=self._note,
            looks=Looks.begin(self._session.sweep(DESCRIBE_ENVS), plan, bound, self._pace),
            wall=self._pace.clock,
            stopped=self._agenda.stopped,
            halted=self._agenda.halted,
        )

    async def _watch(self, sweep: Sweep[EnvList]) -> None:
        with self._watching:
            await Watcher(self._agenda, sweep, self._pace.interval, self._release, self._heed_look).watch()

    async def _serve(self, site: Site) -> None:
        while (job := await self._agenda.next()) is not None:
            try:
                if job.step is None:
                    self._begin(job.works[0])
                else:
                    await self._take(site, job.step, job.works)
            finally:
                self._agenda.finish()
            await asyncio.sleep(0)  # there may be thousands with nothing to wait for

    def _begin(self, work: Work) -> None:
        self._ledger.begin(work)
        self._told.emit(TenantStarted(work.name, work.planned.alias))
        if work.blocked:
            self._end(work)
        else:
            self._send_on(work, self._steps)

    async def _take(self, site: Site, step: Step, works: list[Work]) -> None:
        try:
            move = await step.take(site, works)
        except WxtcbError as error:
            move = self._fail(step, works, error)
        except Exception as error:
            move = self._break_off(step, works, error)
        for work in works:
            self._move(work, step, move)

    def _fail(self, step: Step, works: list[Work], error: WxtcbError) -> Move:
        """Hold an error against its tenants; but a quota that is used up is nobody's own, nor is a stop."""
        if isinstance(error, Withheld) or (step.spends and self._spare(error)):
            return Move.AGAIN
        for work in works:
            self._note(work, Problem(step=step.name, message=str(error), error=error))
        return Move.OUT

    def _break_off(self, step: Step, works: list[Work], error: Exception) -> Move:
        """End the tenants of a step that failed as none should; the others go on, and the run ends with the error."""
        self._mistake = self._mistake or error
        for work in works:
            message = f"the step failed by a mistake of its own ({type(error).__name__}: {error})"
            self._note(work, Problem(step=step.name, message=message, unknown=work.record.intent is not None))
        return Move.OUT

    def _spare(self, error: WxtcbError) -> bool:
        """Stop at a quota that is used up, or at a list that proves nothing, and tell whether it is one."""
        if isinstance(error, QuotaExhausted):
            self._stop(str(error), back_at(error, datetime.now(UTC)))
        elif isinstance(error, ListIncomplete):
            self._stop(str(error))
        else:
            return False
        return True

    def _move(self, work: Work, step: Step, move: Move) -> None:
        match move:
            case Move.ON:
                self._pass(work, step)
                self._send_on(work, self._steps[self._steps.index(step) + 1 :])
            case Move.AGAIN:
                self._agenda.put(step, work)
            case Move.PARK if work.waiting:
                self._agenda.park(work, work.waiting)
            case Move.OUT if work.blocked or work.problems:
                self._end(work)
            case _:
                raise TypeError(f"step {step.name} ended with {move}, without a reason or what to wait for")

    def _send_on(self, work: Work, steps: tuple[Step, ...]) -> None:
        """Let the tenant wait for the first of *steps* that it wants, or end."""
        tenant, work.waiting = work.planned.tenant, None
        for step in steps:
            try:
                is_wanted = step.wants(tenant, work.to_go_by, work.status)
            except Exception as error:
                self._break_off(step, [work], error)
                break
            if is_wanted:
                work.step = step.name
                self._agenda.put(step, work)
                return
        self._end(work)

    def _release(self, work: Work, ruling: Move | Problem) -> None:
        self._agenda.unpark(work)
        if isinstance(ruling, Problem):
            self._note(work, ruling)
            self._end(work)
        else:
            self._move(work, next(step for step in self._steps if step.name == work.step), ruling)
        self._agenda.tell_if_over()

    def _pass(self, work: Work, step: Step) -> None:
        if not any(problem.step == step.name for problem in work.problems):
            work.done += (step.name,)
            self._told.emit(StepDone(work.name, step.name, work.env or ""))

    def _note(self, work: Work, problem: Problem) -> None:
        work.problems += (problem,)
        self._told.emit(StepFailed(work.name, problem))
        if problem.error is not None:
            self._heed(problem.error)
            lighten(problem.error)

    def _heed(self, error: WxtcbError) -> None:
        """Spare the other tenants an error that would be theirs too."""
        if hits_everybody(error):
            self._halt(str(error))

    def _heed_look(self, error: WxtcbError) -> None:
        self._heed(error)
        self._spare(error)

    def _end(self, work: Work) -> None:
        report = self._ledger.end(work)
        self._told.emit(TenantFinished(report))
        self._failures += report.outcome in (Outcome.FAILED, Outcome.UNKNOWN)
        if self._pace.max_failures and self._failures >= self._pace.max_failures:
            self._stop(f"{self._failures} tenants failed, which is as many as max_failures allows")

    def _stop(self, reason: str, come_back_at: datetime | None = None) -> None:
        """Start no other tenant."""
        self._agenda.stop()
        if self._site is not None:
            self._site.stop()
        if self._stopped is None and not self.ended:
            self._stopped = RunStopped(reason, come_back_at)
            self._told.emit(self._stopped)

    def _halt(self, reason: str) -> None:
        """Start no other tenant, and send nothing more for those under way."""
        self._stop(reason)
        self._agenda.halt()
        if self._site is not None:
            self._site.halt()
        self._planning.cancel()
        self._watching.cancel()

    def _conclude(self) -> None:
        for work in self._ledger.under_way.values():
            self._told.emit(TenantFinished(work.report()))
        self._elapsed = self._now() - self._started
        self._told.close()

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()
