"""Where file, journal and platform do not agree. Pure: it takes what was read, and says what follows from it."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Final, Self

import attrs

from wxtcb.api.environment import DESCRIBE_ENVS, EnvInfo, EnvList, batch_get_env_id
from wxtcb.errors import WxtcbError
from wxtcb.provision.audit import Audit, BoundEnvironment, Classification, Finding, FindingKind
from wxtcb.provision.error_policy import is_fatal
from wxtcb.provision.journal import Journal, ServiceState, TenantRecord, collect_bindings, recently_opened, to_utc
from wxtcb.provision.plan import AliasIndex
from wxtcb.provision.planner import clock_skew_notes
from wxtcb.provision.slices import cooperative_iter
from wxtcb.provision.tenant import Tenant
from wxtcb.session import Session

ShareQuery = tuple[int | None, str]
"""A source type, and a mini program that was looked up under it."""

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


_DERIVED_ALIAS: Final = re.compile(r"t[a-z2-7]{16}")
_NORMAL: Final = "NORMAL"
_MAX_NAMED: Final = 5


@attrs.frozen
class DesiredTenant:
    """A tenant of the file, and the alias of its environment."""

    tenant: Tenant
    alias: str


@attrs.frozen
class AuditInput:
    """What an audit judges by.

    `desired_aliases` has the tenant of every alias that the file wants, `recorded_aliases` that of each other alias in the journal, both
    in lower case; `bound_records` the record of every environment that has one, of which `recent_envs` ones are perhaps not listed
    yet. `share_results` are the environments that a mini program may use, or why that is not known.
    """

    listed: Mapping[str, EnvInfo]
    alias_index: AliasIndex
    desired_tenants: Mapping[str, DesiredTenant]
    records: Mapping[str, TenantRecord]
    share_results: Mapping[ShareQuery, frozenset[str] | str]
    desired_aliases: Mapping[str, str]
    recorded_aliases: Mapping[str, str]
    bound_records: Mapping[str, TenantRecord]
    recent_envs: frozenset[str]

    @classmethod
    def build(
        cls,
        listed: EnvList,
        desired_tenants: Iterable[DesiredTenant],
        records: Mapping[str, TenantRecord],
        share_results: Mapping[ShareQuery, frozenset[str] | str],
        recent_envs: frozenset[str] = frozenset(),
    ) -> Self:
        """Index what was read."""
        by_name = {each.tenant.name: each for each in desired_tenants}
        claimed = {each.alias.lower(): name for name, each in by_name.items()}
        left = [record for record in records.values() if record.alias.lower() not in claimed]
        former = {
            record.alias.lower(): record.tenant
            for record in sorted(left, key=lambda record: record.may_have_environment)
        }
        bound = {record.env: record for record in records.values() if record.env is not None}
        return cls(
            listed.by_env,
            AliasIndex.from_list(listed),
            by_name,
            records,
            share_results,
            claimed,
            former,
            bound,
            recent_envs,
        )

    def has_ambiguous_create(self, tenant: str, alias: str) -> bool:
        """Tell whether a create under *alias* for *tenant* is without an answer."""
        record = self.records.get(tenant)
        return record is not None and record.intent is not None and record.alias.lower() == alias.lower()


def find_discrepancies(audit_input: AuditInput) -> Iterator[tuple[Finding, ...]]:
    """Judge tenant by tenant and record by record; each yields what is found about it."""
    for wanted in audit_input.desired_tenants.values():
        yield tuple(_check_tenant(wanted, audit_input))
    for record in audit_input.records.values():
        yield tuple(_check_record(record, audit_input))


def has_derived_alias(info: EnvInfo) -> bool:
    """Tell whether somebody like us may have opened an environment."""
    return _DERIVED_ALIAS.fullmatch(info.alias.lower()) is not None


def derived_alias_notes(envs: Sequence[str]) -> Iterator[str]:
    """Name environments of no relation to us that look derived all the same: they may be in use."""
    if envs:
        more = f" and {len(envs) - _MAX_NAMED} more" if len(envs) > _MAX_NAMED else ""
        yield (
            f"Note: of no relation, but with an alias like a derived one: {', '.join(envs[:_MAX_NAMED])}{more}. "
            "Those of another file or journal look like that, and may be in use: find out whose they are."
        )


def classify(info: EnvInfo, audit_input: AuditInput) -> Classification:
    """Say what a listed environment is to us."""
    if record := audit_input.bound_records.get(info.env):
        if record.tenant in audit_input.desired_tenants:
            return Classification.WANTED
        return Classification.RETIRED if record.retired else Classification.ORPHAN
    alias = info.alias.lower()
    owner = audit_input.desired_aliases.get(alias) or audit_input.recorded_aliases.get(alias)
    if owner is None:
        return Classification.OTHER
    if len(audit_input.alias_index.find(alias)) > 1:
        return Classification.DUPLICATE
    if audit_input.has_ambiguous_create(owner, alias):
        return Classification.AMBIGUOUS
    return Classification.CONFLICT if alias in audit_input.desired_aliases else Classification.ORPHAN


def to_bound_environment(record: TenantRecord, audit_input: AuditInput) -> BoundEnvironment:
    """Return the environment that a tenant is bound to, with what journal and platform say of it."""
    env = record.env or ""
    info = audit_input.listed.get(env)
    return BoundEnvironment(
        tenant=record.tenant,
        alias=record.alias,
        env=env,
        tranid=record.tranid,
        opened_at=None if record.opened_at is None else to_utc(record.opened_at),
        create_time=info.create_time if info else None,
        status=info.status if info else None,
        wanted=record.tenant in audit_input.desired_tenants,
        retired=record.retired,
    )


def share_queries(desired: DesiredTenant, record: TenantRecord | None) -> Iterator[ShareQuery]:
    """Return what has to be looked up: the mini programs that were given a link to agree at."""
    if record is not None and record.env is not None:
        for appid in desired.tenant.appids:
            if record.links.get(appid):
                yield desired.tenant.source_type, appid


def _check_tenant(desired: DesiredTenant, audit_input: AuditInput) -> Iterator[Finding]:
    name, alias = desired.tenant.name, desired.alias
    record, alike = audit_input.records.get(name), audit_input.alias_index.find(alias)
    if len(alike) > 1:
        yield _duplicate_finding(name, alias, alike, audit_input)
    if record is not None and record.env is not None:
        yield from _check_bound_environment(desired, record, record.env, audit_input)
        return
    intended = record is not None and record.intent is not None
    if record is not None and intended:
        yield _ambiguous_create_finding(record, audit_input)
    mine = audit_input.has_ambiguous_create(name, alias)
    if len(alike) == 1 and not (mine and alike[0] not in audit_input.bound_records):
        text = f"{_alias_in_use(alias, alike[0], audit_input)}. Adopt it, or give the tenant another alias."
        yield _tenant_finding(desired, FindingKind.CONFLICT, alike, text)
    elif not alike and not intended:
        yield _tenant_finding(
            desired, FindingKind.MISSING, (), f"nothing was opened for it under alias {alias} yet. Provision."
        )


def _check_bound_environment(
    desired: DesiredTenant, record: TenantRecord, env: str, audit_input: AuditInput
) -> Iterator[Finding]:
    info = audit_input.listed.get(env)
    if info is not None and info.alias.lower() == desired.alias.lower():
        yield from _check_drift(desired, record, info, audit_input)
        return
    alike = audit_input.alias_index.find(desired.alias)
    if info is None and env in audit_input.recent_envs and not alike:
        text = f"{env} was opened just now, and is not listed yet. Audit again later."
        yield _tenant_finding(desired, FindingKind.DRIFT, (env,), text)
        return
    reason = _alias_mismatch_message(desired, info) if info else _unlisted_message(env)
    if len(alike) == 1:
        reason = f"{_alias_in_use(desired.alias, alike[0], audit_input)}, while {reason}"
    yield _tenant_finding(desired, FindingKind.CONFLICT, (env, *alike), f"{reason}.")


def _check_drift(
    desired: DesiredTenant, record: TenantRecord, info: EnvInfo, audit_input: AuditInput
) -> Iterator[Finding]:
    tenant = desired.tenant
    for told in (
        _check_status(info),
        _check_shares(tenant, record, audit_input.share_results),
        _check_services(tenant, record),
    ):
        for kind, text in told:
            yield _tenant_finding(desired, kind, (info.env,), text)


def _check_status(info: EnvInfo) -> Iterator[tuple[FindingKind, str]]:
    if info.status != _NORMAL:
        advice = "See its page in the console" if info.status == "HALTED" else "Provision again, which waits for it"
        yield FindingKind.DRIFT, f"{info.env} is {info.status}, not {_NORMAL}. {advice}."


def _check_shares(
    tenant: Tenant, record: TenantRecord, share_results: Mapping[ShareQuery, frozenset[str] | str]
) -> Iterator[tuple[FindingKind, str]]:
    if unshared := record.unshared_appids(tenant.appids):
        yield FindingKind.DRIFT, f"{record.env} was not offered to {', '.join(unshared)}. Provision again."
    for appid in tenant.appids:
        if not record.links.get(appid):
            continue
        known = share_results.get((tenant.source_type, appid), frozenset())
        if isinstance(known, str):
            yield FindingKind.UNKNOWN, f"whether the administrator of {appid} agreed is not known: {known}"
        elif record.env not in known:
            yield FindingKind.AWAITING, f"the administrator of {appid} has to open {record.links[appid]} and agree."


def _check_services(tenant: Tenant, record: TenantRecord) -> Iterator[tuple[FindingKind, str]]:
    for name in tenant.service_names:
        match record.services.get(name):
            case ServiceState.DONE:
                continue
            case ServiceState.UNCONFIRMED:
                text = f"service {name} was there after a send in doubt. See in the console that it is as you want it."
                yield FindingKind.UNKNOWN, text
            case ServiceState.SENT:
                yield FindingKind.DRIFT, f"nobody knows whether service {name} was established. Provision again."
            case _:
                yield FindingKind.DRIFT, f"service {name} was not established. Provision again."


def _check_record(record: TenantRecord, audit_input: AuditInput) -> Iterator[Finding]:
    """Judge what the journal knows beyond the file: tenants that it does not name, and aliases they had before."""
    if record.tenant not in audit_input.desired_tenants:
        yield from _check_absent_tenant(record, audit_input)
    if audit_input.recorded_aliases.get(record.alias.lower()) != record.tenant:
        return
    alike = audit_input.alias_index.find(record.alias)
    if len(alike) > 1:
        yield _duplicate_finding(record.tenant, record.alias, alike, audit_input)
    elif alike and alike[0] not in audit_input.bound_records and record.intent is None:
        text = f"{_alias_in_use(record.alias, alike[0], audit_input)}, and a create of ours was tried under it. Adopt or remove it."
        yield _record_finding(record, FindingKind.ORPHAN, alike, text)


def _check_absent_tenant(record: TenantRecord, audit_input: AuditInput) -> Iterator[Finding]:
    if record.intent is not None:
        yield _ambiguous_create_finding(record, audit_input)
    if record.env is None:
        return
    if record.env not in audit_input.listed:
        text = f"{_unlisted_message(record.env)}. The file lacks its tenant."
        yield _record_finding(record, FindingKind.CONFLICT, (record.env,), text)
    elif not record.retired:
        order = f", order {record.tranid}," if record.tranid else ""
        text = f"{record.env}{order} is billed, and the file lacks its tenant. Put it back, or say that it was removed."
        yield _record_finding(record, FindingKind.ORPHAN, (record.env,), text)


def _duplicate_finding(tenant: str, alias: str, envs: tuple[str, ...], audit_input: AuditInput) -> Finding:
    named = "; ".join(_describe_environment(env, audit_input) for env in envs)
    text = f"{len(envs)} environments have alias {alias}, each of them billed: {named}. Keep one of them."
    return Finding(kind=FindingKind.DUPLICATE, tenant=tenant, alias=alias, envs=envs, message=text)


def _tenant_finding(desired: DesiredTenant, kind: FindingKind, envs: tuple[str, ...], message: str) -> Finding:
    return Finding(kind=kind, tenant=desired.tenant.name, alias=desired.alias, envs=envs, message=message)


def _record_finding(record: TenantRecord, kind: FindingKind, envs: tuple[str, ...], message: str) -> Finding:
    return Finding(kind=kind, tenant=record.tenant, alias=record.alias, envs=envs, message=message)


def _ambiguous_create_finding(record: TenantRecord, audit_input: AuditInput) -> Finding:
    envs = tuple(env for env in audit_input.alias_index.find(record.alias) if env not in audit_input.bound_records)
    seen = f"{', '.join(envs)} may be its doing" if envs else "nothing is listed under it"
    text = f"create {record.attempt}, under alias {record.alias}, has no clear answer; {seen}. {_ambiguous_create_advice(record, audit_input)}."
    return _record_finding(record, FindingKind.AMBIGUOUS, envs, text)


def _ambiguous_create_advice(record: TenantRecord, audit_input: AuditInput) -> str:
    """Say how the next run gets to look for an unclear create: it does so under its alias only."""
    wanted = audit_input.desired_tenants.get(record.tenant)
    if wanted is None:
        return "Put the tenant back into the file, with this alias, and provision it again"
    if wanted.alias.lower() != record.alias.lower():
        return "Give the tenant this alias back, and provision it again"
    return "Provision the tenant again"


def _alias_mismatch_message(desired: DesiredTenant, info: EnvInfo) -> str:
    return f"its environment {info.env} has alias {info.alias}, not {desired.alias}: give the tenant that alias back"


def _unlisted_message(env: str) -> str:
    return f"environment {env} is not listed: if it was removed, forget it; else the list is not whole, so audit again"


def _alias_in_use(alias: str, env: str, audit_input: AuditInput) -> str:
    return f"alias {alias} is that of {_describe_environment(env, audit_input)}"


def _describe_environment(env: str, audit_input: AuditInput) -> str:
    """Name an environment with whose it is by the journal, and since when it is there by the platform."""
    owner = audit_input.bound_records.get(env)
    whose = f"tenant {owner.tenant}'s" if owner else "nobody's by the journal"
    return f"{env}, {whose}, of {audit_input.listed[env].create_time}"


MAX_APPIDS_PER_CALL: Final = 20

LookupBatch = tuple[int | None, tuple[str, ...]]


@attrs.define(eq=False)
class ShareLookup:
    """Looks mini programs up, at most `concurrency` batches at a time.

    A look-up that fails is no failure of the whole: `results` has the reason in the place of environments. After an error
    that every other would meet nothing more is asked.
    """

    session: Session
    concurrency: int
    results: dict[ShareQuery, frozenset[str] | str] = attrs.field(
        init=False, factory=dict[ShareQuery, "frozenset[str] | str"]
    )
    _fatal_reason: str | None = attrs.field(init=False, default=None)

    async def fetch(self, queries: Iterable[ShareQuery]) -> Mapping[ShareQuery, frozenset[str] | str]:
        """Look all of them up and return what is `results`; who is not in it may use no environment."""
        batches = batch_queries(queries)
        async with asyncio.TaskGroup() as group:
            for _ in range(self.concurrency):
                group.create_task(self._run_worker(batches))
        return self.results

    async def _run_worker(self, batches: Iterator[LookupBatch]) -> None:
        session = self.session.with_options(partial="return")
        for source_type, appids in batches:
            reason = self._fatal_reason
            try:
                if reason is None:
                    await self._fetch_batch(session, source_type, appids)
            except WxtcbError as error:
                reason = str(error)
                if is_fatal(error):
                    self._fatal_reason = reason
            if reason is not None:
                self.results |= {(source_type, appid): reason for appid in appids}

    async def _fetch_batch(self, session: Session, source_type: int | None, appids: tuple[str, ...]) -> None:
        reply = await batch_get_env_id(session, appids, source_type=source_type)
        self.results |= {(source_type, each.appid): frozenset(each.env_list) for each in reply.relation_data}
        self.results |= {(source_type, each.appid): each.errmsg for each in reply.err_list}


def batch_queries(queries: Iterable[ShareQuery]) -> Iterator[LookupBatch]:
    """Put those of a source type together, each once."""
    by_type: dict[int | None, dict[str, None]] = {}
    for source_type, appid in queries:
        by_type.setdefault(source_type, {})[appid] = None
    for source_type, appids in by_type.items():
        left = iter(appids)
        while batch := tuple(islice(left, MAX_APPIDS_PER_CALL)):
            yield source_type, batch
