"""Events and progress of a run: time, number, JSON, and what a silent run waits for."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import attrs
import pytest

import wxtcb
from wxtcb.provision import (
    STEPS as DEFAULT_STEPS,
    Problem,
    Progress,
    Step,
    StopReason,
    Tenant,
)
from wxtcb.provision.context import StepContext
from wxtcb.provision.events import RunStopped, StepDone, StepFailed, StepOutcomeUnknown, TenantFinished, Waiting
from wxtcb.sandbox import Fault, FaultKind, ReadyPolicy

from .conftest import EPOCH, Harness
from .constants import API, CREATE, ENVIRONMENT, LIST, READY, SERVICES, SHARED, WX1, plain_tenants, wait_for_requests

pytestmark = pytest.mark.virtual_time


async def test_events_have_time_and_number(harness: Harness) -> None:
    """The time is that of the provisioner's clock, and the numbers count also events before the subscription."""
    harness.sandbox.world.ready_after = ReadyPolicy.after_seconds(9)
    async with harness.provisioner(clock=lambda: EPOCH) as provisioner:
        run = provisioner.apply([Tenant("a", alias="x", services=[API])])
        events = run.events()
        first = await anext(events)
        late = run.events()
        second, later = await anext(events), [event async for event in late]
    assert {event.at for event in (first, second, *later)} == {datetime.fromtimestamp(EPOCH, UTC)}
    assert [first.sequence, second.sequence, *(event.sequence for event in later[1:])] == [*range(1, len(later) + 2)]


async def test_every_event_is_json(harness: Harness) -> None:
    """It names its kind; problems, reports, reasons and times are values of JSON."""
    harness.sandbox.world.ready_after = ReadyPolicy.after_seconds(9)
    harness.sandbox.faults.script(CREATE, [Fault(FaultKind.BUSY), None, Fault(FaultKind.ERRCODE, errcode=45009)])
    events = await harness.collect_events(plain_tenants(4), concurrency=1)
    events.append(StepFailed("a", Problem(step="share", message="no")))
    documents = [json.loads(json.dumps(event.to_dict())) for event in events]
    kinds = {each["kind"]: each for each in documents}
    assert {type(event).__name__ for event in events} == kinds.keys()
    assert kinds.keys() >= {"TenantStarted", "StepDone", "StepOutcomeUnknown", "Waiting", "TenantFinished"}
    for event, document in zip(events, documents, strict=True):
        assert (document["sequence"], document["at"]) == (event.sequence, event.at.isoformat())
    assert kinds["RunStopped"]["reason"] == "quota_exceeded"
    assert kinds["TenantFinished"]["report"]["tenant"].startswith("商户")
    assert kinds["StepFailed"]["problem"] == {"step": "share", "message": "no", "unknown": False}


async def test_environment_step_says_how(harness: Harness) -> None:
    """A created, an assigned and a rediscovered environment are distinguished; other steps say nothing."""
    env = harness.sandbox.world.add("adopted")
    harness.sandbox.faults.script(CREATE, [Fault(FaultKind.BUSY_AFTER)])
    tenants = [Tenant(name, alias=name) for name in ("found", "opened")]
    async with harness.provisioner(concurrency=1) as provisioner:
        plan = await provisioner.plan([*tenants, Tenant("adopted", alias="adopted", env=env)])
        events = [event async for event in provisioner.apply(plan).events() if isinstance(event, StepDone)]
    assert {event.tenant: event.how for event in events if event.step == ENVIRONMENT} == {
        name: name for name in ("found", "opened", "adopted")
    }
    assert {event.how for event in events if event.step == READY} == {None}


async def test_event_of_an_unknown_outcome_says_when_it_is_checked(harness: Harness) -> None:
    """After a response it is checked once the propagation delay is over."""
    harness.sandbox.faults.script(CREATE, [Fault(FaultKind.BUSY)])
    events = await harness.collect_events(plain_tenants(1), settle=120)
    (unknown,) = (event for event in events if isinstance(event, StepOutcomeUnknown))
    assert unknown.until == unknown.at + timedelta(seconds=120)


async def test_no_silence_without_explanation_while_outcomes_are_unknown(harness: Harness) -> None:
    """300 creates are ambiguous: no two events are more than 2 seconds apart, and each wait has reason and end."""
    harness.sandbox.faults.script(CREATE, [Fault(FaultKind.DROP_AFTER)] * 300)
    async with harness.provisioner(settle=120) as provisioner:
        started_at = datetime.fromtimestamp(provisioner.clock(), UTC)
        run = provisioner.apply(plain_tenants(300))
        events = [event async for event in run.events()]
        report = await run
    times = [started_at, *(event.at for event in events)]
    assert max(after - before for before, after in pairwise(times)) <= timedelta(seconds=2.01)
    assert report.all_done
    assert report.elapsed > 150
    waits = [event for event in events if isinstance(event, Waiting) and "propagation delay" in event.reason]
    assert len(waits) > 60
    assert {event.tenants for event in waits} == {300}
    (until,) = {event.until for event in waits}
    done = [event for event in events if isinstance(event, StepDone)]
    assert until is not None
    assert abs(done[0].at - until) < timedelta(seconds=2)


async def test_waits_for_different_reasons_are_separate(harness: Harness) -> None:
    """Listings must show the outcome of one create, and another environment is not NORMAL yet."""
    harness.sandbox.world.ready_after = ReadyPolicy.after_seconds(60)
    harness.sandbox.faults.script(CREATE, [None, Fault(FaultKind.BUSY)])
    harness.sandbox.faults.script(LIST, [None, *[Fault(FaultKind.ERRCODE, errcode=40097)] * 9])
    events = await harness.collect_events(plain_tenants(2), settle=5, timeout=30)
    waits = [event for event in events if isinstance(event, Waiting)]
    assert {event.reason: event.tenants for event in waits} == {
        "the propagation delay of ambiguous creates": 1,
        "listings that show the outcome of creates": 1,
        "environments that are not NORMAL yet": 1,
    } | {event.reason: event.tenants for event in waits if event.until is None}
    assert all(timedelta(0) <= event.until - event.at <= timedelta(seconds=32) for event in waits if event.until)


@pytest.mark.parametrize(
    ("path", "fault", "reason", "count"),
    [
        (LIST, Fault(FaultKind.SLOW, seconds=20), "the list of environments", 3),
        (CREATE, Fault(FaultKind.HANG), "requests in progress", 2),
        (CREATE, Fault(FaultKind.ERRCODE, errcode=45011), "the minute limit", 2),
    ],
)
async def test_slow_platform_is_a_reason(harness: Harness, path: str, fault: Fault, reason: str, count: int) -> None:
    """A plan that takes long, hanging requests and the platform's minute limit are named, without an end."""
    harness.sandbox.faults.script(path, [fault] * count)
    async with harness.provisioner(concurrency=2) as provisioner:
        wait = await anext(event async for event in provisioner.apply(plain_tenants(3)).events() if is_wait(event))
    assert (wait.reason.startswith(reason), wait.tenants, wait.until) == (True, count, None)


def is_wait(event: object) -> bool:
    """Return whether *event* is a wait."""
    return isinstance(event, Waiting)


async def test_cancelled_run_waits_only_for_requests(harness: Harness) -> None:
    """Tenants that waited for listings have no part in the end of the run."""
    harness.sandbox.world.ready_after = ReadyPolicy.after_seconds(60)
    harness.sandbox.faults.script(CREATE, [None, Fault(FaultKind.SLOW, seconds=20)])
    async with harness.provisioner() as provisioner:
        run = provisioner.apply(plain_tenants(2))
        await wait_for_requests(harness.sandbox, CREATE, 2)
        await asyncio.sleep(5)
        events = run.events()
        await run.cancel()
        waits = [event async for event in events if isinstance(event, Waiting)]
    assert {(event.reason, event.tenants) for event in waits} == {("requests in progress", 1)}


async def test_ended_run_has_no_timer(harness: Harness) -> None:
    """No event follows the end."""
    async with harness.provisioner() as provisioner:
        run = provisioner.apply(plain_tenants(1))
        await run
        count = run._event_stream._sequence
        await asyncio.sleep(60)
    assert run._event_stream._sequence == count


async def test_clock_that_fails_hides_no_end(harness: Harness) -> None:
    """The events end although none of them can have a time."""
    broken = False

    def clock() -> float:
        if broken:
            raise ZeroDivisionError
        return EPOCH

    harness.sandbox.faults.hang(path=CREATE)
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)
    async with harness.provisioner(clock=clock) as provisioner:
        run = provisioner.apply(plain_tenants(1))
        events = run.events()
        await wait_for_requests(harness.sandbox, CREATE)
        broken = True
        run._task.cancel()
        with pytest.raises(ZeroDivisionError):
            async with asyncio.timeout(1):
                await run
        assert [type(event).__name__ async for event in events] == ["TenantStarted"]


async def test_progress_counts_steps_and_tenants(harness: Harness) -> None:
    """It is empty before the plan; a failed step is never done, and a step of the user counts when it is done."""

    async def run_own(_context: StepContext) -> None:
        """Do nothing."""

    # Not needed when the plan is made, but after the environment exists.
    own = Step(name="own", title="own", is_needed=lambda _, record, __: record.env is not None, run=run_own)
    harness.sandbox.faults.script(CREATE, [None, Fault(FaultKind.ERRCODE, errcode=40097)])
    tenants = [Tenant("a", alias="a", appids=[WX1], services=[API]), Tenant("b", alias="b")]
    async with harness.provisioner(steps=[*DEFAULT_STEPS, own], concurrency=1) as provisioner:
        run = provisioner.apply(tenants)
        assert (run.progress.tenants, run.progress.steps) == (Progress(0, 2), {})
        await wait_for_requests(harness.sandbox, CREATE)
        assert run.progress.steps[ENVIRONMENT].total == 2
        await run
    assert run.progress.tenants == Progress(2, 2)
    assert list(run.progress.steps.items()) == [
        (ENVIRONMENT, Progress(1, 2)),
        (READY, Progress(1, 2)),
        (SHARED, Progress(1, 1)),
        (SERVICES, Progress(1, 1)),
        ("own", Progress(1, 1)),
    ]


async def test_run_can_be_awaited(harness: Harness) -> None:
    """The result is the report, also a second time; a cancelled `await` does not cancel the run."""
    harness.sandbox.world.ready_after = ReadyPolicy.after_seconds(30)
    async with harness.provisioner() as provisioner:
        run = provisioner.apply(plain_tenants(1))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(10):
                await run
        assert not run.ended
        report = await run
        assert (report.all_done, report.stop_reason) == (True, None)
        assert (await run, await run.wait()) == (report, report)


@pytest.mark.parametrize(
    ("path", "errcode", "reason"),
    [
        (LIST, 40097, StopReason.PLAN_FAILED),
        (LIST, 61004, StopReason.FATAL_ERROR),
        (CREATE, 85088, StopReason.FATAL_ERROR),
        (CREATE, 45009, StopReason.QUOTA_EXCEEDED),
        (CREATE, 40097, StopReason.MAX_FAILURES),
    ],
)
async def test_stop_has_a_reason_for_programs(harness: Harness, path: str, errcode: int, reason: StopReason) -> None:
    """Event and report have it, next to a message for people."""
    harness.sandbox.faults.errcode(errcode, path=path)
    async with harness.provisioner(concurrency=1, max_failures=1) as provisioner:
        run = provisioner.apply(plain_tenants(2))
        (stopped,) = [event async for event in run.events() if isinstance(event, RunStopped)]
        report = await run
    assert stopped.reason is report.stop_reason is reason
    assert stopped.message == report.stop_message
    assert stopped.retry_after == report.retry_after


async def test_run_that_is_cancelled_from_outside_has_a_reason(harness: Harness) -> None:
    """The end of `asyncio.run` cancels all tasks: the report must not look like that of a complete run."""
    harness.sandbox.faults.hang(path=CREATE)
    async with harness.provisioner() as provisioner:
        run = provisioner.apply(plain_tenants(1))
        await wait_for_requests(harness.sandbox, CREATE)
        run._task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
    assert run.report.stop_reason is StopReason.CANCELLED


def test_problem_is_printed_as_a_sentence() -> None:
    """It names step, service and mini program, and the message."""
    problem = Problem(step="services", message="lost", service="api", appid=WX1)
    assert str(problem) == f"services api {WX1}: lost"


def test_time_and_number_are_no_content() -> None:
    """Two events with the same content are equal."""
    event = StepDone("a", "ready", "e")
    assert event == attrs.evolve(event, sequence=7, at=datetime(2026, 1, 1, tzinfo=UTC))
    assert isinstance(event, StepDone)
    assert not isinstance(event, TenantFinished)
    assert wxtcb.provision.StopReason("cancelled") is StopReason.CANCELLED
