"""What is to be done about a tenant, from what is wanted, what is found and what the journal knows. Pure."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from wxtcb.api.environment import EnvInfo
from wxtcb.provision.journal import NO_SERVICES, NOTHING, Binding, Record
from wxtcb.provision.plan import Action, Plan, Planned, Taken, taken_by
from wxtcb.provision.tenant import Tenant


@attrs.frozen(kw_only=True)
class Found:
    """What the platform lists, and what the journal knows of it.

    `bound` is which environment belongs to whom. Of these `missing` are not listed though they should be, and `young`
    are perhaps not listed yet. `left_out` has, by name, tenants who have an environment and are not among those
    planned for, where that may mean that one was renamed. `claims` has unclear creates, by their aliases in lower case.
    """

    listed: Mapping[str, EnvInfo]
    taken: Taken
    bound: Mapping[str, Binding]
    missing: tuple[str, ...] = ()
    young: frozenset[str] = frozenset()
    left_out: Mapping[str, Record] = attrs.field(factory=dict[str, Record])
    claims: Mapping[str, Record] = attrs.field(factory=dict[str, Record])

    @property
    def gap(self) -> str:
        """Why nothing can be told from what is not listed; empty if all is there."""
        if not self.missing:
            return ""
        first, others = self.missing[0], len(self.missing) - 1
        more = f" and {others} more" if others else ""
        return (
            f"the list lacks {first} of tenant {self.bound[first].tenant!r}{more}: it is not whole, or that was removed"
        )

    @property
    def rename(self) -> str:
        """Why a tenant that is new may be none; empty if nobody is left out."""
        if not self.left_out:
            return ""
        first, others = next(iter(self.left_out.values())), len(self.left_out) - 1
        more = f", like {others} more" if others else ""
        what = f"has {first.env}" if first.env else "may have an environment"
        return f"tenant {first.tenant!r}, who {what} under alias {first.alias}, is missing here{more}: was one renamed?"

    def may_be_adopted(self, env: str) -> bool:
        """Tell whether it is nobody's, or that of a tenant who may have another name now."""
        holder = self.bound.get(env)
        return holder is None or holder.tenant in self.left_out


def plan_tenant(tenant: Tenant, alias: str, known: Record | None, found: Found, adopt: str | None = None) -> Planned:
    """Decide about one tenant; *adopt* is the environment, listed and free, that a person wants it to have."""
    mine = Planned(tenant=tenant, alias=alias, action=Action.CREATE, known=known, stood=known)
    if adopt is not None and not (known is not None and known.env == adopt):
        return _bind(mine, Action.ADOPT, found.listed[adopt])
    if known is not None and known.env is not None:
        return _plan_bound(mine, known.env, found)
    intended = known is not None and known.intent is not None
    if intended and known is not None and known.alias.lower() != alias.lower():
        return _block(mine, f"a create under its earlier alias {known.alias} is unclear: give it that alias back first")
    alike = found.taken.by(alias)
    if not alike:
        return mine if intended else _plan_create(mine, found)
    if intended and len(alike) == 1 and alike[0] not in found.bound:
        return _bind(mine, Action.ADOPT, found.listed[alike[0]])
    return _block_taken(mine, alike, found)


def _plan_create(mine: Planned, found: Found) -> Planned:
    """Open one, unless it is in question that there is none."""
    claim = found.claims.get(mine.alias.lower())
    if claim is not None and claim.tenant != mine.tenant.name:
        what = f"a create for tenant {claim.tenant!r} under alias {mine.alias} is unclear"
        return _block(mine, f"{what}: let that tenant be provisioned first")
    if found.gap:
        return _block(mine, f"{found.gap}. Look again; if it was removed, forget it")
    if found.rename and mine.known is None:
        return _block(mine, f"{found.rename} Then adopt its environment under its alias; else say it was removed")
    return mine


def _block_taken(mine: Planned, alike: tuple[str, ...], found: Found) -> Planned:
    blocked = _block(mine, _taken_by(mine.alias, alike, found), *alike)
    return attrs.evolve(blocked, adoptable=tuple(env for env in alike if found.may_be_adopted(env)))


def _taken_by(alias: str, alike: tuple[str, ...], found: Found) -> str:
    env, *others = alike
    holder = found.bound.get(env)
    if holder is None or others:
        return taken_by(alias, alike)
    renamed = "adopt it if that one was renamed, else " if found.may_be_adopted(env) else ""
    whose = f"of tenant {holder.tenant!r} by the journal"
    return f"alias {alias} was taken by {env}, {whose}: {renamed}choose another alias"


def begin_anew(known: Record) -> Record:
    """Forget what was done in another environment, or intended: a person has decided what the tenant is to have."""
    return attrs.evolve(
        known, env=None, tranid=None, opened_at=None, intent=None, links=NOTHING, services=NO_SERVICES, marks=NOTHING
    )


def _plan_bound(mine: Planned, env: str, found: Found) -> Planned:
    info = found.listed.get(env)
    if info is None and env in found.young:
        return attrs.evolve(mine, action=Action.READY, env=env)
    if info is None:
        why = f"its environment {env} is not listed any more: removed, or the list is not whole"
        return _block(mine, f"{why}. Look again; if it was removed, forget it")
    if info.alias.lower() != mine.alias.lower():
        why = f"its environment {env} has the alias {info.alias}, not {mine.alias}"
        return _block(mine, f"{why}: give the tenant that one back")
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
