"""Runs that do not go to their end: stopped by an error, by a limit, by the caller, by a bug."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

import wxtcb
from wxtcb._protocol.errcodes import api_error
from wxtcb.provision import STEPS, Outcome, Provisioner, Run, Tenant
from wxtcb.provision.error_policy import CHINA_TIMEZONE, is_fatal, quota_reset_at
from wxtcb.provision.events import RunStopped, TenantFinished, TenantStarted
from wxtcb.sandbox import Fault, FaultKind, ReadyPolicy, Sandbox

from .conftest import Rig, Rigging, connect
from .constants import API, CREATE, ENVIRONMENT, ESTABLISH, LIST, READY, SHARE, SHARED, TOKEN, WEB, WX1, plain, seen

pytestmark = pytest.mark.virtual_time


@pytest.mark.parametrize(("path", "errcode"), [(TOKEN, 61006), (TOKEN, 40125), (LIST, 61004)])
async def test_without_a_plan_nobody_is_started(rig: Rig, path: str, errcode: int) -> None:
    """What keeps the first look from succeeding is told once, and everybody stands in the report."""
    rig.box.faults.errcode(errcode, path=path)
    told = await rig.told(plain(100), concurrency=4)
    assert [type(event) for event in told] == [RunStopped]
    assert str(errcode) in told[0].reason
    report = await rig.provision(plain(100))
    assert (report.counts[Outcome.UNFINISHED], str(errcode) in (report.stop_reason or "")) == (100, True)
    assert {entry.summary for entry in report.tenants} == {"not started"}


async def test_an_error_that_is_everybodys_stops_the_run(rig: Rig) -> None:
    """One tenant fails, those who waited to be sent are unfinished, and the reason is told once."""
    rig.box.faults.errcode(85088, path=CREATE)
    told = await rig.told(plain(100), concurrency=4)
    stops = [event for event in told if isinstance(event, RunStopped)]
    assert len(stops) == 1
    assert "85088" in stops[0].reason
    assert sum(isinstance(event, TenantStarted) for event in told) == 4
    assert sum(isinstance(event, TenantFinished) for event in told) == 4


async def test_a_right_of_one_mini_program_stops_nobody(rig: Rig) -> None:
    """61007 is for one administrator to mend, 48001 for the platform."""
    rig.box.faults.script(SHARE, [Fault(FaultKind.ERRCODE, errcode=61007)])
    tenants = [Tenant(name, alias=name, appids=[WX1]) for name in "abc"]
    report = await rig.provision(tenants, concurrency=1)
    assert [entry.outcome for entry in report.tenants] == [Outcome.FAILED, Outcome.AWAITING, Outcome.AWAITING]


async def test_a_stop_while_environments_are_delivered_keeps_their_ids(rig: Rig) -> None:
    """They are unfinished at that step, and named: they exist and are billed."""
    rig.box.world.ready_after = ReadyPolicy.after_seconds(60)
    rig.box.faults.script(LIST, [None])
    rig.box.faults.errcode(61004, path=LIST)
    report = await rig.provision(plain(1))
    entry = report.tenants[0]
    assert (entry.outcome, entry.step) == (Outcome.UNFINISHED, READY)
    assert (entry.env is not None, entry.summary) == (True, "stopped at ready")


async def test_a_stop_during_the_services_takes_no_further_step(rig: Rig) -> None:
    """The tenants that were ready behind the one that met the error are unfinished at their next step."""
    rig.box.faults.errcode(48001, path=ESTABLISH)
    tenants = [Tenant(name, alias=name, services=[API, WEB]) for name in "abc"]
    report = await rig.provision(tenants, concurrency=1)
    assert rig.box.count(ESTABLISH) == 1
    assert report.counts[Outcome.UNFINISHED] == 2
    assert [entry.outcome for entry in report.tenants].count(Outcome.FAILED) == 1


async def test_an_exhausted_quota_ends_the_creates_alone(rig: Rig) -> None:
    """Environments that are open go all the way; no other create is sent."""
    rig.box.world.ready_after = ReadyPolicy.after_polls(5)
    rig.box.faults.script(CREATE, [None, Fault(FaultKind.ERRCODE, errcode=45009)])
    tenants = [Tenant(name, alias=name, services=[API]) for name in "abc"]
    report = await rig.provision(tenants, concurrency=1)
    assert [entry.outcome for entry in report.tenants] == [Outcome.DONE, Outcome.UNFINISHED, Outcome.UNFINISHED]
    assert "45009" in (report.stop_reason or "")
    assert report.retry_after is not None
    assert report.retry_after.hour == 0


async def test_an_exhausted_quota_of_services_stops_nobody(rig: Rig) -> None:
    """It is told for each tenant that met it."""
    rig.box.faults.script(ESTABLISH, [Fault(FaultKind.ERRCODE, errcode=45009)])
    tenants = [Tenant(name, alias=name, services=[API]) for name in "ab"]
    report = await rig.provision(tenants, concurrency=1)
    assert (report.stop_reason, report.counts[Outcome.FAILED], report.counts[Outcome.DONE]) == (None, 1, 1)


async def test_after_so_many_failures_no_other_is_started(rig: Rig) -> None:
    """With max_failures=2 the third tenant stays untouched."""
    rig.box.faults.errcode(40097, path=CREATE)
    report = await rig.provision(plain(5), concurrency=1, max_failures=2)
    assert (report.counts[Outcome.FAILED], report.counts[Outcome.UNFINISHED], rig.box.count(CREATE)) == (2, 3, 2)
    assert "max_failures" in (report.stop_reason or "")


async def test_a_cancel_sends_no_further_create(rig: Rig) -> None:
    """What is answered is kept with its id; nobody else is started."""
    rig.box.faults.slow(20, path=CREATE)
    async with rig.provisioner(concurrency=2) as provisioner:
        run = provisioner.apply(plain(10))
        await seen(rig.box, CREATE, 2)
        await run.cancel()
        report = await run.wait()
    assert (rig.box.count(CREATE), report.counts[Outcome.UNFINISHED], report.stop_reason) == (2, 10, "cancelled")
    assert [entry.env is not None for entry in report.tenants] == [True] * 2 + [False] * 8
    assert [entry.step for entry in report.tenants[:3]] == [READY, READY, None]


async def test_a_cancel_ends_what_waits_to_be_sent_at_once(box: Sandbox, rigging: Rigging) -> None:
    """Of 16 creates that wait for one connection, the one that was sent is awaited; the minute limit holds nobody."""
    box.faults.slow(20, path=CREATE)
    async with rigging.session(box, connections=1) as session, Provisioner(session, concurrency=16) as provisioner:
        run = provisioner.apply(plain(16))
        await seen(box, CREATE)
        now = asyncio.get_running_loop().time
        started = now()
        await run.cancel()
        assert now() - started < 20.1
    assert (box.count(CREATE), run.report.counts[Outcome.UNFINISHED]) == (1, 16)
    assert sorted(entry.env is None for entry in run.report.tenants) == [False, *[True] * 15]


async def test_a_cancel_sends_no_create_again(rig: Rig) -> None:
    """Not even one whose token was dead, and which therefore was never made."""
    rig.box.faults.script(CREATE, [Fault(FaultKind.EXPIRE_TOKEN, seconds=0)])
    rig.box.faults.slow(5, path=TOKEN)
    async with rig.provisioner() as provisioner:
        run = provisioner.apply(plain(1))
        await seen(rig.box, TOKEN, 2)
        await run.cancel()
    assert (rig.box.count(CREATE), run.report.tenants[0].outcome) == (1, Outcome.UNFINISHED)


async def test_a_cancel_takes_a_request_and_a_second_at_most(rig: Rig) -> None:
    """A create that hangs is over when its request times out, and nobody knows what it did."""
    rig.box.faults.hang_after(path=CREATE)
    now = asyncio.get_running_loop().time
    async with rig.provisioner(concurrency=1) as provisioner:
        run = provisioner.apply(plain(2))
        await seen(rig.box, CREATE)
        started = now()
        await run.cancel()
        assert now() - started < rig.session.timeout.total + 1
    assert [entry.outcome for entry in run.report.tenants] == [Outcome.UNKNOWN, Outcome.UNFINISHED]


async def test_a_create_cut_off_by_a_cancel_is_unknown(rig: Rig) -> None:
    """After the grace it is cut off; it may have opened an environment."""
    rig.box.faults.hang_after(path=CREATE)
    async with rig.provisioner(concurrency=1, grace=0.01) as provisioner:
        run = provisioner.apply(plain(2))
        await seen(rig.box, CREATE)
        await run.cancel()
    unknown, rest = run.report.tenants
    assert (unknown.outcome, rest.outcome) == (Outcome.UNKNOWN, Outcome.UNFINISHED)
    assert "may have taken effect" in unknown.summary
    assert len(rig.box.world.environments) == 1


async def test_a_service_cut_off_by_a_cancel_is_unknown(rig: Rig) -> None:
    """And the environment's id is kept."""
    rig.box.faults.hang(path=ESTABLISH)
    async with rig.provisioner(grace=0.01) as provisioner:
        run = provisioner.apply([Tenant("a", alias="x", services=[API])])
        await seen(rig.box, ESTABLISH)
        await run.cancel()
    entry = run.report.tenants[0]
    assert (entry.outcome, entry.problems[0].service, entry.env is None) == (Outcome.UNKNOWN, "api", False)


@pytest.mark.parametrize(("path", "step"), [(LIST, None), (SHARE, SHARED)])
async def test_a_harmless_call_cut_off_is_unfinished(rig: Rig, path: str, step: str | None) -> None:
    """Looking and sharing may simply be done again."""
    rig.box.faults.hang(path=path)
    async with rig.provisioner(grace=0.01) as provisioner:
        run = provisioner.apply([Tenant("a", alias="x", appids=[WX1], services=[API])])
        await seen(rig.box, path)
        await run.cancel()
    entry = run.report.tenants[0]
    assert (entry.outcome, entry.step, entry.problems) == (Outcome.UNFINISHED, step, ())


async def test_a_cancel_between_look_and_create_sends_nothing(rig: Rig) -> None:
    """A look that comes back to a cancelled run is not acted on."""
    rig.wire.latency = 2.0
    async with rig.provisioner(concurrency=1, steps=STEPS[:1]) as provisioner:
        plan = await provisioner.plan(plain(9))
        run = provisioner.apply(plan)
        await seen(rig.box, LIST, rig.box.count(LIST) + 1)
        creates = rig.box.count(CREATE)
        await run.cancel()
    assert rig.box.count(CREATE) == creates
    assert [entry.step for entry in run.report.tenants if not entry.done and entry.step] == [ENVIRONMENT]


async def test_a_run_may_be_cancelled_before_it_began_and_after_it_ended(rig: Rig) -> None:
    """Either way cancel returns, and the report holds everybody."""
    async with rig.provisioner() as provisioner:
        early, late = provisioner.apply([Tenant("a", alias="x")]), provisioner.apply([Tenant("b", alias="y")])
        await early.cancel(grace=0.0)
        report = await late.wait()
        await late.cancel()
    assert early.report.tenants[0].outcome is Outcome.UNFINISHED
    assert (late.report, report.stop_reason) == (report, None)


async def test_leaving_the_block_cancels_what_runs(rig: Rig) -> None:
    """On an error at once, and the error is the caller's own."""
    rig.box.faults.hang_after(path=CREATE)
    runs: list[Run] = []

    async def fail() -> None:
        async with rig.provisioner(grace=60.0) as provisioner:
            runs.append(provisioner.apply(plain(1)))
            await seen(rig.box, CREATE)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    assert runs[0].ended
    assert runs[0].report.tenants[0].outcome is Outcome.UNKNOWN


async def test_a_cancelled_caller_leaves_no_task_behind(rig: Rig) -> None:
    """The run ends with the block that the cancellation leaves."""
    rig.box.faults.hang(path=CREATE)
    tasks = asyncio.all_tasks()
    job = asyncio.create_task(rig.provision(plain(20)))
    await seen(rig.box, CREATE)
    job.cancel()
    with pytest.raises(asyncio.CancelledError):
        await job
    assert not [task for task in asyncio.all_tasks() - tasks if "Run." in repr(task)]


async def test_a_loop_that_ends_takes_the_run_with_it(rig: Rig) -> None:
    """Whoever cancels all tasks ends its workers, busy and idle ones, and the report has what was done."""
    rig.box.world.add("a1")
    rig.box.faults.hang_after(path=CREATE)
    async with rig.provisioner() as provisioner:
        run = provisioner.apply(plain(2))
        await seen(rig.box, CREATE)
        for task in asyncio.all_tasks():
            if "Run." in repr(task):
                task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run.wait()
    assert [entry.outcome for entry in run.report.tenants] == [Outcome.UNKNOWN, Outcome.CONFLICT]


async def test_a_closed_session_stops_the_run() -> None:
    """The environment whose answer was cut off is unknown, not lost."""
    async with Sandbox() as box, connect(box) as session:
        box.faults.hang_after(path=CREATE)
        async with Provisioner(session, concurrency=1) as provisioner:
            run = provisioner.apply(plain(3))
            await seen(box, CREATE)
            await session.aclose()
            report = await run.wait()
    assert report.tenants[0].outcome is Outcome.UNKNOWN
    assert report.counts[Outcome.UNFINISHED] + report.counts[Outcome.FAILED] == 2
    assert box.count(CREATE) == 1


async def test_a_bug_of_ours_loses_nothing_that_was_done(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is raised by wait, and the report names every environment."""

    async def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("wxtcb.provision.steps.sharing.batch_share_env", broken)
    async with rig.provisioner() as provisioner:
        run = provisioner.apply([Tenant("a", alias="x", appids=[WX1])])
        with pytest.raises(ZeroDivisionError):
            await run.wait()
    assert run.report.tenants[0].env in rig.box.world.environments


@pytest.mark.parametrize(("passing", "everybody"), [(False, True), (True, False)])
def test_a_hiccup_of_the_ticket_source_stops_nobody_else(*, passing: bool, everybody: bool) -> None:
    """No ticket is everybody's trouble; a source that failed once may do better for the next tenant."""
    error = wxtcb.TicketError("no ticket")
    error.transient = passing
    assert is_fatal(error) is everybody


@pytest.mark.parametrize(
    ("errcode", "now", "back"),
    [
        (45009, datetime(2026, 11, 22, 15, 59, tzinfo=UTC), datetime(2026, 11, 23, tzinfo=CHINA_TIMEZONE)),
        (45009, datetime(2026, 11, 22, 16, 1, tzinfo=UTC), datetime(2026, 11, 24, tzinfo=CHINA_TIMEZONE)),
        (48006, datetime(2026, 12, 31, 12, 0, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=CHINA_TIMEZONE)),
        (48006, datetime(2026, 1, 31, 12, 0, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=CHINA_TIMEZONE)),
    ],
)
def test_a_quota_is_back_at_midnight_in_china(errcode: int, now: datetime, back: datetime) -> None:
    """That of the day at the next one, the resets of the month in the next month."""
    error = api_error(errcode, "quota", endpoint=CREATE)
    assert isinstance(error, wxtcb.QuotaExceeded)
    assert quota_reset_at(error, now) == back
