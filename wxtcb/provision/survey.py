"""From tenants to a plan: one look at the platform, one at the journal."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final

import attrs

from wxtcb.api.environment import EnvList
from wxtcb.errors import InvalidArgument
from wxtcb.provision.journal import NOTHING, Journal
from wxtcb.provision.looks import FRESH
from wxtcb.provision.plan import Found, Plan, Planned, hold_to, plan_tenant
from wxtcb.provision.spec import Tenant
from wxtcb.provision.step import Step
from wxtcb.sweep import Look, Sweep

SLICE: Final = 100
_SECOND_LOOKS: Final = 2


@attrs.frozen
class Surveyor:
    """Makes plans; it spends and changes nothing."""

    journal: Journal
    sweep: Sweep[EnvList]
    steps: tuple[Step, ...]
    namespace: str

    async def plan(
        self,
        tenants: Sequence[Tenant],
        aliases: Sequence[str],
        *,
        adopt: Mapping[str, str] = NOTHING,
        resend_links: bool = False,
        shown: frozenset[str] = frozenset(),
    ) -> Plan:
        """Look, and decide about every tenant; `InvalidArgument` for an adoption that cannot be."""
        bound = await self.journal.bound()
        look = await self._look(shown.union(bound))
        found = Found.of(look.seen, bound)
        if adopt:
            _check_adoptions(adopt, {tenant.name: alias for tenant, alias in zip(tenants, aliases, strict=True)}, found)
        records = await self.journal.load(tenant.name for tenant in tenants)
        planned: list[Planned] = []
        for tenant, alias in zip(tenants, aliases, strict=True):
            each = plan_tenant(tenant, alias, records.get(tenant.name), found, adopt.get(tenant.name))
            planned.append(self._add_steps(_forget_links(each) if resend_links else each))
            if len(planned) % SLICE == 0:
                await asyncio.sleep(0)  # 10,000 decisions take longer than others in the loop should wait
        return Plan(self.namespace, tuple(planned), found.taken, look.started_at, self.journal, adopt, resend_links)

    async def renew(self, plan: Plan) -> Plan:
        """Return *plan* while it holds, else a newer one that opens nothing which *plan* did not."""
        tenants = tuple(planned.tenant for planned in plan.tenants)
        records = await self.journal.load(tenant.name for tenant in tenants)
        is_recent = plan.looked_at >= asyncio.get_running_loop().time() - FRESH
        if is_recent and all(records.get(each.tenant.name) == each.stood for each in plan.tenants):
            return plan
        aliases = tuple(planned.alias for planned in plan.tenants)
        newer = await self.plan(
            tenants, aliases, adopt=plan.adopt, resend_links=plan.resend_links, shown=plan.taken.envs
        )
        return hold_to(plan, newer)

    async def _look(self, known: frozenset[str]) -> Look[EnvList]:
        """Look, and twice more where environments that are known are missing: a list may have a hiccup."""
        look = await self.sweep.since(asyncio.get_running_loop().time())
        for _ in range(_SECOND_LOOKS):
            if known <= look.seen.by_env.keys():
                break
            look = await self.sweep.since(look.started_at + self.sweep.every)
        return look

    def _add_steps(self, planned: Planned) -> Planned:
        if planned.is_blocked:
            return planned
        record, status = planned.record, planned.status
        steps = (step.name for step in self.steps if step.wants(planned.tenant, record, status))
        return attrs.evolve(planned, steps=tuple(steps))


def _forget_links(planned: Planned) -> Planned:
    """Let links be asked for again; those given before stay good until then."""
    if planned.known is None:
        return planned
    return attrs.evolve(planned, known=attrs.evolve(planned.known, links=NOTHING), former_links=planned.known.links)


def _check_adoptions(adopt: Mapping[str, str], aliases: Mapping[str, str], found: Found) -> None:
    """Refuse, all problems at once, what no person can want."""
    if problems := [
        f"adopt {name}={env}: {problem}"
        for name, env in adopt.items()
        if (problem := _why_not(name, env, aliases, found))
    ]:
        raise InvalidArgument("; ".join((*problems, "nothing was changed")))


def _why_not(name: str, env: str, aliases: Mapping[str, str], found: Found) -> str | None:
    info = found.listed.get(env)
    if name not in aliases:
        return "there is no such tenant"
    if info is None:
        return "the platform lists no such environment"
    if found.bound.get(env, name) != name:
        return f"that is the environment of tenant {found.bound[env]!r}"
    if info.alias.lower() != aliases[name].lower():
        return f"its alias is {info.alias!r}, and that of the tenant {aliases[name]!r}: give the tenant that alias"
    return None
