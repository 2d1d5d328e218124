"""The watcher of those who wait: however many they are, judging them does not hold the loop."""

from __future__ import annotations

import asyncio

import pytest

from wxtcb._concurrency.shared_poll import OwnLooks
from wxtcb.api.environment import EnvList
from wxtcb.provision.scheduler import Agenda
from wxtcb.provision.slices import SLICE
from wxtcb.provision.waiting import Move
from wxtcb.provision.watcher import Watcher

pytestmark = pytest.mark.virtual_time


class Content:
    """One who is due at once, and content with any look."""

    due = 0.0

    def judge(self, _look):
        return Move.ON


async def test_others_have_a_turn_between_slices_of_those_who_are_judged() -> None:
    """Of three slices, one is released at a time."""
    released = []
    agenda = Agenda(steps=())
    agenda.parked = {object(): Content() for _ in range(3 * SLICE)}
    agenda.due = 0.0
    clock = asyncio.get_running_loop().time
    looks = OwnLooks(lambda: asyncio.sleep(0, EnvList(())), clock, asyncio.sleep)
    watcher = Watcher(agenda, looks, 1.0, lambda work, _: released.append(work), pytest.fail)
    watching = asyncio.create_task(watcher.watch())
    seen = set()
    while len(released) < 3 * SLICE:
        await asyncio.sleep(0)
        seen.add(len(released))
    watching.cancel()
    assert {SLICE, 2 * SLICE, 3 * SLICE} <= seen
