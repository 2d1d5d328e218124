"""Runs that end early: by a fatal error, a limit, a cancellation or an unexpected error."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

import wxtcb
from wxtcb._protocol.errcodes import api_error
from wxtcb.provision import STEPS, Outcome, Provisioner, Run, StopReason, Tenant
from wxtcb.provision.error_policy import CHINA_TIMEZONE, is_fatal, quota_reset_at
from wxtcb.provision.events import RunStopped, TenantFinished, TenantStarted
from wxtcb.sandbox import Fault, FaultKind, ReadyPolicy, Sandbox

from .conftest import Harness, SessionFactory, connect
from .constants import (
    API,
    CREATE,
    ENVIRONMENT,
    ESTABLISH,
    LIST,
    READY,
    SHARE,
    SHARED,
    TOKEN,
    WEB,
    WX1,
    plain_tenants,
    wait_for_requests,
)

pytestmark = pytest.mark.virtual_time


@pytest.mark.parametrize(("path", "errcode"), [(TOKEN, 61006), (TOKEN, 40125), (LIST, 61004)])
async def test_failed_plan_starts_no_tenant(harness: Harness, path: str, errcode: int) -> None:
    """The error is reported once, and every tenant is in the report."""
    harness.sandbox.faults.errcode(errcode, path=path)
    events = await harness.collect_events(plain_tenants(100), concurrency=4)
    assert [type(event) for event in events] == [RunStopped]
    assert (events[0].reason, str(errcode) in events[0].message) == (StopReason.FATAL_ERROR, True)
    report = await harness.provision(plain_tenants(100))
    assert (report.counts[Outcome.UNFINISHED], str(errcode) in report.stop_message) == (100, True)
    assert {entry.summary for entry in report.tenants} == {"not started"}


async def test_fatal_error_stops_the_run(harness: Harness) -> None:
    """Tenants in progress fail, tenants that wait are unfinished, and the reason is reported once."""
    harness.sandbox.faults.errcode(85088, path=CREATE)
    events = await harness.collect_events(plain_tenants(100), concurrency=4)
    stops = [event for event in events if isinstance(event, RunStopped)]
    assert len(stops) == 1
    assert "85088" in stops[0].message
    assert sum(isinstance(event, TenantStarted) for event in events) == 4
    assert sum(isinstance(event, TenantFinished) for event in events) == 4


async def test_permission_error_of_one_mini_program_does_not_stop_the_run(harness: Harness) -> None:
    """61007 concerns one mini program, 48001 the platform."""
    harness.sandbox.faults.script(SHARE, [Fault(FaultKind.ERRCODE, errcode=61007)])
    tenants = [Tenant(name, alias=name, appids=[WX1]) for name in "abc"]
    report = await harness.provision(tenants, concurrency=1)
    assert [entry.outcome for entry in report.tenants] == [Outcome.FAILED, Outcome.AWAITING, Outcome.AWAITING]


async def test_stop_while_waiting_for_normal_keeps_the_environment(harness: Harness) -> None:
    """The tenant is unfinished at that step; its environment exists and is billed."""
    harness.sandbox.world.ready_after = ReadyPolicy.after_seconds(60)
    harness.sandbox.faults.script(LIST, [None])
    harness.sandbox.faults.errcode(61004, path=LIST)
    report = await harness.provision(plain_tenants(1))
    entry = report.tenants[0]
    assert (entry.outcome, entry.step) == (Outcome.UNFINISHED, READY)
    assert (entry.env is not None, entry.summary) == (True, "stopped at ready")


async def test_stop_during_services_runs_no_further_step(harness: Harness) -> None:
    """Tenants behind the failed one are unfinished at their next step."""
    harness.sandbox.faults.errcode(48001, path=ESTABLISH)
    tenants = [Tenant(name, alias=name, services=[API, WEB]) for name in "abc"]
    report = await harness.provision(tenants, concurrency=1)
    assert harness.sandbox.count(ESTABLISH) == 1
    assert report.counts[Outcome.UNFINISHED] == 2
    assert [entry.outcome for entry in report.tenants].count(Outcome.FAILED) == 1


async def test_exhausted_quota_stops_only_creates(harness: Harness) -> None:
    """Existing environments are finished; no other create is sent."""
    harness.sandbox.world.ready_after = ReadyPolicy.after_polls(5)
    harness.sandbox.faults.script(CREATE, [None, Fault(FaultKind.ERRCODE, errcode=45009)])
    tenants = [Tenant(name, alias=name, services=[API]) for name in "abc"]
    report = await harness.provision(tenants, concurrency=1)
    assert [entry.outcome for entry in report.tenants] == [Outcome.DONE, Outcome.UNFINISHED, Outcome.UNFINISHED]
    assert "45009" in report.stop_message
    assert report.retry_after is not None
    assert report.retry_after.hour == 0


async def test_exhausted_service_quota_does_not_stop_the_run(harness: Harness) -> None:
    """It is a failure of each tenant concerned."""
    harness.sandbox.faults.script(ESTABLISH, [Fault(FaultKind.ERRCODE, errcode=45009)])
    tenants = [Tenant(name, alias=name, services=[API]) for name in "ab"]
    report = await harness.provision(tenants, concurrency=1)
    assert (report.stop_reason, report.counts[Outcome.FAILED], report.counts[Outcome.DONE]) == (None, 1, 1)


async def test_max_failures_starts_no_further_tenant(harness: Harness) -> None:
    """With max_failures=2 no create is sent for the third tenant."""
    harness.sandbox.faults.errcode(40097, path=CREATE)
    report = await harness.provision(plain_tenants(5), concurrency=1, max_failures=2)
    assert (report.counts[Outcome.FAILED], report.counts[Outcome.UNFINISHED], harness.sandbox.count(CREATE)) == (
        2,
        3,
        2,
    )
    assert "max_failures" in report.stop_message


async def test_cancel_sends_no_further_create(harness: Harness) -> None:
    """Answered creates are recorded with their environment; no other tenant is started."""
    harness.sandbox.faults.slow(20, path=CREATE)
    async with harness.provisioner(concurrency=2) as provisioner:
        run = provisioner.apply(plain_tenants(10))
        await wait_for_requests(harness.sandbox, CREATE, 2)
        await run.cancel()
        report = await run.wait()
    assert (harness.sandbox.count(CREATE), report.counts[Outcome.UNFINISHED], report.stop_reason) == (
        2,
        10,
        StopReason.CANCELLED,
    )
    assert [entry.env is not None for entry in report.tenants] == [True] * 2 + [False] * 8
    assert [entry.step for entry in report.tenants[:3]] == [READY, READY, None]


async def test_cancel_withdraws_queued_requests(sandbox: Sandbox, session_factory: SessionFactory) -> None:
    """Of 16 creates that wait for one connection, only the one that was sent is awaited."""
    sandbox.faults.slow(20, path=CREATE)
    async with (
        session_factory.session(sandbox, connections=1) as session,
        Provisioner(session, concurrency=16) as provisioner,
    ):
        run = provisioner.apply(plain_tenants(16))
        await wait_for_requests(sandbox, CREATE)
        now = asyncio.get_running_loop().time
        started = now()
        await run.cancel()
        assert now() - started < 20.1
    assert (sandbox.count(CREATE), run.report.counts[Outcome.UNFINISHED]) == (1, 16)
    assert sorted(entry.env is None for entry in run.report.tenants) == [False, *[True] * 15]


async def test_cancel_resends_no_create(harness: Harness) -> None:
    """A create that was rejected for its token is not sent again."""
    harness.sandbox.faults.script(CREATE, [Fault(FaultKind.EXPIRE_TOKEN, seconds=0)])
    harness.sandbox.faults.slow(5, path=TOKEN)
    async with harness.provisioner() as provisioner:
        run = provisioner.apply(plain_tenants(1))
        await wait_for_requests(harness.sandbox, TOKEN, 2)
        await run.cancel()
    assert (harness.sandbox.count(CREATE), run.report.tenants[0].outcome) == (1, Outcome.UNFINISHED)


async def test_cancel_ends_within_the_timeout_of_a_request(harness: Harness) -> None:
    """A create that hangs ends at its timeout, with unknown outcome."""
    harness.sandbox.faults.hang_after(path=CREATE)
    now = asyncio.get_running_loop().time
    async with harness.provisioner(concurrency=1) as provisioner:
        run = provisioner.apply(plain_tenants(2))
        await wait_for_requests(harness.sandbox, CREATE)
        started = now()
        await run.cancel()
        assert now() - started < harness.session.timeout.total + 1
    assert [entry.outcome for entry in run.report.tenants] == [Outcome.UNKNOWN, Outcome.UNFINISHED]


async def test_create_cancelled_after_grace_is_unknown(harness: Harness) -> None:
    """It may have created an environment."""
    harness.sandbox.faults.hang_after(path=CREATE)
    async with harness.provisioner(concurrency=1, grace=0.01) as provisioner:
        run = provisioner.apply(plain_tenants(2))
        await wait_for_requests(harness.sandbox, CREATE)
        await run.cancel()
    unknown, rest = run.report.tenants
    assert (unknown.outcome, rest.outcome) == (Outcome.UNKNOWN, Outcome.UNFINISHED)
    assert "may have taken effect" in unknown.summary
    assert len(harness.sandbox.world.environments) == 1


async def test_service_request_cancelled_after_grace_is_unknown(harness: Harness) -> None:
    """The environment stays in the report."""
    harness.sandbox.faults.hang(path=ESTABLISH)
    async with harness.provisioner(grace=0.01) as provisioner:
        run = provisioner.apply([Tenant("a", alias="x", services=[API])])
        await wait_for_requests(harness.sandbox, ESTABLISH)
        await run.cancel()
    entry = run.report.tenants[0]
    assert (entry.outcome, entry.problems[0].service, entry.env is None) == (Outcome.UNKNOWN, "api", False)


@pytest.mark.parametrize(("path", "step"), [(LIST, None), (SHARE, SHARED)])
async def test_repeatable_call_cancelled_after_grace_is_unfinished(
    harness: Harness, path: str, step: str | None
) -> None:
    """Listing and sharing are safe to repeat."""
    harness.sandbox.faults.hang(path=path)
    async with harness.provisioner(grace=0.01) as provisioner:
        run = provisioner.apply([Tenant("a", alias="x", appids=[WX1], services=[API])])
        await wait_for_requests(harness.sandbox, path)
        await run.cancel()
    entry = run.report.tenants[0]
    assert (entry.outcome, entry.step, entry.problems) == (Outcome.UNFINISHED, step, ())


async def test_cancel_between_list_and_create_sends_no_create(harness: Harness) -> None:
    """The result of a list that arrives after the cancel has no effect."""
    harness.wire.latency = 2.0
    async with harness.provisioner(concurrency=1, steps=STEPS[:1]) as provisioner:
        plan = await provisioner.plan(plain_tenants(9))
        run = provisioner.apply(plan)
        await wait_for_requests(harness.sandbox, LIST, harness.sandbox.count(LIST) + 1)
        creates = harness.sandbox.count(CREATE)
        await run.cancel()
    assert harness.sandbox.count(CREATE) == creates
    assert [entry.step for entry in run.report.tenants if not entry.done and entry.step] == [ENVIRONMENT]


async def test_cancel_before_start_and_after_end_returns(harness: Harness) -> None:
    """The report has every tenant in both cases."""
    async with harness.provisioner() as provisioner:
        early, late = provisioner.apply([Tenant("a", alias="x")]), provisioner.apply([Tenant("b", alias="y")])
        await early.cancel(grace=0.0)
        report = await late.wait()
        await late.cancel()
    assert early.report.tenants[0].outcome is Outcome.UNFINISHED
    assert (late.report, report.stop_reason) == (report, None)


async def test_exception_in_block_cancels_runs_at_once(harness: Harness) -> None:
    """The caller gets its own exception."""
    harness.sandbox.faults.hang_after(path=CREATE)
    runs: list[Run] = []

    async def fail() -> None:
        async with harness.provisioner(grace=60.0) as provisioner:
            runs.append(provisioner.apply(plain_tenants(1)))
            await wait_for_requests(harness.sandbox, CREATE)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    assert runs[0].ended
    assert runs[0].report.tenants[0].outcome is Outcome.UNKNOWN


async def test_cancelled_caller_leaves_no_task(harness: Harness) -> None:
    """The run ends with the block."""
    harness.sandbox.faults.hang(path=CREATE)
    tasks = asyncio.all_tasks()
    task = asyncio.create_task(harness.provision(plain_tenants(20)))
    await wait_for_requests(harness.sandbox, CREATE)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not [each for each in asyncio.all_tasks() - tasks if "Run." in repr(each)]


async def test_cancelling_all_tasks_ends_the_run(harness: Harness) -> None:
    """The report has the results so far."""
    harness.sandbox.world.add("a1")
    harness.sandbox.faults.hang_after(path=CREATE)
    async with harness.provisioner() as provisioner:
        run = provisioner.apply(plain_tenants(2))
        await wait_for_requests(harness.sandbox, CREATE)
        for task in asyncio.all_tasks():
            if "Run." in repr(task):
                task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run.wait()
    assert [entry.outcome for entry in run.report.tenants] == [Outcome.UNKNOWN, Outcome.CONFLICT]


async def test_closed_session_stops_the_run() -> None:
    """A create that was interrupted is unknown."""
    async with Sandbox() as sandbox, connect(sandbox) as session:
        sandbox.faults.hang_after(path=CREATE)
        async with Provisioner(session, concurrency=1) as provisioner:
            run = provisioner.apply(plain_tenants(3))
            await wait_for_requests(sandbox, CREATE)
            await session.aclose()
            report = await run.wait()
    assert report.tenants[0].outcome is Outcome.UNKNOWN
    assert report.counts[Outcome.UNFINISHED] + report.counts[Outcome.FAILED] == 2
    assert sandbox.count(CREATE) == 1


async def test_unexpected_error_keeps_the_report(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    """`wait` raises it, and the report has every environment."""

    async def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("wxtcb.provision.steps.sharing.batch_share_env", broken)
    async with harness.provisioner() as provisioner:
        run = provisioner.apply([Tenant("a", alias="x", appids=[WX1])])
        with pytest.raises(ZeroDivisionError):
            await run.wait()
    assert run.report.tenants[0].env in harness.sandbox.world.environments


@pytest.mark.parametrize(("transient", "fatal"), [(False, True), (True, False)])
def test_transient_ticket_error_is_not_fatal(*, transient: bool, fatal: bool) -> None:
    """A missing ticket is fatal, but the source may succeed for the next tenant."""
    error = wxtcb.TicketError("no ticket")
    error.transient = transient
    assert is_fatal(error) is fatal


@pytest.mark.parametrize(
    ("errcode", "now", "reset_at"),
    [
        (45009, datetime(2026, 11, 22, 15, 59, tzinfo=UTC), datetime(2026, 11, 23, tzinfo=CHINA_TIMEZONE)),
        (45009, datetime(2026, 11, 22, 16, 1, tzinfo=UTC), datetime(2026, 11, 24, tzinfo=CHINA_TIMEZONE)),
        (48006, datetime(2026, 12, 31, 12, 0, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=CHINA_TIMEZONE)),
        (48006, datetime(2026, 1, 31, 12, 0, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=CHINA_TIMEZONE)),
    ],
)
def test_quota_resets_at_midnight_in_china(errcode: int, now: datetime, reset_at: datetime) -> None:
    """A daily quota resets the next day, a monthly quota the next month."""
    error = api_error(errcode, "quota", endpoint=CREATE)
    assert isinstance(error, wxtcb.QuotaExceeded)
    assert quota_reset_at(error, now) == reset_at
