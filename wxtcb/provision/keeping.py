"""Records are put into the journal, with what has changed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from itertools import islice
from typing import Final

from wxtcb.errors import WxtcbError
from wxtcb.provision.changes import change_of
from wxtcb.provision.journal import Journal, JournalConflict, JournalError, Moment, Record
from wxtcb.provision.plan import Release

_AT_ONCE: Final = 500


async def keep(journal: Journal, before: Record, after: Record, now: float) -> None:
    """Commit a record, or raise `JournalError`."""
    try:
        kept = await journal.commit(after, Moment(now, change_of(before, after)))
    except WxtcbError:
        raise
    except Exception as error:
        raise JournalError(f"the journal failed ({type(error).__name__}: {error})") from error
    if not kept:
        raise JournalConflict(
            f"the journal does not take this record of tenant {after.tenant!r}: another run works on it, or its "
            "environment or alias is another tenant's. Plan again"
        )


async def release(journal: Journal, releases: Iterable[tuple[Release, ...]], now: float) -> None:
    """Commit what a person has decided, before anything is done on its ground; what goes together in its order."""
    left = iter(releases)
    while together := [_release(journal, each, now) for each in islice(left, _AT_ONCE)]:
        for result in await asyncio.gather(*together, return_exceptions=True):
            if isinstance(result, BaseException):
                raise result


async def _release(journal: Journal, releases: tuple[Release, ...], now: float) -> None:
    for each in releases:
        await keep(journal, each.before, each.after, now)
