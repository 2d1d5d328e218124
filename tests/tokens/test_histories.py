"""Property test of token refresh: random histories of processes, store and platform."""

from __future__ import annotations

import asyncio
import random

import attrs
import pytest
from hypothesis import Phase, event, given, settings, strategies as st

from .fake_token_service import FakeTokenService, Process, RecordingStore
from .token_harness import clock

MOST = 4
BOUND = 240.0


@attrs.define(eq=False)
class History:
    """Processes on one store, and the faults that were applied to them."""

    number: int
    rng: random.Random
    service: FakeTokenService
    store: RecordingStore = attrs.field(factory=lambda: RecordingStore(asyncio.get_running_loop().time))
    running: list = attrs.field(init=False)
    ended: list = attrs.field(factory=list)
    callers: list = attrs.field(factory=list)
    revocations: int = 0
    fault_count: int = 0
    lost: int = 0

    def __attrs_post_init__(self):
        self.running = [self._new() for _ in range(self.number)]

    def _new(self):
        name = f"host:{len(self.callers)}"
        process = Process(name, self.service, self.store, self.rng.uniform, {"max_fetches_per_hour": None})
        self.callers.append(asyncio.create_task(self._call_for_ever(process)))
        return process

    async def _call_for_ever(self, process):
        while True:
            await asyncio.sleep(self.rng.uniform(0.1, 4.0))
            await process.call()

    async def play(self, move, which, seconds):
        await asyncio.sleep(seconds)
        process = self.running[which % len(self.running)]
        getattr(self, f"_{move}")(process)

    def _token_dies(self, _):
        self.revocations += self.service.kill()

    def _freeze(self, process):
        self._apply_fault(process, frozen=True)

    def _freeze_fetcher(self, process):
        self._freeze(self._fetcher(process))

    def _cut(self, process):
        self._apply_fault(process, cut=True)

    def _cut_fetcher(self, process):
        self._cut(self._fetcher(process))

    def _cut_all(self, _):
        for process in self.running:
            self._cut(process)

    def _lock_all(self, _):
        for process in self.running:
            self._apply_fault(process, locked=True)

    def _heal(self, process):
        process.apply_fault(frozen=False, cut=False, locked=False)

    def _heal_all(self, _):
        for process in self.running:
            self._heal(process)

    def _kill(self, process):
        self.fault_count += 1
        process.kill()
        self.ended.append(process)
        self.running[self.running.index(process)] = self._new()

    def _kill_fetcher(self, process):
        self._kill(self._fetcher(process))

    def _fail(self, _):
        self.service.faults.append(self.rng.choice(["refused", "busy"]))

    def _be_slow(self, _):
        self.service.faults.append("slow")

    def _lose(self, _):
        self.lost += 1
        self.service.faults.append("lost")

    def _fetcher(self, process):
        return next((each for each in self.service.under_way if each in self.running), process)

    def _apply_fault(self, process, **how):
        self.fault_count += not process.is_faulty
        process.apply_fault(**how)

    async def recover(self):
        """Remove all faults, and return how long it took until every process had a valid token."""
        began = clock()
        self.service.faults.clear()
        self._heal_all(None)
        for process in self.running:
            while (error := await asyncio.wait_for(process.call(), BOUND)) is not None:
                await asyncio.sleep(min(error.retry_after or 1.0, 1.0))
        return clock() - began

    @property
    def storeless_fetches(self):
        return sum(process.storeless_fetches for process in (*self.running, *self.ended))

    async def end(self):
        for process in self.running:
            await process.harness.cache.aclose()
        for process in self.ended:
            process.apply_fault(cut=True, frozen=False)
            for task in process.harness.cache._tasks():
                task._task.cancel()
        for caller in self.callers:
            caller.cancel()
        await asyncio.sleep(60)


MOVES = [
    "token_dies",
    "token_dies",
    "token_dies",
    "heal",
    "heal_all",
    "freeze",
    "freeze_fetcher",
    "freeze_fetcher",
    "cut",
    "cut_fetcher",
    "cut_all",
    "lock_all",
    "kill",
    "kill_fetcher",
    "fail",
    "be_slow",
    "lose",
]
WAITS = st.sampled_from([0.0, 0.1, 0.3, 0.3, 1.0, 3.0, 6.0, 6.0, 20.0, 70.0])
MOVE = st.tuples(st.sampled_from(MOVES), st.integers(0, MOST - 1), WAITS)


@pytest.mark.unmeasured
@given(
    number=st.integers(2, MOST),
    moves=st.lists(MOVE, min_size=20, max_size=60),
    latency=st.sampled_from([0.1, 1.0, 7.0]),
    seed=st.integers(0, 9),
)
@settings(deadline=None, max_examples=60, phases=[Phase.generate])
def test_invariants_hold_in_every_history(virtual_run, number, moves, latency, seed):
    """One fetch at a time, no rejected token, nothing older over newer, no deadlock, few fetches."""

    async def scenario():
        history = History(number, random.Random(seed), FakeTokenService(seconds=latency))
        for move, which, seconds in moves:
            await history.play(move, which, seconds)
        took = await history.recover()
        assert took <= BOUND
        assert not any(caller.done() for caller in history.callers)
        assert history.service.violations == []
        assert history.store.numbers == sorted(history.store.numbers)
        mints = len(history.service.issued_at)
        assert mints <= 1 + history.revocations + history.lost + 2 * (history.fault_count + history.storeless_fetches)
        event(f"mints {min(mints, 12)}")
        await history.end()

    virtual_run(scenario())


OVERLAPPING = [
    ("kill", 0, 0.1),
    ("freeze_fetcher", 2, 3.0),
    ("kill", 0, 70.0),
    ("be_slow", 0, 0.3),
    ("kill_fetcher", 0, 1.0),
    ("lose", 0, 6.0),
    ("heal_all", 0, 20.0),
    ("kill_fetcher", 3, 0.3),
    ("lock_all", 0, 0.0),
    ("token_dies", 2, 3.0),
    ("heal", 0, 6.0),
    ("cut_fetcher", 2, 0.1),
    ("freeze", 0, 0.3),
    ("token_dies", 0, 6.0),
]


def test_stored_token_wins_after_overlapping_fetches(virtual_run):
    """If one fetch was requested first and issued last, the token in the store stays."""

    async def scenario():
        history = History(2, random.Random(9), FakeTokenService(seconds=1.0))
        for move, which, seconds in OVERLAPPING:
            await history.play(move, which, seconds)
        await history.recover()
        assert history.store.numbers == [1, 3]
        await history.end()

    virtual_run(scenario())
