"""Journal: what is stored about every tenant, so that no environment is created twice."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from enum import Enum
from itertools import islice
from types import MappingProxyType
from typing import Final, Protocol

import attrs

from wxtcb.errors import WxtcbError

__all__ = [
    "Binding",
    "HistoryEntry",
    "Intent",
    "Journal",
    "JournalConflict",
    "JournalEntry",
    "JournalError",
    "JournalIdentity",
    "JournalInUse",
    "MemoryJournal",
    "ServiceState",
    "TenantRecord",
    "UnserializableRecord",
]

EMPTY_MAPPING: Final[Mapping[str, str]] = MappingProxyType({})


class JournalError(WxtcbError):
    """The journal could not be read or written; the run sends no further request."""


class JournalConflict(JournalError):
    """The journal has a newer record of this tenant, or another tenant owns its environment or alias."""


class UnserializableRecord(JournalError):
    """The record holds a value that the journal cannot store; no further request is sent for its tenant."""


class JournalInUse(JournalError):
    """Another process, or another journal object of this process, has the journal open."""


class ServiceState(Enum):
    """Progress of one service. SENT without a response means that the service may exist."""

    SENT = "sent"
    DONE = "done"
    UNCONFIRMED = "done (unconfirmed)"


NO_SERVICES: Final[Mapping[str, ServiceState]] = MappingProxyType({})


@attrs.frozen(kw_only=True)
class JournalIdentity:
    """Platform that a journal belongs to (`on_loopback`: a sandbox on this machine), and namespace of its aliases."""

    component_appid: str
    on_loopback: bool
    namespace: str


@attrs.frozen(kw_only=True)
class Intent:
    """Create that is about to be sent; it may run until `deadline` (Unix time, `window` s after the commit)."""

    deadline: float
    window: float = 0.0


@attrs.frozen(kw_only=True)
class TenantRecord:
    """State of one tenant in the journal.

    - `version`: grows by one with every commit. `attempt`: number of creates that were intended.
    - `intent`: set while the outcome of the last create is unknown.
    - `env`, `opened_at`: environment bound to the tenant, and since when in Unix time.
    - `tranid`: order number of the environment; None if it was adopted or the response was lost.
    - `links`: confirmation page by mini program; an empty string if the platform returned none.
    - `metadata`: values that a custom `Step` stores by key.
    - `retired`: the tenant was removed on purpose. Its environment stays in the journal.
    """

    tenant: str
    alias: str
    version: int = 0
    attempt: int = 0
    intent: Intent | None = None
    env: str | None = None
    tranid: str | None = None
    opened_at: float | None = None
    links: Mapping[str, str] = EMPTY_MAPPING
    services: Mapping[str, ServiceState] = NO_SERVICES
    metadata: Mapping[str, str] = EMPTY_MAPPING
    retired: bool = False

    @property
    def may_have_environment(self) -> bool:
        return self.env is not None or self.intent is not None

    def unshared_appids(self, appids: Iterable[str]) -> tuple[str, ...]:
        return tuple(appid for appid in appids if appid not in self.links)

    def effective_record(self, *, resend_links: bool) -> TenantRecord:
        return attrs.evolve(self, links=EMPTY_MAPPING) if resend_links else self

    def has_service(self, name: str) -> bool:
        return self.services.get(name) in (ServiceState.DONE, ServiceState.UNCONFIRMED)

    def unconfirmed_services(self, names: Iterable[str]) -> tuple[str, ...]:
        return tuple(name for name in names if self.services.get(name) is ServiceState.UNCONFIRMED)

    def unique_keys(self) -> tuple[str | None, str | None]:
        """Return the environment and the alias, in lower case, that no other tenant may have."""
        if not self.may_have_environment:
            return self.env, None
        # Derived aliases are in lower case already. `islower` avoids a new string for each of 10,000 records.
        return self.env, self.alias if self.alias.islower() else self.alias.lower()


def reset_record(record: TenantRecord) -> TenantRecord:
    """Return *record* without environment, intent, links, services and metadata; attempt numbers are never reused."""
    tenant, alias, version = record.tenant, record.alias, record.version
    return TenantRecord(tenant=tenant, alias=alias, version=version, attempt=record.attempt, retired=record.retired)


@attrs.frozen
class RecordChange:
    """Record before and after a decision; `previous_owner` loses its environment or alias to it."""

    before: TenantRecord
    after: TenantRecord
    previous_owner: RecordChange | None = None

    def to_entry(self, now: float) -> JournalEntry:
        return self.after, HistoryEntry(now, describe_change(self.before, self.after))


@attrs.frozen
class Binding:
    """Tenant that an environment belongs to, and since when in Unix time."""

    tenant: str
    since: float


def collect_bindings(records: Iterable[TenantRecord]) -> dict[str, Binding]:
    """Return the binding of every environment in *records*."""
    return {record.env: Binding(record.tenant, record.opened_at or 0.0) for record in records if record.env is not None}


def recently_opened(bindings: Mapping[str, Binding], now: float, settle: float) -> frozenset[str]:
    """Return the environments opened less than *settle* seconds ago: the platform may not list them yet."""
    # A negative age comes from a clock that was set back. It must not extend the propagation delay.
    return frozenset(env for env, binding in bindings.items() if 0 <= now - binding.since < settle)


def to_utc(timestamp: float) -> datetime | None:
    """Return a Unix time as a datetime in UTC, or None if it is outside the calendar."""
    try:
        return datetime.fromtimestamp(timestamp, UTC)
    except (ValueError, OverflowError, OSError):
        return None


@attrs.frozen
class HistoryEntry:
    """Change of a tenant's record, with the Unix time of the process that made it."""

    timestamp: float
    change: str

    @classmethod
    def parse_lines(cls, lines: str) -> tuple[HistoryEntry, ...]:
        pairs = (line.partition(" ") for line in lines.split("\n") if line)
        return tuple(cls(float(timestamp), change) for timestamp, _, change in pairs)

    def to_line(self) -> str:
        # Journals store lines and not objects, because most histories are never read.
        # A change may quote a message of the platform: a line break in it would begin a new entry.
        return f"{self.timestamp:.3f} {' '.join(self.change.splitlines())}\n"


def describe_change(before: TenantRecord, after: TenantRecord) -> str:
    """Return the differences between two records in one line, for the history of the tenant."""
    return "; ".join(_describe_differences(before, after)) or "no visible change"


_SERVICE_STATE_LABELS: Final = dict(zip(ServiceState, ("requested", "established", "exists, unconfirmed"), strict=True))


def _describe_differences(before: TenantRecord, after: TenantRecord) -> Iterator[str]:
    if after.retired != before.retired:
        yield "tenant removed" if after.retired else "tenant added again"
    yield from _describe_environment_change(before, after)
    if shared := [appid for appid, url in after.links.items() if before.links.get(appid) != url]:
        yield f"shared with {', '.join(shared)}"
    for name, state in after.services.items():
        if before.services.get(name) is not state:
            yield f"service {name} {_SERVICE_STATE_LABELS[state]}"
    for name in before.services:
        # When the environment changes, its services go with it; that is no change of each service.
        if name not in after.services and after.env == before.env:
            yield f"service {name} not established"
    for name, value in after.metadata.items():
        if before.metadata.get(name) != value:
            yield f"{name}: {value}"


def _describe_environment_change(before: TenantRecord, after: TenantRecord) -> Iterator[str]:
    if after.attempt > before.attempt:
        yield f"create {after.attempt} intended under alias {after.alias}"
    elif before.intent and not after.intent and after.env is None:
        yield f"create {after.attempt} had no effect"
    if after.env == before.env:
        return
    if after.env is None:
        yield f"environment {before.env} released"
    # A new order number means that this library created the environment and received the response.
    elif after.tranid not in (None, before.tranid):
        yield f"environment {after.env} created, order {after.tranid}"
    else:
        yield f"environment {after.env} adopted"


JournalEntry = tuple[TenantRecord, HistoryEntry]


class Journal(Protocol):
    """Storage of the tenant records of one `JournalIdentity`. Provisional: the methods may still change.

    An implementation stores all fields of each `TenantRecord` by the name of its tenant, and its history.
    `durable` is True if records survive the process; only then may a platform outside loopback be provisioned.
    All methods raise `JournalError` if the journal cannot be read or written.
    """

    @property
    def durable(self) -> bool: ...

    async def bind_identity(self, identity: JournalIdentity) -> JournalIdentity:
        """Return the stored identity of this journal; store *identity* first if there is none."""
        ...

    async def load(self, tenants: Iterable[str] | None = None) -> Mapping[str, TenantRecord]:
        """Return the records of *tenants* by name, or all records if None. Tenants without a record are absent."""
        ...

    async def bindings(self) -> Mapping[str, Binding]:
        """Return the binding of every environment that belongs to a tenant."""
        ...

    async def history(self, tenants: Iterable[str]) -> Mapping[str, tuple[HistoryEntry, ...]]:
        """Return the history of each of *tenants*, oldest entry first."""
        ...

    async def commit(
        self, record: TenantRecord, entry: HistoryEntry, previous_owner: JournalEntry | None = None
    ) -> bool:
        """Store *record* and append *entry* to its history; return whether that was possible.

        Return False, and store nothing, if the version of *record* does not follow the stored version, or if another
        tenant owns one of its keys (`TenantRecord.unique_keys`). *previous_owner* is the new record of a tenant that
        releases such a key. Both records are stored, or neither.
        If the journal is durable, a stored record survives a crash of process and machine.
        """
        ...


@attrs.define(eq=False)
class MemoryJournal:
    """Journal in memory, for the sandbox and for tests. It is lost when the process ends."""

    _identity: JournalIdentity | None = attrs.field(init=False, default=None)
    _records: dict[str, TenantRecord] = attrs.field(init=False, repr=False, factory=dict[str, TenantRecord])
    _histories: dict[str, str] = attrs.field(init=False, repr=False, factory=dict[str, str])
    # Tenant by each key that no other tenant may have.
    _owners: dict[tuple[str, str], str] = attrs.field(init=False, repr=False, factory=dict[tuple[str, str], str])

    @property
    def durable(self) -> bool:
        return False

    async def bind_identity(self, identity: JournalIdentity) -> JournalIdentity:
        self._identity = self._identity or identity
        return self._identity

    async def load(self, tenants: Iterable[str] | None = None) -> Mapping[str, TenantRecord]:
        names = self._records if tenants is None else tenants
        return {name: self._records[name] for name in names if name in self._records}

    async def bindings(self) -> Mapping[str, Binding]:
        return collect_bindings(self._records.values())

    async def history(self, tenants: Iterable[str]) -> Mapping[str, tuple[HistoryEntry, ...]]:
        return {name: HistoryEntry.parse_lines(self._histories[name]) for name in tenants if name in self._histories}

    async def commit(
        self, record: TenantRecord, entry: HistoryEntry, previous_owner: JournalEntry | None = None
    ) -> bool:
        # The previous owner comes first, so that its keys are free when the new owner is indexed.
        entries = ((record, entry),) if previous_owner is None else (previous_owner, (record, entry))
        keys = _unique_keys(record)
        owners = {self._owners.get(key, record.tenant) for key in keys} - {record.tenant}
        for changed, _ in entries:
            stored = self._records.get(changed.tenant)
            if changed.version != (stored.version if stored else 0) + 1:
                return False
            if changed is not record and keys.isdisjoint(_unique_keys(changed)):
                owners -= {changed.tenant}
        if owners:
            return False
        for changed, changed_entry in entries:
            stored = self._records.get(changed.tenant)
            for key in _unique_keys(stored) if stored else ():
                self._owners.pop(key, None)
            self._owners |= dict.fromkeys(_unique_keys(changed), changed.tenant)
            self._records[changed.tenant] = changed
            self._histories[changed.tenant] = self._histories.get(changed.tenant, "") + changed_entry.to_line()
        return True


def _unique_keys(record: TenantRecord) -> set[tuple[str, str]]:
    return {(kind, key) for kind, key in zip(("env", "alias"), record.unique_keys(), strict=True) if key is not None}


async def commit_record(
    journal: Journal, before: TenantRecord, after: TenantRecord, now: float, previous_owner: RecordChange | None = None
) -> None:
    """Commit *after*, and *previous_owner* with it; raise `JournalConflict` if rejected, or `JournalError`."""
    released = None if previous_owner is None else previous_owner.to_entry(now)
    try:
        committed = await journal.commit(*RecordChange(before, after).to_entry(now), released)
    except WxtcbError:
        raise
    # A journal may be written by the user: any exception of it must stop the run before the next create.
    except Exception as error:
        # Only its type: the message may hold a secret, such as the password of a database.
        raise JournalError(f"the journal failed ({type(error).__name__}); check its storage") from error
    if not committed:
        raise JournalConflict(
            f"the journal rejected the record of tenant {after.tenant!r}: another run changed it, or another tenant "
            "owns its environment or alias; plan again"
        )


async def commit_record_changes(journal: Journal, record_changes: Iterable[RecordChange], now: float) -> None:
    """Commit the record changes of an operator's decisions; raise the first error."""
    remaining = iter(record_changes)
    # A journal on disk writes concurrent commits in one transaction. Batches bound the number of tasks.
    while batch := [
        commit_record(journal, each.before, each.after, now, each.previous_owner) for each in islice(remaining, 500)
    ]:
        # All commits of the batch must end before an error is raised, so that none runs on unobserved.
        for result in await asyncio.gather(*batch, return_exceptions=True):
            if isinstance(result, BaseException):
                raise result
