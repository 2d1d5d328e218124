"""Provisioning client: what web processes submit, read, follow and decide."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from itertools import pairwise

import attrs
import pytest
from hypothesis import given, settings, strategies as st

import wxtcb.provision
from wxtcb.api.environment import ShareLink
from wxtcb.errors import InvalidArgument
from wxtcb.provision import (
    AliasInUse,
    Decision,
    DecisionPending,
    DesiredState,
    JournalError,
    MemoryJournal,
    ProvisioningClient,
    Submission,
    Tenant,
    UnknownTenant,
    derive_alias,
)
from wxtcb.provision.desired import Finish, Submit
from wxtcb.provision.journal import Committed
from wxtcb.provision.memory import MemoryDesired
from wxtcb.provision.record import HistoryEntry, JournalIdentity, ServiceState, TenantRecord
from wxtcb.provision.tenant_spec import load_tenant

from .constants import WX1, WX2

EPOCH = 1_800_000_000.0
IDENTITY = JournalIdentity(component_appid="wx0123456789abcdef", on_loopback=True, namespace="n")
WAITING, DONE, ATTENTION, CANCELLED = DesiredState

pytestmark = pytest.mark.virtual_time


@attrs.define(eq=False)
class ObservedDesired(MemoryDesired):
    """Desired state that records the time and the tenants of each read.

    `error` is raised by a read. If `deaf`, changes are not noticed.
    """

    reads: list = attrs.field(init=False, factory=list)
    error: Exception | None = attrs.field(init=False, default=None)
    deaf: bool = attrs.field(init=False, default=False)

    async def select(self, tenants=None, **options):
        self.reads.append((asyncio.get_running_loop().time(), None if tenants is None else tuple(tenants)))
        tenants = self.reads[-1][1]
        found = await super().select(tenants, **options)
        # Other tasks run meanwhile, as they do while a database answers.
        await asyncio.sleep(0.01)
        if self.error is not None:
            raise self.error
        return found

    async def wait_for_change(self, seen, timeout):  # noqa: ASYNC109 - the protocol has it
        if not self.deaf:
            return await super().wait_for_change(seen, timeout)
        await asyncio.sleep(timeout)
        return seen


class SqlDesired(MemoryDesired):
    """Desired state with a statement, which consists of the changes."""

    def submission(self, changes):
        return changes


@pytest.fixture
async def journal():
    """Return a journal in memory on the clock of the loop."""
    now = asyncio.get_running_loop().time
    opened = MemoryJournal(lambda: EPOCH + now())
    opened.desired = ObservedDesired(opened.clock, opened._changes, opened.election)
    await opened.bind_identity(IDENTITY)
    return opened


@pytest.fixture
def client(journal):
    """Return a client of it."""
    return ProvisioningClient(journal, clock=journal.clock)


async def record(journal, tenant, **fields):
    """Store the next record of a tenant."""
    stored = (await journal.load([tenant])).get(tenant) or TenantRecord(tenant=tenant, alias="x")
    stored = attrs.evolve(stored, version=stored.version + 1, **fields)
    assert await journal.commit(stored, HistoryEntry(EPOCH, "changed")) == Committed()


async def finish(journal, tenant, state, **fields):
    """Finish the present revision of a tenant."""
    (desired,) = await journal.desired.select([tenant])
    await journal.desired.change([Finish(tenant=tenant, revision=desired.revision, state=state, **fields)])


async def test_submission_is_counted(client):
    """The same tenants again change nothing; a changed one is changed."""
    tenants = [Tenant("a"), Tenant("b")]
    assert await client.submit(tenants) == Submission(new=2, changed=0, unchanged=0)
    assert await client.submit(tenants) == Submission(new=0, changed=0, unchanged=2)
    changed = (tenant for tenant in [Tenant("a", appids=[WX1]), Tenant("b"), Tenant("c")])
    assert await client.submit(changed) == Submission(new=1, changed=1, unchanged=1)
    assert await client.submit([]) == Submission(new=0, changed=0, unchanged=0)


async def test_submitted_tenant_is_stored_whole(client, journal):
    """The elected process finds its environment to adopt too, and the alias that the namespace gives."""
    tenants = [Tenant("a", appids=[WX1], services=["api"], env="env-1"), Tenant("b", alias="given")]
    await client.submit(tenants)
    stored = await journal.desired.select()
    assert [load_tenant(each.spec, each.tenant) for each in stored] == tenants
    assert [each.alias for each in stored] == [derive_alias("n", "a"), "given"]


@pytest.mark.parametrize(
    ("tenants", "problem"),
    [
        ([Tenant("a"), Tenant("a")], "'a' is duplicated"),
        ([Tenant("a", alias="ax"), Tenant("b", alias="aX")], "already used by tenant 'a'"),
        ([Tenant("a"), Tenant("b", services=[f"s{number}" for number in range(10_000)])], "10,000 values"),
        ([Tenant("a"), "b"], "tenant 2 must be Tenant"),
    ],
)
async def test_invalid_submission_is_refused_as_a_whole(client, journal, tenants, problem):
    """Nothing of it is stored."""
    with pytest.raises(InvalidArgument, match=problem):
        await client.submit(tenants)
    assert await journal.desired.select() == ()


async def test_alias_of_another_tenant_is_refused(client, journal):
    """The error names both; nothing of the submission is stored."""
    await client.submit([Tenant("first", alias="ax")])
    with pytest.raises(AliasInUse, match="'aX' of tenant 'second' is already used by tenant 'first'"):
        await client.submit([Tenant("ok"), Tenant("second", alias="aX")])
    assert [each.tenant for each in await journal.desired.select()] == ["first"]


async def test_new_journal_has_no_namespace():
    """Aliases cannot be derived before a provisioner has used the journal; the error says so."""
    client = ProvisioningClient(MemoryJournal())
    with pytest.raises(JournalError, match="Provisioner"):
        await client.submit([Tenant("a")])


async def test_connection_is_passed_on(client):
    """A journal that cannot use it refuses the submission."""
    with pytest.raises(InvalidArgument, match="connection"):
        await client.submit([Tenant("a")], connection=object())
    assert await client.status("a") is None


async def test_statement_needs_a_journal_in_sql(client):
    """The error names the alternative."""
    with pytest.raises(InvalidArgument, match="PostgresJournal"):
        await client.submission([Tenant("a")])


async def test_statement_is_made_by_the_journal(client, journal):
    """It gets the same changes as `submit`."""
    journal.desired = SqlDesired(journal.clock, journal._changes, journal.election)
    (change,) = await client.submission([Tenant("a")])
    assert change == Submit(tenant="a", alias=derive_alias("n", "a"), spec=b'{"tenant":"a"}')


async def test_status_shows_desired_state_and_record(client, journal):
    """Links and services that are not requested any more are left out."""
    await client.submit([Tenant("a", alias="x", appids=[WX1], services=["api", "web"])])
    services = {"api": ServiceState.SENT, "old": ServiceState.DONE}
    await record(
        journal,
        "a",
        env="env-1",
        tranid="77",
        links={WX1: "url", WX2: "old"},
        services=services,
        outcome="failed",
        problem="share: no",
    )
    await finish(journal, "a", WAITING, delay=60.0, failed=True)
    status = await client.status("a")
    submitted = datetime.fromtimestamp(journal.clock(), UTC)
    assert attrs.asdict(status, recurse=False) == {
        "tenant": "a",
        "alias": "x",
        "state": WAITING,
        "step": "services",
        "outcome": "failed",
        "problem": "share: no",
        "env": "env-1",
        "tranid": "77",
        "links": (ShareLink(appid=WX1, url="url"),),
        "services": {"api": ServiceState.SENT},
        "decision": None,
        "tries": 1,
        "next_attempt": status.next_attempt,
        "changed_at": status.changed_at,
        "revision": 1,
    }
    assert 59 < (status.next_attempt - submitted).total_seconds() <= 60
    assert abs((submitted - status.changed_at).total_seconds()) < 1


async def test_status_is_json(client, journal):
    """It is one line of JSON values; what is not there is null."""
    await client.submit([Tenant("商户", appids=[WX1], services=["api"])])
    await record(journal, "商户", env="env-1", links={WX1: "url"}, services={"api": ServiceState.DONE})
    await client.decide("商户", adopt="env-2")
    status = await client.status("商户")
    text = status.to_json()
    assert "\n" not in text
    assert json.loads(text) == status.to_dict()
    expected = {
        "tenant": "商户",
        "state": "waiting",
        "step": "ready",
        "links": [{"appid": WX1, "url": "url"}],
        "services": {"api": "done"},
        "decision": {"adopt": "env-2"},
        "next_attempt": None,
        "tranid": None,
    }
    assert status.to_dict().items() >= expected.items()
    assert datetime.fromisoformat(status.to_dict()["changed_at"]) == status.changed_at.replace(microsecond=0)
    await finish(journal, "商户", WAITING, delay=5.0, failed=True)
    assert (await client.status("商户")).to_dict()["next_attempt"].endswith("+00:00")
    assert json.loads((await client.status("商户")).to_json())["decision"] is None


@pytest.mark.parametrize(
    ("fields", "step"),
    [
        ({}, "environment"),
        ({"env": "e"}, "share"),
        ({"env": "e", "links": {WX1: ""}}, "services"),
        ({"env": "e", "links": {WX1: ""}, "services": {"api": ServiceState.SENT}}, "services"),
        ({"env": "e", "links": {WX1: ""}, "services": {"api": ServiceState.UNCONFIRMED}}, "ready"),
    ],
)
async def test_step_is_the_first_that_is_missing(client, journal, fields, step):
    """A tenant that does not wait has none."""
    await client.submit([Tenant("a", appids=[WX1], services=["api"])])
    await record(journal, "a", **fields)
    assert (await client.status("a")).step == step
    await client.cancel("a")
    assert (await client.status("a")).step is None


async def test_statuses_are_read_in_pages(client, journal):
    """However many there are, no read asks for more than 1,000, and none is left out."""
    names = [f"{number:04}" for number in range(2_500)]
    await client.submit([Tenant(name) for name in names])
    assert [status.tenant async for status in client.statuses()] == names
    assert len(journal.desired.reads) == 3
    found = [status.tenant async for status in client.statuses(reversed(["none", *names]))]
    assert found == names
    assert [len(read) for _, read in journal.desired.reads[3:]] == [1_000, 1_000, 501]
    assert [status async for status in client.statuses([])] == []


async def test_statuses_are_selected_by_state(client, journal):
    """Those that need attention have a method of their own."""
    await client.submit([Tenant(name) for name in "abcd"])
    await finish(journal, "b", ATTENTION)
    await finish(journal, "c", DONE)
    assert [status.tenant async for status in client.statuses(states=[DONE, WAITING])] == ["a", "c", "d"]
    assert [status.tenant async for status in client.statuses(["b", "c"], states=iter([DONE]))] == ["c"]
    assert [status.tenant async for status in client.needs_attention()] == ["b"]
    assert await client.counts() == {WAITING: 2, DONE: 1, ATTENTION: 1, CANCELLED: 0}


async def test_one_name_is_no_list_of_names(client):
    """Its letters are not taken for names."""
    with pytest.raises(InvalidArgument, match="tenants must be a list"):
        await anext(client.statuses("abc"))


async def test_history_is_read(client, journal):
    """A tenant without a record has none."""
    await record(journal, "a")
    assert await client.history("a") == (HistoryEntry(EPOCH, "changed"),)
    assert await client.history("b") == ()


async def test_damaged_specification_names_its_tenant(client, journal):
    """It is the problem of its status; those of other tenants of the same read are not affected."""
    await client.submit([Tenant("a")])
    await journal.desired.change([Submit(tenant="b", alias="b", spec=b"{")])
    problems = {status.tenant: status.problem async for status in client.statuses()}
    assert (problems["a"], "'b'" in problems["b"]) == ("", True)


async def test_cancel_reports_whether_it_changed_anything(client, journal):
    """A tenant that is done stays done."""
    await client.submit([Tenant("a"), Tenant("b")])
    assert [await client.cancel("a"), await client.cancel("a")] == [True, False]
    await finish(journal, "b", DONE)
    assert not await client.cancel("b")
    assert [status.state async for status in client.statuses()] == [CANCELLED, DONE]


@pytest.mark.parametrize(
    ("given", "decision"),
    [
        ({"adopt": "e"}, Decision(adopt="e")),
        ({"forget": "e"}, Decision(forget="e")),
        ({"retry": True}, Decision(retry=True)),
    ],
)
async def test_decision_waits_to_be_carried_out(client, journal, given, decision):
    """The same one again changes nothing, another one is refused."""
    await client.submit([Tenant("a")])
    await finish(journal, "a", ATTENTION)
    await client.decide("a", **given)
    await client.decide("a", **given)
    status = await client.status("a")
    assert (status.decision, status.state, status.revision) == (decision, WAITING, 2)
    with pytest.raises(DecisionPending):
        await client.decide("a", adopt="other")


@pytest.mark.parametrize("given", [{}, {"adopt": "e", "retry": True}, {"adopt": ""}, {"forget": 5}])
async def test_invalid_decision_is_refused(client, given):
    """Exactly one is given, and an environment is a string."""
    await client.submit([Tenant("a")])
    with pytest.raises(InvalidArgument):
        await client.decide("a", **given)
    assert (await client.status("a")).decision is None


async def test_unknown_tenant_is_an_error(client):
    """It has no status either."""
    assert await client.status("a") is None
    for call in (client.cancel("a"), client.decide("a", retry=True), anext(client.follow("a"))):
        with pytest.raises(UnknownTenant, match="'a'"):
            await call


def follow(client, tenant):
    """Follow a tenant in a task; return the task, and the list of its statuses."""
    seen = []

    async def collect():
        async for status in client.follow(tenant):
            seen.append(status)  # noqa: PERF401 - the tests look at it meanwhile

    return asyncio.create_task(collect()), seen


async def test_follower_sees_each_change_and_the_end(client, journal):
    """It begins with the present status, and ends with the tenant."""
    await client.submit([Tenant("a")])
    task, seen = follow(client, "a")
    await asyncio.sleep(1)
    await record(journal, "a", env="env-1")
    await asyncio.sleep(1)
    await finish(journal, "a", WAITING, delay=30.0, failed=True)
    await asyncio.sleep(1)
    await finish(journal, "a", DONE)
    await task
    assert [(status.state, status.env, status.tries) for status in seen] == [
        (WAITING, None, 0),
        (WAITING, "env-1", 0),
        (WAITING, "env-1", 1),
        (DONE, "env-1", 0),
    ]


@pytest.mark.parametrize("state", [DONE, ATTENTION, CANCELLED])
async def test_end_before_the_call_is_seen(client, journal, state):
    """The only status is the last one."""
    await client.submit([Tenant("a")])
    await finish(journal, "a", state)
    assert [status.state async for status in client.follow("a")] == [state]


async def test_unrelated_changes_give_no_status(client, journal):
    """Only a different status is one; a moved time of the next attempt is none."""
    await client.submit([Tenant("a"), Tenant("b")])
    await finish(journal, "a", WAITING, delay=100.0)
    task, seen = follow(client, "a")
    for number in range(20):
        await asyncio.sleep(1)
        await client.submit([Tenant("b", source_type=number)])
    assert len(seen) == 1
    await client.cancel("a")
    await task
    assert len(seen) == 2


async def test_end_is_heard_within_a_second(client, journal):
    """Even while other tenants change all the time."""
    await client.submit([Tenant("a"), Tenant("b")])
    task, _ = follow(client, "a")
    now = asyncio.get_running_loop().time
    for number in range(300):
        await asyncio.sleep(0.01)
        await client.submit([Tenant("b", source_type=number)])
    await finish(journal, "a", DONE)
    ended_at = now()
    await task
    assert now() - ended_at < 1


async def test_followers_share_one_read(client, journal):
    """However many there are, and however often tenants change, two reads a second are made, of followed tenants."""
    names = [f"t{number}" for number in range(30)]
    await client.submit([Tenant(name) for name in [*names, "other"]])
    followers = [follow(client, name) for name in names for _ in range(5)]
    for number in range(1_000):
        await asyncio.sleep(0.01)
        await client.submit([Tenant("other", source_type=number)])
    reads = len(journal.desired.reads)
    assert 15 <= reads <= 22
    assert {frozenset(tenants) for _, tenants in journal.desired.reads} == {frozenset(names)}
    for name in names:
        await client.cancel(name)
    await asyncio.gather(*(task for task, _ in followers))
    assert all([status.state for status in seen] == [WAITING, CANCELLED] for _, seen in followers)


async def test_change_without_a_notification_is_seen_in_five_seconds(client, journal):
    """A notification may be lost: the state is read from time to time."""
    await client.submit([Tenant("a")])
    journal.desired.deaf = True
    task, seen = follow(client, "a")
    await asyncio.sleep(1)
    await client.cancel("a")
    started = asyncio.get_running_loop().time()
    await task
    assert asyncio.get_running_loop().time() - started <= 5
    assert seen[-1].state is CANCELLED


async def test_change_during_a_read_is_not_lost(client, journal):
    """The read may have missed it: another read follows at once."""
    await client.submit([Tenant("a")])
    task, seen = follow(client, "a")
    # The read takes 0.01 s.
    await asyncio.sleep(0.005)
    await client.cancel("a")
    await task
    assert asyncio.get_running_loop().time() - journal.desired.reads[0][0] < 1
    assert seen[-1].state is CANCELLED


async def test_cancelled_follower_does_not_hurt_another(client, journal):
    """Neither in the middle of a read that both share, nor between two reads."""
    await client.submit([Tenant("a"), Tenant("b")])
    first, _ = follow(client, "a")
    second, seen = follow(client, "a")
    third, _ = follow(client, "b")
    await asyncio.sleep(0.005)
    first.cancel()
    await asyncio.sleep(1)
    third.cancel()
    await asyncio.sleep(1)
    await client.cancel("a")
    await second
    assert [status.state for status in seen] == [WAITING, CANCELLED]
    assert journal.desired.reads[-1][1] == ("a",)


async def test_follower_that_joins_during_a_read_gets_its_own(client, journal):
    """A read that began before, even in the same moment, does not include its tenant."""
    await client.submit([Tenant("a"), Tenant("b")])
    first, _ = follow(client, "a")
    while not journal.desired.reads:
        await asyncio.sleep(0)
    second, seen = follow(client, "b")
    await asyncio.sleep(1)
    assert [status.tenant for status in seen] == ["b"]
    assert tuple(tenants for _, tenants in journal.desired.reads[:2]) == (("a",), ("a", "b"))
    for task in (first, second):
        task.cancel()
    await asyncio.wait([first, second])


async def test_failed_read_ends_the_iteration_only(client, journal):
    """Every follower gets the error, and can follow again."""
    await client.submit([Tenant("a")])
    followers = [follow(client, "a") for _ in range(2)]
    await asyncio.sleep(1)
    journal.desired.error = JournalError("the database is down")
    await client.submit([Tenant("b")])
    results = await asyncio.gather(*(task for task, _ in followers), return_exceptions=True)
    assert [str(error) for error in results] == ["the database is down"] * 2
    journal.desired.error = None
    assert (await anext(client.follow("a"))).state is WAITING


async def test_tenant_submitted_again_is_followed_to_its_new_end(client, journal):
    """A follower that saw it waiting hears what the new attempt comes to."""
    await client.submit([Tenant("a")])
    task, seen = follow(client, "a")
    await asyncio.sleep(1)
    await finish(journal, "a", DONE)
    await client.submit([Tenant("a", appids=[WX1])])
    await asyncio.sleep(2)
    assert not task.done()
    await finish(journal, "a", ATTENTION)
    await task
    assert [(status.state, status.revision) for status in seen] == [(WAITING, 1), (WAITING, 2), (ATTENTION, 2)]


async def change_randomly(client, journal, tenant, change, number):
    """Make one change of a tenant."""
    match change:
        case "record":
            await record(journal, tenant, problem=f"{number}")
        case "done" | "attention":
            await finish(journal, tenant, DONE if change == "done" else ATTENTION)
        case "retry":
            await client.decide(tenant, retry=True)
        case "cancel":
            await client.cancel(tenant)
        case "submit":
            await client.submit([Tenant(tenant, source_type=number)])


# Hundredths of a second before each change, or before a follower begins or is cancelled. A read takes one of them.
EVENTS = st.lists(
    st.tuples(
        st.sampled_from([0, 1, 49, 50, 51, 300]),
        st.sampled_from("ab"),
        st.sampled_from(["record", "done", "attention", "retry", "cancel", "submit", "follow", "follow", "leave"]),
    ),
    max_size=25,
)


def test_followers_never_miss_the_last_status(virtual_run):
    """Whenever they begin, and whatever happens meanwhile: all see the present status at last, or an end."""

    async def play(events):
        journal = MemoryJournal(lambda: EPOCH + asyncio.get_running_loop().time())
        await journal.bind_identity(IDENTITY)
        journal.desired = ObservedDesired(journal.clock, journal._changes, journal.election)
        client, followers = ProvisioningClient(journal), []
        await client.submit([Tenant("a"), Tenant("b")])
        for number, (delay, tenant, event) in enumerate(events):
            await asyncio.sleep(delay / 100)
            if event == "follow":
                followers.append((tenant, *follow(client, tenant)))
            elif event == "leave" and followers:
                followers.pop(number % len(followers))[1].cancel()
            else:
                await change_randomly(client, journal, tenant, event, number)
        await asyncio.sleep(2)
        for tenant, task, seen in followers:
            assert all(one != other for one, other in pairwise(seen))
            assert all(status.state is WAITING for status in seen[:-1])
            assert task.done() == (seen[-1].state is not WAITING)
            assert task.done() or seen[-1] == await client.status(tenant)
            task.cancel()
        await asyncio.gather(*(task for _, task, _ in followers), return_exceptions=True)
        assert not client._followed

    @settings(max_examples=200)
    @given(EVENTS)
    def check(events):
        virtual_run(play(events))

    check()


def test_names_are_loaded_on_first_use():
    """Not every program needs a client."""
    assert wxtcb.provision.UnknownTenant is UnknownTenant
