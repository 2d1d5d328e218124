"""Safeguards of a run: stops, old plans, failing journals and faulty steps."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable

import attrs
import pytest

from wxtcb.errors import BadReply, OutcomeUnknown
from wxtcb.provision import (
    STEPS,
    Action,
    JournalError,
    MemoryJournal,
    Outcome,
    Provisioner,
    Step,
    Tenant,
    TenantRecord,
)
from wxtcb.provision.context import StepContext
from wxtcb.provision.record import HistoryEntry, Intent
from wxtcb.sandbox import Fault, FaultKind, ReadyPolicy, Sandbox

from .conftest import Harness, SessionFactory
from .constants import API, CREATE, ESTABLISH, LIST, SHARE, WX1, WX2, plain_tenants, wait_for_requests

pytestmark = pytest.mark.virtual_time


@pytest.mark.parametrize(("errcode", "options"), [(45009, {}), (40097, {"max_failures": 1})])
async def test_stop_withdraws_queued_creates(
    sandbox: Sandbox, session_factory: SessionFactory, errcode: int, options: dict[str, int]
) -> None:
    """Of 16 that wait for one connection, those behind the failed one are not sent."""
    sandbox.faults.script(CREATE, [Fault(FaultKind.ERRCODE, errcode=errcode)])
    async with (
        session_factory.session(sandbox, connections=1) as session,
        Provisioner(session, **options) as provisioner,
    ):
        report = await provisioner.apply(plain_tenants(50)).wait()
    assert (sandbox.count(CREATE), len(sandbox.world.environments)) == (1, 0)
    assert report.counts[Outcome.UNFINISHED] >= 49


async def test_stop_still_checks_ambiguous_creates(harness: Harness) -> None:
    """An environment that was created is found and finished; other tenants are unfinished."""
    harness.sandbox.faults.script(
        CREATE, [Fault(FaultKind.DROP_AFTER), Fault(FaultKind.DROP), Fault(FaultKind.ERRCODE, errcode=45009)]
    )
    tenants = [Tenant(name, alias=name, services=[API]) for name in "abc"]
    report = await harness.provision(tenants, concurrency=1)
    assert [entry.outcome for entry in report.tenants] == [Outcome.DONE, Outcome.UNFINISHED, Outcome.UNFINISHED]
    assert (harness.sandbox.count(CREATE), harness.sandbox.count(ESTABLISH)) == (3, 1)


async def test_leaving_the_block_stops_all_runs_together(harness: Harness) -> None:
    """No run sends creates while another uses its grace period."""
    harness.sandbox.faults.slow(20, path=CREATE)
    async with harness.provisioner(concurrency=2) as provisioner:
        for first in (0, 50):
            provisioner.apply(plain_tenants(100)[first : first + 50])
        await wait_for_requests(harness.sandbox, CREATE, 4)
    assert harness.sandbox.count(CREATE) == 4


async def test_slow_list_extends_the_age_limit(harness: Harness) -> None:
    """If no list is answered within 5 seconds, creates follow the newest one."""
    harness.sandbox.faults.slow(6, path=LIST)
    report = await harness.provision(plain_tenants(20), concurrency=4)
    assert (report.all_done, harness.sandbox.count(CREATE)) == (True, 20)


async def test_journal_gives_an_alias_to_one_tenant(harness: Harness) -> None:
    """Of two concurrent runs, the first commit wins, and one environment is created."""
    journal = MemoryJournal()
    harness.sandbox.faults.script(CREATE, [Fault(FaultKind.BUSY)])
    both = ([Tenant(name, alias=alias)] for name, alias in (("a", "xy"), ("b", "xY")))
    reports = await asyncio.gather(*(harness.provision(tenants, journal=journal) for tenants in both))
    outcomes = sorted(entry.outcome.value for report in reports for entry in report.tenants)
    assert outcomes == ["conflict", "done"]
    assert len(harness.sandbox.world.environments) == 1


async def test_journal_gives_an_environment_to_one_tenant(harness: Harness) -> None:
    """A second adoption is a conflict when it is applied."""
    env = harness.sandbox.world.add("x")
    async with harness.provisioner() as provisioner:
        first = await provisioner.plan([Tenant("a", alias="x")], adopt={"a": env})
        second = await provisioner.plan([Tenant("b", alias="x")], adopt={"b": env})
        assert (await provisioner.apply(first).wait()).all_done
        entry = (await provisioner.apply(second).wait()).tenants[0]
    assert (entry.outcome, entry.env) == (Outcome.CONFLICT, None)


async def test_adoption_replaces_the_previous_environment(harness: Harness) -> None:
    """No step of the previous environment counts for the new one."""
    tenant = Tenant("a", alias="x", appids=[WX1], services=[API])
    async with harness.provisioner() as provisioner:
        old = (await provisioner.apply([tenant]).wait()).tenants[0]
        harness.sandbox.world.remove(old.env)
        new = harness.sandbox.world.add("x")
        plan = await provisioner.plan([tenant], adopt={"a": new})
        entry = (await provisioner.apply(plan).wait()).tenants[0]
        again = await provisioner.plan([tenant], adopt={"a": new})
    assert (entry.outcome, entry.env) == (Outcome.AWAITING, new)
    assert {(new, "api"), (old.env, "api")} == set(harness.sandbox.world.services)
    assert (again.tenants[0].action, again.has_changes) == (Action.READY, False)


async def test_adoption_resolves_an_ambiguous_create(harness: Harness) -> None:
    """The operator has chosen one of two environments."""
    harness.sandbox.faults.script(CREATE, [Fault(FaultKind.BUSY_AFTER)])
    async with harness.provisioner(settle=10) as provisioner:
        run = provisioner.apply([Tenant("a", alias="x")])
        await wait_for_requests(harness.sandbox, CREATE)
        mine = next(iter(harness.sandbox.world.environments))
        harness.sandbox.world.add("x")
        assert (await run.wait()).tenants[0].outcome is Outcome.DUPLICATE
        plan = await provisioner.plan([Tenant("a", alias="x")], adopt={"a": mine})
        report = await provisioner.apply(plan).wait()
    assert (report.all_done, report.tenants[0].env) == (True, mine)


async def test_old_plan_is_renewed(harness: Harness) -> None:
    """An environment that was deleted since is not reported as done."""
    async with harness.provisioner() as provisioner:
        first = await provisioner.apply(plain_tenants(1)).wait()
        plan = await provisioner.plan(plain_tenants(1))
        await asyncio.sleep(3600)
        harness.sandbox.world.remove(first.tenants[0].env)
        report = await provisioner.apply(plan).wait()
    assert (report.tenants[0].outcome, harness.sandbox.count(CREATE)) == (Outcome.CONFLICT, 1)


async def test_renewed_plan_creates_no_additional_environment(harness: Harness) -> None:
    """If a blocking environment was deleted since, the approved plan did not create one."""
    env = harness.sandbox.world.add("a0")
    async with harness.provisioner() as provisioner:
        plan = await provisioner.plan(plain_tenants(2))
        await asyncio.sleep(60)
        harness.sandbox.world.remove(env)
        report = await provisioner.apply(plan).wait()
    assert [entry.outcome for entry in report.tenants] == [Outcome.CONFLICT, Outcome.DONE]
    assert report.tenants[0].reason.startswith("the plan was conflict, but its environment no longer exists")
    assert harness.sandbox.count(CREATE) == 1


async def test_adoption_of_a_deleted_environment_stops_the_run(harness: Harness) -> None:
    """It was deleted between plan and apply."""
    env = harness.sandbox.world.add("x")
    async with harness.provisioner() as provisioner:
        plan = await provisioner.plan([Tenant("a", alias="x")], adopt={"a": env})
        await asyncio.sleep(60)
        harness.sandbox.world.remove(env)
        report = await provisioner.apply(plan).wait()
    assert "the platform lists no such environment" in report.stop_message


async def test_listed_environment_is_found_in_an_incomplete_list(harness: Harness) -> None:
    """Only absence needs a complete list."""
    async with harness.provisioner() as provisioner:
        first = await provisioner.apply(plain_tenants(1)).wait()
        harness.sandbox.faults.script(CREATE, [Fault(FaultKind.BUSY_AFTER)])
        run = provisioner.apply([Tenant("b", alias="b")])
        await wait_for_requests(harness.sandbox, CREATE, 2)
        harness.sandbox.world.remove(first.tenants[0].env)
        report = await run.wait()
    assert report.all_done


@pytest.mark.unmeasured
async def test_three_creates_are_sent_between_two_decisions(harness: Harness) -> None:
    """A tenant whose creates were cut off three times gets no other one, in any run, until an operator allows it."""
    harness.sandbox.faults.script(CREATE, [Fault(FaultKind.DROP)] * 3)
    async with harness.provisioner() as provisioner:
        for sent in (1, 2, 3):
            run = provisioner.apply(plain_tenants(1))
            await wait_for_requests(harness.sandbox, CREATE, sent)
            await asyncio.sleep(0.01)
            await run.cancel()
        for reason in ("none of 3 creates took effect", "until you decide"):
            report = await provisioner.apply(plain_tenants(1)).wait()
            assert report.tenants[0].outcome is Outcome.FAILED
            assert reason in report.tenants[0].summary
        plan = await provisioner.plan(plain_tenants(1), retry=[plain_tenants(1)[0].name])
        assert (await provisioner.apply(plan).wait()).all_done
    assert harness.sandbox.count(CREATE) == 4


async def test_deadline_far_in_the_future_does_not_block(harness: Harness) -> None:
    """The wall clock lengthens the wait for a create of another process, within a limit."""
    journal = MemoryJournal()
    async with harness.provisioner(journal=journal) as provisioner:
        run = provisioner.apply(plain_tenants(1))
        await wait_for_requests(harness.sandbox, CREATE)
        await run.wait()
    (record,) = (await journal.load([plain_tenants(1)[0].name])).values()
    ahead = attrs.evolve(record, env=None, intent=Intent(deadline=1e12), version=record.version + 1)
    assert await journal.commit(ahead, HistoryEntry(0.0, "test"))
    report = await harness.provision(plain_tenants(1), journal=journal)
    assert (report.all_done, report.elapsed < 120) == (True, True)


class _FailingJournal(MemoryJournal):
    """Journal whose `fails` decides which commits fail."""

    fails = staticmethod(lambda _record: False)
    slow = 0.0

    async def commit(self, record, entry, previous_owner=None, *, epoch=None):
        if record.env and self.slow:
            await asyncio.sleep(self.slow)
        if self.fails(record):
            raise OSError(28, "No space left on device")
        return await super().commit(record, entry, previous_owner, epoch=epoch)


async def test_journal_error_stops_the_run(harness: Harness) -> None:
    """No create is sent without an intent, and no other request either."""
    journal = _FailingJournal()
    journal.fails = lambda record: record.tenant == "b" and record.intent is not None
    report = await harness.provision([Tenant(name, alias=name) for name in "abc"], journal=journal, concurrency=1)
    assert [entry.outcome for entry in report.tenants] == [Outcome.UNFINISHED, Outcome.FAILED, Outcome.UNFINISHED]
    error = report.tenants[1].problems[0].error
    assert isinstance(error, JournalError)
    assert "OSError" in report.stop_message
    assert harness.sandbox.count(CREATE) == 1


async def test_message_of_a_custom_journal_is_only_in_the_cause(harness: Harness) -> None:
    """It may hold a secret, such as the password of a database."""
    journal = _FailingJournal()
    journal.fails = lambda _record: True
    report = await harness.provision(plain_tenants(1), journal=journal)
    error = report.tenants[0].problems[0].error
    assert "No space" in str(error and error.__cause__)
    assert b"No space" not in report.to_json()


async def test_environment_is_reported_although_the_journal_fails(harness: Harness) -> None:
    """The next run finds it by its intent."""
    journal = _FailingJournal()
    journal.fails = lambda record: record.env is not None
    report = await harness.provision(plain_tenants(1), journal=journal)
    (env,) = harness.sandbox.world.environments
    entry = report.tenants[0]
    assert (entry.outcome, entry.env, bool(entry.tranid)) == (Outcome.FAILED, env, True)
    journal.fails = lambda _record: False
    again = await harness.provision(plain_tenants(1), journal=journal)
    assert (again.all_done, again.tenants[0].env, harness.sandbox.count(CREATE)) == (True, env, 1)


async def test_environment_is_committed_although_the_run_is_cancelled(harness: Harness) -> None:
    """The response had arrived, and the commit is completed."""
    journal = _FailingJournal()
    journal.slow = 0.5
    async with harness.provisioner(journal=journal) as provisioner:
        run = provisioner.apply(plain_tenants(1))
        await wait_for_requests(harness.sandbox, CREATE)
        await asyncio.sleep(0.1)
        await run.cancel(grace=0)
    assert list(await journal.bindings(0.0)) == list(harness.sandbox.world.environments)
    assert run.report.tenants[0].env in harness.sandbox.world.environments


async def test_journal_error_in_a_share_batch_affects_one_tenant(harness: Harness) -> None:
    """The links of the others are stored."""
    journal = _FailingJournal()
    journal.fails = lambda record: record.tenant == "b" and bool(record.links)
    harness.sandbox.world.ready_after = ReadyPolicy.after_seconds(9)
    tenants = [Tenant(name, alias=name, appids=[f"wx{number:016}"]) for number, name in enumerate("abc")]
    report = await harness.provision(tenants, journal=journal, concurrency=1)
    assert [entry.outcome for entry in report.tenants[:2]] == [Outcome.AWAITING, Outcome.FAILED]
    records = await journal.load()
    assert [name for name, record in records.items() if record.links] == ["a", "c"]
    assert harness.sandbox.count(SHARE) == 1


@pytest.mark.parametrize(("errcode", "calls"), [(45009, 1), (48001, 1), (40097, 4)])
async def test_share_batch_is_split_only_for_errors_of_one_tenant(harness: Harness, errcode: int, calls: int) -> None:
    """A quota or permission error would meet each tenant again."""
    harness.sandbox.faults.errcode(errcode, path=SHARE)
    harness.sandbox.world.ready_after = ReadyPolicy.after_seconds(9)
    tenants = [Tenant(name, alias=name, appids=[f"wx{number:016}"]) for number, name in enumerate("abc")]
    report = await harness.provision(tenants, concurrency=1)
    assert (report.counts[Outcome.FAILED], harness.sandbox.count(SHARE)) == (3, calls)


async def test_share_withdrawn_by_cancel_is_unfinished(harness: Harness) -> None:
    """It did not fail."""
    harness.sandbox.faults.script(SHARE, [Fault(FaultKind.EXPIRE_TOKEN)])
    harness.sandbox.faults.slow(5, path="/cgi-bin/component/api_component_token")
    async with harness.provisioner() as provisioner:
        run = provisioner.apply([Tenant("a", alias="x", appids=[WX1])])
        await wait_for_requests(harness.sandbox, SHARE)
        await asyncio.sleep(0.1)
        await run.cancel()
    assert (run.report.tenants[0].outcome, run.report.tenants[0].step) == (Outcome.UNFINISHED, "share")


async def test_service_withdrawn_after_ambiguous_request_is_unknown(harness: Harness) -> None:
    """Not sending it again does not settle the first request."""
    harness.sandbox.faults.script(ESTABLISH, [Fault(FaultKind.DROP), Fault(FaultKind.EXPIRE_TOKEN)])
    harness.sandbox.faults.slow(5, path="/cgi-bin/component/api_component_token")
    async with harness.provisioner() as provisioner:
        run = provisioner.apply([Tenant("a", alias="x", services=[API])])
        await wait_for_requests(harness.sandbox, ESTABLISH, 2)
        await asyncio.sleep(0.1)
        await run.cancel()
    problem = run.report.tenants[0].problems[0]
    assert (run.report.tenants[0].outcome, type(problem.error)) == (Outcome.UNKNOWN, OutcomeUnknown)


async def test_links_stay_until_they_are_replaced(harness: Harness) -> None:
    """A link that could not be replaced stays; links of removed mini programs are not reported."""
    tenant = Tenant("a", alias="x", appids=[WX1, WX2])
    async with harness.provisioner() as provisioner:
        first = (await provisioner.apply([tenant]).wait()).tenants[0]
        harness.sandbox.world.is_authorised = lambda appid: appid != WX2
        plan = await provisioner.plan([tenant], resend_links=True)
        second = (await provisioner.apply(plan).wait()).tenants[0]
        third = (await provisioner.apply([Tenant("a", alias="x")]).wait()).tenants[0]
    assert second.links[0] != first.links[0]
    assert second.links[1] == first.links[1]
    assert (third.outcome, third.links) == (Outcome.DONE, ())


async def test_quota_exhausted_by_lists_has_a_retry_time(harness: Harness) -> None:
    """Before the plan no tenant is started; later creates stop."""
    harness.sandbox.faults.errcode(45009, path=LIST)
    before = await harness.provision(plain_tenants(1))
    harness.sandbox.faults.clear()
    harness.sandbox.faults.script(LIST, [None, *[Fault(FaultKind.ERRCODE, errcode=45009)] * 2])
    later = await harness.provision(plain_tenants(1))
    assert before.retry_after is not None
    assert later.retry_after is not None
    assert later.all_done


async def test_conflicts_do_not_count_as_failures(harness: Harness) -> None:
    """They do not use up max_failures."""
    for number in range(2):
        harness.sandbox.world.add(f"a{number}")
    report = await harness.provision(plain_tenants(4), max_failures=2, concurrency=1)
    assert (report.counts[Outcome.CONFLICT], report.counts[Outcome.DONE]) == (2, 2)


async def test_reported_errors_have_no_traceback(harness: Harness) -> None:
    """The frames of ten thousand errors would stay in memory."""
    harness.sandbox.faults.drop(path=CREATE)
    entry = (await harness.provision(plain_tenants(1), timeout=5)).tenants[0]
    error = entry.problems[0].error
    assert isinstance(error, OutcomeUnknown)
    assert (error.__traceback__, error.cause.__traceback__) == (None, None)


async def test_closed_event_iterator_buffers_nothing(harness: Harness) -> None:
    """Later events are not stored for it."""
    async with harness.provisioner() as provisioner:
        run = provisioner.apply(plain_tenants(3))
        events = run.events()
        async for _ in events:
            break
        await events.aclose()
        await run.wait()
    assert not run._event_stream._subscribers


async def test_unexpected_error_is_raised_at_the_end_of_the_block(harness: Harness) -> None:
    """A caller that only iterates over events gets it too."""

    async def broken(_context: StepContext) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await harness.collect_events(plain_tenants(1), steps=[attrs.evolve(STEPS[0], run=broken)])


class _FailingWait:
    """Wait whose evaluation fails."""

    due_at = 0.0

    def evaluate(self, _snapshot: object) -> bool:
        raise BadReply("not usable", endpoint="/x", status=200)

    def check_timeout(self, _now: float) -> bool:
        return False

    def describe(self, _now: float) -> tuple[str, float]:
        return "nothing", math.inf


class _BrokenWait(_FailingWait):
    def evaluate(self, _snapshot: object) -> bool:
        raise ZeroDivisionError("S3CRET")


def step(run: Callable[[StepContext], Awaitable[None]]) -> Step:
    """Return a step that every tenant needs."""

    def is_needed(_tenant: Tenant, _record: TenantRecord, _status: str | None) -> bool:
        return True

    return Step(name="mine", is_needed=is_needed, run=run)


async def test_failing_wait_affects_one_tenant(harness: Harness) -> None:
    """The tenant fails at that step."""
    mine = step(lambda context: context.wait(_FailingWait()))
    report = await harness.provision(plain_tenants(1), steps=[*STEPS, mine])
    assert (report.tenants[0].outcome, report.tenants[0].problems[0].step) == (Outcome.FAILED, "mine")


async def test_unexpected_exception_of_a_wait_fails_only_its_tenant(harness: Harness) -> None:
    """The tenants that do not wait are done; the report names the line, and the exception is raised at the end."""

    async def run_mine(context: StepContext) -> None:
        if context.tenant.name == "商户1":
            await context.wait(_BrokenWait())

    async with harness.provisioner(steps=[*STEPS, step(run_mine)]) as provisioner:
        run = provisioner.apply(plain_tenants(3))
        with pytest.raises(ZeroDivisionError):
            await run
    assert [entry.outcome for entry in run.report.tenants] == [Outcome.DONE, Outcome.FAILED, Outcome.DONE]
    assert f"ZeroDivisionError in {__file__}, line " in run.report.tenants[1].summary
    assert b"S3CRET" not in run.report.to_json()


async def test_alias_used_during_the_run_is_a_conflict(harness: Harness) -> None:
    """The list right before the create shows it, and no create is sent."""
    harness.wire.latency = 2.0
    async with harness.provisioner(concurrency=1) as provisioner:
        run = provisioner.apply(plain_tenants(9))
        await wait_for_requests(harness.sandbox, CREATE)
        env = harness.sandbox.world.add("A8")
        entry = (await run.wait()).tenants[8]
    assert (entry.outcome, entry.existing, harness.sandbox.count(CREATE)) == (Outcome.CONFLICT, (env,), 8)


class _SlowJournal(MemoryJournal):
    """Journal that commits an intent more slowly than a list expires."""

    async def commit(self, record, entry, previous_owner=None, *, epoch=None):
        await asyncio.sleep(6 if record.intent else 0)
        return await super().commit(record, entry, previous_owner, epoch=epoch)


async def test_slow_journal_fails_the_tenant(harness: Harness) -> None:
    """No create would follow a recent list, so the tenant fails after three attempts."""
    entry = (await harness.provision(plain_tenants(1), journal=_SlowJournal())).tenants[0]
    assert (entry.outcome, harness.sandbox.count(CREATE)) == (Outcome.FAILED, 0)
    assert "storing an intent" in entry.summary


async def test_journal_error_is_reported_unchanged(harness: Harness) -> None:
    """The journal knows the reason best."""
    journal = _FailingJournal()

    def fail(record: TenantRecord) -> bool:
        raise JournalError(f"the journal is of another version than {record.version}")

    journal.fails = fail
    entry = (await harness.provision(plain_tenants(1), journal=journal)).tenants[0]
    assert entry.summary == "environment: the journal is of another version than 1"


async def test_resend_links_of_a_new_tenant_has_no_effect(harness: Harness) -> None:
    """There is no link to replace."""
    async with harness.provisioner() as provisioner:
        plan = await provisioner.plan([Tenant("a", alias="x", appids=[WX1])], resend_links=True)
        assert (await provisioner.apply(plan).wait()).all_done
