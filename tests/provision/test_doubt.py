"""Calls that add something, when nobody knows whether they did."""

from __future__ import annotations

import pytest

import wxtcb
from wxtcb.api.cloudrun import Server
from wxtcb.provision import Outcome, Step, Tenant
from wxtcb.provision.doubt import Doubt, establish
from wxtcb.sandbox import Fault, Sandbox, Trouble

from .conftest import Rig, connect
from .places import API, CREATE, ESTABLISH, WEB, seen

MINE = [Tenant("a", alias="x", services=[API, WEB])]


async def test_a_service_found_after_a_lost_answer_is_done_but_unconfirmed(rig: Rig) -> None:
    """It is sent again under its name, which makes no second one; the others are not touched by it."""
    rig.box.faults.script(ESTABLISH, [Fault(Trouble.DROP_AFTER)])
    entry = (await rig.provision(MINE)).tenants[0]
    assert (entry.outcome, entry.services, entry.unconfirmed) == (Outcome.UNCONFIRMED, ("api", "web"), ("api",))
    assert (entry.problems, entry.done[-1]) == ((), Step.SERVICES)
    assert (rig.box.count(ESTABLISH), len(rig.box.world.services)) == (3, 2)


async def test_a_service_found_after_a_busy_answer_is_done_but_unconfirmed(rig: Rig) -> None:
    """40097 may mean that the attempt before it, answered -1, had made the service."""
    rig.box.faults.script(ESTABLISH, [Fault(Trouble.BUSY_AFTER)])
    report = await rig.provision(MINE)
    assert (report.tenants[0].outcome, report.all_done) == (Outcome.UNCONFIRMED, True)
    assert rig.box.count(ESTABLISH) == 3


async def test_a_service_established_at_the_second_send_is_done(rig: Rig) -> None:
    """The first had not reached the platform, and the answer is clear."""
    rig.box.faults.script(ESTABLISH, [Fault(Trouble.DROP), Fault(Trouble.DROP)])
    entry = (await rig.provision(MINE)).tenants[0]
    assert (entry.outcome, entry.unconfirmed, rig.box.count(ESTABLISH)) == (Outcome.DONE, (), 4)


async def test_a_service_without_any_clear_answer_is_unknown_by_name(rig: Rig) -> None:
    """After three sends; the services after it are established all the same."""
    rig.box.faults.script(ESTABLISH, [Fault(Trouble.DROP)] * 3)
    entry = (await rig.provision(MINE)).tenants[0]
    assert (entry.outcome, entry.services, rig.box.count(ESTABLISH)) == (Outcome.UNKNOWN, ("web",), 4)
    assert entry.problems[0].subject == "services api"
    assert "An earlier send" not in entry.story
    assert Step.SERVICES not in entry.done


async def test_a_service_refused_after_a_lost_answer_is_unknown(rig: Rig) -> None:
    """The refusal says nothing of the send before it, so the story does."""
    rig.box.faults.script(ESTABLISH, [Fault(Trouble.DROP_AFTER), Fault(Trouble.ERRCODE, errcode=45009)])
    entry = (await rig.provision(MINE)).tenants[0]
    assert entry.outcome is Outcome.UNKNOWN
    assert "45009" in entry.story
    assert entry.story.endswith("An earlier send of it may have taken effect.")


async def test_a_service_that_is_refused_fails(rig: Rig) -> None:
    """Without an earlier attempt there is no doubt."""
    rig.box.faults.errcode(40097, path=ESTABLISH)
    entry = (await rig.provision([Tenant("a", alias="x", services=[API])])).tenants[0]
    assert entry.outcome is Outcome.FAILED


async def test_a_service_is_not_sent_again_once_the_run_is_to_end(rig: Rig) -> None:
    """What the first send did stays unknown."""
    rig.box.faults.drop(path=ESTABLISH)
    server = Server(env_id=rig.box.world.add("x"), service_name="s", is_public=False)
    doubt = Doubt()
    with pytest.raises(wxtcb.OutcomeUnknown):
        await establish(rig.session, server, doubt, lambda: True)
    assert (doubt.there, rig.box.count(ESTABLISH)) == (True, 1)


@pytest.mark.parametrize(("path", "step"), [(CREATE, Step.CREATE), (ESTABLISH, Step.SERVICES)])
async def test_what_never_left_is_unfinished(box: Sandbox, path: str, step: Step) -> None:
    """Of 16 calls that wait for one connection, a cancel makes unknown the one that was sent."""
    box.faults.hang_after(path=path)
    tenants = [Tenant(f"t{number}", alias=f"a{number}", services=[API]) for number in range(16)]
    async with box, connect(box, connections=1) as session, Rig(box, session).provisioner() as provisioner:
        run = provisioner.apply(tenants)
        await seen(box, path)
        await run.cancel(grace=0)
    entries = [entry for entry in run.report.tenants if entry.step is step]
    assert sorted(entry.outcome.value for entry in entries) == ["unfinished"] * 15 + ["unknown"]
    assert {entry.story for entry in entries if entry.outcome is Outcome.UNFINISHED} == {f"stopped at {step.value}"}
