"""Plans: wanted against found, and what a person may decide."""

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

WHOLE = Tenant("a", alias="mine", appids=[WX1], services=[API])


async def test_what_is_not_there_is_to_be_created(rig: Rig) -> None:
    """With all its steps, and nothing is spent or changed by planning."""
    async with rig.provisioner() as provisioner:
        plan = await provisioner.plan([WHOLE, Tenant("b")])
    assert [(each.action, each.steps) for each in plan.tenants] == [
        (Action.CREATE, STEPS),
        (Action.CREATE, (ENVIRONMENT, READY)),
    ]
    assert (plan.create_count, plan.has_changes, plan.namespace) == (2, True, rig.box.component_appid)
    assert {request.path for request in rig.box.seen} - {LIST} == {"/cgi-bin/component/api_component_token"}


async def test_what_is_done_is_ready_and_nothing_is_left(rig: Rig) -> None:
    """An apply of that plan sends nothing, and reports everybody with what he has."""
    async with rig.provisioner() as provisioner:
        first = await provisioner.apply([WHOLE]).wait()
        plan = await provisioner.plan([WHOLE])
        sent = len(rig.box.seen)
        second = await provisioner.apply(plan).wait()
    (planned,) = plan.tenants
    assert (planned.action, planned.env, planned.status) == (Action.READY, first.tenants[0].env, "NORMAL")
    assert (planned.steps, plan.has_changes, len(rig.box.seen)) == ((), False, sent)
    assert second.tenants[0].links == first.tenants[0].links


async def test_what_is_missing_is_planned_for_what_is_ready(rig: Rig) -> None:
    """A service that failed is left to do, and so is a mini program that was added since."""
    rig.box.faults.script(ESTABLISH, [Fault(FaultKind.ERRCODE, errcode=40097)])
    async with rig.provisioner() as provisioner:
        await provisioner.apply([WHOLE]).wait()
        plan = await provisioner.plan([Tenant("a", alias="mine", appids=[WX1, "wx0000000000000009"], services=[API])])
        report = await provisioner.apply(plan).wait()
    assert (plan.tenants[0].action, plan.tenants[0].steps) == (Action.READY, (SHARED, SERVICES))
    assert report.all_done
    assert [request.body["data"][0]["appids"] for request in rig.box.seen if request.path == SHARE] == [
        [WX1],
        ["wx0000000000000009"],
    ]


async def test_links_are_asked_for_again_only_on_request(rig: Rig) -> None:
    """With resend_links every mini program gets another one."""
    async with rig.provisioner() as provisioner:
        first = await provisioner.apply([WHOLE]).wait()
        plan = await provisioner.plan([WHOLE], resend_links=True)
        second = await provisioner.apply(plan).wait()
    assert plan.tenants[0].steps == (SHARED,)
    assert first.tenants[0].links != second.tenants[0].links
    assert (rig.box.count(SHARE), rig.box.count(CREATE)) == (2, 1)


@pytest.mark.parametrize(
    ("aliases", "action"),
    [(["taken"], Action.CONFLICT), (["tAKEN"], Action.CONFLICT), (["taken", "TAKEN"], Action.DUPLICATE)],
)
async def test_a_taken_alias_is_left_alone(rig: Rig, aliases: list[str], action: Action) -> None:
    """In whatever case; the environments are named, and an apply does nothing for that tenant."""
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


async def test_a_person_may_have_an_environment_adopted(rig: Rig) -> None:
    """It is the tenant's from then on, with the steps that follow; of several one is chosen."""
    mine = rig.box.world.add("mine")
    rig.box.world.add("Mine")
    async with rig.provisioner() as provisioner:
        plan = await provisioner.plan([WHOLE], adopt={"a": mine})
        assert (plan.tenants[0].action, plan.tenants[0].env) == (Action.ADOPT, mine)
        assert plan.tenants[0].steps == (ENVIRONMENT, SHARED, SERVICES)
        report = await provisioner.apply(plan).wait()
        again = await provisioner.plan([WHOLE])
    assert (report.tenants[0].outcome, report.tenants[0].env) == (Outcome.AWAITING, mine)
    assert (again.tenants[0].action, again.tenants[0].env) == (Action.READY, mine)
    assert rig.box.count(CREATE) == 0


@pytest.mark.parametrize(
    ("adopt", "reason"),
    [
        ({"nobody": "e"}, "adopt nobody=e: there is no such tenant"),
        ({"a": "nothing"}, "adopt a=nothing: the platform lists no such environment"),
        ({"a": "other-1"}, "its alias is 'other', and that of the tenant 'mine'"),
        ({"a": "taken-1"}, "that is the environment of tenant 'c'"),
    ],
)
async def test_an_adoption_that_cannot_be_is_refused(rig: Rig, adopt: dict[str, str], reason: str) -> None:
    """By name, with the reason, before anything is changed."""
    rig.box.world.add("other", env="other-1")
    rig.box.world.add("taken", env="taken-1")
    async with rig.provisioner() as provisioner:
        await provisioner.apply(await provisioner.plan([Tenant("c", alias="taken")], adopt={"c": "taken-1"})).wait()
        with pytest.raises(wxtcb.InvalidArgument, match=reason):
            await provisioner.plan([WHOLE], adopt=adopt)


@pytest.mark.parametrize("adopt", [["a"], {"a": 1}, {"a": ""}])
async def test_adoptions_are_a_mapping_of_texts(rig: Rig, adopt: object) -> None:
    """Anything else is refused before anybody looks."""
    async with rig.provisioner() as provisioner:
        with pytest.raises(wxtcb.InvalidArgument, match="adopt"):
            await provisioner.plan([WHOLE], adopt=adopt)
    assert rig.box.count(LIST) == 0


async def test_an_environment_that_was_removed_is_not_opened_again(rig: Rig) -> None:
    """It is told, after two more looks, and left to a person."""
    async with rig.provisioner() as provisioner:
        first = await provisioner.apply(plain(1)).wait()
        rig.box.world.remove(first.tenants[0].env)
        await asyncio.sleep(provisioner.settle)
        looks = rig.box.count(LIST)
        plan = await provisioner.plan(plain(1))
        report = await provisioner.apply(plan).wait()
    assert (plan.tenants[0].action, rig.box.count(LIST) - looks) == (Action.CONFLICT, 3)
    assert plan.tenants[0].reason.endswith(
        "is not listed any more: removed, or the list is not whole. Look again; if it was removed, forget it"
    )
    assert plan.missing_envs == {plan.tenants[0].tenant.name: first.tenants[0].env}
    assert (report.tenants[0].outcome, rig.box.count(CREATE)) == (Outcome.CONFLICT, 1)


async def test_a_hiccup_of_the_list_is_looked_over(rig: Rig) -> None:
    """The second look shows what the journal knows, and that counts."""
    async with rig.provisioner() as provisioner:
        await provisioner.apply(plain(2)).wait()
        rig.box.faults.script(LIST, [Fault(FaultKind.INCOMPLETE_LIST)])
        plan = await provisioner.plan(plain(2))
    assert plan.counts[Action.READY] == 2


async def test_an_alias_that_changed_is_a_conflict(rig: Rig) -> None:
    """The tenant has an environment under the earlier one, so none is opened under the new one."""
    async with rig.provisioner() as provisioner:
        await provisioner.apply([Tenant("a", alias="x")]).wait()
        plan = await provisioner.plan([Tenant("a", alias="y")])
    assert plan.tenants[0].action is Action.CONFLICT
    assert plan.tenants[0].reason.endswith("has the alias x, not y: give the tenant that one back")


async def test_an_alias_that_changed_while_a_create_was_in_doubt_is_a_conflict(rig: Rig) -> None:
    """What was sent under the earlier alias has to be settled first."""
    rig.box.faults.drop_after(path=CREATE)
    async with rig.provisioner() as provisioner:
        run = provisioner.apply([Tenant("a", alias="x")])
        await seen(rig.box, CREATE)
        await run.cancel()
        plan = await provisioner.plan([Tenant("a", alias="y")])
    assert plan.tenants[0].action is Action.CONFLICT
    assert plan.tenants[0].reason == "a create under its earlier alias x is unclear: give it that alias back first"


async def test_an_old_plan_opens_nothing_twice(rig: Rig) -> None:
    """Applied a second time it is made anew, for the journal has gone on: there is nothing left to do."""
    async with rig.provisioner() as provisioner:
        plan = await provisioner.plan(plain(2))
        await provisioner.apply(plan).wait()
        report = await provisioner.apply(plan).wait()
    assert (rig.box.count(CREATE), report.all_done) == (2, True)


async def test_a_plan_of_another_journal_is_refused(rig: Rig) -> None:
    """It does not know what that one has opened."""
    async with rig.provisioner(namespace="one") as one, rig.provisioner(namespace="two") as two:
        plan = await one.plan(plain(1))
        with pytest.raises(wxtcb.InvalidArgument, match="the plan was made with another journal"):
            two.apply(plan)


async def test_the_journal_keeps_the_namespace(rig: Rig) -> None:
    """A provisioner that wants another one is refused; one that wants none takes it."""
    journal = MemoryJournal()
    async with rig.provisioner(journal=journal, namespace="one"):
        pass
    async with rig.provisioner(journal=journal) as provisioner:
        assert (await provisioner.plan([Tenant("a")])).namespace == "one"
    with pytest.raises(wxtcb.InvalidArgument, match="the journal belongs to namespace 'one', not 'two'"):
        async with rig.provisioner(journal=journal, namespace="two"):
            pass


async def test_a_plan_of_many_lets_others_run(rig: Rig) -> None:
    """Deciding about 2,000 tenants takes several turns of the loop."""
    async with rig.provisioner() as provisioner:
        plan = await provisioner.plan(plain(2_000))
    assert plan.counts[Action.CREATE] == 2_000


async def test_the_json_holds_all_of_it(rig: Rig) -> None:
    """Tenants with their action and steps, and the counts."""
    env = rig.box.world.add("taken")
    async with rig.provisioner() as provisioner:
        plan = await provisioner.plan([Tenant("商户", alias="taken"), WHOLE])
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
    assert (document["missing"], document["left_out"]) == ({}, {})
    assert (document["counts"]["create"], document["counts"]["ready"], document["total"]) == (1, 0, 2)


async def test_a_plan_can_be_printed(rig: Rig) -> None:
    """A line for every tenant with a sign, what is to be done or why nothing is, and the sum."""
    taken = rig.box.world.add("taken")
    async with rig.provisioner() as provisioner:
        await provisioner.apply([Tenant("b", alias="b")]).wait()
        plan = await provisioner.plan([WHOLE, Tenant("b", alias="b"), Tenant("商户", alias="taken")])
    assert taken in plan.tenants[2].reason
    assert str(plan).splitlines() == [
        "+ a: create, alias mine: environment, ready, share, services",
        f"  b: ready, {plan.tenants[1].env}: nothing to do",
        f"! 商户: conflict, {plan.tenants[2].reason}",
        "Plan: 1 to create, 0 to adopt, 1 ready, 1 in conflict.",
    ]
