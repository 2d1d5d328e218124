"""Several processes in one virtual time: each is an event loop of its own, run one turn at a time.

A process can be paused or ended between any two turns without noticing. Its requests in flight still arrive, or get
lost, as on a network.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import math
import selectors
from collections import Counter
from enum import Enum

import attrs

EPOCH = 1_800_000_000.0
MAX_TURNS = 200_000
MAX_UNWIND_ROUNDS = 100


class _VirtualClock(selectors.DefaultSelector):
    """A selector that never sleeps: the timeline sets `now`.

    It advances `now` itself only while a process is unwound, because the timeline does not run that loop any more.
    """

    now = 0.0

    def select(self, timeout=None):
        ready = super().select(0)
        if not ready:
            self.now += timeout
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """The event loop of one process; `reported` collects the contexts passed to its exception handler."""

    def __init__(self):
        self.clock = _VirtualClock()
        super().__init__(self.clock)
        self.reported = []
        self.set_exception_handler(lambda _, context: self.reported.append(context))

    def time(self):
        return self.clock.now


class ProcessState(Enum):
    """The state of a process."""

    RUNNING = "running"
    FROZEN = "frozen"
    OVER = "over"


@attrs.define(eq=False)
class Timeline:
    """The time that all processes share.

    `skew` is the error of the wall clock in seconds. `counts` counts what happened, by label.
    """

    now: float = 0.0
    skew: float = 0.0
    counts: Counter = attrs.field(factory=Counter)
    processes: list = attrs.field(factory=list)
    _events: list = attrs.field(factory=list)
    _numbers: object = attrs.field(factory=itertools.count)

    def wall_time(self):
        """Return the Unix time that the processes read."""
        return EPOCH + self.now + self.skew

    def call_later(self, seconds, action):
        """Call *action* in so many seconds, even if every process has ended by then."""
        # The number breaks ties, so that events of the same moment keep their order.
        heapq.heappush(self._events, (self.now + seconds, next(self._numbers), action))

    def run(self, until=lambda: False, limit=math.inf):
        """Run everything until *until* returns true, the moment *limit*, or the end of every process."""
        for _ in range(MAX_TURNS):
            if until() or not self._step(limit):
                return
        raise AssertionError(f"still running after {MAX_TURNS} turns")

    def advance(self, seconds):
        """Run everything that happens within so many seconds."""
        end = self.now + seconds
        self.run(limit=end)
        self.now = end

    def _step(self, limit):
        running = [each for each in self.processes if each.state is ProcessState.RUNNING]
        process = min(running, key=lambda each: each.next_at(), default=None)
        process_at = process.next_at() if process else math.inf
        event_at = self._events[0][0] if self._events else math.inf
        at = min(event_at, process_at)
        if at == math.inf:
            assert not running, "deadlock: a process waits for nothing"
            return False
        if at > limit or not (running or limit < math.inf):
            return False
        self.now = max(self.now, at)
        # On a tie the event comes first: what arrives at a moment is visible to the turn of that moment.
        if event_at <= process_at:
            heapq.heappop(self._events)[2]()
        else:
            process.run_turn()
        return True


@attrs.define(eq=False)
class VirtualProcess:
    """A process: a loop whose monotonic clock began with it, at `base`."""

    timeline: Timeline
    base: float
    state: ProcessState = ProcessState.RUNNING
    disconnected: bool = False
    loop: VirtualLoop = attrs.field(init=False, factory=VirtualLoop)
    main: asyncio.Task = attrs.field(init=False)
    _pending: set = attrs.field(init=False, factory=set)

    def __attrs_post_init__(self):
        self._set_clock()
        self.timeline.processes.append(self)

    def start(self, program):
        """Start a program; the process is over when it ends."""
        self.main = self.loop.create_task(program)

    def next_at(self):
        """Return the moment of its next turn; infinity if it waits for an answer."""
        if self.loop._ready:
            return self.timeline.now
        return self.loop._scheduled[0]._when - self.base if self.loop._scheduled else math.inf

    def run_turn(self):
        """Run one turn of its loop."""
        self._set_clock()
        self.loop.call_soon(self.loop.stop)
        self.loop.run_forever()
        self.timeline.counts["turn"] += 1
        if self.main.done():
            self.state = ProcessState.OVER
            self._unwind()
            if not self.main.cancelled():
                self.main.result()

    def freeze(self):
        self.state = ProcessState.FROZEN

    def thaw(self):
        self.state = ProcessState.RUNNING

    def terminate(self):
        """End at once: its clean-up code reaches nothing outside."""
        self.state = ProcessState.OVER
        self._unwind()

    async def call_external(self, delay, action, return_delay):
        """Call *action* outside in *delay* seconds, and return its result *return_delay* seconds later.

        A request that was sent takes effect even if this process does not live to receive the result.
        """
        answer = self.loop.create_future()
        if self.disconnected:
            raise asyncio.CancelledError
        self._pending.add(answer)

        def arrive(delayed):
            if not self.disconnected and not answer.done():
                delayed.on_arrival()
                answer.set_result(delayed.result)

        def happen():
            result = action()
            delayed = result if isinstance(result, DelayedResult) else DelayedResult(result)
            self.timeline.call_later(return_delay + delayed.seconds, lambda: arrive(delayed))

        self.timeline.call_later(delay, happen)
        try:
            return await answer
        finally:
            self._pending.discard(answer)

    def _set_clock(self):
        self.loop.clock.now = self.base + self.timeline.now

    def _unwind(self):
        """Cancel its remaining tasks while it is disconnected, and close its loop."""
        self.disconnected = True
        # Clean-up code may start further tasks, hence several rounds.
        for _ in range(MAX_UNWIND_ROUNDS):
            remaining = asyncio.all_tasks(self.loop)
            if not remaining:
                break
            for task in remaining:
                task.cancel()
            self.loop.run_until_complete(asyncio.wait(remaining, timeout=1))
        self.loop.close()


@attrs.frozen
class DelayedResult:
    """A result that takes `seconds` longer to come back; `on_arrival` is called when it does."""

    result: object
    seconds: float = 0.0
    on_arrival: object = lambda: None
