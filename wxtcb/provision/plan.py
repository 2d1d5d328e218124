"""What an apply would do, tenant by tenant: values, made by `deciding`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from enum import Enum
from functools import cached_property
from types import MappingProxyType
from typing import Final

import attrs
import orjson

from wxtcb.api.environment import EnvList
from wxtcb.provision.journal import EMPTY_MAPPING, Journal, RecordChange, TenantRecord
from wxtcb.provision.tenant import Tenant


class Action(Enum):
    """What is to be done about a tenant's environment."""

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
    """Which environments there are, by their aliases in lower case: the platform makes no difference.

    It is a fraction of the list it was made from, so that nobody has to keep that.
    """

    envs: frozenset[str]
    _by_alias: Mapping[str, tuple[str, ...]] = attrs.field(repr=False)

    @classmethod
    def from_list(cls, listed: EnvList) -> AliasIndex:
        """Index a list of environments."""
        by_alias: dict[str, tuple[str, ...]] = {}
        for info in listed.info_list:
            key = info.alias.lower()
            by_alias[key] = (*by_alias.get(key, ()), info.env)
        return cls(frozenset(listed.by_env), by_alias)

    def find(self, alias: str) -> tuple[str, ...]:
        """Return the environments that have *alias*, in whatever case."""
        return self._by_alias.get(alias.lower(), ())


def _as_immutable(pairs: Mapping[str, str]) -> Mapping[str, str]:
    return MappingProxyType({**pairs})


@attrs.frozen(kw_only=True)
class OperatorDecisions:
    """What a person has decided about tenants, see `wxtcb.provision.Provisioner.plan`."""

    adopt: Mapping[str, str] = attrs.field(default=EMPTY_MAPPING, converter=_as_immutable)
    forget: Mapping[str, str] = attrs.field(default=EMPTY_MAPPING, converter=_as_immutable)
    resend_links: bool = False
    complete: bool = False
    removed: bool = False


@attrs.frozen(kw_only=True)
class TenantPlan:
    """One tenant of a plan.

    `env` and `status` are those of the environment that it has, or that is to be adopted; `existing` those that are in
    the way, of which the `adoptable` belong to nobody who is among the tenants, and `reason` says why nothing will be
    done. `steps` are the steps yet to be taken. With `resend_links` links that were given are asked for again.
    """

    tenant: Tenant
    alias: str
    action: Action
    env: str | None = None
    status: str | None = None
    existing: tuple[str, ...] = ()
    adoptable: tuple[str, ...] = ()
    reason: str = ""
    steps: tuple[str, ...] = ()
    initial_record: TenantRecord | None = attrs.field(default=None, repr=False)
    resend_links: bool = False
    base_record: TenantRecord | None = attrs.field(default=None, eq=False, repr=False)

    @property
    def record(self) -> TenantRecord:
        """What the journal knows of the tenant, which may be nothing yet."""
        if self.initial_record is None:
            return TenantRecord(tenant=self.tenant.name, alias=self.alias)
        return (
            self.initial_record
            if self.initial_record.may_have_environment
            else attrs.evolve(self.initial_record, alias=self.alias)
        )

    @property
    def effective_record(self) -> TenantRecord:
        """What the steps go by."""
        return self.record.effective_record(resend_links=self.resend_links)

    @property
    def is_blocked(self) -> bool:
        """Whether nothing is done for this tenant before a person has looked at it."""
        return self.action in (Action.CONFLICT, Action.DUPLICATE)

    @property
    def has_changes(self) -> bool:
        """Whether an apply would do anything for this tenant."""
        return bool(self.steps) and not self.is_blocked

    def __str__(self) -> str:
        what = self.reason or f"{self.env or f'alias {self.alias}'}: {', '.join(self.steps) or 'nothing to do'}"
        return f"{ACTION_SYMBOLS[self.action]} {self.tenant.name}: {self.action.value}, {what}"

    def to_dict(self) -> dict[str, object]:
        """Return what goes into the JSON."""
        return {
            "tenant": self.tenant.name,
            "alias": self.alias,
            "action": self.action.value,
            "env": self.env,
            "status": self.status,
            "steps": self.steps,
            "existing": self.existing,
            "adoptable": self.adoptable,
            "reason": self.reason,
        }


@attrs.define(frozen=True, slots=False)
class Plan:
    """What an apply would do, tenant by tenant, in the order in which they were given; nothing was changed for it.

    `notes` say what is odd about all of it. ``print(plan)`` shows a line for each tenant, and these. `missing_envs` has, by
    tenant, environments of the journal that are not listed, and `absent_tenants` those of tenants who are not among these
    that are all, empty for one who may have one. It holds for a moment: an apply looks again before every create, and
    opens nothing for a tenant that the plan did not want to create one for.
    """

    namespace: str
    tenants: tuple[TenantPlan, ...]
    alias_index: AliasIndex = attrs.field(eq=False, repr=False)
    listed_at: float = attrs.field(eq=False, repr=False)
    journal: Journal = attrs.field(eq=False, repr=False)
    decisions: OperatorDecisions = attrs.field(factory=OperatorDecisions)
    record_changes: tuple[RecordChange, ...] = attrs.field(default=(), repr=False)
    notes: tuple[str, ...] = ()
    missing_envs: Mapping[str, str] = EMPTY_MAPPING
    absent_tenants: Mapping[str, str] = EMPTY_MAPPING

    @cached_property
    def counts(self) -> Mapping[Action, int]:
        """How many tenants need each action; every action is there, also with 0."""
        found = Counter(planned.action for planned in self.tenants)
        return MappingProxyType({action: found[action] for action in Action})

    @property
    def create_count(self) -> int:
        """How many environments would be opened, and billed."""
        return self.counts[Action.CREATE]

    @property
    def has_changes(self) -> bool:
        """Whether an apply would do anything."""
        return any(planned.has_changes for planned in self.tenants)

    @property
    def summary(self) -> str:
        """How many tenants need what, in a sentence."""
        counts = self.counts
        parts = [f"{counts[Action.CREATE]} to create", f"{counts[Action.ADOPT]} to adopt"]
        told = (action for action in _ACTION_LABELS if counts[action] or action is Action.READY)
        parts += [f"{counts[action]} {_ACTION_LABELS[action]}" for action in told]
        return f"Plan: {', '.join(parts)}."

    def __str__(self) -> str:
        return "\n".join((*map(str, self.tenants), self.summary, *self.notes))

    def to_json(self) -> bytes:
        """Return all of it as one JSON object; there is no secret in it."""
        document = {
            "namespace": self.namespace,
            "tenants": [planned.to_dict() for planned in self.tenants],
            "counts": {action.value: count for action, count in self.counts.items()},
            "total": len(self.tenants),
            "notes": self.notes,
            "missing": dict(self.missing_envs),
            "left_out": dict(self.absent_tenants),
        }
        return orjson.dumps(document, option=orjson.OPT_INDENT_2)


def alias_in_use_message(alias: str, envs: tuple[str, ...]) -> str:
    """Say which environments have an alias, and what can be done."""
    what = f"alias {alias} was taken by {', '.join(envs)}"
    advice = "keep one of them" if len(envs) > 1 else "adopt it if it is this tenant's, else choose another alias"
    return f"{what}: {advice}"
