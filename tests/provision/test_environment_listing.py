"""Listings before a create are fresh, complete and shared."""

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


async def test_create_follows_listing_of_at_most_five_seconds(rig: Rig) -> None:
    """This holds for creates minutes later, too; one listing serves all creates of five seconds."""
    rig.wire.latency = 1.0
    await rig.provision(plain(100), concurrency=2, interval=1000)
    listings = [request.at for request in rig.box.seen if request.path == LIST]
    creates = [request.at for request in rig.box.seen if request.path == CREATE]
    assert all(any(at - 5 <= listed_at <= at for listed_at in listings) for at in creates)
    assert len(listings) <= len(creates) / 2 / 4 + 2


async def test_incomplete_list_is_not_trusted(rig: Rig) -> None:
    """Nothing is created before a listing shows the missing environments again."""
    rig.box.world.add("other")
    rig.wire.latency = 1.0
    rig.box.faults.script(LIST, [None, *[Fault(FaultKind.INCOMPLETE_LIST)] * 3])
    report = await rig.provision(plain(8), concurrency=1, interval=50, steps=STEPS[:1])
    assert report.all_done
    incomplete = [number for number, seen in enumerate(rig.box.seen) if seen.outcome == "hiccup"]
    paths = [seen.path for seen in rig.box.seen]
    assert paths[incomplete[0] : incomplete[0] + 5] == [LIST] * 4 + [CREATE]


async def test_refreshed_plan_expects_environments_of_the_old_plan(rig: Rig) -> None:
    """A list that lacks some of them is repeated before anything is created."""
    rig.box.world.add("other")
    async with rig.provisioner() as provisioner:
        plan = await provisioner.plan(plain(1))
        await asyncio.sleep(6)
        rig.box.faults.script(LIST, [Fault(FaultKind.INCOMPLETE_LIST)])
        listings = rig.box.count(LIST)
        assert (await provisioner.apply(plan).wait()).all_done
    first_create = next(seen.at for seen in rig.box.seen if seen.path == CREATE)
    assert sum(seen.at < first_create for seen in rig.box.seen if seen.path == LIST) == listings + 2


async def test_environment_missing_for_half_a_minute_was_removed(rig: Rig) -> None:
    """After 30 seconds the run continues without it."""
    env = rig.box.world.add("other")
    rig.wire.latency = 1.0
    async with rig.provisioner(concurrency=1, interval=1000) as provisioner:
        plan = await provisioner.plan(plain(8))
        rig.box.world.remove(env)
        report = await provisioner.apply(plan).wait()
    assert report.all_done
    assert report.elapsed > 30


async def test_fatal_listing_error_stops_the_run(rig: Rig) -> None:
    """The listing is not retried, and nothing is created after it."""
    rig.wire.latency = 2.0
    rig.box.faults.script(LIST, [None, *[Fault(FaultKind.ERRCODE, errcode=61004)] * 3])
    report = await rig.provision(plain(9), concurrency=1, interval=1000)
    assert "61004" in (report.stop_reason or "")
    assert (rig.box.count(LIST), rig.box.count(CREATE)) == (2, 1)


def test_wait_for_visibility_times_out() -> None:
    """A tenant continues at the deadline although no listing has succeeded."""
    wait = WaitForVisibility(ExpectedEnvironments(1.0, {}, frozenset({"x-1"})), due_at=0.0, deadline=5.0)
    assert (wait.check_timeout(4.0), wait.check_timeout(5.0)) == (None, StepResult.RETRY)
