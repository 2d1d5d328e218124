"""What a person has decided about tenants: whether it can be, and what it makes of the journal's records. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property

import attrs

from wxtcb.api.environment import EnvInfo
from wxtcb.errors import InvalidArgument
from wxtcb.provision.journal import Binding, RecordChange, TenantRecord, reset_record
from wxtcb.provision.plan import OperatorDecisions


@attrs.define(frozen=True, slots=False)
class DecisionResolver:
    """The `decisions`, for tenants of whom `aliases` has all and `records` those the journal knows, taken `now`."""

    decisions: OperatorDecisions
    aliases: Mapping[str, str]
    records: Mapping[str, TenantRecord]
    listed: Mapping[str, EnvInfo]
    bindings: Mapping[str, Binding]
    now: float

    def validate(self) -> None:
        """Refuse, all problems at once, what no person can want."""
        problems = [*self._problems()]
        if problems:
            raise InvalidArgument("; ".join((*problems, "nothing was changed")))

    @cached_property
    def ambiguous_creates(self) -> Mapping[str, TenantRecord]:
        """Who has an unclear create, by the alias in lower case under which that is."""
        return {record.alias.lower(): record for record in self.records.values() if record.intent is not None}

    @cached_property
    def alias_owners(self) -> Mapping[str, TenantRecord]:
        """Who has an environment, or may have one, by its alias in lower case."""
        return {record.alias.lower(): record for record in self.records.values() if record.may_have_environment}

    @cached_property
    def previous_owners(self) -> Mapping[str, TenantRecord]:
        """Tenants that take over an environment, and the record of who had it, or its unclear create, until now."""
        found = ((name, self._find_previous_owner(name, env)) for name, env in self.decisions.adopt.items())
        return {name: former for name, former in found if former is not None}

    @cached_property
    def released_envs(self) -> frozenset[str]:
        """The environments that their tenants lose."""
        return frozenset(
            (*self.decisions.forget.values(), *(self.decisions.adopt[name] for name in self.previous_owners))
        )

    def initial_record(self, name: str) -> TenantRecord | None:
        """Return what a tenant begins with, once everything is released."""
        if name in self.previous_owners:
            return self._transfer_change(name).after
        own = self.records.get(name)
        if own is not None and (release := self.record_change(own)):
            own = release.after
        env = self.decisions.adopt.get(name)
        if own is None or env in (None, own.env):
            return own
        return reset_record(own) if own.env else attrs.evolve(own, intent=None)

    def record_change(self, record: TenantRecord) -> RecordChange | None:
        """Return what becomes of a record by itself; None if it stays as it is."""
        after = record if record.tenant in self.previous_owners else self._apply_decisions(record)
        return None if after is record else RecordChange(record, attrs.evolve(after, version=record.version + 1))

    def transfer_changes(self) -> Iterator[RecordChange]:
        """Return what becomes of those who take over what another had, all of it at once."""
        for name in self.previous_owners:
            yield self._transfer_change(name)

    def is_absent(self, record: TenantRecord) -> bool:
        """Tell whether somebody who has an environment, or may have one, is missing though the tenants are all."""
        if not self.decisions.complete or self.decisions.removed or record.tenant in self.aliases:
            return False
        moved = any(former is record for former in self.previous_owners.values())
        return record.may_have_environment and not record.retired and not moved and record.env not in self.released_envs

    def notes(self) -> Iterator[str]:
        """Say what changes nothing."""
        for name, env in self.decisions.forget.items():
            if self.records[name].env != env:
                yield f"Note: there is nothing to forget: the journal does not have {env} for tenant {name!r}."

    def _transfer_change(self, name: str) -> RecordChange:
        former, alias = self.previous_owners[name], self.aliases[name]
        own = self.records.get(name) or TenantRecord(tenant=name, alias=alias)
        heir = attrs.evolve(
            former,
            tenant=name,
            alias=alias,
            version=own.version + 1,
            attempt=own.attempt,
            env=self.decisions.adopt[name],
            opened_at=former.opened_at or self.now,
            intent=None,
            retired=False,
        )
        left = attrs.evolve(reset_record(former), version=former.version + 1)
        return RecordChange(own, heir, previous_owner=RecordChange(former, left))

    def _find_previous_owner(self, name: str, env: str) -> TenantRecord | None:
        """Return the record of the tenant that is called *name* now, as far as can be told."""
        if not self.decisions.complete or name not in self.aliases:
            return None
        holder = self.bindings.get(env)
        former = self.records.get(holder.tenant) if holder else self.ambiguous_creates.get(self.aliases[name].lower())
        return None if former is None or former.tenant in self.aliases else former

    def _apply_decisions(self, record: TenantRecord) -> TenantRecord:
        if record.tenant in self.decisions.forget and record.env == self.decisions.forget[record.tenant]:
            record = reset_record(record)
        if record.tenant in self.aliases:
            return attrs.evolve(record, retired=False) if record.retired else record
        if any(former is record for former in self.previous_owners.values()):
            return record
        removed = self.decisions.removed and record.may_have_environment and not record.retired
        return attrs.evolve(record, retired=True) if removed else record

    def _problems(self) -> Iterator[str]:
        for name, env in self.decisions.adopt.items():
            if problem := self._adopt_error(name, env):
                yield f"adopt {name}={env}: {problem}"
        for name, env in self.decisions.forget.items():
            if problem := self._forget_error(name, env):
                yield f"forget {name}={env}: {problem}"

    def _adopt_error(self, name: str, env: str) -> str | None:
        info, holder = self.listed.get(env), self.bindings.get(env)
        if name not in self.aliases:
            return "there is no such tenant"
        if info is None:
            return "the platform lists no such environment"
        if holder is not None and holder.tenant != name and name not in self.previous_owners:
            return _other_owner_message(holder)
        if info.alias.lower() != self.aliases[name].lower():
            mine = self.aliases[name]
            return f"its alias is {info.alias!r}, and that of the tenant {mine!r}: give the tenant that alias"
        return self._adopt_conflict(name, env)

    def _adopt_conflict(self, name: str, env: str) -> str | None:
        own, alias = self.records.get(name), self.aliases[name].lower()
        if own is not None and own.intent is not None and own.alias.lower() != alias:
            return f"a create under its earlier alias {own.alias} is unclear: finish that one first"
        if own is not None and own.env not in (None, env) and own.env in self.listed:
            return f"it has {own.env}, which is listed: delete that one first"
        holder = self.alias_owners.get(alias)
        if holder is None or holder.tenant == name or name in self.previous_owners or holder.env in self.released_envs:
            return None
        has = holder.env or "an unclear create"
        return f"its alias is that of tenant {holder.tenant!r}, who has {has} by the journal: settle that first"

    def _forget_error(self, name: str, env: str) -> str | None:
        if name not in self.records:
            return "the journal knows no such tenant"
        if env in self.listed:
            return "the platform lists it still; only what was deleted can be forgotten"
        holder = self.bindings.get(env)
        return None if holder is None or holder.tenant == name else _other_owner_message(holder)


def _other_owner_message(binding: Binding) -> str:
    return f"that is the environment of tenant {binding.tenant!r}"
