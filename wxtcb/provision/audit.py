"""Audit: what the plans of all tenants show, plus environments bound to none, and shares that are not confirmed."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from enum import Enum
from functools import cached_property, partial
from itertools import chain
from types import MappingProxyType
from typing import Final

import attrs

from wxtcb._concurrency.tasks import cooperative_iter
from wxtcb.api.environment import batch_get_env_id
from wxtcb.errors import WxtcbError
from wxtcb.provision.error_policy import is_fatal
from wxtcb.provision.plan import Action, OperatorDecisions, TenantPlan, alias_in_use_message
from wxtcb.provision.planner import PlanInput, Planner, clock_skew_notes
from wxtcb.provision.record import TenantRecord, to_utc
from wxtcb.provision.report import dump_json
from wxtcb.provision.steps.services import SERVICES
from wxtcb.provision.tenant import Tenant
from wxtcb.session import Session

__all__ = ["Audit", "BoundEnvironment", "Classification", "Finding", "FindingKind"]

ShareQuery = tuple[int | None, str]
"""Source type, and the mini program to look up under it."""

ShareResults = Mapping[ShareQuery, frozenset[str] | str]
"""Environments that each mini program may use (none if it is absent), or the message of a failed lookup."""

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


async def audit_tenants(
    planner: Planner, session: Session, concurrency: int, tenants: Sequence[Tenant], aliases: Sequence[str]
) -> Audit:
    """Return the audit of *tenants*, whose aliases are *aliases*, with *concurrency* share lookups at a time."""
    aliases_by_name = dict(zip((tenant.name for tenant in tenants), aliases, strict=True))
    # Nothing is adopted: an environment that a tenant names, but that the journal does not have, is a finding.
    observed = await planner.observe(aliases_by_name, OperatorDecisions(all_tenants=True))
    plans = [planner.plan_tenant(tenant, observed) async for tenant in cooperative_iter(tenants)]
    # The mini programs to look up: those that a confirmation link was requested for.
    queries = [
        (planned.tenant.source_type, appid)
        async for planned in cooperative_iter(plans)
        for appid in planned.tenant.appids
        if planned.record.links.get(appid)
    ]
    share_results = await look_up_shares(session, concurrency, queries)
    return await build_audit(planner.namespace, plans, observed, share_results)


async def build_audit(
    namespace: str, plans: Sequence[TenantPlan], observed: PlanInput, share_results: ShareResults
) -> Audit:
    """Return the audit of the tenants whose *plans* were made from *observed*."""
    auditor = Auditor(observed, share_results)
    checks = chain(map(auditor.check_plan, plans), map(auditor.check_record, observed.records.values()))
    findings = [finding async for found in cooperative_iter(checks) for finding in found]
    order = list(FindingKind)
    findings.sort(key=lambda finding: order.index(finding.kind))
    worst_kinds = {env: finding.kind for finding in reversed(findings) for env in finding.envs}
    listed = observed.listing.by_env
    classes = {env: auditor.classify(env, worst_kinds.get(env)) async for env in cooperative_iter(listed)}
    unrelated = tuple(env for env, classification in classes.items() if classification is Classification.OTHER)
    derived = [env for env in unrelated if _DERIVED_ALIAS.fullmatch(listed[env].alias.lower())]
    notes = (*derived_alias_notes(derived), *clock_skew_notes(observed.bindings, observed.now))
    bound = [auditor.describe(record) async for record in cooperative_iter(auditor.bound_records.values())]
    return Audit(namespace, len(plans), tuple(findings), tuple(bound), unrelated, Counter(classes.values()), notes)


def derived_alias_notes(envs: Sequence[str]) -> Iterator[str]:
    """Yield a note on unrelated environments that have a derived alias: another file or journal may own them."""
    if envs:
        more = f" and {len(envs) - _MAX_NAMED} more" if len(envs) > _MAX_NAMED else ""
        yield (
            f"Note: unrelated environments with an alias like a derived one: {', '.join(envs[:_MAX_NAMED])}{more}. "
            "They may be in use by tenants of another file or journal: find their owner before you change anything."
        )


async def look_up_shares(session: Session, concurrency: int, queries: Iterable[ShareQuery]) -> ShareResults:
    """Return the result of each of *queries*.

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
class Auditor:
    """What an audit adds to plans: drift, absent tenants, and environments that are bound to no tenant."""

    observed: PlanInput
    share_results: ShareResults

    @cached_property
    def bound_records(self) -> Mapping[str, TenantRecord]:
        return {record.env: record for record in self.observed.records.values() if record.env is not None}

    @cached_property
    def previous_aliases(self) -> Mapping[str, TenantRecord]:
        """Record by alias, in lower case, that no present tenant has and that an earlier create may have used."""
        # A record without a create only has the outcome of an earlier attempt.
        created = (each for each in self.observed.records.values() if each.attempt or not each.outcome)
        # Several records may have one alias. That which may have an environment counts.
        by_alias = {**{record.alias.lower(): record for record in created}, **self.observed.alias_owners}
        present = {alias.lower() for alias in self.observed.aliases.values()}
        return {alias: record for alias, record in by_alias.items() if alias not in present}

    def check_plan(self, planned: TenantPlan) -> Iterator[Finding]:
        record, alias, alias_index = planned.record, planned.alias, self.observed.alias_index
        finding, matches = partial(Finding, tenant=record.tenant, alias=alias), alias_index.find(alias)
        envs = matches if record.env is None or record.env in matches else (record.env, *matches)
        in_use = alias_in_use_message(alias, matches, record.env) if matches and not planned.existing else ""
        reason = "; ".join(filter(None, (planned.reason, in_use)))
        if record.intent is not None:
            yield self._ambiguous_create(record, planned.reason or "Provision the tenant again")
        if len(matches) > 1:
            yield finding(kind=FindingKind.DUPLICATE, envs=envs, message=f"{reason}.")
        # A plan calls a tenant READY whose recent environment is not listed yet, even if another one has its alias.
        elif len(envs) > 1 or (planned.is_blocked and (envs or alias_index.has_unreadable(alias))):
            yield finding(kind=FindingKind.CONFLICT, envs=envs, message=f"{reason}.")
        elif not envs and record.intent is None:
            message = reason or f"no environment was created under alias {alias} yet. Provision the tenant"
            yield finding(kind=FindingKind.MISSING, message=f"{message}.")
        if planned.env is not None and planned.action is Action.READY and (planned.status is not None or not matches):
            yield from self._check_ready(planned, partial(finding, envs=(planned.env,)))

    def _check_ready(self, planned: TenantPlan, finding: Callable[..., Finding]) -> Iterator[Finding]:
        """Yield drift and what waits for people; *finding* makes a finding about the environment of the tenant."""
        tenant, record, status = planned.tenant, planned.record, planned.status
        if status is None:
            message = f"{record.env} was created recently and is not listed yet. Audit again later."
            yield finding(kind=FindingKind.DRIFT, message=message)
            return
        # Services that are only unconfirmed are reported below.
        is_established = all(map(record.has_service, tenant.service_names))
        steps = [step for step in planned.steps if step != SERVICES.name or not is_established]
        if steps or status != "NORMAL":
            advice = "See its page in the console" if status == "HALTED" else "Provision again"
            detail = f"and needs {', '.join(steps)}" if steps else "not NORMAL"
            yield finding(kind=FindingKind.DRIFT, message=f"{record.env} is {status}, {detail}. {advice}.")
        for appid in tenant.appids:
            # An empty link means that the platform returned none: there is no page to confirm.
            if not (link := record.links.get(appid)):
                continue
            result = self.share_results.get((tenant.source_type, appid), frozenset())
            if isinstance(result, str):
                message = f"could not check whether the administrator of {appid} confirmed: {result}"
                yield finding(kind=FindingKind.UNKNOWN, message=message)
            elif record.env not in result:
                message = f"the administrator of {appid} must open {link} and confirm."
                yield finding(kind=FindingKind.AWAITING, message=message)
        for name in record.unconfirmed_services(tenant.service_names):
            message = f"service {name} existed after an ambiguous request. Check its settings in the console."
            yield finding(kind=FindingKind.UNKNOWN, message=message)

    def check_record(self, record: TenantRecord) -> Iterator[Finding]:
        alias, env = record.alias, record.env
        finding, matches = partial(Finding, tenant=record.tenant, alias=alias), self.observed.alias_index.find(alias)
        if record.tenant not in self.observed.aliases:
            if record.intent is not None:
                yield self._ambiguous_create(record, "Add the tenant again with this alias, and provision it")
            if env is not None and env not in self.observed.listing.by_env:
                message = (
                    f"environment {env} is not listed, nor is its tenant in the file. If it was deleted, forget it."
                )
                yield finding(kind=FindingKind.CONFLICT, envs=(env,), message=message)
            elif env is not None and not record.retired:
                order = f" (order {record.tranid})" if record.tranid else ""
                advice = "Add the tenant again, or mark it as removed."
                message = f"{env}{order} is billed, but its tenant is not in the file. {advice}"
                yield finding(kind=FindingKind.ORPHAN, envs=(env,), message=message)
        if self.previous_aliases.get(alias.lower()) is not record:
            return
        if len(matches) > 1:
            message = f"{alias_in_use_message(alias, matches, env)}."
            yield finding(kind=FindingKind.DUPLICATE, envs=matches, message=message)
        elif matches and matches[0] not in self.bound_records and record.intent is None:
            message = f"alias {alias} is in use by {matches[0]}, and an earlier create used it. Adopt or delete it."
            yield finding(kind=FindingKind.ORPHAN, envs=matches, message=message)

    def _ambiguous_create(self, record: TenantRecord, advice: str) -> Finding:
        tenant, alias = record.tenant, record.alias
        envs = tuple(env for env in self.observed.alias_index.find(alias) if env not in self.bound_records)
        state = f"{', '.join(envs)} may be its result" if envs else "no environment is listed under it"
        message = f"the outcome of create {record.attempt} under alias {alias} is unknown; {state}. {advice}."
        return Finding(kind=FindingKind.AMBIGUOUS, tenant=tenant, alias=alias, envs=envs, message=message)

    def classify(self, env: str, worst_kind: FindingKind | None) -> Classification:
        """Return the classification of a listed environment from the worst of the findings that name it."""
        if (record := self.bound_records.get(env)) is None:
            return Classification(worst_kind.value) if worst_kind else Classification.OTHER
        if record.tenant in self.observed.aliases:
            return Classification.WANTED
        return Classification.RETIRED if record.retired else Classification.ORPHAN

    def describe(self, record: TenantRecord) -> BoundEnvironment:
        info = self.observed.listing.by_env.get(record.env or "")
        return BoundEnvironment(
            tenant=record.tenant,
            alias=record.alias,
            env=record.env or "",
            tranid=record.tranid,
            opened_at=None if record.opened_at is None else to_utc(record.opened_at),
            create_time=info.create_time if info else None,
            status=info.status if info else None,
            wanted=record.tenant in self.observed.aliases,
            retired=record.retired,
        )
