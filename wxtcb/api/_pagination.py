"""Pagination: iterate over a list of the platform, fetching a page when the previous one is used up."""

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
    """Yield the entries of all pages of a list that is paged by offset.

    *fetch* takes an offset, and returns the entries from there on and the total number of entries, if it is known. The
    list ends with an empty page, or at the total. Raises `BadReply` if a page is equal to the previous one.
    """
    offset = 0
    previous: Sequence[T] = ()
    while True:
        entries, total = await fetch(offset)
        # A server that ignores the offset returns the first page again and again.
        if entries and entries == previous:
            raise _no_progress_error(endpoint, "this page is equal to the previous one")
        for entry in entries:
            yield entry
        # The platform documents no maximum page size and may return fewer entries than the limit asks for, so the next
        # offset is the number of entries received.
        offset += len(entries)
        if not entries or (total is not None and offset >= total):
            return
        previous = entries


async def by_marker(
    endpoint: Endpoint[Reply],
    fetch: Callable[[str | None], Awaitable[tuple[Sequence[T], bool]]],
    key_of: Callable[[T], str],
) -> AsyncIterator[T]:
    """Yield the entries of all pages of a list that is paged by the last key received.

    *fetch* takes that key (None for the first page), and returns the entries after it and whether there are more.
    Raises `BadReply` if a page makes no progress, for the list would never end: it has no new entry although there are
    more, or it ends before the key it should begin after.
    """
    marker: str | None = None
    while True:
        entries, has_more = await fetch(marker)
        # The documentation does not say whether the entry at the marker is repeated.
        fresh = [entry for entry in entries if key_of(entry) != marker]
        # Keys are ordered by their UTF-8 bytes, as in Tencent COS.
        if marker is not None and fresh and key_of(fresh[-1]).encode() < marker.encode():
            raise _no_progress_error(endpoint, "this page ends before the key it should begin after")
        for entry in fresh:
            yield entry
        if not has_more:
            return
        if not fresh:
            raise _no_progress_error(endpoint, "there are more entries, but this page has no new one to continue from")
        marker = key_of(fresh[-1])


def _no_progress_error(endpoint: Endpoint[Reply], reason: str) -> BadReply:
    return BadReply(reason, endpoint=endpoint.path, status=200, permanent=True)
