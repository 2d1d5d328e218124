"""Steps as data: batches of shares, and a kind of step that is not wxtcb's own."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import pytest

import wxtcb
from wxtcb.provision import STEPS as USUAL
from wxtcb.provision import Outcome, Report, Step, Tenant, TenantRecord
from wxtcb.provision.context import StepContext
from wxtcb.provision.events import StepDone
from wxtcb.provision.step import StepResult
from wxtcb.provision.tenant_state import TenantState
from wxtcb.sandbox import Fault, FaultKind, ReadyPolicy

from .conftest import Rig
from .constants import API, CREATE, ESTABLISH, SHARE, STEPS, WX1, plain

pytestmark = pytest.mark.virtual_time


def appid(number: int) -> str:
    """Return a mini program of its own."""
    return f"wx{number:016}"


async def ready_together(rig: Rig, tenants: list[Tenant]) -> Report:
    """Provision tenants that become NORMAL at the same look, in their order."""
    rig.box.world.ready_after = ReadyPolicy.after_seconds(9)
    return await rig.provision(tenants, concurrency=1)


def shares(rig: Rig) -> list[list[str]]:
    """Return which environments each share call was for, by their aliases."""
    rows = rig.box.world.environments
    bodies = (request.body for request in rig.box.seen if request.path == SHARE)
    return [[rows[job["env"]].alias for job in body["data"]] for body in bodies]


async def test_shares_are_filled_into_batches(rig: Rig) -> None:
    """50 tenants that become ready together need three calls, and each gets its own links."""
    tenants = [Tenant(f"t{number}", alias=f"a{number}", appids=[appid(number)]) for number in range(50)]
    report = await rig.provision(tenants, concurrency=50)
    assert [len(batch) for batch in shares(rig)] == [20, 20, 10]
    assert [entry.links[0].appid for entry in report.tenants] == [appid(number) for number in range(50)]


async def test_a_mini_program_stands_in_a_call_once(rig: Rig) -> None:
    """Its link comes back without the environment, so two of them could not be told apart."""
    tenants = [Tenant(name, alias=name, appids=[WX1]) for name in "abc"]
    report = await ready_together(rig, tenants)
    assert shares(rig) == [["a"], ["b"], ["c"]]
    assert len({entry.links[0].url for entry in report.tenants}) == 3


async def test_only_one_source_type_stands_in_a_call(rig: Rig) -> None:
    """It is a field of the call, not of its entries."""
    kinds = [None, None, 1, 1, 0]
    tenants = [
        Tenant(f"t{number}", alias=f"a{number}", appids=[appid(number)], source_type=kind)
        for number, kind in enumerate(kinds)
    ]
    await ready_together(rig, tenants)
    assert shares(rig) == [["a0", "a1"], ["a2", "a3"], ["a4"]]
    assert [share.source_type for share in rig.box.world.shares.values()] == kinds


async def test_a_batch_that_is_refused_is_taken_apart(rig: Rig) -> None:
    """Only the tenant whose entry the platform refuses has failed."""
    rig.box.faults.script(
        SHARE, [Fault(FaultKind.ERRCODE, errcode=40097), None, Fault(FaultKind.ERRCODE, errcode=40097)]
    )
    tenants = [Tenant(name, alias=name, appids=[appid(number)]) for number, name in enumerate("abc")]
    report = await ready_together(rig, tenants)
    assert [entry.outcome for entry in report.tenants] == [Outcome.AWAITING, Outcome.FAILED, Outcome.AWAITING]
    assert shares(rig) == [["a", "b", "c"], ["a"], ["b"], ["c"]]


async def test_a_batch_without_an_answer_is_everybodys_problem(rig: Rig) -> None:
    """It changes nothing to send it again, which the next run does."""
    rig.box.faults.drop(path=SHARE)
    tenants = [Tenant(name, alias=name, appids=[appid(number)]) for number, name in enumerate("ab")]
    async with rig.provisioner() as provisioner:
        first = await provisioner.apply(tenants).wait()
        rig.box.faults.clear()
        second = await provisioner.apply(tenants).wait()
    assert first.counts[Outcome.FAILED] == second.counts[Outcome.AWAITING] == 2


async def test_a_mini_program_that_failed_is_its_own_tenants_problem(rig: Rig) -> None:
    """The reply tells which pair it was."""
    tenants = [Tenant("a", alias="a", appids=[WX1]), Tenant("b", alias="b", appids=["bad"])]
    report = await rig.provision(tenants)
    assert [entry.outcome for entry in report.tenants] == [Outcome.AWAITING, Outcome.FAILED]


PING = wxtcb.Endpoint("/componenttcb/describeenvs", wxtcb.Done, wxtcb.Repeat.READ)


def _wants_ping(_tenant: Tenant, record: TenantRecord, _status: str | None) -> bool:
    return "pinged" not in record.metadata


async def _ping(site: StepContext, works: Sequence[TenantState]) -> StepResult:
    (work,) = works
    await site.session.call(PING, {})
    await site.commit(work, attrs.evolve(work.record, metadata={"pinged": "yes"}))
    return StepResult.NEXT


PINGED = Step(name="ping", title="pinged", is_needed=_wants_ping, run=_ping)


async def test_a_new_kind_of_step_is_one_value(rig: Rig) -> None:
    """It is planned, taken, told, reported and remembered like the others."""
    tenants = [Tenant("a", alias="x", services=[API])]
    async with rig.provisioner(steps=[*USUAL, PINGED]) as provisioner:
        plan = await provisioner.plan(tenants)
        run = provisioner.apply(plan)
        told = [event.step async for event in run.events() if isinstance(event, StepDone)]
        report = await run.wait()
        again = await provisioner.plan(tenants)
    wanted = [step for step in (*STEPS, "ping") if step != "share"]
    assert list(plan.tenants[0].steps) == told == list(report.tenants[0].done) == wanted
    assert again.tenants[0].steps == ()
    assert report.tenants[0].metadata == {"pinged": "yes"}


async def test_a_step_that_raises_ends_its_tenant(rig: Rig) -> None:
    """At that step, with the error."""

    async def fail(_site: StepContext, _works: Sequence[TenantState]) -> StepResult:
        raise wxtcb.BadReply("of no use", endpoint="/x", status=200)

    steps = [*USUAL, attrs.evolve(PINGED, run=fail)]
    report = await rig.provision(plain(2), steps=steps)
    assert [entry.problems[0].step for entry in report.tenants] == ["ping", "ping"]


async def test_a_step_may_take_several_tenants_at_once(rig: Rig) -> None:
    """As many as it says, if they are there."""
    taken: list[int] = []

    async def take(_site: StepContext, works: Sequence[TenantState]) -> StepResult:
        taken.append(len(works))
        return StepResult.NEXT

    rig.box.world.ready_after = ReadyPolicy.after_seconds(9)
    report = await rig.provision(plain(5), steps=[*USUAL, attrs.evolve(PINGED, run=take, batch_size=3)], concurrency=1)
    assert (taken, report.all_done) == ([3, 2], True)


async def test_a_mistake_in_a_step_costs_its_tenant_alone(rig: Rig) -> None:
    """The others are done, every environment is in the report, and the mistake is raised in the end."""

    async def take(_site: StepContext, works: Sequence[TenantState]) -> StepResult:
        if works[0].name == "商户1":
            raise ZeroDivisionError("no pong")
        return StepResult.NEXT

    async with rig.provisioner(steps=[*USUAL, attrs.evolve(PINGED, run=take)]) as provisioner:
        run = provisioner.apply(plain(3))
        with pytest.raises(ZeroDivisionError):
            await run.wait()
    assert [entry.outcome for entry in run.report.tenants] == [Outcome.DONE, Outcome.FAILED, Outcome.DONE]
    assert "unexpected exception (ZeroDivisionError: no pong)" in run.report.tenants[1].summary
    assert {entry.env for entry in run.report.tenants} == {*rig.box.world.environments}


async def test_steps_that_are_left_out_are_not_taken(rig: Rig) -> None:
    """Environments alone, if that is all that is wanted."""
    report = await rig.provision([Tenant("a", alias="x", services=[API])], steps=USUAL[:2])
    assert (report.all_done, rig.box.count(CREATE), rig.box.count(ESTABLISH)) == (True, 1, 0)


@pytest.mark.parametrize("steps", [[PINGED, PINGED], ["ping"], [object()]])
async def test_steps_need_names_of_their_own(rig: Rig, steps: object) -> None:
    """And must be steps."""
    with pytest.raises(wxtcb.InvalidArgument, match="Provisioner: steps"):
        rig.provisioner(steps=steps)
