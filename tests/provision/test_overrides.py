"""Operator decisions: adopt, forget and removed, and what is blocked without them."""

from __future__ import annotations

import asyncio

import attrs
import pytest

from wxtcb import InvalidArgument, Timeout
from wxtcb.provision import STEPS, Action, JournalError, MemoryJournal, Outcome, Provisioner, Step, Tenant, TenantRecord
from wxtcb.sandbox import ReadyPolicy, Sandbox

from .conftest import Harness, SessionFactory
from .constants import API, CREATE, ESTABLISH, LIST, SHARE, WEB, WX1, plain_tenants, wait_for_requests

pytestmark = pytest.mark.virtual_time
A, B, C = (Tenant(name, alias=f"alias-{name}") for name in "abc")


async def create(provisioner: Provisioner, *tenants: Tenant) -> dict[str, str]:
    """Provision *tenants*, wait for the propagation delay, and return their environments."""
    report = await provisioner.apply(tenants).wait()
    assert report.all_done
    await asyncio.sleep(provisioner.settle)
    return {entry.tenant: entry.env or "" for entry in report.tenants}


async def test_new_tenant_is_blocked_while_another_is_absent(harness: Harness) -> None:
    """It may be the absent tenant under another name, so the operator decides."""
    async with harness.provisioner() as provisioner:
        envs = await create(provisioner, A, B)
        plan = await provisioner.plan([A, Tenant("bb")], all_tenants=True)
        report = await provisioner.apply(plan).wait()
    assert [planned.action for planned in plan.tenants] == [Action.READY, Action.CONFLICT]
    assert f"tenant 'b' has {envs['b']} under alias alias-b but is missing here: was it renamed?" in str(plan)
    assert plan.notes[0] in str(plan)
    assert plan.absent_tenants == {"b": envs["b"]}
    assert (report.tenants[1].outcome, harness.sandbox.count(CREATE)) == (Outcome.CONFLICT, 2)


async def test_absent_tenant_with_ambiguous_create_blocks_new_ones(harness: Harness) -> None:
    """Its environment may exist."""
    harness.sandbox.faults.hang(path=CREATE)
    async with harness.provisioner() as provisioner:
        run = provisioner.apply([A])
        await wait_for_requests(harness.sandbox, CREATE)
        await run.cancel(grace=0)
        plan = await provisioner.plan([B], all_tenants=True)
    assert "tenant 'a' may have an environment under alias alias-a" in plan.tenants[0].reason


async def test_incomplete_list_of_tenants_is_not_blocked(harness: Harness) -> None:
    """A backend may provision one tenant at a time."""
    async with harness.provisioner() as provisioner:
        await create(provisioner, A)
        await create(provisioner, B)
    assert harness.sandbox.count(CREATE) == 2


async def test_removed_tenant_is_recorded(harness: Harness) -> None:
    """Others are created, its environment stays bound, and no later plan asks again."""
    async with harness.provisioner() as provisioner:
        envs = await create(provisioner, A, B)
        plan = await provisioner.plan([A, C], all_tenants=True, removed=True)
        assert (plan.create_count, plan.notes) == (1, ())
        assert (await provisioner.apply(plan).wait()).all_done
        later = await provisioner.plan([A, C, Tenant("d")], all_tenants=True)
        bound = await provisioner.journal.bindings(0.0)
        history = await provisioner.journal.history(["b"])
    assert (later.create_count, bound[envs["b"]].tenant) == (1, "b")
    assert history["b"][-1].change == "tenant removed"


async def test_removed_tenant_that_returns_has_its_environment(harness: Harness) -> None:
    """When it is absent again, new tenants are blocked again."""
    async with harness.provisioner() as provisioner:
        await create(provisioner, A, B)
        await provisioner.apply(await provisioner.plan([A], all_tenants=True, removed=True)).wait()
        back = await provisioner.plan([A, B], all_tenants=True)
        await provisioner.apply(back).wait()
        missing = await provisioner.plan([A, C], all_tenants=True)
    assert [planned.action for planned in back.tenants] == [Action.READY, Action.READY]
    assert (missing.tenants[1].action, harness.sandbox.count(CREATE)) == (Action.CONFLICT, 2)


async def test_several_absent_tenants_are_one_message(harness: Harness) -> None:
    """One is named, and the others are counted."""
    async with harness.provisioner() as provisioner:
        envs = await create(provisioner, A, B)
        plan = await provisioner.plan([Tenant("bb")], all_tenants=True)
    assert "is missing here, like 1 other: was it renamed?" in plan.tenants[0].reason
    assert plan.absent_tenants == envs


async def test_renamed_tenant_takes_over_environment_and_links(harness: Harness) -> None:
    """Order number, links and services move with it; no request is sent again."""
    async with harness.provisioner() as provisioner:
        envs = await create(provisioner, Tenant("old", alias="x", appids=[WX1], services=[API]))
        before = (await provisioner.journal.load(["old"]))["old"]
        sent = harness.sandbox.count(SHARE), harness.sandbox.count(ESTABLISH)
        renamed = Tenant("new", alias="x", appids=[WX1], services=[API])
        blocked = (await provisioner.plan([renamed], all_tenants=True)).tenants[0]
        assert blocked.reason.endswith("adopt it if that tenant was renamed, else choose another alias")
        assert blocked.adoptable == blocked.existing
        plan = await provisioner.plan([renamed], all_tenants=True, adopt={"new": envs["old"]})
        report = await provisioner.apply(plan).wait()
        records = await provisioner.journal.load()
    after = records["new"]
    assert (report.all_done, harness.sandbox.count(CREATE), sent) == (
        True,
        1,
        (harness.sandbox.count(SHARE), harness.sandbox.count(ESTABLISH)),
    )
    assert (after.env, after.tranid, after.opened_at) == (before.env, before.tranid, before.opened_at)
    assert (after.links, after.services, records["old"].may_have_environment) == (before.links, before.services, False)


async def test_environment_of_a_present_tenant_cannot_be_adopted(harness: Harness) -> None:
    """The same holds if the list of tenants may be incomplete."""
    async with harness.provisioner() as provisioner:
        envs = await create(provisioner, A)
        for tenants, all_tenants in (([A, B], True), ([B], False)):
            with pytest.raises(InvalidArgument, match="the environment belongs to tenant 'a'"):
                await provisioner.plan(tenants, all_tenants=all_tenants, adopt={"b": envs["a"]})


async def test_forget_allows_a_new_environment(harness: Harness) -> None:
    """Before that, its tenant is in conflict, and no tenant gets a new environment."""
    async with harness.provisioner() as provisioner:
        envs = await create(provisioner, A)
        harness.sandbox.world.remove(envs["a"])
        stuck = await provisioner.plan([A, B])
        plan = await provisioner.plan([A, B], forget=envs)
        report = await provisioner.apply(plan).wait()
    assert [planned.action for planned in stuck.tenants] == [Action.CONFLICT, Action.CONFLICT]
    assert f"the list lacks {envs['a']} of tenant 'a'" in stuck.tenants[1].reason
    assert (plan.create_count, report.all_done, harness.sandbox.count(CREATE)) == (2, True, 3)


async def test_forget_works_for_an_absent_tenant(harness: Harness) -> None:
    """Its missing environment would block all other tenants."""
    async with harness.provisioner() as provisioner:
        envs = await create(provisioner, A)
        harness.sandbox.world.remove(envs["a"])
        report = await provisioner.apply(await provisioner.plan([B], forget=envs)).wait()
        records = await provisioner.journal.load()
    assert (report.all_done, records["a"].env) == (True, None)


async def test_invalid_forget_is_rejected(harness: Harness) -> None:
    """The environment must be unlisted, and in the journal."""
    async with harness.provisioner() as provisioner:
        envs = await create(provisioner, A)
        with pytest.raises(InvalidArgument, match=r"forget a=.*still lists it"):
            await provisioner.plan([A], forget=envs)
        with pytest.raises(InvalidArgument, match="the journal has no such tenant"):
            await provisioner.plan([A], forget={"b": "env-1"})
        with pytest.raises(InvalidArgument, match="forget: a"):
            await provisioner.plan([A], forget={"a": ""})


async def test_list_without_known_environments_blocks_creates(harness: Harness) -> None:
    """An empty list proves nothing."""
    async with harness.provisioner() as provisioner:
        envs = await create(provisioner, A, B)
        for env in envs.values():
            harness.sandbox.world.remove(env)
        report = await provisioner.apply([A, B, C]).wait()
    assert [entry.outcome for entry in report.tenants] == [Outcome.CONFLICT] * 3
    assert "and 1 more: the list is incomplete" in report.tenants[2].reason
    assert harness.sandbox.count(CREATE) == 2


async def test_recent_environment_need_not_be_listed(harness: Harness) -> None:
    """A run after a crash neither misses it nor creates another one."""
    harness.sandbox.world.visible_after = 1.5
    async with harness.provisioner(interval=0.5) as provisioner:
        first = provisioner.apply([A])
        await wait_for_requests(harness.sandbox, CREATE)
        await asyncio.sleep(0.1)
        await first.cancel(grace=0)
        plan = await provisioner.plan([A, B])
        report = await provisioner.apply(plan).wait()
    assert [planned.action for planned in plan.tenants] == [Action.READY, Action.CREATE]
    assert (report.all_done, harness.sandbox.count(CREATE)) == (True, 2)


async def test_environment_missing_for_30_seconds_stops_the_run(harness: Harness) -> None:
    """It was deleted during the run; no further environment is created."""
    harness.sandbox.world.ready_after = ReadyPolicy.after_seconds(20)
    async with harness.provisioner(concurrency=1) as provisioner:
        envs = await create(provisioner, A)
        run = provisioner.apply(plain_tenants(3))
        harness.sandbox.faults.slow(8.0, path=CREATE)
        await wait_for_requests(harness.sandbox, CREATE, 2)
        harness.sandbox.world.remove(envs["a"])
        report = await run.wait()
    assert f"did not show environment {envs['a']}, which should be there, for 30 s" in report.stop_message
    assert report.counts[Outcome.UNFINISHED] == 2
    assert harness.sandbox.count(CREATE) == 2


async def test_clock_set_back_is_noted(harness: Harness) -> None:
    """The run is not affected."""
    async with harness.provisioner() as provisioner:
        await create(provisioner, A)
        now = provisioner.clock()
    async with harness.provisioner(journal=provisioner.journal, clock=lambda: now - 86_400) as back:
        plan = await back.plan([A, B])
        report = await back.apply(plan).wait()
    assert report.all_done
    assert plan.notes[0].startswith("Note: the journal contains a timestamp 86")
    assert plan.to_json().count(b"clock was set back") == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"component_appid": "wx2222222222222222"}, "belongs to component wx"),
        ({"base_url": "https://api.weixin.qq.com"}, "belongs to a platform on loopback, not the real platform"),
    ],
)
async def test_journal_of_another_platform_is_rejected(
    harness: Harness, session_factory: SessionFactory, options: dict[str, str], message: str
) -> None:
    """No request is sent."""
    journal = MemoryJournal()
    async with harness.provisioner(journal=journal) as provisioner:
        await create(provisioner, A)
    lists = harness.sandbox.count(LIST)
    async with session_factory.session(harness.sandbox, **options) as session:
        with pytest.raises(InvalidArgument, match=message):
            async with Provisioner(session, journal=journal):
                pass
    assert harness.sandbox.count(LIST) == lists


async def test_rejected_decision_stops_the_run(sandbox: Sandbox, session_factory: SessionFactory) -> None:
    """Another run changed the record first."""
    journal = MemoryJournal()
    async with session_factory.session(sandbox) as session:
        harness = Harness(sandbox, session, session_factory.wires[0])
        async with harness.provisioner(journal=journal) as provisioner:
            await create(provisioner, A, B)
            plan = await provisioner.plan([A, C], all_tenants=True, removed=True)
            other = await provisioner.plan([A], all_tenants=True, removed=True)
            await provisioner.apply(other).wait()
            report = await provisioner.apply(plan).wait()
    assert "the journal rejected the record of tenant 'b'" in report.stop_message
    assert report.counts[Outcome.UNFINISHED] == 2


async def test_creates_wait_until_recent_environments_are_listed(harness: Harness) -> None:
    """A list that lacks a recent environment may lack others, such as one with the alias."""
    taken = harness.sandbox.world.add("taken")
    async with harness.provisioner(settle=10.0) as provisioner:
        await provisioner.apply([A]).wait()
        harness.sandbox.faults.incomplete_list(taken, *harness.sandbox.world.environments, path=LIST, times=3)
        report = await provisioner.apply([A, Tenant("b", alias="taken")]).wait()
    assert [entry.outcome for entry in report.tenants] == [Outcome.DONE, Outcome.CONFLICT]
    assert (report.tenants[1].existing, harness.sandbox.count(CREATE)) == ((taken,), 1)


async def test_forget_needs_three_lists_without_the_environment(harness: Harness) -> None:
    """A single incomplete list does not count."""
    async with harness.provisioner() as provisioner:
        envs = await create(provisioner, A)
        harness.sandbox.faults.incomplete_list(envs["a"], path=LIST, times=2)
        with pytest.raises(InvalidArgument, match="still lists it"):
            await provisioner.plan([A], forget=envs)


async def test_repeated_forget_is_noted(harness: Harness) -> None:
    """The same command can be run again."""
    async with harness.provisioner() as provisioner:
        envs = await create(provisioner, A, B)
        harness.sandbox.world.remove(envs["a"])
        for _ in range(2):
            plan = await provisioner.plan([A, B], forget={"a": envs["a"]})
            assert (await provisioner.apply(plan).wait()).all_done
        harness.sandbox.world.remove(envs["b"])
        with pytest.raises(InvalidArgument, match="the environment belongs to tenant 'b'"):
            await provisioner.plan([A, B], forget={"a": envs["b"]})
    assert [f"forget a={envs['a']} has no effect" in note for note in plan.notes] == [True]
    assert harness.sandbox.count(CREATE) == 3


async def test_interrupted_takeover_can_be_repeated(harness: Harness) -> None:
    """After any commit, links and services are complete, and no request is sent again."""
    old = Tenant("old", alias="x", appids=[WX1], services=[API])
    new = Tenant("new", alias="x", appids=[WX1], services=[API])
    for commits in range(4):
        journal = _LimitedJournal()
        async with harness.provisioner(journal=journal) as provisioner:
            for env in list(harness.sandbox.world.environments):
                harness.sandbox.world.remove(env)
            envs = await create(provisioner, old)
            sent = harness.sandbox.count(SHARE), harness.sandbox.count(ESTABLISH)
            journal.remaining = commits
            await provisioner.apply(await provisioner.plan([new], all_tenants=True, adopt={"new": envs["old"]})).wait()
            journal.remaining = 99
            plan = await provisioner.plan([new], all_tenants=True, adopt={"new": envs["old"]})
            assert plan.tenants[0].has_changes is False or "environment" in plan.tenants[0].steps
            report = await provisioner.apply(plan).wait()
            records = await journal.load()
        assert (report.all_done, records["new"].env, records["old"].may_have_environment) == (True, envs["old"], False)
        assert sent == (harness.sandbox.count(SHARE), harness.sandbox.count(ESTABLISH))


class _LimitedJournal(MemoryJournal):
    """Journal that fails after `remaining` commits."""

    remaining = 99

    async def commit(self, record, entry, previous_owner=None, *, epoch=None):
        self.remaining -= 1
        if self.remaining < 0:
            raise JournalError("the disk is full")
        return await super().commit(record, entry, previous_owner, epoch=epoch)


async def test_ambiguous_create_of_a_renamed_tenant_can_be_adopted(harness: Harness) -> None:
    """The alias stays reserved until the environment is listed and adopted under the new name."""
    harness.sandbox.faults.hang_after(path=CREATE, times=1)
    old, new = Tenant("old", alias="x"), Tenant("new", alias="x")
    harness.sandbox.world.visible_after = 1.0
    async with harness.provisioner() as provisioner:
        run = provisioner.apply([old])
        await wait_for_requests(harness.sandbox, CREATE)
        await run.cancel(grace=0)
        early = await provisioner.plan([new], all_tenants=True, removed=True)
        await asyncio.sleep(2)
        (env,) = harness.sandbox.world.environments
        late = await provisioner.plan([new], all_tenants=True, adopt={"new": env})
        report = await provisioner.apply(late).wait()
        records = await provisioner.journal.load()
    assert "the outcome of a create for tenant 'old' under alias x is unknown" in early.tenants[0].reason
    assert (report.all_done, records["new"].env, records["old"].may_have_environment) == (True, env, False)
    assert harness.sandbox.count(CREATE) == 1


async def test_failed_resend_keeps_the_links(harness: Harness) -> None:
    """No link is lost."""
    tenant = Tenant("a", alias="x", appids=[WX1], services=[API])
    async with harness.provisioner() as provisioner:
        await create(provisioner, tenant)
        before = (await provisioner.journal.load(["a"]))["a"].links
        harness.sandbox.faults.errcode(61007, path=SHARE)
        again = attrs.evolve(tenant, services=[API, WEB])
        report = await provisioner.apply(await provisioner.plan([again], resend_links=True)).wait()
        after = (await provisioner.journal.load(["a"]))["a"]
    assert report.tenants[0].outcome is Outcome.FAILED
    assert (after.links, after.has_service("web")) == (before, True)


async def test_deleted_environment_is_not_adopted(harness: Harness) -> None:
    """It is neither bound nor created again."""
    harness.sandbox.faults.hang_after(path=CREATE, times=1)
    async with harness.provisioner() as provisioner:
        run = provisioner.apply([A])
        await wait_for_requests(harness.sandbox, CREATE)
        await run.cancel(grace=0)
        (env,) = harness.sandbox.world.environments
        run = provisioner.apply([A])
        await asyncio.sleep(1)
        harness.sandbox.world.remove(env)
        report = await run.wait()
        plan = await provisioner.plan([A])
    assert (report.tenants[0].outcome, harness.sandbox.count(CREATE)) == (Outcome.CONFLICT, 1)
    assert "was to be adopted" in report.tenants[0].reason
    assert plan.create_count == 1


async def test_intent_keeps_its_own_deadline(harness: Harness, session_factory: SessionFactory) -> None:
    """A run with shorter timeouts waits as long as the killed one would have."""
    harness.sandbox.faults.hang(path=CREATE, times=1)
    async with session_factory.session(harness.sandbox, timeout=Timeout(connect=5, reply=300)) as session:
        slow = Harness(harness.sandbox, session, session_factory.wires[-1])
        async with slow.provisioner() as provisioner:
            run = provisioner.apply([A])
            await wait_for_requests(harness.sandbox, CREATE)
            await run.cancel(grace=0)
            journal = provisioner.journal
    async with session_factory.session(harness.sandbox, timeout=Timeout(connect=1, reply=1)) as session:
        report = await Harness(harness.sandbox, session, session_factory.wires[-1]).provision([A], journal=journal)
    assert (report.all_done, report.elapsed > 310) == (True, True)


async def test_decisions_are_copied(harness: Harness) -> None:
    """Changing the mapping later does not change the plan."""
    env = harness.sandbox.world.add("alias-a")
    adopt: dict[str, str] = {}
    async with harness.provisioner() as provisioner:
        plan = await provisioner.plan([A], adopt=adopt)
        adopt["a"] = env
        assert plan.decisions.adopt == {}


async def test_cancelled_run_stops_listing(harness: Harness) -> None:
    """This holds while it waits for a complete list."""
    async with harness.provisioner(concurrency=1) as provisioner:
        await create(provisioner, A)
        harness.sandbox.faults.slow(8.0, path=CREATE, times=1)
        run = provisioner.apply(plain_tenants(3))
        await wait_for_requests(harness.sandbox, CREATE, 2)
        harness.sandbox.faults.incomplete_list(*harness.sandbox.world.environments, path=LIST)
        await asyncio.sleep(12)
        lists, start = harness.sandbox.count(LIST), asyncio.get_running_loop().time()
        await run.cancel()
    assert (lists > 3, harness.sandbox.count(LIST) <= lists + 1) == (True, True)
    assert asyncio.get_running_loop().time() - start < 3


async def test_adoption_keeps_listed_environments_and_ambiguous_creates(harness: Harness) -> None:
    """Each must be resolved before another environment is adopted."""
    async with harness.provisioner() as provisioner:
        await create(provisioner, A)
        twin = harness.sandbox.world.add("alias-a")
        with pytest.raises(InvalidArgument, match=r"the tenant has alias-a-\w+, which is still listed"):
            await provisioner.plan([A], adopt={"a": twin})
        harness.sandbox.faults.hang(path=CREATE)
        run = provisioner.apply([B])
        await wait_for_requests(harness.sandbox, CREATE, 2)
        await run.cancel(grace=0)
        other = harness.sandbox.world.add("y")
        with pytest.raises(InvalidArgument, match="a create under the previous alias alias-b"):
            await provisioner.plan([Tenant("b", alias="y")], adopt={"b": other})


async def test_alias_of_another_tenant_cannot_be_adopted(harness: Harness) -> None:
    """With both decisions, adopt and forget, it can."""
    async with harness.provisioner() as provisioner:
        envs = await create(provisioner, Tenant("old", alias="x"))
        harness.sandbox.world.remove(envs["old"])
        other = harness.sandbox.world.add("x")
        new = Tenant("new", alias="x")
        with pytest.raises(InvalidArgument, match=f"belongs to tenant 'old', which has {envs['old']}"):
            await provisioner.plan([new], all_tenants=True, adopt={"new": other})
        plan = await provisioner.plan([new], all_tenants=True, adopt={"new": other}, forget=envs)
        report = await provisioner.apply(plan).wait()
    assert (report.all_done, report.tenants[0].env) == (True, other)


async def test_failing_step_predicate_affects_one_tenant(harness: Harness) -> None:
    """The error is raised at the end, and the others are done."""

    def is_needed(tenant: Tenant, record: TenantRecord, _status: str | None) -> bool:
        if tenant.name == "b" and record.env:
            raise ZeroDivisionError
        return False

    async def run_step(_context: object) -> None:
        raise NotImplementedError

    mine = Step(name="mine", title="mine", is_needed=is_needed, run=run_step)
    async with harness.provisioner(steps=[*STEPS, mine]) as provisioner:
        run = provisioner.apply([A, B, C])
        with pytest.raises(ZeroDivisionError):
            await run.wait()
    assert [entry.outcome for entry in run.report.tenants] == [Outcome.DONE, Outcome.FAILED, Outcome.DONE]
