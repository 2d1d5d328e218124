"""File of a `SqliteJournal`: opened by one process alone, checked for damage and changes. All functions block."""

from __future__ import annotations

import contextlib
import os
import random
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import attrs

from wxtcb._files import sqlite
from wxtcb._files.sqlite import UnusableFile, connect, error_code, file_identity, is_locked, pragma, sidecar_path
from wxtcb.provision.journal import JournalError, JournalInUse
from wxtcb.provision.sqlite.schema import JOURNAL_FORMAT, CorruptRow

_MAX_WAL_BYTES: Final = 4 * 1024 * 1024
_LOCKED_FDS: Final[set[int]] = set()


@attrs.define(eq=False)
class WalLock:
    """Lock on the ``-wal`` file at `path`, held while the journal is open.

    SQLite's own lock on the journal is a POSIX lock, which the kernel releases when any part of the process closes the
    journal, such as a backup. A ``flock`` is released only with its own descriptor. On macOS and the BSDs it would
    conflict with SQLite's lock if it were on the journal. On Windows, a close elsewhere releases no lock.
    """

    path: Path
    _fd: int | None = attrs.field(init=False, default=None)
    inode: tuple[int, int] | None = attrs.field(init=False, default=None)

    def acquire(self) -> None:
        inode = file_identity(self.path)
        if inode in (None, self.inode):
            return
        self.release()
        # The file is gone if its owner has just closed the journal.
        with contextlib.suppress(FileNotFoundError):
            self._fd, self.inode = _lock_file(self.path), inode

    def release(self) -> None:
        """Release the lock; call it only after SQLite has closed the journal."""
        fd, self._fd, self.inode = self._fd, None, None
        if fd is not None:
            _LOCKED_FDS.discard(fd)
            os.close(fd)


def _lock_file(path: Path) -> int | None:
    try:
        from fcntl import LOCK_EX, LOCK_NB, flock
    except ImportError:
        return None
    fd = os.open(path, os.O_RDONLY)
    try:
        flock(fd, LOCK_EX | LOCK_NB)
    except OSError:
        os.close(fd)
        raise
    _LOCKED_FDS.add(fd)
    return fd


def _close_inherited_fds() -> None:
    # A ``flock`` belongs to the open file, which a forked child shares. If the child kept its descriptor and outlived
    # a killed parent, no process could open the journal.
    while _LOCKED_FDS:
        os.close(_LOCKED_FDS.pop())


# `register_at_fork` exists only where processes can fork.
with contextlib.suppress(AttributeError):
    os.register_at_fork(after_in_child=_close_inherited_fds)


@attrs.define(eq=False)
class JournalFile:
    """The journal file at `path`; opened when first used, and again after most failures. It is created at most once."""

    path: Path
    uniform: Callable[[float, float], float] = random.uniform
    _db: sqlite3.Connection | None = attrs.field(init=False, default=None)
    _wal_lock: WalLock = attrs.field(init=False)
    _inode: tuple[int, int] | None = attrs.field(init=False, default=None)
    # Size and time of the last write by this process.
    _fingerprint: tuple[int, int] | None = attrs.field(init=False, default=None)

    def __attrs_post_init__(self) -> None:
        self._wal_lock = WalLock(sidecar_path(self.path, "wal"))

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Run a transaction; if the block raises, nothing of it is stored."""
        db = self._ensure_open()
        try:
            db.execute("BEGIN")
            yield db
            db.execute("COMMIT")
        except BaseException as error:
            # After most errors the state of the connection is uncertain; a new one reads what is on the disk. A full
            # disk is different: the transaction is rolled back, and the checkpoint frees the space of the log.
            if error_code(error) == sqlite3.SQLITE_FULL:
                with contextlib.suppress(sqlite3.Error):
                    db.rollback()
                    self._truncate_wal(db)
            else:
                self._close_connection()
            raise

    def checkpoint(self) -> None:
        # TRUNCATE: after a partial checkpoint the journal would be older than a part of its log. If that log lost its
        # end in a crash, pages of two moments would be mixed. After a failed checkpoint the log only keeps growing.
        with contextlib.suppress(sqlite3.Error, OSError):
            is_large = _file_size(self._wal_lock.path) > _MAX_WAL_BYTES
            if self._db is not None and is_large and self._detect_external_change() is None:
                self._truncate_wal(self._db)

    def close(self) -> None:
        try:
            change = self._detect_external_change()
            # The connection still refers to a moved file, so its log can be written back. After other changes, a write
            # could destroy what the other program has put there.
            if self._db is not None and (change is None or self._is_missing()):
                self._truncate_wal(self._db)
        finally:
            self._close_connection()
        if change is not None:
            raise change

    def _ensure_open(self) -> sqlite3.Connection:
        if (change := self._detect_external_change()) is not None:
            raise change
        if self._db is not None and file_identity(self._wal_lock.path) is None:
            # The log was deleted. The connection still knows its contents, and closing writes them into the journal.
            self.close()
        if self._db is None:
            self._db = self._open_with_retries()
            self._inode, self._fingerprint = file_identity(self.path), _read_fingerprint(self.path)
        return self._db

    def _detect_external_change(self) -> UnusableFile | None:
        if self._is_missing():
            return UnusableFile(
                f"{self.path} was removed or replaced while it was in use, and nothing more is stored; if it was "
                "moved, move it back: it is complete once this run has ended. Otherwise restore a copy, or start with "
                "a new journal and adopt the existing environments"
            )
        # Only checkpoints write to the journal itself, and each one updates the fingerprint.
        lock, is_same = self._wal_lock, self._db is None or self._fingerprint == _read_fingerprint(self.path)
        if is_same and (self._db is None or file_identity(lock.path) in (None, lock.inode)):
            return None
        return UnusableFile(
            f"another program wrote to {self.path} or replaced {self.path.name}-wal while it was in use, so the two "
            f"may not belong together; they were left unchanged, and nothing more is stored; {_RECOVERY_HINT}"
        )

    def _is_missing(self) -> bool:
        return self._inode is not None and self._inode != file_identity(self.path)

    def _open_with_retries(self) -> sqlite3.Connection:
        # Two processes that open the file at the same time may both meet the other's lock, and both give up.
        for _ in range(2):
            try:
                return _open_locked(self.path, self._wal_lock)
            except (sqlite3.OperationalError, BlockingIOError) as error:
                if not is_locked(error):
                    raise
            time.sleep(self.uniform(0, 0.03))
        return _open_locked(self.path, self._wal_lock)

    def _close_connection(self) -> None:
        db, self._db = self._db, None
        if db is not None:
            _close_without_checkpoint(db)
        self._wal_lock.release()

    def _truncate_wal(self, db: sqlite3.Connection) -> None:
        try:
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        finally:
            self._fingerprint = _read_fingerprint(self.path)


def _open_locked(path: Path, wal_lock: WalLock) -> sqlite3.Connection:
    """Open the file and take both locks, or neither."""
    try:
        # Before anything is read: the owner of the lock may be writing.
        wal_lock.acquire()
        wal_size = _file_size(wal_lock.path)
        _check_path(path, wal_size)
        return _connect(path, wal_lock, wal_size)
    except BaseException:
        wal_lock.release()
        raise


def _check_path(path: Path, wal_size: int) -> None:
    # SQLite would delete a log without a database, and with it everything since the last checkpoint.
    if wal_size and not _file_size(path):
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
    if file_identity(path) is None:
        sqlite.create_private_file(path, JOURNAL_FORMAT)
    sqlite.check_access(path)
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise UnusableFile(f"the directory {path.parent} is not writable; make it writable for the journal's log")


def _connect(path: Path, wal_lock: WalLock, wal_size: int) -> sqlite3.Connection:
    db = connect(path)
    try:
        # On macOS, fsync leaves data in the cache of the disk; F_FULLFSYNC does not.
        for setting in ("locking_mode = EXCLUSIVE", "synchronous = FULL", "fullfsync = ON"):
            db.execute(f"PRAGMA {setting}")
        JOURNAL_FORMAT.ensure_schema(db, path)
        _check_integrity(db, path, wal_size)
        sqlite.enable_wal(db, path)
        # `checkpoint` decides when; an automatic checkpoint would change the fingerprint unnoticed.
        db.execute("PRAGMA wal_autocheckpoint = 0")
        # The first read creates the log, which can then be locked.
        db.execute("SELECT 1 FROM home").fetchone()
        wal_lock.acquire()
    except BaseException:
        _close_without_checkpoint(db)
        raise
    return db


def _check_integrity(db: sqlite3.Connection, path: Path, wal_size: int) -> None:
    pages, size = int(pragma(db, "page_count")) * int(pragma(db, "page_size")), path.stat().st_size
    detail = f"it has {size} bytes instead of {pages}"
    # While a log exists, the file may be shorter than the database.
    if wal_size or size == pages:
        # Not `quick_check`, which skips the indexes: these guarantee that no two tenants own one environment.
        detail = str(pragma(db, "integrity_check(1)"))
    if detail != "ok":
        message = _MESSAGES_BY_CODE[sqlite3.SQLITE_CORRUPT]
        raise UnusableFile(message.format(path=path, error=" ".join(detail.split())))


def _close_without_checkpoint(db: sqlite3.Connection) -> None:
    # `close` of the last connection runs a checkpoint, which could write into a file that was replaced or is damaged.
    # A pending interrupt makes that checkpoint fail.
    db.interrupt()
    db.close()


def _read_fingerprint(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_size, found.st_mtime_ns


def _file_size(path: Path) -> int:
    return (_read_fingerprint(path) or (0, 0))[0]


_RECOVERY_HINT: Final = (
    "keep the file and its -wal file in another place; then restore a copy, or start with a new journal and adopt the "
    "existing environments"
)
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
    if isinstance(error, CorruptRow):
        hint = f"{_RECOVERY_HINT}; do not only delete the row: the environment of the tenant would be created again"
        journal_error = JournalError(f"{path} is damaged: {error}; {hint}")
    elif isinstance(error, UnusableFile):
        journal_error = JournalError(str(error))
    elif is_locked(error):
        journal_error = JournalInUse(f"{path} is in use by another process or SqliteJournal; close that one first")
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
