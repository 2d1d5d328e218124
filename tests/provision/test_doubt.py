"""Creates and services with an ambiguous outcome."""

from __future__ import annotations

import asyncio

import pytest

import wxtcb
from wxtcb.provision import STEPS, Journal, MemoryJournal, Outcome, Provisioner, Run, Tenant
from wxtcb.provision.events import StepDone, StepOutcomeUnknown, TenantFinished
from wxtcb.provision.journal import JournalConflict
from wxtcb.sandbox import Fault, FaultKind, Sandbox

from .conftest import Harness, SessionFactory
from .constants import (
    API,
    CREATE,
    ENVIRONMENT,
    ESTABLISH,
    LIST,
    READY,
    SERVICES,
    TOKEN,
    WEB,
    WX1,
    plain_tenants,
    wait_for_requests,
)

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
async def test_create_that_took_effect_is_adopted(harness: Harness, trouble: FaultKind, seconds: float) -> None:
    """It is adopted after the propagation delay, and without an answer after the deadline; no second create is sent."""
    harness.sandbox.faults.script(CREATE, [Fault(trouble)])
    events = await harness.collect_events([Tenant("a", alias="x", appids=[WX1])])
    (unknown,) = (event for event in events if isinstance(event, StepOutcomeUnknown))
    assert (unknown.problem.step, unknown.problem.outcome_unknown) == (ENVIRONMENT, True)
    (entry,) = (event.report for event in events if isinstance(event, TenantFinished))
    assert (entry.outcome, entry.problems) == (Outcome.AWAITING, ())
    assert [entry.env] == list(harness.sandbox.world.environments)
    assert harness.sandbox.count(CREATE) == 1
    assert harness.sandbox.seen[-1].at >= seconds


@pytest.mark.parametrize("trouble", [FaultKind.BUSY, FaultKind.DROP, FaultKind.HTTP, FaultKind.HANG])
async def test_create_without_effect_is_sent_again_after_two_listings(harness: Harness, trouble: FaultKind) -> None:
    """Both listings start after the propagation delay and show no environment."""
    harness.sandbox.faults.script(CREATE, [Fault(trouble)])
    report = await harness.provision([Tenant("a", alias="x")])
    assert report.all_done
    assert len(harness.sandbox.world.environments) == 1
    first, second = (request.at for request in harness.sandbox.seen if request.path == CREATE)
    assert sum(first + 2 <= request.at < second for request in harness.sandbox.seen if request.path == LIST) >= 2


async def test_tenant_fails_after_three_ambiguous_creates(harness: Harness) -> None:
    """Listings showed that none of them took effect, so the tenant has failed and no environment exists."""
    harness.sandbox.faults.busy(path=CREATE)
    entry = (await harness.provision(plain_tenants(1))).tenants[0]
    assert (entry.outcome, harness.sandbox.count(CREATE), len(harness.sandbox.world.environments)) == (
        Outcome.FAILED,
        3,
        0,
    )
    assert "none of 3 creates" in entry.summary


async def test_late_environment_is_adopted(harness: Harness) -> None:
    """This holds while the propagation delay is longer than the platform hides a new environment."""
    harness.sandbox.world.visible_after = 20
    harness.sandbox.faults.script(CREATE, [Fault(FaultKind.BUSY_AFTER)])
    report = await harness.provision(plain_tenants(1), settle=21)
    assert (report.all_done, len(harness.sandbox.world.environments)) == (True, 1)


async def test_too_short_settle_creates_second_environment(harness: Harness) -> None:
    """Control: it is the propagation delay that protects."""
    harness.sandbox.world.visible_after = 20
    harness.sandbox.faults.script(CREATE, [Fault(FaultKind.BUSY_AFTER)])
    await harness.provision(plain_tenants(1), settle=2)
    assert len(harness.sandbox.world.environments) == 2


async def test_two_matching_environments_are_a_duplicate(harness: Harness) -> None:
    """One of them may be another program's, so neither is adopted."""
    harness.sandbox.faults.script(CREATE, [Fault(FaultKind.BUSY_AFTER)])
    async with harness.provisioner(settle=10) as provisioner:
        run = provisioner.apply([Tenant("a", alias="x", appids=[WX1])])
        await wait_for_requests(harness.sandbox, CREATE)
        harness.sandbox.world.add("X")
        entry = (await run.wait()).tenants[0]
    assert (entry.outcome, entry.env, len(entry.existing)) == (Outcome.DUPLICATE, None, 2)
    assert not harness.sandbox.world.shares


async def test_environment_of_another_tenant_is_a_conflict(harness: Harness) -> None:
    """The journal knows the owner of the environment that got the alias."""
    env = harness.sandbox.world.add("other")
    harness.sandbox.faults.script(CREATE, [Fault(FaultKind.BUSY)])
    async with harness.provisioner(settle=10) as provisioner:
        plan = await provisioner.plan([Tenant("b", alias="other"), Tenant("a", alias="x")], adopt={"b": env})
        run = provisioner.apply(plan)
        await wait_for_requests(harness.sandbox, CREATE)
        harness.sandbox.world.environments[env]
        harness.sandbox.world.remove(env)
        harness.sandbox.world.add("x", env=env)
        entries = (await run.wait()).tenants
    assert (entries[1].outcome, entries[1].existing) == (Outcome.CONFLICT, (env,))
    assert harness.sandbox.count(CREATE) == 1


async def test_incomplete_list_proves_nothing(harness: Harness) -> None:
    """If a bound environment is missing, the create stays unknown and is not sent again."""
    async with harness.provisioner(timeout=30) as provisioner:
        first = await provisioner.apply(plain_tenants(1)).wait()
        harness.sandbox.faults.script(CREATE, [Fault(FaultKind.BUSY)])
        run = provisioner.apply([Tenant("b", alias="b")])
        await wait_for_requests(harness.sandbox, CREATE, 2)
        harness.sandbox.world.remove(first.tenants[0].env)
        report = await run.wait()
    entry = report.tenants[0]
    assert (entry.outcome, harness.sandbox.count(CREATE)) == (Outcome.UNKNOWN, 2)
    assert "not proven" in entry.summary


async def test_failed_listings_prove_nothing(harness: Harness) -> None:
    """The create is still unknown when the timeout ends the check."""
    harness.sandbox.faults.script(CREATE, [Fault(FaultKind.BUSY)])
    harness.sandbox.faults.script(LIST, [None])
    harness.sandbox.faults.errcode(40097, path=LIST)
    entry = (await harness.provision(plain_tenants(1), timeout=30)).tenants[0]
    assert (entry.outcome, harness.sandbox.count(CREATE)) == (Outcome.UNKNOWN, 1)


async def test_single_incomplete_list_delays_the_proof(harness: Harness) -> None:
    """Two consecutive complete listings are required, so one incomplete list costs only time."""
    journal = MemoryJournal()
    harness.sandbox.faults.script(CREATE, [None, Fault(FaultKind.BUSY)])
    harness.sandbox.faults.script(LIST, [None, None, None, Fault(FaultKind.INCOMPLETE_LIST)])
    report = await harness.provision(plain_tenants(2), concurrency=1, journal=journal)
    assert report.all_done
    assert (harness.sandbox.count(CREATE), len(harness.sandbox.world.environments)) == (3, 2)


async def cancel_after_create(harness: Harness, provisioner: Provisioner) -> Run:
    """Start a run, and cancel it one second after its create was sent."""
    run = provisioner.apply(plain_tenants(1))
    await wait_for_requests(harness.sandbox, CREATE)
    await asyncio.sleep(1)
    await run.cancel()
    return run


async def test_later_run_adopts_create_of_earlier_run(harness: Harness) -> None:
    """The intent is in the journal: the plan adopts, and no second create is sent."""
    harness.sandbox.faults.script(CREATE, [Fault(FaultKind.DROP_AFTER)])
    async with harness.provisioner() as provisioner:
        run = await cancel_after_create(harness, provisioner)
        assert run.report.tenants[0].outcome is Outcome.UNKNOWN
        plan = await provisioner.plan(plain_tenants(1))
        assert plan.tenants[0].action.value == "adopt"
        report = await provisioner.apply(plan).wait()
    assert report.all_done
    assert report.elapsed > 47
    assert (harness.sandbox.count(CREATE), report.tenants[0].env) == (1, plan.tenants[0].env)


async def test_later_run_creates_after_proof(harness: Harness) -> None:
    """It creates only after listings have shown that the ambiguous create had no effect."""
    harness.sandbox.faults.script(CREATE, [Fault(FaultKind.DROP)])
    async with harness.provisioner() as provisioner:
        await cancel_after_create(harness, provisioner)
        report = await provisioner.apply(plain_tenants(1)).wait()
    assert (report.all_done, harness.sandbox.count(CREATE), len(harness.sandbox.world.environments)) == (True, 2, 1)
    assert report.elapsed > 47


async def test_create_delayed_past_its_deadline_is_not_sent(harness: Harness) -> None:
    """A rate limit delays it past its deadline: its intent is cleared, and it is sent after a new listing."""
    harness.sandbox.faults.script(CREATE, [Fault(FaultKind.ERRCODE, errcode=45011)])
    journal = MemoryJournal()
    report = await harness.provision(plain_tenants(4), concurrency=2, journal=journal)
    assert (report.all_done, len(harness.sandbox.world.environments)) == (True, 4)
    assert harness.sandbox.count(CREATE) == 5


async def test_create_cut_off_during_resend_is_ambiguous(harness: Harness) -> None:
    """Its token was rejected, and the deadline ends it during the second send: it may have taken effect."""
    harness.sandbox.faults.script(CREATE, [Fault(FaultKind.EXPIRE_TOKEN, seconds=0), Fault(FaultKind.HANG_AFTER)])
    harness.sandbox.faults.script("/cgi-bin/component/api_component_token", [None, Fault(FaultKind.SLOW, seconds=20)])
    events = await harness.collect_events(plain_tenants(1))
    assert any(isinstance(event, StepOutcomeUnknown) for event in events)
    assert events[-1].report.outcome is Outcome.DONE
    assert len(harness.sandbox.world.environments) == 1


async def test_two_provisioners_on_one_journal_create_nothing_twice(harness: Harness) -> None:
    """The second one finds the tenant done, or gets a conflict of the journal."""
    journal = MemoryJournal()
    reports = await asyncio.gather(*(harness.provision(plain_tenants(20), journal=journal) for _ in range(2)))
    assert harness.sandbox.count(CREATE) == len(harness.sandbox.world.environments) == 20
    done = sum(report.done_count for report in reports)
    lost = [entry for report in reports for entry in report.tenants if entry.outcome is Outcome.FAILED]
    assert done + len(lost) == 40
    assert all(isinstance(entry.problems[0].error, JournalConflict) for entry in lost)


class _SlowJournal(MemoryJournal):
    """Takes longer to store its first intent than a listing stays fresh."""

    slow = True

    async def commit(self, record, entry, previous_owner=None, *, epoch=None):
        if self.slow and record.intent:
            self.slow = False
            await asyncio.sleep(6)
        return await super().commit(record, entry, previous_owner, epoch=epoch)


async def test_intent_that_took_long_to_store_is_cleared(harness: Harness) -> None:
    """The listing before it is too old by then, so a newer one precedes the create."""
    journal: Journal = _SlowJournal()
    report = await harness.provision(plain_tenants(1), journal=journal)
    assert (report.all_done, harness.sandbox.count(CREATE)) == (True, 1)
    created = next(request.at for request in harness.sandbox.seen if request.path == CREATE)
    assert any(created - 5 <= request.at < created for request in harness.sandbox.seen if request.path == LIST)


async def test_service_that_exists_after_lost_answer_is_unconfirmed(harness: Harness) -> None:
    """The request is sent again under the same name, which creates no second service."""
    harness.sandbox.world.getcslist_includes_cloudrun = False
    harness.sandbox.faults.script(ESTABLISH, [Fault(FaultKind.DROP_AFTER)])
    entry = (await harness.provision(TENANTS)).tenants[0]
    assert (entry.outcome, entry.services, entry.unconfirmed) == (Outcome.UNCONFIRMED, ("api", "web"), ("api",))
    assert (entry.problems, entry.done[-1]) == ((), SERVICES)
    assert (harness.sandbox.count(ESTABLISH), len(harness.sandbox.world.services)) == (3, 2)


async def test_service_that_exists_after_busy_answer_is_unconfirmed(harness: Harness) -> None:
    """40097 may mean that the attempt before it, answered with -1, established the service."""
    harness.sandbox.world.getcslist_includes_cloudrun = False
    harness.sandbox.faults.script(ESTABLISH, [Fault(FaultKind.BUSY_AFTER)])
    report = await harness.provision(TENANTS)
    assert (report.tenants[0].outcome, report.all_done) == (Outcome.UNCONFIRMED, True)
    assert harness.sandbox.count(ESTABLISH) == 3


async def test_service_established_at_second_send_is_done(harness: Harness) -> None:
    """The first request did not reach the platform, and the second answer is clear."""
    harness.sandbox.faults.script(ESTABLISH, [Fault(FaultKind.DROP), Fault(FaultKind.DROP)])
    entry = (await harness.provision(TENANTS)).tenants[0]
    assert (entry.outcome, entry.unconfirmed, harness.sandbox.count(ESTABLISH)) == (Outcome.DONE, (), 4)


async def test_service_without_clear_answer_is_unknown(harness: Harness) -> None:
    """It is unknown after three requests; the services after it are still established."""
    harness.sandbox.faults.script(ESTABLISH, [Fault(FaultKind.DROP)] * 3)
    entry = (await harness.provision(TENANTS)).tenants[0]
    assert (entry.outcome, entry.services, harness.sandbox.count(ESTABLISH)) == (Outcome.UNKNOWN, ("web",), 4)
    assert entry.problems[0].subject == "services api"
    assert "An earlier request" not in entry.summary
    assert SERVICES not in entry.done


async def test_service_rejected_after_lost_answer_is_unknown(harness: Harness) -> None:
    """The rejection concerns the second request only, and the summary mentions the first."""
    harness.sandbox.faults.script(ESTABLISH, [Fault(FaultKind.DROP_AFTER), Fault(FaultKind.ERRCODE, errcode=45009)])
    entry = (await harness.provision(TENANTS)).tenants[0]
    assert entry.outcome is Outcome.UNKNOWN
    assert "45009" in entry.summary
    assert entry.summary.endswith("An earlier request may have taken effect.")


async def test_rejected_service_fails(harness: Harness) -> None:
    """Without an earlier ambiguous request, 40097 is a failure."""
    harness.sandbox.faults.errcode(40097, path=ESTABLISH)
    entry = (await harness.provision([Tenant("a", alias="x", services=[API])])).tenants[0]
    assert entry.outcome is Outcome.FAILED


async def test_next_run_confirms_ambiguous_service(harness: Harness) -> None:
    """An existing name then probably belongs to the earlier request."""
    harness.sandbox.world.getcslist_includes_cloudrun = False
    harness.sandbox.faults.script(ESTABLISH, [Fault(FaultKind.DROP_AFTER), *[Fault(FaultKind.DROP)] * 2])
    tenants = [Tenant("a", alias="x", services=[API])]
    async with harness.provisioner() as provisioner:
        first = await provisioner.apply(tenants).wait()
        second = await provisioner.apply(tenants).wait()
    assert (first.tenants[0].outcome, second.tenants[0].outcome) == (Outcome.UNKNOWN, Outcome.UNCONFIRMED)


async def test_cancelled_retry_of_service_leaves_it_unknown(harness: Harness) -> None:
    """The first request had an ambiguous outcome, and no second one is sent."""
    harness.sandbox.faults.drop(path=ESTABLISH)
    session = harness.session.with_options(retry=wxtcb.RetryPolicy(base=50.0, cap=60.0))
    async with Provisioner(session) as provisioner:
        run = provisioner.apply([Tenant("a", alias="x", services=[API])])
        async for event in run.events():
            if isinstance(event, StepDone) and event.step == READY:
                break
        await wait_for_requests(harness.sandbox, ESTABLISH)
        await asyncio.sleep(0.01)
        await run.cancel(grace=0)
    assert (run.report.tenants[0].outcome, harness.sandbox.count(ESTABLISH)) == (Outcome.UNKNOWN, 1)


async def test_cancelled_run_establishes_no_further_service(harness: Harness) -> None:
    """The first service is answered and recorded; no other one is started."""
    harness.sandbox.faults.slow(5, path=ESTABLISH, times=1)
    harness.sandbox.faults.drop(path=ESTABLISH)
    async with harness.provisioner() as provisioner:
        run = provisioner.apply(TENANTS)
        await wait_for_requests(harness.sandbox, ESTABLISH)
        await run.cancel()
    entry = run.report.tenants[0]
    assert (entry.outcome, entry.services, harness.sandbox.count(ESTABLISH)) == (Outcome.UNFINISHED, ("api",), 1)


async def test_cancelled_run_does_not_resend_service_with_new_token(harness: Harness) -> None:
    """A service whose token was rejected was not established, so nothing is unknown."""
    harness.sandbox.faults.script(ESTABLISH, [Fault(FaultKind.EXPIRE_TOKEN)])
    harness.sandbox.faults.slow(5, path=TOKEN)
    async with harness.provisioner() as provisioner:
        run = provisioner.apply([Tenant("a", alias="x", services=[API])])
        await wait_for_requests(harness.sandbox, TOKEN, 2)
        await run.cancel()
        entry = run.report.tenants[0]
        assert (entry.outcome, entry.step, harness.sandbox.count(ESTABLISH)) == (Outcome.UNFINISHED, SERVICES, 1)
        assert (await provisioner.apply([Tenant("a", alias="x", services=[API])]).wait()).all_done


@pytest.mark.parametrize(("path", "step"), [(CREATE, ENVIRONMENT), (ESTABLISH, SERVICES)])
async def test_unsent_calls_are_unfinished(
    sandbox: Sandbox, session_factory: SessionFactory, path: str, step: str
) -> None:
    """Of 16 calls on one connection, a cancellation makes only the sent one unknown."""
    sandbox.faults.hang_after(path=path)
    tenants = [Tenant(f"t{number}", alias=f"a{number}", services=[API]) for number in range(16)]
    async with session_factory.session(sandbox, connections=1) as session, Provisioner(session) as provisioner:
        run = provisioner.apply(tenants)
        await wait_for_requests(sandbox, path)
        await run.cancel(grace=0)
    entries = [entry for entry in run.report.tenants if entry.step == step]
    assert sorted(entry.outcome.value for entry in entries) == ["unfinished"] * 15 + ["unknown"]
    assert {entry.summary for entry in entries if entry.outcome is Outcome.UNFINISHED} == {f"stopped at {step}"}


@pytest.mark.parametrize("tranid", ["absent", "odd"])
async def test_create_without_a_readable_order_number_is_no_ambiguous_create(harness: Harness, tranid: str) -> None:
    """The reply names the environment, so there is nothing to check, and no time is lost."""
    if tranid == "absent":
        harness.sandbox.faults.missing("tranid", path=CREATE)
    else:
        text = '{"errcode":0,"errmsg":"ok","tranid":[1],"env":"e-kept"}'
        harness.sandbox.faults.script(CREATE, [Fault(FaultKind.NOT_OBJECT, text=text)])
    events = await harness.collect_events([Tenant("a", alias="x")], steps=STEPS[:1])
    assert not any(isinstance(event, StepOutcomeUnknown) for event in events)
    (entry,) = (event.report for event in events if isinstance(event, TenantFinished))
    assert entry.problems == ()
    assert entry.env == ("e-kept" if tranid == "odd" else next(iter(harness.sandbox.world.environments)))
    assert harness.sandbox.count(CREATE) == 1


@pytest.mark.parametrize("errcode", [9300999, -999999, -501000])
async def test_create_with_an_errcode_that_does_not_rule_out_an_effect_is_checked(
    harness: Harness, errcode: int
) -> None:
    """The environment that it has created all the same is adopted, and none is created twice."""
    text = f'{{"errcode":{errcode},"errmsg":"odd"}}'
    harness.sandbox.faults.script(CREATE, [Fault(FaultKind.NOT_OBJECT, text=text)])
    events = await harness.collect_events([Tenant("a", alias="x")])
    (unknown,) = (event for event in events if isinstance(event, StepOutcomeUnknown))
    assert "may have taken effect" in unknown.problem.message
    (entry,) = (event.report for event in events if isinstance(event, TenantFinished))
    assert [entry.env] == list(harness.sandbox.world.environments)
    assert harness.sandbox.count(CREATE) == 1
