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

from wxtcb._sqlite import UnusableFile
from wxtcb.provision.journal import JournalError
from wxtcb.provision.sqlite.failures import to_journal_error
from wxtcb.provision.sqlite.file import JournalFile
from wxtcb.provision.sqlite.schema import CorruptRow


@attrs.define(eq=False)
class QueryJob:
    """Something to be asked of the tables, what came of it, and the future that is told."""

    query: Callable[[sqlite3.Connection], Any]  # what it returns is what the future is of
    future: asyncio.Future[Any]
    result: Any = None
    error: JournalError | None = None

    def resolve(self) -> None:
        if self.future.done():
            return
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(self.result)


@attrs.define(eq=False)
class WriterThread:
    """A thread that owns the connection to the file at `path`; the first job starts it.

    Nobody else knows the connection: in the child of a fork it must not be used, nor even closed.
    """

    path: Path
    _jobs: queue.SimpleQueue[QueryJob | None] = attrs.field(init=False, factory=queue.SimpleQueue["QueryJob | None"])
    _close_future: Future[None] = attrs.field(init=False, factory=Future[None])
    _pid: int | None = attrs.field(init=False, default=None)
    _stopped: bool = attrs.field(init=False, default=False)
    _lock: threading.Lock = attrs.field(init=False, factory=threading.Lock)

    def submit(self, job: QueryJob) -> None:
        """Have *job* done together with those that wait already."""
        if self._is_in_forked_child():
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
        if self._is_in_forked_child():
            self._close_future = Future()
            self._close_future.set_result(None)
            return self._close_future
        with self._lock:
            if not self._stopped:
                self._stopped = True
                self._jobs.put(None)
                if self._pid is None:
                    self._close_future.set_result(None)
        return self._close_future

    def is_open(self) -> bool:
        return self._pid is not None and not self._stopped and not self._is_in_forked_child()

    def _is_in_forked_child(self) -> bool:
        """Tell whether the thread is on the other side of a fork; asked without the lock, which may be held there."""
        return self._pid not in (None, os.getpid())

    def _run(self) -> None:
        file = JournalFile(self.path)
        while self._run_batch(file):
            pass

    def _run_batch(self, file: JournalFile) -> bool:
        waiting = self._drain_queue()
        jobs = [job for job in waiting if job is not None and not job.future.cancelled()]
        if jobs:
            self._execute(jobs, file)
            _notify_loops(jobs)
        if None in waiting:
            self._close_file(file)
            return False
        file.checkpoint()
        return True

    def _drain_queue(self) -> list[QueryJob | None]:
        """Return all that waits, as soon as something does."""
        first = self._jobs.get()
        return [first, *(self._jobs.get() for _ in range(self._jobs.qsize()))]

    def _execute(self, jobs: list[QueryJob], file: JournalFile) -> None:
        """Have all kept in one transaction, or none; what one cannot read harms no other."""
        try:
            with file.transaction() as db:
                for job in jobs:
                    try:
                        job.result = job.query(db)
                    except CorruptRow as error:
                        job.error = to_journal_error(error, self.path)
        except Exception as error:
            for job in jobs:
                job.error = to_journal_error(error, self.path)

    def _close_file(self, file: JournalFile) -> None:
        try:
            file.close()
        except UnusableFile as error:
            self._close_future.set_exception(to_journal_error(error, self.path))
        except Exception as error:
            self._close_future.set_exception(
                JournalError(f"{to_journal_error(error, self.path)}; keep {self.path}-wal with the file")
            )
        else:
            self._close_future.set_result(None)


def _notify_loops(jobs: list[QueryJob]) -> None:
    """Wake each loop once."""
    by_loop: dict[asyncio.AbstractEventLoop, list[QueryJob]] = defaultdict(list)
    for job in jobs:
        by_loop[job.future.get_loop()].append(job)
    for loop, told in by_loop.items():
        with contextlib.suppress(RuntimeError):  # it was closed without a word to who waited in it
            loop.call_soon_threadsafe(_resolve_all, told)


def _resolve_all(jobs: list[QueryJob]) -> None:
    for job in jobs:
        job.resolve()
