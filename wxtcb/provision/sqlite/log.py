"""The log beside the file of a journal, and the lock on it; all of it blocks."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Final

import attrs

from wxtcb._sqlite import file_identity

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
