"""What every token store must do, whatever it stands on; a new kind joins by a line in conftest.py."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from .bounded_wait import LONG, finish

APPID = "wx0123456789abcdef"
REAL_TIME = settings(
    max_examples=30,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    database=None,
)


async def keep(store, document="document", appid=APPID):
    """Keep a document, whatever is kept, and return its version."""
    kept = await store.load(appid)
    assert await store.compare_and_set(appid, document, version=kept.version)
    return (await store.load(appid)).version


async def count_up(store, times):
    """Add one to a kept number, as often, by compare-and-set."""
    for _ in range(times):
        while True:
            kept = await store.load(APPID)
            if await store.compare_and_set(APPID, str(int(kept.document or "0") + 1), version=kept.version):
                break


async def test_at_first_nothing_is_kept(one):
    """A platform that nobody wrote for has no document."""
    assert (await one.load(APPID)).document is None


async def test_what_is_kept_is_there_for_every_handle(one, other):
    """A compare_and_set with the version just read is kept, and the other handle reads it at once."""
    assert await one.compare_and_set(APPID, "document", version=(await other.load(APPID)).version)
    kept = await other.load(APPID)
    assert kept.document == "document"
    assert kept.version == (await one.load(APPID)).version


async def test_each_swap_changes_the_version_even_to_the_same_document(one, other):
    """No version comes twice, whoever writes and whatever is written."""
    empty = (await one.load(APPID)).version
    versions = [empty, *[await keep(store, "the same") for store in (one, other, one, one)]]
    assert len(set(versions)) == len(versions)


@pytest.mark.parametrize("stale", ["first", "empty", "made up"])
async def test_swap_with_another_version_changes_nothing(one, other, stale):
    """An old version, that of an empty place, and one that never was are refused, and nothing moves."""
    empty = (await one.load(APPID)).version
    first = await keep(one, "first")
    await keep(one, "second")
    before = await other.load(APPID)
    version = {"first": first, "empty": empty, "made up": "no-such-version"}[stale]
    assert not await other.compare_and_set(APPID, "third", version=version)
    after = await one.load(APPID)
    assert (after.document, after.version) == ("second", before.version)


async def test_swap_with_a_made_up_version_keeps_nothing_where_nothing_is(one):
    """An empty place accepts the version it gives, and no other."""
    assert not await one.compare_and_set(APPID, "document", version="no-such-version")
    assert (await one.load(APPID)).document is None


async def test_no_version_comes_back_when_the_place_is_lost(place, one, other):
    """A place that lost everything is a new beginning: who knew a version of the old one cannot write with it."""
    old = {await keep(one), await keep(other)}
    await place.lose()
    kept = await one.load(APPID)
    assert kept.document is None
    for version in old:
        assert not await other.compare_and_set(APPID, "late", version=version)
    assert {kept.version, await keep(one), await keep(other)}.isdisjoint(old)


async def test_a_lost_place_rings(place, one, other):
    """Who waits for another version hears that there is none any more."""
    version = await keep(one)
    waiting = asyncio.create_task(other.wait_for_change(APPID, version=version, timeout=LONG))
    await asyncio.sleep(0.05)
    await place.lose()
    await finish(waiting)


async def test_platforms_are_kept_apart(one, other):
    """What is kept for one appid is neither read nor changed for another."""
    version = await keep(one, "of one", "wx1")
    assert (await other.load("wx2")).document is None
    assert not await other.compare_and_set("wx2", "of two", version=version)
    await keep(other, "of two", "wx2")
    assert (await one.load("wx1")).document == "of one"
    assert (await one.load("wx1")).version == version


@pytest.mark.unmeasured
def test_any_text_can_be_kept(new_place):
    """A document comes back as it was, up to 100 KB of it and whatever its letters."""

    async def round_trip(documents):
        async with contextlib.AsyncExitStack() as stack:
            place = await new_place(stack)
            one, other = place.handle(), place.handle()
            for document in documents:
                await keep(one, document)
                assert (await other.load(APPID)).document == document

    texts = st.lists(st.text(), min_size=5, max_size=20)

    @REAL_TIME
    @given(texts)
    def check(documents):
        asyncio.run(round_trip(documents))

    check()
    asyncio.run(round_trip(["", "\0", "\0a\0", "ключ 令牌 🎟", "'; DROP TABLE kept; --", "令" * 34_000, "x" * 100_000]))


@pytest.mark.unmeasured
def test_any_history_is_that_of_a_dict(new_place):
    """Whatever two handles do in whatever order, reads and refusals are those of a dict of (document, version)."""
    step = st.tuples(
        st.sampled_from([0, 1]),
        st.sampled_from(["wx1", "wx2"]),
        st.sampled_from(["load", "compare_and_set", "stale", "empty", "foreign"]),
        st.text(max_size=5),
    )

    async def play(history):
        async with contextlib.AsyncExitStack() as stack:
            place = await new_place(stack)
            handles = place.handle(), place.handle()
            model, seen = {}, {"wx1": [""], "wx2": [""]}
            for number, appid, action, document in history:
                store = handles[number]
                kept = await store.load(appid)
                assert (kept.document, kept.version) == model.get(appid, (None, kept.version))
                foreign = seen["wx2" if appid == "wx1" else "wx1"][-1]
                version = {
                    "compare_and_set": kept.version,
                    "stale": seen[appid][0],
                    "empty": "",
                    "foreign": foreign,
                }.get(action)
                if version is None:
                    continue
                done = await store.compare_and_set(appid, document, version=version)
                assert done == (version == kept.version)
                if done:
                    model[appid] = document, (await store.load(appid)).version
                    assert model[appid][1] not in seen[appid]
                    seen[appid].append(model[appid][1])

    @REAL_TIME
    @given(st.lists(step, max_size=15))
    def check(history):
        asyncio.run(play(history))

    check()


async def test_changed_does_not_wait_for_a_version_already_gone(one, other):
    """Nobody waits for what has happened."""
    old = await keep(one)
    await keep(one)
    await finish(other.wait_for_change(APPID, version=old, timeout=LONG))
    await finish(other.wait_for_change("wx2", version="no-such-version", timeout=LONG))


@pytest.mark.parametrize("empty", [True, False])
async def test_changed_returns_after_a_swap_by_the_other_handle(one, other, empty):
    """The bell rings for the first document as for the next, an hour before the time to wait is over."""
    version = (await other.load(APPID)).version if empty else await keep(other)
    waiting = asyncio.create_task(other.wait_for_change(APPID, version=version, timeout=LONG))
    await asyncio.sleep(0.1)
    assert not waiting.done()
    await keep(one)
    await finish(waiting)


async def test_changed_returns_after_its_time_when_nothing_happens(one, other, pass_time):
    """Neither sooner nor later; a change for another platform does not count."""
    version = await keep(one)
    waiting = asyncio.create_task(other.wait_for_change(APPID, version=version, timeout=LONG))
    await asyncio.sleep(0.05)
    await keep(one, appid="wx2")
    pass_time(LONG // 2)
    await asyncio.sleep(0.05)
    assert not waiting.done()
    pass_time(LONG // 2)
    await finish(waiting)


async def test_changed_rings_for_all_who_wait(one, other):
    """One change wakes many, on the handle that made it as well."""
    version = await keep(one)
    waiting = [
        asyncio.create_task(store.wait_for_change(APPID, version=version, timeout=LONG)) for store in (one, other) * 10
    ]
    await asyncio.sleep(0.05)
    await keep(one)
    await finish(asyncio.gather(*waiting))


async def test_waiting_holds_nothing_up(one):
    """While a handle waits for a change it reads and writes as ever."""
    version = await keep(one)
    waiting = asyncio.create_task(one.wait_for_change(APPID, version=version, timeout=LONG))
    await asyncio.sleep(0.05)
    await finish(one.load("wx2"))
    assert not waiting.done()
    await finish(keep(one))
    await finish(waiting)


async def test_cancelled_calls_leave_the_store_usable_and_the_document_whole(one, other):
    """A call cancelled anywhere took effect or did not; the next ones do not notice."""
    dice = random.Random(7)
    long = {letter * 20_000 for letter in "ab"}
    await keep(one, "a" * 20_000)
    for _ in range(100):
        version = (await other.load(APPID)).version
        calls = [
            asyncio.create_task(one.load(APPID)),
            asyncio.create_task(one.compare_and_set(APPID, dice.choice("ab") * 20_000, version=version)),
            asyncio.create_task(one.wait_for_change(APPID, version=version, timeout=LONG)),
        ]
        await asyncio.sleep(dice.choice([0, 0, 0.0002, 0.001]))
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        assert (await other.load(APPID)).document in long
    await keep(one, "after")
    assert (await other.load(APPID)).document == "after"


@pytest.mark.unmeasured
async def test_changes_by_many_at_once_lose_nothing(one, other):
    """Twenty tasks on two handles count up by compare-and-set: every step is there in the end."""
    await asyncio.gather(*(count_up(store, 5) for store in (one, other) * 10))
    assert (await one.load(APPID)).document == "100"


async def test_the_clock_does_not_run_backwards(one, other):
    """`now` is one clock for all handles."""
    times = [(await store.load(APPID)).store_time for store in (one, other) * 20]
    assert times == sorted(times)


async def test_the_clock_counts_seconds(one):
    """Between two looks `now` moves by as many as a clock of this machine does."""
    began, first = time.time(), (await one.load(APPID)).store_time
    await asyncio.sleep(0.1)
    last, ended = (await one.load(APPID)).store_time, time.time()
    assert 0.05 < last - first < ended - began + 0.05


def test_a_store_outlives_the_event_loop_it_was_used_in(new_place):
    """What one loop kept, a second one reads, writes and waits for with the same handle; no waiter stays behind."""

    async def begin(stack):
        store = (await new_place(stack)).handle()
        version = await keep(store, "first loop")
        waiting = asyncio.create_task(store.wait_for_change(APPID, version=version, timeout=60))
        await asyncio.sleep(0.05)
        assert not waiting.done()  # the end of the loop cancels it
        return store

    async def go_on(stack, store):
        async with stack:
            kept = await store.load(APPID)
            assert kept.document == "first loop"
            waiting = asyncio.create_task(store.wait_for_change(APPID, version=kept.version, timeout=LONG))
            await asyncio.sleep(0.05)
            await keep(store, "second loop")
            await finish(waiting)

    stack = contextlib.AsyncExitStack()
    store = asyncio.run(begin(stack))
    asyncio.run(go_on(stack, store))


async def test_what_is_kept_is_in_no_repr(one):
    """A store and what it gives are safe to print."""
    await keep(one, "T0KEN")
    assert "T0KEN" not in f"{one!r} {await one.load(APPID)!r}"
