"""The store in memory: the newest token of each platform, never an older one over a newer."""

from __future__ import annotations

import pytest

from wxtcb.secret import Secret
from wxtcb.tokens.stores import HOUR, MemoryStore


class Clock:
    """Seconds that pass when a test says so."""

    now = 5000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    """Give a clock that a test moves."""
    return Clock()


@pytest.fixture
def store(clock):
    """Give a store under that clock."""
    return MemoryStore(clock)


async def save(store, value="T0KEN", *, appid="wx0", after=0, life=7200.0, age=0.0):
    """Save a token."""
    return await store.save(appid, Secret(value), after=after, life=life, age=age)


async def test_load_gives_nothing_when_nothing_was_saved(store):
    """A platform without a token has none."""
    assert await store.load("wx0") is None
    assert await store.mint_ages("wx0") == []


async def test_load_gives_what_was_saved_with_the_seconds_it_has_left(store, clock):
    """Life is counted from the mint, `age` seconds before the save, and runs on."""
    assert await save(store, age=2.0)
    clock.now += 100
    record = await store.load("wx0")
    assert (record.token, record.generation, record.life) == (Secret("T0KEN"), 1, 7200)
    assert record.seconds_left == pytest.approx(7200 - 102)


async def test_save_refuses_what_is_older_than_what_is_there(store):
    """A generation that is there already is never replaced by one minted after less."""
    await save(store, "first")
    assert await save(store, "second", after=1)
    assert not await save(store, "late", after=0)
    assert not await save(store, "late", after=1)
    assert (await store.load("wx0")).token == Secret("second")
    assert (await store.load("wx0")).generation == 2


async def test_save_may_skip_generations(store):
    """Who knows of a later generation than the store counts on from there."""
    await save(store)
    assert await save(store, after=7)
    assert (await store.load("wx0")).generation == 8


async def test_platforms_are_kept_apart(store):
    """The token of one appid is not that of another."""
    await save(store, "one", appid="wx1")
    await save(store, "two", appid="wx2")
    assert (await store.load("wx1")).token == Secret("one")
    assert (await store.load("wx2")).generation == 1


async def test_mint_ages_are_those_of_the_last_hour_oldest_first(store, clock):
    """Tokens minted more than an hour ago do not count any more."""
    await save(store, after=0)
    clock.now += 1000
    await save(store, after=1, age=3.0)
    assert await store.mint_ages("wx0") == [1000, 3]
    clock.now += HOUR - 1000
    assert await store.mint_ages("wx0") == [HOUR - 997]


async def test_mint_that_lost_the_race_counts_all_the_same(store):
    """The ceiling counts tokens minted, kept or not."""
    await save(store)
    assert not await save(store, after=0)
    assert len(await store.mint_ages("wx0")) == 2


async def test_newest_token_stays_however_old_its_mint_is(store, clock):
    """Forgetting old mints forgets neither the newest token nor its generation."""
    await save(store)
    clock.now += 10 * HOUR
    assert (await store.load("wx0")).generation == 1
    await save(store, after=1)
    assert (await store.load("wx0")).generation == 2
    assert len(store._mints["wx0"]) == 1


async def test_repr_shows_no_token(store):
    """The store, what it keeps and what it gives are safe to print."""
    await save(store)
    assert "T0KEN" not in f"{store!r} {await store.load('wx0')!r}"
