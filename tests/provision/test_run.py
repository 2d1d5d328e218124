"""Runs against the sandbox: steps, reports and events of tenants."""

from __future__ import annotations

import asyncio

import pytest

import wxtcb
from wxtcb.provision import Outcome, Tenant
from wxtcb.provision.events import StepDone, StepFailed, TenantFinished, TenantStarted
from wxtcb.sandbox import Fault, FaultKind, ReadyPolicy

from .conftest import Rig
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
    plain,
    seen,
)

pytestmark = pytest.mark.virtual_time


async def test_tenant_gets_everything_it_requests(rig: Rig) -> None:
    """Environment, share and services exist, and the report lists them."""
    tenant = Tenant("商户", alias="Mine".lower(), appids=[WX1, WX2], services=[API, WEB], source_type=1)
    report = await rig.provision([tenant])
    entry = report.tenants[0]
    world = rig.box.world
    assert (entry.tenant, entry.alias, entry.outcome) == ("商户", "mine", Outcome.AWAITING)
    assert entry.done == STEPS
    assert (entry.step, entry.services, entry.problems) == (None, ("api", "web"), ())
    assert entry.env is not None
    assert [link.url for link in entry.links] == [world.shares[entry.env, appid].url for appid in (WX1, WX2)]
    assert [share.source_type for share in world.shares.values()] == [1, 1]
    assert set(world.services) == {(entry.env, "api"), (entry.env, "web")}
    assert report.all_done
    assert entry.summary == "2 to confirm"


async def test_report_names_platform_and_namespace(rig: Rig) -> None:
    """It names the session's platform, the component and the journal's namespace, even for an empty run."""
    for tenants in (plain(1), []):
        run_info = (await rig.provision(tenants, namespace="shop")).run_info
        assert run_info is not None
        assert (run_info.base_url, run_info.component_appid) == (rig.session.base_url, rig.session.component_appid)
        assert run_info.namespace == "shop"


async def test_events_are_in_order(rig: Rig) -> None:
    """The tenant starts, its steps follow in order, and it finishes with its report."""
    events = await rig.told([Tenant("a", alias="x", appids=[WX1], services=[API])])
    env = next(iter(rig.box.world.environments))
    assert events[:-1] == [TenantStarted("a", "x"), *(StepDone("a", step, env) for step in STEPS)]
    assert isinstance(events[-1], TenantFinished)
    assert events[-1].report.outcome is Outcome.AWAITING


async def test_tenant_without_alias_gets_derived_alias(rig: Rig) -> None:
    """The namespace is the component appid unless another one is given."""
    report = await rig.provision([Tenant("a")])
    assert report.tenants[0].alias == wxtcb.provision.derive_alias(rig.box.component_appid, "a")
    assert report.tenants[0].outcome is Outcome.DONE
    report = await rig.provision([Tenant("a")], namespace="mine")
    assert report.tenants[0].alias == wxtcb.provision.derive_alias("mine", "a")
    assert len(rig.box.world.environments) == 2


async def test_run_without_tenants_sends_nothing(rig: Rig) -> None:
    """The report is empty and counts as done."""
    report = await rig.provision([])
    assert (report.tenants, report.all_done, len(rig.box.seen)) == ((), True, 0)


@pytest.mark.unmeasured
async def test_many_tenants_share_few_listings_and_workers(rig: Rig) -> None:
    """10,000 tenants whose environments take 30 seconds need a minute, one task per worker, and few listings."""
    rig.box.world.ready_after = ReadyPolicy.after_seconds(30)
    rig.wire.latency = 0.15
    tasks = len(asyncio.all_tasks())
    async with rig.provisioner(concurrency=64) as provisioner:
        run = provisioner.apply(plain(10_000))
        await seen(rig.box, CREATE, 5_000)
        during = len(asyncio.all_tasks())
        report = await run.wait()
    assert report.counts[Outcome.DONE] == rig.box.count(CREATE) == 10_000
    assert 50 < report.elapsed < 62
    assert rig.box.count(LIST) <= report.elapsed
    assert during - tasks < 64 + 10


async def test_waiting_tenant_blocks_no_other(rig: Rig) -> None:
    """With one worker, all creates are sent before the first environment is NORMAL."""
    rig.box.world.ready_after = ReadyPolicy.after_polls(20)
    events = await rig.told(plain(5), concurrency=1)
    steps = [event.step for event in events if isinstance(event, StepDone)]
    assert steps == [ENVIRONMENT] * 5 + [READY] * 5


@pytest.mark.parametrize("alias", ["taken", "tAKEN"])
async def test_alias_in_use_is_a_conflict(rig: Rig, alias: str) -> None:
    """Case is ignored; nothing is created, shared or established, and the existing environment is named."""
    env = rig.box.world.add(alias)
    report = await rig.provision([Tenant("a", alias="taken", appids=[WX1], services=[API])])
    entry = report.tenants[0]
    assert (entry.outcome, entry.existing, entry.env) == (Outcome.CONFLICT, (env,), None)
    assert entry.summary.startswith(f"alias taken is in use by {env}: adopt it")
    assert rig.box.count(CREATE) == rig.box.count(SHARE) == rig.box.count(ESTABLISH) == 0


async def test_alias_in_use_twice_is_a_duplicate(rig: Rig) -> None:
    """All environments with the alias are named."""
    envs = {rig.box.world.add("taken"), rig.box.world.add("Taken")}
    report = await rig.provision([Tenant("a", alias="taken"), Tenant("b", alias="free")])
    assert [entry.outcome for entry in report.tenants] == [Outcome.DUPLICATE, Outcome.DONE]
    assert set(report.tenants[0].existing) == envs


async def test_second_run_finds_results_of_first(rig: Rig) -> None:
    """The journal knows the owners, so nothing is created, shared or established twice."""
    tenants = [Tenant(name, alias=name, appids=[WX1], services=[API]) for name in "abc"]
    async with rig.provisioner() as provisioner:
        first = await provisioner.apply(tenants).wait()
        second = await provisioner.apply(tenants).wait()
    assert [entry.env for entry in second.tenants] == [entry.env for entry in first.tenants]
    assert [entry.links for entry in second.tenants] == [entry.links for entry in first.tenants]
    assert second.all_done
    assert (rig.box.count(CREATE), rig.box.count(ESTABLISH), len(rig.box.world.shares)) == (3, 3, 3)


async def test_run_with_another_journal_finds_conflicts(rig: Rig) -> None:
    """This journal does not know the environments that the other one created."""
    first = await rig.provision(plain(3))
    second = await rig.provision(plain(3))
    assert [entry.existing for entry in second.tenants] == [(entry.env,) for entry in first.tenants]
    assert second.counts[Outcome.CONFLICT] == rig.box.count(CREATE) == 3


async def test_failed_tenant_continues_at_failed_step(rig: Rig) -> None:
    """Completed steps are not repeated."""
    rig.box.faults.script(ESTABLISH, [None, Fault(FaultKind.ERRCODE, errcode=40097)])
    tenants = [Tenant("a", alias="x", appids=[WX1], services=[API, WEB])]
    async with rig.provisioner() as provisioner:
        first = await provisioner.apply(tenants).wait()
        second = await provisioner.apply(tenants).wait()
    assert (first.tenants[0].outcome, second.tenants[0].outcome) == (Outcome.FAILED, Outcome.AWAITING)
    assert second.tenants[0].done == (SERVICES,)
    assert [rig.box.count(path) for path in (CREATE, SHARE, ESTABLISH)] == [1, 1, 3]


async def test_rejected_create_fails_only_its_tenant(rig: Rig) -> None:
    """The report holds the error, its code and its step; the next tenant is done."""
    rig.box.faults.errcode(40097, path=CREATE, times=1)
    report = await rig.provision(plain(2), concurrency=1)
    failed, done = report.tenants
    assert (failed.outcome, failed.done, done.outcome) == (Outcome.FAILED, (), Outcome.DONE)
    assert isinstance(failed.problems[0].error, wxtcb.InvalidRequest)
    assert failed.summary.startswith("environment: /componenttcb/createenv: 40097")


async def test_partly_failed_share_does_not_stop_services(rig: Rig) -> None:
    """The links are reported, and the failed mini programs are named with the reason."""
    report = await rig.provision([Tenant("a", alias="x", appids=[WX1, "bad"], services=[API])])
    entry = report.tenants[0]
    assert (entry.outcome, entry.services) == (Outcome.FAILED, ("api",))
    assert [link.appid for link in entry.links] == [WX1]
    assert entry.summary == "share bad: invalid appid"
    assert entry.done == (ENVIRONMENT, READY, SERVICES)


async def test_rejected_share_does_not_stop_services(rig: Rig) -> None:
    """An errcode of the share fails only that step."""
    rig.box.faults.errcode(61007, path=SHARE)
    report = await rig.provision([Tenant("a", alias="x", appids=[WX1], services=[API])])
    assert [problem.step for problem in report.tenants[0].problems] == [SHARED]
    assert report.tenants[0].services == ("api",)


async def test_halted_environment_fails(rig: Rig) -> None:
    """The status is reported, and no step follows."""
    rig.box.world.ready_after = ReadyPolicy.after_seconds(60)
    async with rig.provisioner() as provisioner:
        run = provisioner.apply([Tenant("a", alias="x", appids=[WX1])])
        async for event in run.events():
            if isinstance(event, StepDone):
                rig.box.world.halt(event.env)
        entry = (await run.wait()).tenants[0]
    assert (entry.outcome, entry.env is not None) == (Outcome.FAILED, True)
    assert "HALTED" in entry.summary
    assert rig.box.count(SHARE) == 0


@pytest.mark.parametrize(("hidden", "status"), [(0.0, "UNAVAILABLE"), (90.0, "not listed")])
async def test_environment_that_takes_too_long_fails(rig: Rig, hidden: float, status: str) -> None:
    """Its id and last status are reported, because it may become NORMAL later."""
    rig.box.world.ready_after = ReadyPolicy.after_seconds(60)
    rig.box.world.visible_after = hidden
    entry = (await rig.provision(plain(1), timeout=12)).tenants[0]
    assert (entry.outcome, entry.env is not None) == (Outcome.FAILED, True)
    assert f"still {status} after 12 s" in entry.summary


async def test_failed_listings_delay_a_waiting_tenant(rig: Rig) -> None:
    """Once listings succeed again, the environment is found NORMAL."""
    bad = Fault(FaultKind.ERRCODE, errcode=40097)
    rig.box.faults.script(LIST, [None, bad, bad])
    assert (await rig.provision(plain(1))).all_done


async def test_waiting_tenant_times_out_while_listings_fail(rig: Rig) -> None:
    """The timeout holds even if no listing succeeds."""
    rig.box.faults.script(LIST, [None])
    rig.box.faults.errcode(40097, path=LIST)
    entry = (await rig.provision(plain(1), timeout=12)).tenants[0]
    assert "not seen: no poll succeeded after 12 s" in entry.summary


async def test_nothing_is_created_without_a_listing(rig: Rig) -> None:
    """No plan can be made, and the report says why no tenant was started."""
    rig.box.faults.errcode(40097, path=LIST)
    report = await rig.provision(plain(2))
    assert report.counts[Outcome.UNFINISHED] == 2
    assert "40097" in (report.stop_reason or "")
    assert rig.box.count(CREATE) == 0


@pytest.mark.parametrize(("bad", "failed"), [(2, 0), (3, 1)])
async def test_late_create_needs_a_new_listing(rig: Rig, bad: int, failed: int) -> None:
    """A listing is too old after 5 seconds; after three failed ones the tenant fails, and nothing is sent for it."""
    rig.wire.latency = 2.0
    rig.box.faults.script(LIST, [None, *[Fault(FaultKind.ERRCODE, errcode=40097)] * bad])
    report = await rig.provision(plain(3), concurrency=1, interval=100)
    assert (report.counts[Outcome.DONE], report.counts[Outcome.FAILED]) == (3 - failed, failed)
    assert [problem.step for entry in report.tenants for problem in entry.problems] == [ENVIRONMENT] * failed
    assert rig.box.count(CREATE) == 3 - failed


async def test_alias_used_since_the_plan_is_a_conflict(rig: Rig) -> None:
    """The listing right before the create shows it, and nothing is created."""
    async with rig.provisioner() as provisioner:
        plan = await provisioner.plan(plain(1))
        env = rig.box.world.add("A0")
        await asyncio.sleep(6)
        entry = (await provisioner.apply(plan).wait()).tenants[0]
    assert (entry.outcome, entry.existing, rig.box.count(CREATE)) == (Outcome.CONFLICT, (env,), 0)


async def test_each_subscriber_gets_events_from_its_start(rig: Rig) -> None:
    """Each subscriber has its own events from its subscription on; after the end there are none."""
    async with rig.provisioner() as provisioner:
        run = provisioner.apply(plain(2))
        first, second = run.events(), run.events()
        assert [event async for event in first] == [event async for event in second]
        assert [event async for event in run.events()] == []


async def test_failed_step_is_an_event(rig: Rig) -> None:
    """The event holds the problem of the report."""
    rig.box.faults.errcode(40097, path=CREATE)
    events = await rig.told(plain(1))
    failed = [event for event in events if isinstance(event, StepFailed)]
    assert [event.problem for event in failed] == list(events[-1].report.problems)


async def test_vanished_environment_fails_before_timeout(rig: Rig) -> None:
    """After 30 seconds without it in any listing it counts as deleted, long before the timeout of 600 seconds."""
    rig.box.world.ready_after = ReadyPolicy.after_seconds(60)
    async with rig.provisioner() as provisioner:
        run = provisioner.apply(plain(1))
        async for event in run.events():
            if isinstance(event, StepDone):
                rig.box.world.remove(event.env)
        report = await run.wait()
    assert isinstance(report.tenants[0].problems[0].error, wxtcb.OperationNotFound)
    assert 30 < report.elapsed < 60
