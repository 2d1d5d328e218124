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


async def keep(journal: Journal, before: Record, after: Record, now: float, giver: Release | None = None) -> None:
    """Commit a record, and that of who gives up what it takes, or raise `JournalError`."""
    given = None if giver is None else (giver.after, Moment(now, change_of(giver.before, giver.after)))
    try:
        kept = await journal.commit(after, Moment(now, change_of(before, after)), given)
    except WxtcbError:
        raise
    except Exception as error:
        raise JournalError(f"the journal failed ({type(error).__name__}: {error})") from error
    if not kept:
        raise JournalConflict(
            f"the journal does not take this record of tenant {after.tenant!r}: another run works on it, or its "
            "environment or alias is another tenant's. Plan again"
        )


async def release(journal: Journal, releases: Iterable[Release], now: float) -> None:
    """Commit what a person has decided, before anything is done on its ground."""
    left = iter(releases)
    while together := [keep(journal, each.before, each.after, now, each.giver) for each in islice(left, _AT_ONCE)]:
        for result in await asyncio.gather(*together, return_exceptions=True):
            if isinstance(result, BaseException):
                raise result
