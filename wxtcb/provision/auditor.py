"""Where file, journal and platform do not agree. Pure: it takes what was read, and says what follows from it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, Self

import attrs

from wxtcb.api.environment import EnvInfo, EnvList
from wxtcb.provision.audit import Finding, FindingKind, Opened, Standing
from wxtcb.provision.journal import Record, ServiceState, utc
from wxtcb.provision.plan import Taken
from wxtcb.provision.tenant import Tenant

Asked = tuple[int | None, str]
"""A source type, and a mini program that was looked up under it."""

_DERIVED: Final = re.compile(r"t[a-z2-7]{16}")
_NORMAL: Final = "NORMAL"
_MOST_NAMED: Final = 5


@attrs.frozen
class Wanted:
    """A tenant of the file, and the alias of its environment."""

    tenant: Tenant
    alias: str


@attrs.frozen
class Facts:
    """What an audit judges by.

    `claimed` has the tenant of every alias that the file wants, `former` that of each other alias in the journal, both
    in lower case; `bound` the record of every environment that has one, of which `young` ones are perhaps not listed
    yet. `agreed` are the environments that a mini program may use, or why that is not known.
    """

    listed: Mapping[str, EnvInfo]
    taken: Taken
    wanted: Mapping[str, Wanted]
    records: Mapping[str, Record]
    agreed: Mapping[Asked, frozenset[str] | str]
    claimed: Mapping[str, str]
    former: Mapping[str, str]
    bound: Mapping[str, Record]
    young: frozenset[str]

    @classmethod
    def of(
        cls,
        listed: EnvList,
        wanted: Iterable[Wanted],
        records: Mapping[str, Record],
        agreed: Mapping[Asked, frozenset[str] | str],
        young: frozenset[str] = frozenset(),
    ) -> Self:
        """Index what was read."""
        by_name = {each.tenant.name: each for each in wanted}
        claimed = {each.alias.lower(): name for name, each in by_name.items()}
        left = [record for record in records.values() if record.alias.lower() not in claimed]
        former = {record.alias.lower(): record.tenant for record in sorted(left, key=lambda record: record.is_open)}
        bound = {record.env: record for record in records.values() if record.env is not None}
        return cls(listed.by_env, Taken.of(listed), by_name, records, agreed, claimed, former, bound, young)

    def intends(self, tenant: str, alias: str) -> bool:
        """Tell whether a create under *alias* for *tenant* is without an answer."""
        record = self.records.get(tenant)
        return record is not None and record.intent is not None and record.alias.lower() == alias.lower()


def judge(facts: Facts) -> Iterator[tuple[Finding, ...]]:
    """Judge tenant by tenant and record by record; each yields what is found about it."""
    for wanted in facts.wanted.values():
        yield tuple(_judge_wanted(wanted, facts))
    for record in facts.records.values():
        yield tuple(_judge_record(record, facts))


def looks_derived(info: EnvInfo) -> bool:
    """Tell whether somebody like us may have opened an environment."""
    return _DERIVED.fullmatch(info.alias.lower()) is not None


def suspicions(alike: Sequence[str]) -> Iterator[str]:
    """Name environments of no relation to us that look derived all the same: they may be in use."""
    if alike:
        more = f" and {len(alike) - _MOST_NAMED} more" if len(alike) > _MOST_NAMED else ""
        yield (
            f"Note: of no relation, but with an alias like a derived one: {', '.join(alike[:_MOST_NAMED])}{more}. "
            "Those of another file or journal look like that, and may be in use: find out whose they are."
        )


def standing_of(info: EnvInfo, facts: Facts) -> Standing:
    """Say what a listed environment is to us."""
    if record := facts.bound.get(info.env):
        if record.tenant in facts.wanted:
            return Standing.WANTED
        return Standing.RETIRED if record.retired else Standing.ORPHAN
    alias = info.alias.lower()
    owner = facts.claimed.get(alias) or facts.former.get(alias)
    if owner is None:
        return Standing.OTHER
    if len(facts.taken.by(alias)) > 1:
        return Standing.DUPLICATE
    if facts.intends(owner, alias):
        return Standing.UNCLEAR
    return Standing.CONFLICT if alias in facts.claimed else Standing.ORPHAN


def opened_of(record: Record, facts: Facts) -> Opened:
    """Return the environment that a tenant is bound to, with what journal and platform say of it."""
    env = record.env or ""
    info = facts.listed.get(env)
    return Opened(
        tenant=record.tenant,
        alias=record.alias,
        env=env,
        tranid=record.tranid,
        opened_at=None if record.opened_at is None else utc(record.opened_at),
        create_time=info.create_time if info else None,
        status=info.status if info else None,
        wanted=record.tenant in facts.wanted,
        retired=record.retired,
    )


def to_ask(wanted: Wanted, record: Record | None) -> Iterator[Asked]:
    """Return what has to be looked up: the mini programs that were given a link to agree at."""
    if record is not None and record.env is not None:
        for appid in wanted.tenant.appids:
            if record.links.get(appid):
                yield wanted.tenant.source_type, appid


def _judge_wanted(wanted: Wanted, facts: Facts) -> Iterator[Finding]:
    name, alias = wanted.tenant.name, wanted.alias
    record, alike = facts.records.get(name), facts.taken.by(alias)
    if len(alike) > 1:
        yield _duplicate(name, alias, alike, facts)
    if record is not None and record.env is not None:
        yield from _judge_bound(wanted, record, record.env, facts)
        return
    intended = record is not None and record.intent is not None
    if record is not None and intended:
        yield _unclear(record, facts)
    mine = facts.intends(name, alias)
    if len(alike) == 1 and not (mine and alike[0] not in facts.bound):
        text = f"{_taken(alias, alike[0], facts)}. Adopt it, or give the tenant another alias."
        yield _about(wanted, FindingKind.CONFLICT, alike, text)
    elif not alike and not intended:
        yield _about(wanted, FindingKind.MISSING, (), f"nothing was opened for it under alias {alias} yet. Provision.")


def _judge_bound(wanted: Wanted, record: Record, env: str, facts: Facts) -> Iterator[Finding]:
    info = facts.listed.get(env)
    if info is not None and info.alias.lower() == wanted.alias.lower():
        yield from _judge_drift(wanted, record, info, facts)
        return
    alike = facts.taken.by(wanted.alias)
    if info is None and env in facts.young and not alike:
        text = f"{env} was opened just now, and is not listed yet. Audit again later."
        yield _about(wanted, FindingKind.DRIFT, (env,), text)
        return
    reason = _other_alias(wanted, info) if info else _unlisted(env)
    if len(alike) == 1:
        reason = f"{_taken(wanted.alias, alike[0], facts)}, while {reason}"
    yield _about(wanted, FindingKind.CONFLICT, (env, *alike), f"{reason}.")


def _judge_drift(wanted: Wanted, record: Record, info: EnvInfo, facts: Facts) -> Iterator[Finding]:
    tenant = wanted.tenant
    for told in (_of_status(info), _of_shares(tenant, record, facts.agreed), _of_services(tenant, record)):
        for kind, text in told:
            yield _about(wanted, kind, (info.env,), text)


def _of_status(info: EnvInfo) -> Iterator[tuple[FindingKind, str]]:
    if info.status != _NORMAL:
        advice = "See its page in the console" if info.status == "HALTED" else "Provision again, which waits for it"
        yield FindingKind.DRIFT, f"{info.env} is {info.status}, not {_NORMAL}. {advice}."


def _of_shares(
    tenant: Tenant, record: Record, agreed: Mapping[Asked, frozenset[str] | str]
) -> Iterator[tuple[FindingKind, str]]:
    if unshared := record.unshared(tenant.appids):
        yield FindingKind.DRIFT, f"{record.env} was not offered to {', '.join(unshared)}. Provision again."
    for appid in tenant.appids:
        if not record.links.get(appid):
            continue
        known = agreed.get((tenant.source_type, appid), frozenset())
        if isinstance(known, str):
            yield FindingKind.UNKNOWN, f"whether the administrator of {appid} agreed is not known: {known}"
        elif record.env not in known:
            yield FindingKind.AWAITING, f"the administrator of {appid} has to open {record.links[appid]} and agree."


def _of_services(tenant: Tenant, record: Record) -> Iterator[tuple[FindingKind, str]]:
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


def _judge_record(record: Record, facts: Facts) -> Iterator[Finding]:
    """Judge what the journal knows beyond the file: tenants that it does not name, and aliases they had before."""
    if record.tenant not in facts.wanted:
        yield from _judge_unwanted(record, facts)
    if facts.former.get(record.alias.lower()) != record.tenant:
        return
    alike = facts.taken.by(record.alias)
    if len(alike) > 1:
        yield _duplicate(record.tenant, record.alias, alike, facts)
    elif alike and alike[0] not in facts.bound and record.intent is None:
        text = f"{_taken(record.alias, alike[0], facts)}, and a create of ours was tried under it. Adopt or remove it."
        yield _beside(record, FindingKind.ORPHAN, alike, text)


def _judge_unwanted(record: Record, facts: Facts) -> Iterator[Finding]:
    if record.intent is not None:
        yield _unclear(record, facts)
    if record.env is None:
        return
    if record.env not in facts.listed:
        text = f"{_unlisted(record.env)}. The file lacks its tenant."
        yield _beside(record, FindingKind.CONFLICT, (record.env,), text)
    elif not record.retired:
        order = f", order {record.tranid}," if record.tranid else ""
        text = f"{record.env}{order} is billed, and the file lacks its tenant. Put it back, or say that it was removed."
        yield _beside(record, FindingKind.ORPHAN, (record.env,), text)


def _duplicate(tenant: str, alias: str, alike: tuple[str, ...], facts: Facts) -> Finding:
    named = "; ".join(_named(env, facts) for env in alike)
    text = f"{len(alike)} environments have alias {alias}, each of them billed: {named}. Keep one of them."
    return Finding(kind=FindingKind.DUPLICATE, tenant=tenant, alias=alias, envs=alike, text=text)


def _about(wanted: Wanted, kind: FindingKind, envs: tuple[str, ...], text: str) -> Finding:
    return Finding(kind=kind, tenant=wanted.tenant.name, alias=wanted.alias, envs=envs, text=text)


def _beside(record: Record, kind: FindingKind, envs: tuple[str, ...], text: str) -> Finding:
    return Finding(kind=kind, tenant=record.tenant, alias=record.alias, envs=envs, text=text)


def _unclear(record: Record, facts: Facts) -> Finding:
    envs = tuple(env for env in facts.taken.by(record.alias) if env not in facts.bound)
    seen = f"{', '.join(envs)} may be its doing" if envs else "nothing is listed under it"
    text = f"create {record.attempt}, under alias {record.alias}, has no clear answer; {seen}. {_way(record, facts)}."
    return _beside(record, FindingKind.UNCLEAR, envs, text)


def _way(record: Record, facts: Facts) -> str:
    """Say how the next run gets to look for an unclear create: it does so under its alias only."""
    wanted = facts.wanted.get(record.tenant)
    if wanted is None:
        return "Put the tenant back into the file, with this alias, and provision it again"
    if wanted.alias.lower() != record.alias.lower():
        return "Give the tenant this alias back, and provision it again"
    return "Provision the tenant again"


def _other_alias(wanted: Wanted, info: EnvInfo) -> str:
    return f"its environment {info.env} has alias {info.alias}, not {wanted.alias}: give the tenant that alias back"


def _unlisted(env: str) -> str:
    return f"environment {env} is not listed: if it was removed, forget it; else the list is not whole, so audit again"


def _taken(alias: str, env: str, facts: Facts) -> str:
    return f"alias {alias} is that of {_named(env, facts)}"


def _named(env: str, facts: Facts) -> str:
    """Name an environment with whose it is by the journal, and since when it is there by the platform."""
    owner = facts.bound.get(env)
    whose = f"tenant {owner.tenant}'s" if owner else "nobody's by the journal"
    return f"{env}, {whose}, of {facts.listed[env].create_time}"
