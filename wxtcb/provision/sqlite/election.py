"""Election by a lock of the operating system: a process is elected until it releases the lock or ends."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
import threading
import time
import weakref
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Final

import attrs

from wxtcb._files.sqlite import file_identity
from wxtcb.provision.election import Leader, Term
from wxtcb.provision.sqlite.thread import JournalThread

_locks: Final[weakref.WeakSet[ProcessLock]] = weakref.WeakSet()


@attrs.define(eq=False)
class ProcessLock:
    """Lock on the file at `path`, which ends with the process, also with kill -9.

    It is a file of its own, because the kernel releases the locks of SQLite on the journal when any part of the process
    closes it. The file is deleted with the lock.
    """

    path: Path
    _fd: int | None = attrs.field(init=False, default=None)
    _mutex: threading.Lock = attrs.field(init=False, factory=threading.Lock)

    def __attrs_post_init__(self) -> None:
        _locks.add(self)

    @property
    def is_held(self) -> bool:
        return self._fd is not None

    def acquire(self) -> bool:
        """Take the lock; return False if another process has it."""
        with self._mutex:
            # Three times: `is_held_elsewhere` of another process takes the lock for a moment.
            for _ in range(3):
                fd = os.open(self.path, os.O_RDONLY | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o600)
                # Another process may have deleted the file, with its lock, since it was opened.
                status = os.fstat(fd)
                if _try_lock(fd) and file_identity(self.path) == (status.st_dev, status.st_ino):
                    self._fd = fd
                    return True
                os.close(fd)
                time.sleep(0.001)
            return False

    def release(self) -> None:
        """Release the lock, if it is held."""
        with self._mutex:
            fd, self._fd = self._fd, None
            if fd is not None:
                # Before the lock ends, so that no lock of another process is deleted. Windows deletes no open file.
                with contextlib.suppress(OSError):
                    self.path.unlink()
                os.close(fd)

    def forget(self) -> None:
        """Leave the lock to the parent of this forked process."""
        # Another thread of the parent may have held the mutex.
        fd, self._fd, self._mutex = self._fd, None, threading.Lock()
        # A ``flock`` belongs to the open file, which both share. If the child kept its descriptor and outlived a killed
        # parent, no process could be elected.
        if fd is not None:
            os.close(fd)

    def is_held_elsewhere(self) -> bool:
        """Return whether another process, or another object, has the lock."""
        try:
            fd = os.open(self.path, os.O_RDONLY)
        except FileNotFoundError:
            return False
        try:
            return not _try_lock(fd)
        finally:
            os.close(fd)


def _try_lock(fd: int) -> bool:
    try:
        from fcntl import LOCK_EX, LOCK_NB, flock
    except ImportError:
        msvcrt = import_module("msvcrt")
        lock = partial(msvcrt.locking, fd, msvcrt.LK_NBLCK, 1)
    else:
        lock = partial(flock, fd, LOCK_EX | LOCK_NB)
    try:
        lock()
    except OSError:
        return False
    return True


def _forget_locks() -> None:
    for lock in tuple(_locks):
        lock.forget()


# The function is missing on Windows, which has no fork.
getattr(os, "register_at_fork", dict)(after_in_child=_forget_locks)


@attrs.define(eq=False)
class SqliteElection:
    """Election among the processes that use the file of a `SqliteJournal`. Its terms end only with the process."""

    _thread: JournalThread
    lock: ProcessLock
    # Those who hold the lock for this process; used on the thread only.
    _holder: str | None = attrs.field(init=False, default=None)
    _epoch: int | None = attrs.field(init=False, default=None)

    async def acquire(self, holder: str, lease: float) -> Term | None:  # noqa: ARG002 - the lock has no lease
        task = asyncio.ensure_future(self._acquire(holder))
        try:
            return await asyncio.shield(task)
        except BaseException:
            # The lock may be held although the term was not stored, or is not known to the caller.
            task.add_done_callback(self._abandon)
            raise

    async def renew(self, term: Term) -> bool:
        return await self._thread.run(partial(self._is_elected, term.epoch))

    async def release(self, term: Term) -> None:
        # In two steps: the lock ends also if the file cannot be written.
        if await self._thread.run(partial(self._unlock, term.epoch)):
            statement = "UPDATE leader SET holder = NULL WHERE epoch = ?"
            await self._thread.run(lambda db: db.execute(statement, (term.epoch,)).close(), write=True)

    async def leader(self) -> Leader | None:
        return await self._thread.run(self._find_leader)

    async def _acquire(self, holder: str) -> Term | None:
        # Not in a transaction that writes, which would disturb the elected process.
        if not await self._thread.run(partial(self._lock_for, holder)):
            return None
        return Term(await self._thread.run(partial(self._begin_term, holder), write=True), None)

    def _abandon(self, task: asyncio.Future[Term | None]) -> None:
        # Read, so that asyncio does not report it.
        if not task.cancelled() and (task.exception() is not None or task.result() is not None):
            self.lock.release()

    def _lock_for(self, holder: str, _: sqlite3.Connection) -> bool:
        if self.lock.is_held:
            return self._holder == holder
        if self.lock.acquire():
            self._holder, self._epoch = holder, None
        return self.lock.is_held

    def _begin_term(self, holder: str, db: sqlite3.Connection) -> int:
        epoch: int = db.execute("SELECT epoch FROM leader").fetchone()[0]
        # If they are equal, the response to an earlier call was lost.
        if epoch != self._epoch:
            self._epoch = epoch = epoch + 1
            db.execute("UPDATE leader SET epoch = ?, holder = ?", (epoch, holder))
            # The former process worked on these.
            db.execute("UPDATE desired SET taken = 0 WHERE taken")
        return epoch

    def _is_elected(self, epoch: int, db: sqlite3.Connection) -> bool:
        (present,) = db.execute("SELECT epoch FROM leader").fetchone()
        return self.lock.is_held and self._epoch == epoch == present

    def _unlock(self, epoch: int, _: sqlite3.Connection) -> bool:
        ended = self.lock.is_held and self._epoch == epoch
        if ended:
            self.lock.release()
        return ended

    def _find_leader(self, db: sqlite3.Connection) -> Leader | None:
        epoch, holder = db.execute("SELECT epoch, holder FROM leader").fetchone()
        if holder is None or not (self.lock.is_held or self.lock.is_held_elsewhere()):
            return None
        return Leader(holder, epoch, None)
