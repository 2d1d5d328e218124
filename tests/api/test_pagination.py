"""Lists that come in pages: every entry once, in order, and no page more than is needed."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from wxtcb import BadReply, Done, Endpoint, Repeat
from wxtcb.api._pagination import by_marker, by_offset

LIST = Endpoint("/tcb/list", Done, Repeat.READ)


def run(coro):
    """Run a coroutine that waits for nothing."""
    with pytest.raises(StopIteration) as ended:
        coro.send(None)
    return ended.value.value


async def all_of(listing):
    """Return what an async iterator gives."""
    return [entry async for entry in listing]


def offsets(entries, size, *, total=True):
    """Return what fetches pages of a list by offset, and the offsets that were asked for."""
    asked = []

    async def fetch(offset):
        asked.append(offset)
        return entries[offset : offset + size], len(entries) if total else None

    return fetch, asked


def markers(entries, size, *, inclusive):
    """Return what fetches pages of a list of texts by marker, itself included or not, and the markers asked for."""
    asked = []

    async def fetch(marker):
        asked.append(marker)
        start = 0 if marker is None else entries.index(marker) + (not inclusive)
        return entries[start : start + size], start + size < len(entries)

    return fetch, asked


@given(st.integers(0, 12), st.integers(1, 5), st.booleans())
def test_pages_by_offset_give_every_entry_once(length, size, total):
    """Whatever the page holds, and whether or not the platform tells how many there are."""
    fetch, asked = offsets(list(range(length)), size, total=total)
    assert run(all_of(by_offset(LIST, fetch))) == list(range(length))
    assert asked[:2] == ([0] if length <= size and (total or not length) else [0, min(size, length)])


def test_no_page_is_asked_for_after_the_last():
    """Where the total is known it is the number that came; where it is not, an empty page ends it."""
    for total, expected in ((True, [0, 2]), (False, [0, 2, 4])):
        fetch, asked = offsets([1, 2, 3, 4], 2, total=total)
        run(all_of(by_offset(LIST, fetch)))
        assert asked == expected


def test_a_page_is_asked_for_when_the_one_before_is_used_up():
    """Who stops early has cost no more."""
    fetch, asked = offsets([1, 2, 3, 4], 2)

    async def take_two():
        listing = by_offset(LIST, fetch)
        taken = [await anext(listing), await anext(listing)]
        await listing.aclose()
        return taken

    assert run(take_two()) == [1, 2]
    assert asked == [0]


def test_a_total_that_was_too_high_ends_with_an_empty_page():
    """Entries may be removed while somebody goes through them."""

    async def fetch(offset):
        return ([1, 2] if offset == 0 else []), 9

    assert run(all_of(by_offset(LIST, fetch))) == [1, 2]


@given(st.integers(0, 9), st.integers(2, 4), st.booleans())
def test_pages_by_marker_give_every_entry_once(length, size, inclusive):
    """Whether or not the entry of the marker comes again."""
    entries = [f"file {number}" for number in range(length)]
    fetch, asked = markers(entries, size, inclusive=inclusive)
    assert run(all_of(by_marker(LIST, fetch, str))) == entries
    assert asked[0] is None
    assert len(set(asked)) == len(asked)


def test_a_list_that_goes_on_without_anything_new_is_refused():
    """Else it would be asked for without end."""

    async def fetch(_marker):
        return ["file"], True

    with pytest.raises(BadReply, match="nothing new") as caught:
        run(all_of(by_marker(LIST, fetch, str)))
    assert (caught.value.endpoint, caught.value.permanent) == (LIST.path, True)


@pytest.mark.parametrize("total", [None, 100])
def test_a_page_that_comes_again_ends_the_list(total):
    """A platform that does not mind the offset would give the same for ever."""
    listing = by_offset(LIST, lambda _: answered([1, 2], total))
    assert [run(anext(listing)), run(anext(listing))] == [1, 2]
    with pytest.raises(BadReply, match="the one before once more"):
        run(anext(listing))


async def answered(*answer):
    """Stand for a fetch."""
    return answer
