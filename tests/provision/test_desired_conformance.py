"""Conformance of desired state: every storage in `STORAGES` passes the same tests."""

from __future__ import annotations

import asyncio
import time

import attrs
import pytest

from wxtcb.errors import InvalidArgument
from wxtcb.provision import ProvisioningClient, Submission, Tenant
from wxtcb.provision.desired import (
    AliasInUse,
    Cancel,
    Decide,
    Decision,
    DecisionPending,
    DesiredState,
    DesiredTenant,
    Effect,
    Finish,
    Submit,
)
from wxtcb.provision.journal import Deposed
from wxtcb.provision.record import HistoryEntry, JournalIdentity, TenantRecord

WAITING, DONE, ATTENTION, CANCELLED = DesiredState
NEW, CHANGED, UNCHANGED, UNKNOWN = Effect
RETRY = Decision(retry=True)


def submit(name, alias=None, spec=b"{}"):
    """Return a submission; the alias is derived from the name."""
    return Submit(tenant=name, alias=alias or f"t{name}", spec=spec)


async def only(journal):
    """Return the only tenant."""
    (tenant,) = await journal.desired.select()
    return tenant


async def finish(journal, state, **fields):
    """Finish the present revision of the only tenant."""
    tenant = await only(journal)
    effects = await journal.desired.change(
        [Finish(tenant=tenant.tenant, revision=tenant.revision, state=state, **fields)]
    )
    assert effects == (CHANGED,)


async def elect(storage, holder="one"):
    """Return the epoch of a newly elected process."""
    return (await storage.journal.election.acquire(holder, 30.0)).epoch


async def take(storage, epoch, limit=100):
    """Return the names of the tenants that are taken."""
    return [each.tenant for each in await storage.journal.desired.take(epoch, limit)]


async def test_new_storage_wants_nothing(journal):
    """There are no tenants; the counts name every state."""
    assert await journal.desired.select() == ()
    assert await journal.desired.counts() == dict.fromkeys(DesiredState, 0)


async def test_submitted_tenant_waits(storage):
    """Every process sees what was submitted, also after the journal is reopened."""
    spec = '{"tenant": "商\\u0000户"}\n'.encode()
    before = time.time()
    assert await storage.journal.desired.change([submit("商户", "Alias", spec)]) == (NEW,)
    await storage.reopen()
    stored = await only(storage.journal)
    assert stored == DesiredTenant(
        tenant="商户", alias="Alias", spec=spec, revision=1, state=WAITING, changed_at=stored.changed_at
    )
    assert abs(stored.changed_at - before) < 600
    assert await storage.journal.desired.counts() == {WAITING: 1, DONE: 0, ATTENTION: 0, CANCELLED: 0}


async def test_the_same_submission_changes_nothing(journal, other):
    """Neither a waiting tenant, nor one that is done or needs attention, is worked on again."""
    for state in (WAITING, ATTENTION, DONE):
        await journal.desired.change([submit("a")])
        await finish(journal, state)
        before = await only(journal)
        assert await other.desired.change([submit("a")]) == (UNCHANGED,)
        assert await only(journal) == before


@pytest.mark.parametrize("changed", [submit("a", "other"), submit("a", spec=b"[]"), submit("a", "TA")])
async def test_changed_submission_is_worked_on_again(journal, changed):
    """The tenant waits, under the next revision."""
    await journal.desired.change([submit("a")])
    await finish(journal, DONE)
    assert await journal.desired.change([changed]) == (CHANGED,)
    stored = await only(journal)
    assert (stored.alias, stored.spec) == (changed.alias, changed.spec)
    assert (stored.state, stored.revision) == (WAITING, 2)


async def test_one_call_has_all_kinds_of_effects(journal):
    """The effects are in the order of the changes."""
    await journal.desired.change([submit("a"), submit("b"), submit("c")])
    effects = await journal.desired.change(
        [submit("d"), submit("b", spec=b"[]"), submit("a"), Cancel("c"), Cancel("none"), Decide("nobody", RETRY)]
    )
    assert effects == (NEW, CHANGED, UNCHANGED, CHANGED, UNKNOWN, UNKNOWN)
    assert {each.tenant: each.state for each in await journal.desired.select()} == {
        "a": WAITING,
        "b": WAITING,
        "c": CANCELLED,
        "d": WAITING,
    }


async def test_no_change_has_no_effect(journal):
    """An empty call is allowed."""
    assert await journal.desired.change([]) == ()


async def test_thousands_of_tenants_are_submitted_in_one_call(journal):
    """No limit of the storage bounds their number."""
    names = [f"{number:05}" for number in range(5_000)]
    assert set(await journal.desired.change([submit(name) for name in names])) == {NEW}
    assert [each.tenant for each in await journal.desired.select()] == names
    assert set(await journal.desired.change([submit(name) for name in names])) == {UNCHANGED}


async def test_alias_belongs_to_one_tenant(journal, other):
    """It is compared without case; nothing of the call is stored, and the error names both tenants."""
    await journal.desired.change([submit("first", "theAlias")])
    with pytest.raises(AliasInUse) as caught:
        await other.desired.change([submit("ok"), submit("second", "THEalias")])
    assert all(name in str(caught.value) for name in ("'first'", "'second'", "'THEalias'"))
    with pytest.raises(AliasInUse):
        await other.desired.change([submit("a", "same"), submit("b", "SAME")])
    assert [(each.tenant, each.state) for each in await journal.desired.select()] == [("first", WAITING)]


async def test_cancelled_tenant_keeps_its_alias(journal):
    """Its environment may still exist; another alias releases it."""
    await journal.desired.change([submit("a", "x")])
    await journal.desired.change([Cancel("a")])
    with pytest.raises(AliasInUse):
        await journal.desired.change([submit("b", "x")])
    await journal.desired.change([submit("a", "y")])
    assert await journal.desired.change([submit("b", "x")]) == (NEW,)


async def test_cancelled_tenant_is_submitted_again(journal):
    """The same submission lets it wait again."""
    await journal.desired.change([submit("a")])
    assert await journal.desired.change([Cancel("a")]) == (CHANGED,)
    assert await journal.desired.change([Cancel("a")]) == (UNCHANGED,)
    assert await journal.desired.change([submit("a")]) == (CHANGED,)
    stored = await only(journal)
    assert (stored.state, stored.revision) == (WAITING, 3)


async def test_done_tenant_is_not_cancelled(journal):
    """One that needs attention is."""
    await journal.desired.change([submit("a")])
    await finish(journal, ATTENTION)
    assert await journal.desired.change([Cancel("a")]) == (CHANGED,)
    assert (await only(journal)).state is CANCELLED
    await journal.desired.change([submit("a")])
    await finish(journal, DONE)
    assert await journal.desired.change([Cancel("a")]) == (UNCHANGED,)
    assert (await only(journal)).state is DONE


@pytest.mark.parametrize("decision", [Decision(adopt="env-1"), Decision(forget="env-2"), RETRY])
async def test_decision_is_stored_until_it_is_carried_out(journal, decision):
    """The tenant waits under the next revision; the end of an attempt clears the decision."""
    await journal.desired.change([submit("a")])
    await finish(journal, ATTENTION)
    assert await journal.desired.change([Decide("a", decision)]) == (CHANGED,)
    stored = await only(journal)
    assert (stored.state, stored.decision, stored.revision) == (WAITING, decision, 2)
    await finish(journal, DONE)
    assert (await only(journal)).decision is None


async def test_attempt_that_tried_nothing_keeps_the_decision(journal):
    """It waits for the next one; an attempt that failed, or that ended, clears it."""
    await journal.desired.change([submit("a")])
    for finish, expected in (
        (Finish(tenant="a", revision=2, state=WAITING, delay=5.0), RETRY),
        (Finish(tenant="a", revision=2, state=WAITING, failed=True), None),
    ):
        await journal.desired.change([Decide("a", RETRY)])
        await journal.desired.change([finish])
        assert (await only(journal)).decision == expected


@pytest.mark.parametrize("state", [WAITING, ATTENTION])
async def test_tenant_that_is_done_is_not_set_back(journal, state):
    """A process that was deposed meanwhile may send the end of its attempt late."""
    await journal.desired.change([submit("a")])
    await finish(journal, DONE)
    (effect,) = await journal.desired.change([Finish(tenant="a", revision=1, state=state)])
    assert (effect.value, (await only(journal)).state) == ("unchanged", DONE)


async def test_second_decision_is_rejected(journal, other):
    """The first one waits to be carried out; the same one again changes nothing."""
    await journal.desired.change([submit("a"), submit("b")])
    await journal.desired.change([Decide("a", Decision(adopt="env-1"))])
    before = await journal.desired.select()
    with pytest.raises(DecisionPending, match="'a'"):
        await other.desired.change([Cancel("b"), Decide("a", Decision(forget="env-1"))])
    assert await other.desired.change([Decide("a", Decision(adopt="env-1"))]) == (UNCHANGED,)
    assert await journal.desired.select() == before


async def test_two_decisions_at_once_are_one(journal, other):
    """Of two processes that decide differently at the same moment, one gets the error."""
    await journal.desired.change([submit("a")])
    decisions = [Decision(adopt=f"env-{number}") for number in range(6)]
    results = await asyncio.gather(
        *(
            each.desired.change([Decide("a", decision)])
            for each, decision in zip((journal, other) * 3, decisions, strict=True)
        ),
        return_exceptions=True,
    )
    assert sorted(type(each).__name__ for each in results) == ["DecisionPending"] * 5 + ["tuple"]
    assert (await only(journal)).decision == decisions[[type(each) for each in results].index(tuple)]


async def test_submission_keeps_a_decision_and_a_cancel_withdraws_it(journal):
    """A changed tenant still needs the decision; a cancelled one is not worked on."""
    await journal.desired.change([submit("a")])
    await journal.desired.change([Decide("a", RETRY)])
    await journal.desired.change([submit("a", spec=b"[]")])
    assert (await only(journal)).decision == RETRY
    await journal.desired.change([Cancel("a")])
    assert (await only(journal)).decision is None
    assert await journal.desired.change([Decide("a", Decision(adopt="env-1"))]) == (CHANGED,)
    assert (await only(journal)).state is WAITING


async def test_tenant_is_taken_once_in_a_term(storage, other):
    """A tenant that waits is returned once; the next elected process gets it again."""
    await storage.journal.desired.change([submit("a"), submit("b")])
    first = await elect(storage)
    tenants = await storage.journal.desired.take(first, 100)
    assert sorted(tenants, key=lambda each: each.tenant) == [*await other.desired.select()]
    assert await take(storage, first) == []
    await other.desired.change([submit("c")])
    assert await take(storage, first) == ["c"]
    await storage.expire_lease()
    second = await elect(storage, "two")
    assert sorted(await take(storage, second)) == ["a", "b", "c"]


async def test_deposed_process_takes_nothing(storage):
    """Neither with an earlier epoch, nor with one that never was."""
    await storage.journal.desired.change([submit("a")])
    with pytest.raises(Deposed):
        await storage.journal.desired.take(1, 100)
    first = await elect(storage)
    await storage.expire_lease()
    second = await elect(storage, "two")
    for epoch in (first, second + 1):
        with pytest.raises(Deposed):
            await storage.journal.desired.take(epoch, 100)
    assert await take(storage, second) == ["a"]


async def test_those_that_wait_longest_are_taken_first(storage):
    """At most *limit* tenants are returned."""
    for name in ("b", "c", "a"):
        await storage.journal.desired.change([submit(name)])
    epoch = await elect(storage)
    assert [await take(storage, epoch, 2) for _ in range(3)] == [["b", "c"], ["a"], []]


async def test_only_waiting_tenants_are_taken(storage):
    """What is done, cancelled or needs attention is left alone."""
    await storage.journal.desired.change([submit(name) for name in "abcd"])
    await storage.journal.desired.change(
        [
            Finish(tenant="a", revision=1, state=DONE),
            Finish(tenant="b", revision=1, state=ATTENTION),
            Cancel("c"),
        ]
    )
    assert await take(storage, await elect(storage)) == ["d"]


async def test_change_of_a_taken_tenant_is_taken_again(storage, other):
    """The attempt that began before the change cannot finish it."""
    await storage.journal.desired.change([submit("a")])
    epoch = await elect(storage)
    (taken,) = await storage.journal.desired.take(epoch, 100)
    await other.desired.change([submit("a", spec=b"[1]")])
    late = Finish(tenant="a", revision=taken.revision, state=DONE)
    assert await storage.journal.desired.change([late]) == (UNCHANGED,)
    (again,) = await storage.journal.desired.take(epoch, 100)
    assert (again.spec, again.revision, again.state) == (b"[1]", 2, WAITING)


async def test_cancelled_tenant_stays_cancelled(storage, other):
    """The attempt that began before the cancel cannot change its state."""
    await storage.journal.desired.change([submit("a")])
    epoch = await elect(storage)
    (taken,) = await storage.journal.desired.take(epoch, 100)
    await other.desired.change([Cancel("a")])
    late = Finish(tenant="a", revision=taken.revision, state=WAITING)
    assert await storage.journal.desired.change([late]) == (UNCHANGED,)
    assert (await only(storage.journal)).state is CANCELLED
    assert await take(storage, epoch) == []


async def test_unfinished_tenant_is_due_after_its_delay(storage):
    """Until then it is not taken; a change of the caller ends the delay."""
    await storage.journal.desired.change([submit("a")])
    epoch = await elect(storage)
    await take(storage, epoch)
    await finish(storage.journal, WAITING, delay=1000.0)
    assert await take(storage, epoch) == []
    assert 500 < (await only(storage.journal)).due_in <= 1000
    await storage.journal.desired.change([Decide("a", RETRY)])
    assert (await only(storage.journal)).due_in == 0
    assert await take(storage, epoch) == ["a"]
    await finish(storage.journal, WAITING)
    assert await take(storage, epoch) == ["a"]


async def test_failed_attempts_are_counted(storage):
    """Attempts that did not fail leave the number; a change or another state sets it to 0."""
    journal = storage.journal
    await journal.desired.change([submit("a")])
    tries = []
    for failed in (True, False, True):
        await finish(journal, WAITING, delay=9.0, failed=failed)
        tries.append((await only(journal)).tries)
    await journal.desired.change([submit("a", spec=b"[]")])
    tries.append((await only(journal)).tries)
    await finish(journal, WAITING, failed=True)
    await finish(journal, ATTENTION, failed=True)
    tries.append((await only(journal)).tries)
    assert tries == [1, 1, 2, 0, 0]


async def test_finish_is_no_change_of_the_tenant(journal):
    """Revision and time of the change are those of the last caller; an unknown tenant is no error."""
    await journal.desired.change([submit("a")])
    before = await only(journal)
    await finish(journal, DONE)
    assert await only(journal) == attrs.evolve(before, state=DONE)
    assert await journal.desired.change([Finish(tenant="b", revision=1, state=DONE)]) == (UNKNOWN,)
    assert (await journal.desired.counts())[DONE] == 1


async def test_tenants_are_selected_in_pages(journal):
    """The order of names is the one of code points, in every storage."""
    names = ["B", "a", "b", "ä", "商户", "😀", "\uffff"]
    await journal.desired.change([submit(name, f"t{number}") for number, name in enumerate(names)])
    pages, after = [], ""
    while page := [each.tenant for each in await journal.desired.select(after=after, limit=3)]:
        pages.append(page)
        after = page[-1]
    assert [name for page in pages for name in page] == sorted(names)
    assert [len(page) for page in pages] == [3, 3, 1]


async def test_tenants_are_selected_by_name_and_state(journal):
    """Conditions are combined; unknown names are omitted."""
    await journal.desired.change([submit(name) for name in "abcd"])
    await journal.desired.change([Cancel("b"), Cancel("d")])

    async def select(*args, **options):
        return "".join(each.tenant for each in await journal.desired.select(*args, **options))

    assert await select(iter(["d", "none", "a", "a"])) == "ad"
    assert await select(states=iter([CANCELLED, DONE])) == "bd"
    assert await select("abc", states=[WAITING]) == "ac"
    assert await select(states=[WAITING], after="a") == "c"
    assert await select([]) == ""
    assert await select(states=[]) == ""
    assert await select(["a\0", "\ud800", "A", "", *map(str, range(100_000)), "a"]) == "a"


async def test_specs_are_not_in_a_repr(journal):
    """They may hold a secret of a service."""
    await journal.desired.change([submit("a", spec=b"s3cret")])
    assert "s3cret" not in f"{await only(journal)!r} {submit('a', spec=b's3cret')!r}"


async def test_connection_of_an_unknown_kind_is_rejected(journal):
    """Nothing is stored outside the transaction that the caller has in mind."""
    with pytest.raises(InvalidArgument, match="connection"):
        await journal.desired.change([submit("a")], connection=object())
    assert await journal.desired.select() == ()


async def wait_until_noticed(journal, seen):
    """Wait until the journal notices a change; return the number of changes."""
    for _ in range(50):
        if (count := await journal.desired.wait_for_change(seen, 1.0)) != seen:
            return count
    raise AssertionError("the change was not noticed")


async def test_change_is_noticed(storage, other):
    """Changes of wishes, records and elections, of this and of another process, end a wait or the next one."""
    journal = storage.journal
    seen = await journal.desired.wait_for_change(0, 0.0)

    async def after(change):
        """Wait while a change is made, and make sure that it is noticed."""
        nonlocal seen
        noticed = asyncio.create_task(wait_until_noticed(journal, seen))
        await asyncio.sleep(0)
        await change
        seen = await noticed

    await after(other.desired.change([submit("a")]))
    await after(journal.desired.change([Cancel("a")]))
    await after(other.commit(TenantRecord(tenant="a", alias="ta", version=1), HistoryEntry(1.0, "changed")))
    term = await other.election.acquire("one", 30.0)
    seen = await wait_until_noticed(journal, seen)
    await after(other.election.release(term))


async def test_change_before_the_wait_is_noticed(journal, other):
    """No change is lost between two waits."""
    seen = await journal.desired.wait_for_change(0, 0.0)
    await other.desired.change([submit("a")])
    assert await wait_until_noticed(journal, seen) != seen


async def test_wait_without_a_change_ends(journal):
    """After *timeout* it returns the same number; a cancelled one leaves no trace."""
    seen = await journal.desired.wait_for_change(0, 0.0)
    waiting = asyncio.create_task(journal.desired.wait_for_change(seen, 60.0))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait([waiting])
    assert waiting.cancelled()
    assert await journal.desired.wait_for_change(seen, 0.01) == seen


async def test_client_follows_what_another_process_does(journal, other):
    """Tenants that one process submits are followed by another one to the end that a third one gives them."""
    await journal.bind_identity(JournalIdentity(component_appid="wx", on_loopback=True, namespace="n"))
    tenants = [Tenant(name, services=["api"], env=f"env-{name}") for name in ("a", "商户")]
    assert await ProvisioningClient(journal).submit(tenants) == Submission(new=2, changed=0, unchanged=0)
    client, begun, states = ProvisioningClient(other), asyncio.Event(), []

    async def follow(tenant):
        async for status in client.follow(tenant):
            states.append((tenant, status.state))
            if len(states) == 2:
                begun.set()

    followers = asyncio.gather(*(follow(tenant.name) for tenant in tenants))
    await begun.wait()
    await ProvisioningClient(journal).cancel("a")
    await journal.desired.change([Finish(tenant="商户", revision=1, state=DONE)])
    await followers
    assert sorted(states, key=lambda each: each[0]) == [
        ("a", WAITING),
        ("a", CANCELLED),
        ("商户", WAITING),
        ("商户", DONE),
    ]
