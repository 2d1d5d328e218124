"""Steps as data: batches of shares, and custom steps."""

from __future__ import annotations

import attrs
import pytest

import wxtcb
from wxtcb.provision import STEPS as DEFAULT_STEPS, Outcome, Report, Step, Tenant, TenantRecord
from wxtcb.provision.context import StepContext
from wxtcb.provision.events import StepDone
from wxtcb.sandbox import Fault, FaultKind, ReadyPolicy

from .conftest import Harness
from .constants import API, CREATE, ESTABLISH, SHARE, STEPS, WX1, WX2, plain_tenants

pytestmark = pytest.mark.virtual_time


def appid(number: int) -> str:
    """Return the mini program with this number."""
    return f"wx{number:016}"


async def provision_together(harness: Harness, tenants: list[Tenant]) -> Report:
    """Provision tenants whose environments become NORMAL at the same listing, in their order."""
    harness.sandbox.world.ready_after = ReadyPolicy.after_seconds(9)
    return await harness.provision(tenants, concurrency=1)


def share_batches(harness: Harness) -> list[list[str]]:
    """Return the aliases of the environments of each share call."""
    rows = harness.sandbox.world.environments
    bodies = (request.body for request in harness.sandbox.seen if request.path == SHARE)
    return [[rows[job["env"]].alias for job in body["data"]] for body in bodies]


async def test_shares_are_sent_in_batches(harness: Harness) -> None:
    """50 tenants that become ready together need three calls, and each gets its own links."""
    tenants = [Tenant(f"t{number}", alias=f"a{number}", appids=[appid(number)]) for number in range(50)]
    report = await harness.provision(tenants, concurrency=50)
    assert [len(batch) for batch in share_batches(harness)] == [20, 20, 10]
    assert [entry.links[0].appid for entry in report.tenants] == [appid(number) for number in range(50)]


async def test_mini_program_occurs_once_in_a_call(harness: Harness) -> None:
    """Its link comes back without the environment, so two of them could not be distinguished."""
    tenants = [Tenant(name, alias=name, appids=[WX1]) for name in "abc"]
    report = await provision_together(harness, tenants)
    assert share_batches(harness) == [["a"], ["b"], ["c"]]
    assert len({entry.links[0].url for entry in report.tenants}) == 3


async def test_call_has_one_source_type(harness: Harness) -> None:
    """The source type is a field of the call, not of its entries."""
    kinds = [None, None, 1, 1, 0]
    tenants = [
        Tenant(f"t{number}", alias=f"a{number}", appids=[appid(number)], source_type=kind)
        for number, kind in enumerate(kinds)
    ]
    await provision_together(harness, tenants)
    assert share_batches(harness) == [["a0", "a1"], ["a2", "a3"], ["a4"]]
    assert [share.source_type for share in harness.sandbox.world.shares.values()] == kinds


async def test_rejected_batch_is_sent_individually(harness: Harness) -> None:
    """Only the tenant whose entry the platform rejects fails."""
    harness.sandbox.faults.script(
        SHARE, [Fault(FaultKind.ERRCODE, errcode=40097), None, Fault(FaultKind.ERRCODE, errcode=40097)]
    )
    tenants = [Tenant(name, alias=name, appids=[appid(number)]) for number, name in enumerate("abc")]
    report = await provision_together(harness, tenants)
    assert [entry.outcome for entry in report.tenants] == [Outcome.AWAITING, Outcome.FAILED, Outcome.AWAITING]
    assert share_batches(harness) == [["a", "b", "c"], ["a"], ["b"], ["c"]]


async def test_batch_without_answer_fails_all_its_tenants(harness: Harness) -> None:
    """Sharing again has no further effect, and the next run does it."""
    harness.sandbox.faults.drop(path=SHARE)
    tenants = [Tenant(name, alias=name, appids=[appid(number)]) for number, name in enumerate("ab")]
    async with harness.provisioner() as provisioner:
        first = await provisioner.apply(tenants).wait()
        harness.sandbox.faults.clear()
        second = await provisioner.apply(tenants).wait()
    assert first.counts[Outcome.FAILED] == second.counts[Outcome.AWAITING] == 2


async def test_failed_mini_program_fails_only_its_tenant(harness: Harness) -> None:
    """The reply names the environment and the mini program."""
    harness.sandbox.world.is_authorised = WX1.__eq__
    tenants = [Tenant("a", alias="a", appids=[WX1]), Tenant("b", alias="b", appids=[WX2])]
    report = await harness.provision(tenants)
    assert [entry.outcome for entry in report.tenants] == [Outcome.AWAITING, Outcome.FAILED]


PING = wxtcb.Endpoint("/componenttcb/describeenvs", wxtcb.Done, wxtcb.Repeat.READ)


def _needs_ping(_tenant: Tenant, record: TenantRecord, _status: str | None) -> bool:
    return "pinged" not in record.metadata


async def _ping(context: StepContext) -> None:
    assert (context.status, context.env) == ("NORMAL", context.record.env)
    await context.session.call(PING, {})
    await context.commit(attrs.evolve(context.record, metadata={"pinged": "yes"}))


PINGED = Step(name="ping", title="pinged", is_needed=_needs_ping, run=_ping)


async def test_custom_step_is_one_value(harness: Harness) -> None:
    """It is planned, run, reported and recorded like the others."""
    tenants = [Tenant("a", alias="x", services=[API])]
    async with harness.provisioner(steps=[*DEFAULT_STEPS, PINGED]) as provisioner:
        plan = await provisioner.plan(tenants)
        run = provisioner.apply(plan)
        steps_done = [event.step async for event in run.events() if isinstance(event, StepDone)]
        report = await run.wait()
        again = await provisioner.plan(tenants)
    expected = [step for step in (*STEPS, "ping") if step != "share"]
    assert list(plan.tenants[0].steps) == steps_done == list(report.tenants[0].done) == expected
    assert again.tenants[0].steps == ()
    assert report.tenants[0].metadata == {"pinged": "yes"}


async def test_step_that_raises_ends_its_tenant(harness: Harness) -> None:
    """The tenant ends at that step, with the error."""

    async def fail(_context: StepContext) -> None:
        raise wxtcb.BadReply("of no use", endpoint="/x", status=200)

    steps = [*DEFAULT_STEPS, attrs.evolve(PINGED, run=fail)]
    report = await harness.provision(plain_tenants(2), steps=steps)
    assert [entry.problems[0].step for entry in report.tenants] == ["ping", "ping"]


async def test_unexpected_exception_of_step_fails_only_its_tenant(harness: Harness) -> None:
    """Another one is done, every environment is in the report, and the exception is raised at the end.

    The report has its type and the line that raised it, but not its message, which may hold a secret.
    """

    async def run_own(context: StepContext) -> None:
        if context.tenant.name != "商户0":
            raise ZeroDivisionError("no pong: S3CRET")

    async with harness.provisioner(steps=[*DEFAULT_STEPS, attrs.evolve(PINGED, run=run_own)]) as provisioner:
        run = provisioner.apply(plain_tenants(3))
        with pytest.raises(ZeroDivisionError) as raised:
            await run
    assert [entry.outcome for entry in run.report.tenants] == [Outcome.DONE, Outcome.FAILED, Outcome.FAILED]
    problems = [entry.problems[0] for entry in run.report.tenants[1:]]
    location = f"(ZeroDivisionError in {__file__}, line {raised.traceback[-1].lineno + 1})"
    assert all(location in problem.message for problem in problems)
    assert b"S3CRET" not in run.report.to_json()
    # Only the one that is raised has a traceback: more of them would keep the objects of the run in memory.
    causes = [problem.error.__cause__ for problem in problems if problem.error]
    assert [cause for cause in causes if cause and cause.__traceback__] == [raised.value]
    assert len(causes) == 2
    assert {entry.env for entry in run.report.tenants} == {*harness.sandbox.world.environments}


async def test_omitted_steps_are_not_run(harness: Harness) -> None:
    """Environments alone are created if no other step is given."""
    report = await harness.provision([Tenant("a", alias="x", services=[API])], steps=DEFAULT_STEPS[:2])
    assert (report.all_done, harness.sandbox.count(CREATE), harness.sandbox.count(ESTABLISH)) == (True, 1, 0)


@pytest.mark.parametrize("steps", [[PINGED, PINGED], ["ping"], [object()]])
async def test_steps_must_be_steps_with_distinct_names(harness: Harness, steps: object) -> None:
    """Other values are rejected."""
    with pytest.raises(wxtcb.InvalidArgument, match="Provisioner: steps"):
        harness.provisioner(steps=steps)
