"""From tenants to a plan: one look at the platform, one at the journal."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

import attrs

from wxtcb.api.environment import EnvList
from wxtcb.provision.deciding import Found, hold_to, plan_tenant
from wxtcb.provision.journal import NOTHING, Journal, Record, young
from wxtcb.provision.looks import FRESH
from wxtcb.provision.plan import Decisions, Plan, Planned, Taken
from wxtcb.provision.rulings import Rulings
from wxtcb.provision.spec import Tenant
from wxtcb.provision.step import Step
from wxtcb.sweep import Look, Sweep

SLICE: Final = 100
_SECOND_LOOKS: Final = 2
_SKEW: Final = 60.0


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
        bound = await self.journal.bound()
        names = dict(zip((tenant.name for tenant in tenants), aliases, strict=True))
        records = await self._load(names, decisions)
        forgotten = decisions.forget.values()
        look = await self._look(shown.union(bound).difference(young(bound, self.wall(), self.settle), forgotten))
        rulings = Rulings(decisions, names, records, look.seen.by_env, bound)
        rulings.check()
        found = self._compare(look.seen, rulings)
        return Plan(
            self.namespace,
            tuple([planned async for planned in self._decide(tenants, found, rulings)]),
            found.taken,
            look.started_at,
            self.journal,
            decisions,
            tuple(rulings.releases.values()),
            tuple(self._notes(found)),
        )

    async def _decide(self, tenants: Sequence[Tenant], found: Found, rulings: Rulings) -> AsyncIterator[Planned]:
        decisions = rulings.decisions
        for number, tenant in enumerate(tenants, 1):
            known, adopt = rulings.known(tenant.name), decisions.adopt.get(tenant.name)
            planned = plan_tenant(tenant, rulings.aliases[tenant.name], known, found, adopt)
            planned = _forget_links(planned) if decisions.resend_links else planned
            yield self._add_steps(planned, rulings.records.get(tenant.name))
            if number % SLICE == 0:
                await asyncio.sleep(0)  # 10,000 decisions take longer than others in the loop should wait

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

    def _compare(self, seen: EnvList, rulings: Rulings) -> Found:
        listed, recent = seen.by_env, young(rulings.bound, self.wall(), self.settle)
        bound = {env: binding for env, binding in rulings.bound.items() if env not in rulings.freed}
        return Found(
            listed=listed,
            taken=Taken.of(seen),
            bound=bound,
            missing=tuple(env for env in bound if env not in listed and env not in recent),
            young=recent,
            left_out=rulings.left_out,
        )

    def _notes(self, found: Found) -> Iterator[str]:
        if found.gap:
            yield f"Note: {found.gap}; nothing is opened meanwhile."
        if found.rename:
            yield f"Note: {found.rename} Nothing is done for them, and nothing is opened for who is new."
        latest = max((binding.since for binding in found.bound.values()), default=0.0)
        if latest > self.wall() + _SKEW:
            at = datetime.fromtimestamp(latest, UTC)
            yield f"Note: the clock was set back: the journal knows of {at:%Y-%m-%d %H:%M} UTC. No wait relies on it."

    def _add_steps(self, planned: Planned, stood: Record | None) -> Planned:
        if planned.is_blocked:
            return attrs.evolve(planned, stood=stood)
        record, status = planned.record, planned.status
        steps = (step.name for step in self.steps if step.wants(planned.tenant, record, status))
        return attrs.evolve(planned, steps=tuple(steps), stood=stood)


def _forget_links(planned: Planned) -> Planned:
    """Let links be asked for again; those given before stay good until then."""
    if planned.known is None:
        return planned
    return attrs.evolve(planned, known=attrs.evolve(planned.known, links=NOTHING), former_links=planned.known.links)
