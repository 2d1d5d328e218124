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

_OTHERS: Final = 0o077 if os.name == "posix" else 0
_BUSY: Final = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
_FOREIGN: Final = (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT)


class Unfit(Exception):
    """The file cannot be used, and was left as it is; if that is `lasting`, until somebody mends it."""

    def __init__(self, reason: str, *, lasting: bool = True) -> None:
        super().__init__(reason)
        self.lasting = lasting


@attrs.frozen
class Kind:
    """What tells our files from others: the number of the `application` and that of the `format`; `tables` make one."""

    application: int
    format: int
    tables: tuple[str, ...]

    def settle_in(self, db: sqlite3.Connection, path: Path) -> None:
        """Make an empty file one of this kind, and refuse any that is of another."""
        if not self._is_kind_of(db) and not path.stat().st_size:
            self.make(db, path)
        if not self._is_kind_of(db):
            raise Unfit(f"{path} is the database of another program; it was left as it is")
        if pragma(db, "user_version") != self.format:
            raise Unfit(f"{path} was written by another version of wxtcb; it was left as it is")

    def make(self, db: sqlite3.Connection, path: Path) -> None:
        """Write the tables into an empty file, and remove what a deleted one left beside it.

        While the lock holds nobody uses the new file, and so nobody uses its ``-shm``, which SQLite would believe.
        """
        db.execute("BEGIN EXCLUSIVE")
        if not path.stat().st_size:
            beside(path, "shm").unlink(missing_ok=True)
            for table in self.tables:
                db.execute(table)
            db.execute(f"PRAGMA application_id = {self.application}")
            db.execute(f"PRAGMA user_version = {self.format}")
        db.execute("COMMIT")

    def _is_kind_of(self, db: sqlite3.Connection) -> bool:
        return pragma(db, "application_id") == self.application


def connect(path: Path) -> sqlite3.Connection:
    """Open a file that is there; it waits for no lock and begins no transaction by itself."""
    return sqlite3.connect(f"{path.as_uri()}?mode=rw", uri=True, timeout=0, isolation_level=None)


def keep_log(db: sqlite3.Connection, path: Path) -> None:
    """Have changes written to a write-ahead log."""
    if pragma(db, "journal_mode = WAL") != "wal":
        raise Unfit(f"{path} must be on a local disk, where a write-ahead log can be kept")


def pragma(db: sqlite3.Connection, words: str) -> str | int:
    """Return the first thing that a PRAGMA answers."""
    row: tuple[str | int] = db.execute(f"PRAGMA {words}").fetchone()
    return row[0]


def inode_of(path: Path) -> tuple[int, int] | None:
    """Return what tells a file from any that takes its place; None if there is none."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def beside(path: Path, what: str) -> Path:
    """Return the path of one of the files that SQLite keeps beside its database."""
    return Path(f"{path}-{what}")


def create(path: Path, kind: Kind | None = None) -> tuple[int, int] | None:
    """Put a file in place that nobody else could ever read, unless somebody was quicker: an empty one, or of a *kind*.

    It gets its place by a link when it is closed: to close any file at the place would end the locks that other
    connections of this process hold there.
    """
    if not path.parent.is_dir():
        raise Unfit(f"there is no directory {path.parent} for {path.name}", lasting=False)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    os.close(handle)
    draft = Path(name)
    try:
        draft.chmod(0o600)
        if kind is not None:
            with contextlib.closing(connect(draft)) as db:
                kind.make(db, draft)
        with contextlib.suppress(FileExistsError):
            path.hardlink_to(draft)
    finally:
        draft.unlink()
    return inode_of(path)


def check_access(path: Path) -> None:
    """Refuse what is no file, cannot be written, or is open to other users.

    It is not tightened in silence: its owner has to know what they may have read already.
    """
    if not path.is_file():
        raise Unfit(f"{path} is no file")
    if not os.access(path, os.R_OK | os.W_OK):
        raise Unfit(f"{path} must be readable and writable for this process")
    for each in (path, *(beside(path, what) for what in ("wal", "shm", "journal"))):
        with contextlib.suppress(FileNotFoundError):
            mode = stat.S_IMODE(each.stat().st_mode)
            if mode & _OTHERS:
                raise Unfit(
                    f"{each} has mode {mode:03o}, so other users may have read what is kept in it; "
                    f"it must have 600 (chmod 600 {shlex.quote(str(each))})"
                )


def code_of(error: BaseException) -> int:
    """Return the primary code of an error of SQLite, 0 if it is none."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def is_locked(error: Exception) -> bool:
    """Tell whether *error* says that somebody else holds a lock."""
    return code_of(error) in _BUSY or isinstance(error, BlockingIOError)


def is_foreign(error: Exception) -> bool:
    """Tell whether *error* says that the file is none of SQLite's, or damaged: then waiting does not mend it."""
    return code_of(error) in _FOREIGN
