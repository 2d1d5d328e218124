"""From tenants to a plan: one look at the platform, one at the journal."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from typing import Final

import attrs

from wxtcb._concurrency.shared_poll import Look, Sweep
from wxtcb.api.environment import EnvList
from wxtcb.provision.clocks import clock_notes
from wxtcb.provision.journal import Journal, Record, bindings, young
from wxtcb.provision.looks import FRESH
from wxtcb.provision.overrides import Rulings
from wxtcb.provision.plan import Action, Decisions, Plan, Planned, Release, Taken
from wxtcb.provision.planner import Found, hold_to, plan_tenant
from wxtcb.provision.slices import in_slices
from wxtcb.provision.step import Step
from wxtcb.provision.tenant import Tenant

_SECOND_LOOKS: Final = 2


@attrs.frozen
class Surveyor:
    """Makes plans; it spends and changes nothing.

    An environment that was opened less than `settle` seconds ago may not be listed yet.
    """

    journal: Journal
    sweep: Sweep[EnvList]
    steps: tuple[Step, ...]
    namespace: str
    settle: float
    wall: Callable[[], float]

    async def plan(
        self,
        tenants: Sequence[Tenant],
        aliases: Sequence[str],
        decisions: Decisions,
        *,
        shown: frozenset[str] = frozenset(),
    ) -> Plan:
        """Look, and decide about every tenant; `InvalidArgument` for a decision that cannot be carried out."""
        names = dict(zip((tenant.name for tenant in tenants), aliases, strict=True))
        records = await self._load(names, decisions)
        bound = bindings(records.values()) if decisions.whole else await self.journal.bound()
        look = await self._look(shown.union(bound) - young(bound, self.wall(), self.settle))
        rulings = Rulings(decisions, names, records, look.seen.by_env, bound, self.wall())
        rulings.check()
        found = await self._compare(look.seen, rulings)
        return Plan(
            self.namespace,
            tuple([self._decide(tenant, found, rulings) async for tenant in in_slices(tenants)]),
            found.taken,
            look.started_at,
            self.journal,
            decisions,
            (*rulings.moves(), *[each async for each in _releases(rulings)]),
            (*rulings.notes(), *self._notes(found)),
            {found.bound[env].tenant: env for env in found.missing},
            {name: record.env or "" for name, record in found.left_out.items()},
        )

    async def renew(self, plan: Plan) -> Plan:
        """Return *plan* while it holds, else a newer one that opens nothing which *plan* did not."""
        tenants = tuple(planned.tenant for planned in plan.tenants)
        records = await self.journal.load(tenant.name for tenant in tenants)
        is_recent = plan.looked_at >= asyncio.get_running_loop().time() - FRESH
        if is_recent and all(records.get(each.tenant.name) == each.stood for each in plan.tenants):
            return plan
        aliases = tuple(planned.alias for planned in plan.tenants)
        newer = await self.plan(tenants, aliases, plan.decisions, shown=plan.taken.envs)
        return hold_to(plan, newer)

    async def _load(self, names: Mapping[str, str], decisions: Decisions) -> Mapping[str, Record]:
        """Return the records that the plan is about: all of them, where those not among the tenants count too."""
        if decisions.whole:
            return await self.journal.load()
        return await self.journal.load(dict.fromkeys((*names, *decisions.forget)))

    async def _look(self, known: frozenset[str]) -> Look[EnvList]:
        """Look, and twice more where environments that are known are missing: a list may have a hiccup."""
        look = await self.sweep.since(asyncio.get_running_loop().time())
        for _ in range(_SECOND_LOOKS):
            if known <= look.seen.by_env.keys():
                break
            look = await self.sweep.since(look.started_at + self.sweep.every)
        return look

    async def _compare(self, seen: EnvList, rulings: Rulings) -> Found:
        listed, recent = seen.by_env, young(rulings.bound, self.wall(), self.settle)
        bound = {env: binding for env, binding in rulings.bound.items() if env not in rulings.freed}
        return Found(
            listed=listed,
            taken=Taken.of(seen),
            bound=bound,
            missing=tuple(env for env in bound if env not in listed and env not in recent),
            young=recent,
            left_out={
                each.tenant: each async for each in in_slices(rulings.records.values()) if rulings.leaves_out(each)
            },
            claims=rulings.claims,
        )

    def _decide(self, tenant: Tenant, found: Found, rulings: Rulings) -> Planned:
        known, adopt = rulings.known(tenant.name), rulings.decisions.adopt.get(tenant.name)
        planned = plan_tenant(tenant, rulings.aliases[tenant.name], known, found, adopt)
        if tenant.name in rulings.moved:
            planned = attrs.evolve(planned, action=Action.ADOPT)
        if rulings.decisions.resend_links:
            planned = attrs.evolve(planned, resend=True)
        return self._add_steps(planned, rulings.records.get(tenant.name))

    def _notes(self, found: Found) -> Iterator[str]:
        if found.gap:
            yield f"Note: {found.gap}; nothing is opened meanwhile."
        if found.rename:
            yield f"Note: {found.rename} Nothing is done for them, and nothing is opened for who is new."
        yield from clock_notes((binding.since for binding in found.bound.values()), self.wall())

    def _add_steps(self, planned: Planned, stood: Record | None) -> Planned:
        if planned.is_blocked:
            return attrs.evolve(planned, stood=stood)
        record, status = planned.to_go_by, planned.status
        steps = (step.name for step in self.steps if step.wants(planned.tenant, record, status))
        return attrs.evolve(planned, steps=tuple(steps), stood=stood)


async def _releases(rulings: Rulings) -> AsyncIterator[Release]:
    async for record in in_slices(rulings.records.values()):
        if release := rulings.release(record):
            yield release
