"""The journal that outlives the process: a file, for one process at a time."""

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
from types import TracebackType
from typing import Any, Self, TypeVar

import attrs

from wxtcb._sqlite import UnusableFile
from wxtcb.provision.journal import (
    Binding,
    HistoryEntry,
    JournalEntry,
    JournalError,
    JournalIdentity,
    TenantRecord,
    UnserializableRecord,
)
from wxtcb.provision.sqlite import schema
from wxtcb.provision.sqlite.file import JournalFile, to_journal_error
from wxtcb.provision.sqlite.schema import CorruptRow
from wxtcb.validation import to_file_path


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


T = TypeVar("T")


def _as_path(path: str | os.PathLike[str]) -> Path:
    return to_file_path(path, memory_hint="MemoryJournal keeps records in memory")


def _make_writer(journal: SqliteJournal) -> WriterThread:
    return WriterThread(journal.path)


@attrs.define(eq=False)
class SqliteJournal:
    """A journal in the file at *path*, which only one process at a time may have open.

    The file is opened by what is asked first, and made if there is none, in a directory that is there, readable for
    this user alone. What `commit` told to be kept is on the disk, and stays there whatever kills process or machine.
    All calls raise `JournalError`: `JournalInUse` at once while somebody else has the file open (who was killed has
    not), and where the file is damaged, open to other users, that of another program or of another version of wxtcb;
    then it is left as it is. After a failure the next call begins anew with what is on the disk.

    The disk must be a local one. While the journal is open, and after a crash, a part of it is in the ``-wal`` beside
    the file; `aclose` (or ``async with``) writes that back, so that the file alone can be copied then. Any number of
    loops may use it, one after the other or at once; the child of a fork may not use one that was opened before. (One
    that was not forked by Python, and runs no other program, keeps it in use for as long as it lives.)
    """

    path: Path = attrs.field(converter=_as_path)
    _writer: WriterThread = attrs.field(init=False, repr=False, default=attrs.Factory(_make_writer, takes_self=True))

    @property
    def durable(self) -> bool:
        return True

    async def bind_identity(self, identity: JournalIdentity) -> JournalIdentity:
        return await self._submit(partial(schema.bind_identity, identity=identity))

    async def load(self, tenants: Iterable[str] | None = None) -> Mapping[str, TenantRecord]:
        names = None if tenants is None else tuple(tenants)
        return await self._submit(partial(schema.select_records, tenants=names))

    async def bindings(self) -> Mapping[str, Binding]:
        return await self._submit(schema.select_bindings)

    async def history(self, tenants: Iterable[str]) -> Mapping[str, tuple[HistoryEntry, ...]]:
        return await self._submit(partial(schema.select_history, tenants=tuple(tenants)))

    async def commit(
        self, record: TenantRecord, entry: HistoryEntry, previous_owner: JournalEntry | None = None
    ) -> bool:
        """Keep *record* as `Journal.commit` does. Cancelled meanwhile, it is kept or not, and its version tells."""
        given = None if previous_owner is None else _make_row(*previous_owner)
        return await self._submit(partial(schema.commit_rows, row=_make_row(record, entry), previous_owner=given))

    async def aclose(self) -> None:
        """Do what was asked so far, write everything into the file and close it; all that is asked later fails.

        Raises `JournalError` if the disk does not take it: then the ``-wal`` beside the file has the rest. It raises as
        well if somebody else removed, replaced or wrote to the file while it was open, and says what is to be done.
        """
        await asyncio.shield(asyncio.wrap_future(self._writer.stop()))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def __del__(self) -> None:
        writer: WriterThread | None = getattr(self, "_writer", None)  # none if the path was refused
        if writer is not None and writer.is_open():
            warnings.warn(f"a SqliteJournal was never closed: {self.path}", ResourceWarning, stacklevel=2, source=self)
            writer.stop()

    async def _submit(self, query: Callable[[sqlite3.Connection], T]) -> T:
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._writer.submit(QueryJob(query, future))
        return await future


def _make_row(record: TenantRecord, entry: HistoryEntry) -> schema.RecordRow:
    try:
        return schema.RecordRow.from_record(record, entry)
    except ValueError as error:
        reason = f"the record of tenant {record.tenant!r} cannot be kept: {error}"
    raise UnserializableRecord(reason)
