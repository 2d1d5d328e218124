"""What goes wrong with the file of a journal, in words for who has to mend it."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Final

from wxtcb._sqlite import UnusableFile, error_code, is_locked
from wxtcb.provision.journal import JournalError, JournalInUse
from wxtcb.provision.sqlite.schema import CorruptRow

_RECOVERY_HINT: Final = (
    "Keep the file and what lies beside it in another place; then put back a copy, or start with another journal and "
    "adopt the environments that are there"
)
_CORRUPT_ROW_HINT: Final = "Do not just delete the row: what was opened for the tenant would be opened once more"
_MESSAGES_BY_CODE: Final = {
    sqlite3.SQLITE_FULL: "there is no room for {path}; nothing of what was just asked was kept. Make room",
    sqlite3.SQLITE_CORRUPT: "{path} is damaged ({error}); it was left as it is. " + _RECOVERY_HINT,
    sqlite3.SQLITE_NOTADB: "{path} is no journal, or its beginning is damaged; it was left as it is",
    sqlite3.SQLITE_CANTOPEN: "{path} and what lies beside it must be writable for this process ({error})",
    sqlite3.SQLITE_READONLY: "{path} and what lies beside it must be writable for this process ({error})",
    sqlite3.SQLITE_PROTOCOL: "{path} must be on a local disk, where files can be locked ({error})",
    sqlite3.SQLITE_NOLFS: "{path} must be on a local disk, where files can be large ({error})",
}
_LOCK_ERROR_CODES: Final = (
    sqlite3.SQLITE_IOERR_LOCK,
    sqlite3.SQLITE_IOERR_RDLOCK,
    sqlite3.SQLITE_IOERR_UNLOCK,
    sqlite3.SQLITE_IOERR_CHECKRESERVEDLOCK,
)


def not_a_journal(path: Path) -> UnusableFile:
    """Return what is raised of a file that cannot be one of SQLite's."""
    return UnusableFile(_MESSAGES_BY_CODE[sqlite3.SQLITE_NOTADB].format(path=path))


def file_empty(path: Path) -> UnusableFile:
    """Return what is raised of a file with nothing in it: a new journal is never that, not for a moment."""
    return UnusableFile(
        f"{path} is empty: a journal was cut off there, or never was in it. If nothing was provisioned with it, remove "
        "it; else put back a copy, or remove it and adopt the environments that are there"
    )


def file_damaged(path: Path, detail: str) -> UnusableFile:
    """Return what is raised of a file that SQLite finds damaged."""
    return UnusableFile(_MESSAGES_BY_CODE[sqlite3.SQLITE_CORRUPT].format(path=path, error=" ".join(detail.split())))


def file_missing(path: Path) -> UnusableFile:
    """Return what is raised when there is no file any more, or another one."""
    return UnusableFile(
        f"{path} was removed or replaced while it was in use; nothing is kept until it is back. If it was moved, move "
        "it back: it has everything when this run has ended. Else put back a copy, or start with another journal and "
        "adopt the environments that are there"
    )


def file_changed(path: Path) -> UnusableFile:
    """Return what is raised when what is in the file, or the log beside it, is no more what we wrote."""
    return UnusableFile(
        f"somebody else wrote to {path} or replaced {path.name}-wal while it was in use, so the two may not go "
        f"together; they were left as they are, and nothing more is kept. {_RECOVERY_HINT}"
    )


def to_journal_error(error: Exception, path: Path) -> JournalError:
    """Return what tells a caller of *error*, without its frames."""
    if isinstance(error, CorruptRow):
        return JournalError(f"{path} is damaged: {error}. {_RECOVERY_HINT}. {_CORRUPT_ROW_HINT}")
    if isinstance(error, UnusableFile):
        return JournalError(str(error))
    if is_locked(error):
        return JournalInUse(
            f"{path} is in use by another process, or by another SqliteJournal of this one; it has to be closed first"
        )
    if isinstance(error, sqlite3.Error):
        return JournalError(_message_for(error).format(path=path, error=error))
    if isinstance(error, OSError):
        return JournalError(f"{path}: {error.strerror}")
    return JournalError(f"{path}: {type(error).__name__}: {error}")


def _message_for(error: sqlite3.Error) -> str:
    if getattr(error, "sqlite_errorcode", 0) in _LOCK_ERROR_CODES:
        return _MESSAGES_BY_CODE[sqlite3.SQLITE_PROTOCOL]
    return _MESSAGES_BY_CODE.get(
        error_code(error), "{path}: {error}; whether what was just asked was kept, its version tells"
    )
