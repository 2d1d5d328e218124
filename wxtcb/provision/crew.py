"""What the workers of one run share."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import anyio
import attrs

from wxtcb.provision.work import Work


@attrs.frozen(kw_only=True)
class Pace:
    """How fast a run goes and how patient it is; see `wxtcb.provision.Provisioner`."""

    concurrency: int
    timeout: float
    interval: float
    grace: float
    max_failures: int | None


@attrs.define(eq=False)
class Crew:
    """The tenants to be opened, those that wait for NORMAL by their environment, and those ready for the rest.

    `openers` counts the workers that still open environments; `news` wakes the watcher; `halted` means that no further
    step is taken, and `watching` is the watcher's scope.
    """

    todo: Iterator[Work]
    openers: int
    waiting: dict[str, Work] = attrs.field(factory=dict[str, Work])
    news: asyncio.Event = attrs.field(factory=asyncio.Event)
    ready: asyncio.Queue[Work | None] = attrs.field(factory=asyncio.Queue)
    halted: bool = False
    watching: anyio.CancelScope = attrs.field(factory=anyio.CancelScope)

    async def somebody_waits(self) -> bool:
        """Wait until a tenant waits, or nobody will any more; tell which."""
        while not self.waiting and self.openers:
            self.news.clear()
            await self.news.wait()
        return bool(self.waiting)

    def await_normal(self, work: Work) -> None:
        self.waiting[work.env or ""] = work
        self.news.set()

    def leave(self) -> None:
        """Count a worker out that opens no more."""
        self.openers -= 1
        self.news.set()

    def halt(self) -> None:
        self.halted = True
        self.watching.cancel()

    def dismiss(self, workers: int) -> None:
        """Tell the workers that wait for `ready` tenants that no more will come."""
        for _ in range(workers):
            self.ready.put_nowait(None)
