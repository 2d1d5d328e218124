"""Who does what next: workers take jobs, tenants go from step to step, and those who wait for a look are parked."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable, Iterator

import anyio
import attrs

from wxtcb._concurrency.shared_poll import SharedPoller, Snapshot
from wxtcb.api.environment import EnvList
from wxtcb.errors import WxtcbError
from wxtcb.provision.report import Problem
from wxtcb.provision.slices import YIELD_EVERY
from wxtcb.provision.step import PendingWait, Step, StepResult
from wxtcb.provision.tenant_state import TenantState


@attrs.frozen
class StepBatch:
    """A step to be taken, and for whom; None for one who is yet to be sent to a first step."""

    step: Step | None
    tenant_states: list[TenantState]


@attrs.define(eq=False)
class Scheduler:
    """Hands out jobs: the later a step, the sooner it is its turn, and newcomers come last.

    Once `stopped`, no newcomer is let in and nothing is begun that spends, though what looks have shown is concluded;
    once `halted`, nothing is handed out.
    `pending_waits` are those who wait for a look, the first of them until `earliest_due_at`; `due_changed` is set when that has come closer.
    """

    steps: tuple[Step, ...]
    unstarted_tenants: Iterator[TenantState] = attrs.field(init=False, factory=lambda: iter(()))
    stopped: bool = False
    halted: bool = False
    pending_waits: dict[TenantState, PendingWait] = attrs.field(init=False, factory=dict[TenantState, PendingWait])
    earliest_due_at: float = attrs.field(init=False, default=math.inf)
    due_changed: asyncio.Event = attrs.field(init=False, factory=asyncio.Event)
    _queues: dict[Step, deque[TenantState]] = attrs.field(init=False)
    _active_count: int = attrs.field(init=False, default=0)
    _idle_workers: deque[asyncio.Future[None]] = attrs.field(init=False, factory=deque["asyncio.Future[None]"])

    def __attrs_post_init__(self) -> None:
        self._queues = {step: deque[TenantState]() for step in reversed(self.steps)}

    async def next_batch(self) -> StepBatch | None:
        """Wait for a job and take it; None when there will be no other."""
        while not self.halted:
            if job := self._pop_batch():
                self._active_count += 1
                return job
            if not self._active_count and not self.pending_waits:
                break
            turn = asyncio.get_running_loop().create_future()
            self._idle_workers.append(turn)
            await turn
        self._wake_workers(len(self._idle_workers))
        return None

    def finish_batch(self) -> None:
        """Give a job back."""
        self._active_count -= 1
        self.wake_workers_if_done()

    def enqueue(self, step: Step, tenant_state: TenantState) -> None:
        """Let *work* wait for somebody to take *step*."""
        queue = self._queues[step]
        queue.appendleft(tenant_state) if tenant_state.pending_wait else queue.append(tenant_state)
        self._wake_workers(1)

    def add_wait(self, tenant_state: TenantState, pending_wait: PendingWait) -> None:
        """Let *work* wait for what a look will show."""
        self.pending_waits[tenant_state] = pending_wait
        if pending_wait.due_at < self.earliest_due_at:
            self.earliest_due_at = pending_wait.due_at
            self.due_changed.set()

    def remove_wait(self, tenant_state: TenantState) -> None:
        """Let *work* wait no more; `wake_workers_if_done` when it is put somewhere next, or has ended."""
        del self.pending_waits[tenant_state]

    def stop(self) -> None:
        self.stopped = True

    def halt(self) -> None:
        self.stopped = self.halted = True
        self._wake_workers(len(self._idle_workers))

    def _pop_batch(self) -> StepBatch | None:
        for step, queue in self._queues.items():
            if queue and (not (step.billable and self.stopped) or queue[0].pending_wait):
                return StepBatch(step, _collect_batch(step, queue))
        newcomer = None if self.stopped else next(self.unstarted_tenants, None)
        return StepBatch(None, [newcomer]) if newcomer else None

    def wake_workers_if_done(self) -> None:
        """Dismiss the workers if nobody is left for them."""
        if not self._active_count and not self.pending_waits:
            self._wake_workers(len(self._idle_workers))

    def _wake_workers(self, count: int) -> None:
        while count and self._idle_workers:
            turn = self._idle_workers.popleft()
            if not turn.done():
                turn.set_result(None)
                count -= 1


def _collect_batch(step: Step, queue: deque[TenantState]) -> list[TenantState]:
    """Take the first of *queue*, and those behind it that may go with all before them."""
    works = [queue.popleft()]
    while queue and len(works) < step.batch_size and all(step.can_batch(work, queue[0]) for work in works):
        works.append(queue.popleft())
    return works


@attrs.define(eq=False)
class EnvironmentPoller:
    """Looks when the first of the parked is due, and every `interval` seconds at most; judges all of them by it.

    `on_decision` is called with whoever need not wait any more, `on_error` with what a look raised.
    """

    scheduler: Scheduler
    poller: SharedPoller[EnvList]
    interval: float
    on_decision: Callable[[TenantState, StepResult | Problem], None]
    on_error: Callable[[WxtcbError], None]
    _next_poll_at: float = attrs.field(init=False, default=-math.inf)

    async def run(self) -> None:
        """Go on until cancelled."""
        while True:
            moment = await self._wait_until_due()
            self.scheduler.earliest_due_at = math.inf
            await self._poll_once(moment)

    async def _poll_once(self, newer_than: float) -> None:
        try:
            look = await self.poller.poll(newer_than)
        except WxtcbError as error:
            self._next_poll_at = newer_than + self.interval
            self.on_error(error)
            await self._evaluate_all(None, newer_than)
        else:
            self._next_poll_at = look.started_at + self.interval
            await self._evaluate_all(look, look.started_at)

    async def _wait_until_due(self) -> float:
        """Wait until somebody wants a look, and return the moment since which it has to have started."""
        now = asyncio.get_running_loop().time
        while (wait := max(self.scheduler.earliest_due_at, self._next_poll_at) - now()) > 0:
            self.scheduler.due_changed.clear()
            with anyio.move_on_after(wait):
                await self.scheduler.due_changed.wait()
        return now()

    async def _evaluate_all(self, snapshot: Snapshot[EnvList] | None, now: float) -> None:
        """Judge the parked, in slices: 10,000 of them must not hold the loop."""
        for number, (work, waiting) in enumerate(tuple(self.scheduler.pending_waits.items()), 1):
            ruling = self._evaluate(work, waiting, snapshot, now)
            if ruling is None:
                self.scheduler.earliest_due_at = min(self.scheduler.earliest_due_at, waiting.due_at)
            else:
                self.on_decision(work, ruling)
            if number % YIELD_EVERY == 0:
                await asyncio.sleep(0)

    def _evaluate(
        self, tenant_state: TenantState, pending_wait: PendingWait, snapshot: Snapshot[EnvList] | None, now: float
    ) -> StepResult | Problem | None:
        try:
            return pending_wait.evaluate(snapshot) if snapshot else pending_wait.check_timeout(now)
        except WxtcbError as error:
            return Problem(step=tenant_state.step or "", message=str(error), error=error)
