"""Scheduler: decides which step of which tenants is next, and when a wait has ended; `run` executes the steps."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable, Iterator

import anyio
import attrs

from wxtcb._concurrency.shared_poll import SharedPoller, Snapshot
from wxtcb._concurrency.tasks import cooperative_iter
from wxtcb.api.environment import EnvList
from wxtcb.errors import WxtcbError
from wxtcb.provision.report import Problem
from wxtcb.provision.step import PendingWait, Step, StepResult
from wxtcb.provision.tenant_state import TenantState

# A step to run, and its tenants; the step is None for a tenant that is about to start.
StepBatch = tuple[Step | None, list[TenantState]]


@attrs.define(eq=False)
class Scheduler:
    """Scheduler of batches for workers: later steps before earlier ones, and new tenants last.

    Once `stopped`, no new tenant starts and no billable step begins, but one whose wait has ended is still concluded.
    Once `halted`, nothing is handed out. `due_changed` is set when `earliest_due_at` moves closer. `active_count` is
    the number of tenants whose step is running.
    """

    steps: tuple[Step, ...]
    unstarted_tenants: Iterator[TenantState] = attrs.field(init=False, factory=lambda: iter(()))
    stopped: bool = False
    halted: bool = False
    pending_waits: dict[TenantState, PendingWait] = attrs.field(init=False, factory=dict)
    earliest_due_at: float = attrs.field(init=False, default=math.inf)
    due_changed: asyncio.Event = attrs.field(init=False, factory=asyncio.Event)
    active_count: int = attrs.field(init=False, default=0)
    _queues: dict[Step, deque[TenantState]] = attrs.field(init=False)
    _idle_workers: deque[asyncio.Future[None]] = attrs.field(init=False, factory=deque["asyncio.Future[None]"])

    def __attrs_post_init__(self) -> None:
        # Later steps first: few tenants are unfinished at any time, and an interrupted run leaves fewer of them.
        self._queues = {step: deque[TenantState]() for step in reversed(self.steps)}

    async def next_batch(self) -> StepBatch | None:
        while not self.halted:
            if batch := self._pop_batch():
                self.active_count += len(batch[1])
                return batch
            if not self.active_count and not self.pending_waits:
                break
            wakeup = asyncio.get_running_loop().create_future()
            self._idle_workers.append(wakeup)
            await wakeup
        # The end is final, so the other idle workers must notice it, too.
        self._wake_workers(len(self._idle_workers))
        return None

    def finish_batch(self, tenant_count: int) -> None:
        self.active_count -= tenant_count
        self.wake_workers_if_done()

    def enqueue(self, step: Step, tenant_state: TenantState) -> None:
        queue = self._queues[step]
        # A tenant whose wait has ended goes first. `_pop_batch` looks only at the head of the queue to find out
        # whether a stopped run has something to conclude.
        queue.appendleft(tenant_state) if tenant_state.pending_wait else queue.append(tenant_state)
        self._wake_workers(1)

    def add_wait(self, tenant_state: TenantState, pending_wait: PendingWait) -> None:
        self.pending_waits[tenant_state] = pending_wait
        if pending_wait.due_at < self.earliest_due_at:
            self.earliest_due_at = pending_wait.due_at
            self.due_changed.set()

    def halt(self) -> None:
        self.stopped = self.halted = True
        self._wake_workers(len(self._idle_workers))

    def wake_workers_if_done(self) -> None:
        if not self.active_count and not self.pending_waits:
            self._wake_workers(len(self._idle_workers))

    def _pop_batch(self) -> StepBatch | None:
        for step, queue in self._queues.items():
            if queue and (not (step.billable and self.stopped) or queue[0].pending_wait):
                batch = [queue.popleft()]
                # Those right behind the first tenant that may be in one batch with all before them.
                while queue and len(batch) < step.batch_size and all(step.can_batch(each, queue[0]) for each in batch):
                    batch.append(queue.popleft())
                return step, batch
        new_tenant = None if self.stopped else next(self.unstarted_tenants, None)
        return (None, [new_tenant]) if new_tenant else None

    def _wake_workers(self, count: int) -> None:
        while count and self._idle_workers:
            wakeup = self._idle_workers.popleft()
            # The future of a cancelled worker is done; the wake-up must go to another one.
            if not wakeup.done():
                wakeup.set_result(None)
                count -= 1


@attrs.define(eq=False)
class EnvironmentPoller:
    """Poller of the environment list for all waiting tenants of a run.

    It polls when the first wait is due, at most every `interval` seconds; `on_decision` gets each ended wait.
    """

    scheduler: Scheduler
    poller: SharedPoller[EnvList]
    interval: float
    on_decision: Callable[[TenantState, StepResult | Problem | Exception], None]
    on_error: Callable[[WxtcbError], None]
    _next_poll_at: float = attrs.field(init=False, default=-math.inf)

    async def run(self) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            while (delay := max(self.scheduler.earliest_due_at, self._next_poll_at) - clock()) > 0:
                self.scheduler.due_changed.clear()
                with anyio.move_on_after(delay):
                    await self.scheduler.due_changed.wait()
            newer_than = clock()
            # Reset before the poll: waits that are added during it must move the due time again.
            self.scheduler.earliest_due_at, snapshot, now = math.inf, None, newer_than
            try:
                snapshot = await self.poller.poll(newer_than)
                now = snapshot.started_at
            except WxtcbError as error:
                self.on_error(error)
            self._next_poll_at = now + self.interval
            # A failed poll decides nothing, but waits must still time out while the platform is unreachable.
            await self._evaluate_all(snapshot, now)

    async def _evaluate_all(self, snapshot: Snapshot[EnvList] | None, now: float) -> None:
        # A copy: decisions remove waits, and other tasks add some while this one yields to the loop.
        async for tenant_state, pending_wait in cooperative_iter(tuple(self.scheduler.pending_waits.items())):
            decision: StepResult | Problem | Exception | None
            try:
                decision = pending_wait.evaluate(snapshot) if snapshot else pending_wait.check_timeout(now)
            except WxtcbError as error:
                decision = Problem(step=tenant_state.step or "", message=str(error), error=error)
            # A wait may be written by the user, so it may raise anything.
            except Exception as error:
                decision = error
            if decision is None:
                self.scheduler.earliest_due_at = min(self.scheduler.earliest_due_at, pending_wait.due_at)
            else:
                self.on_decision(tenant_state, decision)
