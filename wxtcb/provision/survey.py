"""From tenants to a plan: one look at the platform, one at the journal."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from typing import Final

import attrs

from wxtcb._concurrency.shared_poll import SharedPoller, Snapshot
from wxtcb.api.environment import EnvList
from wxtcb.provision.clocks import clock_skew_notes
from wxtcb.provision.journal import Journal, TenantRecord, collect_bindings, recently_opened
from wxtcb.provision.overrides import DecisionResolver
from wxtcb.provision.plan import Action, AliasIndex, OperatorDecisions, Plan, RecordChange, TenantPlan
from wxtcb.provision.planner import ObservedState, plan_tenant, restrict_to
from wxtcb.provision.reconciliation import MAX_LISTING_AGE
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
