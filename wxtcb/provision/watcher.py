"""One watcher for all tenants that wait for what a look will show."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

import anyio
import attrs

from wxtcb._concurrency.shared_poll import SharedPoller, Snapshot
from wxtcb._concurrency.tasks import YIELD_EVERY
from wxtcb.api.environment import EnvList
from wxtcb.errors import WxtcbError
from wxtcb.provision.report import Problem
from wxtcb.provision.scheduler import Scheduler
from wxtcb.provision.tenant_state import TenantState
from wxtcb.provision.waiting import PendingWait, StepResult


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
