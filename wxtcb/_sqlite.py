"""SQLite files that are this user's alone: made, told from those of others, and opened; all of it blocks."""

from __future__ import annotations

import contextlib
import os
import shlex
import sqlite3
import stat
import tempfile
from pathlib import Path
from typing import Final

import attrs

_OTHER_USERS_MODE: Final = 0o077 if os.name == "posix" else 0
_LOCKED_CODES: Final = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
_CORRUPT_CODES: Final = (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT)


class UnusableFile(Exception):
    """The file cannot be used, and was left as it is; if that is `permanent`, until somebody mends it."""

    def __init__(self, reason: str, *, permanent: bool = True) -> None:
        super().__init__(reason)
        self.permanent = permanent


@attrs.frozen
class FileFormat:
    """What tells our files from others: the number of the `application_id` and that of the `schema_version`; `create_statements` make one."""

    application_id: int
    schema_version: int
    create_statements: tuple[str, ...]

    def ensure_schema(self, db: sqlite3.Connection, path: Path) -> None:
        """Make an empty file one of this kind, and refuse any that is of another."""
        if not self._has_application_id(db) and not path.stat().st_size:
            self.create_schema(db, path)
        if not self._has_application_id(db):
            raise UnusableFile(f"{path} is the database of another program; it was left as it is")
        if pragma(db, "user_version") != self.schema_version:
            raise UnusableFile(f"{path} was written by another version of wxtcb; it was left as it is")

    def create_schema(self, db: sqlite3.Connection, path: Path) -> None:
        """Write the tables into an empty file, and remove what a deleted one left beside it.

        While the lock holds nobody uses the new file, and so nobody uses its ``-shm``, which SQLite would believe.
        """
        db.execute("BEGIN EXCLUSIVE")
        if not path.stat().st_size:
            sidecar_path(path, "shm").unlink(missing_ok=True)
            for table in self.create_statements:
                db.execute(table)
            db.execute(f"PRAGMA application_id = {self.application_id}")
            db.execute(f"PRAGMA user_version = {self.schema_version}")
        db.execute("COMMIT")

    def _has_application_id(self, db: sqlite3.Connection) -> bool:
        return pragma(db, "application_id") == self.application_id


def connect(path: Path) -> sqlite3.Connection:
    """Open a file that is there; it waits for no lock and begins no transaction by itself."""
    return sqlite3.connect(f"{path.as_uri()}?mode=rw", uri=True, timeout=0, isolation_level=None)


def enable_wal(db: sqlite3.Connection, path: Path) -> None:
    """Have changes written to a write-ahead log."""
    if pragma(db, "journal_mode = WAL") != "wal":
        raise UnusableFile(f"{path} must be on a local disk, where a write-ahead log can be kept")


def pragma(db: sqlite3.Connection, statement: str) -> str | int:
    """Return the first thing that a PRAGMA answers."""
    row: tuple[str | int] = db.execute(f"PRAGMA {statement}").fetchone()
    return row[0]


def file_identity(path: Path) -> tuple[int, int] | None:
    """Return what tells a file from any that takes its place; None if there is none."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def sidecar_path(path: Path, suffix: str) -> Path:
    """Return the path of one of the files that SQLite keeps beside its database."""
    return Path(f"{path}-{suffix}")


def create_private_file(path: Path, file_format: FileFormat | None = None) -> tuple[int, int] | None:
    """Put a file in place that nobody else could ever read, unless somebody was quicker: an empty one, or of a *kind*.

    It gets its place by a link when it is closed: to close any file at the place would end the locks that other
    connections of this process hold there.
    """
    if not path.parent.is_dir():
        raise UnusableFile(f"there is no directory {path.parent} for {path.name}", permanent=False)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    os.close(handle)
    draft = Path(name)
    try:
        draft.chmod(0o600)
        if file_format is not None:
            with contextlib.closing(connect(draft)) as db:
                file_format.create_schema(db, draft)
        with contextlib.suppress(FileExistsError):
            path.hardlink_to(draft)
    finally:
        draft.unlink()
    return file_identity(path)


def check_access(path: Path) -> None:
    """Refuse what is no file, cannot be written, or is open to other users.

    It is not tightened in silence: its owner has to know what they may have read already.
    """
    if not path.is_file():
        raise UnusableFile(f"{path} is no file")
    if not os.access(path, os.R_OK | os.W_OK):
        raise UnusableFile(f"{path} must be readable and writable for this process")
    for each in (path, *(sidecar_path(path, what) for what in ("wal", "shm", "journal"))):
        with contextlib.suppress(FileNotFoundError):
            mode = stat.S_IMODE(each.stat().st_mode)
            if mode & _OTHER_USERS_MODE:
                raise UnusableFile(
                    f"{each} has mode {mode:03o}, so other users may have read what is kept in it; "
                    f"it must have 600 (chmod 600 {shlex.quote(str(each))})"
                )


def error_code(error: BaseException) -> int:
    """Return the primary code of an error of SQLite, 0 if it is none."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def is_locked(error: Exception) -> bool:
    """Tell whether *error* says that somebody else holds a lock."""
    return error_code(error) in _LOCKED_CODES or isinstance(error, BlockingIOError)


def is_corrupt(error: Exception) -> bool:
    """Tell whether *error* says that the file is none of SQLite's, or damaged: then waiting does not mend it."""
    return error_code(error) in _CORRUPT_CODES
