"""The file of a `SqliteJournal`: held by one process alone, and never left between two states; all of it blocks."""

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

from wxtcb._sqlite import (
    UnusableFile,
    check_access,
    connect,
    create_private_file,
    enable_wal,
    error_code,
    file_identity,
    is_locked,
    pragma,
    sidecar_path,
)
from wxtcb.provision.journal import JournalError, JournalInUse
from wxtcb.provision.sqlite.schema import JOURNAL_FORMAT, CorruptRow

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


_LOCKED_FDS: Final[set[int]] = set()


@attrs.define(eq=False)
class WalLock:
    """The ``-wal`` at `path`, locked by whoever has the journal open.

    SQLite locks the journal itself, but by what POSIX takes away when anything in the process, be it a backup, closes
    that file; nothing but its own end takes this lock away. It is on the log because the BSDs and macOS would hold one
    on the journal against SQLite. Where there is no ``flock``, closing takes nothing away, and SQLite's lock does.
    """

    path: Path
    _fd: int | None = attrs.field(init=False, default=None)
    _inode: tuple[int, int] | None = attrs.field(init=False, default=None)

    def acquire(self) -> None:
        """Lock the log that is there now, if any; `BlockingIOError` if somebody else has it."""
        inode = file_identity(self.path)
        if inode in (None, self._inode):
            return
        self.release()
        with contextlib.suppress(FileNotFoundError):  # who had it has just closed it
            self._fd = _lock_file(self.path)
            self._inode = inode

    def release(self) -> None:
        """Give it up; only when SQLite has closed the journal."""
        handle, self._fd, self._inode = self._fd, None, None
        if handle is not None:
            _LOCKED_FDS.discard(handle)
            os.close(handle)

    def wal_exists(self) -> bool:
        return file_identity(self.path) is not None

    def is_wal_replaced(self) -> bool:
        return file_identity(self.path) not in (None, self._inode)


def _lock_file(path: Path) -> int | None:
    try:
        from fcntl import LOCK_EX, LOCK_NB, flock
    except ImportError:
        return None
    handle = os.open(path, os.O_RDONLY)
    try:
        flock(handle, LOCK_EX | LOCK_NB)
    except OSError:
        os.close(handle)
        raise
    _LOCKED_FDS.add(handle)
    return handle


def _close_inherited_fds() -> None:
    """Have the child of a fork share no lock: it may live longer than its parent."""
    while _LOCKED_FDS:
        os.close(_LOCKED_FDS.pop())


with contextlib.suppress(AttributeError):  # where nothing forks
    os.register_at_fork(after_in_child=_close_inherited_fds)


_MIN_FILE_BYTES: Final = 512  # a page of SQLite; it takes what is smaller for empty
_MAX_WAL_BYTES: Final = 4 * 1024 * 1024
_OPEN_ATTEMPTS: Final = 3
_MAX_OPEN_BACKOFF: Final = 0.03


def _make_wal_lock(file: JournalFile) -> WalLock:
    return WalLock(sidecar_path(file.path, "wal"))


@attrs.define(eq=False)
class JournalFile:
    """The file at `path`, opened when first needed, and anew after most failures.

    Once it was opened it is not made again: a journal that vanished must not come back without what it knew.
    """

    path: Path
    uniform: Callable[[float, float], float] = random.uniform
    _db: sqlite3.Connection | None = attrs.field(init=False, default=None)
    _wal_lock: WalLock = attrs.field(init=False, default=attrs.Factory(_make_wal_lock, takes_self=True))
    _inode: tuple[int, int] | None = attrs.field(init=False, default=None)
    _fingerprint: tuple[int, int] | None = attrs.field(init=False, default=None)  # when we last wrote to it

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Keep on disk all that is done within, or nothing if anything raises."""
        db = self._ensure_open()
        try:
            db.execute("BEGIN")
            yield db
            db.execute("COMMIT")
        except BaseException as error:
            self._recover(db, error)
            raise

    def checkpoint(self) -> None:
        """Write a log that has grown back into the file, and empty it.

        It is emptied at once, for the file may not be older than a part of its log: if such a log lost its end, pages
        of two moments would mix.
        """
        with contextlib.suppress(sqlite3.Error, OSError):  # it only grows on then
            if (
                self._db is not None
                and _file_size(self._wal_lock.path) > _MAX_WAL_BYTES
                and self._detect_external_change() is None
            ):
                self._truncate_wal(self._db)

    def close(self) -> None:
        """Close the file, which has everything then; if it has not, that raises, and the log is kept.

        What somebody else did to it raises as well. One that was moved is completed where it is; one that was written
        to, or has another log, is left as it is.
        """
        try:
            harm = self._detect_external_change()
            if self._db is not None and (harm is None or self._is_missing()):
                self._truncate_wal(self._db)
        finally:
            self._close_connection()
        if harm is not None:
            raise harm

    def _ensure_open(self) -> sqlite3.Connection:
        harm = self._detect_external_change()
        if harm is not None:
            raise harm
        if self._db is not None and not self._wal_lock.wal_exists():
            self.close()  # the log was removed: what it held is written into the file while it is still known
        if self._db is None:
            self._db = self._open_with_retries()
            self._inode, self._fingerprint = file_identity(self.path), _read_fingerprint(self.path)
        return self._db

    def _detect_external_change(self) -> UnusableFile | None:
        """Return what tells of harm that somebody else did; only we write to the file, and know when we last did."""
        if self._is_missing():
            return file_missing(self.path)
        if self._db is not None and (
            self._fingerprint != _read_fingerprint(self.path) or self._wal_lock.is_wal_replaced()
        ):
            return file_changed(self.path)
        return None

    def _is_missing(self) -> bool:
        return self._inode is not None and self._inode != file_identity(self.path)

    def _open_with_retries(self) -> sqlite3.Connection:
        """Open the file; two who do that at once may both meet the lock of the other, so only one that lasts counts."""
        for _ in range(_OPEN_ATTEMPTS - 1):
            try:
                return _open_locked(self.path, self._wal_lock)
            except (sqlite3.OperationalError, BlockingIOError) as error:
                if not is_locked(error):
                    raise
            time.sleep(self.uniform(0, _MAX_OPEN_BACKOFF))
        return _open_locked(self.path, self._wal_lock)

    def _recover(self, db: sqlite3.Connection, error: BaseException) -> None:
        """Make room in the log if the disk is full; after all else nothing is certain, so what is on disk decides."""
        if error_code(error) != sqlite3.SQLITE_FULL:
            self._close_connection()
            return
        with contextlib.suppress(sqlite3.Error):
            db.rollback()
            self._truncate_wal(db)

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
    """Open the file, for us alone: both its locks are taken, or none."""
    try:
        wal_lock.acquire()  # before anything is read: its owner may be writing
        size = _file_size(wal_lock.path)
        _check_path(path, size)
        return _connect(path, wal_lock, size)
    except BaseException:
        wal_lock.release()
        raise


def _connect(path: Path, wal_lock: WalLock, wal_size: int) -> sqlite3.Connection:
    """Open the file, whole and ours; any other is left alone."""
    db = connect(path)
    try:
        db.execute("PRAGMA locking_mode = EXCLUSIVE")
        db.execute("PRAGMA synchronous = FULL")
        db.execute("PRAGMA fullfsync = ON")  # without it macOS leaves what it synchronised in the cache of the disk
        JOURNAL_FORMAT.ensure_schema(db, path)
        _check_integrity(db, path, wal_size)
        enable_wal(db, path)
        db.execute("PRAGMA wal_autocheckpoint = 0")
        db.execute("SELECT 1 FROM home").fetchone()  # makes the log
        wal_lock.acquire()
    except BaseException:
        _close_without_checkpoint(db)
        raise
    return db


def _check_path(path: Path, wal_size: int) -> None:
    if wal_size and not _file_size(path):
        raise UnusableFile(f"there is no {path}, but the log of one beside it, {path.name}-wal: put the journal back")
    if path.is_file() and _file_size(path) < _MIN_FILE_BYTES:
        raise not_a_journal(path) if _file_size(path) else file_empty(path)
    if file_identity(path) is None:
        create_private_file(path, JOURNAL_FORMAT)
    check_access(path)
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise UnusableFile(
            f"the directory {path.parent} must be writable for this process: a log is kept beside {path.name}"
        )


def _check_integrity(db: sqlite3.Connection, path: Path, wal_size: int) -> None:
    """Refuse a damaged file. Its indexes are checked as well: the claims of tenants stand on them."""
    pages = int(pragma(db, "page_count")) * int(pragma(db, "page_size"))
    if not wal_size and path.stat().st_size != pages:
        raise file_damaged(path, f"it has {path.stat().st_size} bytes instead of {pages}")
    found = pragma(db, "integrity_check(1)")
    if found != "ok":
        raise file_damaged(path, str(found))


def _close_without_checkpoint(db: sqlite3.Connection) -> None:
    """Close the file as it is: the interrupt keeps SQLite from writing back what is in the log."""
    db.interrupt()
    db.close()


def _read_fingerprint(path: Path) -> tuple[int, int] | None:
    """Return what changes whenever somebody writes to a file; None if there is none."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_size, found.st_mtime_ns


def _file_size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
