"""Where the journal of a run is, and who closes it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from wxtcb.errors import InvalidArgument
from wxtcb.provision import Journal, MemoryJournal, SqliteJournal

_ENDING: Final = ".wxtcb.db"


def path_beside(file: Path) -> Path:
    """Return where the journal of a tenants file is, unless told otherwise."""
    return file.with_name(f"{file.name}{_ENDING}")


@contextmanager
def journal_at(path: Path | None) -> Iterator[Journal]:
    """Give the journal at *path*, made if there is none, until the context ends; without a path one in memory."""
    if path is None:
        yield MemoryJournal()
        return
    journal = SqliteJournal(path)
    try:
        yield journal
    finally:
        asyncio.run(journal.aclose())


def demand_journal(path: Path) -> Path:
    """Return *path*, or raise `InvalidArgument` if nothing is there."""
    if not path.exists():
        raise InvalidArgument(
            f"there is no journal at {path}: give the one of the run with --journal. Nothing was sent"
        )
    return path
