"""What keeps a run from doing harm: stops, stale plans, journals that refuse, steps that break their word."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import attrs
import pytest

from wxtcb.errors import BadReply, OutcomeUnknown
from wxtcb.provision import STEPS as USUAL
from wxtcb.provision import Action, JournalError, MemoryJournal, Outcome, Provisioner, Step, Tenant, TenantRecord
from wxtcb.provision.context import StepContext
from wxtcb.provision.events import RunStopped, StepDone
from wxtcb.provision.journal import HistoryEntry, Intent, JournalConflict
from wxtcb.provision.step import PendingWait, StepResult
from wxtcb.provision.tenant_state import TenantState
from wxtcb.sandbox import Fault, FaultKind, ReadyPolicy, Sandbox

from .conftest import Rig, Rigging
from .constants import API, CREATE, ESTABLISH, LIST, SHARE, WX1, WX2, plain, seen

pytestmark = pytest.mark.virtual_time


@pytest.mark.parametrize(("errcode", "options"), [(45009, {}), (40097, {"max_failures": 1})])
async def test_a_stop_sends_no_create_that_waits(
    box: Sandbox, rigging: Rigging, errcode: int, options: dict[str, int]
) -> None:
    """Of 16 that wait for one connection, those behind the one that stopped the run are not sent."""
    box.faults.script(CREATE, [Fault(FaultKind.ERRCODE, errcode=errcode)])
    async with rigging.session(box, connections=1) as session, Provisioner(session, **options) as provisioner:
        report = await provisioner.apply(plain(50)).wait()
    assert (box.count(CREATE), len(box.world.environments)) == (1, 0)
    assert report.counts[Outcome.UNFINISHED] >= 49


async def test_a_stop_lets_looks_conclude_what_is_in_doubt(rig: Rig) -> None:
    """What was opened is found and finished after the quota was used up; what was not is unfinished."""
    rig.box.faults.script(
        CREATE, [Fault(FaultKind.DROP_AFTER), Fault(FaultKind.DROP), Fault(FaultKind.ERRCODE, errcode=45009)]
    )
    tenants = [Tenant(name, alias=name, services=[API]) for name in "abc"]
    report = await rig.provision(tenants, concurrency=1)
    assert [entry.outcome for entry in report.tenants] == [Outcome.DONE, Outcome.UNFINISHED, Outcome.UNFINISHED]
    assert (rig.box.count(CREATE), rig.box.count(ESTABLISH)) == (3, 1)


async def test_leaving_the_block_stops_all_runs_at_once(rig: Rig) -> None:
    """One does not go on while another is given its time."""
    rig.box.faults.slow(20, path=CREATE)
    async with rig.provisioner(concurrency=2) as provisioner:
        for first in (0, 50):
            provisioner.apply(plain(100)[first : first + 50])
        await seen(rig.box, CREATE, 4)
    assert rig.box.count(CREATE) == 4


async def test_a_list_that_takes_long_is_as_fresh_as_can_be(rig: Rig) -> None:
    """Where no look is answered within 5 seconds, creates follow the newest there is."""
    rig.box.faults.slow(6, path=LIST)
    report = await rig.provision(plain(20), concurrency=4)
    assert (report.all_done, rig.box.count(CREATE)) == (True, 20)


async def test_one_alias_belongs_to_one_tenant_of_a_journal(rig: Rig) -> None:
    """Whatever two runs make of it: the journal takes the first, and one environment is opened."""
    journal = MemoryJournal()
    rig.box.faults.script(CREATE, [Fault(FaultKind.BUSY)])
    both = ([Tenant(name, alias=alias)] for name, alias in (("a", "xy"), ("b", "xY")))
    reports = await asyncio.gather(*(rig.provision(tenants, journal=journal) for tenants in both))
    errors = [problem.error for report in reports for entry in report.tenants for problem in entry.problems]
    assert [type(error) for error in errors] == [JournalConflict]
    assert len(rig.box.world.environments) == 1


async def test_one_environment_belongs_to_one_tenant_of_a_journal(rig: Rig) -> None:
    """A second adoption of it is refused when it is carried out, if not before."""
    env = rig.box.world.add("x")
    async with rig.provisioner() as provisioner:
        first = await provisioner.plan([Tenant("a", alias="x")], adopt={"a": env})
        second = await provisioner.plan([Tenant("b", alias="x")], adopt={"b": env})
        assert (await provisioner.apply(first).wait()).all_done
        entry = (await provisioner.apply(second).wait()).tenants[0]
    assert (entry.outcome, entry.env) == (Outcome.FAILED, None)


async def test_an_adoption_takes_the_place_of_what_was_bound(rig: Rig) -> None:
    """Nothing that was done in the old environment counts for the new one."""
    tenant = Tenant("a", alias="x", appids=[WX1], services=[API])
    async with rig.provisioner() as provisioner:
        old = (await provisioner.apply([tenant]).wait()).tenants[0]
        rig.box.world.remove(old.env)
        new = rig.box.world.add("x")
        plan = await provisioner.plan([tenant], adopt={"a": new})
        entry = (await provisioner.apply(plan).wait()).tenants[0]
        again = await provisioner.plan([tenant], adopt={"a": new})
    assert (entry.outcome, entry.env) == (Outcome.AWAITING, new)
    assert {(new, "api"), (old.env, "api")} == set(rig.box.world.services)
    assert (again.tenants[0].action, again.has_changes) == (Action.READY, False)


async def test_an_adoption_ends_what_was_in_doubt(rig: Rig) -> None:
    """A person has looked, and chosen one of two."""
    rig.box.faults.script(CREATE, [Fault(FaultKind.BUSY_AFTER)])
    async with rig.provisioner(settle=10) as provisioner:
        run = provisioner.apply([Tenant("a", alias="x")])
        await seen(rig.box, CREATE)
        mine = next(iter(rig.box.world.environments))
        rig.box.world.add("x")
        assert (await run.wait()).tenants[0].outcome is Outcome.DUPLICATE
        plan = await provisioner.plan([Tenant("a", alias="x")], adopt={"a": mine})
        report = await provisioner.apply(plan).wait()
    assert (report.all_done, report.tenants[0].env) == (True, mine)


async def test_a_plan_that_is_old_is_made_anew(rig: Rig) -> None:
    """What was ready an hour ago, and was removed since, is not called done."""
    async with rig.provisioner() as provisioner:
        first = await provisioner.apply(plain(1)).wait()
        plan = await provisioner.plan(plain(1))
        await asyncio.sleep(3600)
        rig.box.world.remove(first.tenants[0].env)
        report = await provisioner.apply(plan).wait()
    assert (report.tenants[0].outcome, rig.box.count(CREATE)) == (Outcome.CONFLICT, 1)


async def test_a_plan_made_anew_opens_nothing_more(rig: Rig) -> None:
    """Where another environment was in the way and is gone, the plan did not say to open one."""
    env = rig.box.world.add("a0")
    async with rig.provisioner() as provisioner:
        plan = await provisioner.plan(plain(2))
        await asyncio.sleep(60)
        rig.box.world.remove(env)
        report = await provisioner.apply(plan).wait()
    assert [entry.outcome for entry in report.tenants] == [Outcome.CONFLICT, Outcome.DONE]
    assert report.tenants[0].reason.startswith("the plan was conflict, but now there is no such environment")
    assert rig.box.count(CREATE) == 1


async def test_an_adoption_that_became_impossible_stops_the_run(rig: Rig) -> None:
    """The environment was removed between plan and apply."""
    env = rig.box.world.add("x")
    async with rig.provisioner() as provisioner:
        plan = await provisioner.plan([Tenant("a", alias="x")], adopt={"a": env})
        await asyncio.sleep(60)
        rig.box.world.remove(env)
        report = await provisioner.apply(plan).wait()
    assert "the platform lists no such environment" in (report.stop_reason or "")


async def test_what_is_there_is_found_though_another_is_missing(rig: Rig) -> None:
    """Only absence needs a list that shows all that is known."""
    async with rig.provisioner() as provisioner:
        first = await provisioner.apply(plain(1)).wait()
        rig.box.faults.script(CREATE, [Fault(FaultKind.BUSY_AFTER)])
        run = provisioner.apply([Tenant("b", alias="b")])
        await seen(rig.box, CREATE, 2)
        rig.box.world.remove(first.tenants[0].env)
        report = await run.wait()
    assert report.all_done


@pytest.mark.unmeasured
async def test_the_creates_of_earlier_runs_do_not_count(rig: Rig) -> None:
    """A tenant whose creates were cut off three times gets its three again."""
    rig.box.faults.script(CREATE, [Fault(FaultKind.DROP)] * 3)
    async with rig.provisioner() as provisioner:
        for sent in (1, 2, 3):
            run = provisioner.apply(plain(1))
            await seen(rig.box, CREATE, sent)
            await asyncio.sleep(0.01)
            await run.cancel()
        report = await provisioner.apply(plain(1)).wait()
    assert (report.all_done, rig.box.count(CREATE)) == (True, 4)


async def test_a_clock_that_was_ahead_holds_nobody_for_long(rig: Rig) -> None:
    """The wall clock lengthens the wait for a create of another process, but not for ever."""
    journal = MemoryJournal()
    async with rig.provisioner(journal=journal) as provisioner:
        run = provisioner.apply(plain(1))
        await seen(rig.box, CREATE)
        await run.wait()
    (record,) = (await journal.load([plain(1)[0].name])).values()
    ahead = attrs.evolve(record, env=None, intent=Intent(deadline=1e12), version=record.version + 1)
    assert await journal.commit(ahead, HistoryEntry(0.0, "noted"))
    report = await rig.provision(plain(1), journal=journal)
    assert (report.all_done, report.elapsed < 120) == (True, True)


class _Failing(MemoryJournal):
    """Fails to keep what a test says it fails to keep."""

    fails = staticmethod(lambda _record: False)
    slow = 0.0

    async def commit(self, record, moment, giver=None):
        if record.env and self.slow:
            await asyncio.sleep(self.slow)
        if self.fails(record):
            raise OSError(28, "No space left on device")
        return await super().commit(record, moment, giver)


async def test_a_journal_that_fails_ends_the_run(rig: Rig) -> None:
    """Nothing is created without an intent, and nothing more is sent for anybody."""
    journal = _Failing()
    journal.fails = lambda record: record.tenant == "b" and record.intent is not None
    report = await rig.provision([Tenant(name, alias=name) for name in "abc"], journal=journal, concurrency=1)
    assert [entry.outcome for entry in report.tenants] == [Outcome.UNFINISHED, Outcome.FAILED, Outcome.UNFINISHED]
    error = report.tenants[1].problems[0].error
    assert isinstance(error, JournalError)
    assert "No space left on device" in str(error)
    assert "No space left on device" in str(report.stop_reason)
    assert rig.box.count(CREATE) == 1


async def test_what_was_opened_is_told_though_the_journal_cannot_keep_it(rig: Rig) -> None:
    """Environment and order number stand in the report, and the next run finds it by the intent."""
    journal = _Failing()
    journal.fails = lambda record: record.env is not None
    report = await rig.provision(plain(1), journal=journal)
    (env,) = rig.box.world.environments
    entry = report.tenants[0]
    assert (entry.outcome, entry.env, bool(entry.tranid)) == (Outcome.FAILED, env, True)
    journal.fails = lambda _record: False
    again = await rig.provision(plain(1), journal=journal)
    assert (again.all_done, again.tenants[0].env, rig.box.count(CREATE)) == (True, env, 1)


async def test_an_environment_is_kept_though_its_run_is_cut_off(rig: Rig) -> None:
    """The answer had come, and the journal is given its second."""
    journal = _Failing()
    journal.slow = 0.5
    async with rig.provisioner(journal=journal) as provisioner:
        run = provisioner.apply(plain(1))
        await seen(rig.box, CREATE)
        await asyncio.sleep(0.1)
        await run.cancel(grace=0)
    assert list(await journal.bindings()) == list(rig.box.world.environments)
    assert run.report.tenants[0].env in rig.box.world.environments


async def test_an_answer_to_a_share_is_each_tenants_own(rig: Rig) -> None:
    """A journal that does not keep one of a batch loses no other's link."""
    journal = _Failing()
    journal.fails = lambda record: record.tenant == "b" and bool(record.links)
    rig.box.world.ready_after = ReadyPolicy.after_seconds(9)
    tenants = [Tenant(name, alias=name, appids=[f"wx{number:016}"]) for number, name in enumerate("abc")]
    report = await rig.provision(tenants, journal=journal, concurrency=1)
    assert [entry.outcome for entry in report.tenants] == [Outcome.AWAITING, Outcome.FAILED, Outcome.AWAITING]
    assert rig.box.count(SHARE) == 1


@pytest.mark.parametrize(("errcode", "calls"), [(45009, 1), (48001, 1), (40097, 4)])
async def test_a_batch_is_taken_apart_only_if_one_may_be_to_blame(rig: Rig, errcode: int, calls: int) -> None:
    """A quota or a right that is lacking would meet each of them again."""
    rig.box.faults.errcode(errcode, path=SHARE)
    rig.box.world.ready_after = ReadyPolicy.after_seconds(9)
    tenants = [Tenant(name, alias=name, appids=[f"wx{number:016}"]) for number, name in enumerate("abc")]
    report = await rig.provision(tenants, concurrency=1)
    assert (report.counts[Outcome.FAILED], rig.box.count(SHARE)) == (3, calls)


async def test_a_share_that_a_cancel_held_back_is_unfinished(rig: Rig) -> None:
    """It has not failed."""
    rig.box.faults.script(SHARE, [Fault(FaultKind.EXPIRE_TOKEN)])
    rig.box.faults.slow(5, path="/cgi-bin/component/api_component_token")
    async with rig.provisioner() as provisioner:
        run = provisioner.apply([Tenant("a", alias="x", appids=[WX1])])
        await seen(rig.box, SHARE)
        await asyncio.sleep(0.1)
        await run.cancel()
    assert (run.report.tenants[0].outcome, run.report.tenants[0].step) == (Outcome.UNFINISHED, "share")


async def test_a_service_held_back_after_a_doubt_tells_the_doubt(rig: Rig) -> None:
    """That nothing was sent a second time says nothing of the first."""
    rig.box.faults.script(ESTABLISH, [Fault(FaultKind.DROP), Fault(FaultKind.EXPIRE_TOKEN)])
    rig.box.faults.slow(5, path="/cgi-bin/component/api_component_token")
    async with rig.provisioner() as provisioner:
        run = provisioner.apply([Tenant("a", alias="x", services=[API])])
        await seen(rig.box, ESTABLISH, 2)
        await asyncio.sleep(0.1)
        await run.cancel()
    problem = run.report.tenants[0].problems[0]
    assert (run.report.tenants[0].outcome, type(problem.error)) == (Outcome.UNKNOWN, OutcomeUnknown)


async def test_links_stay_good_until_there_are_others(rig: Rig) -> None:
    """One that could not be had again is kept; those of mini programs that are wanted no more are not told."""
    tenant = Tenant("a", alias="x", appids=[WX1, WX2])
    async with rig.provisioner() as provisioner:
        first = (await provisioner.apply([tenant]).wait()).tenants[0]
        rig.box.world.is_authorised = lambda appid: appid != WX2
        plan = await provisioner.plan([tenant], resend_links=True)
        second = (await provisioner.apply(plan).wait()).tenants[0]
        third = (await provisioner.apply([Tenant("a", alias="x")]).wait()).tenants[0]
    assert second.links[0] != first.links[0]
    assert second.links[1] == first.links[1]
    assert (third.outcome, third.links) == (Outcome.DONE, ())


async def test_a_quota_used_up_by_looks_says_when_to_come_back(rig: Rig) -> None:
    """Before the plan nobody is started; later the creates are stopped."""
    rig.box.faults.errcode(45009, path=LIST)
    before = await rig.provision(plain(1))
    rig.box.faults.clear()
    rig.box.faults.script(LIST, [None, *[Fault(FaultKind.ERRCODE, errcode=45009)] * 2])
    later = await rig.provision(plain(1))
    assert before.retry_after is not None
    assert later.retry_after is not None
    assert later.all_done


async def test_conflicts_are_no_failures(rig: Rig) -> None:
    """They were planned, and do not use up max_failures."""
    for number in range(2):
        rig.box.world.add(f"a{number}")
    report = await rig.provision(plain(4), max_failures=2, concurrency=1)
    assert (report.counts[Outcome.CONFLICT], report.counts[Outcome.DONE]) == (2, 2)


async def test_errors_are_kept_without_their_frames(rig: Rig) -> None:
    """Ten thousand of them would hold ten thousand calls."""
    rig.box.faults.drop(path=CREATE)
    entry = (await rig.provision(plain(1), timeout=5)).tenants[0]
    error = entry.problems[0].error
    assert isinstance(error, OutcomeUnknown)
    assert (error.__traceback__, error.cause.__traceback__) == (None, None)


async def test_a_listener_who_leaves_keeps_nothing(rig: Rig) -> None:
    """What happens afterwards is not kept for him."""
    async with rig.provisioner() as provisioner:
        run = provisioner.apply(plain(3))
        events = run.events()
        async for _ in events:
            break
        await events.aclose()
        await run.wait()
    assert not run._event_stream._queues


async def test_a_failure_that_nobody_waited_for_is_raised_at_the_end(rig: Rig) -> None:
    """Who only listens hears of a bug as well."""

    async def broken(_site: StepContext, _works: Sequence[TenantState]) -> StepResult:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await rig.told(plain(1), steps=[attrs.evolve(USUAL[0], run=broken)])


class _Judge:
    """Waits for a look, and then does not know."""

    due_at = 0.0

    def evaluate(self, _snapshot: object) -> StepResult:
        raise BadReply("of no use", endpoint="/x", status=200)

    def check_timeout(self, _now: float) -> None:
        """Wait on."""


def step(move: StepResult, waiting: PendingWait | None = None) -> Step:
    """Return a step that ends so, whatever it is asked for."""

    async def take(_site: StepContext, works: Sequence[TenantState]) -> StepResult:
        works[0].pending_wait = waiting
        return move

    def wants(_tenant: Tenant, _record: TenantRecord, _status: str | None) -> bool:
        return True

    return Step(name="mine", title="mine", is_needed=wants, run=take)


@pytest.mark.parametrize("move", [StepResult.END, StepResult.WAIT, None])
async def test_a_step_that_gives_no_reason_is_a_bug(rig: Rig, move: StepResult) -> None:
    """Its tenant is not called done."""
    async with rig.provisioner(steps=[*USUAL, step(move)]) as provisioner:
        run = provisioner.apply(plain(1))
        with pytest.raises(ExceptionGroup) as caught:
            await run.wait()
    assert "step mine ended with" in str(caught.value.exceptions[0])
    assert run.report.tenants[0].outcome is Outcome.UNFINISHED


async def test_what_waits_may_fail(rig: Rig) -> None:
    """It costs its own tenant only."""
    report = await rig.provision(plain(1), steps=[*USUAL, step(StepResult.WAIT, _Judge())])
    assert (report.tenants[0].outcome, report.tenants[0].problems[0].step) == (Outcome.FAILED, "mine")


async def test_the_same_step_again_lets_others_run(rig: Rig) -> None:
    """A step that never ends holds neither the loop nor a cancel."""
    async with rig.provisioner(steps=[*USUAL, step(StepResult.RETRY)]) as provisioner:
        run = provisioner.apply(plain(1))
        told = [event async for event in _until_ready(run.events())]
        await run.cancel()
    assert told
    assert run.report.tenants[0].outcome is Outcome.UNFINISHED


async def _until_ready(events):
    async for event in events:
        yield event
        if isinstance(event, StepDone | RunStopped) and getattr(event, "step", "") == "ready":
            return


async def test_an_alias_taken_while_the_run_goes_on_is_a_conflict(rig: Rig) -> None:
    """The look right before the create sees it, and nothing is created."""
    rig.wire.latency = 2.0
    async with rig.provisioner(concurrency=1) as provisioner:
        run = provisioner.apply(plain(9))
        await seen(rig.box, CREATE)
        env = rig.box.world.add("A8")
        entry = (await run.wait()).tenants[8]
    assert (entry.outcome, entry.existing, rig.box.count(CREATE)) == (Outcome.CONFLICT, (env,), 8)


class _Slow(MemoryJournal):
    """Takes longer to keep an intent than a look stays fresh, always."""

    async def commit(self, record, moment, giver=None):
        await asyncio.sleep(6 if record.intent else 0)
        return await super().commit(record, moment, giver)


async def test_a_journal_that_is_too_slow_is_told(rig: Rig) -> None:
    """No create would follow a look in time, so after three tries the tenant has failed, and nothing was sent."""
    entry = (await rig.provision(plain(1), journal=_Slow())).tenants[0]
    assert (entry.outcome, rig.box.count(CREATE)) == (Outcome.FAILED, 0)
    assert "storing an intent" in entry.summary


async def test_an_error_of_the_journals_own_is_told_as_it_is(rig: Rig) -> None:
    """A journal that knows what is wrong says so."""
    journal = _Failing()

    def fail(record: TenantRecord) -> bool:
        raise JournalError(f"the journal is of another version than {record.version}")

    journal.fails = fail
    entry = (await rig.provision(plain(1), journal=journal)).tenants[0]
    assert entry.summary == "environment: the journal is of another version than 1"


async def test_links_that_were_never_given_can_be_asked_for_again(rig: Rig) -> None:
    """For a tenant that is new, resend_links means nothing."""
    async with rig.provisioner() as provisioner:
        plan = await provisioner.plan([Tenant("a", alias="x", appids=[WX1])], resend_links=True)
        assert (await provisioner.apply(plan).wait()).all_done
