"""Auditor: reads journal, platform and share agreements, and compares them with the tenants.

`Auditor` and `ShareLookup` send requests, all of which only read. The functions between them are pure.
"""

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
from wxtcb.provision.planner import LISTING_RETRIES, clock_skew_notes
from wxtcb.provision.slices import cooperative_iter
from wxtcb.provision.tenant import Tenant
from wxtcb.session import Session

ShareQuery = tuple[int | None, str]
"""Source type, and the mini program to look up under it."""

MAX_APPIDS_PER_CALL: Final = 20

LookupBatch = tuple[int | None, tuple[str, ...]]

_SEVERITY: Final = {kind: index for index, kind in enumerate(FindingKind)}
_DERIVED_ALIAS: Final = re.compile(r"t[a-z2-7]{16}")
_NORMAL: Final = "NORMAL"
_MAX_NAMED: Final = 5


@attrs.frozen
class Auditor:
    """Maker of audits.

    `concurrency` is the number of share lookups at a time. `settle` is the propagation delay in seconds: the platform
    may not list an environment that was created since. `clock` returns Unix time.
    """

    session: Session
    journal: Journal
    namespace: str
    concurrency: int
    settle: float
    clock: Callable[[], float]

    async def audit(self, tenants: Sequence[Tenant], aliases: Sequence[str]) -> Audit:
        """Return the audit of *tenants*, whose aliases are *aliases*."""
        desired = [DesiredTenant(tenant, alias) for tenant, alias in zip(tenants, aliases, strict=True)]
        listed, records, recent = await self._read_state(asyncio.get_running_loop().time(), LISTING_RETRIES)
        queries = [
            query
            async for each in cooperative_iter(desired)
            for query in share_queries(each, records.get(each.tenant.name))
        ]
        share_results = await ShareLookup(self.session, self.concurrency).fetch(queries)
        audit_input = AuditInput.build(listed, desired, records, share_results, recent)
        opened_at = (record.opened_at or 0.0 for record in audit_input.bound_records.values())
        return await build_audit(self.namespace, audit_input, tuple(clock_skew_notes(opened_at, self.clock())))

    async def _read_state(
        self, newer_than: float, retries: int
    ) -> tuple[EnvList, Mapping[str, TenantRecord], frozenset[str]]:
        """Return the list of environments, the records, and the environments that may not be listed yet.

        Read both again, at most *retries* times, if the list lacks an environment of the journal.
        """
        poller = self.session.shared_poller(DESCRIBE_ENVS)
        snapshot = await poller.poll(newer_than)
        # The journal is read after the list. An environment that a run creates in between is then in the journal, and
        # recent. In the other order it would be in the list alone, and look like an orphan.
        records = await self.journal.load()
        bindings = collect_bindings(records.values())
        recent = recently_opened(bindings, self.clock(), self.settle)
        if retries and not bindings.keys() <= recent | snapshot.value.by_env.keys():
            return await self._read_state(snapshot.started_at + poller.min_interval, retries - 1)
        return snapshot.value, records, recent


async def build_audit(namespace: str, audit_input: AuditInput, notes: tuple[str, ...] = ()) -> Audit:
    """Compare *audit_input* and return the audit; *notes* are added to its own notes."""
    findings: list[Finding] = []
    counts: Counter[Classification] = Counter()
    unrelated: list[str] = []
    with_derived_alias: list[str] = []
    async for found in cooperative_iter(find_discrepancies(audit_input)):
        findings += found
    async for info in cooperative_iter(audit_input.listed.values()):
        classification = classify(info, audit_input)
        counts[classification] += 1
        if classification is Classification.OTHER:
            unrelated.append(info.env)
            with_derived_alias += [info.env] if has_derived_alias(info) else []
    bound = [
        to_bound_environment(record, audit_input)
        async for record in cooperative_iter(audit_input.bound_records.values())
    ]
    findings.sort(key=lambda finding: _SEVERITY[finding.kind])
    return Audit(
        namespace,
        len(audit_input.desired_tenants),
        tuple(findings),
        tuple(bound),
        tuple(unrelated),
        counts,
        (*derived_alias_notes(with_derived_alias), *notes),
    )


@attrs.frozen
class DesiredTenant:
    """Tenant to audit, and the alias of its environment."""

    tenant: Tenant
    alias: str


@attrs.frozen
class AuditInput:
    """State that an audit compares.

    - `desired_aliases`: tenant by desired alias, in lower case.
    - `recorded_aliases`: tenant by each other alias of the journal, in lower case.
    - `bound_records`: record by environment.
    - `recent_envs`: bound environments that the platform may not list yet.
    - `share_results`: environments that a mini program may use, or the message of a failed lookup.
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
        """Index the state that was read."""
        by_name = {each.tenant.name: each for each in desired_tenants}
        desired_aliases = {each.alias.lower(): name for name, each in by_name.items()}
        others = [record for record in records.values() if record.alias.lower() not in desired_aliases]
        # Several records may have one alias. The last one wins, and that is the one that may have an environment.
        recorded_aliases = {
            record.alias.lower(): record.tenant
            for record in sorted(others, key=lambda record: record.may_have_environment)
        }
        bound_records = {record.env: record for record in records.values() if record.env is not None}
        return cls(
            listed.by_env,
            AliasIndex.from_list(listed),
            by_name,
            records,
            share_results,
            desired_aliases,
            recorded_aliases,
            bound_records,
            recent_envs,
        )

    def has_ambiguous_create(self, tenant: str, alias: str) -> bool:
        """Return whether the outcome of a create under *alias* for *tenant* is unknown."""
        record = self.records.get(tenant)
        return record is not None and record.intent is not None and record.alias.lower() == alias.lower()


def find_discrepancies(audit_input: AuditInput) -> Iterator[tuple[Finding, ...]]:
    """Yield the findings of each tenant, then those of each record."""
    for desired in audit_input.desired_tenants.values():
        yield tuple(_check_tenant(desired, audit_input))
    for record in audit_input.records.values():
        yield tuple(_check_record(record, audit_input))


def has_derived_alias(info: EnvInfo) -> bool:
    """Return whether the alias of an environment has the shape of a derived alias."""
    return _DERIVED_ALIAS.fullmatch(info.alias.lower()) is not None


def derived_alias_notes(envs: Sequence[str]) -> Iterator[str]:
    """Yield a note on unrelated environments that have a derived alias: another file or journal may own them."""
    if envs:
        more = f" and {len(envs) - _MAX_NAMED} more" if len(envs) > _MAX_NAMED else ""
        yield (
            f"Note: unrelated environments with an alias like a derived one: {', '.join(envs[:_MAX_NAMED])}{more}. "
            "They may be in use by tenants of another file or journal: find their owner before you change anything."
        )


def classify(info: EnvInfo, audit_input: AuditInput) -> Classification:
    """Return the classification of a listed environment."""
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
    """Return the environment that a record binds to its tenant, with the data of the platform."""
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
    """Yield the mini programs to look up: those that a confirmation link was requested for."""
    if record is not None and record.env is not None:
        for appid in desired.tenant.appids:
            if record.links.get(appid):
                yield desired.tenant.source_type, appid


def _check_tenant(desired: DesiredTenant, audit_input: AuditInput) -> Iterator[Finding]:
    name, alias = desired.tenant.name, desired.alias
    record, matches = audit_input.records.get(name), audit_input.alias_index.find(alias)
    if len(matches) > 1:
        yield _duplicate_finding(name, alias, matches, audit_input)
    if record is not None and record.env is not None:
        yield from _check_bound_environment(desired, record, record.env, audit_input)
        return
    intended = record is not None and record.intent is not None
    if record is not None and intended:
        yield _ambiguous_create_finding(record, audit_input)
    # An unbound environment under the alias of an ambiguous create may be its result: that is no conflict.
    may_be_own = audit_input.has_ambiguous_create(name, alias)
    if len(matches) == 1 and not (may_be_own and matches[0] not in audit_input.bound_records):
        message = f"{_alias_in_use(alias, matches[0], audit_input)}. Adopt it, or give the tenant another alias."
        yield _tenant_finding(desired, FindingKind.CONFLICT, matches, message)
    elif not matches and not intended:
        message = f"no environment was created under alias {alias} yet. Provision the tenant."
        yield _tenant_finding(desired, FindingKind.MISSING, (), message)


def _check_bound_environment(
    desired: DesiredTenant, record: TenantRecord, env: str, audit_input: AuditInput
) -> Iterator[Finding]:
    info = audit_input.listed.get(env)
    if info is not None and info.alias.lower() == desired.alias.lower():
        yield from _check_drift(desired, record, info, audit_input)
        return
    matches = audit_input.alias_index.find(desired.alias)
    if info is None and env in audit_input.recent_envs and not matches:
        message = f"{env} was created recently and is not listed yet. Audit again later."
        yield _tenant_finding(desired, FindingKind.DRIFT, (env,), message)
        return
    reason = (
        f"environment {env} has alias {info.alias}, not {desired.alias}: restore that alias of the tenant"
        if info
        else _unlisted_message(env)
    )
    if len(matches) == 1:
        reason = f"{_alias_in_use(desired.alias, matches[0], audit_input)}, and {reason}"
    yield _tenant_finding(desired, FindingKind.CONFLICT, (env, *matches), f"{reason}.")


def _check_drift(
    desired: DesiredTenant, record: TenantRecord, info: EnvInfo, audit_input: AuditInput
) -> Iterator[Finding]:
    if info.status != _NORMAL:
        advice = "See its page in the console" if info.status == "HALTED" else "Provision again to wait for it"
        message = f"{info.env} is {info.status}, not {_NORMAL}. {advice}."
        yield _tenant_finding(desired, FindingKind.DRIFT, (info.env,), message)
    for kind, message in (
        *_check_shares(desired.tenant, record, audit_input.share_results),
        *_check_services(desired.tenant, record),
    ):
        yield _tenant_finding(desired, kind, (info.env,), message)


def _check_shares(
    tenant: Tenant, record: TenantRecord, share_results: Mapping[ShareQuery, frozenset[str] | str]
) -> Iterator[tuple[FindingKind, str]]:
    if unshared := record.unshared_appids(tenant.appids):
        yield FindingKind.DRIFT, f"{record.env} is not shared with {', '.join(unshared)}. Provision again."
    for appid in tenant.appids:
        # An empty link means that the platform returned none: there is no page to confirm.
        if not record.links.get(appid):
            continue
        result = share_results.get((tenant.source_type, appid), frozenset())
        if isinstance(result, str):
            yield FindingKind.UNKNOWN, f"could not check whether the administrator of {appid} confirmed: {result}"
        elif record.env not in result:
            yield (
                FindingKind.AWAITING,
                f"the administrator of {appid} must open {record.links[appid]} and confirm.",
            )


def _check_services(tenant: Tenant, record: TenantRecord) -> Iterator[tuple[FindingKind, str]]:
    # No call of the platform lists cloud-hosting services: the journal is all there is to compare with.
    for name in tenant.service_names:
        match record.services.get(name):
            case ServiceState.DONE:
                continue
            case ServiceState.UNCONFIRMED:
                yield (
                    FindingKind.UNKNOWN,
                    f"service {name} existed after an ambiguous request. Check its settings in the console.",
                )
            case ServiceState.SENT:
                yield (
                    FindingKind.DRIFT,
                    f"the outcome of the request to establish service {name} is unknown. Provision again.",
                )
            case _:
                yield FindingKind.DRIFT, f"service {name} is not established. Provision again."


def _check_record(record: TenantRecord, audit_input: AuditInput) -> Iterator[Finding]:
    """Yield the findings of a record that the tenants do not cover: absent tenants, and previous aliases."""
    if record.tenant not in audit_input.desired_tenants:
        yield from _check_absent_tenant(record, audit_input)
    if audit_input.recorded_aliases.get(record.alias.lower()) != record.tenant:
        return
    matches = audit_input.alias_index.find(record.alias)
    if len(matches) > 1:
        yield _duplicate_finding(record.tenant, record.alias, matches, audit_input)
    elif matches and matches[0] not in audit_input.bound_records and record.intent is None:
        message = (
            f"{_alias_in_use(record.alias, matches[0], audit_input)}, and an earlier create used that alias. Adopt or "
            "delete it."
        )
        yield _record_finding(record, FindingKind.ORPHAN, matches, message)


def _check_absent_tenant(record: TenantRecord, audit_input: AuditInput) -> Iterator[Finding]:
    if record.intent is not None:
        yield _ambiguous_create_finding(record, audit_input)
    if record.env is None:
        return
    if record.env not in audit_input.listed:
        message = f"{_unlisted_message(record.env)}. Its tenant is not in the file."
        yield _record_finding(record, FindingKind.CONFLICT, (record.env,), message)
    elif not record.retired:
        order = f" (order {record.tranid})" if record.tranid else ""
        message = (
            f"{record.env}{order} is billed, but its tenant is not in the file. Add the tenant again, or mark it as "
            "removed."
        )
        yield _record_finding(record, FindingKind.ORPHAN, (record.env,), message)


def _ambiguous_create_finding(record: TenantRecord, audit_input: AuditInput) -> Finding:
    envs = tuple(env for env in audit_input.alias_index.find(record.alias) if env not in audit_input.bound_records)
    state = f"{', '.join(envs)} may be its result" if envs else "no environment is listed under it"
    desired = audit_input.desired_tenants.get(record.tenant)
    # A run checks the outcome of a create only under the alias that was sent.
    if desired is None:
        advice = "Add the tenant again with this alias, and provision it"
    elif desired.alias.lower() != record.alias.lower():
        advice = "Restore this alias of the tenant, and provision it"
    else:
        advice = "Provision the tenant again"
    message = f"the outcome of create {record.attempt} under alias {record.alias} is unknown; {state}. {advice}."
    return _record_finding(record, FindingKind.AMBIGUOUS, envs, message)


def _duplicate_finding(tenant: str, alias: str, envs: tuple[str, ...], audit_input: AuditInput) -> Finding:
    described = "; ".join(_describe_environment(env, audit_input) for env in envs)
    message = f"{len(envs)} environments have alias {alias}, and each is billed: {described}. Delete all but one."
    return Finding(kind=FindingKind.DUPLICATE, tenant=tenant, alias=alias, envs=envs, message=message)


def _tenant_finding(desired: DesiredTenant, kind: FindingKind, envs: tuple[str, ...], message: str) -> Finding:
    return Finding(kind=kind, tenant=desired.tenant.name, alias=desired.alias, envs=envs, message=message)


def _record_finding(record: TenantRecord, kind: FindingKind, envs: tuple[str, ...], message: str) -> Finding:
    return Finding(kind=kind, tenant=record.tenant, alias=record.alias, envs=envs, message=message)


def _unlisted_message(env: str) -> str:
    return f"environment {env} is not listed: if it was deleted, forget it; else the list is incomplete, audit again"


def _alias_in_use(alias: str, env: str, audit_input: AuditInput) -> str:
    return f"alias {alias} is in use by {_describe_environment(env, audit_input)}"


def _describe_environment(env: str, audit_input: AuditInput) -> str:
    owner = audit_input.bound_records.get(env)
    binding = f"of tenant {owner.tenant!r}" if owner else "not in the journal"
    return f"{env} ({binding}, created {audit_input.listed[env].create_time})"


@attrs.define(eq=False)
class ShareLookup:
    """Lookup of the environments that mini programs may use, with at most `concurrency` calls at a time.

    `results` has the environments of each mini program, or the message of a failed lookup. After an error that every
    other call would meet, no further call is sent.
    """

    session: Session
    concurrency: int
    results: dict[ShareQuery, frozenset[str] | str] = attrs.field(
        init=False, factory=dict[ShareQuery, "frozenset[str] | str"]
    )
    _fatal_reason: str | None = attrs.field(init=False, default=None)

    async def fetch(self, queries: Iterable[ShareQuery]) -> Mapping[ShareQuery, frozenset[str] | str]:
        """Look up *queries* and return `results`. A mini program that is absent may use no environment."""
        batches = batch_queries(queries)
        async with asyncio.TaskGroup() as group:
            for _ in range(self.concurrency):
                group.create_task(self._run_worker(batches))
        return self.results

    async def _run_worker(self, batches: Iterator[LookupBatch]) -> None:
        # Some mini programs of a batch may fail: the others still count.
        session = self.session.with_options(partial="return")
        for source_type, appids in batches:
            reason = self._fatal_reason
            try:
                if reason is None:
                    reply = await batch_get_env_id(session, appids, source_type=source_type)
                    self.results |= {
                        (source_type, each.appid): frozenset(each.env_list) for each in reply.relation_data
                    }
                    self.results |= {(source_type, each.appid): each.errmsg for each in reply.err_list}
            except WxtcbError as error:
                reason = str(error)
                if is_fatal(error):
                    self._fatal_reason = reason
            if reason is not None:
                self.results |= {(source_type, appid): reason for appid in appids}


def batch_queries(queries: Iterable[ShareQuery]) -> Iterator[LookupBatch]:
    """Yield batches of mini programs with the same source type, each mini program once."""
    # Dictionaries keep the order and drop duplicates.
    by_type: dict[int | None, dict[str, None]] = {}
    for source_type, appid in queries:
        by_type.setdefault(source_type, {})[appid] = None
    for source_type, appids in by_type.items():
        remaining = iter(appids)
        while batch := tuple(islice(remaining, MAX_APPIDS_PER_CALL)):
            yield source_type, batch
