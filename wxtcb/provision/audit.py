"""Audit: reads journal, platform and share agreements, and compares them with the tenants."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from enum import Enum
from functools import cached_property
from types import MappingProxyType
from typing import Final

import attrs

from wxtcb._concurrency.tasks import cooperative_iter
from wxtcb.api.environment import EnvInfo, EnvList, batch_get_env_id
from wxtcb.errors import WxtcbError
from wxtcb.provision.error_policy import is_fatal
from wxtcb.provision.plan import AliasIndex
from wxtcb.provision.planner import LISTING_RETRIES, Planner, clock_skew_notes
from wxtcb.provision.record import ServiceState, TenantRecord, collect_bindings, recently_opened, to_utc
from wxtcb.provision.report import dump_json
from wxtcb.provision.tenant import Tenant
from wxtcb.session import Session

__all__ = ["Audit", "BoundEnvironment", "Classification", "Finding", "FindingKind"]

ShareQuery = tuple[int | None, str]
"""Source type, and the mini program to look up under it."""

MAX_APPIDS_PER_CALL: Final = 20
_DERIVED_ALIAS: Final = re.compile(r"t[a-z2-7]{16}")
_MAX_NAMED: Final = 5


class FindingKind(Enum):
    """Kind of discrepancy. The order is by severity, worst first."""

    DUPLICATE = "duplicate"
    ORPHAN = "orphan"
    CONFLICT = "conflict"
    AMBIGUOUS = "ambiguous"
    MISSING = "missing"
    DRIFT = "drift"
    UNKNOWN = "unknown"
    AWAITING = "awaiting confirmation"

    @property
    def is_failure(self) -> bool:
        # UNKNOWN and AWAITING depend on people: no call of the platform can settle them.
        return self not in (FindingKind.UNKNOWN, FindingKind.AWAITING)


class Classification(Enum):
    """Relation of a listed environment to the tenants and the journal. Each environment has exactly one."""

    WANTED = "wanted"
    RETIRED = "retired"
    DUPLICATE = "duplicate"
    ORPHAN = "orphan"
    CONFLICT = "conflict"
    AMBIGUOUS = "ambiguous"
    OTHER = "other"


@attrs.frozen(kw_only=True)
class Finding:
    """Discrepancy found by an audit; `envs` are the environments concerned, listed or not."""

    kind: FindingKind
    tenant: str
    alias: str
    envs: tuple[str, ...] = ()
    message: str

    def __str__(self) -> str:
        return f"{self.kind.value}: {self.tenant}: {self.message}"

    def to_dict(self) -> dict[str, object]:
        return {**attrs.asdict(self, recurse=False), "kind": self.kind.value}


@attrs.frozen(kw_only=True)
class BoundEnvironment:
    """Environment that the journal binds to a tenant, since `opened_at`.

    `tranid` is the order number; None if it was adopted. `create_time` (presumably in China's time) and `status` are
    None if it is not listed. `wanted`: the audit has the tenant. `retired`: the tenant was removed on purpose.
    """

    tenant: str
    alias: str
    env: str
    tranid: str | None = None
    opened_at: datetime | None = None
    create_time: str | None = None
    status: str | None = None
    wanted: bool = True
    retired: bool = False

    @property
    def is_listed(self) -> bool:
        return self.status is not None

    def to_dict(self) -> dict[str, object]:
        return attrs.asdict(self)


# Not `attrs.frozen`: `cached_property` needs an instance dictionary.
@attrs.define(frozen=True, slots=False)
class Audit:
    """Result of an audit; ``print(audit)`` shows the findings and a conclusion.

    `findings` are discrepancies, worst first; `unrelated_envs` are listed, but related to no tenant or record;
    `environment_counts` are listed environments by classification; `notes` do not make the audit fail.
    """

    namespace: str
    tenant_count: int
    findings: tuple[Finding, ...]
    bound_environments: tuple[BoundEnvironment, ...]
    unrelated_envs: tuple[str, ...]
    environment_counts: Mapping[Classification, int]
    notes: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether every tenant has exactly what it should have, and no environment is unaccounted for."""
        return not any(finding.kind.is_failure for finding in self.findings)

    @cached_property
    def counts(self) -> Mapping[FindingKind, int]:
        found = Counter(finding.kind for finding in self.findings)
        return MappingProxyType({kind: found[kind] for kind in FindingKind})

    @property
    def listed_count(self) -> int:
        return sum(self.environment_counts.values())

    @property
    def summary(self) -> str:
        counts = [f"{count} {kind.value}" for kind, count in self.counts.items() if count]
        compared = f"{_pluralize(self.tenant_count, 'tenant')}, {_pluralize(self.listed_count, 'environment')} listed"
        unrelated = f" ({len(self.unrelated_envs)} unrelated)" if self.unrelated_envs else ""
        return f"{compared}{unrelated}: {', '.join(counts) or 'no findings'}."

    @property
    def conclusion(self) -> str:
        if not self.passed:
            failures = sum(finding.kind.is_failure for finding in self.findings)
            return f"Failed: {_pluralize(failures, 'finding')} to resolve."
        unknown = self.counts[FindingKind.UNKNOWN]
        exception = f", except {unknown} that could not be checked" if unknown else ""
        return f"Passed: tenants, journal and platform agree{exception}."

    def __str__(self) -> str:
        return "\n".join((*map(str, self.findings), self.summary, *self.notes, self.conclusion))

    def to_json(self) -> bytes:
        document = {
            "namespace": self.namespace,
            "passed": self.passed,
            "tenants": self.tenant_count,
            "listed": self.listed_count,
            "counts": {kind.value: count for kind, count in self.counts.items()},
            "environments": {each.value: self.environment_counts.get(each, 0) for each in Classification},
            "findings": [finding.to_dict() for finding in self.findings],
            "bound": [environment.to_dict() for environment in self.bound_environments],
            "unrelated": self.unrelated_envs,
            "notes": self.notes,
        }
        return dump_json(document)


def _pluralize(count: int, noun: str) -> str:
    return f"1 {noun}" if count == 1 else f"{count} {noun}s"


_SERVICE_FINDINGS: Final[Mapping[ServiceState | None, tuple[FindingKind, str]]] = {
    ServiceState.UNCONFIRMED: (
        FindingKind.UNKNOWN,
        "service {} existed after an ambiguous request. Check its settings in the console.",
    ),
    ServiceState.SENT: (
        FindingKind.DRIFT,
        "the outcome of the request to establish service {} is unknown. Provision again.",
    ),
    None: (FindingKind.DRIFT, "service {} is not established. Provision again."),
}


async def audit_tenants(
    planner: Planner, session: Session, concurrency: int, tenants: Sequence[Tenant], aliases: Sequence[str]
) -> Audit:
    """Return the audit of *tenants*, whose aliases are *aliases*, with *concurrency* share lookups at a time."""
    newer_than, retries = asyncio.get_running_loop().time(), LISTING_RETRIES
    while True:
        snapshot = await planner.poller.poll(newer_than)
        # The journal is read after the list. An environment that a run creates in between is then in the journal,
        # and recent. In the other order it would be in the list alone, and look like an orphan.
        records = await planner.journal.load()
        bindings = collect_bindings(records.values())
        recent = recently_opened(bindings, planner.clock(), planner.settle)
        if not retries or bindings.keys() <= recent | snapshot.value.by_env.keys():
            break
        newer_than, retries = snapshot.started_at + planner.poller.min_interval, retries - 1
    # The mini programs to look up: those that a confirmation link was requested for.
    queries = [
        (tenant.source_type, appid)
        async for tenant in cooperative_iter(tenants)
        for appid in tenant.appids
        if (record := records.get(tenant.name)) and record.env and record.links.get(appid)
    ]
    share_results = await look_up_shares(session, concurrency, queries)
    desired = {tenant.name: (tenant, alias) for tenant, alias in zip(tenants, aliases, strict=True)}
    notes = clock_skew_notes(bindings, planner.clock())
    comparison = Comparison(snapshot.value, desired, records, share_results, recent)
    return await build_audit(planner.namespace, comparison, tuple(notes))


async def build_audit(namespace: str, comparison: Comparison, notes: tuple[str, ...] = ()) -> Audit:
    """Return the audit of *comparison*; *notes* are added to its own notes."""
    findings: list[Finding] = []
    counts: Counter[Classification] = Counter()
    unrelated: list[str] = []
    with_derived_alias: list[str] = []
    async for found in cooperative_iter(comparison.find_discrepancies()):
        findings += found
    async for info in cooperative_iter(comparison.listing.by_env.values()):
        classification = comparison.classify(info)
        counts[classification] += 1
        if classification is Classification.OTHER:
            unrelated.append(info.env)
            with_derived_alias += [info.env] if _DERIVED_ALIAS.fullmatch(info.alias.lower()) else []
    records = cooperative_iter(comparison.bound_records.values())
    bound = [comparison.to_bound_environment(record) async for record in records]
    order = list(FindingKind)
    findings.sort(key=lambda finding: order.index(finding.kind))
    notes = (*derived_alias_notes(with_derived_alias), *notes)
    return Audit(namespace, len(comparison.desired), tuple(findings), tuple(bound), tuple(unrelated), counts, notes)


def derived_alias_notes(envs: Sequence[str]) -> Iterator[str]:
    """Yield a note on unrelated environments that have a derived alias: another file or journal may own them."""
    if envs:
        more = f" and {len(envs) - _MAX_NAMED} more" if len(envs) > _MAX_NAMED else ""
        yield (
            f"Note: unrelated environments with an alias like a derived one: {', '.join(envs[:_MAX_NAMED])}{more}. "
            "They may be in use by tenants of another file or journal: find their owner before you change anything."
        )


async def look_up_shares(
    session: Session, concurrency: int, queries: Iterable[ShareQuery]
) -> Mapping[ShareQuery, frozenset[str] | str]:
    """Return the environments that each mini program may use (none if it is absent), or the message of a failed lookup.

    At most *concurrency* calls are in progress. After an error that every other call would meet, no other is sent.
    """
    # A dictionary keeps the order and drops duplicates.
    by_type: dict[int | None, list[str]] = {}
    for source_type, appid in dict.fromkeys(queries):
        by_type.setdefault(source_type, []).append(appid)
    batches = (
        (source_type, appids[start : start + MAX_APPIDS_PER_CALL])
        for source_type, appids in by_type.items()
        for start in range(0, len(appids), MAX_APPIDS_PER_CALL)
    )
    results: dict[ShareQuery, frozenset[str] | str] = {}
    # Some mini programs of a batch may fail: the others still count.
    session, fatal_reason = session.with_options(partial="return"), None

    async def look_up_batches() -> None:
        nonlocal fatal_reason
        for source_type, appids in batches:
            reason = fatal_reason
            try:
                if reason is None:
                    reply = await batch_get_env_id(session, appids, source_type=source_type)
                    results.update(
                        {(source_type, each.appid): frozenset(each.env_list) for each in reply.relation_data}
                    )
                    results.update({(source_type, each.appid): each.errmsg for each in reply.err_list})
            except WxtcbError as error:
                reason = str(error)
                if is_fatal(error):
                    fatal_reason = reason
            if reason is not None:
                results.update({(source_type, appid): reason for appid in appids})

    async with asyncio.TaskGroup() as group:
        for _ in range(concurrency):
            group.create_task(look_up_batches())
    return results


# Not `attrs.frozen`: `cached_property` needs an instance dictionary.
@attrs.define(frozen=True, slots=False, eq=False)
class Comparison:
    """Comparison of the tenants with journal and platform; `desired` has tenant and alias by name."""

    listing: EnvList
    desired: Mapping[str, tuple[Tenant, str]]
    records: Mapping[str, TenantRecord]
    share_results: Mapping[ShareQuery, frozenset[str] | str]
    recent_envs: frozenset[str] = frozenset()

    @cached_property
    def alias_index(self) -> AliasIndex:
        return AliasIndex.from_list(self.listing)

    @cached_property
    def bound_records(self) -> Mapping[str, TenantRecord]:
        return {record.env: record for record in self.records.values() if record.env is not None}

    @cached_property
    def desired_aliases(self) -> Mapping[str, str]:
        return {alias.lower(): name for name, (_, alias) in self.desired.items()}

    @cached_property
    def recorded_aliases(self) -> Mapping[str, str]:
        """Tenant by each other alias of the journal, in lower case."""
        # Several records may have one alias. The last one wins, and that is the one that may have an environment.
        records = sorted(self.records.values(), key=lambda record: record.may_have_environment)
        by_alias = {record.alias.lower(): record.tenant for record in records}
        return {alias: tenant for alias, tenant in by_alias.items() if alias not in self.desired_aliases}

    def classify(self, info: EnvInfo) -> Classification:
        if record := self.bound_records.get(info.env):
            if record.tenant in self.desired:
                return Classification.WANTED
            return Classification.RETIRED if record.retired else Classification.ORPHAN
        alias = info.alias.lower()
        owner = self.desired_aliases.get(alias) or self.recorded_aliases.get(alias)
        if owner is None:
            return Classification.OTHER
        if len(self.alias_index.find(alias)) > 1:
            return Classification.DUPLICATE
        if self._has_ambiguous_create(owner, alias):
            return Classification.AMBIGUOUS
        return Classification.CONFLICT if alias in self.desired_aliases else Classification.ORPHAN

    def to_bound_environment(self, record: TenantRecord) -> BoundEnvironment:
        env = record.env or ""
        info = self.listing.by_env.get(env)
        return BoundEnvironment(
            tenant=record.tenant,
            alias=record.alias,
            env=env,
            tranid=record.tranid,
            opened_at=None if record.opened_at is None else to_utc(record.opened_at),
            create_time=info.create_time if info else None,
            status=info.status if info else None,
            wanted=record.tenant in self.desired,
            retired=record.retired,
        )

    def find_discrepancies(self) -> Iterator[tuple[Finding, ...]]:
        for tenant, alias in self.desired.values():
            yield tuple(self._check_tenant(tenant, alias))
        for record in self.records.values():
            yield tuple(self._check_record(record))

    def _check_tenant(self, tenant: Tenant, alias: str) -> Iterator[Finding]:
        name, record, matches = tenant.name, self.records.get(tenant.name), self.alias_index.find(alias)
        if len(matches) > 1:
            yield self._duplicate_finding(name, alias, matches)
        if record is not None and record.env is not None:
            yield from self._check_bound_environment(tenant, alias, record, record.env)
            return
        if intended := record is not None and record.intent is not None:
            yield self._ambiguous_create_finding(self.records[name])
        # An unbound environment under the alias of an ambiguous create may be its result: that is no conflict.
        may_be_own = self._has_ambiguous_create(name, alias)
        if len(matches) == 1 and not (may_be_own and matches[0] not in self.bound_records):
            message = f"{self._alias_in_use(alias, matches[0])}. Adopt it, or give the tenant another alias."
            yield _finding(FindingKind.CONFLICT, name, alias, matches, message)
        elif not matches and not intended:
            message = f"no environment was created under alias {alias} yet. Provision the tenant."
            yield _finding(FindingKind.MISSING, name, alias, (), message)

    def _check_bound_environment(self, tenant: Tenant, alias: str, record: TenantRecord, env: str) -> Iterator[Finding]:
        info, matches = self.listing.by_env.get(env), self.alias_index.find(alias)
        # An empty alias is one that cannot be read; the journal binds by id.
        if info is not None and info.alias.lower() in ("", alias.lower()):
            for kind, message in self._check_drift(tenant, record, info):
                yield _finding(kind, tenant.name, alias, (env,), message)
            return
        if info is None and env in self.recent_envs and not matches:
            message = f"{env} was created recently and is not listed yet. Audit again later."
            yield _finding(FindingKind.DRIFT, tenant.name, alias, (env,), message)
            return
        reason = _unlisted_message(env)
        if info is not None:
            reason = f"environment {env} has alias {info.alias}, not {alias}: restore that alias of the tenant"
        if len(matches) == 1:
            reason = f"{self._alias_in_use(alias, matches[0])}, and {reason}"
        yield _finding(FindingKind.CONFLICT, tenant.name, alias, (env, *matches), f"{reason}.")

    def _check_drift(self, tenant: Tenant, record: TenantRecord, info: EnvInfo) -> Iterator[tuple[FindingKind, str]]:
        if info.status != "NORMAL":
            advice = "See its page in the console" if info.status == "HALTED" else "Provision again to wait for it"
            yield FindingKind.DRIFT, f"{info.env} is {info.status}, not NORMAL. {advice}."
        if unshared := record.unshared_appids(tenant.appids):
            yield FindingKind.DRIFT, f"{record.env} is not shared with {', '.join(unshared)}. Provision again."
        for appid in tenant.appids:
            # An empty link means that the platform returned none: there is no page to confirm.
            if not (link := record.links.get(appid)):
                continue
            result = self.share_results.get((tenant.source_type, appid), frozenset())
            if isinstance(result, str):
                yield FindingKind.UNKNOWN, f"could not check whether the administrator of {appid} confirmed: {result}"
            elif record.env not in result:
                yield FindingKind.AWAITING, f"the administrator of {appid} must open {link} and confirm."
        # No call of the platform lists cloud-hosting services: the journal is all there is to compare with.
        for name in tenant.service_names:
            if (state := record.services.get(name)) is not ServiceState.DONE:
                kind, message = _SERVICE_FINDINGS[state]
                yield kind, message.format(name)

    def _check_record(self, record: TenantRecord) -> Iterator[Finding]:
        name, alias, env = record.tenant, record.alias, record.env
        is_absent = name not in self.desired
        if is_absent and record.intent is not None:
            yield self._ambiguous_create_finding(record)
        if is_absent and env is not None and env not in self.listing.by_env:
            message = f"{_unlisted_message(env)}. Its tenant is not in the file."
            yield _finding(FindingKind.CONFLICT, name, alias, (env,), message)
        elif is_absent and env is not None and not record.retired:
            order = f" (order {record.tranid})" if record.tranid else ""
            advice = "Add the tenant again, or mark it as removed."
            message = f"{env}{order} is billed, but its tenant is not in the file. {advice}"
            yield _finding(FindingKind.ORPHAN, name, alias, (env,), message)
        if self.recorded_aliases.get(alias.lower()) != name:
            return
        matches = self.alias_index.find(alias)
        if len(matches) > 1:
            yield self._duplicate_finding(name, alias, matches)
        elif matches and matches[0] not in self.bound_records and record.intent is None:
            in_use = self._alias_in_use(alias, matches[0])
            message = f"{in_use}, and an earlier create used that alias. Adopt or delete it."
            yield _finding(FindingKind.ORPHAN, name, alias, matches, message)

    def _has_ambiguous_create(self, tenant: str, alias: str) -> bool:
        record = self.records.get(tenant)
        return record is not None and record.intent is not None and record.alias.lower() == alias.lower()

    def _ambiguous_create_finding(self, record: TenantRecord) -> Finding:
        name, alias = record.tenant, record.alias
        envs = tuple(env for env in self.alias_index.find(alias) if env not in self.bound_records)
        state = f"{', '.join(envs)} may be its result" if envs else "no environment is listed under it"
        # A run checks the outcome of a create only under the alias that was sent.
        if name not in self.desired:
            advice = "Add the tenant again with this alias, and provision it"
        elif self.desired[name][1].lower() != alias.lower():
            advice = "Restore this alias of the tenant, and provision it"
        else:
            advice = "Provision the tenant again"
        message = f"the outcome of create {record.attempt} under alias {alias} is unknown; {state}. {advice}."
        return _finding(FindingKind.AMBIGUOUS, name, alias, envs, message)

    def _duplicate_finding(self, tenant: str, alias: str, envs: tuple[str, ...]) -> Finding:
        described = "; ".join(map(self._describe_environment, envs))
        message = f"{len(envs)} environments have alias {alias}, and each is billed: {described}. Delete all but one."
        return _finding(FindingKind.DUPLICATE, tenant, alias, envs, message)

    def _alias_in_use(self, alias: str, env: str) -> str:
        return f"alias {alias} is in use by {self._describe_environment(env)}"

    def _describe_environment(self, env: str) -> str:
        owner = self.bound_records.get(env)
        binding = f"of tenant {owner.tenant!r}" if owner else "not in the journal"
        return f"{env} ({binding}, created {self.listing.by_env[env].create_time or 'at an unknown time'})"


def _finding(kind: FindingKind, tenant: str, alias: str, envs: tuple[str, ...], message: str) -> Finding:
    return Finding(kind=kind, tenant=tenant, alias=alias, envs=envs, message=message)


def _unlisted_message(env: str) -> str:
    return f"environment {env} is not listed: if it was deleted, forget it; else the list is incomplete, audit again"
