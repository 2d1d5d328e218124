"""Planner: compares tenants with the platform's list and the journal, and decides what to do for each tenant.

`Planner` reads the platform and the journal; `plan_tenant` and the functions below it are pure.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final

import attrs

from wxtcb._concurrency.shared_poll import SharedPoller
from wxtcb._concurrency.tasks import cooperative_iter
from wxtcb.api.environment import EnvInfo, EnvList
from wxtcb.provision.journal import Binding, Journal, TenantRecord, collect_bindings, recently_opened
from wxtcb.provision.overrides import DecisionResolver
from wxtcb.provision.plan import Action, AliasIndex, OperatorDecisions, Plan, TenantPlan, alias_in_use_message
from wxtcb.provision.reconciliation import MAX_LISTING_AGE
from wxtcb.provision.step import Step
from wxtcb.provision.tenant import Tenant

LISTING_RETRIES: Final = 2
_MAX_CLOCK_SKEW: Final = 60.0


@attrs.frozen
class Planner:
    """Maker of plans. It reads only: it changes neither the platform nor the journal.

    `settle` is the propagation delay in seconds: the platform may not list an environment that was created since.
    `clock` returns Unix time.
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
        """Return a plan for *tenants*, whose aliases are *aliases*.

        *previously_listed* are environments of an earlier list: the list is repeated if it lacks one of them.
        Raises `InvalidArgument` if a decision cannot be carried out.
        """
        aliases_by_name = dict(zip((tenant.name for tenant in tenants), aliases, strict=True))
        if decisions.complete:
            # Records of tenants that are not in the file count too: one of them may have been renamed.
            records = await self.journal.load()
            bindings: Mapping[str, Binding] = collect_bindings(records.values())
        else:
            records = await self.journal.load(dict.fromkeys((*aliases_by_name, *decisions.forget)))
            bindings = await self.journal.bindings()
        expected = previously_listed.union(bindings) - recently_opened(bindings, self.clock(), self.settle)
        snapshot = await self.poller.poll(asyncio.get_running_loop().time())
        # A list may be incomplete once and complete a second later. After two retries it counts.
        for _ in range(LISTING_RETRIES):
            if expected <= snapshot.value.by_env.keys():
                break
            snapshot = await self.poller.poll(snapshot.started_at + self.poller.min_interval)
        listed, recent = snapshot.value.by_env, recently_opened(bindings, self.clock(), self.settle)
        resolver = DecisionResolver(decisions, aliases_by_name, records, listed, bindings, self.clock())
        resolver.validate()
        kept = {env: binding for env, binding in bindings.items() if env not in resolver.released_envs}
        by_name = cooperative_iter(records.items())
        observed = ObservedState(
            listed=listed,
            alias_index=AliasIndex.from_list(snapshot.value),
            bindings=kept,
            missing_envs=tuple(env for env in kept if env not in listed and env not in recent),
            recent_envs=recent,
            absent_tenants={name: record async for name, record in by_name if resolver.is_absent(record)},
            ambiguous_creates=resolver.ambiguous_creates,
        )
        changes = [
            change
            async for record in cooperative_iter(records.values())
            if record.tenant not in resolver.previous_owners and (change := resolver.record_change(record))
        ]
        return Plan(
            self.namespace,
            tuple([self._plan_tenant(tenant, observed, resolver) async for tenant in cooperative_iter(tenants)]),
            observed.alias_index,
            snapshot.started_at,
            self.journal,
            decisions,
            # Transfers come first: they release the environments that other changes rely on.
            (*map(resolver.transfer_change, resolver.previous_owners), *changes),
            (
                *resolver.notes(),
                *observed.notes(),
                *clock_skew_notes((each.since for each in kept.values()), self.clock()),
            ),
            {kept[env].tenant: env for env in observed.missing_envs},
            {name: record.env or "" for name, record in observed.absent_tenants.items()},
        )

    async def refresh(self, plan: Plan) -> Plan:
        """Return *plan* if it is still current, else a newer plan that creates no environment which *plan* did not."""
        tenants = tuple(planned.tenant for planned in plan.tenants)
        records = await self.journal.load(tenant.name for tenant in tenants)
        is_recent = plan.listed_at >= asyncio.get_running_loop().time() - MAX_LISTING_AGE
        if is_recent and all(records.get(each.tenant.name) == each.base_record for each in plan.tenants):
            return plan
        aliases = tuple(planned.alias for planned in plan.tenants)
        newer = await self.plan(tenants, aliases, plan.decisions, previously_listed=plan.alias_index.envs)
        # A user approved *plan*: an apply must not bill more environments than it shows.
        return attrs.evolve(newer, tenants=tuple(map(_restrict_tenant, newer.tenants, plan.tenants)))

    def _plan_tenant(self, tenant: Tenant, observed: ObservedState, resolver: DecisionResolver) -> TenantPlan:
        record, adopt_env = resolver.initial_record(tenant.name), resolver.decisions.adopt.get(tenant.name)
        planned = plan_tenant(tenant, resolver.aliases[tenant.name], record, observed, adopt_env)
        # The record of a transfer has the environment already, so that `plan_tenant` calls it READY.
        if tenant.name in resolver.previous_owners:
            planned = attrs.evolve(planned, action=Action.ADOPT)
        resend_links, base_record = resolver.decisions.resend_links, resolver.records.get(tenant.name)
        effective = planned.record.effective_record(resend_links=resend_links)
        needed = (step.name for step in self.steps if step.is_needed(tenant, effective, planned.status))
        steps = () if planned.is_blocked else tuple(needed)
        return attrs.evolve(planned, resend_links=resend_links, steps=steps, base_record=base_record)


def clock_skew_notes(timestamps: Iterable[float], now: float) -> Iterator[str]:
    """Yield a note if the latest of *timestamps* is more than a minute ahead of *now*; both are Unix times."""
    ahead = max(timestamps, default=now) - now
    if ahead > _MAX_CLOCK_SKEW:
        yield (
            f"Note: the journal contains a timestamp {ahead:.0f} s in the future: the system clock was set back, or "
            "was ahead before. Waits are not affected."
        )


@attrs.frozen(kw_only=True)
class ObservedState:
    """State of the platform and the journal that plans are made from.

    - `bindings`: tenant of each environment in the journal, without those that a decision releases.
    - `missing_envs`: bound environments that the platform should list and does not.
    - `recent_envs`: bound environments that the platform may not list yet.
    - `absent_tenants`: by name, tenants with an environment that a complete list of tenants lacks.
    - `ambiguous_creates`: records with a create of unknown outcome, by alias in lower case.
    """

    listed: Mapping[str, EnvInfo]
    alias_index: AliasIndex
    bindings: Mapping[str, Binding]
    missing_envs: tuple[str, ...]
    recent_envs: frozenset[str]
    absent_tenants: Mapping[str, TenantRecord]
    ambiguous_creates: Mapping[str, TenantRecord]

    @property
    def missing_message(self) -> str:
        """Message on the environments that the list lacks; empty if it lacks none."""
        if not self.missing_envs:
            return ""
        first, others = self.missing_envs[0], len(self.missing_envs) - 1
        more = f" and {others} more" if others else ""
        missing = f"{first} of tenant {self.bindings[first].tenant!r}{more}"
        return f"the list lacks {missing}: the list is incomplete, or the environment was deleted"

    @property
    def possible_rename(self) -> str:
        """Message on absent tenants, one of which may have been renamed; empty if there are none."""
        if not self.absent_tenants:
            return ""
        first, others = next(iter(self.absent_tenants.values())), len(self.absent_tenants) - 1
        more = f", like {others} other{'s' if others > 1 else ''}" if others else ""
        state = f"has {first.env}" if first.env else "may have an environment"
        return f"tenant {first.tenant!r} {state} under alias {first.alias} but is missing here{more}: was it renamed?"

    def notes(self) -> Iterator[str]:
        """Yield a note on each reason why environments are not created."""
        if self.missing_message:
            yield f"Note: {self.missing_message}. No environment is created until this is resolved."
        if rename := self.possible_rename:
            yield f"Note: {rename} Nothing is done for absent tenants, and no environment is created for new ones."

    def may_be_adopted(self, env: str) -> bool:
        """Return whether no tenant of the plan owns *env*."""
        binding = self.bindings.get(env)
        return binding is None or binding.tenant in self.absent_tenants


def plan_tenant(
    tenant: Tenant, alias: str, record: TenantRecord | None, observed: ObservedState, adopt_env: str | None = None
) -> TenantPlan:
    """Return the plan of one tenant, without its steps.

    *adopt_env* is the environment that an operator chose for it; it is listed and owned by no other tenant.
    """
    planned = TenantPlan(tenant=tenant, alias=alias, action=Action.CREATE, initial_record=record)
    if adopt_env is not None and not (record is not None and record.env == adopt_env):
        return _with_environment(planned, Action.ADOPT, observed.listed[adopt_env])
    if record is not None and record.env is not None:
        return _plan_bound_environment(planned, record.env, observed)
    intended = record is not None and record.intent is not None
    # The outcome of a create can only be found under the alias that was sent.
    if intended and record is not None and record.alias.lower() != alias.lower():
        reason = f"the outcome of a create under the previous alias {record.alias} is unknown: restore that alias first"
        return _blocked(planned, reason)
    matches = observed.alias_index.find(alias)
    if not matches:
        # After an ambiguous create, the run itself checks the outcome before it sends another create.
        return planned if intended else _plan_new_environment(planned, observed)
    if intended and len(matches) == 1 and matches[0] not in observed.bindings:
        return _with_environment(planned, Action.ADOPT, observed.listed[matches[0]])
    return attrs.evolve(
        _blocked(planned, _alias_in_use_reason(alias, matches, observed), *matches),
        adoptable=tuple(env for env in matches if observed.may_be_adopted(env)),
    )


def _plan_bound_environment(planned: TenantPlan, env: str, observed: ObservedState) -> TenantPlan:
    info = observed.listed.get(env)
    if info is None and env in observed.recent_envs:
        return attrs.evolve(planned, action=Action.READY, env=env)
    if info is None:
        reason = (
            "is no longer listed: it was deleted, or the list is incomplete. Plan again; if it was deleted, forget it"
        )
    elif info.alias.lower() != planned.alias.lower():
        reason = f"has alias {info.alias}, not {planned.alias}: restore that alias of the tenant"
    else:
        return _with_environment(planned, Action.READY, info)
    return _blocked(planned, f"environment {env} {reason}")


def _plan_new_environment(planned: TenantPlan, observed: ObservedState) -> TenantPlan:
    """Return *planned*, or a blocked plan if an environment for the tenant may exist already."""
    other = observed.ambiguous_creates.get(planned.alias.lower())
    if other is not None and other.tenant != planned.tenant.name:
        unknown = f"the outcome of a create for tenant {other.tenant!r} under alias {planned.alias} is unknown"
        return _blocked(planned, f"{unknown}: provision that tenant first")
    if missing := observed.missing_message:
        return _blocked(planned, f"{missing}. Plan again; if it was deleted, forget it")
    if (rename := observed.possible_rename) and planned.initial_record is None:
        advice = "If so, adopt its environment under its alias; if not, mark it as removed"
        return _blocked(planned, f"{rename} {advice}")
    return planned


def _alias_in_use_reason(alias: str, matches: tuple[str, ...], observed: ObservedState) -> str:
    env, *others = matches
    binding = observed.bindings.get(env)
    if binding is None or others:
        return alias_in_use_message(alias, matches)
    owner = f"{env}, which the journal assigns to tenant {binding.tenant!r}"
    renamed = "adopt it if that tenant was renamed, else " if observed.may_be_adopted(env) else ""
    return f"alias {alias} is in use by {owner}: {renamed}choose another alias"


def _with_environment(planned: TenantPlan, action: Action, info: EnvInfo) -> TenantPlan:
    return attrs.evolve(planned, action=action, env=info.env, status=info.status)


def _blocked(planned: TenantPlan, reason: str, *matches: str) -> TenantPlan:
    action = Action.DUPLICATE if len(matches) > 1 else Action.CONFLICT
    return attrs.evolve(planned, action=action, reason=reason, existing=matches, steps=())


def _restrict_tenant(newer: TenantPlan, original: TenantPlan) -> TenantPlan:
    if newer.action is not Action.CREATE or original.action is Action.CREATE:
        return newer
    reason = f"the plan was {original.action.value}, but its environment no longer exists: plan again to create one"
    return _blocked(newer, reason)
