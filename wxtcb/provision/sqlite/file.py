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
from wxtcb.provision.sqlite.failures import file_changed, file_damaged, file_empty, file_missing, not_a_journal
from wxtcb.provision.sqlite.log import WalLock
from wxtcb.provision.sqlite.schema import JOURNAL_FORMAT

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
