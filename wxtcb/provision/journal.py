"""What is remembered of every tenant, so that nothing is opened twice and nothing done is done again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum
from types import MappingProxyType
from typing import Final, Protocol

import attrs

from wxtcb.errors import InvalidArgument

NOTHING: Final[Mapping[str, str]] = MappingProxyType({})


class ServiceState(Enum):
    """How far a service is; SENT without an answer means that it may be there."""

    SENT = "sent"
    DONE = "done"
    UNCONFIRMED = "done (unconfirmed)"


_NO_SERVICES: Final[Mapping[str, ServiceState]] = MappingProxyType({})


@attrs.frozen(kw_only=True)
class Intent:
    """A create that was about to be sent; until `deadline`, in Unix time, it may still be under way."""

    deadline: float


@attrs.frozen(kw_only=True)
class Record:
    """All that is known of one tenant.

    `version` grows with every commit, `attempt` with every create that was intended. `intent` stands as long as nobody
    knows whether that create acted. `env` is the environment bound to the tenant, `tranid` its order number if we
    opened it. `links` has the confirmation page given for each mini program (empty if none was), `services` how far
    each one is, and `marks` what further kinds of steps want to remember.
    """

    tenant: str
    alias: str
    version: int = 0
    attempt: int = 0
    intent: Intent | None = None
    env: str | None = None
    tranid: str | None = None
    links: Mapping[str, str] = NOTHING
    services: Mapping[str, ServiceState] = _NO_SERVICES
    marks: Mapping[str, str] = NOTHING

    @property
    def is_open(self) -> bool:
        """Whether an environment was opened under its alias, or may have been."""
        return self.env is not None or self.intent is not None

    def unshared(self, appids: Iterable[str]) -> tuple[str, ...]:
        """Return those of *appids* that the environment was not offered to."""
        return tuple(appid for appid in appids if appid not in self.links)

    def has_service(self, name: str) -> bool:
        """Whether a service is established, as far as is known; one that was only sent is not."""
        return self.services.get(name) in (ServiceState.DONE, ServiceState.UNCONFIRMED)


class Journal(Protocol):
    """Keeps the records of one namespace. Provisional: the methods may still change.

    `durable` tells whether they outlive the process; without that only loopback is provisioned.
    """

    @property
    def durable(self) -> bool: ...

    async def claim(self, namespace: str | None, default: str) -> str:
        """Return the namespace of this journal: the one recorded, else *namespace*, else *default*, recorded now.

        Raises `InvalidArgument` for a *namespace* that is not the recorded one.
        """
        ...

    async def load(self, tenants: Iterable[str]) -> Mapping[str, Record]:
        """Return the records of those of *tenants* that have one."""
        ...

    async def bound(self) -> Mapping[str, str]:
        """Return every environment that a tenant is bound to, with the tenant's name."""
        ...

    async def commit(self, record: Record) -> bool:
        """Keep *record* if its version follows the one that is kept; tell whether it was.

        It is not if its environment is bound to another tenant, or its alias open for one (`Record.is_open`).
        """
        ...


@attrs.define(eq=False)
class MemoryJournal:
    """A journal for as long as the process lives; for the sandbox and for tests."""

    _namespace: str | None = attrs.field(init=False, default=None)
    _records: dict[str, Record] = attrs.field(init=False, repr=False, factory=dict[str, Record])
    _holders: dict[str, str] = attrs.field(init=False, repr=False, factory=dict[str, str])

    @property
    def durable(self) -> bool:
        return False

    async def claim(self, namespace: str | None, default: str) -> str:
        if self._namespace is None:
            self._namespace = namespace or default
        if namespace not in (None, self._namespace):
            raise InvalidArgument(f"the journal belongs to namespace {self._namespace!r}, not {namespace!r}")
        return self._namespace

    async def load(self, tenants: Iterable[str]) -> Mapping[str, Record]:
        return {name: self._records[name] for name in tenants if name in self._records}

    async def bound(self) -> Mapping[str, str]:
        return {record.env: record.tenant for record in self._records.values() if record.env is not None}

    async def commit(self, record: Record) -> bool:
        kept = self._records.get(record.tenant)
        claims = _claims(record)
        if record.version != (kept.version if kept else 0) + 1:
            return False
        if any(self._holders.get(claim, record.tenant) != record.tenant for claim in claims):
            return False
        for claim in _claims(kept) if kept else ():
            del self._holders[claim]
        self._holders |= dict.fromkeys(claims, record.tenant)
        self._records[record.tenant] = record
        return True


def _claims(record: Record) -> tuple[str, ...]:
    """Return what no two tenants may have: an environment, and an alias under which one is open."""
    alias = (f"alias {record.alias.lower()}",) if record.is_open else ()
    return alias if record.env is None else (*alias, f"env {record.env}")
