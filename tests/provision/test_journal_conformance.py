"""Conformance of journals: every implementation in `JOURNALS` passes the same tests."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import attrs
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from wxtcb.provision.journal import Journal
from wxtcb.provision.memory import MemoryJournal
from wxtcb.provision.record import Binding, HistoryEntry, Intent, JournalIdentity, ServiceState, TenantRecord
from wxtcb.provision.sqlite.journal import SqliteJournal
from wxtcb.provision.tenant import is_valid_name

SETTINGS = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    database=None,
)
IDENTITY = JournalIdentity(component_appid="wx0123456789abcdef", on_loopback=True, namespace="n")
ENTRY = HistoryEntry(1.7e9, "changed")
ENVS = (None, "env-1", "env-2")
ALIASES = ("ta", "tA", "tb")


@attrs.define
class Storage:
    """A journal, and a function that reopens it as another process would; a journal in memory stays open."""

    journal: Journal
    reopen: Callable[[], Awaitable[None]]


@contextlib.asynccontextmanager
async def memory(_):
    """Open a journal in the memory of this process."""

    async def stay():
        """Do nothing."""

    yield Storage(MemoryJournal(), stay)


@contextlib.asynccontextmanager
async def sqlite(folder):
    """Open a journal in a file."""

    async def reopen():
        await storage.journal.aclose()
        storage.journal = SqliteJournal(folder / "j.db")

    storage = Storage(SqliteJournal(folder / "j.db"), reopen)
    try:
        yield storage
    finally:
        await storage.journal.aclose()


# Each is called with an empty folder and opens a `Storage`.
JOURNALS = {"memory": memory, "sqlite": sqlite}


@pytest.fixture(params=JOURNALS)
def new_storage(request, tmp_path_factory):
    """Return a function that opens a new storage of one kind of journal."""
    return lambda: JOURNALS[request.param](tmp_path_factory.mktemp("journal"))


@pytest.fixture
async def storage(new_storage) -> AsyncIterator[Storage]:
    """Open a storage of one kind of journal."""
    async with new_storage() as opened:
        yield opened


@pytest.fixture
def journal(storage):
    """Return its journal."""
    return storage.journal


async def test_first_identity_is_stored(storage):
    """A later caller gets the first identity, also after the journal is reopened."""
    other = attrs.evolve(IDENTITY, on_loopback=False, namespace="m")
    assert await storage.journal.bind_identity(IDENTITY) == IDENTITY
    await storage.reopen()
    assert await storage.journal.bind_identity(other) == IDENTITY


async def test_new_journal_is_empty(journal):
    """It has no records, no bindings and no histories."""
    assert [
        await journal.load(),
        await journal.load(["a"]),
        await journal.bindings(),
        await journal.history(["a"]),
    ] == [
        {},
        {},
        {},
        {},
    ]


async def test_only_the_next_version_is_stored(journal):
    """A repeated, a skipped and an old version are rejected and change nothing."""
    records = [TenantRecord(tenant="a", alias="ta", version=version) for version in range(4)]
    stored = [await journal.commit(records[version], ENTRY) for version in (2, 0, 1, 1, 3, 2, 0, 1)]
    assert stored == [False, False, True, False, False, True, False, False]
    assert await journal.load() == {"a": records[2]}


async def test_records_are_loaded_by_name(journal):
    """Names without a record are omitted, and a repeated name is loaded once."""
    records = {name: TenantRecord(tenant=name, alias=f"t{name}", version=1) for name in "abc"}
    assert all([await journal.commit(record, ENTRY) for record in records.values()])
    names = (name for name in ("a", "none", "c", "a"))
    assert await journal.load(names) == {"a": records["a"], "c": records["c"]}
    assert await journal.load([]) == {}


async def test_any_number_of_names_can_be_loaded(journal):
    """No limit of the storage bounds their number."""
    record = TenantRecord(tenant="a", alias="ta", version=1)
    assert await journal.commit(record, ENTRY)
    names = ["a", *map(str, range(100_000))]
    assert await journal.load(names) == {"a": record}
    assert await journal.history(names) == {"a": (ENTRY,)}


async def test_invalid_names_match_nothing(journal):
    """Truncated names and lone surrogates find nothing, and do not affect the other names."""
    assert await journal.commit(TenantRecord(tenant="a", alias="ta", version=1), ENTRY)
    names = ["a\0b", "\ud800", "a ", "A", ""]
    assert await journal.load(names) == {}
    assert [*await journal.load([*names, "a"])] == ["a"]


async def test_environment_is_bound_to_one_tenant(journal):
    """Another tenant can get it only after it is released."""
    mine = TenantRecord(tenant="a", alias="ta", version=1, env="env-1", opened_at=5.0)
    other = TenantRecord(tenant="b", alias="tb", version=1, env="env-1")
    assert await journal.commit(mine, ENTRY)
    assert not await journal.commit(other, ENTRY)
    assert await journal.bindings() == {"env-1": Binding("a", 5.0)}
    assert await journal.commit(attrs.evolve(mine, version=2, env=None), ENTRY)
    assert await journal.commit(other, ENTRY)
    assert await journal.bindings() == {"env-1": Binding("b", 0.0)}


async def test_alias_is_unique_while_an_environment_may_exist(journal):
    """Case is ignored; a tenant without an environment and an intent may have the same alias."""
    first = TenantRecord(tenant="a", alias="theAlias", version=1, intent=Intent(deadline=1.0))
    second = TenantRecord(tenant="b", alias="THEalias", version=1)
    opened = attrs.evolve(second, version=2, env="env-1")
    assert await journal.commit(first, ENTRY)
    assert await journal.commit(second, ENTRY)
    assert not await journal.commit(opened, ENTRY)
    assert await journal.commit(attrs.evolve(first, version=2, intent=None), ENTRY)
    assert await journal.commit(opened, ENTRY)


async def test_history_has_one_entry_per_stored_record(storage):
    """Entries are in the order of the commits, rejected commits leave none, and a change is one line."""
    for version, change in ((1, "first"), (1, "refused"), (2, "two\nlines\u2028three"), (3, "")):
        await storage.journal.commit(
            TenantRecord(tenant="a", alias="ta", version=version), HistoryEntry(1.5 + version, change)
        )
    await storage.reopen()
    changes = [(entry.timestamp, entry.change) for entry in (await storage.journal.history(["a", "b"]))["a"]]
    assert changes == [(2.5, "first"), (3.5, "two lines three"), (4.5, "")]


async def test_one_of_many_commits_of_a_version_succeeds(journal):
    """All others find the record of the successful one."""
    records = [TenantRecord(tenant="a", alias="ta", version=1, tranid=str(number)) for number in range(50)]
    stored = await asyncio.gather(*(journal.commit(record, ENTRY) for record in records))
    assert sum(stored) == 1
    assert (await journal.load())["a"] == records[stored.index(True)]


async def test_concurrent_calls_are_executed_in_order(journal):
    """A load sees the commits requested before it, and none of those after it."""
    first, second = (TenantRecord(tenant="a", alias="ta", version=version) for version in (1, 2))
    answers = await asyncio.gather(
        journal.load(), journal.commit(first, ENTRY), journal.load(), journal.commit(second, ENTRY), journal.load()
    )
    assert answers == [{}, True, {"a": first}, True, {"a": second}]


async def test_loaded_records_do_not_change(journal):
    """They are a snapshot of the moment of the load."""
    first = TenantRecord(tenant="a", alias="ta", version=1, links={"wx1": "url"})
    assert await journal.commit(first, ENTRY)
    loaded = await journal.load()
    assert await journal.commit(attrs.evolve(first, version=2), ENTRY)
    assert loaded == {"a": first}


letters = st.characters(exclude_categories=["Cs"])
texts = st.text(letters, max_size=20)
names = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1).filter(lambda name: name.strip())
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
)


def test_records_survive_a_round_trip(new_storage):
    """Any text is preserved, by name and among all records, and after the journal is reopened."""

    async def round_trip(record):
        async with new_storage() as storage:
            assert await storage.journal.commit(record, ENTRY)
            await storage.reopen()
            assert await storage.journal.load([record.tenant]) == {record.tenant: record}
            assert await storage.journal.load() == {record.tenant: record}
            bound = {record.env: Binding(record.tenant, record.opened_at or 0.0)} if record.env is not None else {}
            assert await storage.journal.bindings() == bound
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
        before = self.records.get(record.tenant)
        if record.version != (before.version + 1 if before else 1):
            return False
        others = [other for name, other in self.records.items() if name != record.tenant]
        if any(self.conflicts(record, other) for other in others):
            return False
        self.records[record.tenant] = record
        self.histories[record.tenant] = (*self.histories.get(record.tenant, ()), entry)
        return True

    @staticmethod
    def conflicts(one, other):
        """Return whether two tenants have keys that only one may have."""
        same_env = one.env is not None and one.env == other.env
        both_open = all(each.env is not None or each.intent is not None for each in (one, other))
        return same_env or (both_open and one.alias.lower() == other.alias.lower())

    def bindings(self):
        return {each.env: Binding(each.tenant, 0.0) for each in self.records.values() if each.env is not None}


# A tenant, the distance of its version from the next one, and the fields of the record.
commits = st.tuples(
    st.sampled_from("abc"),
    st.sampled_from([0, 0, 0, 0, 0, -1, 1]),
    st.sampled_from(ALIASES),
    st.sampled_from(ENVS),
    st.booleans(),
)
# Batches of concurrent commits; an empty one stands for a reopened journal.
histories = st.lists(st.lists(commits, min_size=1, max_size=6) | st.just([]), max_size=12)


def test_commits_agree_with_the_model(new_storage):
    """Versions, environments and aliases are checked alike, one commit at a time, many at once, and after reopening."""

    async def play(history):
        model = Model()
        async with new_storage() as storage:
            for batch in history:
                if not batch:
                    await storage.reopen()
                requested, expected = [], []
                for number, (tenant, skew, alias, env, intended) in enumerate(batch):
                    version = (model.records[tenant].version if tenant in model.records else 0) + 1 + skew
                    intent = Intent(deadline=1.0) if intended else None
                    record = TenantRecord(tenant=tenant, alias=alias, version=version, env=env, intent=intent)
                    entry = HistoryEntry(float(number), f"{alias} {env}")
                    requested.append(storage.journal.commit(record, entry))
                    expected.append(model.commit(record, entry))
                assert await asyncio.gather(*requested) == expected
                assert await storage.journal.load() == model.records
                assert await storage.journal.bindings() == model.bindings()
                assert await storage.journal.history("abc") == model.histories

    @settings(SETTINGS, max_examples=120)
    @given(histories)
    def check(history):
        asyncio.run(play(history))

    check()


async def test_environment_changes_owner_in_one_commit(journal):
    """If either record is not the next version, neither is stored."""
    old = TenantRecord(tenant="old", alias="x", version=1, env="env-1")
    assert await journal.commit(old, ENTRY)
    left = attrs.evolve(old, version=2, env=None)
    new = TenantRecord(tenant="new", alias="X", version=1, env="env-1")
    late = attrs.evolve(left, version=3)
    assert not await journal.commit(new, ENTRY)
    assert not await journal.commit(new, ENTRY, (late, ENTRY))
    assert not await journal.commit(attrs.evolve(new, version=2), ENTRY, (left, ENTRY))
    assert not await journal.commit(new, ENTRY, (attrs.evolve(old, version=2), ENTRY))
    assert await journal.load() == {"old": old}
    assert await journal.commit(new, ENTRY, (left, HistoryEntry(8.0, "given up")))
    assert await journal.load() == {"old": left, "new": new}
    assert (await journal.history(["old", "new"]))["old"][-1] == HistoryEntry(8.0, "given up")
