"""Looks before a create: fresh, whole, and shared."""

from __future__ import annotations

import asyncio

import pytest

from wxtcb.provision import STEPS
from wxtcb.provision.reconciliation import ExpectedEnvironments, WaitForVisibility
from wxtcb.provision.step import StepResult
from wxtcb.sandbox import Fault, FaultKind

from .conftest import Rig
from .constants import CREATE, LIST, plain

pytestmark = pytest.mark.virtual_time


async def test_a_create_follows_a_look_of_at_most_five_seconds(rig: Rig) -> None:
    """Also for those who come minutes later; and a look serves all of five seconds."""
    rig.wire.latency = 1.0
    await rig.provision(plain(100), concurrency=2, interval=1000)
    looks = [request.at for request in rig.box.seen if request.path == LIST]
    creates = [request.at for request in rig.box.seen if request.path == CREATE]
    assert all(any(at - 5 <= look <= at for look in looks) for at in creates)
    assert len(looks) <= len(creates) / 2 / 4 + 2


async def test_a_list_that_lacks_some_is_not_trusted(rig: Rig) -> None:
    """Nothing is created before a look shows them again."""
    rig.box.world.add("other")
    rig.wire.latency = 1.0
    rig.box.faults.script(LIST, [None, *[Fault(FaultKind.INCOMPLETE_LIST)] * 3])
    report = await rig.provision(plain(8), concurrency=1, interval=50, steps=STEPS[:1])
    assert report.all_done
    hiccups = [number for number, seen in enumerate(rig.box.seen) if seen.outcome == "hiccup"]
    paths = [seen.path for seen in rig.box.seen]
    assert paths[hiccups[0] : hiccups[0] + 5] == [LIST] * 4 + [CREATE]


async def test_a_plan_made_anew_is_held_to_what_the_old_one_saw(rig: Rig) -> None:
    """A list that lacks some is looked over before anything is created by it."""
    rig.box.world.add("other")
    async with rig.provisioner() as provisioner:
        plan = await provisioner.plan(plain(1))
        await asyncio.sleep(6)
        rig.box.faults.script(LIST, [Fault(FaultKind.INCOMPLETE_LIST)])
        looks = rig.box.count(LIST)
        assert (await provisioner.apply(plan).wait()).all_done
    first_create = next(seen.at for seen in rig.box.seen if seen.path == CREATE)
    assert sum(seen.at < first_create for seen in rig.box.seen if seen.path == LIST) == looks + 2


async def test_what_is_missing_for_half_a_minute_was_removed(rig: Rig) -> None:
    """Then the rest goes on."""
    env = rig.box.world.add("other")
    rig.wire.latency = 1.0
    async with rig.provisioner(concurrency=1, interval=1000) as provisioner:
        plan = await provisioner.plan(plain(8))
        rig.box.world.remove(env)
        report = await provisioner.apply(plan).wait()
    assert report.all_done
    assert report.elapsed > 30


async def test_a_look_that_fails_for_everybody_stops_the_run(rig: Rig) -> None:
    """It is not tried three times, and nothing is created after it."""
    rig.wire.latency = 2.0
    rig.box.faults.script(LIST, [None, *[Fault(FaultKind.ERRCODE, errcode=61004)] * 3])
    report = await rig.provision(plain(9), concurrency=1, interval=1000)
    assert "61004" in (report.stop_reason or "")
    assert (rig.box.count(LIST), rig.box.count(CREATE)) == (2, 1)


def test_looks_that_go_on_failing_hold_up_nobody_for_ever() -> None:
    """Who waits for what a crash left is let go when the time is up."""
    waiting = WaitForVisibility(ExpectedEnvironments(1.0, {}, frozenset({"x-1"})), due_at=0.0, deadline=5.0)
    assert (waiting.check_timeout(4.0), waiting.check_timeout(5.0)) == (None, StepResult.RETRY)
