"""Runs against the sandbox: steps, reports and events of tenants."""

from __future__ import annotations

import asyncio

import pytest

import wxtcb
from wxtcb.provision import Outcome, Tenant
from wxtcb.provision.events import StepDone, StepFailed, TenantFinished, TenantStarted
from wxtcb.sandbox import Fault, FaultKind, ReadyPolicy

from .conftest import Harness
from .constants import (
    API,
    CREATE,
    ENVIRONMENT,
    ESTABLISH,
    LIST,
    READY,
    SERVICES,
    SHARE,
    SHARED,
    STEPS,
    WEB,
    WX1,
    WX2,
    plain_tenants,
)

pytestmark = pytest.mark.virtual_time


async def test_tenant_gets_everything_it_requests(harness: Harness) -> None:
    """Environment, share and services exist, and the report lists them."""
    tenant = Tenant("商户", alias="Mine".lower(), appids=[WX1, WX2], services=[API, WEB], source_type=1)
    report = await harness.provision([tenant])
    entry = report.tenants[0]
    world = harness.sandbox.world
    assert (entry.tenant, entry.alias, entry.outcome) == ("商户", "mine", Outcome.AWAITING)
    assert entry.done == STEPS
    assert (entry.step, entry.services, entry.problems) == (None, ("api", "web"), ())
    assert entry.env is not None
    assert [link.url for link in entry.links] == [world.shares[entry.env, appid].url for appid in (WX1, WX2)]
    assert [share.source_type for share in world.shares.values()] == [1, 1]
    assert set(world.services) == {(entry.env, "api"), (entry.env, "web")}
    assert report.all_done
    assert entry.summary == "2 to confirm"


async def test_report_names_platform_and_namespace(harness: Harness) -> None:
    """It names the session's platform, the component and the journal's namespace, even for an empty run."""
    for tenants in (plain_tenants(1), []):
        run_info = (await harness.provision(tenants, namespace="shop")).run_info
        assert run_info is not None
        assert (run_info.base_url, run_info.component_appid) == (
            harness.session.base_url,
            harness.session.component_appid,
        )
        assert run_info.namespace == "shop"


async def test_events_are_in_order(harness: Harness) -> None:
    """The tenant starts, its steps follow in order, and it finishes with its report."""
    events = await harness.collect_events([Tenant("a", alias="x", appids=[WX1], services=[API])])
    env = next(iter(harness.sandbox.world.environments))
    assert events[:-1] == [
        TenantStarted("a", "x"),
        *(StepDone("a", step, env, how) for step, how in zip(STEPS, ("opened", None, None, None), strict=True)),
    ]
    assert isinstance(events[-1], TenantFinished)
    assert events[-1].report.outcome is Outcome.AWAITING


async def test_tenant_without_alias_gets_derived_alias(harness: Harness) -> None:
    """The namespace is the component appid unless another one is given."""
    report = await harness.provision([Tenant("a")])
    assert report.tenants[0].alias == wxtcb.provision.derive_alias(harness.sandbox.component_appid, "a")
    assert report.tenants[0].outcome is Outcome.DONE
    report = await harness.provision([Tenant("a")], namespace="mine")
    assert report.tenants[0].alias == wxtcb.provision.derive_alias("mine", "a")
    assert len(harness.sandbox.world.environments) == 2


async def test_run_without_tenants_sends_nothing(harness: Harness) -> None:
    """The report is empty and counts as done."""
    report = await harness.provision([])
    assert (report.tenants, report.all_done, len(harness.sandbox.seen)) == ((), True, 0)


@pytest.mark.unmeasured
async def test_many_tenants_share_few_listings(harness: Harness) -> None:
    """10,000 tenants whose environments take 30 seconds need a minute, and few listings."""
    harness.sandbox.world.ready_after = ReadyPolicy.after_seconds(30)
    harness.wire.latency = 0.15
    async with harness.provisioner(concurrency=64) as provisioner:
        run = provisioner.apply(plain_tenants(10_000))
        report = await run.wait()
    assert report.counts[Outcome.DONE] == harness.sandbox.count(CREATE) == 10_000
    assert 50 < report.elapsed < 62
    assert harness.sandbox.count(LIST) <= report.elapsed


async def test_waiting_tenant_blocks_no_other(harness: Harness) -> None:
    """With one worker, all creates are sent before the first environment is NORMAL."""
    harness.sandbox.world.ready_after = ReadyPolicy.after_polls(20)
    events = await harness.collect_events(plain_tenants(5), concurrency=1)
    steps = [event.step for event in events if isinstance(event, StepDone)]
    assert steps == [ENVIRONMENT] * 5 + [READY] * 5


@pytest.mark.parametrize("alias", ["taken", "tAKEN"])
async def test_alias_in_use_is_a_conflict(harness: Harness, alias: str) -> None:
    """Case is ignored; nothing is created, shared or established, and the existing environment is named."""
    env = harness.sandbox.world.add(alias)
    report = await harness.provision([Tenant("a", alias="taken", appids=[WX1], services=[API])])
    entry = report.tenants[0]
    assert (entry.outcome, entry.existing, entry.env) == (Outcome.CONFLICT, (env,), None)
    assert entry.summary.startswith(f"alias taken is in use by {env}: adopt it")
    assert harness.sandbox.count(CREATE) == harness.sandbox.count(SHARE) == harness.sandbox.count(ESTABLISH) == 0


async def test_alias_in_use_twice_is_a_duplicate(harness: Harness) -> None:
    """All environments with the alias are named."""
    envs = {harness.sandbox.world.add("taken"), harness.sandbox.world.add("Taken")}
    report = await harness.provision([Tenant("a", alias="taken"), Tenant("b", alias="free")])
    assert [entry.outcome for entry in report.tenants] == [Outcome.DUPLICATE, Outcome.DONE]
    assert set(report.tenants[0].existing) == envs


async def test_second_run_finds_results_of_first(harness: Harness) -> None:
    """The journal knows the owners, so nothing is created, shared or established twice."""
    tenants = [Tenant(name, alias=name, appids=[WX1], services=[API]) for name in "abc"]
    async with harness.provisioner() as provisioner:
        first = await provisioner.apply(tenants).wait()
        second = await provisioner.apply(tenants).wait()
    assert [entry.env for entry in second.tenants] == [entry.env for entry in first.tenants]
    assert [entry.links for entry in second.tenants] == [entry.links for entry in first.tenants]
    assert second.all_done
    assert (harness.sandbox.count(CREATE), harness.sandbox.count(ESTABLISH), len(harness.sandbox.world.shares)) == (
        3,
        3,
        3,
    )


async def test_run_with_another_journal_finds_conflicts(harness: Harness) -> None:
    """This journal does not know the environments that the other one created."""
    first = await harness.provision(plain_tenants(3))
    second = await harness.provision(plain_tenants(3))
    assert [entry.existing for entry in second.tenants] == [(entry.env,) for entry in first.tenants]
    assert second.counts[Outcome.CONFLICT] == harness.sandbox.count(CREATE) == 3


async def test_failed_tenant_continues_at_failed_step(harness: Harness) -> None:
    """Completed steps are not repeated."""
    harness.sandbox.faults.script(ESTABLISH, [None, Fault(FaultKind.ERRCODE, errcode=40097)])
    tenants = [Tenant("a", alias="x", appids=[WX1], services=[API, WEB])]
    async with harness.provisioner() as provisioner:
        first = await provisioner.apply(tenants).wait()
        second = await provisioner.apply(tenants).wait()
    assert (first.tenants[0].outcome, second.tenants[0].outcome) == (Outcome.FAILED, Outcome.AWAITING)
    assert second.tenants[0].done == (SERVICES,)
    assert [harness.sandbox.count(path) for path in (CREATE, SHARE, ESTABLISH)] == [1, 1, 3]


async def test_rejected_create_fails_only_its_tenant(harness: Harness) -> None:
    """The report holds the error, its code and its step; the next tenant is done."""
    harness.sandbox.faults.errcode(40097, path=CREATE, times=1)
    report = await harness.provision(plain_tenants(2), concurrency=1)
    failed, done = report.tenants
    assert (failed.outcome, failed.done, done.outcome) == (Outcome.FAILED, (), Outcome.DONE)
    assert isinstance(failed.problems[0].error, wxtcb.InvalidRequest)
    assert failed.summary.startswith("environment: create_env (/componenttcb/createenv): 40097")


async def test_partly_failed_share_does_not_stop_services(harness: Harness) -> None:
    """The links are reported, and the failed mini programs are named with the reason."""
    harness.sandbox.world.is_authorised = WX1.__eq__
    report = await harness.provision([Tenant("a", alias="x", appids=[WX1, WX2], services=[API])])
    entry = report.tenants[0]
    assert (entry.outcome, entry.services) == (Outcome.FAILED, ("api",))
    assert [link.appid for link in entry.links] == [WX1]
    assert entry.summary == f"share {WX2}: invalid appid"
    assert entry.done == (ENVIRONMENT, READY, SERVICES)


async def test_rejected_share_does_not_stop_services(harness: Harness) -> None:
    """An errcode of the share fails only that step."""
    harness.sandbox.faults.errcode(61007, path=SHARE)
    report = await harness.provision([Tenant("a", alias="x", appids=[WX1], services=[API])])
    assert [problem.step for problem in report.tenants[0].problems] == [SHARED]
    assert report.tenants[0].services == ("api",)


async def test_halted_environment_fails(harness: Harness) -> None:
    """The status is reported, and no step follows."""
    harness.sandbox.world.ready_after = ReadyPolicy.after_seconds(60)
    async with harness.provisioner() as provisioner:
        run = provisioner.apply([Tenant("a", alias="x", appids=[WX1])])
        async for event in run.events():
            if isinstance(event, StepDone):
                harness.sandbox.world.halt(event.env)
        entry = (await run.wait()).tenants[0]
    assert (entry.outcome, entry.env is not None) == (Outcome.FAILED, True)
    assert "HALTED" in entry.summary
    assert harness.sandbox.count(SHARE) == 0


@pytest.mark.parametrize(("hidden", "status"), [(0.0, "UNAVAILABLE"), (90.0, "not listed")])
async def test_environment_that_takes_too_long_fails(harness: Harness, hidden: float, status: str) -> None:
    """Its id and last status are reported, because it may become NORMAL later."""
    harness.sandbox.world.ready_after = ReadyPolicy.after_seconds(60)
    harness.sandbox.world.visible_after = hidden
    entry = (await harness.provision(plain_tenants(1), timeout=12)).tenants[0]
    assert (entry.outcome, entry.env is not None) == (Outcome.FAILED, True)
    assert f"still {status} after 12 s" in entry.summary


async def test_failed_listings_delay_a_waiting_tenant(harness: Harness) -> None:
    """Once listings succeed again, the environment is found NORMAL."""
    bad = Fault(FaultKind.ERRCODE, errcode=40097)
    harness.sandbox.faults.script(LIST, [None, bad, bad])
    assert (await harness.provision(plain_tenants(1))).all_done


async def test_waiting_tenant_times_out_while_listings_fail(harness: Harness) -> None:
    """The timeout holds even if no listing succeeds."""
    harness.sandbox.faults.script(LIST, [None])
    harness.sandbox.faults.errcode(40097, path=LIST)
    entry = (await harness.provision(plain_tenants(1), timeout=12)).tenants[0]
    assert "not seen: no poll succeeded after 12 s" in entry.summary


async def test_nothing_is_created_without_a_listing(harness: Harness) -> None:
    """No plan can be made, and the report says why no tenant was started."""
    harness.sandbox.faults.errcode(40097, path=LIST)
    report = await harness.provision(plain_tenants(2))
    assert report.counts[Outcome.UNFINISHED] == 2
    assert "40097" in report.stop_message
    assert harness.sandbox.count(CREATE) == 0


@pytest.mark.parametrize(("bad", "failed"), [(2, 0), (3, 1)])
async def test_late_create_needs_a_new_listing(harness: Harness, bad: int, failed: int) -> None:
    """A listing is too old after 5 seconds; after three failed ones the tenant fails, and nothing is sent for it."""
    harness.wire.latency = 2.0
    harness.sandbox.faults.script(LIST, [None, *[Fault(FaultKind.ERRCODE, errcode=40097)] * bad])
    report = await harness.provision(plain_tenants(3), concurrency=1, interval=100)
    assert (report.counts[Outcome.DONE], report.counts[Outcome.FAILED]) == (3 - failed, failed)
    assert [problem.step for entry in report.tenants for problem in entry.problems] == [ENVIRONMENT] * failed
    assert harness.sandbox.count(CREATE) == 3 - failed


async def test_alias_used_since_the_plan_is_a_conflict(harness: Harness) -> None:
    """The listing right before the create shows it, and nothing is created."""
    async with harness.provisioner() as provisioner:
        plan = await provisioner.plan(plain_tenants(1))
        env = harness.sandbox.world.add("A0")
        await asyncio.sleep(6)
        entry = (await provisioner.apply(plan).wait()).tenants[0]
    assert (entry.outcome, entry.existing, harness.sandbox.count(CREATE)) == (Outcome.CONFLICT, (env,), 0)


async def test_each_subscriber_gets_events_from_its_start(harness: Harness) -> None:
    """Each subscriber has its own events from its subscription on; after the end there are none."""
    async with harness.provisioner() as provisioner:
        run = provisioner.apply(plain_tenants(2))
        first, second = run.events(), run.events()
        assert [event async for event in first] == [event async for event in second]
        assert [event async for event in run.events()] == []


async def test_failed_step_is_an_event(harness: Harness) -> None:
    """The event holds the problem of the report."""
    harness.sandbox.faults.errcode(40097, path=CREATE)
    events = await harness.collect_events(plain_tenants(1))
    failed = [event for event in events if isinstance(event, StepFailed)]
    assert [event.problem for event in failed] == list(events[-1].report.problems)


async def test_vanished_environment_fails_before_timeout(harness: Harness) -> None:
    """After 30 seconds without it in any listing it counts as deleted, long before the timeout of 600 seconds."""
    harness.sandbox.world.ready_after = ReadyPolicy.after_seconds(60)
    async with harness.provisioner() as provisioner:
        run = provisioner.apply(plain_tenants(1))
        async for event in run.events():
            if isinstance(event, StepDone):
                harness.sandbox.world.remove(event.env)
        report = await run.wait()
    assert isinstance(report.tenants[0].problems[0].error, wxtcb.OperationNotFound)
    assert 30 < report.elapsed < 60
