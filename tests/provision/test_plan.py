"""Plans: actions and steps of tenants, and adoption."""

from __future__ import annotations

import asyncio
import json

import pytest

import wxtcb
from wxtcb.provision import Action, MemoryJournal, Outcome, Tenant
from wxtcb.sandbox import Fault, FaultKind

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
    WX1,
    plain,
    seen,
)

pytestmark = pytest.mark.virtual_time

COMPLETE = Tenant("a", alias="mine", appids=[WX1], services=[API])


async def test_new_tenant_is_planned_to_be_created(rig: Rig) -> None:
    """It has all its steps; planning sends only reads."""
    async with rig.provisioner() as provisioner:
        plan = await provisioner.plan([COMPLETE, Tenant("b")])
    assert [(each.action, each.steps) for each in plan.tenants] == [
        (Action.CREATE, STEPS),
        (Action.CREATE, (ENVIRONMENT, READY)),
    ]
    assert (plan.create_count, plan.has_changes, plan.namespace) == (2, True, rig.box.component_appid)
    assert {request.path for request in rig.box.seen} - {LIST} == {"/cgi-bin/component/api_component_token"}


async def test_done_tenant_is_ready_without_steps(rig: Rig) -> None:
    """An apply sends no request, and reports the tenant with what it has."""
    async with rig.provisioner() as provisioner:
        first = await provisioner.apply([COMPLETE]).wait()
        plan = await provisioner.plan([COMPLETE])
        sent = len(rig.box.seen)
        second = await provisioner.apply(plan).wait()
    (planned,) = plan.tenants
    assert (planned.action, planned.env, planned.status) == (Action.READY, first.tenants[0].env, "NORMAL")
    assert (planned.steps, plan.has_changes, len(rig.box.seen)) == ((), False, sent)
    assert second.tenants[0].links == first.tenants[0].links


async def test_missing_steps_of_a_ready_tenant_are_planned(rig: Rig) -> None:
    """These are a failed service and a mini program added since."""
    rig.box.faults.script(ESTABLISH, [Fault(FaultKind.ERRCODE, errcode=40097)])
    async with rig.provisioner() as provisioner:
        await provisioner.apply([COMPLETE]).wait()
        plan = await provisioner.plan([Tenant("a", alias="mine", appids=[WX1, "wx0000000000000009"], services=[API])])
        report = await provisioner.apply(plan).wait()
    assert (plan.tenants[0].action, plan.tenants[0].steps) == (Action.READY, (SHARED, SERVICES))
    assert report.all_done
    assert [request.body["data"][0]["appids"] for request in rig.box.seen if request.path == SHARE] == [
        [WX1],
        ["wx0000000000000009"],
    ]


async def test_resend_links_requests_new_links(rig: Rig) -> None:
    """Every mini program gets another link."""
    async with rig.provisioner() as provisioner:
        first = await provisioner.apply([COMPLETE]).wait()
        plan = await provisioner.plan([COMPLETE], resend_links=True)
        second = await provisioner.apply(plan).wait()
    assert plan.tenants[0].steps == (SHARED,)
    assert first.tenants[0].links != second.tenants[0].links
    assert (rig.box.count(SHARE), rig.box.count(CREATE)) == (2, 1)


@pytest.mark.parametrize(
    ("aliases", "action"),
    [(["taken"], Action.CONFLICT), (["tAKEN"], Action.CONFLICT), (["taken", "TAKEN"], Action.DUPLICATE)],
)
async def test_alias_in_use_is_a_conflict(rig: Rig, aliases: list[str], action: Action) -> None:
    """Case does not matter; the environments are named, and an apply does nothing for the tenant."""
    envs = {rig.box.world.add(alias) for alias in aliases}
    async with rig.provisioner() as provisioner:
        plan = await provisioner.plan([Tenant("a", alias="taken", appids=[WX1])])
        report = await provisioner.apply(plan).wait()
    (planned,) = plan.tenants
    assert (planned.action, set(planned.existing), planned.steps) == (action, envs, ())
    assert planned.reason.startswith("alias taken is in use by ")
    assert set(planned.adoptable) == envs
    assert (report.tenants[0].outcome.value, report.tenants[0].summary) == (action.value, planned.reason)
    assert rig.box.count(CREATE) == rig.box.count(SHARE) == 0


async def test_adopt_binds_the_environment(rig: Rig) -> None:
    """The later steps follow; one of several environments may be chosen."""
    mine = rig.box.world.add("mine")
    rig.box.world.add("Mine")
    async with rig.provisioner() as provisioner:
        plan = await provisioner.plan([COMPLETE], adopt={"a": mine})
        assert (plan.tenants[0].action, plan.tenants[0].env) == (Action.ADOPT, mine)
        assert plan.tenants[0].steps == (ENVIRONMENT, SHARED, SERVICES)
        report = await provisioner.apply(plan).wait()
        again = await provisioner.plan([COMPLETE])
    assert (report.tenants[0].outcome, report.tenants[0].env) == (Outcome.AWAITING, mine)
    assert (again.tenants[0].action, again.tenants[0].env) == (Action.READY, mine)
    assert rig.box.count(CREATE) == 0


@pytest.mark.parametrize(
    ("adopt", "reason"),
    [
        ({"unknown": "e"}, "adopt unknown=e: unknown tenant"),
        ({"a": "nothing"}, "adopt a=nothing: the platform lists no such environment"),
        ({"a": "other-1"}, "its alias is 'other', not 'mine'"),
        ({"a": "taken-1"}, "the environment belongs to tenant 'c'"),
    ],
)
async def test_invalid_adoption_is_rejected(rig: Rig, adopt: dict[str, str], reason: str) -> None:
    """The message has the tenant and the reason, and nothing is changed."""
    rig.box.world.add("other", env="other-1")
    rig.box.world.add("taken", env="taken-1")
    async with rig.provisioner() as provisioner:
        await provisioner.apply(await provisioner.plan([Tenant("c", alias="taken")], adopt={"c": "taken-1"})).wait()
        with pytest.raises(wxtcb.InvalidArgument, match=reason):
            await provisioner.plan([COMPLETE], adopt=adopt)


@pytest.mark.parametrize("adopt", [["a"], {"a": 1}, {"a": ""}])
async def test_adopt_must_map_strings_to_strings(rig: Rig, adopt: object) -> None:
    """Any other value is rejected before environments are listed."""
    async with rig.provisioner() as provisioner:
        with pytest.raises(wxtcb.InvalidArgument, match="adopt"):
            await provisioner.plan([COMPLETE], adopt=adopt)
    assert rig.box.count(LIST) == 0


async def test_deleted_environment_is_not_created_again(rig: Rig) -> None:
    """It is a conflict, after two more lists."""
    async with rig.provisioner() as provisioner:
        first = await provisioner.apply(plain(1)).wait()
        rig.box.world.remove(first.tenants[0].env)
        await asyncio.sleep(provisioner.settle)
        lists = rig.box.count(LIST)
        plan = await provisioner.plan(plain(1))
        report = await provisioner.apply(plan).wait()
    assert (plan.tenants[0].action, rig.box.count(LIST) - lists) == (Action.CONFLICT, 3)
    assert plan.tenants[0].reason.endswith("if it was deleted, forget it")
    assert plan.missing_envs == {plan.tenants[0].tenant.name: first.tenants[0].env}
    assert (report.tenants[0].outcome, rig.box.count(CREATE)) == (Outcome.CONFLICT, 1)


async def test_incomplete_list_is_repeated(rig: Rig) -> None:
    """The second list has the environment, and counts."""
    async with rig.provisioner() as provisioner:
        await provisioner.apply(plain(2)).wait()
        rig.box.faults.script(LIST, [Fault(FaultKind.INCOMPLETE_LIST)])
        plan = await provisioner.plan(plain(2))
    assert plan.counts[Action.READY] == 2


async def test_changed_alias_is_a_conflict(rig: Rig) -> None:
    """No environment is created under the new alias."""
    async with rig.provisioner() as provisioner:
        await provisioner.apply([Tenant("a", alias="x")]).wait()
        plan = await provisioner.plan([Tenant("a", alias="y")])
    assert plan.tenants[0].action is Action.CONFLICT
    assert plan.tenants[0].reason.endswith("has alias x, not y: restore that alias of the tenant")


async def test_changed_alias_with_ambiguous_create_is_a_conflict(rig: Rig) -> None:
    """The create under the previous alias must be settled first."""
    rig.box.faults.drop_after(path=CREATE)
    async with rig.provisioner() as provisioner:
        run = provisioner.apply([Tenant("a", alias="x")])
        await seen(rig.box, CREATE)
        await run.cancel()
        plan = await provisioner.plan([Tenant("a", alias="y")])
    assert plan.tenants[0].action is Action.CONFLICT
    assert plan.tenants[0].reason == (
        "the outcome of a create under the previous alias x is unknown: restore that alias first"
    )


async def test_plan_applied_twice_creates_once(rig: Rig) -> None:
    """The second apply renews the plan, because the journal has changed."""
    async with rig.provisioner() as provisioner:
        plan = await provisioner.plan(plain(2))
        await provisioner.apply(plan).wait()
        report = await provisioner.apply(plan).wait()
    assert (rig.box.count(CREATE), report.all_done) == (2, True)


async def test_plan_of_another_journal_is_rejected(rig: Rig) -> None:
    """It does not know the environments of this one."""
    async with rig.provisioner(namespace="one") as one, rig.provisioner(namespace="two") as two:
        plan = await one.plan(plain(1))
        with pytest.raises(wxtcb.InvalidArgument, match="the plan was made with another journal"):
            two.apply(plan)


async def test_journal_stores_the_namespace(rig: Rig) -> None:
    """Another namespace is rejected; without one, the stored one is used."""
    journal = MemoryJournal()
    async with rig.provisioner(journal=journal, namespace="one"):
        pass
    async with rig.provisioner(journal=journal) as provisioner:
        assert (await provisioner.plan([Tenant("a")])).namespace == "one"
    with pytest.raises(wxtcb.InvalidArgument, match="the journal belongs to namespace 'one', not 'two'"):
        async with rig.provisioner(journal=journal, namespace="two"):
            pass


async def test_plan_of_many_tenants(rig: Rig) -> None:
    """Planning 2,000 tenants takes several iterations of the event loop."""
    async with rig.provisioner() as provisioner:
        plan = await provisioner.plan(plain(2_000))
    assert plan.counts[Action.CREATE] == 2_000


async def test_plan_json_has_all_fields(rig: Rig) -> None:
    """Tenants have action and steps, and the counts are included."""
    env = rig.box.world.add("taken")
    async with rig.provisioner() as provisioner:
        plan = await provisioner.plan([Tenant("商户", alias="taken"), COMPLETE])
    document = json.loads(plan.to_json())
    assert document["tenants"][0] == {
        "tenant": "商户",
        "alias": "taken",
        "action": "conflict",
        "env": None,
        "status": None,
        "steps": [],
        "existing": [env],
        "adoptable": [env],
        "reason": f"alias taken is in use by {env}: adopt it if it is this tenant's, else choose another alias",
    }
    assert document["tenants"][1]["steps"] == list(STEPS)
    assert (document["missing"], document["absent"]) == ({}, {})
    assert (document["counts"]["create"], document["counts"]["ready"], document["total"]) == (1, 0, 2)


async def test_str_has_tenants_and_summary(rig: Rig) -> None:
    """Each tenant has a line with a symbol, and its steps or reason."""
    taken = rig.box.world.add("taken")
    async with rig.provisioner() as provisioner:
        await provisioner.apply([Tenant("b", alias="b")]).wait()
        plan = await provisioner.plan([COMPLETE, Tenant("b", alias="b"), Tenant("商户", alias="taken")])
    assert taken in plan.tenants[2].reason
    assert str(plan).splitlines() == [
        "+ a: create, alias mine: environment, ready, share, services",
        f"  b: ready, {plan.tenants[1].env}: nothing to do",
        f"! 商户: conflict, {plan.tenants[2].reason}",
        "Plan: 1 to create, 0 to adopt, 1 ready, 1 in conflict.",
    ]
