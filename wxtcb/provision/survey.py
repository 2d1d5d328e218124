"""From tenants to a plan: one look at the platform, one at the journal."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final

import attrs

from wxtcb.api.environment import EnvList
from wxtcb.errors import InvalidArgument
from wxtcb.provision.journal import NOTHING, Journal
from wxtcb.provision.plan import Found, Plan, Planned, plan_tenant
from wxtcb.provision.spec import Tenant
from wxtcb.provision.step import Step
from wxtcb.sweep import Look, Sweep

SLICE: Final = 100


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
    ) -> Plan:
        """Look, and decide about every tenant; `InvalidArgument` for an adoption that cannot be."""
        bound = await self.journal.bound()
        look = await self._look(bound)
        found = Found.of(look.seen, bound)
        if adopt:
            _check_adoptions(adopt, {tenant.name: alias for tenant, alias in zip(tenants, aliases, strict=True)}, found)
        records = await self.journal.load(tenant.name for tenant in tenants)
        planned: list[Planned] = []
        for tenant, alias in zip(tenants, aliases, strict=True):
            known = records.get(tenant.name)
            if known is not None and resend_links:
                known = attrs.evolve(known, links=NOTHING)
            planned.append(self._add_steps(plan_tenant(tenant, alias, known, found, adopt.get(tenant.name))))
            if len(planned) % SLICE == 0:
                await asyncio.sleep(0)  # 10,000 decisions take longer than others in the loop should wait
        return Plan(self.namespace, tuple(planned), found.taken, look.started_at)

    async def _look(self, bound: Mapping[str, str]) -> Look[EnvList]:
        """Look, and once more where environments that the journal knows are missing: a list may have a hiccup."""
        look = await self.sweep.since(asyncio.get_running_loop().time())
        if bound.keys() <= look.seen.by_env.keys():
            return look
        return await self.sweep.since(look.started_at + self.sweep.every)

    def _add_steps(self, planned: Planned) -> Planned:
        if planned.is_blocked:
            return planned
        record, status = planned.record, planned.status
        steps = (step.name for step in self.steps if step.wants(planned.tenant, record, status))
        return attrs.evolve(planned, steps=tuple(steps))


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
