"""Thread that owns the connection to a journal file, and runs all waiting jobs in one transaction."""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import sqlite3
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Final, TypeVar

import attrs

from wxtcb._files.sqlite import UnusableFile, is_locked
from wxtcb.provision.journal import JournalError
from wxtcb.provision.sqlite.file import JournalFile, to_journal_error
from wxtcb.provision.sqlite.schema import CorruptRow

T = TypeVar("T")

# Seconds between two checks for changes of other processes.
_POLL_INTERVAL: Final = 0.2


@attrs.define(eq=False)
class Job:
    """A query, its result or error, and the future of its caller."""

    # Any: queries of all result types share one queue. `JournalThread.run` ties the future to the query's type.
    query: Callable[[sqlite3.Connection], Any]
    future: asyncio.Future[Any]
    write: bool
    result: Any = None
    error: JournalError | None = None


@attrs.define(eq=False)
class JournalThread:
    """The thread that owns the connection to `file`, and the number of changes of the journal that it has noticed."""

    file: JournalFile
    changes: int = attrs.field(init=False, default=0)
    _jobs: queue.SimpleQueue[Job | None] = attrs.field(init=False, factory=queue.SimpleQueue["Job | None"])
    _waiters: set[asyncio.Future[None]] = attrs.field(init=False, factory=set["asyncio.Future[None]"])
    _poll_at: float = attrs.field(init=False, default=0.0)
    _close_future: Future[None] = attrs.field(init=False, factory=Future[None])
    _pid: int | None = attrs.field(init=False, default=None)
    _stopped: bool = attrs.field(init=False, default=False)
    _lock: threading.Lock = attrs.field(init=False, factory=threading.Lock)

    @property
    def path(self) -> Path:
        return self.file.path

    async def run(self, query: Callable[[sqlite3.Connection], T], *, write: bool = False) -> T:
        """Return the result of *query* in a transaction; jobs are run in the order of the calls."""
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self.submit(Job(query, future, write))
        return await future

    def submit(self, job: Job) -> None:
        if self._is_in_forked_child():
            raise JournalError(f"{self.path} was opened before this process was forked; open a new journal")
        # The lock keeps a job from being queued behind the end marker, where it would never be answered.
        with self._lock:
            if self._stopped:
                raise JournalError(f"the journal {self.path} was closed; open a new one")
            if self._pid is None:
                # A daemon: a forgotten journal must not keep the interpreter from exiting.
                threading.Thread(target=self._run, name="wxtcb-journal", daemon=True).start()
                self._pid = os.getpid()
            self._jobs.put(job)

    async def wait_for_change(self, seen: int, timeout: float) -> int:
        """Return the number of changes once it differs from *seen*, or after *timeout* seconds."""
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.add(waiter)
        try:
            # The thread looks for changes, now and then again at intervals because there is a waiter.
            await self.run(self._detect_change)
            if self.changes == seen:
                await asyncio.wait([waiter], timeout=timeout)
        finally:
            self._waiters.discard(waiter)
        return self.changes

    def stop(self) -> Future[None]:
        if self._is_in_forked_child():
            # The parent's thread does not exist here, so its future would never be resolved.
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
        # Checked without the lock: at the fork another thread may have held it, and then it is never released here.
        return self._pid not in (None, os.getpid())

    def _run(self) -> None:
        # Each batch in a call of its own: its jobs must not stay alive while the thread waits for the next.
        while self._run_batch():
            pass
        # Those who wait call again, and get the error.
        self._note_change()
        try:
            self.file.close()
        except UnusableFile as error:
            self._close_future.set_exception(to_journal_error(error, self.path))
        except Exception as error:
            message = f"{to_journal_error(error, self.path)}; keep {self.path}-wal together with the file"
            journal_error = JournalError(message)
            journal_error.__cause__ = error.with_traceback(None)
            self._close_future.set_exception(journal_error)
        else:
            self._close_future.set_result(None)

    def _run_batch(self) -> bool:
        # Waits for the first job only; jobs that arrive during the transaction form the next batch.
        batch = [self._next_job(), *(self._jobs.get() for _ in range(self._jobs.qsize()))]
        jobs = [job for job in batch if job is not None and not job.future.cancelled()]
        if jobs:
            self._execute(jobs)
            _notify_loops(jobs)
        return None not in batch

    def _next_job(self) -> Job | None:
        # Other processes are observed only while a caller waits.
        while self._waiters:
            if (delay := self._poll_at - time.monotonic()) > 0:
                with contextlib.suppress(queue.Empty):
                    return self._jobs.get(timeout=delay)
            try:
                with self.file.transaction() as db:
                    self._detect_change(db)
            except Exception:
                # Those who wait read the state, and get the error.
                self._note_change()
            self._poll_at = time.monotonic() + _POLL_INTERVAL
        return self._jobs.get()

    def _execute(self, jobs: list[Job]) -> None:
        try:
            with self.file.transaction(write=any(job.write for job in jobs)) as db:
                before = db.total_changes
                for job in jobs:
                    try:
                        job.result = job.query(db)
                    except (JournalError, CorruptRow) as error:
                        job.error = to_journal_error(error, self.path)
                changed = db.total_changes != before
        except Exception as error:
            writes = [job for job in jobs if job.write]
            failed = writes if writes and is_locked(error) else jobs
            # One error for each job: a traceback is added to it in each caller.
            for job in failed:
                job.error = to_journal_error(error, self.path)
            # A process that is stopped while it writes blocks others that write, but none that reads.
            if len(failed) < len(jobs):
                self._execute([job for job in jobs if not job.write])
        else:
            if changed:
                self._note_change()

    def _detect_change(self, db: sqlite3.Connection) -> None:
        if self.file.has_changed(db):
            self._note_change()

    def _note_change(self) -> None:
        self.changes += 1
        # `list` copies the set in one step: event loops in other threads change it.
        for waiter in list(self._waiters):
            _call_in_loop(waiter.get_loop(), _resolve, waiter)


def _notify_loops(jobs: list[Job]) -> None:
    # One wake-up for each loop, and not for each job: a batch may hold thousands.
    by_loop: dict[asyncio.AbstractEventLoop, list[Job]] = defaultdict(list)
    for job in jobs:
        by_loop[job.future.get_loop()].append(job)
    for loop, loop_jobs in by_loop.items():
        _call_in_loop(loop, _resolve_all, loop_jobs)


def _call_in_loop(loop: asyncio.AbstractEventLoop, function: Callable[[T], None], argument: T) -> None:
    # Raised by a loop that was closed while its callers waited.
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(function, argument)


def _resolve(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


def _resolve_all(jobs: list[Job]) -> None:
    # A caller may have been cancelled in the meantime.
    for job in (job for job in jobs if not job.future.done()):
        if job.error is not None:
            job.future.set_exception(job.error)
        else:
            job.future.set_result(job.result)
