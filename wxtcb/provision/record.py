"""Records: what the journal stores about every tenant, and its history in words. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from enum import Enum
from types import MappingProxyType
from typing import Final

import attrs

__all__ = [
    "Binding",
    "HistoryEntry",
    "Intent",
    "JournalEntry",
    "JournalIdentity",
    "RecordChange",
    "ServiceState",
    "TenantRecord",
]

EMPTY_MAPPING: Final[Mapping[str, str]] = MappingProxyType({})


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
    - `creates_sent`: creates without a clear rejection since an operator last decided about the tenant.
    - `decided_revision`: revision of the desired tenant whose decision allowed these creates; 0 if there was none.
    - `outcome`, `problem`: result of the last run of the tenant if it is not done, and why; empty if it is done.
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
    creates_sent: int = 0
    decided_revision: int = 0
    outcome: str = ""
    problem: str = ""

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
    yield from _describe_outcome_change(before, after)
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


def _describe_outcome_change(before: TenantRecord, after: TenantRecord) -> Iterator[str]:
    if after.outcome and (after.outcome, after.problem) != (before.outcome, before.problem):
        yield f"{after.outcome}: {after.problem}"
    if after.creates_sent < before.creates_sent and after.env == before.env and after.intent == before.intent:
        yield "creates allowed again"


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
