"""Plans: what `Provisioner.apply` would do, tenant by tenant. A plan holds values only and changes nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from enum import Enum
from functools import cached_property
from types import MappingProxyType
from typing import Final

import attrs

from wxtcb.api.environment import EnvList
from wxtcb.provision.journal import Journal
from wxtcb.provision.record import EMPTY_MAPPING, RecordChange, TenantRecord
from wxtcb.provision.report import dump_json
from wxtcb.provision.tenant import Tenant

__all__ = ["Action", "OperatorDecisions", "Plan", "TenantPlan"]


class Action(Enum):
    """Action that a plan has for the environment of a tenant. CONFLICT and DUPLICATE wait for an operator."""

    CREATE = "create"
    ADOPT = "adopt"
    READY = "ready"
    CONFLICT = "conflict"
    DUPLICATE = "duplicate"


ACTION_SYMBOLS: Final[Mapping[Action, str]] = MappingProxyType(
    {Action.CREATE: "+", Action.ADOPT: "~", Action.READY: " ", Action.CONFLICT: "!", Action.DUPLICATE: "!"}
)
_ACTION_LABELS: Final = {Action.READY: "ready", Action.CONFLICT: "in conflict", Action.DUPLICATE: "duplicate"}


@attrs.frozen
class AliasIndex:
    """Environments by alias in lower case, because the platform compares aliases without case.

    `aliases_without_env` are in use by environments whose ids cannot be read.
    """

    envs: frozenset[str]
    _by_alias: Mapping[str, tuple[str, ...]] = attrs.field(repr=False)
    aliases_without_env: frozenset[str] = frozenset()

    @classmethod
    def from_list(cls, listed: EnvList) -> AliasIndex:
        by_alias: dict[str, tuple[str, ...]] = {}
        for info in listed.info_list:
            key = info.alias.lower()
            by_alias[key] = (*by_alias.get(key, ()), info.env)
        return cls(frozenset(listed.by_env), by_alias, listed.aliases_without_env)

    def find(self, alias: str) -> tuple[str, ...]:
        return self._by_alias.get(alias.lower(), ())

    def has_unreadable(self, alias: str) -> bool:
        """Return whether an environment that `find` cannot return has *alias*."""
        return alias.lower() in self.aliases_without_env


def _as_immutable(pairs: Mapping[str, str]) -> Mapping[str, str]:
    return MappingProxyType({**pairs})


@attrs.frozen(kw_only=True)
class OperatorDecisions:
    """Decisions of an operator about tenants; the fields are the arguments of `Provisioner.plan`.

    `revision` is that of the desired tenant, if a worker carries out its decision.
    """

    adopt: Mapping[str, str] = attrs.field(default=EMPTY_MAPPING, converter=_as_immutable)
    adopt_all: bool = False
    forget: Mapping[str, str] = attrs.field(default=EMPTY_MAPPING, converter=_as_immutable)
    resend_links: bool = False
    all_tenants: bool = False
    removed: bool = False
    retry: frozenset[str] = frozenset()
    revision: int = 0


@attrs.frozen(kw_only=True)
class TenantPlan:
    """Plan of one tenant.

    - `env`, `status`: the environment that the tenant has, or that it will adopt.
    - `existing`: environments that have its alias; those that are `adoptable` belong to no other tenant of the plan.
    - `reason`: why the tenant is blocked; empty if it is not. `is_postponed`: a later list may show otherwise.
    """

    tenant: Tenant
    alias: str
    action: Action
    env: str | None = None
    status: str | None = None
    existing: tuple[str, ...] = ()
    adoptable: tuple[str, ...] = ()
    reason: str = ""
    is_postponed: bool = False
    steps: tuple[str, ...] = ()
    initial_record: TenantRecord | None = attrs.field(default=None, repr=False)
    resend_links: bool = False
    # The stored record that the plan was made from. `initial_record` is the same after operator decisions.
    base_record: TenantRecord | None = attrs.field(default=None, eq=False, repr=False)

    @property
    def record(self) -> TenantRecord:
        """Record of the tenant once all record changes are committed; a new one if the journal has none."""
        if self.initial_record is None:
            return TenantRecord(tenant=self.tenant.name, alias=self.alias)
        # An environment stays under the alias it was created with. Without one, the present alias counts.
        if self.initial_record.may_have_environment:
            return self.initial_record
        return attrs.evolve(self.initial_record, alias=self.alias)

    @property
    def effective_record(self) -> TenantRecord:
        return self.record.effective_record(resend_links=self.resend_links)

    def is_same_request(self, other: TenantPlan) -> bool:
        """Return whether *other* asks for the same; what was found about the tenant may differ."""
        return (self.tenant, self.alias, self.resend_links) == (other.tenant, other.alias, other.resend_links)

    @property
    def is_blocked(self) -> bool:
        return self.action in (Action.CONFLICT, Action.DUPLICATE)

    @property
    def has_changes(self) -> bool:
        return bool(self.steps) and not self.is_blocked

    def __str__(self) -> str:
        detail = self.reason or f"{self.env or f'alias {self.alias}'}: {', '.join(self.steps) or 'nothing to do'}"
        return f"{ACTION_SYMBOLS[self.action]} {self.tenant.name}: {self.action.value}, {detail}"

    def to_dict(self) -> dict[str, object]:
        names = ("alias", "env", "status", "steps", "existing", "adoptable", "reason")
        values = {name: getattr(self, name) for name in names}
        return {"tenant": self.tenant.name, "action": self.action.value, **values}


@attrs.define(frozen=True, slots=False)
class Plan:
    """Plan of all tenants, in the order given. ``print(plan)`` shows one line a tenant, a summary and the notes.

    - `notes`: warnings about the plan as a whole.
    - `missing_envs`: environments of the journal, by tenant, that the platform does not list.
    - `absent_tenants`: those of tenants that are not in the plan although `all_tenants` was given; "" if ambiguous.

    An apply lists the environments again before every create, and creates none for a tenant that was not CREATE.
    """

    namespace: str
    tenants: tuple[TenantPlan, ...]
    alias_index: AliasIndex = attrs.field(eq=False, repr=False)
    # Time of the event loop at which the list was requested.
    listed_at: float = attrs.field(eq=False, repr=False)
    journal: Journal = attrs.field(eq=False, repr=False)
    decisions: OperatorDecisions = attrs.field(factory=OperatorDecisions)
    record_changes: tuple[RecordChange, ...] = attrs.field(default=(), repr=False)
    notes: tuple[str, ...] = ()
    missing_envs: Mapping[str, str] = EMPTY_MAPPING
    absent_tenants: Mapping[str, str] = EMPTY_MAPPING

    @cached_property
    def counts(self) -> Mapping[Action, int]:
        """Number of tenants by action; includes actions with 0."""
        found = Counter(planned.action for planned in self.tenants)
        return MappingProxyType({action: found[action] for action in Action})

    @property
    def create_count(self) -> int:
        return self.counts[Action.CREATE]

    @property
    def has_changes(self) -> bool:
        return any(planned.has_changes for planned in self.tenants)

    @property
    def summary(self) -> str:
        counts = self.counts
        parts = [f"{counts[Action.CREATE]} to create", f"{counts[Action.ADOPT]} to adopt"]
        shown = (action for action in _ACTION_LABELS if counts[action] or action is Action.READY)
        parts += [f"{counts[action]} {_ACTION_LABELS[action]}" for action in shown]
        return f"Plan: {', '.join(parts)}."

    def __str__(self) -> str:
        return "\n".join((*map(str, self.tenants), self.summary, *self.notes))

    def to_json(self) -> bytes:
        document = {
            "namespace": self.namespace,
            "tenants": [planned.to_dict() for planned in self.tenants],
            "counts": {action.value: count for action, count in self.counts.items()},
            "total": len(self.tenants),
            "notes": self.notes,
            "missing": dict(self.missing_envs),
            "absent": dict(self.absent_tenants),
        }
        return dump_json(document)


def alias_in_use_message(alias: str, envs: tuple[str, ...], own_env: str | None = None) -> str:
    """Return the message of an alias that existing environments have; *own_env* is that of the tenant."""
    if own_env in envs:
        advice = f"keep {own_env}, which is this tenant's, and delete the others"
    elif len(envs) == 1:
        advice = "adopt it if it is this tenant's, else choose another alias"
    else:
        advice = "adopt one of them and delete the others"
    return f"alias {alias} is in use by {', '.join(envs)}: {advice}"
