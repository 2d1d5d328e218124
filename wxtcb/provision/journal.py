"""What is remembered of every tenant, so that nothing is opened twice and nothing done is done again."""

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

EMPTY_MAPPING: Final[Mapping[str, str]] = MappingProxyType({})


class JournalError(WxtcbError):
    """The journal could not keep what was to be done or what was done; nothing more is sent."""


class JournalConflict(JournalError):
    """The journal has a newer record of this tenant, or its environment or alias is another tenant's."""


class UnserializableRecord(JournalError):
    """This record holds what the journal has no place for; nothing more is sent for its tenant."""


class JournalInUse(JournalError):
    """Another process has the journal open, or another journal object of this one."""


class ServiceState(Enum):
    """How far a service is; SENT without an answer means that it may be there."""

    SENT = "sent"
    DONE = "done"
    UNCONFIRMED = "done (unconfirmed)"


NO_SERVICES: Final[Mapping[str, ServiceState]] = MappingProxyType({})


@attrs.frozen(kw_only=True)
class JournalIdentity:
    """What a journal belongs to: a platform, whether the real one or one on loopback, and a namespace of aliases."""

    component_appid: str
    on_loopback: bool
    namespace: str


def to_utc(timestamp: float) -> datetime | None:
    """Return a moment of Unix time; None for one that no calendar has, of a clock that was far off."""
    try:
        return datetime.fromtimestamp(timestamp, UTC)
    except (ValueError, OverflowError, OSError):
        return None


@attrs.frozen
class HistoryEntry:
    """What became of a tenant, and when, in Unix time by the clock of the process that did it."""

    timestamp: float
    change: str

    @classmethod
    def parse_lines(cls, lines: str) -> tuple[HistoryEntry, ...]:
        """Read what `to_line` wrote, one behind the other."""
        pairs = (line.partition(" ") for line in lines.split("\n") if line)
        return tuple(cls(float(at), change) for at, _, change in pairs)

    def to_line(self) -> str:
        """Return it as a line: many are kept, most of them never read."""
        return f"{self.timestamp:.3f} {' '.join(self.change.splitlines())}\n"


@attrs.frozen(kw_only=True)
class Intent:
    """A create that was about to be sent; until `deadline`, `window` seconds later, it may still be under way.

    The deadline is in Unix time.
    """

    deadline: float
    window: float = 0.0


@attrs.frozen(kw_only=True)
class TenantRecord:
    """All that is known of one tenant.

    `version` grows with every commit, `attempt` with every create that was intended. `intent` stands as long as nobody
    knows whether that create acted. `env` is the environment bound to the tenant, since `opened_at` in Unix time, and
    `tranid` its order number if we opened it and were told. `links` has the confirmation page given for each mini
    program (empty if none was), `services` how far each one is, and `marks` what further kinds of steps want to
    remember. One that is `retired` was removed from the tenants on purpose; what it has stays known.
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
    marks: Mapping[str, str] = EMPTY_MAPPING
    retired: bool = False

    @property
    def may_have_environment(self) -> bool:
        """Whether an environment was opened under its alias, or may have been."""
        return self.env is not None or self.intent is not None

    def unshared_appids(self, appids: Iterable[str]) -> tuple[str, ...]:
        """Return those of *appids* that the environment was not offered to."""
        return tuple(appid for appid in appids if appid not in self.links)

    def effective_record(self, *, resend_links: bool) -> TenantRecord:
        """Return what the steps go by: without the links, if they are to be asked for again."""
        return attrs.evolve(self, links=EMPTY_MAPPING) if resend_links else self

    def has_service(self, name: str) -> bool:
        """Whether a service is established, as far as is known; one that was only sent is not."""
        return self.services.get(name) in (ServiceState.DONE, ServiceState.UNCONFIRMED)

    def unconfirmed_services(self, names: Iterable[str]) -> tuple[str, ...]:
        """Return those of *names* that are established, but perhaps by somebody else."""
        return tuple(name for name in names if self.services.get(name) is ServiceState.UNCONFIRMED)

    def unique_keys(self) -> tuple[str | None, str | None]:
        """Return what no two tenants may have: an environment, and an alias, in lower case, under which one is open."""
        if not self.may_have_environment:
            return self.env, None
        return self.env, self.alias if self.alias.islower() else self.alias.lower()


@attrs.frozen
class Binding:
    """Which tenant an environment belongs to, and since when, in Unix time."""

    tenant: str
    since: float


def collect_bindings(records: Iterable[TenantRecord]) -> dict[str, Binding]:
    """Return the environments that records have, and whose they are."""
    return {record.env: Binding(record.tenant, record.opened_at or 0.0) for record in records if record.env is not None}


def recently_opened(bindings: Mapping[str, Binding], now: float, settle: float) -> frozenset[str]:
    """Return those that the platform's list may not show yet, *settle* seconds after they were opened."""
    return frozenset(env for env, binding in bindings.items() if 0 <= now - binding.since < settle)


@attrs.frozen
class RecordChange:
    """A record of the journal that a decision changes, before anything else is done.

    `previous_owner` is the change of another tenant's record, who gives up what this one takes.
    """

    before: TenantRecord
    after: TenantRecord
    previous_owner: RecordChange | None = None


def reset_record(record: TenantRecord) -> TenantRecord:
    """Forget what was done in another environment, or intended: a person has decided what the tenant is to have."""
    return attrs.evolve(
        record,
        env=None,
        tranid=None,
        opened_at=None,
        intent=None,
        links=EMPTY_MAPPING,
        services=NO_SERVICES,
        marks=EMPTY_MAPPING,
    )


JournalEntry = tuple[TenantRecord, HistoryEntry]


class Journal(Protocol):
    """Keeps the records of one `JournalIdentity`. Provisional: the methods may still change.

    One of your own keeps each `TenantRecord`, all of its fields, under the name of its tenant, with the `HistoryEntry`s of its
    history; it gives a `Binding` for every record that has an `env`, and belongs to the `JournalIdentity` that claimed it first.
    `durable` tells whether they outlive the process; without that only loopback is provisioned. All methods raise
    `JournalError` where the journal cannot be read or written.
    """

    @property
    def durable(self) -> bool: ...

    async def bind_identity(self, identity: JournalIdentity) -> JournalIdentity:
        """Return what this journal belongs to: what it has recorded, or else *home*, which it has recorded now."""
        ...

    async def load(self, tenants: Iterable[str] | None = None) -> Mapping[str, TenantRecord]:
        """Return the records of those of *tenants* that have one; of all that have one if None."""
        ...

    async def bindings(self) -> Mapping[str, Binding]:
        """Return every environment that a tenant is bound to, and which tenant that is."""
        ...

    async def history(self, tenants: Iterable[str]) -> Mapping[str, tuple[HistoryEntry, ...]]:
        """Return what became of each of *tenants*, the oldest first."""
        ...

    async def commit(
        self, record: TenantRecord, entry: HistoryEntry, previous_owner: JournalEntry | None = None
    ) -> bool:
        """Keep *record* if its version follows the one that is kept, and add *moment* to its history; tell whether.

        It is not kept if one of its claims (`TenantRecord.unique_keys`) is another tenant's. *giver* is the record of a tenant who
        gives up what this one claims: both are kept, or neither. What was kept stays kept, whatever
        becomes of process and machine, if the journal is durable.
        """
        ...


@attrs.define(eq=False)
class MemoryJournal:
    """A journal for as long as the process lives; for the sandbox and for tests."""

    _identity: JournalIdentity | None = attrs.field(init=False, default=None)
    _records: dict[str, TenantRecord] = attrs.field(init=False, repr=False, factory=dict[str, TenantRecord])
    _histories: dict[str, str] = attrs.field(init=False, repr=False, factory=dict[str, str])
    _env_owners: dict[str, str] = attrs.field(init=False, repr=False, factory=dict[str, str])
    _alias_owners: dict[str, str] = attrs.field(init=False, repr=False, factory=dict[str, str])

    @property
    def durable(self) -> bool:
        return False

    async def bind_identity(self, identity: JournalIdentity) -> JournalIdentity:
        self._identity = self._identity or identity
        return self._identity

    async def load(self, tenants: Iterable[str] | None = None) -> Mapping[str, TenantRecord]:
        if tenants is None:
            return dict(self._records)
        return {name: self._records[name] for name in tenants if name in self._records}

    async def bindings(self) -> Mapping[str, Binding]:
        return collect_bindings(self._records[tenant] for tenant in self._env_owners.values())

    async def history(self, tenants: Iterable[str]) -> Mapping[str, tuple[HistoryEntry, ...]]:
        return {name: HistoryEntry.parse_lines(self._histories[name]) for name in tenants if name in self._histories}

    async def commit(
        self, record: TenantRecord, entry: HistoryEntry, previous_owner: JournalEntry | None = None
    ) -> bool:
        changes = ((record, entry),) if previous_owner is None else (previous_owner, (record, entry))
        if not self._keys_are_free(record, previous_owner[0] if previous_owner else None) or not all(
            self._is_next_version(each) for each, _ in changes
        ):
            return False
        for each, at in changes:
            self._store(each, at)
        return True

    def _is_next_version(self, record: TenantRecord) -> bool:
        kept = self._records.get(record.tenant)
        return record.version == (kept.version if kept else 0) + 1

    def _keys_are_free(self, record: TenantRecord, previous_owner: TenantRecord | None) -> bool:
        """Tell whether what *record* claims is free, or given up by *giver*."""
        env, alias = record.unique_keys()
        holders = {self._env_owners.get(env or ""), self._alias_owners.get(alias or "")} - {None, record.tenant}
        if previous_owner is None or not holders:
            return not holders
        return holders == {previous_owner.tenant} and not {*previous_owner.unique_keys()} & {env, alias} - {None}

    def _store(self, record: TenantRecord, entry: HistoryEntry) -> None:
        if kept := self._records.get(record.tenant):
            env, alias = kept.unique_keys()
            self._env_owners.pop(env or "", None)
            self._alias_owners.pop(alias or "", None)
        env, alias = record.unique_keys()
        if env is not None:
            self._env_owners[env] = record.tenant
        if alias is not None:
            self._alias_owners[alias] = record.tenant
        self._records[record.tenant] = record
        self._histories[record.tenant] = self._histories.get(record.tenant, "") + entry.to_line()


def describe_change(before: TenantRecord, after: TenantRecord) -> str:
    """Say what differs, in one line."""
    return "; ".join(_change_parts(before, after)) or "noted"


def _change_parts(before: TenantRecord, after: TenantRecord) -> Iterator[str]:
    if after.retired != before.retired:
        yield "removed from the tenants" if after.retired else "among the tenants again"
    yield from _environment_changes(before, after)
    offered = [appid for appid, url in after.links.items() if before.links.get(appid) != url]
    if offered:
        yield f"shared with {', '.join(offered)}"
    for name, state in after.services.items():
        if before.services.get(name) is not state:
            yield f"service {name} {_SERVICE_STATE_LABELS[state]}"
    for name in before.services:
        if name not in after.services and after.env == before.env:
            yield f"service {name} not established"
    for name, mark in after.marks.items():
        if before.marks.get(name) != mark:
            yield f"{name}: {mark}"


def _environment_changes(before: TenantRecord, after: TenantRecord) -> Iterator[str]:
    if after.attempt > before.attempt:
        yield f"create {after.attempt} intended under alias {after.alias}"
    elif before.intent and not after.intent and after.env is None:
        yield f"create {after.attempt} did not act"
    if after.env != before.env:
        if after.env is None:
            yield f"environment {before.env} given up"
        elif after.tranid not in (None, before.tranid):
            yield f"environment {after.env} opened, order {after.tranid}"
        else:
            yield f"environment {after.env} adopted"


_SERVICE_STATE_LABELS = {
    ServiceState.SENT: "is being established",
    ServiceState.DONE: "established",
    ServiceState.UNCONFIRMED: "there, unconfirmed",
}


_COMMIT_BATCH_SIZE: Final = 500


async def commit_record(
    journal: Journal, before: TenantRecord, after: TenantRecord, now: float, previous_owner: RecordChange | None = None
) -> None:
    """Commit a record, and that of who gives up what it takes, or raise `JournalError`."""
    given = (
        None
        if previous_owner is None
        else (previous_owner.after, HistoryEntry(now, describe_change(previous_owner.before, previous_owner.after)))
    )
    try:
        kept = await journal.commit(after, HistoryEntry(now, describe_change(before, after)), given)
    except WxtcbError:
        raise
    except Exception as error:
        raise JournalError(f"the journal failed ({type(error).__name__}: {error})") from error
    if not kept:
        raise JournalConflict(
            f"the journal does not take this record of tenant {after.tenant!r}: another run works on it, or its "
            "environment or alias is another tenant's. Plan again"
        )


async def commit_record_changes(journal: Journal, record_changes: Iterable[RecordChange], now: float) -> None:
    """Commit what a person has decided, before anything is done on its ground."""
    left = iter(record_changes)
    while together := [
        commit_record(journal, each.before, each.after, now, each.previous_owner)
        for each in islice(left, _COMMIT_BATCH_SIZE)
    ]:
        for result in await asyncio.gather(*together, return_exceptions=True):
            if isinstance(result, BaseException):
                raise result
