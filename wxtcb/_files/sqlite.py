"""Private SQLite files: creating, recognising and opening databases that only the current user may read.

All functions block, so they must not run on the event loop.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shlex
import sqlite3
import stat
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import attrs

from wxtcb._files.access import find_replaceable_directory, is_own

# Windows reports the same mode for every file; access is controlled by lists that the mode does not show.
_OTHER_USERS_MODE: Final = 0o077 if os.name == "posix" else 0
_LOCKED_CODES: Final = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
_CORRUPT_CODES: Final = (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT)


class UnusableFile(Exception):
    """Exception for a file that cannot be used and was not changed; if `permanent`, retrying does not help."""

    def __init__(self, reason: str, *, permanent: bool = True) -> None:
        super().__init__(reason)
        self.permanent = permanent


@attrs.frozen
class FileFormat:
    """Format of wxtcb's database files.

    `application_id` and `schema_version` are stored in the header of the file (``PRAGMA application_id`` and
    ``user_version``). `create_statements` create the tables; `upgrades` has, for each earlier version that can be
    upgraded, the statements that do it.
    """

    application_id: int
    schema_version: int
    create_statements: tuple[str, ...]
    upgrades: Mapping[int, tuple[str, ...]] = attrs.field(factory=dict[int, tuple[str, ...]])

    def ensure_schema(self, db: sqlite3.Connection, path: Path) -> None:
        """Create the schema in an empty file; raise `UnusableFile` if the file has another format or version."""
        if not self._has_application_id(db) and not path.stat().st_size:
            self.create_schema(db, path)
        if not self._has_application_id(db):
            raise UnusableFile(f"{path} is the database of another program; it was not changed")
        if pragma(db, "user_version") in self.upgrades:
            self._upgrade(db)
        if pragma(db, "user_version") != self.schema_version:
            raise UnusableFile(f"{path} was written by another version of wxtcb; it was not changed")

    def create_schema(self, db: sqlite3.Connection, path: Path) -> None:
        """Create the tables in an empty file, unless another process has done so meanwhile."""
        db.execute("BEGIN EXCLUSIVE")
        if not path.stat().st_size:
            # If an earlier database was deleted without its -shm file, SQLite would trust the stale index in that file.
            # While the exclusive lock is held, no connection uses the new file, and therefore none uses its -shm file.
            sidecar_path(path, "shm").unlink(missing_ok=True)
            for table in self.create_statements:
                db.execute(table)
            db.execute(f"PRAGMA application_id = {self.application_id}")
            db.execute(f"PRAGMA user_version = {self.schema_version}")
        db.execute("COMMIT")

    def _upgrade(self, db: sqlite3.Connection) -> None:
        db.execute("BEGIN IMMEDIATE")
        # Another process may have upgraded the file meanwhile.
        for statement in self.upgrades.get(int(pragma(db, "user_version")), ()):
            db.execute(statement)
        db.execute(f"PRAGMA user_version = {self.schema_version}")
        db.execute("COMMIT")

    def _has_application_id(self, db: sqlite3.Connection) -> bool:
        return pragma(db, "application_id") == self.application_id


def connect(path: Path, *, check_same_thread: bool = True, timeout: float = 0.0) -> sqlite3.Connection:
    """Connect to an existing file, without implicit transactions; wait *timeout* seconds for the lock of another.

    Without *check_same_thread* several threads may use the connection, one at a time.
    """
    # mode=rw: SQLite would otherwise create a missing file, readable by other users.
    return sqlite3.connect(
        f"{path.as_uri()}?mode=rw",
        uri=True,
        timeout=timeout,
        isolation_level=None,
        check_same_thread=check_same_thread,
    )


def enable_wal(db: sqlite3.Connection, path: Path) -> None:
    """Switch the database to a write-ahead log (WAL)."""
    if pragma(db, "journal_mode = WAL") != "wal":
        raise UnusableFile(f"{path} must be on a local disk: SQLite cannot use a write-ahead log there")
    # Again: SQLite uses an existing log, which another user could have created in a shared directory since the check.
    _check_private(path)


def overwrite_old_data(db: sqlite3.Connection) -> None:
    """Overwrite data that is replaced or deleted, in the database and in its log, with the next commits.

    Otherwise the log keeps every old value until it is full, and the database keeps some in unused space.
    """
    db.execute("PRAGMA secure_delete = ON")
    # Each commit is copied into the database, and the next one starts the log again and cuts off the rest of it. That
    # costs a second write to the disk for each commit.
    db.execute("PRAGMA wal_autocheckpoint = 1")
    db.execute("PRAGMA journal_size_limit = 0")


def pragma(db: sqlite3.Connection, statement: str) -> str | int:
    """Run a PRAGMA and return the first value of its result."""
    row: tuple[str | int] = db.execute(f"PRAGMA {statement}").fetchone()
    return row[0]


def file_identity(path: Path) -> tuple[int, int] | None:
    """Return device and inode of the file, which change if another file replaces it; None if it does not exist."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


@functools.lru_cache(maxsize=64)
def sidecar_path(path: Path, suffix: str) -> Path:
    """Return the path of a file that SQLite creates next to the database, such as ``-wal``."""
    return Path(f"{path}-{suffix}")


def create_private_file(path: Path, file_format: FileFormat | None = None) -> tuple[int, int] | None:
    """Create a file with mode 600 at *path*, empty or with the schema of *file_format*; return its identity.

    An existing file is not changed.
    """
    if not path.parent.is_dir():
        raise UnusableFile(f"there is no directory {path.parent} for {path.name}", permanent=False)
    # The file is completed under another name, and linked to *path* only after it was closed: POSIX releases all locks
    # of a process on a file as soon as it closes any descriptor of the file. Closing one of *path* here would end the
    # locks of other connections in this process. The file is also private from the start.
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    os.close(handle)
    draft = Path(name)
    try:
        draft.chmod(0o600)
        if file_format is not None:
            with contextlib.closing(connect(draft)) as db:
                file_format.create_schema(db, draft)
                # Here and not when it is opened: the switch needs a lock that no other process may have.
                pragma(db, "journal_mode = WAL")
        # Another process may have created the file first.
        with contextlib.suppress(FileExistsError):
            path.hardlink_to(draft)
    finally:
        draft.unlink()
    return file_identity(path)


def check_access(path: Path) -> None:
    """Raise `UnusableFile` unless only this user can read, write and replace the file *path*, which is no link."""
    if path.is_symlink() or not path.is_file():
        raise UnusableFile(f"{path} is not a file")
    if not os.access(path, os.R_OK | os.W_OK):
        raise UnusableFile(f"{path} must be readable and writable by this process")
    _check_private(path)
    _check_directories(path)


def _check_private(path: Path) -> None:
    for each in (path, *(sidecar_path(path, suffix) for suffix in ("wal", "shm", "journal", "lock"))):
        with contextlib.suppress(FileNotFoundError):
            status = each.lstat()
            # In a shared directory, another user could have created the file first, and would read what is stored.
            if not is_own(status):
                raise UnusableFile(
                    f"{each} belongs to another user (id {status.st_uid}; this process runs as {os.geteuid()}); run as "
                    "that user, choose another path, or, if you trust its contents, make the file your own with chown"
                )
            mode = stat.S_IMODE(status.st_mode)
            # The mode is not corrected silently: the owner must know that the secrets may have been read already.
            if mode & _OTHER_USERS_MODE:
                raise UnusableFile(
                    f"{each} has mode {mode:03o}, so other users may have read its contents; "
                    f"set it to 600 (chmod 600 {shlex.quote(str(each))})"
                )


def _check_directories(path: Path) -> None:
    if directory := find_replaceable_directory(path):
        quoted = shlex.quote(str(directory))
        raise UnusableFile(
            f"every user may replace {path}, because {directory} is writable for everyone and has no sticky bit; "
            f"remove the permission (chmod o-w {quoted}) or set the bit (chmod +t {quoted}); in a container, do it in "
            "an init container (an emptyDir of Kubernetes has this mode), or use a directory of the image"
        )


def error_code(error: BaseException) -> int:
    """Return the primary result code of an SQLite error, or 0 for any other exception."""
    # The upper bits of an extended result code hold details, such as SQLITE_IOERR_LOCK.
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def is_locked(error: Exception) -> bool:
    """Return whether *error* means that another connection or process holds a lock."""
    return error_code(error) in _LOCKED_CODES or isinstance(error, BlockingIOError)


def is_corrupt(error: Exception) -> bool:
    """Return whether *error* means that the file is damaged or not an SQLite database; retrying does not help."""
    return error_code(error) in _CORRUPT_CODES
