"""Looks before a create: fresh, whole, and shared."""

from __future__ import annotations

import asyncio

import pytest

from wxtcb.sandbox import Fault, Trouble

from .conftest import Rig
from .places import CREATE, LIST, plain

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
    async with rig.provisioner(concurrency=1, interval=1000) as provisioner:
        plan = await provisioner.plan(plain(8))
        await asyncio.sleep(6)
        rig.box.faults.script(LIST, [Fault(Trouble.HICCUP)] * 3)
        before = len(rig.box.seen)
        report = await provisioner.apply(plan).wait()
    assert report.all_done
    assert [seen.path for seen in list(rig.box.seen)[before:][:5]] == [LIST] * 4 + [CREATE]


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
    rig.box.faults.script(LIST, [None, *[Fault(Trouble.ERRCODE, errcode=61004)] * 3])
    report = await rig.provision(plain(9), concurrency=1, interval=1000)
    assert "61004" in (report.stopped or "")
    assert (rig.box.count(LIST), rig.box.count(CREATE)) == (2, 1)
