"""What every journal must do, whatever it stands on; a new kind joins by a line in `JOURNALS`."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import attrs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wxtcb.provision.journal import (
    Binding,
    HistoryEntry,
    Intent,
    Journal,
    JournalIdentity,
    MemoryJournal,
    ServiceState,
    TenantRecord,
)
from wxtcb.provision.sqlite.journal import SqliteJournal
from wxtcb.provision.tenant import is_valid_name

REAL = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    database=None,
)
HOME = JournalIdentity(component_appid="wx0123456789abcdef", on_loopback=True, namespace="n")
NOW = HistoryEntry(1.7e9, "noted")
ENVS = (None, "env-1", "env-2")
ALIASES = ("ta", "tA", "tb")


@attrs.define
class Place:
    """A journal, and a way to have it opened anew by another process, which one of memory does not outlive."""

    journal: Journal
    reopen: Callable[[], Awaitable[None]]


@contextlib.asynccontextmanager
async def memory(_):
    """Give the memory of this process."""

    async def stay():
        """Do nothing."""

    yield Place(MemoryJournal(), stay)


@contextlib.asynccontextmanager
async def sqlite(folder):
    """Give a file."""

    async def reopen():
        await place.journal.aclose()
        place.journal = SqliteJournal(folder / "j.db")

    place = Place(SqliteJournal(folder / "j.db"), reopen)
    try:
        yield place
    finally:
        await place.journal.aclose()


# Each is given an empty folder, and opens a `Place`.
JOURNALS = {"memory": memory, "sqlite": sqlite}


@pytest.fixture(params=JOURNALS)
def new_place(request, tmp_path_factory):
    """Give what opens a new place of one kind of journal."""
    return lambda: JOURNALS[request.param](tmp_path_factory.mktemp("place"))


@pytest.fixture
async def place(new_place) -> AsyncIterator[Place]:
    """Give a place of one kind of journal."""
    async with new_place() as opened:
        yield opened


@pytest.fixture
def journal(place):
    """Give its journal."""
    return place.journal


async def test_the_first_home_is_kept(place):
    """Who comes later, or opens it anew, is told the first."""
    other = attrs.evolve(HOME, on_loopback=False, namespace="m")
    assert await place.journal.bind_identity(HOME) == HOME
    await place.reopen()
    assert await place.journal.bind_identity(other) == HOME


async def test_at_first_nothing_is_kept(journal):
    """There are no records, no environments, no histories."""
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


async def test_only_the_next_version_is_kept(journal):
    """The same once more, one that is skipped and one of long ago are refused, and change nothing."""
    records = [TenantRecord(tenant="a", alias="ta", version=version) for version in range(4)]
    kept = [await journal.commit(records[version], NOW) for version in (2, 0, 1, 1, 3, 2, 0, 1)]
    assert kept == [False, False, True, False, False, True, False, False]
    assert await journal.load() == {"a": records[2]}


async def test_some_records_are_loaded_by_name(journal):
    """Names without a record are left out, and one asked for twice is there once."""
    records = {name: TenantRecord(tenant=name, alias=f"t{name}", version=1) for name in "abc"}
    assert all([await journal.commit(record, NOW) for record in records.values()])
    names = (name for name in ("a", "none", "c", "a"))
    assert await journal.load(names) == {"a": records["a"], "c": records["c"]}
    assert await journal.load([]) == {}


async def test_as_many_names_as_there_are_tenants_can_be_asked_for(journal):
    """Their number is not bounded by what a statement may hold."""
    record = TenantRecord(tenant="a", alias="ta", version=1)
    assert await journal.commit(record, NOW)
    names = ["a", *map(str, range(100_000))]
    assert await journal.load(names) == {"a": record}
    assert await journal.history(names) == {"a": (NOW,)}


async def test_what_is_no_name_is_asked_for_in_vain(journal):
    """Neither a cut off name nor one that is no text at all finds anything, or harms who asks for more."""
    assert await journal.commit(TenantRecord(tenant="a", alias="ta", version=1), NOW)
    names = ["a\0b", "\ud800", "a ", "A", ""]
    assert await journal.load(names) == {}
    assert [*await journal.load([*names, "a"])] == ["a"]


async def test_an_environment_is_bound_to_one_tenant_until_it_is_given_up(journal):
    """Another tenant's claim to it is refused; when it is free, it is not."""
    mine = TenantRecord(tenant="a", alias="ta", version=1, env="env-1", opened_at=5.0)
    other = TenantRecord(tenant="b", alias="tb", version=1, env="env-1")
    assert await journal.commit(mine, NOW)
    assert not await journal.commit(other, NOW)
    assert await journal.bindings() == {"env-1": Binding("a", 5.0)}
    assert await journal.commit(attrs.evolve(mine, version=2, env=None), NOW)
    assert await journal.commit(other, NOW)
    assert await journal.bindings() == {"env-1": Binding("b", 0.0)}


async def test_two_open_tenants_never_have_the_same_alias_but_for_case(journal):
    """One that is not open yet may have it; it cannot be opened while the other is."""
    first = TenantRecord(tenant="a", alias="theAlias", version=1, intent=Intent(deadline=1.0))
    second = TenantRecord(tenant="b", alias="THEalias", version=1)
    opened = attrs.evolve(second, version=2, env="env-1")
    assert await journal.commit(first, NOW)
    assert await journal.commit(second, NOW)
    assert not await journal.commit(opened, NOW)
    assert await journal.commit(attrs.evolve(first, version=2, intent=None), NOW)
    assert await journal.commit(opened, NOW)


async def test_the_history_has_what_was_kept_and_nothing_else(place):
    """Moments stand in the order of the commits; what was refused left no trace; a change is one line."""
    for version, change in ((1, "first"), (1, "refused"), (2, "two\nlines\u2028three"), (3, "")):
        await place.journal.commit(
            TenantRecord(tenant="a", alias="ta", version=version), HistoryEntry(1.5 + version, change)
        )
    await place.reopen()
    told = [(moment.timestamp, moment.change) for moment in (await place.journal.history(["a", "b"]))["a"]]
    assert told == [(2.5, "first"), (3.5, "two lines three"), (4.5, "")]


async def test_one_of_many_who_commit_the_same_version_is_told_that_it_was_kept(journal):
    """Whoever lost finds the record of who won."""
    records = [TenantRecord(tenant="a", alias="ta", version=1, tranid=str(number)) for number in range(50)]
    kept = await asyncio.gather(*(journal.commit(record, NOW) for record in records))
    assert sum(kept) == 1
    assert (await journal.load())["a"] == records[kept.index(True)]


async def test_what_is_asked_at_once_is_answered_in_order(journal):
    """A load sees the commits asked before it, and none of those after it."""
    first, second = (TenantRecord(tenant="a", alias="ta", version=version) for version in (1, 2))
    answers = await asyncio.gather(
        journal.load(), journal.commit(first, NOW), journal.load(), journal.commit(second, NOW), journal.load()
    )
    assert answers == [{}, True, {"a": first}, True, {"a": second}]


async def test_what_was_loaded_does_not_change(journal):
    """It is what was true then."""
    first = TenantRecord(tenant="a", alias="ta", version=1, links={"wx1": "url"})
    assert await journal.commit(first, NOW)
    loaded = await journal.load()
    assert await journal.commit(attrs.evolve(first, version=2), NOW)
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


def test_every_record_comes_back_as_it_was(new_place):
    """Whatever its texts hold, by its name or among all, and after it was opened anew."""

    async def round_trip(record):
        async with new_place() as place:
            assert await place.journal.commit(record, NOW)
            await place.reopen()
            assert await place.journal.load([record.tenant]) == {record.tenant: record}
            assert await place.journal.load() == {record.tenant: record}
            bound = {record.env: Binding(record.tenant, record.opened_at or 0.0)} if record.env is not None else {}
            assert await place.journal.bindings() == bound
            assert await place.journal.history([record.tenant]) == {record.tenant: (NOW,)}

    @REAL
    @given(records)
    def check(record):
        assert is_valid_name(record.tenant)
        asyncio.run(round_trip(record))

    check()


@attrs.define
class Model:
    """A journal that looks at everything every time."""

    kept: dict = attrs.field(factory=dict)
    told: dict = attrs.field(factory=dict)

    def commit(self, record, moment):
        before = self.kept.get(record.tenant)
        if record.version != (before.version + 1 if before else 1):
            return False
        others = [other for name, other in self.kept.items() if name != record.tenant]
        if any(self.clash(record, other) for other in others):
            return False
        self.kept[record.tenant] = record
        self.told[record.tenant] = (*self.told.get(record.tenant, ()), moment)
        return True

    @staticmethod
    def clash(one, other):
        """Tell whether two tenants have what only one may have."""
        same_env = one.env is not None and one.env == other.env
        both_open = all(each.env is not None or each.intent is not None for each in (one, other))
        return same_env or (both_open and one.alias.lower() == other.alias.lower())

    def bound(self):
        return {each.env: Binding(each.tenant, 0.0) for each in self.kept.values() if each.env is not None}


# a tenant, how far its version is from the next one, and what is in the record
commits = st.tuples(
    st.sampled_from("abc"),
    st.sampled_from([0, 0, 0, 0, 0, -1, 1]),
    st.sampled_from(ALIASES),
    st.sampled_from(ENVS),
    st.booleans(),
)
# one batch of commits asked at once, or a new opening
histories = st.lists(st.lists(commits, min_size=1, max_size=6) | st.just([]), max_size=12)


def test_commits_are_judged_as_by_the_model(new_place):
    """By versions, environments and open aliases, given up and taken, one at a time, many at once, opened anew."""

    async def play(history):
        model = Model()
        async with new_place() as place:
            for batch in history:
                if not batch:
                    await place.reopen()
                asked, expected = [], []
                for number, (tenant, skew, alias, env, intended) in enumerate(batch):
                    version = (model.kept[tenant].version if tenant in model.kept else 0) + 1 + skew
                    intent = Intent(deadline=1.0) if intended else None
                    record = TenantRecord(tenant=tenant, alias=alias, version=version, env=env, intent=intent)
                    moment = HistoryEntry(float(number), f"{alias} {env}")
                    asked.append(place.journal.commit(record, moment))
                    expected.append(model.commit(record, moment))
                assert await asyncio.gather(*asked) == expected
                assert await place.journal.load() == model.kept
                assert await place.journal.bindings() == model.bound()
                assert await place.journal.history("abc") == model.told

    @settings(REAL, max_examples=120)
    @given(histories)
    def check(history):
        asyncio.run(play(history))

    check()


async def test_what_one_gives_up_another_takes_both_or_neither(journal):
    """An environment and its alias change hands in one step; if either record does not follow, neither is kept."""
    old = TenantRecord(tenant="old", alias="x", version=1, env="env-1")
    assert await journal.commit(old, NOW)
    left = attrs.evolve(old, version=2, env=None)
    new = TenantRecord(tenant="new", alias="X", version=1, env="env-1")
    late = attrs.evolve(left, version=3)
    assert not await journal.commit(new, NOW)
    assert not await journal.commit(new, NOW, (late, NOW))
    assert not await journal.commit(attrs.evolve(new, version=2), NOW, (left, NOW))
    assert not await journal.commit(new, NOW, (attrs.evolve(old, version=2), NOW))
    assert await journal.load() == {"old": old}
    assert await journal.commit(new, NOW, (left, HistoryEntry(8.0, "given up")))
    assert await journal.load() == {"old": left, "new": new}
    assert (await journal.history(["old", "new"]))["old"][-1] == HistoryEntry(8.0, "given up")
