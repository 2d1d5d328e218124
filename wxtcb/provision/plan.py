"""What an apply would do, from what is wanted, what is found and what the journal knows. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from enum import Enum
from functools import cached_property
from types import MappingProxyType
from typing import Final

import attrs
import orjson

from wxtcb.api.environment import EnvInfo, EnvList
from wxtcb.provision.journal import NOTHING, Binding, Journal, Record
from wxtcb.provision.spec import Tenant


class Action(Enum):
    """What is to be done about a tenant's environment."""

    CREATE = "create"
    ADOPT = "adopt"
    READY = "ready"
    CONFLICT = "conflict"
    DUPLICATE = "duplicate"


SIGNS: Final[Mapping[Action, str]] = MappingProxyType(
    {Action.CREATE: "+", Action.ADOPT: "~", Action.READY: " ", Action.CONFLICT: "!", Action.DUPLICATE: "!"}
)
_STATES: Final = {Action.READY: "ready", Action.CONFLICT: "in conflict", Action.DUPLICATE: "duplicate"}


@attrs.frozen
class Taken:
    """Which environments there are, by their aliases in lower case: the platform makes no difference.

    It is a fraction of the list it was made from, so that nobody has to keep that.
    """

    envs: frozenset[str]
    _by_alias: Mapping[str, tuple[str, ...]] = attrs.field(repr=False)

    @classmethod
    def of(cls, listed: EnvList) -> Taken:
        """Index a list of environments."""
        by_alias: dict[str, tuple[str, ...]] = {}
        for info in listed.info_list:
            key = info.alias.lower()
            by_alias[key] = (*by_alias.get(key, ()), info.env)
        return cls(frozenset(listed.by_env), by_alias)

    def by(self, alias: str) -> tuple[str, ...]:
        """Return the environments that have *alias*, in whatever case."""
        return self._by_alias.get(alias.lower(), ())


@attrs.frozen(kw_only=True)
class Decisions:
    """What a person has decided about tenants, see `wxtcb.provision.Provisioner.plan`."""

    adopt: Mapping[str, str] = NOTHING
    forget: Mapping[str, str] = NOTHING
    resend_links: bool = False
    whole: bool = False
    removed: bool = False


@attrs.frozen
class Release:
    """A record of the journal that a decision changes, before anything else is done."""

    before: Record
    after: Record


@attrs.frozen(kw_only=True)
class Found:
    """What the platform lists, and what the journal knows of it.

    `bound` is which environment belongs to whom. Of these `missing` are not listed though they should be, and `young`
    are perhaps not listed yet. `left_out` are tenants who have an environment and are not among those planned for,
    where that may mean that one was renamed.
    """

    listed: Mapping[str, EnvInfo]
    taken: Taken
    bound: Mapping[str, Binding]
    missing: tuple[str, ...] = ()
    young: frozenset[str] = frozenset()
    left_out: Mapping[str, Record] = attrs.field(factory=dict[str, Record])

    @property
    def gap(self) -> str:
        """Why nothing can be told from what is not listed; empty if all is there."""
        if not self.missing:
            return ""
        first, *others = self.missing
        more = f" and {len(others)} more" if others else ""
        return (
            f"the list lacks {first} of tenant {self.bound[first].tenant!r}{more}: it is not whole, or that was removed"
        )

    @property
    def rename(self) -> str:
        """Why a tenant that is new may be none; empty if nobody is left out."""
        if not self.left_out:
            return ""
        first, *others = self.left_out.values()
        more = f" and {len(others)} more" if others else ""
        what = f"has {first.env}" if first.env else "may have an environment"
        return f"tenant {first.tenant!r}, who {what} under alias {first.alias}, is missing here{more}: was one renamed?"


@attrs.frozen(kw_only=True)
class Planned:
    """One tenant of a plan.

    `env` and `status` are those of the environment that it has, or that is to be adopted; `existing` those that are in
    the way, and `reason` says why nothing will be done. `steps` are the steps yet to be taken.
    """

    tenant: Tenant
    alias: str
    action: Action
    env: str | None = None
    status: str | None = None
    existing: tuple[str, ...] = ()
    reason: str = ""
    steps: tuple[str, ...] = ()
    known: Record | None = attrs.field(default=None, repr=False)
    former_links: Mapping[str, str] = attrs.field(default=NOTHING, repr=False)
    stood: Record | None = attrs.field(default=None, eq=False, repr=False)

    @property
    def record(self) -> Record:
        """What the journal knows of the tenant, which may be nothing yet."""
        if self.known is None:
            return Record(tenant=self.tenant.name, alias=self.alias)
        return self.known if self.known.is_open else attrs.evolve(self.known, alias=self.alias)

    @property
    def is_blocked(self) -> bool:
        """Whether nothing is done for this tenant before a person has looked at it."""
        return self.action in (Action.CONFLICT, Action.DUPLICATE)

    @property
    def changes(self) -> bool:
        """Whether an apply would do anything for this tenant."""
        return bool(self.steps) and not self.is_blocked

    def __str__(self) -> str:
        what = self.reason or f"{self.env or f'alias {self.alias}'}: {', '.join(self.steps) or 'nothing to do'}"
        return f"{SIGNS[self.action]} {self.tenant.name}: {self.action.value}, {what}"

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
            "reason": self.reason,
        }


@attrs.define(frozen=True, slots=False)
class Plan:
    """What an apply would do, tenant by tenant, in the order in which they were given; nothing was changed for it.

    `notes` say what is odd about all of it. ``print(plan)`` shows a line for each tenant, and these. It holds for a
    moment: an apply looks again before every create, and opens nothing for a tenant that the plan did not want to
    create one for.
    """

    namespace: str
    tenants: tuple[Planned, ...]
    taken: Taken = attrs.field(eq=False, repr=False)
    looked_at: float = attrs.field(eq=False, repr=False)
    journal: Journal = attrs.field(eq=False, repr=False)
    decisions: Decisions = attrs.field(factory=Decisions)
    releases: tuple[Release, ...] = attrs.field(default=(), repr=False)
    notes: tuple[str, ...] = ()

    @cached_property
    def counts(self) -> Mapping[Action, int]:
        """How many tenants need each action; every action is there, also with 0."""
        found = Counter(planned.action for planned in self.tenants)
        return MappingProxyType({action: found[action] for action in Action})

    @property
    def creates(self) -> int:
        """How many environments would be opened, and billed."""
        return self.counts[Action.CREATE]

    @property
    def changes(self) -> bool:
        """Whether an apply would do anything."""
        return any(planned.changes for planned in self.tenants)

    @property
    def summary(self) -> str:
        """How many tenants need what, in a sentence."""
        counts = self.counts
        parts = [f"{counts[Action.CREATE]} to create", f"{counts[Action.ADOPT]} to adopt"]
        told = (action for action in _STATES if counts[action] or action is Action.READY)
        parts += [f"{counts[action]} {_STATES[action]}" for action in told]
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
        }
        return orjson.dumps(document, option=orjson.OPT_INDENT_2)


def plan_tenant(tenant: Tenant, alias: str, known: Record | None, found: Found, adopt: str | None = None) -> Planned:
    """Decide about one tenant; *adopt* is the environment, listed and free, that a person wants it to have."""
    mine = Planned(tenant=tenant, alias=alias, action=Action.CREATE, known=known, stood=known)
    if adopt is not None and not (known is not None and known.env == adopt):
        return _bind(mine, Action.ADOPT, found.listed[adopt])
    if known is not None and known.env is not None:
        return _plan_bound(mine, known.env, found)
    intended = known is not None and known.intent is not None
    if intended and known is not None and known.alias.lower() != alias.lower():
        return _block(mine, f"a create under its earlier alias {known.alias} is unclear: finish that one first")
    alike = found.taken.by(alias)
    if not alike:
        return mine if intended else _plan_create(mine, found)
    if intended and len(alike) == 1 and alike[0] not in found.bound:
        return _bind(mine, Action.ADOPT, found.listed[alike[0]])
    return _block(mine, _taken_by(alias, alike, found), *alike)


def _plan_create(mine: Planned, found: Found) -> Planned:
    """Open one, unless it is in question that there is none."""
    if found.gap:
        return _block(mine, f"{found.gap}. Look again; if it was removed, forget it")
    if found.rename and mine.known is None:
        return _block(mine, f"{found.rename} Then adopt its environment under its alias; else say it was removed")
    return mine


def _taken_by(alias: str, alike: tuple[str, ...], found: Found) -> str:
    holder = found.bound.get(alike[0])
    whose = f", of tenant {holder.tenant!r} by the journal" if holder and len(alike) == 1 else ""
    return f"{taken_by(alias, alike)}{whose}"


def begin_anew(known: Record) -> Record:
    """Forget what was done in another environment, or intended: a person has decided what the tenant is to have."""
    return attrs.evolve(
        known, env=None, tranid=None, opened_at=None, intent=None, links=NOTHING, services={}, marks=NOTHING
    )


def _plan_bound(mine: Planned, env: str, found: Found) -> Planned:
    info = found.listed.get(env)
    if info is None and env in found.young:
        return attrs.evolve(mine, action=Action.READY, env=env)
    if info is None:
        return _block(mine, f"its environment {env} is not listed any more: removed, or the list is not whole")
    if info.alias.lower() != mine.alias.lower():
        return _block(mine, f"its environment {env} has the alias {info.alias}, not {mine.alias}")
    return _bind(mine, Action.READY, info)


def _bind(mine: Planned, action: Action, info: EnvInfo) -> Planned:
    return attrs.evolve(mine, action=action, env=info.env, status=info.status)


def hold_to(plan: Plan, newer: Plan) -> Plan:
    """Return what *newer* says as far as *plan* allows it: nothing is opened for whom *plan* opens nothing."""
    pairs = zip(plan.tenants, newer.tenants, strict=True)
    return attrs.evolve(newer, tenants=tuple(_hold(now, then) for then, now in pairs))


def _hold(now: Planned, then: Planned) -> Planned:
    if now.action is not Action.CREATE or then.action is Action.CREATE:
        return now
    return _block(now, f"the plan was {then.action.value}, but now there is no such environment: plan again")


def _block(mine: Planned, reason: str, *alike: str) -> Planned:
    action = Action.DUPLICATE if len(alike) > 1 else Action.CONFLICT
    return attrs.evolve(mine, action=action, reason=reason, existing=alike, steps=())


def taken_by(alias: str, alike: tuple[str, ...]) -> str:
    """Say which environments have an alias."""
    return f"alias {alias} was taken by {', '.join(alike)}"
