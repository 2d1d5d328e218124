"""What is remembered of every tenant, so that nothing is opened twice and nothing done is done again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from enum import Enum
from types import MappingProxyType
from typing import Final, Protocol

import attrs

from wxtcb.errors import WxtcbError

NOTHING: Final[Mapping[str, str]] = MappingProxyType({})


class JournalError(WxtcbError):
    """The journal could not keep what was to be done or what was done; nothing more is sent."""


class JournalConflict(JournalError):
    """The journal has a newer record of this tenant, or its environment or alias is another tenant's."""


class RecordUnfit(JournalError):
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
class Home:
    """What a journal belongs to: a platform, whether the real one or one on loopback, and a namespace of aliases."""

    component_appid: str
    on_loopback: bool
    namespace: str


def utc(at: float) -> datetime | None:
    """Return a moment of Unix time; None for one that no calendar has, of a clock that was far off."""
    try:
        return datetime.fromtimestamp(at, UTC)
    except (ValueError, OverflowError, OSError):
        return None


@attrs.frozen
class Moment:
    """What became of a tenant, and when, in Unix time by the clock of the process that did it."""

    at: float
    change: str

    @classmethod
    def read(cls, lines: str) -> tuple[Moment, ...]:
        """Read what `write` wrote, one behind the other."""
        pairs = (line.partition(" ") for line in lines.split("\n") if line)
        return tuple(cls(float(at), change) for at, _, change in pairs)

    def write(self) -> str:
        """Return it as a line: many are kept, most of them never read."""
        return f"{self.at:.3f} {' '.join(self.change.splitlines())}\n"


@attrs.frozen(kw_only=True)
class Intent:
    """A create that was about to be sent; until `deadline`, `window` seconds later, it may still be under way.

    The deadline is in Unix time.
    """

    deadline: float
    window: float = 0.0


@attrs.frozen(kw_only=True)
class Record:
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
    links: Mapping[str, str] = NOTHING
    services: Mapping[str, ServiceState] = NO_SERVICES
    marks: Mapping[str, str] = NOTHING
    retired: bool = False

    @property
    def is_open(self) -> bool:
        """Whether an environment was opened under its alias, or may have been."""
        return self.env is not None or self.intent is not None

    def unshared(self, appids: Iterable[str]) -> tuple[str, ...]:
        """Return those of *appids* that the environment was not offered to."""
        return tuple(appid for appid in appids if appid not in self.links)

    def to_go_by(self, *, resend: bool) -> Record:
        """Return what the steps go by: without the links, if they are to be asked for again."""
        return attrs.evolve(self, links=NOTHING) if resend else self

    def has_service(self, name: str) -> bool:
        """Whether a service is established, as far as is known; one that was only sent is not."""
        return self.services.get(name) in (ServiceState.DONE, ServiceState.UNCONFIRMED)

    def unconfirmed(self, names: Iterable[str]) -> tuple[str, ...]:
        """Return those of *names* that are established, but perhaps by somebody else."""
        return tuple(name for name in names if self.services.get(name) is ServiceState.UNCONFIRMED)

    def claims(self) -> tuple[str | None, str | None]:
        """Return what no two tenants may have: an environment, and an alias, in lower case, under which one is open."""
        if not self.is_open:
            return self.env, None
        return self.env, self.alias if self.alias.islower() else self.alias.lower()


@attrs.frozen
class Binding:
    """Which tenant an environment belongs to, and since when, in Unix time."""

    tenant: str
    since: float


def bindings(records: Iterable[Record]) -> dict[str, Binding]:
    """Return the environments that records have, and whose they are."""
    return {record.env: Binding(record.tenant, record.opened_at or 0.0) for record in records if record.env is not None}


def young(bound: Mapping[str, Binding], now: float, settle: float) -> frozenset[str]:
    """Return those that the platform's list may not show yet, *settle* seconds after they were opened."""
    return frozenset(env for env, binding in bound.items() if 0 <= now - binding.since < settle)


Change = tuple[Record, Moment]


class Journal(Protocol):
    """Keeps the records of one `Home`. Provisional: the methods may still change.

    One of your own keeps each `Record`, all of its fields, under the name of its tenant, with the `Moment`s of its
    history; it gives a `Binding` for every record that has an `env`, and belongs to the `Home` that claimed it first.
    `durable` tells whether they outlive the process; without that only loopback is provisioned. All methods raise
    `JournalError` where the journal cannot be read or written.
    """

    @property
    def durable(self) -> bool: ...

    async def claim(self, home: Home) -> Home:
        """Return what this journal belongs to: what it has recorded, or else *home*, which it has recorded now."""
        ...

    async def load(self, tenants: Iterable[str] | None = None) -> Mapping[str, Record]:
        """Return the records of those of *tenants* that have one; of all that have one if None."""
        ...

    async def bound(self) -> Mapping[str, Binding]:
        """Return every environment that a tenant is bound to, and which tenant that is."""
        ...

    async def history(self, tenants: Iterable[str]) -> Mapping[str, tuple[Moment, ...]]:
        """Return what became of each of *tenants*, the oldest first."""
        ...

    async def commit(self, record: Record, moment: Moment, giver: Change | None = None) -> bool:
        """Keep *record* if its version follows the one that is kept, and add *moment* to its history; tell whether.

        It is not kept if one of its claims (`Record.claims`) is another tenant's. *giver* is the record of a tenant who
        gives up what this one claims: both are kept, or neither. What was kept stays kept, whatever
        becomes of process and machine, if the journal is durable.
        """
        ...


@attrs.define(eq=False)
class MemoryJournal:
    """A journal for as long as the process lives; for the sandbox and for tests."""

    _home: Home | None = attrs.field(init=False, default=None)
    _records: dict[str, Record] = attrs.field(init=False, repr=False, factory=dict[str, Record])
    _histories: dict[str, str] = attrs.field(init=False, repr=False, factory=dict[str, str])
    _envs: dict[str, str] = attrs.field(init=False, repr=False, factory=dict[str, str])
    _aliases: dict[str, str] = attrs.field(init=False, repr=False, factory=dict[str, str])

    @property
    def durable(self) -> bool:
        return False

    async def claim(self, home: Home) -> Home:
        self._home = self._home or home
        return self._home

    async def load(self, tenants: Iterable[str] | None = None) -> Mapping[str, Record]:
        if tenants is None:
            return dict(self._records)
        return {name: self._records[name] for name in tenants if name in self._records}

    async def bound(self) -> Mapping[str, Binding]:
        return bindings(self._records[tenant] for tenant in self._envs.values())

    async def history(self, tenants: Iterable[str]) -> Mapping[str, tuple[Moment, ...]]:
        return {name: Moment.read(self._histories[name]) for name in tenants if name in self._histories}

    async def commit(self, record: Record, moment: Moment, giver: Change | None = None) -> bool:
        changes = ((record, moment),) if giver is None else (giver, (record, moment))
        if not self._takes(record, giver[0] if giver else None) or not all(self._follows(each) for each, _ in changes):
            return False
        for each, at in changes:
            self._keep(each, at)
        return True

    def _follows(self, record: Record) -> bool:
        kept = self._records.get(record.tenant)
        return record.version == (kept.version if kept else 0) + 1

    def _takes(self, record: Record, giver: Record | None) -> bool:
        """Tell whether what *record* claims is free, or given up by *giver*."""
        env, alias = record.claims()
        holders = {self._envs.get(env or ""), self._aliases.get(alias or "")} - {None, record.tenant}
        if giver is None or not holders:
            return not holders
        return holders == {giver.tenant} and not {*giver.claims()} & {env, alias} - {None}

    def _keep(self, record: Record, moment: Moment) -> None:
        if kept := self._records.get(record.tenant):
            env, alias = kept.claims()
            self._envs.pop(env or "", None)
            self._aliases.pop(alias or "", None)
        env, alias = record.claims()
        if env is not None:
            self._envs[env] = record.tenant
        if alias is not None:
            self._aliases[alias] = record.tenant
        self._records[record.tenant] = record
        self._histories[record.tenant] = self._histories.get(record.tenant, "") + moment.write()
