"""A run from the command line: started, shown, and ended by signals in good order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import attrs

from wxtcb.cli.progress import ProgressView
from wxtcb.provision import Plan, Provisioner, Report, Run


@attrs.define(eq=False)
class RunController:
    """One run; `interrupted_by` is the first signal that asked it to end.

    After `execute` failed, `report` still has what was done.
    """

    plan: Plan
    view: ProgressView
    run: Run | None = None
    interrupted_by: int | None = None

    @property
    def report(self) -> Report | None:
        return self.run.report if self.run else None

    async def execute(self, provisioner: Provisioner, signals: AsyncIterator[int]) -> None:
        """Run to the end, or until the signals have ended it."""
        async with provisioner:
            self.run = provisioner.apply(self.plan)
            async with asyncio.TaskGroup() as group:
                heeding = group.create_task(self._handle_signals(signals, self.run, group))
                await self._display_events(self.run)
                heeding.cancel()

    async def _display_events(self, run: Run) -> None:
        with self.view.open():
            async for event in run.events():
                self.view.handle_event(event)
            await run.wait()

    async def _handle_signals(self, signals: AsyncIterator[int], run: Run, group: asyncio.TaskGroup) -> None:
        async for number in signals:
            first = self.interrupted_by is None
            self.interrupted_by = self.interrupted_by or number
            if first:
                self.view.print_message(
                    "Stopping: nothing new is sent, answers under way are awaited. Once more cuts them off."
                )
            group.create_task(run.cancel(grace=None if first else 0.0))
