"""Lists that come in pages, one page asked for when the one before it is used up."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from wxtcb.errors import BadReply

if TYPE_CHECKING:
    from wxtcb._protocol.endpoint import Endpoint, Reply

T = TypeVar("T")


async def by_offset(
    endpoint: Endpoint[Reply], fetch: Callable[[int], Awaitable[tuple[Sequence[T], int | None]]]
) -> AsyncIterator[T]:
    """Yield the entries of all pages; *fetch* gives those from an offset on, and how many there are in all.

    The next offset is the number of entries that came, whatever was asked for. An empty page is the last. Raises
    `BadReply` when the page before comes again, for that is what a list without offsets does.
    """
    offset = 0
    before: Sequence[T] = ()
    while True:
        entries, total = await fetch(offset)
        if entries and entries == before:
            raise _no_progress_error(endpoint, "this page is the one before once more")
        for entry in entries:
            yield entry
        offset += len(entries)
        if not entries or (total is not None and offset >= total):
            return
        before = entries


async def by_marker(
    endpoint: Endpoint[Reply],
    fetch: Callable[[str | None], Awaitable[tuple[Sequence[T], bool]]],
    key_of: Callable[[T], str],
) -> AsyncIterator[T]:
    """Yield the entries of all pages; *fetch* gives those after a key, and whether there are more.

    Whether the entry of the key itself comes again is not documented: it is left out if it does. Raises `BadReply` when
    there are more, but the page holds nothing new to go on from, and when a page ends before that key, in the order of
    UTF-8 bytes: the list would begin again and again.
    """
    marker: str | None = None
    while True:
        entries, more = await fetch(marker)
        fresh = [entry for entry in entries if key_of(entry) != marker]
        if marker is not None and fresh and key_of(fresh[-1]).encode() < marker.encode():
            raise _no_progress_error(endpoint, "this page ends before the key that it was to begin after")
        for entry in fresh:
            yield entry
        if not more:
            return
        if not fresh:
            raise _no_progress_error(endpoint, "the list goes on, but this page holds nothing new to go on from")
        marker = key_of(fresh[-1])


def _no_progress_error(endpoint: Endpoint[Reply], reason: str) -> BadReply:
    return BadReply(reason, endpoint=endpoint.path, status=200, permanent=True)
