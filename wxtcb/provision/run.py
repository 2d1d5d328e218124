"""A run under way: workers that open environments, one watcher of those not yet NORMAL, workers that do the rest."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import partial
from typing import Final

import anyio
import attrs

from wxtcb.api.environment import DESCRIBE_ENVS, EnvInfo, EnvList, Share, Watch, batch_share_env, create_env
from wxtcb.errors import EnvironmentNotReady, QuotaExhausted, WxtcbError
from wxtcb.provision.aliases import Aliases
from wxtcb.provision.broadcast import Broadcast
from wxtcb.provision.crew import Crew, Pace
from wxtcb.provision.doubt import Doubt, establish
from wxtcb.provision.events import RunEvent, RunStopped, StepDone, StepFailed, TenantFinished, TenantStarted
from wxtcb.provision.report import Outcome, Problem, Report, Step
from wxtcb.provision.spec import Service
from wxtcb.provision.work import Work, cut_off, hits_everybody, problem_of
from wxtcb.session import Session
from wxtcb.sweep import Look, Sweep

CANCELLED: Final = "cancelled"
_SPENT: Final = (Step.LOOK, Step.CREATE)


@attrs.define(eq=False)
class Run:
    """Tenants being provisioned; made by `Provisioner.apply`, which has started it already."""

    _session: Session
    _works: tuple[Work, ...]
    _pace: Pace
    _stopped: str | None = attrs.field(init=False, default=None)
    _failures: int = attrs.field(init=False, default=0)
    _crew: Crew = attrs.field(init=False)
    _scope: anyio.CancelScope = attrs.field(init=False, factory=anyio.CancelScope)
    _told: Broadcast = attrs.field(init=False, factory=Broadcast)
    _sweep: Sweep[EnvList] = attrs.field(init=False)
    _aliases: Aliases = attrs.field(init=False)
    _careful: Session = attrs.field(init=False)
    _started: float = attrs.field(init=False)
    _elapsed: float | None = attrs.field(init=False, default=None)
    _task: asyncio.Task[None] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        retry = attrs.evolve(self._session.retry, busy_creates=False)
        self._started = self._now()
        self._careful = self._session.with_options(retry=retry, partial="return")
        self._sweep = self._session.sweep(DESCRIBE_ENVS)
        self._aliases = Aliases(self._sweep, self._started)
        self._crew = Crew(iter(self._works), min(self._pace.concurrency, len(self._works)))
        self._task = asyncio.get_running_loop().create_task(self._work())

    @property
    def ended(self) -> bool:
        return self._elapsed is not None

    @property
    def report(self) -> Report:
        """How every tenant stands now; those under way and those not started are unfinished."""
        elapsed = self._now() - self._started if self._elapsed is None else self._elapsed
        return Report(tuple(work.report() for work in self._works), elapsed, self._stopped)

    @property
    def aliases(self) -> frozenset[str]:
        """The aliases it works on, in lower case."""
        return frozenset(work.alias.lower() for work in self._works)

    def events(self) -> AsyncIterator[RunEvent]:
        """Tell what happens from now on, until the run ends; what is not fetched is kept for you, without a bound."""
        return self._told.listen()

    async def wait(self) -> Report:
        """Wait for the end and return the report; raises nothing but a failure of wxtcb itself."""
        await asyncio.wait([self._task])
        self._task.result()
        return self.report

    async def cancel(self, *, grace: float | None = None) -> None:
        """Start no further call, and return when the run has ended.

        Calls under way get *grace* seconds (by default the provisioner's) to be answered. A create that was
        sent and is still unanswered then is reported as unknown, one that was not sent as unfinished. Only a create
        that had begun, and waits for a slot, a token or the minute limit, may still be sent within these seconds.
        """
        self._halt(CANCELLED)
        with anyio.move_on_after(self._pace.grace if grace is None else grace):
            await asyncio.wait([self._task])
        self._scope.cancel()
        await asyncio.wait([self._task])

    async def _work(self) -> None:
        workers = self._crew.openers
        try:
            with self._scope:
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._watch(workers))
                    for _ in range(workers):
                        group.create_task(self._open_all())
                        group.create_task(self._finish_all())
        finally:
            self._conclude()

    def _conclude(self) -> None:
        for work in self._works:
            if work.step and not work.ended:
                self._told.emit(TenantFinished(work.report()))
        self._elapsed = self._now() - self._started
        self._told.close()

    async def _open_all(self) -> None:
        try:
            for work in self._crew.todo:
                if self._stopped:
                    break
                await self._open(work)
        finally:
            self._crew.leave()

    async def _open(self, work: Work) -> None:
        self._told.emit(TenantStarted(work.tenant.name, work.alias))
        with self._at(work, Step.LOOK):
            work.existing = await self._aliases.taken(work.alias)
        if work.existing or work.problems:
            self._end(work)
        elif not self._stopped:
            await self._create(work)

    async def _create(self, work: Work) -> None:
        doubt = Doubt()
        with self._at(work, Step.CREATE, doubt):
            new = await create_env(self._careful.with_options(hooks=[doubt]), alias=work.alias)
            work.watch, work.since = Watch(new.env), self._now()
        if work.problems:
            self._end(work)
            return
        self._pass(work, Step.CREATE)
        work.step = Step.NORMAL
        self._crew.await_normal(work)

    async def _watch(self, workers: int) -> None:
        with self._crew.watching:
            while await self._crew.somebody_waits():
                started = await self._look(self._now())
                if self._crew.waiting:
                    await asyncio.sleep(started + self._pace.interval - self._now())
        self._crew.dismiss(workers)

    async def _look(self, moment: float) -> float:
        """Look once and judge everybody; a failed look costs nobody anything but time."""
        try:
            look = await self._sweep.since(moment)
        except WxtcbError as error:
            self._heed(Step.NORMAL, error)
            self._judge(None)
            return moment
        self._judge(look)
        return look.started_at

    def _judge(self, look: Look[EnvList] | None) -> None:
        timeout = self._pace.timeout
        for env, work in tuple(self._crew.waiting.items()):
            verdict = work.judge(look, timeout) if look else work.overdue(self._now(), timeout)
            if verdict is not None:
                del self._crew.waiting[env]
                self._release(work, verdict)

    def _release(self, work: Work, verdict: EnvInfo | EnvironmentNotReady) -> None:
        if isinstance(verdict, EnvironmentNotReady):
            self._note(work, problem_of(Step.NORMAL, verdict))
            self._end(work)
            return
        self._pass(work, Step.NORMAL)
        work.step = Step.SHARE if work.tenant.appids else Step.SERVICES
        self._crew.ready.put_nowait(work)

    async def _finish_all(self) -> None:
        while (work := await self._crew.ready.get()) is not None:
            await self._finish(work)

    async def _finish(self, work: Work) -> None:
        env = work.env or ""
        for errand in self._errands(work, env):
            if self._crew.halted:
                return
            await errand()
        if work.tenant.services and len(work.services) == len(work.tenant.services):
            self._pass(work, Step.SERVICES)
        self._end(work)

    def _errands(self, work: Work, env: str) -> Iterator[Callable[[], Awaitable[None]]]:
        if work.tenant.appids:
            yield partial(self._share, work, env)
        for service in work.tenant.services:
            yield partial(self._establish, work, service, env)

    async def _share(self, work: Work, env: str) -> None:
        with self._at(work, Step.SHARE):
            share = Share(env=env, appids=work.tenant.appids)
            shared = await batch_share_env(self._careful, [share], source_type=work.tenant.source_type)
            work.links = shared.msg_info_list
            for failure in shared.err_list:
                self._note(work, Problem(step=Step.SHARE, appid=failure.appid, message=failure.errmsg))
            if not shared.err_list:
                self._pass(work, Step.SHARE)

    async def _establish(self, work: Work, service: Service, env: str) -> None:
        doubt = Doubt()
        with self._at(work, Step.SERVICES, doubt, service.name):
            confirmed = await establish(self._session, service.server(env), doubt, lambda: self._crew.halted)
            work.services.append(service.name)
            work.unconfirmed += [] if confirmed else [service.name]

    @contextlib.contextmanager
    def _at(self, work: Work, step: Step, doubt: Doubt | None = None, service: str | None = None) -> Iterator[None]:
        """Hold what goes wrong inside against this tenant alone; a call that adds something has a *doubt*."""
        work.step = step
        try:
            yield
        except WxtcbError as error:
            self._note(work, problem_of(step, error, service, doubt))
        except asyncio.CancelledError:
            if doubt and doubt.there:
                self._note(work, cut_off(step, service))
            raise

    def _pass(self, work: Work, step: Step) -> None:
        work.done.append(step)
        self._told.emit(StepDone(work.tenant.name, step, work.env or ""))

    def _note(self, work: Work, problem: Problem) -> None:
        work.problems.append(problem)
        self._told.emit(StepFailed(work.tenant.name, problem))
        if problem.error is not None:
            self._heed(problem.step, problem.error)

    def _heed(self, step: Step, error: WxtcbError) -> None:
        """Spare the other tenants an error that would be theirs too."""
        if hits_everybody(error):
            self._halt(str(error))
        elif isinstance(error, QuotaExhausted) and step in _SPENT:
            self._stop(str(error))

    def _end(self, work: Work) -> None:
        work.ended = True
        report = work.report()
        self._told.emit(TenantFinished(report))
        self._failures += not (report.outcome.is_done or report.outcome is Outcome.UNFINISHED)
        if self._pace.max_failures and self._failures >= self._pace.max_failures:
            self._stop(f"{self._failures} tenants failed, which is as many as max_failures allows")

    def _stop(self, reason: str) -> None:
        """Start no other tenant."""
        if self._stopped is None and not self.ended:
            self._stopped = reason
            self._told.emit(RunStopped(reason))

    def _halt(self, reason: str) -> None:
        """Start no other tenant, and no other step of those under way."""
        self._stop(reason)
        self._crew.halt()

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()
