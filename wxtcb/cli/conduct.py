"""A run from the command line: started, shown, and ended by signals in good order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import attrs

from wxtcb.cli.progress import View
from wxtcb.provision import Plan, Provisioner, Report, Run


@attrs.define(eq=False)
class Job:
    """One run; `ended_by` is the first signal that asked it to end.

    After `conduct` failed, `report` still has what was done.
    """

    plan: Plan
    view: View
    run: Run | None = None
    ended_by: int | None = None

    @property
    def report(self) -> Report | None:
        return self.run.report if self.run else None

    async def conduct(self, provisioner: Provisioner, signals: AsyncIterator[int]) -> None:
        """Run to the end, or until the signals have ended it."""
        async with provisioner:
            self.run = provisioner.apply(self.plan)
            async with asyncio.TaskGroup() as group:
                heeding = group.create_task(self._heed(signals, self.run, group))
                await self._show(self.run)
                heeding.cancel()

    async def _show(self, run: Run) -> None:
        with self.view.open():
            async for event in run.events():
                self.view.show(event)
            await run.wait()

    async def _heed(self, signals: AsyncIterator[int], run: Run, group: asyncio.TaskGroup) -> None:
        async for number in signals:
            first = self.ended_by is None
            self.ended_by = self.ended_by or number
            if first:
                self.view.tell("Stopping: nothing new is sent, answers under way are awaited. Once more cuts them off.")
            group.create_task(run.cancel(grace=None if first else 0.0))
