"""The journal that outlives the process: a file, for one process at a time."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import warnings
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import attrs

from wxtcb.provision.journal import (
    Binding,
    HistoryEntry,
    JournalEntry,
    JournalIdentity,
    TenantRecord,
    UnserializableRecord,
)
from wxtcb.provision.sqlite import schema
from wxtcb.provision.sqlite.writer import QueryJob, WriterThread
from wxtcb.validation import to_file_path

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
