"""The watcher of those who wait: however many they are, judging them does not hold the loop."""

from __future__ import annotations

import asyncio

import pytest

from wxtcb._concurrency.shared_poll import Poller
from wxtcb._concurrency.tasks import YIELD_EVERY
from wxtcb.api.environment import EnvList
from wxtcb.provision.scheduler import Scheduler
from wxtcb.provision.waiting import StepResult
from wxtcb.provision.watcher import EnvironmentPoller

pytestmark = pytest.mark.virtual_time


class Content:
    """One who is due at once, and content with any look."""

    due = 0.0

    def judge(self, _look):
        return StepResult.NEXT


async def test_others_have_a_turn_between_slices_of_those_who_are_judged() -> None:
    """Of three slices, one is released at a time."""
    released = []
    agenda = Scheduler(steps=())
    agenda.pending_waits = {object(): Content() for _ in range(3 * YIELD_EVERY)}
    agenda.earliest_due_at = 0.0
    clock = asyncio.get_running_loop().time
    looks = Poller(lambda: asyncio.sleep(0, EnvList(())), clock, asyncio.sleep)
    watcher = EnvironmentPoller(agenda, looks, 1.0, lambda work, _: released.append(work), pytest.fail)
    watching = asyncio.create_task(watcher.run())
    seen = set()
    while len(released) < 3 * YIELD_EVERY:
        await asyncio.sleep(0)
        seen.add(len(released))
    watching.cancel()
    assert {YIELD_EVERY, 2 * YIELD_EVERY, 3 * YIELD_EVERY} <= seen
