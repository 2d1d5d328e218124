"""Where the journal of a run is, and who closes it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Final

from wxtcb.cli.console import echo_err, escape_unprintable
from wxtcb.cli.runner import EXIT_FAILED
from wxtcb.errors import InvalidArgument
from wxtcb.provision import Journal, JournalError, MemoryJournal, SqliteJournal

_JOURNAL_SUFFIX: Final = ".wxtcb.db"


def default_journal_path(file: Path) -> Path:
    """Return where the journal of a tenants file is, unless told otherwise."""
    return file.with_name(f"{file.name}{_JOURNAL_SUFFIX}")


def run_with_journal(path: Path | None, action: Callable[[Journal], int]) -> int:
    """Return the exit code of *use*, which gets the journal at *path*, made if there is none, or one in memory.

    Afterwards it is closed. That this failed is told, and is a failure where *use* had none; it hides no other.
    """
    if path is None:
        return action(MemoryJournal())
    journal = SqliteJournal(path)
    try:
        code = action(journal)
    finally:
        closed = asyncio.run(_close_journal(journal))
    return code if closed else max(code, EXIT_FAILED)


async def _close_journal(journal: SqliteJournal) -> bool:
    try:
        await journal.aclose()
    except JournalError as error:
        echo_err(escape_unprintable(f"The journal could not be closed in good order: {error}"))
        return False
    return True


def require_journal(path: Path) -> Path:
    """Return *path*, or raise `InvalidArgument` if nothing is there."""
    if not path.exists():
        raise InvalidArgument(
            f"there is no journal at {path}: give the one of the run with --journal. Nothing was sent"
        )
    return path
