"""What a person decides about tenants and environments, and what is never done without that."""

from __future__ import annotations

import asyncio

import attrs
import pytest

from wxtcb import InvalidArgument, Timeout
from wxtcb.provision import STEPS, Action, JournalError, MemoryJournal, Outcome, Provisioner, Step, Tenant, TenantRecord
from wxtcb.provision.step import StepResult
from wxtcb.sandbox import ReadyPolicy, Sandbox

from .conftest import Rig, Rigging
from .constants import API, CREATE, ESTABLISH, LIST, SHARE, WEB, WX1, plain, seen

pytestmark = pytest.mark.virtual_time
A, B, C = (Tenant(name, alias=f"alias-{name}") for name in "abc")


async def opened(provisioner: Provisioner, *tenants: Tenant) -> dict[str, str]:
    """Provision *tenants*, let the settle pass, and return the environment of each."""
    report = await provisioner.apply(tenants).wait()
    assert report.all_done
    await asyncio.sleep(provisioner.settle)
    return {entry.tenant: entry.env or "" for entry in report.tenants}


async def test_nothing_is_opened_for_who_may_have_been_renamed(rig: Rig) -> None:
    """A tenant is new, and one who has an environment is missing: that is told, and a person decides."""
    async with rig.provisioner() as provisioner:
        envs = await opened(provisioner, A, B)
        plan = await provisioner.plan([A, Tenant("bb")], complete=True)
        report = await provisioner.apply(plan).wait()
    assert [planned.action for planned in plan.tenants] == [Action.READY, Action.CONFLICT]
    assert f"tenant 'b', who has {envs['b']} under alias alias-b, is missing here: was one renamed?" in str(plan)
    assert plan.notes[0] in str(plan)
    assert plan.absent_tenants == {"b": envs["b"]}
    assert (report.tenants[1].outcome, rig.box.count(CREATE)) == (Outcome.CONFLICT, 2)


async def test_an_unclear_create_of_who_is_missing_counts_too(rig: Rig) -> None:
    """Its environment may be there, so a tenant that is new may be the same."""
    rig.box.faults.hang(path=CREATE)
    async with rig.provisioner() as provisioner:
        run = provisioner.apply([A])
        await seen(rig.box, CREATE)
        await run.cancel(grace=0)
        plan = await provisioner.plan([B], complete=True)
    assert "tenant 'a', who may have an environment under alias alias-a" in plan.tenants[0].reason


async def test_tenants_that_are_a_part_need_not_name_the_others(rig: Rig) -> None:
    """A backend that provisions whoever signs up gives one tenant at a time."""
    async with rig.provisioner() as provisioner:
        await opened(provisioner, A)
        await opened(provisioner, B)
    assert rig.box.count(CREATE) == 2


async def test_who_was_removed_is_told_once(rig: Rig) -> None:
    """Then others are opened, what the removed one has stays known, and no later plan asks again."""
    async with rig.provisioner() as provisioner:
        envs = await opened(provisioner, A, B)
        plan = await provisioner.plan([A, C], complete=True, removed=True)
        assert (plan.create_count, plan.notes) == (1, ())
        assert (await provisioner.apply(plan).wait()).all_done
        later = await provisioner.plan([A, C, Tenant("d")], complete=True)
        bound = await provisioner.journal.bindings()
        history = await provisioner.journal.history(["b"])
    assert (later.create_count, bound[envs["b"]].tenant) == (1, "b")
    assert history["b"][-1].change == "removed from the tenants"


async def test_who_comes_back_finds_its_environment(rig: Rig) -> None:
    """It is among the tenants again, and missed when it is missing again."""
    async with rig.provisioner() as provisioner:
        await opened(provisioner, A, B)
        await provisioner.apply(await provisioner.plan([A], complete=True, removed=True)).wait()
        back = await provisioner.plan([A, B], complete=True)
        await provisioner.apply(back).wait()
        missing = await provisioner.plan([A, C], complete=True)
    assert [planned.action for planned in back.tenants] == [Action.READY, Action.READY]
    assert (missing.tenants[1].action, rig.box.count(CREATE)) == (Action.CONFLICT, 2)


async def test_several_who_are_missing_are_one_sentence(rig: Rig) -> None:
    """One is named, with how many are missing like it."""
    async with rig.provisioner() as provisioner:
        envs = await opened(provisioner, A, B)
        plan = await provisioner.plan([Tenant("bb")], complete=True)
    told = "under alias alias-a, is missing here, like 1 more: was one renamed? Then adopt"
    assert told in plan.tenants[0].reason
    assert plan.absent_tenants == envs


async def test_a_renamed_tenant_takes_over_what_was_done(rig: Rig) -> None:
    """The environment, its order number, links and services are its own now; nothing is sent again."""
    async with rig.provisioner() as provisioner:
        envs = await opened(provisioner, Tenant("old", alias="x", appids=[WX1], services=[API]))
        before = (await provisioner.journal.load(["old"]))["old"]
        sent = rig.box.count(SHARE), rig.box.count(ESTABLISH)
        renamed = Tenant("new", alias="x", appids=[WX1], services=[API])
        told = (await provisioner.plan([renamed], complete=True)).tenants[0]
        assert told.reason.endswith(
            "of tenant 'old' by the journal: adopt it if that one was renamed, else choose another alias"
        )
        assert told.adoptable == told.existing
        plan = await provisioner.plan([renamed], complete=True, adopt={"new": envs["old"]})
        report = await provisioner.apply(plan).wait()
        records = await provisioner.journal.load()
    after = records["new"]
    assert (report.all_done, rig.box.count(CREATE), sent) == (True, 1, (rig.box.count(SHARE), rig.box.count(ESTABLISH)))
    assert (after.env, after.tranid, after.opened_at) == (before.env, before.tranid, before.opened_at)
    assert (after.links, after.services, records["old"].may_have_environment) == (before.links, before.services, False)


async def test_an_environment_of_a_tenant_is_taken_over_only_where_that_is_missing(rig: Rig) -> None:
    """Not from one who is there, and not where the tenants may be a part of all."""
    async with rig.provisioner() as provisioner:
        envs = await opened(provisioner, A)
        for tenants, whole in (([A, B], True), ([B], False)):
            with pytest.raises(InvalidArgument, match="that is the environment of tenant 'a'"):
                await provisioner.plan(tenants, complete=whole, adopt={"b": envs["a"]})


async def test_what_was_deleted_can_be_forgotten(rig: Rig) -> None:
    """Until then its tenant is in conflict and nobody's environment is opened; then it gets a new one."""
    async with rig.provisioner() as provisioner:
        envs = await opened(provisioner, A)
        rig.box.world.remove(envs["a"])
        stuck = await provisioner.plan([A, B])
        plan = await provisioner.plan([A, B], forget=envs)
        report = await provisioner.apply(plan).wait()
    assert [planned.action for planned in stuck.tenants] == [Action.CONFLICT, Action.CONFLICT]
    assert f"the list lacks {envs['a']} of tenant 'a'" in stuck.tenants[1].reason
    assert (plan.create_count, report.all_done, rig.box.count(CREATE)) == (2, True, 3)


async def test_what_was_deleted_of_who_is_not_there_can_be_forgotten(rig: Rig) -> None:
    """It would keep everybody else from being opened."""
    async with rig.provisioner() as provisioner:
        envs = await opened(provisioner, A)
        rig.box.world.remove(envs["a"])
        report = await provisioner.apply(await provisioner.plan([B], forget=envs)).wait()
        records = await provisioner.journal.load()
    assert (report.all_done, records["a"].env) == (True, None)


async def test_only_what_is_gone_is_forgotten(rig: Rig) -> None:
    """Neither what the platform lists, nor what the journal does not have."""
    async with rig.provisioner() as provisioner:
        envs = await opened(provisioner, A)
        with pytest.raises(InvalidArgument, match=r"forget a=.*the platform lists it still; only what was deleted"):
            await provisioner.plan([A], forget=envs)
        with pytest.raises(InvalidArgument, match="the journal knows no such tenant"):
            await provisioner.plan([A], forget={"b": "env-1"})
        with pytest.raises(InvalidArgument, match="forget: a must"):
            await provisioner.plan([A], forget={"a": ""})


async def test_nothing_is_opened_on_a_list_that_lacks_what_is_known(rig: Rig) -> None:
    """A list that is suddenly empty proves nothing: all is told, and nothing is sent."""
    async with rig.provisioner() as provisioner:
        envs = await opened(provisioner, A, B)
        for env in envs.values():
            rig.box.world.remove(env)
        report = await provisioner.apply([A, B, C]).wait()
    assert [entry.outcome for entry in report.tenants] == [Outcome.CONFLICT] * 3
    assert "and 1 more: it is not whole, or that was removed" in report.tenants[2].reason
    assert rig.box.count(CREATE) == 2


async def test_what_was_just_opened_need_not_be_listed_yet(rig: Rig) -> None:
    """A run right after a crash neither misses it nor opens another; it waits until it is there."""
    rig.box.world.visible_after = 1.5
    async with rig.provisioner(interval=0.5) as provisioner:
        first = provisioner.apply([A])
        await seen(rig.box, CREATE)
        await asyncio.sleep(0.1)
        await first.cancel(grace=0)
        plan = await provisioner.plan([A, B])
        report = await provisioner.apply(plan).wait()
    assert [planned.action for planned in plan.tenants] == [Action.READY, Action.CREATE]
    assert (report.all_done, rig.box.count(CREATE)) == (True, 2)


async def test_a_list_that_goes_on_lacking_what_is_known_ends_a_run(rig: Rig) -> None:
    """What is deleted while a run goes on stops it after half a minute; nothing is opened on the strength of that."""
    rig.box.world.ready_after = ReadyPolicy.after_seconds(20)
    async with rig.provisioner(concurrency=1) as provisioner:
        envs = await opened(provisioner, A)
        run = provisioner.apply(plain(3))
        rig.box.faults.slow(8.0, path=CREATE)
        await seen(rig.box, CREATE, 2)
        rig.box.world.remove(envs["a"])
        report = await run.wait()
    assert f"did not show environment {envs['a']}, which should be there, for 30 s" in str(report.stop_reason)
    assert report.counts[Outcome.UNFINISHED] == 2
    assert rig.box.count(CREATE) == 2


async def test_a_clock_that_was_set_back_is_told(rig: Rig) -> None:
    """What is in the journal is of a later time than now; nothing else changes."""
    async with rig.provisioner() as provisioner:
        await opened(provisioner, A)
        now = provisioner.clock()
    async with rig.provisioner(journal=provisioner.journal, clock=lambda: now - 86_400) as back:
        plan = await back.plan([A, B])
        report = await back.apply(plan).wait()
    assert report.all_done
    assert plan.notes[0].startswith("Note: the clock was set back, or was ahead then: the journal has something of 86")
    assert plan.to_json().count(b"the clock was set back") == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"component_appid": "wx2222222222222222"}, "is of the platform wx"),
        ({"base_url": "https://api.weixin.qq.com"}, "is of another platform: one on loopback, not the real one"),
    ],
)
async def test_the_journal_of_another_platform_is_refused(
    rig: Rig, rigging: Rigging, options: dict[str, str], message: str
) -> None:
    """What it knows is true of its own platform only; nothing is sent."""
    journal = MemoryJournal()
    async with rig.provisioner(journal=journal) as provisioner:
        await opened(provisioner, A)
    looks = rig.box.count(LIST)
    async with rigging.session(rig.box, **options) as session:
        with pytest.raises(InvalidArgument, match=message):
            async with Provisioner(session, journal=journal):
                pass
    assert rig.box.count(LIST) == looks


async def test_a_decision_that_the_journal_does_not_take_ends_the_run(box: Sandbox, rigging: Rigging) -> None:
    """Somebody else was quicker; nothing is done on the ground of it."""
    journal = MemoryJournal()
    async with rigging.session(box) as session:
        rig = Rig(box, session, rigging.wires[0])
        async with rig.provisioner(journal=journal) as provisioner:
            await opened(provisioner, A, B)
            plan = await provisioner.plan([A, C], complete=True, removed=True)
            other = await provisioner.plan([A], complete=True, removed=True)
            await provisioner.apply(other).wait()
            report = await provisioner.apply(plan).wait()
    assert "the journal does not take this record of tenant 'b'" in str(report.stop_reason)
    assert report.counts[Outcome.UNFINISHED] == 2


async def test_nothing_is_opened_before_what_a_crash_left_is_listed(rig: Rig) -> None:
    """A list that lacks what was just opened may lack others: an alias that is taken is seen once it is whole."""
    taken = rig.box.world.add("taken")
    async with rig.provisioner(settle=10.0) as provisioner:
        await provisioner.apply([A]).wait()
        rig.box.faults.incomplete_list(taken, *rig.box.world.environments, path=LIST, times=3)
        report = await provisioner.apply([A, Tenant("b", alias="taken")]).wait()
    assert [entry.outcome for entry in report.tenants] == [Outcome.DONE, Outcome.CONFLICT]
    assert (report.tenants[1].existing, rig.box.count(CREATE)) == ((taken,), 1)


async def test_what_a_crash_left_and_is_never_listed_ends_the_run(rig: Rig) -> None:
    """It was deleted right after it was opened; nothing is opened on such a list."""
    async with rig.provisioner(settle=10.0) as provisioner:
        env = (await provisioner.apply([A]).wait()).tenants[0].env or ""
        rig.box.world.remove(env)
        report = await provisioner.apply([B]).wait()
    assert f"the list did not show environment {env}" in str(report.stop_reason)
    assert (report.elapsed < 60, rig.box.count(CREATE)) == (True, 1)


async def test_one_list_that_lacks_it_deletes_nothing(rig: Rig) -> None:
    """What is to be forgotten has to be missing three times."""
    async with rig.provisioner() as provisioner:
        envs = await opened(provisioner, A)
        rig.box.faults.incomplete_list(envs["a"], path=LIST, times=2)
        with pytest.raises(InvalidArgument, match="the platform lists it still"):
            await provisioner.plan([A], forget=envs)


async def test_what_was_forgotten_already_is_told(rig: Rig) -> None:
    """The same line can be run again."""
    async with rig.provisioner() as provisioner:
        envs = await opened(provisioner, A, B)
        rig.box.world.remove(envs["a"])
        for _ in range(2):
            plan = await provisioner.plan([A, B], forget={"a": envs["a"]})
            assert (await provisioner.apply(plan).wait()).all_done
        rig.box.world.remove(envs["b"])
        with pytest.raises(InvalidArgument, match="that is the environment of tenant 'b'"):
            await provisioner.plan([A, B], forget={"a": envs["b"]})
    assert plan.notes == (f"Note: there is nothing to forget: the journal does not have {envs['a']} for tenant 'a'.",)
    assert rig.box.count(CREATE) == 3


async def test_a_takeover_that_is_cut_off_can_be_asked_for_again(rig: Rig) -> None:
    """Wherever the journal stopped: links and services are not lost, and nothing is sent again."""
    old = Tenant("old", alias="x", appids=[WX1], services=[API])
    new = Tenant("new", alias="x", appids=[WX1], services=[API])
    for kept in range(4):
        journal = _Stopping()
        async with rig.provisioner(journal=journal) as provisioner:
            for env in list(rig.box.world.environments):
                rig.box.world.remove(env)
            envs = await opened(provisioner, old)
            sent = rig.box.count(SHARE), rig.box.count(ESTABLISH)
            journal.left = kept
            await provisioner.apply(await provisioner.plan([new], complete=True, adopt={"new": envs["old"]})).wait()
            journal.left = 99
            plan = await provisioner.plan([new], complete=True, adopt={"new": envs["old"]})
            assert plan.tenants[0].has_changes is False or "environment" in plan.tenants[0].steps
            report = await provisioner.apply(plan).wait()
            records = await journal.load()
        assert (report.all_done, records["new"].env, records["old"].may_have_environment) == (True, envs["old"], False)
        assert sent == (rig.box.count(SHARE), rig.box.count(ESTABLISH))


class _Stopping(MemoryJournal):
    """Keeps so many records more, and no other."""

    left = 99

    async def commit(self, record, moment, giver=None):
        self.left -= 1
        if self.left < 0:
            raise JournalError("the disk is full")
        return await super().commit(record, moment, giver)


async def test_a_rename_whose_create_is_unclear_is_settled_under_either_name(rig: Rig) -> None:
    """Its alias is claimed: what it opened goes to the new name by adopt, once it is listed."""
    rig.box.faults.hang_after(path=CREATE, times=1)
    old, new = Tenant("old", alias="x"), Tenant("new", alias="x")
    rig.box.world.visible_after = 1.0
    async with rig.provisioner() as provisioner:
        run = provisioner.apply([old])
        await seen(rig.box, CREATE)
        await run.cancel(grace=0)
        early = await provisioner.plan([new], complete=True, removed=True)
        await asyncio.sleep(2)
        (env,) = rig.box.world.environments
        late = await provisioner.plan([new], complete=True, adopt={"new": env})
        report = await provisioner.apply(late).wait()
        records = await provisioner.journal.load()
    assert "a create for tenant 'old' under alias x is unclear" in early.tenants[0].reason
    assert (report.all_done, records["new"].env, records["old"].may_have_environment) == (True, env, False)
    assert rig.box.count(CREATE) == 1


async def test_links_are_kept_until_others_have_come(rig: Rig) -> None:
    """A share that fails when links are asked for again loses none."""
    tenant = Tenant("a", alias="x", appids=[WX1], services=[API])
    async with rig.provisioner() as provisioner:
        await opened(provisioner, tenant)
        before = (await provisioner.journal.load(["a"]))["a"].links
        rig.box.faults.errcode(61007, path=SHARE)
        again = attrs.evolve(tenant, services=[API, WEB])
        report = await provisioner.apply(await provisioner.plan([again], resend_links=True)).wait()
        after = (await provisioner.journal.load(["a"]))["a"]
    assert report.tenants[0].outcome is Outcome.FAILED
    assert (after.links, after.has_service("web")) == (before, True)


async def test_what_was_to_be_adopted_and_is_gone_is_left_to_a_person(rig: Rig) -> None:
    """Neither bound, nor opened anew."""
    rig.box.faults.hang_after(path=CREATE, times=1)
    async with rig.provisioner() as provisioner:
        run = provisioner.apply([A])
        await seen(rig.box, CREATE)
        await run.cancel(grace=0)
        (env,) = rig.box.world.environments
        run = provisioner.apply([A])
        await asyncio.sleep(1)
        rig.box.world.remove(env)
        report = await run.wait()
        plan = await provisioner.plan([A])
    assert (report.tenants[0].outcome, rig.box.count(CREATE)) == (Outcome.CONFLICT, 1)
    assert "was to be adopted" in report.tenants[0].reason
    assert plan.create_count == 1


async def test_an_intent_keeps_the_times_it_was_made_with(rig: Rig, rigging: Rigging) -> None:
    """A run with shorter timeouts waits as long as the one that was killed would have."""
    rig.box.faults.hang(path=CREATE, times=1)
    async with rigging.session(rig.box, timeout=Timeout(connect=5, reply=300)) as session:
        slow = Rig(rig.box, session, rigging.wires[-1])
        async with slow.provisioner() as provisioner:
            run = provisioner.apply([A])
            await seen(rig.box, CREATE)
            await run.cancel(grace=0)
            journal = provisioner.journal
    async with rigging.session(rig.box, timeout=Timeout(connect=1, reply=1)) as session:
        report = await Rig(rig.box, session, rigging.wires[-1]).provision([A], journal=journal)
    assert (report.all_done, report.elapsed > 310) == (True, True)


async def test_decisions_are_those_of_the_moment_they_were_made(rig: Rig) -> None:
    """What the caller does with its own mapping afterwards changes no plan."""
    env = rig.box.world.add("alias-a")
    adopt: dict[str, str] = {}
    async with rig.provisioner() as provisioner:
        plan = await provisioner.plan([A], adopt=adopt)
        adopt["a"] = env
        assert plan.decisions.adopt == {}


async def test_a_cancelled_run_looks_no_more(rig: Rig) -> None:
    """Also while a list is not trusted."""
    async with rig.provisioner(concurrency=1) as provisioner:
        await opened(provisioner, A)
        rig.box.faults.slow(8.0, path=CREATE, times=1)
        run = provisioner.apply(plain(3))
        await seen(rig.box, CREATE, 2)
        rig.box.faults.incomplete_list(*rig.box.world.environments, path=LIST)
        await asyncio.sleep(12)
        looks, start = rig.box.count(LIST), asyncio.get_running_loop().time()
        await run.cancel()
    assert (looks > 3, rig.box.count(LIST) <= looks + 1) == (True, True)
    assert asyncio.get_running_loop().time() - start < 3


async def test_an_adoption_drops_nothing_that_lives(rig: Rig) -> None:
    """Neither an environment that is listed, nor a create whose answer is not clear; each is told."""
    async with rig.provisioner() as provisioner:
        await opened(provisioner, A)
        twin = rig.box.world.add("alias-a")
        with pytest.raises(InvalidArgument, match=r"it has alias-a-\w+, which is listed: delete that one first"):
            await provisioner.plan([A], adopt={"a": twin})
        rig.box.faults.hang(path=CREATE)
        run = provisioner.apply([B])
        await seen(rig.box, CREATE, 2)
        await run.cancel(grace=0)
        other = rig.box.world.add("y")
        with pytest.raises(InvalidArgument, match="a create under its earlier alias alias-b is unclear: finish that"):
            await provisioner.plan([Tenant("b", alias="y")], adopt={"b": other})


async def test_an_alias_that_somebody_has_is_not_adopted_under(rig: Rig) -> None:
    """His environment was deleted, and another opened by hand: that is told, and with both decisions it goes on."""
    async with rig.provisioner() as provisioner:
        envs = await opened(provisioner, Tenant("old", alias="x"))
        rig.box.world.remove(envs["old"])
        hand = rig.box.world.add("x")
        new = Tenant("new", alias="x")
        with pytest.raises(InvalidArgument, match=f"is that of tenant 'old', who has {envs['old']} by the journal"):
            await provisioner.plan([new], complete=True, adopt={"new": hand})
        plan = await provisioner.plan([new], complete=True, adopt={"new": hand}, forget=envs)
        report = await provisioner.apply(plan).wait()
    assert (report.all_done, report.tenants[0].env) == (True, hand)


async def test_who_waits_for_what_a_crash_left_holds_no_worker(rig: Rig) -> None:
    """A service of another tenant is established meanwhile."""
    async with rig.provisioner(settle=100.0, concurrency=2) as provisioner:
        await provisioner.apply([A]).wait()
        await asyncio.sleep(100)
        await provisioner.apply([B]).wait()
        rig.box.faults.incomplete_list(*list(rig.box.world.environments)[1:], path=LIST)
        run = provisioner.apply([*plain(4), attrs.evolve(A, services=[API])])
        await asyncio.sleep(20)
        assert (rig.box.count(ESTABLISH), rig.box.count(CREATE)) == (1, 2)
        rig.box.faults.clear()
        assert (await run.wait()).all_done


async def test_a_step_that_cannot_say_what_it_wants_costs_its_tenant_alone(rig: Rig) -> None:
    """The mistake is raised in the end, and the others are done."""

    def wants(tenant: Tenant, record: TenantRecord, _status: str | None) -> bool:
        if tenant.name == "b" and record.env:
            raise ZeroDivisionError
        return False

    async def take(_site: object, _works: object) -> StepResult:
        raise NotImplementedError

    mine = Step(name="mine", title="mine", is_needed=wants, run=take)
    async with rig.provisioner(steps=[*STEPS, mine]) as provisioner:
        run = provisioner.apply([A, B, C])
        with pytest.raises(ZeroDivisionError):
            await run.wait()
    assert [entry.outcome for entry in run.report.tenants] == [Outcome.DONE, Outcome.FAILED, Outcome.DONE]
