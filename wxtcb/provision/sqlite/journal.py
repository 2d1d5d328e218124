"""Journal in a file, for any number of processes on one host."""

from __future__ import annotations

import asyncio
import os
import warnings
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Self

import attrs

from wxtcb._files.sqlite import sidecar_path
from wxtcb.errors import InvalidArgument
from wxtcb.provision.journal import CommitResult, JournalError
from wxtcb.provision.record import Binding, HistoryEntry, JournalEntry, JournalIdentity, TenantRecord
from wxtcb.provision.sqlite import schema
from wxtcb.provision.sqlite.desired import SqliteDesired
from wxtcb.provision.sqlite.election import ProcessLock, SqliteElection
from wxtcb.provision.sqlite.file import JournalFile
from wxtcb.provision.sqlite.thread import JournalThread
from wxtcb.validation import check_number, to_file_path

__all__ = ["SqliteJournal"]


def _as_path(path: str | os.PathLike[str]) -> Path:
    return to_file_path(path, memory_hint="MemoryJournal keeps records in memory")


def _check_wait(_: object, attribute: attrs.Attribute[float], value: float) -> None:
    check_number(attribute.name, value)
    if value < 0:
        raise InvalidArgument(f"{attribute.name} must be at least 0 seconds, not {value!r}")


def default_journal_path(file: str | os.PathLike[str]) -> Path:
    """Return the path of the journal that belongs to the tenants file *file*."""
    path = Path(file)
    return path.with_name(f"{path.name}.wxtcb.db")


@attrs.define(eq=False)
class SqliteJournal:
    """Journal in the file at *path*, for any number of processes on one host. It must be on a local disk.

    All of them may read, submit and decide at any time; one at a time is elected to provision. *wait* is the number of
    seconds for which `Provisioner.apply` waits for another process that provisions, such as in a rolling deploy.

    The first call opens the file, and creates it if there is none, with mode 600, in an existing directory. What a call
    has stored survives a crash of the process or the machine.

    All calls raise `JournalError`: if the file is damaged, readable for other users, or written by another program or
    version of wxtcb; it is then left unchanged. `JournalInUse` means that another process was stopped in the middle of
    a write. After any other failure, the next call opens the file again and continues with what is on the disk.

    While a process has the journal open, and after a crash, the ``-wal`` file next to it holds a part of the data; the
    ``-shm`` and ``-lock`` files hold none. `aclose` (or ``async with``) of the last process writes it back; then the
    file alone can be copied.

    Any number of event loops may use one journal. A forked child must open a journal of its own.
    """

    path: Path = attrs.field(converter=_as_path)
    wait: float = attrs.field(default=0.0, kw_only=True, validator=_check_wait)
    desired: SqliteDesired = attrs.field(init=False, repr=False)
    election: SqliteElection = attrs.field(init=False, repr=False)
    _thread: JournalThread = attrs.field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        self._thread = JournalThread(JournalFile(self.path))
        self.desired = SqliteDesired(self._thread)
        self.election = SqliteElection(self._thread, ProcessLock(sidecar_path(self.path, "lock")))

    @classmethod
    def for_tenants_file(cls, file: str | os.PathLike[str], *, wait: float = 0.0) -> Self:
        """Return the journal that the command line uses for a tenants file: ``FILE.wxtcb.db`` next to *file*."""
        return cls(default_journal_path(file), wait=wait)

    @property
    def durable(self) -> bool:
        return True

    @property
    def rolled_back_at(self) -> float | None:
        """None: a file loses no commits unless it is replaced, which `JournalError` reports."""
        return None

    async def bind_identity(self, identity: JournalIdentity | None = None) -> JournalIdentity:
        # Most calls only read, and a reader waits for no other process.
        stored = await self._thread.run(schema.select_identity)
        if stored is None and identity is not None:
            stored = await self._thread.run(partial(schema.bind_identity, identity=identity), write=True)
        if stored is None:
            raise JournalError(f"the journal {self.path} is new: run `wxtcb init`, or open a Provisioner with it first")
        return stored

    async def load(
        self, tenants: Iterable[str] | None = None, *, aliases: Iterable[str] = (), envs: Iterable[str] = ()
    ) -> Mapping[str, TenantRecord]:
        names = None if tenants is None else tuple(tenants)
        query = partial(schema.select_records, tenants=names, aliases=tuple(aliases), envs=tuple(envs))
        return await self._thread.run(query)

    async def bindings(self, now: float) -> Mapping[str, Binding]:  # noqa: ARG002 - all processes have one clock
        return await self._thread.run(schema.select_bindings)

    async def history(self, tenants: Iterable[str]) -> Mapping[str, tuple[HistoryEntry, ...]]:
        return await self._thread.run(partial(schema.select_history, tenants=tuple(tenants)))

    async def commit(
        self,
        record: TenantRecord,
        entry: HistoryEntry,
        previous_owner: JournalEntry | None = None,
        *,
        epoch: int | None = None,
    ) -> CommitResult:
        """Store *record* (`Journal.commit`); it may be stored even if the call is cancelled: load it and compare."""
        released = previous_owner and schema.RecordRow.from_record(*previous_owner, epoch)
        row = schema.RecordRow.from_record(record, entry, epoch)
        query = partial(schema.commit_rows, row=row, previous_owner=released)
        return await self._thread.run(query, write=True)

    async def aclose(self) -> None:
        """Finish the pending calls, write everything into the file and close it; later calls fail.

        A term of this process ends. Raises `JournalError` if that fails; the message says what to do.
        """
        try:
            # Shielded: a cancelled caller must not cancel the future that other callers of `aclose` wait for.
            await asyncio.shield(asyncio.wrap_future(self._thread.stop()))
        finally:
            self.election.lock.release()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __del__(self) -> None:
        # The attribute is missing if the path was invalid.
        thread: JournalThread | None = getattr(self, "_thread", None)
        if thread is not None and thread.is_open():
            warnings.warn(f"a SqliteJournal was never closed: {self.path}", ResourceWarning, stacklevel=2, source=self)
            thread.stop()
            self.election.lock.release()
