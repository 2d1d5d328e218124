"""What is to be done about a tenant, from what is wanted, what is found and what the journal knows. Pure."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from wxtcb.api.environment import EnvInfo
from wxtcb.provision.journal import EMPTY_MAPPING, NO_SERVICES, Binding, TenantRecord
from wxtcb.provision.plan import Action, AliasIndex, Plan, TenantPlan, alias_in_use_message
from wxtcb.provision.tenant import Tenant


@attrs.frozen(kw_only=True)
class ObservedState:
    """What the platform lists, and what the journal knows of it.

    `bindings` is which environment belongs to whom. Of these `missing_envs` are not listed though they should be, and `recent_envs`
    are perhaps not listed yet. `absent_tenants` has, by name, tenants who have an environment and are not among those
    planned for, where that may mean that one was renamed. `ambiguous_creates` has unclear creates, by their aliases in lower case.
    """

    listed: Mapping[str, EnvInfo]
    alias_index: AliasIndex
    bindings: Mapping[str, Binding]
    missing_envs: tuple[str, ...] = ()
    recent_envs: frozenset[str] = frozenset()
    absent_tenants: Mapping[str, TenantRecord] = attrs.field(factory=dict[str, TenantRecord])
    ambiguous_creates: Mapping[str, TenantRecord] = attrs.field(factory=dict[str, TenantRecord])

    @property
    def missing_message(self) -> str:
        """Why nothing can be told from what is not listed; empty if all is there."""
        if not self.missing_envs:
            return ""
        first, others = self.missing_envs[0], len(self.missing_envs) - 1
        more = f" and {others} more" if others else ""
        return f"the list lacks {first} of tenant {self.bindings[first].tenant!r}{more}: it is not whole, or that was removed"

    @property
    def possible_rename(self) -> str:
        """Why a tenant that is new may be none; empty if nobody is left out."""
        if not self.absent_tenants:
            return ""
        first, others = next(iter(self.absent_tenants.values())), len(self.absent_tenants) - 1
        more = f", like {others} more" if others else ""
        what = f"has {first.env}" if first.env else "may have an environment"
        return f"tenant {first.tenant!r}, who {what} under alias {first.alias}, is missing here{more}: was one renamed?"

    def may_be_adopted(self, env: str) -> bool:
        """Tell whether it is nobody's, or that of a tenant who may have another name now."""
        holder = self.bindings.get(env)
        return holder is None or holder.tenant in self.absent_tenants


def plan_tenant(
    tenant: Tenant, alias: str, record: TenantRecord | None, observed: ObservedState, adopt_env: str | None = None
) -> TenantPlan:
    """Decide about one tenant; *adopt* is the environment, listed and free, that a person wants it to have."""
    mine = TenantPlan(tenant=tenant, alias=alias, action=Action.CREATE, initial_record=record, base_record=record)
    if adopt_env is not None and not (record is not None and record.env == adopt_env):
        return _with_environment(mine, Action.ADOPT, observed.listed[adopt_env])
    if record is not None and record.env is not None:
        return _plan_bound_environment(mine, record.env, observed)
    intended = record is not None and record.intent is not None
    if intended and record is not None and record.alias.lower() != alias.lower():
        return _blocked(
            mine, f"a create under its earlier alias {record.alias} is unclear: give it that alias back first"
        )
    alike = observed.alias_index.find(alias)
    if not alike:
        return mine if intended else _plan_new_environment(mine, observed)
    if intended and len(alike) == 1 and alike[0] not in observed.bindings:
        return _with_environment(mine, Action.ADOPT, observed.listed[alike[0]])
    return _block_alias_in_use(mine, alike, observed)


def _plan_new_environment(planned: TenantPlan, observed: ObservedState) -> TenantPlan:
    """Open one, unless it is in question that there is none."""
    claim = observed.ambiguous_creates.get(planned.alias.lower())
    if claim is not None and claim.tenant != planned.tenant.name:
        what = f"a create for tenant {claim.tenant!r} under alias {planned.alias} is unclear"
        return _blocked(planned, f"{what}: let that tenant be provisioned first")
    if observed.missing_message:
        return _blocked(planned, f"{observed.missing_message}. Look again; if it was removed, forget it")
    if observed.possible_rename and planned.initial_record is None:
        return _blocked(
            planned, f"{observed.possible_rename} Then adopt its environment under its alias; else say it was removed"
        )
    return planned


def _block_alias_in_use(planned: TenantPlan, matches: tuple[str, ...], observed: ObservedState) -> TenantPlan:
    blocked = _blocked(planned, _alias_in_use_reason(planned.alias, matches, observed), *matches)
    return attrs.evolve(blocked, adoptable=tuple(env for env in matches if observed.may_be_adopted(env)))


def _alias_in_use_reason(alias: str, matches: tuple[str, ...], observed: ObservedState) -> str:
    env, *others = matches
    holder = observed.bindings.get(env)
    if holder is None or others:
        return alias_in_use_message(alias, matches)
    renamed = "adopt it if that one was renamed, else " if observed.may_be_adopted(env) else ""
    whose = f"of tenant {holder.tenant!r} by the journal"
    return f"alias {alias} was taken by {env}, {whose}: {renamed}choose another alias"


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


def _plan_bound_environment(planned: TenantPlan, env: str, observed: ObservedState) -> TenantPlan:
    info = observed.listed.get(env)
    if info is None and env in observed.recent_envs:
        return attrs.evolve(planned, action=Action.READY, env=env)
    if info is None:
        why = f"its environment {env} is not listed any more: removed, or the list is not whole"
        return _blocked(planned, f"{why}. Look again; if it was removed, forget it")
    if info.alias.lower() != planned.alias.lower():
        why = f"its environment {env} has the alias {info.alias}, not {planned.alias}"
        return _blocked(planned, f"{why}: give the tenant that one back")
    return _with_environment(planned, Action.READY, info)


def _with_environment(planned: TenantPlan, action: Action, info: EnvInfo) -> TenantPlan:
    return attrs.evolve(planned, action=action, env=info.env, status=info.status)


def restrict_to(original: Plan, newer: Plan) -> Plan:
    """Return what *newer* says as far as *plan* allows it: nothing is opened for whom *plan* opens nothing."""
    pairs = zip(original.tenants, newer.tenants, strict=True)
    return attrs.evolve(newer, tenants=tuple(_restrict(now, then) for then, now in pairs))


def _restrict(newer: TenantPlan, original: TenantPlan) -> TenantPlan:
    if newer.action is not Action.CREATE or original.action is Action.CREATE:
        return newer
    return _blocked(newer, f"the plan was {original.action.value}, but now there is no such environment: plan again")


def _blocked(planned: TenantPlan, reason: str, *matches: str) -> TenantPlan:
    action = Action.DUPLICATE if len(matches) > 1 else Action.CONFLICT
    return attrs.evolve(planned, action=action, reason=reason, existing=matches, steps=())
