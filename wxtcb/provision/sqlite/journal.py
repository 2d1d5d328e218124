"""Journal in a file, for one process at a time, and the thread that writes it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import sqlite3
import threading
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any, Self, TypeVar

import attrs

from wxtcb._files.sqlite import UnusableFile
from wxtcb.provision import journal
from wxtcb.provision.record import HistoryEntry, JournalEntry, TenantRecord
from wxtcb.provision.sqlite import schema
from wxtcb.provision.sqlite.file import JournalFile, to_journal_error
from wxtcb.provision.sqlite.schema import CorruptRow
from wxtcb.validation import to_file_path

__all__ = ["SqliteJournal"]

T = TypeVar("T")


def _as_path(path: str | os.PathLike[str]) -> Path:
    return to_file_path(path, memory_hint="MemoryJournal keeps records in memory")


def default_journal_path(file: str | os.PathLike[str]) -> Path:
    """Return the path of the journal that belongs to the tenants file *file*."""
    path = Path(file)
    return path.with_name(f"{path.name}.wxtcb.db")


@attrs.define(eq=False)
class SqliteJournal:
    """Journal in the file at *path*, which one process at a time may open.

    The first call opens the file, and creates it if there is none, with mode 600, in an existing directory. It must be
    on a local disk. A record that `commit` has stored survives a crash of the process or the machine.

    All calls raise `JournalError`: at once if another process has the file open (`JournalInUse`; a killed process does
    not count), or if it is damaged, readable for other users, or written by another program or version of wxtcb; it is
    then left unchanged. After any other failure, the next call opens it again and continues with what is on the disk.

    While the journal is open, and after a crash, the ``-wal`` file next to it holds a part of the data. `aclose` (or
    ``async with``) writes it back; then the file alone can be copied. If that write fails, the ``-wal`` file keeps the
    rest: keep both files together.

    Any number of event loops may use one journal. A forked child must not use a journal that was opened before the
    fork. A child that was not forked by Python, and does not execute another program, keeps the file locked.
    """

    path: Path = attrs.field(converter=_as_path)
    _writer: WriterThread = attrs.field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        self._writer = WriterThread(self.path)

    @classmethod
    def for_tenants_file(cls, file: str | os.PathLike[str]) -> Self:
        """Return the journal that the command line uses for a tenants file: ``FILE.wxtcb.db`` next to *file*."""
        return cls(default_journal_path(file))

    @property
    def durable(self) -> bool:
        return True

    async def bind_identity(self, identity: journal.JournalIdentity) -> journal.JournalIdentity:
        return await self._submit(partial(schema.bind_identity, identity=identity))

    async def load(self, tenants: Iterable[str] | None = None) -> Mapping[str, journal.TenantRecord]:
        names = None if tenants is None else tuple(tenants)
        return await self._submit(partial(schema.select_records, tenants=names))

    async def bindings(self) -> Mapping[str, journal.Binding]:
        return await self._submit(schema.select_bindings)

    async def history(self, tenants: Iterable[str]) -> Mapping[str, tuple[journal.HistoryEntry, ...]]:
        return await self._submit(partial(schema.select_history, tenants=tuple(tenants)))

    async def commit(
        self, record: TenantRecord, entry: HistoryEntry, previous_owner: JournalEntry | None = None
    ) -> bool:
        """Store *record* (`Journal.commit`); it may be stored even if the call is cancelled: load it and compare."""
        released = previous_owner and schema.RecordRow.from_record(*previous_owner)
        row = schema.RecordRow.from_record(record, entry)
        return await self._submit(partial(schema.commit_rows, row=row, previous_owner=released))

    async def aclose(self) -> None:
        """Finish the pending calls, write everything into the file and close it; later calls fail.

        Raises `JournalError` if that fails, or if another program changed the file; the message says what to do.
        """
        # Shielded: a cancelled caller must not cancel the future that other callers of `aclose` wait for.
        await asyncio.shield(asyncio.wrap_future(self._writer.stop()))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __del__(self) -> None:
        # The attribute is missing if the path was invalid.
        writer: WriterThread | None = getattr(self, "_writer", None)
        if writer is not None and writer.is_open():
            warnings.warn(f"a SqliteJournal was never closed: {self.path}", ResourceWarning, stacklevel=2, source=self)
            writer.stop()

    async def _submit(self, query: Callable[[sqlite3.Connection], T]) -> T:
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._writer.submit(QueryJob(query, future))
        return await future


@attrs.define(eq=False)
class QueryJob:
    """A query, its result or error, and the future of its caller."""

    # Any: queries of all result types share one queue. `SqliteJournal._submit` ties the future to the query's type.
    query: Callable[[sqlite3.Connection], Any]
    future: asyncio.Future[Any]
    result: Any = None
    error: journal.JournalError | None = None


@attrs.define(eq=False)
class WriterThread:
    """The thread that owns the connection to the file at `path`, and runs all waiting jobs in one transaction.

    No other object refers to the connection, because a forked child must neither use nor close it.
    """

    path: Path
    _jobs: queue.SimpleQueue[QueryJob | None] = attrs.field(init=False, factory=queue.SimpleQueue["QueryJob | None"])
    _close_future: Future[None] = attrs.field(init=False, factory=Future[None])
    _pid: int | None = attrs.field(init=False, default=None)
    _stopped: bool = attrs.field(init=False, default=False)
    _lock: threading.Lock = attrs.field(init=False, factory=threading.Lock)

    def submit(self, job: QueryJob) -> None:
        if self._is_in_forked_child():
            raise journal.JournalError(f"{self.path} was opened before this process was forked; open a new journal")
        # The lock keeps a job from being queued behind the end marker, where it would never be answered.
        with self._lock:
            if self._stopped:
                raise journal.JournalError(f"the journal {self.path} was closed; open a new one")
            if self._pid is None:
                # A daemon: a forgotten journal must not keep the interpreter from exiting.
                threading.Thread(target=self._run, name="wxtcb-journal", daemon=True).start()
                self._pid = os.getpid()
            self._jobs.put(job)

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
        file = JournalFile(self.path)
        # Each batch in a call of its own: its jobs must not stay alive while the thread waits for the next.
        while self._run_batch(file):
            # After the callers are notified: they need not wait for it.
            file.checkpoint()
        try:
            file.close()
        except UnusableFile as error:
            self._close_future.set_exception(to_journal_error(error, self.path))
        except Exception as error:
            message = f"{to_journal_error(error, self.path)}; keep {self.path}-wal together with the file"
            journal_error = journal.JournalError(message)
            journal_error.__cause__ = error.with_traceback(None)
            self._close_future.set_exception(journal_error)
        else:
            self._close_future.set_result(None)

    def _run_batch(self, file: JournalFile) -> bool:
        # Waits for the first job only; jobs that arrive during the transaction form the next batch.
        batch = [self._jobs.get(), *(self._jobs.get() for _ in range(self._jobs.qsize()))]
        jobs = [job for job in batch if job is not None and not job.future.cancelled()]
        if jobs:
            self._execute(jobs, file)
            _notify_loops(jobs)
        return None not in batch

    def _execute(self, jobs: list[QueryJob], file: JournalFile) -> None:
        try:
            with file.transaction() as db:
                for job in jobs:
                    try:
                        job.result = job.query(db)
                    except CorruptRow as error:
                        job.error = to_journal_error(error, self.path)
        except Exception as error:
            # One error for each job: a traceback is added to it in each caller.
            for job in jobs:
                job.error = to_journal_error(error, self.path)


def _notify_loops(jobs: list[QueryJob]) -> None:
    # One wake-up for each loop, and not for each job: a batch may hold thousands.
    by_loop: dict[asyncio.AbstractEventLoop, list[QueryJob]] = defaultdict(list)
    for job in jobs:
        by_loop[job.future.get_loop()].append(job)
    for loop, loop_jobs in by_loop.items():
        # Raised by a loop that was closed while its callers waited.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(_resolve_all, loop_jobs)


def _resolve_all(jobs: list[QueryJob]) -> None:
    # A caller may have been cancelled in the meantime.
    for job in (job for job in jobs if not job.future.done()):
        if job.error is not None:
            job.future.set_exception(job.error)
        else:
            job.future.set_result(job.result)
