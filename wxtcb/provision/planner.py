"""What is to be done about a tenant, from what is wanted, what is found and what the journal knows. Pure."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final

import attrs

from wxtcb._concurrency.shared_poll import SharedPoller, Snapshot
from wxtcb.api.environment import EnvInfo, EnvList
from wxtcb.provision.journal import (
    Binding,
    Journal,
    RecordChange,
    TenantRecord,
    collect_bindings,
    recently_opened,
)
from wxtcb.provision.looks import MAX_LISTING_AGE
from wxtcb.provision.overrides import DecisionResolver
from wxtcb.provision.plan import Action, AliasIndex, OperatorDecisions, Plan, TenantPlan, alias_in_use_message
from wxtcb.provision.slices import cooperative_iter
from wxtcb.provision.step import Step
from wxtcb.provision.tenant import Tenant

_LISTING_RETRIES: Final = 2


@attrs.frozen
class Planner:
    """Makes plans; it spends and changes nothing.

    An environment that was opened less than `settle` seconds ago may not be listed yet.
    """

    journal: Journal
    poller: SharedPoller[EnvList]
    steps: tuple[Step, ...]
    namespace: str
    settle: float
    clock: Callable[[], float]

    async def plan(
        self,
        tenants: Sequence[Tenant],
        aliases: Sequence[str],
        decisions: OperatorDecisions,
        *,
        previously_listed: frozenset[str] = frozenset(),
    ) -> Plan:
        """Look, and decide about every tenant; `InvalidArgument` for a decision that cannot be carried out."""
        names = dict(zip((tenant.name for tenant in tenants), aliases, strict=True))
        records = await self._load_records(names, decisions)
        bound = collect_bindings(records.values()) if decisions.complete else await self.journal.bindings()
        look = await self._list_environments(
            previously_listed.union(bound) - recently_opened(bound, self.clock(), self.settle)
        )
        rulings = DecisionResolver(decisions, names, records, look.value.by_env, bound, self.clock())
        rulings.validate()
        found = await self._observe(look.value, rulings)
        return Plan(
            self.namespace,
            tuple([self._plan_tenant(tenant, found, rulings) async for tenant in cooperative_iter(tenants)]),
            found.alias_index,
            look.started_at,
            self.journal,
            decisions,
            (*rulings.transfer_changes(), *[each async for each in _record_changes(rulings)]),
            (*rulings.notes(), *self._notes(found)),
            {found.bindings[env].tenant: env for env in found.missing_envs},
            {name: record.env or "" for name, record in found.absent_tenants.items()},
        )

    async def refresh(self, plan: Plan) -> Plan:
        """Return *plan* while it holds, else a newer one that opens nothing which *plan* did not."""
        tenants = tuple(planned.tenant for planned in plan.tenants)
        records = await self.journal.load(tenant.name for tenant in tenants)
        is_recent = plan.listed_at >= asyncio.get_running_loop().time() - MAX_LISTING_AGE
        if is_recent and all(records.get(each.tenant.name) == each.base_record for each in plan.tenants):
            return plan
        aliases = tuple(planned.alias for planned in plan.tenants)
        newer = await self.plan(tenants, aliases, plan.decisions, previously_listed=plan.alias_index.envs)
        return restrict_to(plan, newer)

    async def _load_records(self, names: Mapping[str, str], decisions: OperatorDecisions) -> Mapping[str, TenantRecord]:
        """Return the records that the plan is about: all of them, where those not among the tenants count too."""
        if decisions.complete:
            return await self.journal.load()
        return await self.journal.load(dict.fromkeys((*names, *decisions.forget)))

    async def _list_environments(self, expected_envs: frozenset[str]) -> Snapshot[EnvList]:
        """Look, and twice more where environments that are known are missing: a list may have a hiccup."""
        look = await self.poller.poll(asyncio.get_running_loop().time())
        for _ in range(_LISTING_RETRIES):
            if expected_envs <= look.value.by_env.keys():
                break
            look = await self.poller.poll(look.started_at + self.poller.min_interval)
        return look

    async def _observe(self, listing: EnvList, resolver: DecisionResolver) -> ObservedState:
        listed, recent = listing.by_env, recently_opened(resolver.bindings, self.clock(), self.settle)
        bound = {env: binding for env, binding in resolver.bindings.items() if env not in resolver.released_envs}
        return ObservedState(
            listed=listed,
            alias_index=AliasIndex.from_list(listing),
            bindings=bound,
            missing_envs=tuple(env for env in bound if env not in listed and env not in recent),
            recent_envs=recent,
            absent_tenants={
                each.tenant: each
                async for each in cooperative_iter(resolver.records.values())
                if resolver.is_absent(each)
            },
            ambiguous_creates=resolver.ambiguous_creates,
        )

    def _plan_tenant(self, tenant: Tenant, observed: ObservedState, resolver: DecisionResolver) -> TenantPlan:
        known, adopt = resolver.initial_record(tenant.name), resolver.decisions.adopt.get(tenant.name)
        planned = plan_tenant(tenant, resolver.aliases[tenant.name], known, observed, adopt)
        if tenant.name in resolver.previous_owners:
            planned = attrs.evolve(planned, action=Action.ADOPT)
        if resolver.decisions.resend_links:
            planned = attrs.evolve(planned, resend_links=True)
        return self._add_steps(planned, resolver.records.get(tenant.name))

    def _notes(self, observed: ObservedState) -> Iterator[str]:
        if observed.missing_message:
            yield f"Note: {observed.missing_message}; nothing is opened meanwhile."
        if observed.possible_rename:
            yield f"Note: {observed.possible_rename} Nothing is done for them, and nothing is opened for who is new."
        yield from clock_skew_notes((binding.since for binding in observed.bindings.values()), self.clock())

    def _add_steps(self, planned: TenantPlan, base_record: TenantRecord | None) -> TenantPlan:
        if planned.is_blocked:
            return attrs.evolve(planned, base_record=base_record)
        record, status = planned.effective_record, planned.status
        steps = (step.name for step in self.steps if step.is_needed(planned.tenant, record, status))
        return attrs.evolve(planned, steps=tuple(steps), base_record=base_record)


async def _record_changes(resolver: DecisionResolver) -> AsyncIterator[RecordChange]:
    async for record in cooperative_iter(resolver.records.values()):
        if release := resolver.record_change(record):
            yield release


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


_MAX_CLOCK_SKEW: Final = 60.0


def clock_skew_notes(timestamps: Iterable[float], now: float) -> Iterator[str]:
    """Say by how much the latest of these moments, in Unix time, is ahead of *now*, if it is by more than a minute."""
    ahead = max(timestamps, default=now) - now
    if ahead > _MAX_CLOCK_SKEW:
        yield (
            f"Note: the clock was set back, or was ahead then: the journal has something of {ahead:.0f} s from now. "
            "No wait minds."
        )
