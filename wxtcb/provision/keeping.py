"""Records are put into the journal, with what has changed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from itertools import islice
from typing import Final

from wxtcb.errors import WxtcbError
from wxtcb.provision.changes import describe_change
from wxtcb.provision.journal import HistoryEntry, Journal, JournalConflict, JournalError, TenantRecord
from wxtcb.provision.plan import RecordChange

_COMMIT_BATCH_SIZE: Final = 500


async def commit_record(
    journal: Journal, before: TenantRecord, after: TenantRecord, now: float, previous_owner: RecordChange | None = None
) -> None:
    """Commit a record, and that of who gives up what it takes, or raise `JournalError`."""
    given = (
        None
        if previous_owner is None
        else (previous_owner.after, HistoryEntry(now, describe_change(previous_owner.before, previous_owner.after)))
    )
    try:
        kept = await journal.commit(after, HistoryEntry(now, describe_change(before, after)), given)
    except WxtcbError:
        raise
    except Exception as error:
        raise JournalError(f"the journal failed ({type(error).__name__}: {error})") from error
    if not kept:
        raise JournalConflict(
            f"the journal does not take this record of tenant {after.tenant!r}: another run works on it, or its "
            "environment or alias is another tenant's. Plan again"
        )


async def commit_record_changes(journal: Journal, record_changes: Iterable[RecordChange], now: float) -> None:
    """Commit what a person has decided, before anything is done on its ground."""
    left = iter(record_changes)
    while together := [
        commit_record(journal, each.before, each.after, now, each.previous_owner)
        for each in islice(left, _COMMIT_BATCH_SIZE)
    ]:
        for result in await asyncio.gather(*together, return_exceptions=True):
            if isinstance(result, BaseException):
                raise result
