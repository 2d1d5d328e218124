"""Conformance of journals: every storage in `STORAGES` passes the same tests."""

from __future__ import annotations

import asyncio
import time

import attrs
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from wxtcb.provision.journal import Committed, Deposed, JournalError, KeyTaken, Stale
from wxtcb.provision.record import HistoryEntry, Intent, JournalIdentity, ServiceState, TenantRecord
from wxtcb.provision.tenant import is_valid_name

SETTINGS = settings(
    max_examples=30,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    database=None,
)
IDENTITY = JournalIdentity(component_appid="wx0123456789abcdef", on_loopback=True, namespace="n")
ENTRY = HistoryEntry(1.7e9, "changed")
ENVS = (None, "env-1", "env-2")
ALIASES = ("ta", "tA", "tb")


def new(name, **fields):
    """Return the first record of a tenant."""
    return TenantRecord(**{"tenant": name, "alias": f"t{name}", "version": 1, **fields})


def following(record, **fields):
    """Return the next version of a record."""
    return attrs.evolve(record, version=record.version + 1, **fields)


async def store(journal, *records):
    """Store records."""
    for record in records:
        assert await journal.commit(record, ENTRY) == Committed()


def owners(bindings):
    """Return the tenant of each environment."""
    return {env: binding.tenant for env, binding in bindings.items()}


async def test_first_identity_is_stored(storage):
    """A later caller gets the first identity, also after the journal is reopened, and without giving one."""
    changed = attrs.evolve(IDENTITY, on_loopback=False, namespace="m")
    assert await storage.journal.bind_identity(IDENTITY) == IDENTITY
    await storage.reopen()
    assert await storage.journal.bind_identity(changed) == IDENTITY
    assert await storage.journal.bind_identity() == IDENTITY


async def test_new_journal_has_no_identity(journal):
    """Who only asks for it gets an error, and stores none."""
    with pytest.raises(JournalError):
        await journal.bind_identity()
    assert await journal.bind_identity(IDENTITY) == IDENTITY


async def test_new_journal_is_empty(journal):
    """It has no records, no bindings and no histories, and has lost no commits."""
    empty = [await journal.load(), await journal.load(["a"]), await journal.bindings(0.0), await journal.history(["a"])]
    assert empty == [{}, {}, {}, {}]
    assert journal.rolled_back_at is None


async def test_only_the_next_version_is_stored(journal):
    """A repeated, a skipped and an old version are answered with the stored record, and change nothing."""
    records = [new("a", version=version) for version in range(4)]
    answers = [await journal.commit(records[version], ENTRY) for version in (2, 0, 1, 1, 3, 2, 0, 1)]
    one, two = records[1:3]
    assert answers == [
        Stale(None),
        Stale(None),
        Committed(),
        Stale(one),
        Stale(one),
        Committed(),
        Stale(two),
        Stale(two),
    ]
    assert await journal.load() == {"a": two}


async def test_records_are_loaded_by_name(journal):
    """Names without a record are omitted, and a repeated name is loaded once."""
    records = {name: new(name) for name in "abc"}
    await store(journal, *records.values())
    names = (name for name in ("a", "none", "c", "a"))
    assert await journal.load(names) == {"a": records["a"], "c": records["c"]}
    assert await journal.load([]) == {}


async def test_owners_of_keys_are_loaded(journal):
    """An alias is compared without case, and belongs to a tenant only while that may have an environment."""
    opened, intended = new("a", alias="Shop", env="env-1"), new("b", intent=Intent(deadline=1.0))
    idle = new("c")
    await store(journal, opened, intended, idle)
    assert await journal.load((), aliases=["sHOP", "none"]) == {"a": opened}
    assert await journal.load(["c"], aliases=["tb", "tc"], envs=["env-1", "none"]) == {
        "a": opened,
        "b": intended,
        "c": idle,
    }
    assert await journal.load((), aliases=["tc"], envs=["ta"]) == {}
    assert await journal.load(aliases=["tb"]) == {"a": opened, "b": intended, "c": idle}


async def test_any_number_of_names_can_be_loaded(journal):
    """No limit of the storage bounds their number."""
    record = new("a", env="env")
    await store(journal, record)
    names = ["a", *map(str, range(100_000))]
    assert await journal.load(names) == {"a": record}
    assert await journal.load((), aliases=["ta", *names], envs=["env", *names]) == {"a": record}
    assert await journal.history(names) == {"a": (ENTRY,)}


async def test_invalid_names_match_nothing(journal):
    """Truncated names and lone surrogates find nothing, and do not affect the other names."""
    record = new("a", env="env")
    await store(journal, record)
    names = ["a\0b", "\ud800", "a ", "A", ""]
    assert await journal.load(names, aliases=["ta\0", "\ud800"], envs=["env\0", "\udfff"]) == {}
    assert await journal.load([*names, "a"]) == {"a": record}
    assert await journal.history([*names, "a"]) == {"a": (ENTRY,)}


async def test_environment_is_bound_to_one_tenant(journal):
    """Another tenant can get it only after it is released; the answer names its owner."""
    mine, theirs = new("a", env="env-1", opened_at=5.0), new("b", env="env-1")
    await store(journal, mine)
    assert await journal.commit(theirs, ENTRY) == KeyTaken("a")
    assert owners(await journal.bindings(0.0)) == {"env-1": "a"}
    await store(journal, following(mine, env=None), theirs)
    assert owners(await journal.bindings(0.0)) == {"env-1": "b"}


@pytest.mark.parametrize("skew", [0.0, 3600.0, -3600.0])
async def test_binding_is_dated_by_the_clock_of_the_caller(journal, skew):
    """The clock of the storage does not matter: what was bound just now has the time of *now*."""
    now = time.time() + skew
    await store(journal, new("a", env="env-1", opened_at=now))
    binding = (await journal.bindings(now))["env-1"]
    assert abs(binding.since - now) < 600


async def test_alias_is_unique_while_an_environment_may_exist(journal):
    """Case is ignored; a tenant without an environment and an intent may have the same alias."""
    first = new("a", alias="theAlias", intent=Intent(deadline=1.0))
    second = new("b", alias="THEalias")
    opened = following(second, env="env-1")
    await store(journal, first, second)
    assert await journal.commit(opened, ENTRY) == KeyTaken("a")
    await store(journal, following(first, intent=None), opened)


async def test_stale_is_answered_before_taken_keys(journal):
    """A caller with an old record must read it anew before it can judge by its keys."""
    await store(journal, new("a", env="env-1"))
    assert await journal.commit(new("b", version=2, env="env-1"), ENTRY) == Stale(None)


async def test_history_has_one_entry_per_stored_record(storage):
    """Entries are in the order of the commits, rejected commits leave none, and a change is one line."""
    for version, change in ((1, "first"), (1, "refused"), (2, "two\nlines\u2028three"), (3, "")):
        await storage.journal.commit(new("a", version=version), HistoryEntry(1.5 + version, change))
    await storage.reopen()
    changes = [(entry.timestamp, entry.change) for entry in (await storage.journal.history(["a", "b"]))["a"]]
    assert changes == [(2.5, "first"), (3.5, "two lines three"), (4.5, "")]


async def test_one_of_many_commits_of_a_version_succeeds(journal, other):
    """All others, of this and of another process, get the record of the successful one."""
    records = [new("a", tranid=str(number)) for number in range(50)]
    commits = (each.commit(record, ENTRY) for record, each in zip(records, (journal, other) * 25, strict=True))
    answers = await asyncio.gather(*commits)
    winner = records[answers.index(Committed())]
    assert sorted(answers, key=lambda answer: answer != Committed()) == [Committed(), *[Stale(winner)] * 49]
    assert await journal.load() == await other.load() == {"a": winner}


async def test_concurrent_calls_are_executed_in_order(journal):
    """A load sees the commits requested before it of the same journal object, and none of those after it."""
    first, second = (new("a", version=version) for version in (1, 2))
    answers = await asyncio.gather(
        journal.load(), journal.commit(first, ENTRY), journal.load(), journal.commit(second, ENTRY), journal.load()
    )
    assert answers == [{}, Committed(), {"a": first}, Committed(), {"a": second}]


async def test_loaded_records_do_not_change(journal):
    """They are a snapshot of the moment of the load."""
    first = new("a", links={"wx1": "url"})
    await store(journal, first)
    loaded = await journal.load()
    await store(journal, following(first))
    assert loaded == {"a": first}


async def test_load_is_a_view_of_one_moment(journal, other):
    """However often another process moves an environment between two tenants, exactly one of them has it."""
    has, lacks = new("a", env="env-1"), new("b")
    await store(journal, has, lacks)

    async def move(has, lacks):
        for _ in range(40):
            has, lacks = following(lacks, env="env-1"), following(has, env=None)
            assert await other.commit(has, ENTRY, (lacks, ENTRY)) == Committed()

    async def read():
        for _ in range(40):
            views = [await journal.load(["a", "b"]), await journal.load((), envs=["env-1"]), await journal.load()]
            assert [[each.env for each in view.values()].count("env-1") for view in views] == [1, 1, 1]

    await asyncio.gather(move(has, lacks), read())


async def test_commit_of_a_deposed_process_is_rejected(storage):
    """Only the present epoch may commit; a commit without an epoch is not checked."""
    election = storage.journal.election
    with pytest.raises(Deposed):
        await storage.journal.commit(new("a"), ENTRY, epoch=1)
    first = await election.acquire("first", 30.0)
    assert await storage.journal.commit(new("a"), ENTRY, epoch=first.epoch) == Committed()
    await storage.expire_lease()
    second = await storage.journal.election.acquire("second", 30.0)
    with pytest.raises(Deposed):
        await storage.journal.commit(new("b"), ENTRY, epoch=first.epoch)
    with pytest.raises(Deposed):
        await storage.journal.commit(following(new("a")), ENTRY, epoch=first.epoch)
    assert await storage.journal.load() == {"a": new("a")}
    assert await storage.journal.history("ab") == {"a": (ENTRY,)}
    assert await storage.journal.commit(new("b"), ENTRY, epoch=second.epoch) == Committed()
    await store(storage.journal, new("c"))


async def test_commits_of_one_batch_are_fenced_one_by_one(journal):
    """A deposed commit does not affect those that were requested with it."""
    term = await journal.election.acquire("one", 30.0)
    answers = await asyncio.gather(
        journal.commit(new("a"), ENTRY, epoch=term.epoch),
        journal.commit(new("b"), ENTRY, epoch=term.epoch + 1),
        journal.commit(new("c"), ENTRY),
        return_exceptions=True,
    )
    assert [type(answer) for answer in answers] == [Committed, Deposed, Committed]
    assert (await journal.load()).keys() == {"a", "c"}


letters = st.characters(exclude_categories=["Cs"])
texts = st.text(letters, max_size=20)
names = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=500).filter(
    lambda name: name.strip()
)
moments = st.floats(allow_nan=False, allow_infinity=False)
records = st.builds(
    TenantRecord,
    tenant=names,
    alias=texts,
    version=st.just(1),
    attempt=st.integers(0, 2**53),
    intent=st.none() | st.builds(Intent, deadline=moments),
    env=st.none() | texts,
    tranid=st.none() | texts,
    opened_at=st.none() | moments,
    links=st.dictionaries(texts, texts, max_size=3),
    services=st.dictionaries(texts, st.sampled_from(ServiceState), max_size=3),
    metadata=st.dictionaries(texts, texts, max_size=3),
    retired=st.booleans(),
    creates_sent=st.integers(0, 2**31),
    outcome=texts,
    problem=texts,
)


def test_records_survive_a_round_trip(new_storage):
    """Any text is preserved, by name and among all records, and after the journal is reopened."""

    async def round_trip(record):
        async with new_storage() as storage:
            await store(storage.journal, record)
            await storage.reopen()
            assert await storage.journal.load([record.tenant]) == {record.tenant: record}
            assert await storage.journal.load() == {record.tenant: record}
            bound = {} if record.env is None else {record.env: record.tenant}
            assert owners(await storage.journal.bindings(0.0)) == bound
            assert await storage.journal.history([record.tenant]) == {record.tenant: (ENTRY,)}

    @SETTINGS
    @given(records)
    def check(record):
        assert is_valid_name(record.tenant)
        asyncio.run(round_trip(record))

    check()


@attrs.define
class Model:
    """A simple journal that compares a record with all others."""

    records: dict = attrs.field(factory=dict)
    histories: dict = attrs.field(factory=dict)

    def commit(self, record, entry):
        """Store a record if it may be stored, and return the answers that a journal may give."""
        before = self.records.get(record.tenant)
        if record.version != (before.version + 1 if before else 1):
            return [Stale(before)]
        rivals = [name for name, other in self.records.items() if name != record.tenant and self.collide(record, other)]
        if rivals:
            return [KeyTaken(name) for name in rivals]
        self.records[record.tenant] = record
        self.histories[record.tenant] = (*self.histories.get(record.tenant, ()), entry)
        return [Committed()]

    @staticmethod
    def collide(one, other):
        """Return whether two tenants have keys that only one may have."""
        same_env = one.env is not None and one.env == other.env
        both_open = all(each.env is not None or each.intent is not None for each in (one, other))
        return same_env or (both_open and one.alias.lower() == other.alias.lower())

    def owners(self):
        return {each.env: each.tenant for each in self.records.values() if each.env is not None}


# A tenant, the distance of its version from the next one, and the fields of the record.
commits = st.tuples(
    st.sampled_from("abc"),
    st.sampled_from([0, 0, 0, 0, 0, -1, 1]),
    st.sampled_from(ALIASES),
    st.sampled_from(ENVS),
    st.booleans(),
)
# Batches of concurrent commits, each of one of two processes; an empty one stands for a reopened journal.
histories = st.lists(st.tuples(st.booleans(), st.lists(commits, min_size=1, max_size=6) | st.just([])), max_size=12)


def test_commits_agree_with_the_model(new_storage):
    """Versions, environments and aliases are checked alike, one commit at a time, many at once, and after reopening."""

    async def play(history):
        model = Model()
        async with new_storage() as storage:
            other = storage.second()
            for by_other, batch in history:
                if not batch:
                    await storage.reopen()
                journal = other if by_other and other else storage.journal
                requested, expected = [], []
                for number, (tenant, skew, alias, env, intended) in enumerate(batch):
                    version = (model.records[tenant].version if tenant in model.records else 0) + 1 + skew
                    intent = Intent(deadline=1.0) if intended else None
                    record = TenantRecord(tenant=tenant, alias=alias, version=version, env=env, intent=intent)
                    entry = HistoryEntry(float(number), f"{alias} {env}")
                    requested.append(journal.commit(record, entry))
                    expected.append(model.commit(record, entry))
                answers = await asyncio.gather(*requested)
                assert all(answer in may_be for answer, may_be in zip(answers, expected, strict=True))
                # The process that did not commit sees the same.
                reader = storage.journal if by_other or not other else other
                assert await reader.load() == model.records
                assert owners(await reader.bindings(0.0)) == model.owners()
                assert await reader.history("abc") == model.histories

    @settings(SETTINGS, max_examples=120)
    @given(histories)
    def check(history):
        asyncio.run(play(history))

    check()


async def test_environment_changes_owner_in_one_commit(journal):
    """If either record is not the next version, neither is stored."""
    old = new("old", alias="x", env="env-1")
    await store(journal, old)
    left = following(old, env=None)
    heir = new("new", alias="X", env="env-1")
    assert await journal.commit(heir, ENTRY) == KeyTaken("old")
    assert await journal.commit(heir, ENTRY, (following(left), ENTRY)) == Stale(old)
    assert await journal.commit(following(heir), ENTRY, (left, ENTRY)) == Stale(None)
    assert await journal.commit(heir, ENTRY, (following(old), ENTRY)) == KeyTaken("old")
    assert await journal.load() == {"old": old}
    assert await journal.history(["old", "new"]) == {"old": (ENTRY,)}
    assert await journal.commit(heir, ENTRY, (left, HistoryEntry(8.0, "given up"))) == Committed()
    assert await journal.load() == {"old": left, "new": heir}
    assert (await journal.history(["old", "new"]))["old"][-1] == HistoryEntry(8.0, "given up")
