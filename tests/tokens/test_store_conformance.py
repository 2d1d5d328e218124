"""Conformance tests that every token store must pass; conftest.py lists the stores."""

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
    max_examples=20,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    database=None,
)


async def write(store, document="document", appid=APPID):
    """Write a document over the stored one, and return its version."""
    stored = await store.load(appid)
    assert await store.compare_and_set(appid, document, version=stored.version)
    return (await store.load(appid)).version


async def count_up(store, times):
    """Increment the number in a document *times* times by compare-and-set."""
    for _ in range(times):
        while True:
            stored = await store.load(APPID)
            if await store.compare_and_set(APPID, str(int(stored.document or "0") + 1), version=stored.version):
                break


async def test_new_store_is_empty(one):
    """A platform has no document before the first write."""
    assert (await one.load(APPID)).document is None


async def test_every_handle_reads_a_write(one, other):
    """A write with the current version succeeds, and another handle reads it at once."""
    assert await one.compare_and_set(APPID, "document", version=(await other.load(APPID)).version)
    stored = await other.load(APPID)
    assert stored.document == "document"
    assert stored.version == (await one.load(APPID)).version


async def test_each_write_has_a_new_version(one, other):
    """No version occurs twice, even if the same document is written."""
    empty = (await one.load(APPID)).version
    versions = [empty, *[await write(store, "the same") for store in (one, other, one, one)]]
    assert len(set(versions)) == len(versions)


@pytest.mark.parametrize("stale", ["first", "empty", "made up"])
async def test_write_with_a_wrong_version_changes_nothing(one, other, stale):
    """An old version, that of an empty store, and an invented one are rejected."""
    empty = (await one.load(APPID)).version
    first = await write(one, "first")
    await write(one, "second")
    before = await other.load(APPID)
    version = {"first": first, "empty": empty, "made up": "no-such-version"}[stale]
    assert not await other.compare_and_set(APPID, "third", version=version)
    after = await one.load(APPID)
    assert (after.document, after.version) == ("second", before.version)


async def test_empty_store_rejects_an_invented_version(one):
    """An empty store accepts only the version that it returns."""
    assert not await one.compare_and_set(APPID, "document", version="no-such-version")
    assert (await one.load(APPID)).document is None


async def test_no_version_occurs_again_after_data_loss(backend, one, other):
    """After a store lost its data, no version from before is accepted."""
    old = {await write(one), await write(other)}
    await backend.lose()
    stored = await one.load(APPID)
    assert stored.document is None
    for version in old:
        assert not await other.compare_and_set(APPID, "late", version=version)
    assert {stored.version, await write(one), await write(other)}.isdisjoint(old)


async def test_data_loss_wakes_waiters(backend, one, other):
    """A waiter wakes if the document is lost."""
    version = await write(one)
    waiting = asyncio.create_task(other.wait_for_change(APPID, version=version, timeout=LONG))
    await asyncio.sleep(0.05)
    await backend.lose()
    await finish(waiting)


async def test_platforms_are_separate(one, other):
    """A document of one appid is neither read nor changed for another."""
    version = await write(one, "of one", "wx1")
    assert (await other.load("wx2")).document is None
    assert not await other.compare_and_set("wx2", "of two", version=version)
    await write(other, "of two", "wx2")
    assert (await one.load("wx1")).document == "of one"
    assert (await one.load("wx1")).version == version


@pytest.mark.unmeasured
def test_any_string_can_be_stored(new_backend):
    """A document is read unchanged, up to 100 KB and with any characters."""

    async def round_trip(documents):
        async with contextlib.AsyncExitStack() as stack:
            backend = await new_backend(stack)
            one, other = backend.handle(), backend.handle()
            for document in documents:
                await write(one, document)
                assert (await other.load(APPID)).document == document

    texts = st.lists(st.text(), min_size=5, max_size=20)

    @REAL_TIME
    @given(texts)
    def check(documents):
        asyncio.run(round_trip(documents))

    check()
    asyncio.run(round_trip(["", "\0", "\0a\0", "ключ 令牌 🎟", "'; DROP TABLE kept; --", "令" * 34_000, "x" * 100_000]))


@pytest.mark.unmeasured
def test_any_history_matches_a_dict(new_backend):
    """Reads and rejections of two handles match those of a dict of (document, version)."""
    step = st.tuples(
        st.sampled_from([0, 1]),
        st.sampled_from(["wx1", "wx2"]),
        st.sampled_from(["load", "compare_and_set", "stale", "empty", "foreign"]),
        st.text(max_size=5),
    )

    async def play(history):
        async with contextlib.AsyncExitStack() as stack:
            backend = await new_backend(stack)
            handles = backend.handle(), backend.handle()
            model, seen = {}, {"wx1": [""], "wx2": [""]}
            for number, appid, action, document in history:
                store = handles[number]
                stored = await store.load(appid)
                assert (stored.document, stored.version) == model.get(appid, (None, stored.version))
                foreign = seen["wx2" if appid == "wx1" else "wx1"][-1]
                version = {
                    "compare_and_set": stored.version,
                    "stale": seen[appid][0],
                    "empty": "",
                    "foreign": foreign,
                }.get(action)
                if version is None:
                    continue
                done = await store.compare_and_set(appid, document, version=version)
                assert done == (version == stored.version)
                if done:
                    model[appid] = document, (await store.load(appid)).version
                    assert model[appid][1] not in seen[appid]
                    seen[appid].append(model[appid][1])

    @REAL_TIME
    @given(st.lists(step, max_size=15))
    def check(history):
        asyncio.run(play(history))

    check()


async def test_wait_with_an_old_version_returns_at_once(one, other):
    """A change that has already happened is not waited for."""
    old = await write(one)
    await write(one)
    await finish(other.wait_for_change(APPID, version=old, timeout=LONG))
    await finish(other.wait_for_change("wx2", version="no-such-version", timeout=LONG))


@pytest.mark.parametrize("empty", [True, False])
async def test_wait_returns_after_a_write_by_another_handle(one, other, empty):
    """The first document and a later one wake a waiter long before its timeout."""
    version = (await other.load(APPID)).version if empty else await write(other)
    waiting = asyncio.create_task(other.wait_for_change(APPID, version=version, timeout=LONG))
    await asyncio.sleep(0.1)
    assert not waiting.done()
    await write(one)
    await finish(waiting)


async def test_wait_returns_after_its_timeout(one, other, pass_time):
    """Without a change the wait ends after its timeout; a change of another platform does not count."""
    version = await write(one)
    waiting = asyncio.create_task(other.wait_for_change(APPID, version=version, timeout=LONG))
    # Also on a busy machine: a connection that is still being opened when the time passes would fail.
    await asyncio.sleep(1)
    await write(one, appid="wx2")
    pass_time(LONG // 2)
    await asyncio.sleep(0.05)
    assert not waiting.done()
    pass_time(LONG // 2)
    await finish(waiting)


async def test_one_write_wakes_all_waiters(one, other):
    """A write wakes the waiters of all handles, also of the one that wrote."""
    version = await write(one)
    waiting = [
        asyncio.create_task(store.wait_for_change(APPID, version=version, timeout=LONG)) for store in (one, other) * 10
    ]
    await asyncio.sleep(0.05)
    await write(one)
    await finish(asyncio.gather(*waiting))


async def test_waiting_blocks_no_operation(one):
    """A handle reads and writes while it waits for a change."""
    version = await write(one)
    waiting = asyncio.create_task(one.wait_for_change(APPID, version=version, timeout=LONG))
    await asyncio.sleep(0.05)
    await finish(one.load("wx2"))
    assert not waiting.done()
    await finish(write(one))
    await finish(waiting)


async def test_cancelled_operations_leave_the_document_whole(one, other):
    """An operation cancelled anywhere took effect or did not, and the next ones work."""
    dice = random.Random(7)
    long = {letter * 20_000 for letter in "ab"}
    await write(one, "a" * 20_000)
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
    await write(one, "after")
    assert (await other.load(APPID)).document == "after"


@pytest.mark.unmeasured
async def test_concurrent_writes_lose_nothing(one, other):
    """Twenty tasks on two handles count by compare-and-set, and no step is lost."""
    await asyncio.gather(*(count_up(store, 5) for store in (one, other) * 10))
    assert (await one.load(APPID)).document == "100"


async def test_the_clock_does_not_run_backwards(one, other):
    """`store_time` is one clock for all handles."""
    times = [(await store.load(APPID)).store_time for store in (one, other) * 20]
    assert times == sorted(times)


async def test_the_clock_counts_seconds(one):
    """Between two reads `store_time` advances as much as a clock of this machine."""
    began, first = time.time(), (await one.load(APPID)).store_time
    await asyncio.sleep(0.1)
    last, ended = (await one.load(APPID)).store_time, time.time()
    assert 0.05 < last - first < ended - began + 0.05


def test_store_works_in_a_second_event_loop(new_backend):
    """The same handle reads, writes and waits in a second loop, and no waiter of the first one remains."""

    async def begin(stack):
        store = (await new_backend(stack)).handle()
        version = await write(store, "first loop")
        waiting = asyncio.create_task(store.wait_for_change(APPID, version=version, timeout=60))
        await asyncio.sleep(0.05)
        assert not waiting.done()  # the end of the loop cancels it
        return store

    async def go_on(stack, store):
        async with stack:
            stored = await store.load(APPID)
            assert stored.document == "first loop"
            waiting = asyncio.create_task(store.wait_for_change(APPID, version=stored.version, timeout=LONG))
            await asyncio.sleep(0.05)
            await write(store, "second loop")
            await finish(waiting)

    stack = contextlib.AsyncExitStack()
    store = asyncio.run(begin(stack))
    asyncio.run(go_on(stack, store))


async def test_repr_shows_no_document(one):
    """The reprs of a store and of its result show no document."""
    await write(one, "T0KEN")
    assert "T0KEN" not in f"{one!r} {await one.load(APPID)!r}"
