"""An audit reads, and changes nothing: the journal, the platform's list, and who has agreed to a share."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import attrs

from wxtcb._concurrency.tasks import cooperative_iter
from wxtcb.api.environment import DESCRIBE_ENVS, EnvList
from wxtcb.provision.agreement import ShareLookup
from wxtcb.provision.audit import Audit, Classification, Finding, FindingKind
from wxtcb.provision.auditor import (
    AuditInput,
    DesiredTenant,
    classify,
    derived_alias_notes,
    find_discrepancies,
    has_derived_alias,
    share_queries,
    to_bound_environment,
)
from wxtcb.provision.clocks import clock_skew_notes
from wxtcb.provision.journal import Journal, TenantRecord, collect_bindings, recently_opened
from wxtcb.provision.tenant import Tenant
from wxtcb.session import Session

_LISTING_RETRIES: Final = 2
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
    clock: Callable[[], float]

    async def audit(self, tenants: Sequence[Tenant], aliases: Sequence[str]) -> Audit:
        """Read, and judge what was read."""
        wanted = [DesiredTenant(tenant, alias) for tenant, alias in zip(tenants, aliases, strict=True)]
        listed, records, recent = await self._read_state(asyncio.get_running_loop().time(), _LISTING_RETRIES)
        asked = [
            each async for one in cooperative_iter(wanted) for each in share_queries(one, records.get(one.tenant.name))
        ]
        agreed = await ShareLookup(self.session, self.concurrency).fetch(asked)
        facts = AuditInput.build(listed, wanted, records, agreed, recent)
        since = (record.opened_at or 0.0 for record in facts.bound_records.values())
        return await build_audit(self.namespace, facts, tuple(clock_skew_notes(since, self.clock())))

    async def _read_state(
        self, newer_than: float, retries: int
    ) -> tuple[EnvList, Mapping[str, TenantRecord], frozenset[str]]:
        """Look, then read the journal: what a run opens meanwhile may be in both, or in the journal alone.

        Where the journal knows an environment that is not listed, do both *again*: a list may have a hiccup.
        """
        sweep = self.session.shared_poller(DESCRIBE_ENVS)
        look = await sweep.poll(newer_than)
        records = await self.journal.load()
        bound = collect_bindings(records.values())
        recent = recently_opened(bound, self.clock(), self.settle)
        if retries and not bound.keys() <= recent | look.value.by_env.keys():
            return await self._read_state(look.started_at + sweep.min_interval, retries - 1)
        return look.value, records, recent


async def build_audit(namespace: str, audit_input: AuditInput, notes: tuple[str, ...] = ()) -> Audit:
    """Judge *facts* in slices, and sort what is found, the worst first; add to the *notes* what else is odd."""
    findings: list[Finding] = []
    standings: Counter[Classification] = Counter()
    others: list[str] = []
    alike: list[str] = []
    async for found in cooperative_iter(find_discrepancies(audit_input)):
        findings += found
    async for info in cooperative_iter(audit_input.listed.values()):
        standing = classify(info, audit_input)
        standings[standing] += 1
        if standing is Classification.OTHER:
            others.append(info.env)
            alike += [info.env] if has_derived_alias(info) else []
    opened = [
        to_bound_environment(record, audit_input)
        async for record in cooperative_iter(audit_input.bound_records.values())
    ]
    findings.sort(key=lambda finding: _SEVERITY[finding.kind])
    return Audit(
        namespace,
        len(audit_input.desired_tenants),
        tuple(findings),
        tuple(opened),
        tuple(others),
        standings,
        (*derived_alias_notes(alike), *notes),
    )
