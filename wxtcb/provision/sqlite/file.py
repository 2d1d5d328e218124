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

from wxtcb._sqlite import Unfit, beside, check_access, code_of, connect, create, inode_of, is_locked, keep_log, pragma
from wxtcb.provision.sqlite.failures import damaged, emptied, lost, no_journal, overwritten
from wxtcb.provision.sqlite.log import Log
from wxtcb.provision.sqlite.schema import JOURNAL

_LEAST_BYTES: Final = 512  # a page of SQLite; it takes what is smaller for empty
_LOG_BYTES: Final = 4 * 1024 * 1024
_TRIES: Final = 3
_MOMENT: Final = 0.03


def _log_of(file: JournalFile) -> Log:
    return Log(beside(file.path, "wal"))


@attrs.define(eq=False)
class JournalFile:
    """The file at `path`, opened when first needed, and anew after most failures.

    Once it was opened it is not made again: a journal that vanished must not come back without what it knew.
    """

    path: Path
    uniform: Callable[[float, float], float] = random.uniform
    _db: sqlite3.Connection | None = attrs.field(init=False, default=None)
    _log: Log = attrs.field(init=False, default=attrs.Factory(_log_of, takes_self=True))
    _inode: tuple[int, int] | None = attrs.field(init=False, default=None)
    _content: tuple[int, int] | None = attrs.field(init=False, default=None)  # when we last wrote to it

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Keep on disk all that is done within, or nothing if anything raises."""
        db = self._opened()
        try:
            db.execute("BEGIN")
            yield db
            db.execute("COMMIT")
        except BaseException as error:
            self._recover(db, error)
            raise

    def tidy(self) -> None:
        """Write a log that has grown back into the file, and empty it.

        It is emptied at once, for the file may not be older than a part of its log: if such a log lost its end, pages
        of two moments would mix.
        """
        with contextlib.suppress(sqlite3.Error, OSError):  # it only grows on then
            if self._db is not None and _size_of(self._log.path) > _LOG_BYTES and self._harm() is None:
                self._empty_log(self._db)

    def close(self) -> None:
        """Close the file, which has everything then; if it has not, that raises, and the log is kept.

        What somebody else did to it raises as well. One that was moved is completed where it is; one that was written
        to, or has another log, is left as it is.
        """
        try:
            harm = self._harm()
            if self._db is not None and (harm is None or self._is_gone()):
                self._empty_log(self._db)
        finally:
            self._drop()
        if harm is not None:
            raise harm

    def _opened(self) -> sqlite3.Connection:
        harm = self._harm()
        if harm is not None:
            raise harm
        if self._db is not None and not self._log.exists():
            self.close()  # the log was removed: what it held is written into the file while it is still known
        if self._db is None:
            self._db = self._open()
            self._inode, self._content = inode_of(self.path), _content_of(self.path)
        return self._db

    def _harm(self) -> Unfit | None:
        """Return what tells of harm that somebody else did; only we write to the file, and know when we last did."""
        if self._is_gone():
            return lost(self.path)
        if self._db is not None and (self._content != _content_of(self.path) or self._log.is_replaced()):
            return overwritten(self.path)
        return None

    def _is_gone(self) -> bool:
        return self._inode is not None and self._inode != inode_of(self.path)

    def _open(self) -> sqlite3.Connection:
        """Open the file; two who do that at once may both meet the lock of the other, so only one that lasts counts."""
        for _ in range(_TRIES - 1):
            try:
                return _open(self.path, self._log)
            except (sqlite3.OperationalError, BlockingIOError) as error:
                if not is_locked(error):
                    raise
            time.sleep(self.uniform(0, _MOMENT))
        return _open(self.path, self._log)

    def _recover(self, db: sqlite3.Connection, error: BaseException) -> None:
        """Make room in the log if the disk is full; after all else nothing is certain, so what is on disk decides."""
        if code_of(error) != sqlite3.SQLITE_FULL:
            self._drop()
            return
        with contextlib.suppress(sqlite3.Error):
            db.rollback()
            self._empty_log(db)

    def _drop(self) -> None:
        db, self._db = self._db, None
        if db is not None:
            _leave(db)
        self._log.release()

    def _empty_log(self, db: sqlite3.Connection) -> None:
        try:
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        finally:
            self._content = _content_of(self.path)


def _open(path: Path, log: Log) -> sqlite3.Connection:
    """Open the file, for us alone: both its locks are taken, or none."""
    try:
        log.hold()  # before anything is read: its owner may be writing
        size = _size_of(log.path)
        _check_place(path, size)
        return _connect(path, log, size)
    except BaseException:
        log.release()
        raise


def _connect(path: Path, log: Log, size: int) -> sqlite3.Connection:
    """Open the file, whole and ours; any other is left alone."""
    db = connect(path)
    try:
        db.execute("PRAGMA locking_mode = EXCLUSIVE")
        db.execute("PRAGMA synchronous = FULL")
        db.execute("PRAGMA fullfsync = ON")  # without it macOS leaves what it synchronised in the cache of the disk
        JOURNAL.settle_in(db, path)
        _check_whole(db, path, size)
        keep_log(db, path)
        db.execute("PRAGMA wal_autocheckpoint = 0")
        db.execute("SELECT 1 FROM home").fetchone()  # makes the log
        log.hold()
    except BaseException:
        _leave(db)
        raise
    return db


def _check_place(path: Path, log: int) -> None:
    if log and not _size_of(path):
        raise Unfit(f"there is no {path}, but the log of one beside it, {path.name}-wal: put the journal back")
    if path.is_file() and _size_of(path) < _LEAST_BYTES:
        raise no_journal(path) if _size_of(path) else emptied(path)
    if inode_of(path) is None:
        create(path, JOURNAL)
    check_access(path)
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise Unfit(f"the directory {path.parent} must be writable for this process: a log is kept beside {path.name}")


def _check_whole(db: sqlite3.Connection, path: Path, log: int) -> None:
    """Refuse a damaged file. Its indexes are checked as well: the claims of tenants stand on them."""
    pages = int(pragma(db, "page_count")) * int(pragma(db, "page_size"))
    if not log and path.stat().st_size != pages:
        raise damaged(path, f"it has {path.stat().st_size} bytes instead of {pages}")
    found = pragma(db, "integrity_check(1)")
    if found != "ok":
        raise damaged(path, str(found))


def _leave(db: sqlite3.Connection) -> None:
    """Close the file as it is: the interrupt keeps SQLite from writing back what is in the log."""
    db.interrupt()
    db.close()


def _content_of(path: Path) -> tuple[int, int] | None:
    """Return what changes whenever somebody writes to a file; None if there is none."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_size, found.st_mtime_ns


def _size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
