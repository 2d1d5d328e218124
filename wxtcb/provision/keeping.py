"""Records are put into the journal, with what has changed."""

from __future__ import annotations

from collections.abc import Iterable

from wxtcb.errors import WxtcbError
from wxtcb.provision.changes import change_of
from wxtcb.provision.journal import Journal, JournalConflict, JournalError, Moment, Record
from wxtcb.provision.plan import Release


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


async def release(journal: Journal, releases: Iterable[Release], now: float) -> None:
    """Commit what a person has decided, before anything is done on its ground."""
    for each in releases:
        await keep(journal, each.before, each.after, now)
