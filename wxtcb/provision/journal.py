"""Journal: storage of what is known about every tenant, so that no environment is created twice."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Protocol

import attrs

from wxtcb.errors import WxtcbError
from wxtcb.provision.record import (
    Binding,
    HistoryEntry,
    JournalEntry,
    JournalIdentity,
    RecordChange,
    TenantRecord,
)

if TYPE_CHECKING:
    from wxtcb.provision.desired import DesiredTenants
    from wxtcb.provision.election import Election

__all__ = [
    "Committed",
    "Deposed",
    "Journal",
    "JournalConflict",
    "JournalError",
    "JournalInUse",
    "KeyTaken",
    "SharedJournal",
    "Stale",
    "UnserializableRecord",
]


class JournalError(WxtcbError):
    """The journal could not be read or written; the run sends no further request."""


class JournalConflict(JournalError):
    """The journal has a newer record of this tenant, or another tenant owns its environment or alias."""


class UnserializableRecord(JournalError):
    """The record holds a value that the journal cannot store; no further request is sent for its tenant."""


class JournalInUse(JournalError):
    """Another process provisions with the journal, or has it locked."""


class Deposed(JournalError):
    """Another process was elected to provision with the journal; this one stores nothing more and sends nothing."""


@attrs.frozen
class Committed:
    """Answer to a commit: the record is stored, and survives a crash if the journal is durable."""


@attrs.frozen
class Stale:
    """Answer to a commit: nothing is stored, because its version does not follow that of the stored `record`.

    `record` is None if the journal has none of the tenant.
    """

    record: TenantRecord | None


@attrs.frozen
class KeyTaken:
    """Answer to a commit: nothing is stored, because `tenant` owns the environment or the alias of the record."""

    tenant: str


CommitResult = Committed | Stale | KeyTaken


class Journal(Protocol):
    """Storage of the tenant records of one `JournalIdentity`. Provisional: the methods may still change.

    An implementation stores all fields of each `TenantRecord` by the name of its tenant, and its history. Any number of
    processes may use one storage at the same time. All methods raise `JournalError` if it cannot be read or written.
    """

    @property
    def durable(self) -> bool:
        """Whether records survive the process; only then may a platform outside loopback be provisioned."""
        ...

    @property
    def rolled_back_at(self) -> float | None:
        """Time, by `time.monotonic`, at which the storage lost commits, such as in a fail-over; None if it never did.

        A create whose intent was lost may still take effect. So none is sent for a while after that time.
        """
        ...

    async def bind_identity(self, identity: JournalIdentity | None = None) -> JournalIdentity:
        """Return the stored identity of this journal; store *identity* first if there is none.

        If there is none, and *identity* is None, raise `JournalError`.
        """
        ...

    async def load(
        self, tenants: Iterable[str] | None = None, *, aliases: Iterable[str] = (), envs: Iterable[str] = ()
    ) -> Mapping[str, TenantRecord]:
        """Return records by the name of their tenant, all of one moment.

        These are the records of *tenants* (None: of all tenants), and those that own one of *aliases*, in any case, or
        of *envs* (`TenantRecord.unique_keys`). Tenants without a record are absent.
        """
        ...

    async def bindings(self, now: float) -> Mapping[str, Binding]:
        """Return the binding of every environment that belongs to a tenant; `since` is by the clock that shows *now*.

        *now* is the Unix time of the caller, whose clock may differ from that of the storage.
        """
        ...

    async def history(self, tenants: Iterable[str]) -> Mapping[str, tuple[HistoryEntry, ...]]:
        """Return the history of each of *tenants*, oldest entry first."""
        ...

    async def commit(
        self,
        record: TenantRecord,
        entry: HistoryEntry,
        previous_owner: JournalEntry | None = None,
        *,
        epoch: int | None = None,
    ) -> CommitResult:
        """Store *record*, and append *entry* to its history, if nothing has changed since it was read.

        Return `Stale`, and store nothing, if the version of *record* does not follow the stored version; `KeyTaken` if
        another tenant owns one of its keys (`TenantRecord.unique_keys`). *previous_owner* is the new record of a tenant
        that releases such a key: both records are stored, or neither, and `Stale` may be about either.
        Raise `Deposed`, and store nothing, if *epoch* is given and is not the present epoch of the election.
        """
        ...


class SharedJournal(Journal, Protocol):
    """Journal with which many processes can provision: it also stores what is desired, and who is elected."""

    @property
    def desired(self) -> DesiredTenants: ...

    @property
    def election(self) -> Election: ...

    @property
    def wait(self) -> float | None:
        """Seconds that `Provisioner.apply` waits for another process that provisions, before it raises `JournalInUse`.

        None: an apply needs no election, because every commit compares versions.
        """
        ...


async def commit_record(
    journal: Journal, change: RecordChange, now: float, *, epoch: int | None = None
) -> CommitResult:
    """Commit *change* with its line of the history; return the answer of the journal, or raise `JournalError`."""
    released = None if change.previous_owner is None else change.previous_owner.to_entry(now)
    try:
        return await journal.commit(*change.to_entry(now), released, epoch=epoch)
    except WxtcbError:
        raise
    # A journal may be written by the user: any exception of it must stop the run before the next create.
    except Exception as error:
        # Only its type: the message may hold a secret, such as the password of a database.
        raise JournalError(f"the journal failed ({type(error).__name__}); check its storage") from error


async def commit_record_changes(
    journal: Journal, record_changes: Iterable[RecordChange], now: float, *, epoch: int | None = None
) -> None:
    """Commit the record changes of an operator's decisions; raise the first error, or `JournalConflict`."""
    remaining = iter(record_changes)
    # A journal on disk writes concurrent commits in one transaction. Batches bound the number of tasks.
    while batch := [*islice(remaining, 500)]:
        commits = (commit_record(journal, each, now, epoch=epoch) for each in batch)
        # All commits of the batch must end before an error is raised, so that none runs on unobserved.
        for change, result in zip(batch, await asyncio.gather(*commits, return_exceptions=True), strict=True):
            if isinstance(result, BaseException):
                raise result
            if not isinstance(result, Committed):
                raise JournalConflict(
                    f"the journal rejected the record of tenant {change.after.tenant!r}: another process changed it, "
                    "or another tenant owns its environment or alias; plan again"
                )
