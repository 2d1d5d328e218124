"""Journal file of a tenants file: its default path, and opening and closing it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from wxtcb.cli.console import echo_err, escape_unprintable
from wxtcb.cli.runner import EXIT_FAILED
from wxtcb.errors import InvalidArgument
from wxtcb.provision import Journal, JournalError, MemoryJournal, SqliteJournal


def run_with_journal(path: Path | None, action: Callable[[Journal], int]) -> int:
    """Call *action* with the journal at *path*, or with one in memory if that is None; return its exit code.

    The file is created if it does not exist. An error at closing it is reported, and makes an exit code of 0 a failure.
    """
    if path is None:
        return action(MemoryJournal())
    journal = SqliteJournal(path)
    exit_code = 0
    try:
        exit_code = action(journal)
    finally:
        try:
            asyncio.run(journal.aclose())
        except JournalError as error:
            # Not raised, because it would replace an exception of *action*.
            echo_err(escape_unprintable(f"The journal could not be closed: {error}"))
            exit_code = max(exit_code, EXIT_FAILED)
    return exit_code


def require_journal(path: Path) -> Path:
    """Return *path*; raise `InvalidArgument` if no journal exists there."""
    if not path.exists():
        raise InvalidArgument(
            f"there is no journal at {path}: pass the one of the run by --journal. No request was sent"
        )
    return path
