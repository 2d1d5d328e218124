"""An audit reads, and changes nothing: the journal, the platform's list, and who has agreed to a share."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import attrs

from wxtcb.api.environment import DESCRIBE_ENVS, EnvList
from wxtcb.provision.agreement import Agreements
from wxtcb.provision.audit import Audit, Finding, FindingKind, Standing
from wxtcb.provision.auditor import Facts, Wanted, judge, looks_derived, opened_of, standing_of, suspicions, to_ask
from wxtcb.provision.clocks import clock_notes
from wxtcb.provision.journal import Journal, Record, bindings, young
from wxtcb.provision.slices import in_slices
from wxtcb.provision.tenant import Tenant
from wxtcb.session import Session

_SECOND_LOOKS: Final = 2
_SEVERITY: Final = {kind: place for place, kind in enumerate(FindingKind)}


@attrs.frozen
class Auditor:
    """Makes audits.

    An environment that was opened less than `settle` seconds ago may not be listed yet.
    """

    session: Session
    journal: Journal
    namespace: str
    concurrency: int
    settle: float
    wall: Callable[[], float]

    async def audit(self, tenants: Sequence[Tenant], aliases: Sequence[str]) -> Audit:
        """Read, and judge what was read."""
        wanted = [Wanted(tenant, alias) for tenant, alias in zip(tenants, aliases, strict=True)]
        listed, records, recent = await self._read(asyncio.get_running_loop().time(), _SECOND_LOOKS)
        asked = [each async for one in in_slices(wanted) for each in to_ask(one, records.get(one.tenant.name))]
        agreed = await Agreements(self.session, self.concurrency).learn(asked)
        facts = Facts.of(listed, wanted, records, agreed, recent)
        since = (record.opened_at or 0.0 for record in facts.bound.values())
        return await judge_all(self.namespace, facts, tuple(clock_notes(since, self.wall())))

    async def _read(self, moment: float, again: int) -> tuple[EnvList, Mapping[str, Record], frozenset[str]]:
        """Look, then read the journal: what a run opens meanwhile may be in both, or in the journal alone.

        Where the journal knows an environment that is not listed, do both *again*: a list may have a hiccup.
        """
        sweep = self.session.sweep(DESCRIBE_ENVS)
        look = await sweep.since(moment)
        records = await self.journal.load()
        bound = bindings(records.values())
        recent = young(bound, self.wall(), self.settle)
        if again and not bound.keys() <= recent | look.seen.by_env.keys():
            return await self._read(look.started_at + sweep.every, again - 1)
        return look.seen, records, recent


async def judge_all(namespace: str, facts: Facts, notes: tuple[str, ...] = ()) -> Audit:
    """Judge *facts* in slices, and sort what is found, the worst first; add to the *notes* what else is odd."""
    findings: list[Finding] = []
    standings: Counter[Standing] = Counter()
    others: list[str] = []
    alike: list[str] = []
    async for found in in_slices(judge(facts)):
        findings += found
    async for info in in_slices(facts.listed.values()):
        standing = standing_of(info, facts)
        standings[standing] += 1
        if standing is Standing.OTHER:
            others.append(info.env)
            alike += [info.env] if looks_derived(info) else []
    opened = [opened_of(record, facts) async for record in in_slices(facts.bound.values())]
    findings.sort(key=lambda finding: _SEVERITY[finding.kind])
    return Audit(
        namespace,
        len(facts.wanted),
        tuple(findings),
        tuple(opened),
        tuple(others),
        standings,
        (*suspicions(alike), *notes),
    )
