"""File of a `SqliteJournal`: opened, checked for damage, and recognised if it is replaced. All functions block."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import attrs

from wxtcb._files import sqlite
from wxtcb._files.sqlite import UnusableFile, connect, error_code, file_identity, is_locked, pragma, sidecar_path
from wxtcb.provision.journal import JournalError, JournalInUse
from wxtcb.provision.sqlite.schema import JOURNAL_FORMAT, CorruptRow

# Seconds to wait for another process that writes. 100,000 tenants are submitted in less.
BUSY_TIMEOUT: Final = 10.0
_files: Final[weakref.WeakSet[JournalFile]] = weakref.WeakSet()


@attrs.define(eq=False)
class JournalFile:
    """The journal file at `path`; opened when first used, and again after most failures. It is created at most once."""

    path: Path
    _db: sqlite3.Connection | None = attrs.field(init=False, default=None)
    _data_version: int | None = attrs.field(init=False, default=None)
    # Of the file, since it was first opened, and of its log, since it was last opened.
    _inode: tuple[int, int] | None = attrs.field(init=False, default=None)
    _wal_inode: tuple[int, int] | None = attrs.field(init=False, default=None)
    # Held while the connection is in use.
    lock: threading.Lock = attrs.field(init=False, factory=threading.Lock)

    def __attrs_post_init__(self) -> None:
        _files.add(self)

    @contextlib.contextmanager
    def transaction(self, *, write: bool = False) -> Iterator[sqlite3.Connection]:
        """Run a transaction, which writes only with *write*; if the block raises, nothing of it is stored."""
        with self.lock:
            db = self._ensure_open()
            try:
                # IMMEDIATE: a transaction that first reads could not write once another process has written.
                db.execute("BEGIN IMMEDIATE" if write else "BEGIN")
                yield db
                db.execute("COMMIT")
                # What was written into a log that was deleted meanwhile is lost.
                self._check_replaced()
            except BaseException as error:
                self._recover(db, error)
                raise

    def has_changed(self, db: sqlite3.Connection) -> bool:
        """Return whether another process has written since the last call, or the connection is new."""
        before, self._data_version = self._data_version, int(pragma(db, "data_version"))
        return before != self._data_version

    def close(self) -> None:
        with self.lock:
            try:
                if self._db is not None:
                    self._check_replaced()
                    # SQLite would do it without reporting an error.
                    self._db.execute("PRAGMA wal_checkpoint").fetchone()
            finally:
                self.close_connection()

    def close_connection(self) -> None:
        """Close the connection; the caller holds `lock`."""
        db, self._db, self._data_version = self._db, None, None
        if db is not None:
            db.close()

    def _ensure_open(self) -> sqlite3.Connection:
        if self._db is not None and file_identity(sidecar_path(self.path, "wal")) is None:
            # The log was deleted. The connection still knows its contents, and closing writes them into the journal.
            self.close_connection()
        if self._db is None:
            self._db = self._open()
        self._check_replaced()
        return self._db

    def _open(self) -> sqlite3.Connection:
        _check_path(self.path)
        # A journal that has gone is not created again: everything in it would be provisioned once more.
        if self._inode is None:
            sqlite.create_private_file(self.path, JOURNAL_FORMAT)
            self._inode = file_identity(self.path)
        self._check_replaced()
        sqlite.check_access(self.path)
        if not os.access(self.path.parent, os.W_OK | os.X_OK):
            raise UnusableFile(f"the directory {self.path.parent} is not writable; make it writable for the log")
        # Another thread may close it before a fork.
        db = connect(self.path, check_same_thread=False, timeout=BUSY_TIMEOUT)
        try:
            # FULL: a commit is on the disk when it returns. On macOS, fsync leaves data in the cache of the disk.
            for setting in ("synchronous = FULL", "fullfsync = ON"):
                db.execute(f"PRAGMA {setting}")
            JOURNAL_FORMAT.ensure_schema(db, self.path)
            sqlite.enable_wal(db, self.path)
            _check_integrity(db, self.path)
        except BaseException:
            _close_without_checkpoint(db)
            raise
        self._wal_inode = file_identity(sidecar_path(self.path, "wal"))
        return db

    def _check_replaced(self) -> None:
        wal = sidecar_path(self.path, "wal")
        for path, inode in ((self.path, self._inode), (wal, self._wal_inode if self._db else None)):
            if inode is not None and inode != file_identity(path):
                raise UnusableFile(
                    f"{path} was removed or replaced while the journal was in use, and nothing more is stored; if the "
                    "journal was moved, move it back next to its -wal file. Otherwise restore a copy, or start with a "
                    "new journal and adopt the existing environments"
                )

    def _recover(self, db: sqlite3.Connection, error: BaseException) -> None:
        with contextlib.suppress(sqlite3.Error):
            db.rollback()
        if error_code(error) == sqlite3.SQLITE_FULL:
            # This frees the space of the log.
            with contextlib.suppress(sqlite3.Error):
                db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        # After other errors the state of the connection is uncertain; a new one reads what is on the disk.
        elif not (isinstance(error, UnusableFile) or error_code(error) in _HARMLESS_CODES):
            self._db = self._data_version = None
            _close_without_checkpoint(db)


def _check_path(path: Path) -> None:
    # SQLite would delete a log without a database, and with it everything since the last checkpoint.
    if _file_size(sidecar_path(path, "wal")) and not _file_size(path):
        raise UnusableFile(f"{path} is missing, but its log {path.name}-wal exists; put the journal back next to it")
    # The smallest page of SQLite has 512 bytes. It takes a smaller file for an empty database.
    if path.is_file() and _file_size(path) < 512:
        if _file_size(path):
            raise UnusableFile(_MESSAGES_BY_CODE[sqlite3.SQLITE_NOTADB].format(path=path))
        # A new journal is never empty, because it is created in one step.
        raise UnusableFile(
            f"{path} is empty: a journal was truncated there, or never existed; if nothing was provisioned with it, "
            "delete it; otherwise restore a copy, or delete it and adopt the existing environments"
        )


def _check_integrity(db: sqlite3.Connection, path: Path) -> None:
    pages = int(pragma(db, "page_count")) * int(pragma(db, "page_size"))
    # Read afterwards: without a log, all of these pages are in the file. SQLite would take a part of a page for a whole
    # one.
    wal_size, size = _file_size(sidecar_path(path, "wal")), _file_size(path)
    detail = f"it has {size} bytes instead of {pages}"
    if wal_size or size >= pages:
        # Not `quick_check`, which skips the indexes: these guarantee that no two tenants own one environment.
        detail = str(pragma(db, "integrity_check(1)"))
    if detail != "ok":
        message = _MESSAGES_BY_CODE[sqlite3.SQLITE_CORRUPT]
        raise UnusableFile(message.format(path=path, error=" ".join(detail.split())))


def _close_without_checkpoint(db: sqlite3.Connection) -> None:
    # `close` of the last connection runs a checkpoint, which would write into a damaged file. A pending interrupt makes
    # that checkpoint fail.
    db.interrupt()
    db.close()


def _file_size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


# SQLite's locks belong to a process. If a connection were open during a fork, the child would take the parent's locks
# for its own: the parent could then delete the log that a new journal of the child writes.
def _before_fork() -> None:
    for file in tuple(_files):
        file.lock.acquire()
        _files_during_fork.append(file)
        file.close_connection()


def _after_fork() -> None:
    while _files_during_fork:
        _files_during_fork.pop().lock.release()


_files_during_fork: Final[list[JournalFile]] = []
# The function is missing on Windows, which has no fork.
getattr(os, "register_at_fork", dict)(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork)

_RECOVERY_HINT: Final = (
    "keep the file and its -wal file in another place; then restore a copy, or start with a new journal and adopt the "
    "existing environments"
)
# The transaction was not begun, or not committed, because another process has a lock.
_HARMLESS_CODES: Final = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
_MESSAGES_BY_CODE: Final = {
    sqlite3.SQLITE_FULL: "no space left on the disk of {path}; nothing was stored; free some space",
    sqlite3.SQLITE_CORRUPT: "{path} is damaged ({error}) and was left unchanged; " + _RECOVERY_HINT,
    sqlite3.SQLITE_NOTADB: "{path} is not a journal, or its header is damaged; it was left unchanged",
    sqlite3.SQLITE_CANTOPEN: "{path} or its -wal file is not writable ({error}); make both writable for this process",
    sqlite3.SQLITE_READONLY: "{path} or its -wal file is not writable ({error}); make both writable for this process",
    sqlite3.SQLITE_PROTOCOL: "{path} cannot be locked ({error}); move it to a local disk",
    sqlite3.SQLITE_NOLFS: "{path} is too large for its file system ({error}); move it to a local disk",
}
# Extended codes that mean a file system without locks, such as some network file systems.
_LOCK_ERROR_CODES: Final = (
    sqlite3.SQLITE_IOERR_LOCK,
    sqlite3.SQLITE_IOERR_RDLOCK,
    sqlite3.SQLITE_IOERR_UNLOCK,
    sqlite3.SQLITE_IOERR_CHECKRESERVEDLOCK,
)


def to_journal_error(error: Exception, path: Path) -> JournalError:
    """Return the `JournalError` for *error*, with *error* as its cause."""
    if isinstance(error, JournalError):
        return error
    if isinstance(error, CorruptRow):
        hint = f"{_RECOVERY_HINT}; do not only delete the row: the environment of the tenant would be created again"
        journal_error = JournalError(f"{path} is damaged: {error}; {hint}")
    elif isinstance(error, UnusableFile):
        journal_error = JournalError(str(error))
    elif is_locked(error):
        journal_error = JournalInUse(
            f"another process has been writing to {path} for {BUSY_TIMEOUT:g} s, so nothing was stored; if it is "
            "stopped, let it go on or kill it: what it had not stored completely is undone"
        )
    elif isinstance(error, sqlite3.Error):
        unknown = "{path}: {error}; the change may have been stored: load the record and compare its version"
        no_locks = getattr(error, "sqlite_errorcode", 0) in _LOCK_ERROR_CODES
        code = sqlite3.SQLITE_PROTOCOL if no_locks else error_code(error)
        journal_error = JournalError(_MESSAGES_BY_CODE.get(code, unknown).format(path=path, error=error))
    elif isinstance(error, OSError):
        journal_error = JournalError(f"{path}: {error.strerror}")
    else:
        journal_error = JournalError(f"{path}: {type(error).__name__}: {error}")
    # Without its frames, which would keep the jobs of the whole batch alive as long as one caller keeps the error.
    journal_error.__cause__ = error.with_traceback(None)
    return journal_error
