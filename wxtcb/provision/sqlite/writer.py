"""The thread that alone touches the file of a `SqliteJournal`, and puts all that waits into one transaction."""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import sqlite3
import threading
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import attrs

from wxtcb._sqlite import Unfit
from wxtcb.provision.journal import JournalError
from wxtcb.provision.sqlite.failures import explain
from wxtcb.provision.sqlite.file import JournalFile
from wxtcb.provision.sqlite.schema import Unreadable


@attrs.define(eq=False)
class Job:
    """Something to be asked of the tables, what came of it, and the future that is told."""

    ask: Callable[[sqlite3.Connection], Any]  # what it returns is what the future is of
    future: asyncio.Future[Any]
    answer: Any = None
    error: JournalError | None = None

    def settle(self) -> None:
        if self.future.done():
            return
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(self.answer)


@attrs.define(eq=False)
class Writer:
    """A thread that owns the connection to the file at `path`; the first job starts it.

    Nobody else knows the connection: in the child of a fork it must not be used, nor even closed.
    """

    path: Path
    _jobs: queue.SimpleQueue[Job | None] = attrs.field(init=False, factory=queue.SimpleQueue["Job | None"])
    _closed: Future[None] = attrs.field(init=False, factory=Future[None])
    _pid: int | None = attrs.field(init=False, default=None)
    _stopped: bool = attrs.field(init=False, default=False)
    _lock: threading.Lock = attrs.field(init=False, factory=threading.Lock)

    def submit(self, job: Job) -> None:
        """Have *job* done together with those that wait already."""
        if self._is_inherited():
            raise JournalError(f"{self.path} was opened before this process was forked; open it on one side alone")
        with self._lock:
            if self._stopped:
                raise JournalError(f"the journal {self.path} was closed")
            if self._pid is None:
                threading.Thread(target=self._run, name="wxtcb-journal", daemon=True).start()
                self._pid = os.getpid()
            self._jobs.put(job)

    def stop(self) -> Future[None]:
        """Have done what was asked so far and the file closed; the future tells when, or why not."""
        if self._is_inherited():
            self._closed = Future()
            self._closed.set_result(None)
            return self._closed
        with self._lock:
            if not self._stopped:
                self._stopped = True
                self._jobs.put(None)
                if self._pid is None:
                    self._closed.set_result(None)
        return self._closed

    def is_open(self) -> bool:
        return self._pid is not None and not self._stopped and not self._is_inherited()

    def _is_inherited(self) -> bool:
        """Tell whether the thread is on the other side of a fork; asked without the lock, which may be held there."""
        return self._pid not in (None, os.getpid())

    def _run(self) -> None:
        file = JournalFile(self.path)
        while self._turn(file):
            pass

    def _turn(self, file: JournalFile) -> bool:
        waiting = self._take()
        jobs = [job for job in waiting if job is not None and not job.future.cancelled()]
        if jobs:
            self._do(jobs, file)
            _tell(jobs)
        if None in waiting:
            self._close(file)
            return False
        file.tidy()
        return True

    def _take(self) -> list[Job | None]:
        """Return all that waits, as soon as something does."""
        first = self._jobs.get()
        return [first, *(self._jobs.get() for _ in range(self._jobs.qsize()))]

    def _do(self, jobs: list[Job], file: JournalFile) -> None:
        """Have all kept in one transaction, or none; what one cannot read harms no other."""
        try:
            with file.transaction() as db:
                for job in jobs:
                    try:
                        job.answer = job.ask(db)
                    except Unreadable as error:
                        job.error = explain(error, self.path)
        except Exception as error:
            for job in jobs:
                job.error = explain(error, self.path)

    def _close(self, file: JournalFile) -> None:
        try:
            file.close()
        except Unfit as error:
            self._closed.set_exception(explain(error, self.path))
        except Exception as error:
            self._closed.set_exception(JournalError(f"{explain(error, self.path)}; keep {self.path}-wal with the file"))
        else:
            self._closed.set_result(None)


def _tell(jobs: list[Job]) -> None:
    """Wake each loop once."""
    by_loop: dict[asyncio.AbstractEventLoop, list[Job]] = defaultdict(list)
    for job in jobs:
        by_loop[job.future.get_loop()].append(job)
    for loop, told in by_loop.items():
        with contextlib.suppress(RuntimeError):  # it was closed without a word to who waited in it
            loop.call_soon_threadsafe(_settle, told)


def _settle(jobs: list[Job]) -> None:
    for job in jobs:
        job.settle()
