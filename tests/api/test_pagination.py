"""Paged lists: every entry once, in order, and no unneeded page."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wxtcb import BadReply, Done, Endpoint, Repeat
from wxtcb.api._pagination import by_marker, by_offset

LIST = Endpoint("/tcb/list", Done, Repeat.READ)


def run(coro):
    """Run a coroutine that never suspends."""
    with pytest.raises(StopIteration) as ended:
        coro.send(None)
    return ended.value.value


async def all_of(listing):
    """Return all values of an async iterator."""
    return [entry async for entry in listing]


def offsets(entries, size, *, total=True):
    """Return a function that fetches pages by offset, and the list of requested offsets."""
    requested = []

    async def fetch(offset):
        requested.append(offset)
        return entries[offset : offset + size], len(entries) if total else None

    return fetch, requested


def markers(entries, size, *, inclusive):
    """Return a function that fetches pages by marker, with or without the marker's entry, and the requested markers."""
    requested = []

    async def fetch(marker):
        requested.append(marker)
        start = 0 if marker is None else entries.index(marker) + (not inclusive)
        return entries[start : start + size], start + size < len(entries)

    return fetch, requested


@given(st.integers(0, 12), st.integers(1, 5), st.booleans())
def test_offset_pages_yield_every_entry_once(length, size, total):
    """This holds for every page size, with and without a total."""
    fetch, requested = offsets(list(range(length)), size, total=total)
    assert run(all_of(by_offset(LIST, fetch))) == list(range(length))
    assert requested[:2] == ([0] if length <= size and (total or not length) else [0, min(size, length)])


def test_no_page_is_fetched_after_the_last():
    """A known total ends the list; otherwise an empty page does."""
    for total, expected in ((True, [0, 2]), (False, [0, 2, 4])):
        fetch, requested = offsets([1, 2, 3, 4], 2, total=total)
        run(all_of(by_offset(LIST, fetch)))
        assert requested == expected


def test_page_is_fetched_when_the_previous_is_used_up():
    """A caller who stops early causes no further request."""
    fetch, requested = offsets([1, 2, 3, 4], 2)

    async def take_two():
        listing = by_offset(LIST, fetch)
        taken = [await anext(listing), await anext(listing)]
        await listing.aclose()
        return taken

    assert run(take_two()) == [1, 2]
    assert requested == [0]


def test_empty_page_ends_a_list_with_a_wrong_total():
    """Entries may be removed during the iteration."""

    async def fetch(offset):
        return ([1, 2] if offset == 0 else []), 9

    assert run(all_of(by_offset(LIST, fetch))) == [1, 2]


@given(st.integers(0, 9), st.integers(2, 4), st.booleans())
def test_marker_pages_yield_every_entry_once(length, size, inclusive):
    """The entry of the marker may be repeated or not."""
    entries = [f"file {number}" for number in range(length)]
    fetch, requested = markers(entries, size, inclusive=inclusive)
    assert run(all_of(by_marker(LIST, fetch, str))) == entries
    assert requested[0] is None
    assert len(set(requested)) == len(requested)


def test_page_without_new_entries_is_a_bad_reply():
    """Otherwise the iteration would never end."""

    async def fetch(_marker):
        return ["file"], True

    with pytest.raises(BadReply, match="no new one") as caught:
        run(all_of(by_marker(LIST, fetch, str)))
    assert (caught.value.endpoint, caught.value.permanent) == (LIST.path, True)


@pytest.mark.parametrize("total", [None, 100])
def test_repeated_page_is_a_bad_reply(total):
    """A platform that ignores the offset would return the same page forever."""
    listing = by_offset(LIST, lambda _: answered([1, 2], total))
    assert [run(anext(listing)), run(anext(listing))] == [1, 2]
    with pytest.raises(BadReply, match="equal to the previous"):
        run(anext(listing))


async def answered(*answer):
    """Stand for a fetch."""
    return answer
