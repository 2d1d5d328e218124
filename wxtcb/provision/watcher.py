"""One watcher for all tenants that wait for what a look will show."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

import anyio
import attrs

from wxtcb._concurrency.shared_poll import Look, Sweep
from wxtcb.api.environment import EnvList
from wxtcb.errors import WxtcbError
from wxtcb.provision.report import Problem
from wxtcb.provision.scheduler import Agenda
from wxtcb.provision.slices import SLICE
from wxtcb.provision.tenant_state import Work
from wxtcb.provision.waiting import Move, Waiting


@attrs.define(eq=False)
class Watcher:
    """Looks when the first of the parked is due, and every `interval` seconds at most; judges all of them by it.

    `release` is called with whoever need not wait any more, `fail` with what a look raised.
    """

    agenda: Agenda
    sweep: Sweep[EnvList]
    interval: float
    release: Callable[[Work, Move | Problem], None]
    fail: Callable[[WxtcbError], None]
    _next: float = attrs.field(init=False, default=-math.inf)

    async def watch(self) -> None:
        """Go on until cancelled."""
        while True:
            moment = await self._due()
            self.agenda.due = math.inf
            await self._look(moment)

    async def _look(self, moment: float) -> None:
        try:
            look = await self.sweep.since(moment)
        except WxtcbError as error:
            self._next = moment + self.interval
            self.fail(error)
            await self._judge(None, moment)
        else:
            self._next = look.started_at + self.interval
            await self._judge(look, look.started_at)

    async def _due(self) -> float:
        """Wait until somebody wants a look, and return the moment since which it has to have started."""
        now = asyncio.get_running_loop().time
        while (wait := max(self.agenda.due, self._next) - now()) > 0:
            self.agenda.news.clear()
            with anyio.move_on_after(wait):
                await self.agenda.news.wait()
        return now()

    async def _judge(self, look: Look[EnvList] | None, moment: float) -> None:
        """Judge the parked, in slices: 10,000 of them must not hold the loop."""
        for number, (work, waiting) in enumerate(tuple(self.agenda.parked.items()), 1):
            ruling = self._rule(work, waiting, look, moment)
            if ruling is None:
                self.agenda.due = min(self.agenda.due, waiting.due)
            else:
                self.release(work, ruling)
            if number % SLICE == 0:
                await asyncio.sleep(0)

    def _rule(self, work: Work, waiting: Waiting, look: Look[EnvList] | None, moment: float) -> Move | Problem | None:
        try:
            return waiting.judge(look) if look else waiting.overdue(moment)
        except WxtcbError as error:
            return Problem(step=work.step or "", message=str(error), error=error)
