"""Creates and services with an ambiguous outcome."""

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

TENANTS = [Tenant("a", alias="x", services=[API, WEB])]


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
async def test_create_that_took_effect_is_adopted(rig: Rig, trouble: FaultKind, seconds: float) -> None:
    """It is adopted after the propagation delay, and without an answer after the deadline; no second create is sent."""
    rig.box.faults.script(CREATE, [Fault(trouble)])
    events = await rig.told([Tenant("a", alias="x", appids=[WX1])])
    (unknown,) = (event for event in events if isinstance(event, StepOutcomeUnknown))
    assert (unknown.problem.step, unknown.problem.outcome_unknown) == (ENVIRONMENT, True)
    (entry,) = (event.report for event in events if isinstance(event, TenantFinished))
    assert (entry.outcome, entry.problems) == (Outcome.AWAITING, ())
    assert [entry.env] == list(rig.box.world.environments)
    assert rig.box.count(CREATE) == 1
    assert rig.box.seen[-1].at >= seconds


@pytest.mark.parametrize("trouble", [FaultKind.BUSY, FaultKind.DROP, FaultKind.HTTP, FaultKind.HANG])
async def test_create_without_effect_is_sent_again_after_two_listings(rig: Rig, trouble: FaultKind) -> None:
    """Both listings start after the propagation delay and show no environment."""
    rig.box.faults.script(CREATE, [Fault(trouble)])
    report = await rig.provision([Tenant("a", alias="x")])
    assert report.all_done
    assert len(rig.box.world.environments) == 1
    first, second = (request.at for request in rig.box.seen if request.path == CREATE)
    assert sum(first + 2 <= request.at < second for request in rig.box.seen if request.path == LIST) >= 2


async def test_tenant_fails_after_three_ambiguous_creates(rig: Rig) -> None:
    """Listings showed that none of them took effect, so the tenant has failed and no environment exists."""
    rig.box.faults.busy(path=CREATE)
    entry = (await rig.provision(plain(1))).tenants[0]
    assert (entry.outcome, rig.box.count(CREATE), len(rig.box.world.environments)) == (Outcome.FAILED, 3, 0)
    assert "none of 3 creates" in entry.summary


async def test_late_environment_is_adopted(rig: Rig) -> None:
    """This holds while the propagation delay is longer than the platform hides a new environment."""
    rig.box.world.visible_after = 20
    rig.box.faults.script(CREATE, [Fault(FaultKind.BUSY_AFTER)])
    report = await rig.provision(plain(1), settle=21)
    assert (report.all_done, len(rig.box.world.environments)) == (True, 1)


async def test_too_short_settle_creates_second_environment(rig: Rig) -> None:
    """Control: it is the propagation delay that protects."""
    rig.box.world.visible_after = 20
    rig.box.faults.script(CREATE, [Fault(FaultKind.BUSY_AFTER)])
    await rig.provision(plain(1), settle=2)
    assert len(rig.box.world.environments) == 2


async def test_two_matching_environments_are_a_duplicate(rig: Rig) -> None:
    """One of them may be another program's, so neither is adopted."""
    rig.box.faults.script(CREATE, [Fault(FaultKind.BUSY_AFTER)])
    async with rig.provisioner(settle=10) as provisioner:
        run = provisioner.apply([Tenant("a", alias="x", appids=[WX1])])
        await seen(rig.box, CREATE)
        rig.box.world.add("X")
        entry = (await run.wait()).tenants[0]
    assert (entry.outcome, entry.env, len(entry.existing)) == (Outcome.DUPLICATE, None, 2)
    assert not rig.box.world.shares


async def test_environment_of_another_tenant_is_a_conflict(rig: Rig) -> None:
    """The journal knows the owner of the environment that got the alias."""
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


async def test_incomplete_list_proves_nothing(rig: Rig) -> None:
    """If a bound environment is missing, the create stays unknown and is not sent again."""
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


async def test_failed_listings_prove_nothing(rig: Rig) -> None:
    """The create is still unknown when the timeout ends the check."""
    rig.box.faults.script(CREATE, [Fault(FaultKind.BUSY)])
    rig.box.faults.script(LIST, [None])
    rig.box.faults.errcode(40097, path=LIST)
    entry = (await rig.provision(plain(1), timeout=30)).tenants[0]
    assert (entry.outcome, rig.box.count(CREATE)) == (Outcome.UNKNOWN, 1)


async def test_single_incomplete_list_delays_the_proof(rig: Rig) -> None:
    """Two consecutive complete listings are required, so one incomplete list costs only time."""
    journal = MemoryJournal()
    rig.box.faults.script(CREATE, [None, Fault(FaultKind.BUSY)])
    rig.box.faults.script(LIST, [None, None, None, Fault(FaultKind.INCOMPLETE_LIST)])
    report = await rig.provision(plain(2), concurrency=1, journal=journal)
    assert report.all_done
    assert (rig.box.count(CREATE), len(rig.box.world.environments)) == (3, 2)


async def cancel_after_create(rig: Rig, provisioner: Provisioner) -> Run:
    """Start a run, and cancel it one second after its create was sent."""
    run = provisioner.apply(plain(1))
    await seen(rig.box, CREATE)
    await asyncio.sleep(1)
    await run.cancel()
    return run


async def test_later_run_adopts_create_of_earlier_run(rig: Rig) -> None:
    """The intent is in the journal: the plan adopts, and no second create is sent."""
    rig.box.faults.script(CREATE, [Fault(FaultKind.DROP_AFTER)])
    async with rig.provisioner() as provisioner:
        run = await cancel_after_create(rig, provisioner)
        assert run.report.tenants[0].outcome is Outcome.UNKNOWN
        plan = await provisioner.plan(plain(1))
        assert plan.tenants[0].action.value == "adopt"
        report = await provisioner.apply(plan).wait()
    assert report.all_done
    assert report.elapsed > 47
    assert (rig.box.count(CREATE), report.tenants[0].env) == (1, plan.tenants[0].env)


async def test_later_run_creates_after_proof(rig: Rig) -> None:
    """It creates only after listings have shown that the ambiguous create had no effect."""
    rig.box.faults.script(CREATE, [Fault(FaultKind.DROP)])
    async with rig.provisioner() as provisioner:
        await cancel_after_create(rig, provisioner)
        report = await provisioner.apply(plain(1)).wait()
    assert (report.all_done, rig.box.count(CREATE), len(rig.box.world.environments)) == (True, 2, 1)
    assert report.elapsed > 47


async def test_create_delayed_past_its_deadline_is_not_sent(rig: Rig) -> None:
    """A rate limit delays it past its deadline: its intent is cleared, and it is sent after a new listing."""
    rig.box.faults.script(CREATE, [Fault(FaultKind.ERRCODE, errcode=45011)])
    journal = MemoryJournal()
    report = await rig.provision(plain(4), concurrency=2, journal=journal)
    assert (report.all_done, len(rig.box.world.environments)) == (True, 4)
    assert rig.box.count(CREATE) == 5


async def test_create_cut_off_during_resend_is_ambiguous(rig: Rig) -> None:
    """Its token was rejected, and the deadline ends it during the second send: it may have taken effect."""
    rig.box.faults.script(CREATE, [Fault(FaultKind.EXPIRE_TOKEN, seconds=0), Fault(FaultKind.HANG_AFTER)])
    rig.box.faults.script("/cgi-bin/component/api_component_token", [None, Fault(FaultKind.SLOW, seconds=20)])
    events = await rig.told(plain(1))
    assert any(isinstance(event, StepOutcomeUnknown) for event in events)
    assert events[-1].report.outcome is Outcome.DONE
    assert len(rig.box.world.environments) == 1


async def test_two_provisioners_on_one_journal_create_nothing_twice(rig: Rig) -> None:
    """The second one finds the tenant done, or gets a conflict of the journal."""
    journal = MemoryJournal()
    reports = await asyncio.gather(*(rig.provision(plain(20), journal=journal) for _ in range(2)))
    assert rig.box.count(CREATE) == len(rig.box.world.environments) == 20
    done = sum(report.done_count for report in reports)
    lost = [entry for report in reports for entry in report.tenants if entry.outcome is Outcome.FAILED]
    assert done + len(lost) == 40
    assert all(isinstance(entry.problems[0].error, JournalConflict) for entry in lost)


class _SlowJournal(MemoryJournal):
    """Takes longer to store its first intent than a listing stays fresh."""

    slow = True

    async def commit(self, record, entry, previous_owner=None):
        if self.slow and record.intent:
            self.slow = False
            await asyncio.sleep(6)
        return await super().commit(record, entry, previous_owner)


async def test_intent_that_took_long_to_store_is_cleared(rig: Rig) -> None:
    """The listing before it is too old by then, so a newer one precedes the create."""
    journal: Journal = _SlowJournal()
    report = await rig.provision(plain(1), journal=journal)
    assert (report.all_done, rig.box.count(CREATE)) == (True, 1)
    created = next(request.at for request in rig.box.seen if request.path == CREATE)
    assert any(created - 5 <= request.at < created for request in rig.box.seen if request.path == LIST)


async def test_service_that_exists_after_lost_answer_is_unconfirmed(rig: Rig) -> None:
    """The request is sent again under the same name, which creates no second service."""
    rig.box.world.getcslist_includes_cloudrun = False
    rig.box.faults.script(ESTABLISH, [Fault(FaultKind.DROP_AFTER)])
    entry = (await rig.provision(TENANTS)).tenants[0]
    assert (entry.outcome, entry.services, entry.unconfirmed) == (Outcome.UNCONFIRMED, ("api", "web"), ("api",))
    assert (entry.problems, entry.done[-1]) == ((), SERVICES)
    assert (rig.box.count(ESTABLISH), len(rig.box.world.services)) == (3, 2)


async def test_service_that_exists_after_busy_answer_is_unconfirmed(rig: Rig) -> None:
    """40097 may mean that the attempt before it, answered with -1, established the service."""
    rig.box.world.getcslist_includes_cloudrun = False
    rig.box.faults.script(ESTABLISH, [Fault(FaultKind.BUSY_AFTER)])
    report = await rig.provision(TENANTS)
    assert (report.tenants[0].outcome, report.all_done) == (Outcome.UNCONFIRMED, True)
    assert rig.box.count(ESTABLISH) == 3


async def test_service_established_at_second_send_is_done(rig: Rig) -> None:
    """The first request did not reach the platform, and the second answer is clear."""
    rig.box.faults.script(ESTABLISH, [Fault(FaultKind.DROP), Fault(FaultKind.DROP)])
    entry = (await rig.provision(TENANTS)).tenants[0]
    assert (entry.outcome, entry.unconfirmed, rig.box.count(ESTABLISH)) == (Outcome.DONE, (), 4)


async def test_service_without_clear_answer_is_unknown(rig: Rig) -> None:
    """It is unknown after three requests; the services after it are still established."""
    rig.box.faults.script(ESTABLISH, [Fault(FaultKind.DROP)] * 3)
    entry = (await rig.provision(TENANTS)).tenants[0]
    assert (entry.outcome, entry.services, rig.box.count(ESTABLISH)) == (Outcome.UNKNOWN, ("web",), 4)
    assert entry.problems[0].subject == "services api"
    assert "An earlier request" not in entry.summary
    assert SERVICES not in entry.done


async def test_service_rejected_after_lost_answer_is_unknown(rig: Rig) -> None:
    """The rejection concerns the second request only, and the summary mentions the first."""
    rig.box.faults.script(ESTABLISH, [Fault(FaultKind.DROP_AFTER), Fault(FaultKind.ERRCODE, errcode=45009)])
    entry = (await rig.provision(TENANTS)).tenants[0]
    assert entry.outcome is Outcome.UNKNOWN
    assert "45009" in entry.summary
    assert entry.summary.endswith("An earlier request may have taken effect.")


async def test_rejected_service_fails(rig: Rig) -> None:
    """Without an earlier ambiguous request, 40097 is a failure."""
    rig.box.faults.errcode(40097, path=ESTABLISH)
    entry = (await rig.provision([Tenant("a", alias="x", services=[API])])).tenants[0]
    assert entry.outcome is Outcome.FAILED


async def test_next_run_confirms_ambiguous_service(rig: Rig) -> None:
    """An existing name then probably belongs to the earlier request."""
    rig.box.world.getcslist_includes_cloudrun = False
    rig.box.faults.script(ESTABLISH, [Fault(FaultKind.DROP_AFTER), *[Fault(FaultKind.DROP)] * 2])
    tenants = [Tenant("a", alias="x", services=[API])]
    async with rig.provisioner() as provisioner:
        first = await provisioner.apply(tenants).wait()
        second = await provisioner.apply(tenants).wait()
    assert (first.tenants[0].outcome, second.tenants[0].outcome) == (Outcome.UNKNOWN, Outcome.UNCONFIRMED)


async def test_cancelled_retry_of_service_leaves_it_unknown(rig: Rig) -> None:
    """The first request had an ambiguous outcome, and no second one is sent."""
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


async def test_cancelled_run_establishes_no_further_service(rig: Rig) -> None:
    """The first service is answered and recorded; no other one is started."""
    rig.box.faults.slow(5, path=ESTABLISH, times=1)
    rig.box.faults.drop(path=ESTABLISH)
    async with rig.provisioner() as provisioner:
        run = provisioner.apply(TENANTS)
        await seen(rig.box, ESTABLISH)
        await run.cancel()
    entry = run.report.tenants[0]
    assert (entry.outcome, entry.services, rig.box.count(ESTABLISH)) == (Outcome.UNFINISHED, ("api",), 1)


async def test_cancelled_run_does_not_resend_service_with_new_token(rig: Rig) -> None:
    """A service whose token was rejected was not established, so nothing is unknown."""
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
async def test_unsent_calls_are_unfinished(box: Sandbox, rigging: Rigging, path: str, step: str) -> None:
    """Of 16 calls on one connection, a cancellation makes only the sent one unknown."""
    box.faults.hang_after(path=path)
    tenants = [Tenant(f"t{number}", alias=f"a{number}", services=[API]) for number in range(16)]
    async with rigging.session(box, connections=1) as session, Provisioner(session) as provisioner:
        run = provisioner.apply(tenants)
        await seen(box, path)
        await run.cancel(grace=0)
    entries = [entry for entry in run.report.tenants if entry.step == step]
    assert sorted(entry.outcome.value for entry in entries) == ["unfinished"] * 15 + ["unknown"]
    assert {entry.summary for entry in entries if entry.outcome is Outcome.UNFINISHED} == {f"stopped at {step}"}
