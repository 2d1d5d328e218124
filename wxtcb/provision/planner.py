"""Planner: compares tenants with the platform's list and the journal, and decides what to do for each tenant."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Final

import attrs

from wxtcb._concurrency.shared_poll import SharedPoller
from wxtcb._concurrency.tasks import cooperative_iter
from wxtcb.api.environment import EnvInfo, EnvList
from wxtcb.errors import InvalidArgument
from wxtcb.provision.journal import Journal
from wxtcb.provision.plan import Action, AliasIndex, OperatorDecisions, Plan, TenantPlan, alias_in_use_message
from wxtcb.provision.reconciliation import MAX_LISTING_AGE, unknown_rows_message
from wxtcb.provision.record import Binding, RecordChange, TenantRecord, recently_opened, reset_record
from wxtcb.provision.step import Step
from wxtcb.provision.tenant import Tenant

LISTING_RETRIES: Final = 2


@attrs.frozen
class Planner:
    """Maker of plans; it changes neither the platform nor the journal. `settle` is the propagation delay in seconds."""

    journal: Journal
    poller: SharedPoller[EnvList]
    steps: tuple[Step, ...]
    namespace: str
    settle: float
    clock: Callable[[], float]

    async def observe(
        self,
        aliases: Mapping[str, str],
        decisions: OperatorDecisions,
        *,
        previously_listed: frozenset[str] = frozenset(),
        newer_than: float | None = None,
        known_bindings: Mapping[str, Binding] | None = None,
    ) -> PlanInput:
        """Return list and journal for the tenants that *aliases* has by name; the options are those of `plan`."""
        retries = LISTING_RETRIES
        snapshot = await self.poller.poll(asyncio.get_running_loop().time() if newer_than is None else newer_than)
        while True:
            # The journal is read after the list. An environment that another process creates in between is then in the
            # journal, and recent. In the other order it would be in the list alone, and look like a conflict.
            bindings = await self.journal.bindings(self.clock()) if known_bindings is None else known_bindings
            # With all tenants, records of those that are not in the file count too: one may have been renamed.
            names = None if decisions.all_tenants else dict.fromkeys((*aliases, *decisions.forget))
            records = await self.journal.load(names, aliases=() if names is None else aliases.values())
            # What was bound between the two reads.
            now = self.clock()
            newest = {
                record.env: Binding(record.tenant, now)
                async for record in cooperative_iter(records.values())
                if record.env and record.env not in bindings
            }
            bindings = {**bindings, **newest}
            recent = recently_opened(bindings, now, self.settle)
            # A list may be incomplete once and complete a second later. After two retries it counts.
            if not retries or previously_listed.union(bindings) - recent <= snapshot.value.by_env.keys():
                return PlanInput(
                    decisions, aliases, records, snapshot.value, snapshot.started_at, bindings, recent, now
                )
            retries -= 1
            snapshot = await self.poller.poll(snapshot.started_at + self.poller.min_interval)

    async def plan(
        self,
        tenants: Sequence[Tenant],
        aliases: Sequence[str],
        decisions: OperatorDecisions,
        *,
        previously_listed: frozenset[str] = frozenset(),
        newer_than: float | None = None,
        known_bindings: Mapping[str, Binding] | None = None,
    ) -> Plan:
        """Return a plan for *tenants*, whose aliases are *aliases*.

        *previously_listed* are environments of an earlier list: the list is repeated if it lacks one of them. The list
        starts at loop time *newer_than* or later, by default now. *known_bindings* saves reading those of the journal.
        Raises `InvalidArgument` if a decision cannot be carried out.
        """
        plan_input = await self.observe(
            dict(zip((tenant.name for tenant in tenants), aliases, strict=True)),
            decisions,
            previously_listed=previously_listed,
            newer_than=newer_than,
            known_bindings=known_bindings,
        )
        if (adoptions := plan_input.further_adoptions(tenants)) or decisions.adopt_all:
            # As pairs, so that an apply adopts exactly the environments that this plan shows.
            decisions = attrs.evolve(decisions, adopt={**decisions.adopt, **adoptions}, adopt_all=False)
            plan_input = attrs.evolve(plan_input, decisions=decisions)
        plan_input.validate_decisions()
        changes = [
            change
            async for record in cooperative_iter(plan_input.records.values())
            if record.tenant not in plan_input.previous_owners and (change := plan_input.record_change(record))
        ]
        return Plan(
            self.namespace,
            tuple([self.plan_tenant(tenant, plan_input) async for tenant in cooperative_iter(tenants)]),
            plan_input.alias_index,
            plan_input.listed_at,
            self.journal,
            decisions,
            # Transfers come first: they release the environments that other changes rely on.
            (*map(plan_input.transfer_change, plan_input.previous_owners), *changes),
            (
                *shared_appid_notes(tenants),
                *plan_input.notes(),
                *clock_skew_notes(plan_input.kept_bindings, self.clock()),
            ),
            {plan_input.kept_bindings[env].tenant: env for env in plan_input.missing_envs},
            {name: record.env or "" for name, record in plan_input.absent_tenants.items()},
        )

    async def refresh(self, plan: Plan) -> Plan:
        """Return *plan* if it is still current, else a newer plan that creates no environment which *plan* did not."""
        tenants = tuple(planned.tenant for planned in plan.tenants)
        records = await self.journal.load(tenant.name for tenant in tenants)
        is_recent = plan.listed_at >= asyncio.get_running_loop().time() - MAX_LISTING_AGE
        if is_recent and all(records.get(each.tenant.name) == each.base_record for each in plan.tenants):
            return plan
        aliases = tuple(planned.alias for planned in plan.tenants)
        newer = await self.plan(tenants, aliases, plan.decisions, previously_listed=plan.alias_index.envs)
        # A user approved *plan*: an apply must not bill more environments than it shows.
        return attrs.evolve(newer, tenants=tuple(map(restrict_tenant, newer.tenants, plan.tenants)))

    def plan_tenant(self, tenant: Tenant, plan_input: PlanInput) -> TenantPlan:
        record, adopt_env = plan_input.initial_record(tenant.name), plan_input.decisions.adopt.get(tenant.name)
        planned = plan_tenant(tenant, plan_input.aliases[tenant.name], record, plan_input, adopt_env)
        # The record of a transfer has the environment already, so that `plan_tenant` calls it READY.
        if tenant.name in plan_input.previous_owners:
            planned = attrs.evolve(planned, action=Action.ADOPT)
        resend_links, base_record = plan_input.decisions.resend_links, plan_input.records.get(tenant.name)
        effective = planned.record.effective_record(resend_links=resend_links)
        needed = (step.name for step in self.steps if step.is_needed(tenant, effective, planned.status))
        steps = () if planned.is_blocked else tuple(needed)
        return attrs.evolve(planned, resend_links=resend_links, steps=steps, base_record=base_record)


def shared_appid_notes(tenants: Iterable[Tenant]) -> Iterator[str]:
    """Yield a note for each appid that several tenants have, and after five of them one with the number of the rest."""
    names: dict[str, list[str]] = {}
    for tenant in tenants:
        for appid in tenant.appids:
            names.setdefault(appid, []).append(repr(tenant.name))
    shared = [(appid, owners) for appid, owners in names.items() if len(owners) > 1]
    for appid, (first, second, *others) in shared[:5]:
        listed = f"{first}, {second} and {len(others)} more" if others else f"{first} and {second}"
        yield f"Warning: mini program {appid} is in tenants {listed}. It would be bound to the environment of each."
    if len(shared) > 5:
        yield f"Warning: {len(shared) - 5} more mini programs are in several tenants."


def clock_skew_notes(bindings: Mapping[str, Binding], now: float) -> Iterator[str]:
    """Yield a note if the latest of *bindings* is more than a minute ahead of *now*, which is in Unix time."""
    ahead = max((binding.since for binding in bindings.values()), default=now) - now
    if ahead > 60:
        yield (
            f"Note: the journal contains a timestamp {ahead:.0f} s in the future: the system clock was set back, or "
            "was ahead before. Waits are not affected."
        )


# Not `attrs.frozen`: `cached_property` needs an instance dictionary.
@attrs.define(frozen=True, slots=False, eq=False)
class PlanInput:
    """State that plans are made from: `listing` is of loop time `listed_at`, the journal of Unix time `now`.

    `recent_envs` are bound environments that the platform may not list yet.
    """

    decisions: OperatorDecisions
    aliases: Mapping[str, str]
    records: Mapping[str, TenantRecord]
    listing: EnvList
    listed_at: float
    bindings: Mapping[str, Binding]
    recent_envs: frozenset[str]
    now: float

    @cached_property
    def alias_index(self) -> AliasIndex:
        return AliasIndex.from_list(self.listing)

    def further_adoptions(self, tenants: Iterable[Tenant]) -> dict[str, str]:
        """Return, by tenant, the environments to adopt that tenants name or that `adopt_all` finds."""
        adoptions: dict[str, str] = {}
        for tenant in tenants:
            name, record = tenant.name, self.records.get(tenant.name)
            if tenant.env is not None:
                if record is None or record.env != tenant.env:
                    adoptions[name] = tenant.env
            # The outcome of an ambiguous create is checked by the run.
            elif (
                self.decisions.adopt_all
                and name not in self.decisions.adopt
                and not (record and record.may_have_environment)
            ):
                alias = self.aliases[name]
                matches = () if self.alias_index.has_unreadable(alias) else self.alias_index.find(alias)
                # What belongs to another tenant in the journal, even to an absent one, is a decision of its own.
                if len(matches) == 1 and matches[0] not in self.bindings and not self._adopt_error(name, matches[0]):
                    adoptions[name] = matches[0]
        return adoptions

    def validate_decisions(self) -> None:
        adopt, forget = self.decisions.adopt, self.decisions.forget
        problems = [f"retry {name}: unknown tenant" for name in self.decisions.retry if name not in self.aliases]
        problems += [
            f"{option} {name}={env}: {problem}"
            for option, pairs, check in (("adopt", adopt, self._adopt_error), ("forget", forget, self._forget_error))
            for name, env in pairs.items()
            if (problem := check(name, env))
        ]
        if problems:
            raise InvalidArgument("; ".join((*problems, "nothing was changed")))

    @cached_property
    def ambiguous_creates(self) -> Mapping[str, TenantRecord]:
        return {record.alias.lower(): record for record in self.records.values() if record.intent is not None}

    @cached_property
    def alias_owners(self) -> Mapping[str, TenantRecord]:
        return {record.alias.lower(): record for record in self.records.values() if record.may_have_environment}

    @cached_property
    def previous_owners(self) -> Mapping[str, TenantRecord]:
        """Present owner of each environment, or ambiguous create, that a tenant takes over; by the tenant's name."""
        # If not all tenants are given, an absent one proves nothing: it may be in another call.
        adopted = self.decisions.adopt.items() if self.decisions.all_tenants else ()
        owners = {
            name: self.records.get(binding.tenant)
            if (binding := self.bindings.get(env))
            else self.ambiguous_creates.get(self.aliases[name].lower())
            for name, env in adopted
            if name in self.aliases
        }
        return {name: owner for name, owner in owners.items() if owner and owner.tenant not in self.aliases}

    @cached_property
    def released_envs(self) -> frozenset[str]:
        return frozenset(self.decisions.forget.values()).union(
            map(self.decisions.adopt.__getitem__, self.previous_owners)
        )

    @cached_property
    def kept_bindings(self) -> Mapping[str, Binding]:
        return {env: binding for env, binding in self.bindings.items() if env not in self.released_envs}

    @cached_property
    def missing_envs(self) -> tuple[str, ...]:
        listed = self.listing.by_env
        return tuple(env for env in self.kept_bindings if env not in listed and env not in self.recent_envs)

    def initial_record(self, name: str) -> TenantRecord | None:
        if name in self.previous_owners:
            return self.transfer_change(name).after
        record = self.records.get(name)
        if record is not None and (change := self.record_change(record)):
            record = change.after
        env = self.decisions.adopt.get(name)
        if record is None or env in (None, record.env):
            return record
        # The adopted environment replaces the present one, which `_adopt_error` requires to be unlisted.
        return reset_record(record) if record.env else attrs.evolve(record, intent=None)

    def record_change(self, record: TenantRecord) -> RecordChange | None:
        name, after = record.tenant, record
        if name in self.decisions.forget and record.env == self.decisions.forget[name]:
            after = reset_record(record)
        revision = self.decisions.revision
        # A worker that takes over may find a decision that was carried out already: it allows no further creates.
        is_new = record.decided_revision < revision if revision else record.creates_sent or record.outcome
        if name in self.decisions.retry and is_new:
            decided_revision = revision or record.decided_revision
            after = attrs.evolve(after, creates_sent=0, outcome="", problem="", decided_revision=decided_revision)
        if name in self.aliases:
            after = attrs.evolve(after, retired=False) if after.retired else after
        elif self._is_removed(after):
            after = attrs.evolve(after, retired=True)
        return None if after is record else RecordChange(record, attrs.evolve(after, version=record.version + 1))

    @cached_property
    def absent_tenants(self) -> Mapping[str, TenantRecord]:
        """Tenants that have, or may have, an environment and are absent although `all_tenants` was given; by name."""
        if not self.decisions.all_tenants or self.decisions.removed:
            return {}
        return {
            name: record
            for name, record in self.records.items()
            if name not in self.aliases
            and record.may_have_environment
            and record.env not in self.released_envs
            and not self._is_settled(record)
        }

    @property
    def missing_message(self) -> str:
        if not self.missing_envs:
            rows = self.listing.unknown_rows(self.bindings)
            return f"the list {unknown_rows_message(rows)}" if rows else ""
        first, others = self.missing_envs[0], len(self.missing_envs) - 1
        more = f" and {others} more" if others else ""
        missing = f"{first} of tenant {self.kept_bindings[first].tenant!r}{more}"
        return f"the list lacks {missing}: the list is incomplete, or the environment was deleted"

    @property
    def possible_rename(self) -> str:
        if not self.absent_tenants:
            return ""
        first, others = next(iter(self.absent_tenants.values())), len(self.absent_tenants) - 1
        more = f", like {others} other{'s' if others > 1 else ''}" if others else ""
        state = f"has {first.env}" if first.env else "may have an environment"
        return f"tenant {first.tenant!r} {state} under alias {first.alias} but is missing here{more}: was it renamed?"

    def notes(self) -> Iterator[str]:
        for name, env in self.decisions.forget.items():
            if self.records[name].env != env:
                yield f"Note: forget {name}={env} has no effect: the journal does not have {env} for tenant {name!r}."
        if self.missing_message:
            yield f"Note: {self.missing_message}. No environment is created until this is resolved."
        if rename := self.possible_rename:
            yield f"Note: {rename} Nothing is done for absent tenants, and no environment is created for new ones."

    def may_be_adopted(self, env: str) -> bool:
        binding = self.kept_bindings.get(env)
        return binding is None or binding.tenant in self.absent_tenants

    def transfer_change(self, name: str) -> RecordChange:
        previous, alias = self.previous_owners[name], self.aliases[name]
        own = self.records.get(name) or TenantRecord(tenant=name, alias=alias)
        # Links and services move with the environment. Version and attempt are the tenant's own: both only grow.
        after = attrs.evolve(
            previous,
            tenant=name,
            alias=alias,
            version=own.version + 1,
            attempt=own.attempt,
            env=self.decisions.adopt[name],
            opened_at=previous.opened_at or self.now,
            intent=None,
            retired=False,
        )
        released = attrs.evolve(reset_record(previous), version=previous.version + 1)
        return RecordChange(own, after, previous_owner=RecordChange(previous, released))

    def _is_removed(self, record: TenantRecord) -> bool:
        is_removal = self.decisions.all_tenants and self.decisions.removed
        return is_removal and record.may_have_environment and not self._is_settled(record)

    def _is_settled(self, record: TenantRecord) -> bool:
        return record.retired or any(owner.tenant == record.tenant for owner in self.previous_owners.values())

    def _adopt_error(self, name: str, env: str) -> str | None:
        info, binding = self.listing.by_env.get(env), self.bindings.get(env)
        if name not in self.aliases:
            return "unknown tenant"
        if binding is not None and binding.tenant == name and name not in self.decisions.forget:
            # It was adopted before: the plan says whether it is still in order.
            return None
        if info is None:
            return "the platform lists no such environment"
        if binding is not None and binding.tenant != name and name not in self.previous_owners:
            return _other_owner_message(binding)
        if info.alias.lower() != self.aliases[name].lower():
            return f"its alias is {info.alias!r}, not {self.aliases[name]!r}: give the tenant that alias"
        record, alias = self.records.get(name), self.aliases[name].lower()
        if record is not None and record.intent is not None and record.alias.lower() != alias:
            unknown = f"the outcome of a create under the previous alias {record.alias} is unknown"
            return f"{unknown}: restore that alias and provision first"
        if record is not None and record.env not in (None, env) and record.env in self.listing.by_env:
            return f"the tenant has {record.env}, which is still listed: delete that environment first"
        owner = self.alias_owners.get(alias)
        if owner is None or owner.tenant == name or name in self.previous_owners or owner.env in self.released_envs:
            return None
        state = owner.env or "a create of unknown outcome"
        return f"its alias belongs to tenant {owner.tenant!r}, which has {state} in the journal: resolve that first"

    def _forget_error(self, name: str, env: str) -> str | None:
        if name not in self.records:
            return "the journal has no such tenant"
        if env in self.listing.by_env:
            return "the platform still lists it: only a deleted environment can be forgotten"
        binding = self.bindings.get(env)
        return None if binding is None or binding.tenant == name else _other_owner_message(binding)


def _other_owner_message(binding: Binding) -> str:
    return f"the environment belongs to tenant {binding.tenant!r}"


def plan_tenant(
    tenant: Tenant, alias: str, record: TenantRecord | None, observed: PlanInput, adopt_env: str | None = None
) -> TenantPlan:
    """Return the plan of one tenant, without its steps; *adopt_env* is listed and owned by no other tenant."""
    planned = TenantPlan(tenant=tenant, alias=alias, action=Action.CREATE, initial_record=record)
    if adopt_env is not None and not (record is not None and record.env == adopt_env):
        return _with_environment(planned, Action.ADOPT, observed.listing.by_env[adopt_env])
    if record is not None and record.env is not None:
        return _plan_bound_environment(planned, record.env, observed)
    intended = record is not None and record.intent is not None
    # The outcome of a create can only be found under the alias that was sent.
    if intended and record is not None and record.alias.lower() != alias.lower():
        reason = f"the outcome of a create under the previous alias {record.alias} is unknown: restore that alias first"
        return _blocked(planned, reason)
    matches = observed.alias_index.find(alias)
    if observed.alias_index.has_unreadable(alias):
        return _blocked(
            planned, f"alias {alias} is in use by an environment whose id cannot be read: plan again", *matches
        )
    if not matches:
        # After an ambiguous create, the run itself checks the outcome before it sends another create.
        return planned if intended else _plan_new_environment(planned, observed)
    if intended and len(matches) == 1 and matches[0] not in observed.kept_bindings:
        return _with_environment(planned, Action.ADOPT, observed.listing.by_env[matches[0]])
    adoptable = tuple(env for env in matches if observed.may_be_adopted(env))
    return attrs.evolve(
        _blocked(planned, _alias_in_use_reason(alias, matches, observed), *matches), adoptable=adoptable
    )


def _plan_bound_environment(planned: TenantPlan, env: str, observed: PlanInput) -> TenantPlan:
    info = observed.listing.by_env.get(env)
    if info is None and env in observed.recent_envs:
        return attrs.evolve(planned, action=Action.READY, env=env)
    if info is None:
        reason = "is not listed: it was deleted, or the list is incomplete. Plan again; if it was deleted, forget it"
    # An empty alias is one that is absent or cannot be read; the journal binds by id.
    elif info.alias and info.alias.lower() != planned.alias.lower():
        reason = f"has alias {info.alias}, not {planned.alias}: restore that alias of the tenant"
    else:
        return _with_environment(planned, Action.READY, info)
    return _blocked(planned, f"environment {env} {reason}")


def _plan_new_environment(planned: TenantPlan, observed: PlanInput) -> TenantPlan:
    """Return *planned*, or a blocked plan if an environment for the tenant may exist already."""
    other = observed.ambiguous_creates.get(planned.alias.lower())
    if other is not None and other.tenant != planned.tenant.name:
        unknown = f"the outcome of a create for tenant {other.tenant!r} under alias {planned.alias} is unknown"
        return _blocked(planned, f"{unknown}: provision that tenant first")
    if missing := observed.missing_message:
        blocked = _blocked(planned, f"{missing}. Plan again; if it was deleted, forget it")
        return attrs.evolve(blocked, is_postponed=True)
    # A record without a create only has the outcome of an earlier attempt.
    record = planned.initial_record
    is_new = record is None or bool(record.outcome and not record.attempt)
    if (rename := observed.possible_rename) and is_new:
        advice = "If so, adopt its environment under its alias; if not, mark it as removed"
        return _blocked(planned, f"{rename} {advice}")
    return planned


def _alias_in_use_reason(alias: str, matches: tuple[str, ...], observed: PlanInput) -> str:
    env, *others = matches
    binding = observed.kept_bindings.get(env)
    if binding is None or others:
        return alias_in_use_message(alias, matches)
    owner = f"{env}, which the journal assigns to tenant {binding.tenant!r}"
    renamed = "adopt it if that tenant was renamed, else " if observed.may_be_adopted(env) else ""
    return f"alias {alias} is in use by {owner}: {renamed}choose another alias"


def _with_environment(planned: TenantPlan, action: Action, info: EnvInfo) -> TenantPlan:
    return attrs.evolve(planned, action=action, env=info.env, status=info.status)


def _blocked(planned: TenantPlan, reason: str, *matches: str) -> TenantPlan:
    action = Action.DUPLICATE if len(matches) > 1 else Action.CONFLICT
    return attrs.evolve(planned, action=action, reason=reason, existing=matches, steps=())


def restrict_tenant(newer: TenantPlan, original: TenantPlan) -> TenantPlan:
    """Return *newer*, or a blocked plan if it would create an environment that *original* did not create."""
    if newer.action is not Action.CREATE or original.action is Action.CREATE:
        return newer
    reason = f"the plan was {original.action.value}, but its environment no longer exists: plan again to create one"
    return _blocked(newer, reason)
