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

from wxtcb.provision.journal import Binding, Change, Home, Moment, Record, RecordUnfit
from wxtcb.provision.sqlite import schema
from wxtcb.provision.sqlite.writer import Job, Writer
from wxtcb.validation import as_file

T = TypeVar("T")


def _full_path(path: str | os.PathLike[str]) -> Path:
    return as_file(path, otherwise="MemoryJournal keeps records in memory")


def _writer_of(journal: SqliteJournal) -> Writer:
    return Writer(journal.path)


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

    path: Path = attrs.field(converter=_full_path)
    _writer: Writer = attrs.field(init=False, repr=False, default=attrs.Factory(_writer_of, takes_self=True))

    @property
    def durable(self) -> bool:
        return True

    async def claim(self, home: Home) -> Home:
        return await self._ask(partial(schema.claim, home=home))

    async def load(self, tenants: Iterable[str] | None = None) -> Mapping[str, Record]:
        names = None if tenants is None else tuple(tenants)
        return await self._ask(partial(schema.load, tenants=names))

    async def bound(self) -> Mapping[str, Binding]:
        return await self._ask(schema.bound)

    async def history(self, tenants: Iterable[str]) -> Mapping[str, tuple[Moment, ...]]:
        return await self._ask(partial(schema.history, tenants=tuple(tenants)))

    async def commit(self, record: Record, moment: Moment, giver: Change | None = None) -> bool:
        """Keep *record* as `Journal.commit` does. Cancelled meanwhile, it is kept or not, and its version tells."""
        given = None if giver is None else _row_of(*giver)
        return await self._ask(partial(schema.commit, row=_row_of(record, moment), giver=given))

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
        writer: Writer | None = getattr(self, "_writer", None)  # none if the path was refused
        if writer is not None and writer.is_open():
            warnings.warn(f"a SqliteJournal was never closed: {self.path}", ResourceWarning, stacklevel=2, source=self)
            writer.stop()

    async def _ask(self, ask: Callable[[sqlite3.Connection], T]) -> T:
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._writer.submit(Job(ask, future))
        return await future


def _row_of(record: Record, moment: Moment) -> schema.Row:
    try:
        return schema.Row.of(record, moment)
    except ValueError as error:
        reason = f"the record of tenant {record.tenant!r} cannot be kept: {error}"
    raise RecordUnfit(reason)
