"""Who does what next: workers take jobs, tenants go from step to step, and those who wait for a look are parked."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Iterator

import attrs

from wxtcb.provision.step import Step
from wxtcb.provision.tenant_state import Work
from wxtcb.provision.waiting import Waiting


@attrs.frozen
class Job:
    """A step to be taken, and for whom; None for one who is yet to be sent to a first step."""

    step: Step | None
    works: list[Work]


@attrs.define(eq=False)
class Agenda:
    """Hands out jobs: the later a step, the sooner it is its turn, and newcomers come last.

    Once `stopped`, no newcomer is let in and nothing is begun that spends, though what looks have shown is concluded;
    once `halted`, nothing is handed out.
    `parked` are those who wait for a look, the first of them until `due`; `news` is set when that has come closer.
    """

    steps: tuple[Step, ...]
    newcomers: Iterator[Work] = attrs.field(init=False, factory=lambda: iter(()))
    stopped: bool = False
    halted: bool = False
    parked: dict[Work, Waiting] = attrs.field(init=False, factory=dict[Work, Waiting])
    due: float = attrs.field(init=False, default=math.inf)
    news: asyncio.Event = attrs.field(init=False, factory=asyncio.Event)
    _queues: dict[Step, deque[Work]] = attrs.field(init=False)
    _busy: int = attrs.field(init=False, default=0)
    _idle: deque[asyncio.Future[None]] = attrs.field(init=False, factory=deque["asyncio.Future[None]"])

    def __attrs_post_init__(self) -> None:
        self._queues = {step: deque[Work]() for step in reversed(self.steps)}

    async def next(self) -> Job | None:
        """Wait for a job and take it; None when there will be no other."""
        while not self.halted:
            if job := self._pick():
                self._busy += 1
                return job
            if not self._busy and not self.parked:
                break
            turn = asyncio.get_running_loop().create_future()
            self._idle.append(turn)
            await turn
        self._wake(len(self._idle))
        return None

    def finish(self) -> None:
        """Give a job back."""
        self._busy -= 1
        self.tell_if_over()

    def put(self, step: Step, work: Work) -> None:
        """Let *work* wait for somebody to take *step*."""
        queue = self._queues[step]
        queue.appendleft(work) if work.waiting else queue.append(work)
        self._wake(1)

    def park(self, work: Work, waiting: Waiting) -> None:
        """Let *work* wait for what a look will show."""
        self.parked[work] = waiting
        if waiting.due < self.due:
            self.due = waiting.due
            self.news.set()

    def unpark(self, work: Work) -> None:
        """Let *work* wait no more; `tell_if_over` when it is put somewhere next, or has ended."""
        del self.parked[work]

    def stop(self) -> None:
        self.stopped = True

    def halt(self) -> None:
        self.stopped = self.halted = True
        self._wake(len(self._idle))

    def _pick(self) -> Job | None:
        for step, queue in self._queues.items():
            if queue and (not (step.spends and self.stopped) or queue[0].waiting):
                return Job(step, _together(step, queue))
        newcomer = None if self.stopped else next(self.newcomers, None)
        return Job(None, [newcomer]) if newcomer else None

    def tell_if_over(self) -> None:
        """Dismiss the workers if nobody is left for them."""
        if not self._busy and not self.parked:
            self._wake(len(self._idle))

    def _wake(self, count: int) -> None:
        while count and self._idle:
            turn = self._idle.popleft()
            if not turn.done():
                turn.set_result(None)
                count -= 1


def _together(step: Step, queue: deque[Work]) -> list[Work]:
    """Take the first of *queue*, and those behind it that may go with all before them."""
    works = [queue.popleft()]
    while queue and len(works) < step.together and all(step.joins(work, queue[0]) for work in works):
        works.append(queue.popleft())
    return works
