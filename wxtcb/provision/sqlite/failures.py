"""What goes wrong with the file of a journal, in words for who has to mend it."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Final

from wxtcb._sqlite import Unfit, code_of, is_locked
from wxtcb.provision.journal import JournalError, JournalInUse
from wxtcb.provision.sqlite.schema import Unreadable

_ADVICE: Final = (
    "Keep the file and what lies beside it in another place; then put back a copy, or start with another journal and "
    "adopt the environments that are there"
)
_ROW: Final = "Do not just delete the row: what was opened for the tenant would be opened once more"
_BY_CODE: Final = {
    sqlite3.SQLITE_FULL: "there is no room for {path}; nothing of what was just asked was kept. Make room",
    sqlite3.SQLITE_CORRUPT: "{path} is damaged ({error}); it was left as it is. " + _ADVICE,
    sqlite3.SQLITE_NOTADB: "{path} is no journal, or its beginning is damaged; it was left as it is",
    sqlite3.SQLITE_CANTOPEN: "{path} and what lies beside it must be writable for this process ({error})",
    sqlite3.SQLITE_READONLY: "{path} and what lies beside it must be writable for this process ({error})",
    sqlite3.SQLITE_PROTOCOL: "{path} must be on a local disk, where files can be locked ({error})",
    sqlite3.SQLITE_NOLFS: "{path} must be on a local disk, where files can be large ({error})",
}
_UNLOCKABLE: Final = (
    sqlite3.SQLITE_IOERR_LOCK,
    sqlite3.SQLITE_IOERR_RDLOCK,
    sqlite3.SQLITE_IOERR_UNLOCK,
    sqlite3.SQLITE_IOERR_CHECKRESERVEDLOCK,
)


def no_journal(path: Path) -> Unfit:
    """Return what is raised of a file that cannot be one of SQLite's."""
    return Unfit(_BY_CODE[sqlite3.SQLITE_NOTADB].format(path=path))


def emptied(path: Path) -> Unfit:
    """Return what is raised of a file with nothing in it: a new journal is never that, not for a moment."""
    return Unfit(
        f"{path} is empty: a journal was cut off there, or never was in it. If nothing was provisioned with it, remove "
        "it; else put back a copy, or remove it and adopt the environments that are there"
    )


def damaged(path: Path, detail: str) -> Unfit:
    """Return what is raised of a file that SQLite finds damaged."""
    return Unfit(_BY_CODE[sqlite3.SQLITE_CORRUPT].format(path=path, error=" ".join(detail.split())))


def lost(path: Path) -> Unfit:
    """Return what is raised when there is no file any more, or another one."""
    return Unfit(
        f"{path} was removed or replaced while it was in use; nothing is kept until it is back. If it was moved, move "
        "it back: it has everything when this run has ended. Else put back a copy, or start with another journal and "
        "adopt the environments that are there"
    )


def overwritten(path: Path) -> Unfit:
    """Return what is raised when what is in the file, or the log beside it, is no more what we wrote."""
    return Unfit(
        f"somebody else wrote to {path} or replaced {path.name}-wal while it was in use, so the two may not go "
        f"together; they were left as they are, and nothing more is kept. {_ADVICE}"
    )


def explain(error: Exception, path: Path) -> JournalError:
    """Return what tells a caller of *error*, without its frames."""
    if isinstance(error, Unreadable):
        return JournalError(f"{path} is damaged: {error}. {_ADVICE}. {_ROW}")
    if isinstance(error, Unfit):
        return JournalError(str(error))
    if is_locked(error):
        return JournalInUse(
            f"{path} is in use by another process, or by another SqliteJournal of this one; it has to be closed first"
        )
    if isinstance(error, sqlite3.Error):
        return JournalError(_words_for(error).format(path=path, error=error))
    if isinstance(error, OSError):
        return JournalError(f"{path}: {error.strerror}")
    return JournalError(f"{path}: {type(error).__name__}: {error}")


def _words_for(error: sqlite3.Error) -> str:
    if getattr(error, "sqlite_errorcode", 0) in _UNLOCKABLE:
        return _BY_CODE[sqlite3.SQLITE_PROTOCOL]
    return _BY_CODE.get(code_of(error), "{path}: {error}; whether what was just asked was kept, its version tells")
