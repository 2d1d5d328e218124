"""Calls that add something, when nobody knows whether they did."""

from __future__ import annotations

import asyncio

import pytest

import wxtcb
from wxtcb.provision import Journal, MemoryJournal, Outcome, Provisioner, Run, Tenant
from wxtcb.provision.events import StepDone, StepOutcomeUnknown, TenantFinished
from wxtcb.provision.journal import JournalConflict
from wxtcb.sandbox import Fault, FaultKind, Sandbox

from .conftest import Rig, Rigging
from .constants import API, CREATE, ENVIRONMENT, ESTABLISH, LIST, READY, SERVICES, TOKEN, WEB, WX1, plain, seen

pytestmark = pytest.mark.virtual_time

MINE = [Tenant("a", alias="x", services=[API, WEB])]


@pytest.mark.parametrize(
    ("trouble", "seconds"),
    [
        (FaultKind.BUSY_AFTER, 2),
        (FaultKind.SYSTEM_ERROR_AFTER, 2),
        (FaultKind.DROP_AFTER, 47),
        (FaultKind.HTTP_AFTER, 47),
        (FaultKind.TRUNCATE, 47),
        (FaultKind.EMPTY, 47),
    ],
)
async def test_a_create_that_acted_is_found_and_adopted(rig: Rig, trouble: FaultKind, seconds: float) -> None:
    """After the settle, and where no answer came after the deadline too; nothing is sent again meanwhile."""
    rig.box.faults.script(CREATE, [Fault(trouble)])
    told = await rig.told([Tenant("a", alias="x", appids=[WX1])])
    (doubt,) = (event for event in told if isinstance(event, StepOutcomeUnknown))
    assert (doubt.problem.step, doubt.problem.outcome_unknown) == (ENVIRONMENT, True)
    (entry,) = (event.report for event in told if isinstance(event, TenantFinished))
    assert (entry.outcome, entry.problems) == (Outcome.AWAITING, ())
    assert [entry.env] == list(rig.box.world.environments)
    assert rig.box.count(CREATE) == 1
    assert rig.box.seen[-1].at >= seconds


@pytest.mark.parametrize("trouble", [FaultKind.BUSY, FaultKind.DROP, FaultKind.HTTP, FaultKind.HANG])
async def test_a_create_that_did_not_act_is_sent_again_after_two_looks(rig: Rig, trouble: FaultKind) -> None:
    """Both are after the settle and show that nothing is there."""
    rig.box.faults.script(CREATE, [Fault(trouble)])
    report = await rig.provision([Tenant("a", alias="x")])
    assert report.all_done
    assert len(rig.box.world.environments) == 1
    first, second = (request.at for request in rig.box.seen if request.path == CREATE)
    assert sum(first + 2 <= request.at < second for request in rig.box.seen if request.path == LIST) >= 2


async def test_three_creates_without_a_clear_answer_are_enough(rig: Rig) -> None:
    """All three were looked for, so the tenant has failed, and nothing is there."""
    rig.box.faults.busy(path=CREATE)
    entry = (await rig.provision(plain(1))).tenants[0]
    assert (entry.outcome, rig.box.count(CREATE), len(rig.box.world.environments)) == (Outcome.FAILED, 3, 0)
    assert "none of 3 creates" in entry.summary


async def test_an_environment_that_shows_late_is_still_adopted(rig: Rig) -> None:
    """As long as the settle is longer than the platform hides what is new."""
    rig.box.world.visible_after = 20
    rig.box.faults.script(CREATE, [Fault(FaultKind.BUSY_AFTER)])
    report = await rig.provision(plain(1), settle=21)
    assert (report.all_done, len(rig.box.world.environments)) == (True, 1)


async def test_a_settle_that_is_too_short_opens_a_second_one(rig: Rig) -> None:
    """The control: it is the settle that protects, not luck."""
    rig.box.world.visible_after = 20
    rig.box.faults.script(CREATE, [Fault(FaultKind.BUSY_AFTER)])
    await rig.provision(plain(1), settle=2)
    assert len(rig.box.world.environments) == 2


async def test_two_that_appear_are_for_a_person(rig: Rig) -> None:
    """One of them may be somebody else's, so none is adopted."""
    rig.box.faults.script(CREATE, [Fault(FaultKind.BUSY_AFTER)])
    async with rig.provisioner(settle=10) as provisioner:
        run = provisioner.apply([Tenant("a", alias="x", appids=[WX1])])
        await seen(rig.box, CREATE)
        rig.box.world.add("X")
        entry = (await run.wait()).tenants[0]
    assert (entry.outcome, entry.env, len(entry.existing)) == (Outcome.DUPLICATE, None, 2)
    assert not rig.box.world.shares


async def test_one_that_belongs_to_another_tenant_is_a_conflict(rig: Rig) -> None:
    """The journal knows whose it is."""
    env = rig.box.world.add("other")
    rig.box.faults.script(CREATE, [Fault(FaultKind.BUSY)])
    async with rig.provisioner(settle=10) as provisioner:
        plan = await provisioner.plan([Tenant("b", alias="other"), Tenant("a", alias="x")], adopt={"b": env})
        run = provisioner.apply(plan)
        await seen(rig.box, CREATE)
        rig.box.world.environments[env]
        rig.box.world.remove(env)
        rig.box.world.add("x", env=env)
        entries = (await run.wait()).tenants
    assert (entries[1].outcome, entries[1].existing) == (Outcome.CONFLICT, (env,))
    assert rig.box.count(CREATE) == 1


async def test_a_list_that_is_not_whole_proves_nothing(rig: Rig) -> None:
    """An environment that the journal knows is missing, so the create stays unknown, and is not sent again."""
    async with rig.provisioner(timeout=30) as provisioner:
        first = await provisioner.apply(plain(1)).wait()
        rig.box.faults.script(CREATE, [Fault(FaultKind.BUSY)])
        run = provisioner.apply([Tenant("b", alias="b")])
        await seen(rig.box, CREATE, 2)
        rig.box.world.remove(first.tenants[0].env)
        report = await run.wait()
    entry = report.tenants[0]
    assert (entry.outcome, rig.box.count(CREATE)) == (Outcome.UNKNOWN, 2)
    assert "not proven" in entry.summary


async def test_looks_that_fail_prove_nothing(rig: Rig) -> None:
    """The create stays unknown when the time is up."""
    rig.box.faults.script(CREATE, [Fault(FaultKind.BUSY)])
    rig.box.faults.script(LIST, [None])
    rig.box.faults.errcode(40097, path=LIST)
    entry = (await rig.provision(plain(1), timeout=30)).tenants[0]
    assert (entry.outcome, rig.box.count(CREATE)) == (Outcome.UNKNOWN, 1)


async def test_a_hiccup_of_the_list_costs_the_proof_only_time(rig: Rig) -> None:
    """Of the looks that count two in a row must show all that is known."""
    journal = MemoryJournal()
    rig.box.faults.script(CREATE, [None, Fault(FaultKind.BUSY)])
    rig.box.faults.script(LIST, [None, None, None, Fault(FaultKind.INCOMPLETE_LIST)])
    report = await rig.provision(plain(2), concurrency=1, journal=journal)
    assert report.all_done
    assert (rig.box.count(CREATE), len(rig.box.world.environments)) == (3, 2)


async def cut_off(rig: Rig, provisioner: Provisioner) -> Run:
    """Begin a run, and cancel it a second after its create was sent."""
    run = provisioner.apply(plain(1))
    await seen(rig.box, CREATE)
    await asyncio.sleep(1)
    await run.cancel()
    return run


async def test_a_later_run_settles_what_an_earlier_one_left(rig: Rig) -> None:
    """The intent stands in the journal; the plan means to adopt, and the create is not sent again."""
    rig.box.faults.script(CREATE, [Fault(FaultKind.DROP_AFTER)])
    async with rig.provisioner() as provisioner:
        run = await cut_off(rig, provisioner)
        assert run.report.tenants[0].outcome is Outcome.UNKNOWN
        plan = await provisioner.plan(plain(1))
        assert plan.tenants[0].action.value == "adopt"
        report = await provisioner.apply(plan).wait()
    assert report.all_done
    assert report.elapsed > 47
    assert (rig.box.count(CREATE), report.tenants[0].env) == (1, plan.tenants[0].env)


async def test_a_later_run_opens_what_an_earlier_one_did_not(rig: Rig) -> None:
    """Only after the looks have shown that the create left in doubt did not act."""
    rig.box.faults.script(CREATE, [Fault(FaultKind.DROP)])
    async with rig.provisioner() as provisioner:
        await cut_off(rig, provisioner)
        report = await provisioner.apply(plain(1)).wait()
    assert (report.all_done, rig.box.count(CREATE), len(rig.box.world.environments)) == (True, 2, 1)
    assert report.elapsed > 47


async def test_a_create_held_up_past_its_deadline_is_not_sent_then(rig: Rig) -> None:
    """The minute limit holds it for longer; it is taken back, looked for anew, and sent when the path opens."""
    rig.box.faults.script(CREATE, [Fault(FaultKind.ERRCODE, errcode=45011)])
    journal = MemoryJournal()
    report = await rig.provision(plain(4), concurrency=2, journal=journal)
    assert (report.all_done, len(rig.box.world.environments)) == (True, 4)
    assert rig.box.count(CREATE) == 5


async def test_a_create_whose_renewal_hangs_past_the_deadline_is_in_doubt(rig: Rig) -> None:
    """Sent once, told dead, and cut off while its second send is under way: it may have acted."""
    rig.box.faults.script(CREATE, [Fault(FaultKind.EXPIRE_TOKEN, seconds=0), Fault(FaultKind.HANG_AFTER)])
    rig.box.faults.script("/cgi-bin/component/api_component_token", [None, Fault(FaultKind.SLOW, seconds=20)])
    told = await rig.told(plain(1))
    assert any(isinstance(event, StepOutcomeUnknown) for event in told)
    assert told[-1].report.outcome is Outcome.DONE
    assert len(rig.box.world.environments) == 1


async def test_two_provisioners_on_one_journal_open_nothing_twice(rig: Rig) -> None:
    """Who comes second is told that another run works on the tenant, or finds it done."""
    journal = MemoryJournal()
    reports = await asyncio.gather(*(rig.provision(plain(20), journal=journal) for _ in range(2)))
    assert rig.box.count(CREATE) == len(rig.box.world.environments) == 20
    done = sum(report.done_count for report in reports)
    lost = [entry for report in reports for entry in report.tenants if entry.outcome is Outcome.FAILED]
    assert done + len(lost) == 40
    assert all(isinstance(entry.problems[0].error, JournalConflict) for entry in lost)


class _SlowJournal(MemoryJournal):
    """Takes longer to keep its first intent than a look stays fresh."""

    slow = True

    async def commit(self, record, moment, giver=None):
        if self.slow and record.intent:
            self.slow = False
            await asyncio.sleep(6)
        return await super().commit(record, moment, giver)


async def test_an_intent_that_took_long_to_keep_is_taken_back(rig: Rig) -> None:
    """The look before it is too old by then, so there is a newer one before the create."""
    journal: Journal = _SlowJournal()
    report = await rig.provision(plain(1), journal=journal)
    assert (report.all_done, rig.box.count(CREATE)) == (True, 1)
    created = next(request.at for request in rig.box.seen if request.path == CREATE)
    assert any(created - 5 <= request.at < created for request in rig.box.seen if request.path == LIST)


async def test_a_service_found_after_a_lost_answer_is_done_but_unconfirmed(rig: Rig) -> None:
    """It is sent again under its name, which makes no second one; the others are not touched by it."""
    rig.box.world.getcslist_includes_cloudrun = False
    rig.box.faults.script(ESTABLISH, [Fault(FaultKind.DROP_AFTER)])
    entry = (await rig.provision(MINE)).tenants[0]
    assert (entry.outcome, entry.services, entry.unconfirmed) == (Outcome.UNCONFIRMED, ("api", "web"), ("api",))
    assert (entry.problems, entry.done[-1]) == ((), SERVICES)
    assert (rig.box.count(ESTABLISH), len(rig.box.world.services)) == (3, 2)


async def test_a_service_found_after_a_busy_answer_is_done_but_unconfirmed(rig: Rig) -> None:
    """40097 may mean that the attempt before it, answered -1, had made the service."""
    rig.box.world.getcslist_includes_cloudrun = False
    rig.box.faults.script(ESTABLISH, [Fault(FaultKind.BUSY_AFTER)])
    report = await rig.provision(MINE)
    assert (report.tenants[0].outcome, report.all_done) == (Outcome.UNCONFIRMED, True)
    assert rig.box.count(ESTABLISH) == 3


async def test_a_service_established_at_the_second_send_is_done(rig: Rig) -> None:
    """The first had not reached the platform, and the answer is clear."""
    rig.box.faults.script(ESTABLISH, [Fault(FaultKind.DROP), Fault(FaultKind.DROP)])
    entry = (await rig.provision(MINE)).tenants[0]
    assert (entry.outcome, entry.unconfirmed, rig.box.count(ESTABLISH)) == (Outcome.DONE, (), 4)


async def test_a_service_without_any_clear_answer_is_unknown_by_name(rig: Rig) -> None:
    """After three sends; the services after it are established all the same."""
    rig.box.faults.script(ESTABLISH, [Fault(FaultKind.DROP)] * 3)
    entry = (await rig.provision(MINE)).tenants[0]
    assert (entry.outcome, entry.services, rig.box.count(ESTABLISH)) == (Outcome.UNKNOWN, ("web",), 4)
    assert entry.problems[0].subject == "services api"
    assert "An earlier request" not in entry.summary
    assert SERVICES not in entry.done


async def test_a_service_refused_after_a_lost_answer_is_unknown(rig: Rig) -> None:
    """The refusal says nothing of the send before it, so the story does."""
    rig.box.faults.script(ESTABLISH, [Fault(FaultKind.DROP_AFTER), Fault(FaultKind.ERRCODE, errcode=45009)])
    entry = (await rig.provision(MINE)).tenants[0]
    assert entry.outcome is Outcome.UNKNOWN
    assert "45009" in entry.summary
    assert entry.summary.endswith("An earlier request may have taken effect.")


async def test_a_service_that_is_refused_fails(rig: Rig) -> None:
    """Without an earlier attempt there is no doubt."""
    rig.box.faults.errcode(40097, path=ESTABLISH)
    entry = (await rig.provision([Tenant("a", alias="x", services=[API])])).tenants[0]
    assert entry.outcome is Outcome.FAILED


async def test_a_service_in_doubt_is_settled_by_the_next_run(rig: Rig) -> None:
    """That its name exists then is probably the earlier send's doing."""
    rig.box.world.getcslist_includes_cloudrun = False
    rig.box.faults.script(ESTABLISH, [Fault(FaultKind.DROP_AFTER), *[Fault(FaultKind.DROP)] * 2])
    tenants = [Tenant("a", alias="x", services=[API])]
    async with rig.provisioner() as provisioner:
        first = await provisioner.apply(tenants).wait()
        second = await provisioner.apply(tenants).wait()
    assert (first.tenants[0].outcome, second.tenants[0].outcome) == (Outcome.UNKNOWN, Outcome.UNCONFIRMED)


async def test_a_cancel_before_a_service_is_sent_again_leaves_it_unknown(rig: Rig) -> None:
    """Its first send had no clear answer, and there is no second one."""
    rig.box.faults.drop(path=ESTABLISH)
    session = rig.session.with_options(retry=wxtcb.RetryPolicy(base=50.0, cap=60.0))
    async with Provisioner(session) as provisioner:
        run = provisioner.apply([Tenant("a", alias="x", services=[API])])
        async for event in run.events():
            if isinstance(event, StepDone) and event.step == READY:
                break
        await seen(rig.box, ESTABLISH)
        await asyncio.sleep(0.01)
        await run.cancel(grace=0)
    assert (run.report.tenants[0].outcome, rig.box.count(ESTABLISH)) == (Outcome.UNKNOWN, 1)


async def test_a_cancel_sends_no_service_again(rig: Rig) -> None:
    """One whose first send is answered unclear after the cancel is unknown; none of the others is begun."""
    rig.box.faults.slow(5, path=ESTABLISH, times=1)
    rig.box.faults.drop(path=ESTABLISH)
    async with rig.provisioner() as provisioner:
        run = provisioner.apply(MINE)
        await seen(rig.box, ESTABLISH)
        await run.cancel()
    entry = run.report.tenants[0]
    assert (entry.outcome, entry.services, rig.box.count(ESTABLISH)) == (Outcome.UNFINISHED, ("api",), 1)


async def test_a_cancel_sends_no_service_with_a_newer_token(rig: Rig) -> None:
    """One whose token was dead was not established, so nothing is unknown."""
    rig.box.faults.script(ESTABLISH, [Fault(FaultKind.EXPIRE_TOKEN)])
    rig.box.faults.slow(5, path=TOKEN)
    async with rig.provisioner() as provisioner:
        run = provisioner.apply([Tenant("a", alias="x", services=[API])])
        await seen(rig.box, TOKEN, 2)
        await run.cancel()
        entry = run.report.tenants[0]
        assert (entry.outcome, entry.step, rig.box.count(ESTABLISH)) == (Outcome.UNFINISHED, SERVICES, 1)
        assert (await provisioner.apply([Tenant("a", alias="x", services=[API])]).wait()).all_done


@pytest.mark.parametrize(("path", "step"), [(CREATE, ENVIRONMENT), (ESTABLISH, SERVICES)])
async def test_what_never_left_is_unfinished(box: Sandbox, rigging: Rigging, path: str, step: str) -> None:
    """Of 16 calls that wait for one connection, a cancel makes unknown the one that was sent."""
    box.faults.hang_after(path=path)
    tenants = [Tenant(f"t{number}", alias=f"a{number}", services=[API]) for number in range(16)]
    async with rigging.session(box, connections=1) as session, Provisioner(session) as provisioner:
        run = provisioner.apply(tenants)
        await seen(box, path)
        await run.cancel(grace=0)
    entries = [entry for entry in run.report.tenants if entry.step == step]
    assert sorted(entry.outcome.value for entry in entries) == ["unfinished"] * 15 + ["unknown"]
    assert {entry.summary for entry in entries if entry.outcome is Outcome.UNFINISHED} == {f"stopped at {step}"}
