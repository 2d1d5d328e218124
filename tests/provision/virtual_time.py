"""Several processes in one virtual time: each is an event loop of its own, run a turn at a time.

So a process can be stopped between any two turns, for a while or for good, and notice nothing; what it had in flight
goes on or does not, as on a network.
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
MOST_TURNS = 200_000


class _Clock(selectors.DefaultSelector):
    """Never sleeps; the time is what it is set to, and jumps only where nobody else lives any more."""

    now = 0.0

    def select(self, timeout=None):
        ready = super().select(0)
        if not ready:
            self.now += timeout
        return ready


class HostLoop(asyncio.SelectorEventLoop):
    """The event loop of one process; `reported` is what its exception handler was told."""

    def __init__(self):
        self.clock = _Clock()
        super().__init__(self.clock)
        self.reported = []
        self.set_exception_handler(lambda _, context: self.reported.append(context))

    def time(self):
        return self.clock.now


class State(Enum):
    """What a process is at."""

    RUNNING = "running"
    FROZEN = "frozen"
    OVER = "over"


@attrs.define(eq=False)
class Timeline:
    """The one time that all go by; `skew` is by how much the wall clock is wrong, `marks` counts what happened."""

    now: float = 0.0
    skew: float = 0.0
    marks: Counter = attrs.field(factory=Counter)
    hosts: list = attrs.field(factory=list)
    _events: list = attrs.field(factory=list)
    _numbers: object = attrs.field(factory=itertools.count)

    def wall(self):
        """Tell the time of day as the processes are told it."""
        return EPOCH + self.now + self.skew

    def later(self, seconds, act):
        """Let *act* be called in so many seconds, whatever becomes of any process."""
        heapq.heappush(self._events, (self.now + seconds, next(self._numbers), act))

    def run(self, until=lambda: False, limit=math.inf):
        """Let everything happen until *until*, the moment *limit*, or until nobody runs any more."""
        for _ in range(MOST_TURNS):
            if until() or not self._step(limit):
                return
        raise AssertionError(f"after {MOST_TURNS} turns it still goes on")

    def pass_time(self, seconds):
        """Let so many seconds go by."""
        end = self.now + seconds
        self.run(limit=end)
        self.now = end

    def _step(self, limit):
        living = [host for host in self.hosts if host.state is State.RUNNING]
        host = min(living, key=lambda each: each.next_at(), default=None)
        host_at = host.next_at() if host else math.inf
        event_at = self._events[0][0] if self._events else math.inf
        at = min(event_at, host_at)
        if at == math.inf:
            assert not living, "dead-lock: a process waits for nothing"
            return False
        if at > limit or not (living or limit < math.inf):
            return False
        self.now = max(self.now, at)
        if event_at <= host_at:
            heapq.heappop(self._events)[2]()
        else:
            host.turn()
        return True


@attrs.define(eq=False)
class Host:
    """A process: a loop whose monotonic clock began with it, at `base`."""

    line: Timeline
    base: float
    state: State = State.RUNNING
    deaf: bool = False
    loop: HostLoop = attrs.field(init=False, factory=HostLoop)
    main: asyncio.Task = attrs.field(init=False)
    _waiting: set = attrs.field(init=False, factory=set)

    def __attrs_post_init__(self):
        self._set_clock()
        self.line.hosts.append(self)

    def start(self, program):
        """Begin to run a program; it is over when that ends."""
        self.main = self.loop.create_task(program)

    def next_at(self):
        """Return when it next has something to do."""
        if self.loop._ready:
            return self.line.now
        return self.loop._scheduled[0]._when - self.base if self.loop._scheduled else math.inf

    def turn(self):
        """Let its loop turn once."""
        self._set_clock()
        self._turn()
        self.line.marks["turn"] += 1
        if self.main.done():
            self.state = State.OVER
            self._bury()
            if not self.main.cancelled():
                self.main.result()

    def freeze(self):
        self.state = State.FROZEN

    def thaw(self):
        self.state = State.RUNNING

    def die(self):
        """End at once: none of its code reaches anything outside any more, clean-up included."""
        self.state = State.OVER
        self._bury()

    async def ask(self, there, act, back):
        """Let *act* be done outside in *there* seconds, and wait for what it returns, which takes *back* seconds.

        Once sent it happens even if this process does not live to see it; *act* gets to know whether that is so.
        """
        answer = self.loop.create_future()
        if self.deaf:
            raise asyncio.CancelledError
        self._waiting.add(answer)

        def arrive(late):
            if not self.deaf and not answer.done():
                late.tell()
                answer.set_result(late.result)

        def happen():
            result = act()
            late = result if isinstance(result, Late) else Late(result)
            self.line.later(back + late.seconds, lambda: arrive(late))

        self.line.later(there, happen)
        try:
            return await answer
        finally:
            self._waiting.discard(answer)

    def _set_clock(self):
        self.loop.clock.now = self.base + self.line.now

    def _turn(self):
        self.loop.call_soon(self.loop.stop)
        self.loop.run_forever()

    def _bury(self):
        """Unwind what is left of it, cut off from everything."""
        self.deaf = True
        for _ in range(100):
            left = asyncio.all_tasks(self.loop)
            if not left:
                break
            for task in left:
                task.cancel()
            self.loop.run_until_complete(asyncio.wait(left, timeout=1))
        self.loop.close()


@attrs.frozen
class Late:
    """A result that takes so many seconds longer to come back; *tell* is called when it does."""

    result: object
    seconds: float = 0.0
    tell: object = lambda: None
