"""Plans: actions and steps of tenants, and adoption."""

from __future__ import annotations

import asyncio
import json

import attrs
import pytest

import wxtcb
from wxtcb.provision import Action, MemoryJournal, Outcome, Tenant, derive_alias
from wxtcb.sandbox import Fault, FaultKind

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
    WX1,
    plain_tenants,
    wait_for_requests,
)

pytestmark = pytest.mark.virtual_time

COMPLETE = Tenant("a", alias="mine", appids=[WX1], services=[API])


async def test_new_tenant_is_planned_to_be_created(harness: Harness) -> None:
    """It has all its steps; planning sends only reads."""
    async with harness.provisioner() as provisioner:
        plan = await provisioner.plan([COMPLETE, Tenant("b")])
    assert [(each.action, each.steps) for each in plan.tenants] == [
        (Action.CREATE, STEPS),
        (Action.CREATE, (ENVIRONMENT, READY)),
    ]
    assert (plan.create_count, plan.has_changes, plan.namespace) == (2, True, harness.sandbox.component_appid)
    assert {request.path for request in harness.sandbox.seen} - {LIST} == {"/cgi-bin/component/api_component_token"}


async def test_done_tenant_is_ready_without_steps(harness: Harness) -> None:
    """An apply sends no request, and reports the tenant with what it has."""
    async with harness.provisioner() as provisioner:
        first = await provisioner.apply([COMPLETE]).wait()
        plan = await provisioner.plan([COMPLETE])
        sent = len(harness.sandbox.seen)
        second = await provisioner.apply(plan).wait()
    (planned,) = plan.tenants
    assert (planned.action, planned.env, planned.status) == (Action.READY, first.tenants[0].env, "NORMAL")
    assert (planned.steps, plan.has_changes, len(harness.sandbox.seen)) == ((), False, sent)
    assert second.tenants[0].links == first.tenants[0].links


async def test_missing_steps_of_a_ready_tenant_are_planned(harness: Harness) -> None:
    """These are a failed service and a mini program added since."""
    harness.sandbox.faults.script(ESTABLISH, [Fault(FaultKind.ERRCODE, errcode=40097)])
    async with harness.provisioner() as provisioner:
        await provisioner.apply([COMPLETE]).wait()
        plan = await provisioner.plan([Tenant("a", alias="mine", appids=[WX1, "wx0000000000000009"], services=[API])])
        report = await provisioner.apply(plan).wait()
    assert (plan.tenants[0].action, plan.tenants[0].steps) == (Action.READY, (SHARED, SERVICES))
    assert report.all_done
    assert [request.body["data"][0]["appids"] for request in harness.sandbox.seen if request.path == SHARE] == [
        [WX1],
        ["wx0000000000000009"],
    ]


async def test_resend_links_requests_new_links(harness: Harness) -> None:
    """Every mini program gets another link."""
    async with harness.provisioner() as provisioner:
        first = await provisioner.apply([COMPLETE]).wait()
        plan = await provisioner.plan([COMPLETE], resend_links=True)
        second = await provisioner.apply(plan).wait()
    assert plan.tenants[0].steps == (SHARED,)
    assert first.tenants[0].links != second.tenants[0].links
    assert (harness.sandbox.count(SHARE), harness.sandbox.count(CREATE)) == (2, 1)


@pytest.mark.parametrize(
    ("aliases", "action"),
    [(["taken"], Action.CONFLICT), (["tAKEN"], Action.CONFLICT), (["taken", "TAKEN"], Action.DUPLICATE)],
)
async def test_alias_in_use_is_a_conflict(harness: Harness, aliases: list[str], action: Action) -> None:
    """Case does not matter; the environments are named, and an apply does nothing for the tenant."""
    envs = {harness.sandbox.world.add(alias) for alias in aliases}
    async with harness.provisioner() as provisioner:
        plan = await provisioner.plan([Tenant("a", alias="taken", appids=[WX1])])
        report = await provisioner.apply(plan).wait()
    (planned,) = plan.tenants
    assert (planned.action, set(planned.existing), planned.steps) == (action, envs, ())
    assert planned.reason.startswith("alias taken is in use by ")
    assert set(planned.adoptable) == envs
    assert (report.tenants[0].outcome.value, report.tenants[0].summary) == (action.value, planned.reason)
    assert harness.sandbox.count(CREATE) == harness.sandbox.count(SHARE) == 0


async def test_adopt_binds_the_environment(harness: Harness) -> None:
    """The later steps follow; one of several environments may be chosen."""
    mine = harness.sandbox.world.add("mine")
    harness.sandbox.world.add("Mine")
    async with harness.provisioner() as provisioner:
        plan = await provisioner.plan([COMPLETE], adopt={"a": mine})
        assert (plan.tenants[0].action, plan.tenants[0].env) == (Action.ADOPT, mine)
        assert plan.tenants[0].steps == (ENVIRONMENT, SHARED, SERVICES)
        report = await provisioner.apply(plan).wait()
        again = await provisioner.plan([COMPLETE])
    assert (report.tenants[0].outcome, report.tenants[0].env) == (Outcome.AWAITING, mine)
    assert (again.tenants[0].action, again.tenants[0].env) == (Action.READY, mine)
    assert harness.sandbox.count(CREATE) == 0


@pytest.mark.parametrize(
    ("adopt", "reason"),
    [
        ({"unknown": "e"}, "adopt unknown=e: unknown tenant"),
        ({"a": "nothing"}, "adopt a=nothing: the platform lists no such environment"),
        ({"a": "other-1"}, "its alias is 'other', not 'mine'"),
        ({"a": "taken-1"}, "the environment belongs to tenant 'c'"),
    ],
)
async def test_invalid_adoption_is_rejected(harness: Harness, adopt: dict[str, str], reason: str) -> None:
    """The message has the tenant and the reason, and nothing is changed."""
    harness.sandbox.world.add("other", env="other-1")
    harness.sandbox.world.add("taken", env="taken-1")
    async with harness.provisioner() as provisioner:
        await provisioner.apply(await provisioner.plan([Tenant("c", alias="taken")], adopt={"c": "taken-1"})).wait()
        with pytest.raises(wxtcb.InvalidArgument, match=reason):
            await provisioner.plan([COMPLETE], adopt=adopt)


@pytest.mark.parametrize("adopt", [["a"], {"a": 1}, {"a": ""}])
async def test_adopt_must_map_strings_to_strings(harness: Harness, adopt: object) -> None:
    """Any other value is rejected before environments are listed."""
    async with harness.provisioner() as provisioner:
        with pytest.raises(wxtcb.InvalidArgument, match="adopt"):
            await provisioner.plan([COMPLETE], adopt=adopt)
    assert harness.sandbox.count(LIST) == 0


async def test_deleted_environment_is_not_created_again(harness: Harness) -> None:
    """It is a conflict, after two more lists."""
    async with harness.provisioner() as provisioner:
        first = await provisioner.apply(plain_tenants(1)).wait()
        harness.sandbox.world.remove(first.tenants[0].env)
        await asyncio.sleep(provisioner.settle)
        lists = harness.sandbox.count(LIST)
        plan = await provisioner.plan(plain_tenants(1))
        report = await provisioner.apply(plan).wait()
    assert (plan.tenants[0].action, harness.sandbox.count(LIST) - lists) == (Action.CONFLICT, 3)
    assert plan.tenants[0].reason.endswith("if it was deleted, forget it")
    assert plan.missing_envs == {plan.tenants[0].tenant.name: first.tenants[0].env}
    assert (report.tenants[0].outcome, harness.sandbox.count(CREATE)) == (Outcome.CONFLICT, 1)


async def test_incomplete_list_is_repeated(harness: Harness) -> None:
    """The second list has the environment, and counts."""
    async with harness.provisioner() as provisioner:
        await provisioner.apply(plain_tenants(2)).wait()
        harness.sandbox.faults.script(LIST, [Fault(FaultKind.INCOMPLETE_LIST)])
        plan = await provisioner.plan(plain_tenants(2))
    assert plan.counts[Action.READY] == 2


async def test_changed_alias_is_a_conflict(harness: Harness) -> None:
    """No environment is created under the new alias."""
    async with harness.provisioner() as provisioner:
        await provisioner.apply([Tenant("a", alias="x")]).wait()
        plan = await provisioner.plan([Tenant("a", alias="y")])
    assert plan.tenants[0].action is Action.CONFLICT
    assert plan.tenants[0].reason.endswith("has alias x, not y: restore that alias of the tenant")


async def test_changed_alias_with_ambiguous_create_is_a_conflict(harness: Harness) -> None:
    """The create under the previous alias must be settled first."""
    harness.sandbox.faults.drop_after(path=CREATE)
    async with harness.provisioner() as provisioner:
        run = provisioner.apply([Tenant("a", alias="x")])
        await wait_for_requests(harness.sandbox, CREATE)
        await run.cancel()
        plan = await provisioner.plan([Tenant("a", alias="y")])
    assert plan.tenants[0].action is Action.CONFLICT
    assert plan.tenants[0].reason == (
        "the outcome of a create under the previous alias x is unknown: restore that alias first"
    )


async def test_plan_applied_twice_creates_once(harness: Harness) -> None:
    """The second apply renews the plan, because the journal has changed."""
    async with harness.provisioner() as provisioner:
        plan = await provisioner.plan(plain_tenants(2))
        await provisioner.apply(plan).wait()
        report = await provisioner.apply(plan).wait()
    assert (harness.sandbox.count(CREATE), report.all_done) == (2, True)


async def test_plan_of_another_journal_is_rejected(harness: Harness) -> None:
    """It does not know the environments of this one."""
    async with harness.provisioner(namespace="one") as one, harness.provisioner(namespace="two") as two:
        plan = await one.plan(plain_tenants(1))
        with pytest.raises(wxtcb.InvalidArgument, match="the plan was made with another journal"):
            two.apply(plan)


async def test_journal_stores_the_namespace(harness: Harness) -> None:
    """Another namespace is rejected; without one, the stored one is used."""
    journal = MemoryJournal()
    async with harness.provisioner(journal=journal, namespace="one"):
        pass
    async with harness.provisioner(journal=journal) as provisioner:
        assert (await provisioner.plan([Tenant("a")])).namespace == "one"
    with pytest.raises(wxtcb.InvalidArgument, match="the journal belongs to namespace 'one', not 'two'"):
        async with harness.provisioner(journal=journal, namespace="two"):
            pass


async def test_plan_of_many_tenants(harness: Harness) -> None:
    """Planning 2,000 tenants takes several iterations of the event loop."""
    async with harness.provisioner() as provisioner:
        plan = await provisioner.plan(plain_tenants(2_000))
    assert plan.counts[Action.CREATE] == 2_000


async def test_plan_json_has_all_fields(harness: Harness) -> None:
    """Tenants have action and steps, and the counts are included."""
    env = harness.sandbox.world.add("taken")
    async with harness.provisioner() as provisioner:
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


async def test_str_has_tenants_and_summary(harness: Harness) -> None:
    """Each tenant has a line with a symbol, and its steps or reason."""
    taken = harness.sandbox.world.add("taken")
    async with harness.provisioner() as provisioner:
        await provisioner.apply([Tenant("b", alias="b")]).wait()
        plan = await provisioner.plan([COMPLETE, Tenant("b", alias="b"), Tenant("商户", alias="taken")])
    assert taken in plan.tenants[2].reason
    assert str(plan).splitlines() == [
        "+ a: create, alias mine: environment, ready, share, services",
        f"  b: ready, {plan.tenants[1].env}: nothing to do",
        f"! 商户: conflict, {plan.tenants[2].reason}",
        "Plan: 1 to create, 0 to adopt, 1 ready, 1 in conflict.",
    ]


async def test_adopt_all_adopts_the_only_environment_with_the_alias(harness: Harness) -> None:
    """It adopts under given and derived aliases, whatever their case; other tenants stay as they are."""
    world, namespace = harness.sandbox.world, harness.sandbox.component_appid
    mine, derived = world.add("Mine"), world.add(derive_alias(namespace, "b"))
    world.add("twice"), world.add("TWICE")
    tenants = [Tenant("a", alias="mine"), Tenant("b"), Tenant("c", alias="twice"), Tenant("d")]
    async with harness.provisioner() as provisioner:
        plan = await provisioner.plan(tenants, adopt_all=True, all_tenants=True)
        assert [(each.action, each.env) for each in plan.tenants] == [
            (Action.ADOPT, mine),
            (Action.ADOPT, derived),
            (Action.DUPLICATE, None),
            (Action.CREATE, None),
        ]
        report = await provisioner.apply(plan).wait()
        again = await provisioner.plan(tenants, adopt_all=True, all_tenants=True)
    assert [entry.env for entry in report.tenants[:2]] == [mine, derived]
    assert (again.counts[Action.READY], again.counts[Action.ADOPT], harness.sandbox.count(CREATE)) == (3, 0, 1)


async def test_adopt_all_leaves_environments_of_other_tenants(harness: Harness) -> None:
    """An environment of an absent tenant is a decision of its own."""
    async with harness.provisioner() as provisioner:
        await provisioner.apply([Tenant("old", alias="mine")]).wait()
        plan = await provisioner.plan([Tenant("new", alias="mine")], adopt_all=True, all_tenants=True)
    assert (plan.tenants[0].action, plan.decisions.adopt) == (Action.CONFLICT, {})


async def test_adopt_all_leaves_ambiguous_creates_to_the_run(harness: Harness) -> None:
    """The run checks the outcome before it adopts: the create may still take effect."""
    harness.sandbox.faults.drop_after(path=CREATE)
    async with harness.provisioner() as provisioner:
        run = provisioner.apply([Tenant("a", alias="mine")])
        await wait_for_requests(harness.sandbox, CREATE)
        await run.cancel()
        plan = await provisioner.plan([Tenant("a", alias="mine")], adopt_all=True)
        await provisioner.apply(plan).wait()
    assert plan.decisions.adopt == {}
    assert harness.sandbox.count(CREATE) == 1


async def test_adopt_all_adopts_only_what_the_plan_shows(harness: Harness) -> None:
    """An environment that appears between plan and apply is not adopted."""
    async with harness.provisioner() as provisioner:
        plan = await provisioner.plan([Tenant("a", alias="mine"), Tenant("b", alias="b")], adopt_all=True)
        harness.sandbox.world.add("mine")
        await asyncio.sleep(60)
        report = await provisioner.apply(plan).wait()
    assert [entry.outcome for entry in report.tenants] == [Outcome.CONFLICT, Outcome.DONE]


async def test_tenant_may_name_its_environment(harness: Harness) -> None:
    """It is adopted as with `adopt`, also without a plan; later plans compare it with the list as any other."""
    mine = harness.sandbox.world.add("mine")
    tenants = [Tenant("a", alias="mine", env=mine)]
    async with harness.provisioner() as provisioner:
        report = await provisioner.apply(tenants).wait()
        again = await provisioner.plan(tenants)
        harness.sandbox.world.remove(mine)
        await asyncio.sleep(provisioner.settle)
        gone = await provisioner.plan(tenants)
    assert (report.tenants[0].outcome, report.tenants[0].env) == (Outcome.DONE, mine)
    assert (again.tenants[0].action, gone.tenants[0].action) == (Action.READY, Action.CONFLICT)
    assert harness.sandbox.count(CREATE) == 0


async def test_named_environment_must_fit(harness: Harness) -> None:
    """It must be listed under the tenant's alias, and agree with `adopt`."""
    other = harness.sandbox.world.add("other")
    async with harness.provisioner() as provisioner:
        with pytest.raises(wxtcb.InvalidArgument, match=f"adopt a={other}: its alias is 'other', not 'mine'"):
            await provisioner.plan([Tenant("a", alias="mine", env=other)])
        with pytest.raises(wxtcb.InvalidArgument, match=f"adopt: a names {other}, not mine-1"):
            await provisioner.plan([Tenant("a", alias="other", env=other)], adopt={"a": "mine-1"})
        with pytest.raises(wxtcb.InvalidArgument, match="environment 'e' of tenant 'b' is already used"):
            await provisioner.plan([Tenant("a", env="e"), Tenant("b", env="e")])


async def test_repeated_adoption_changes_nothing(harness: Harness) -> None:
    """A command with --adopt can be repeated, even if the environment is no longer listed."""
    mine = harness.sandbox.world.add("mine")
    tenants, adopt = [Tenant("a", alias="mine")], {"a": mine}
    async with harness.provisioner() as provisioner:
        await provisioner.apply(await provisioner.plan(tenants, adopt=adopt)).wait()
        harness.sandbox.world.remove(mine)
        await asyncio.sleep(provisioner.settle)
        plan = await provisioner.plan(tenants, adopt=adopt)
        with pytest.raises(wxtcb.InvalidArgument, match="the platform lists no such environment"):
            await provisioner.plan(tenants, adopt=adopt, forget=adopt)
    assert plan.tenants[0].action is Action.CONFLICT


async def test_mini_program_of_several_tenants_is_noted(harness: Harness) -> None:
    """The first five are named; it is no error."""
    tenants = [Tenant(name, appids=[f"wx{number:016}" for number in range(7)]) for name in "ab"]
    tenants.append(Tenant("c", appids=[WX1]))
    async with harness.provisioner() as provisioner:
        plan = await provisioner.plan(tenants)
    bound = "It would be bound to the environment of each."
    assert plan.notes[0] == f"Warning: mini program wx{0:016} is in tenants 'a' and 'b'. {bound}"
    assert plan.notes[1] == f"Warning: mini program {WX1} is in tenants 'a', 'b' and 1 more. {bound}"
    assert plan.notes[5:] == ("Warning: 2 more mini programs are in several tenants.",)
    assert plan.create_count == 3


async def test_lone_surrogate_in_a_plan_is_escaped(harness: Harness) -> None:
    """A namespace from a command line may have one; the JSON of the plan can be read."""
    async with harness.provisioner() as provisioner:
        plan = attrs.evolve(await provisioner.plan([Tenant("a")]), namespace="n\udcff")
    assert json.loads(plan.to_json())["namespace"] == "n\udcff"
