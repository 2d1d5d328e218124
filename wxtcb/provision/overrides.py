"""Operator decisions: validates them, and applies them to the records of the journal. Pure."""

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
    """Operator decisions, resolved against the tenants, the journal and the platform.

    `aliases` has the alias of every tenant of the plan, `records` the records of the journal. `now` is in Unix time.
    """

    decisions: OperatorDecisions
    aliases: Mapping[str, str]
    records: Mapping[str, TenantRecord]
    listed: Mapping[str, EnvInfo]
    bindings: Mapping[str, Binding]
    now: float

    def validate(self) -> None:
        """Raise `InvalidArgument` with all decisions that cannot be carried out."""
        adopt, forget = self.decisions.adopt, self.decisions.forget
        problems = [
            f"{option} {name}={env}: {problem}"
            for option, pairs, check in (("adopt", adopt, self._adopt_error), ("forget", forget, self._forget_error))
            for name, env in pairs.items()
            if (problem := check(name, env))
        ]
        if problems:
            raise InvalidArgument("; ".join((*problems, "nothing was changed")))

    @cached_property
    def ambiguous_creates(self) -> Mapping[str, TenantRecord]:
        """Records with a create of unknown outcome, by alias in lower case."""
        return {record.alias.lower(): record for record in self.records.values() if record.intent is not None}

    @cached_property
    def alias_owners(self) -> Mapping[str, TenantRecord]:
        """Records that have an environment, or may have one, by alias in lower case."""
        return {record.alias.lower(): record for record in self.records.values() if record.may_have_environment}

    @cached_property
    def previous_owners(self) -> Mapping[str, TenantRecord]:
        """Present owner of each environment, or ambiguous create, that a tenant takes over; by the tenant's name."""
        owners = ((name, self._find_previous_owner(name, env)) for name, env in self.decisions.adopt.items())
        return {name: owner for name, owner in owners if owner is not None}

    @cached_property
    def released_envs(self) -> frozenset[str]:
        """Environments that the decisions take from their tenants."""
        return frozenset(
            (*self.decisions.forget.values(), *(self.decisions.adopt[name] for name in self.previous_owners))
        )

    def initial_record(self, name: str) -> TenantRecord | None:
        """Return the record that a tenant has after all decisions, or None if the journal has none."""
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
        """Return the change that the decisions make to *record* alone, or None if they make none.

        A tenant in `previous_owners` is changed by `transfer_change` instead.
        """
        name, after = record.tenant, record
        if name in self.decisions.forget and record.env == self.decisions.forget[name]:
            after = reset_record(record)
        if name in self.aliases:
            after = attrs.evolve(after, retired=False) if after.retired else after
        elif self.decisions.removed and after.may_have_environment and not self._is_settled(after):
            after = attrs.evolve(after, retired=True)
        return None if after is record else RecordChange(record, attrs.evolve(after, version=record.version + 1))

    def is_absent(self, record: TenantRecord) -> bool:
        """Return whether a tenant that may have an environment is missing from a complete list of tenants."""
        if not self.decisions.complete or self.decisions.removed or record.tenant in self.aliases:
            return False
        return record.may_have_environment and record.env not in self.released_envs and not self._is_settled(record)

    def notes(self) -> Iterator[str]:
        """Yield a note for each decision that has no effect."""
        for name, env in self.decisions.forget.items():
            if self.records[name].env != env:
                yield f"Note: forget {name}={env} has no effect: the journal does not have {env} for tenant {name!r}."

    def transfer_change(self, name: str) -> RecordChange:
        """Return the change of a tenant that takes over an environment, with the change of its previous owner."""
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

    def _find_previous_owner(self, name: str, env: str) -> TenantRecord | None:
        """Return the record that tenant *name* takes over: that of a tenant which is no longer in the list."""
        # Without a complete list, an absent tenant proves nothing: it may be in another call.
        if not self.decisions.complete or name not in self.aliases:
            return None
        binding = self.bindings.get(env)
        owner = self.records.get(binding.tenant) if binding else self.ambiguous_creates.get(self.aliases[name].lower())
        return None if owner is None or owner.tenant in self.aliases else owner

    def _is_settled(self, record: TenantRecord) -> bool:
        """Return whether an operator decided already that the absent tenant was removed or renamed."""
        return record.retired or any(owner.tenant == record.tenant for owner in self.previous_owners.values())

    def _adopt_error(self, name: str, env: str) -> str | None:
        info, binding = self.listed.get(env), self.bindings.get(env)
        if name not in self.aliases:
            return "unknown tenant"
        if info is None:
            return "the platform lists no such environment"
        if binding is not None and binding.tenant != name and name not in self.previous_owners:
            return _other_owner_message(binding)
        if info.alias.lower() != self.aliases[name].lower():
            return f"its alias is {info.alias!r}, not {self.aliases[name]!r}: give the tenant that alias"
        record, alias = self.records.get(name), self.aliases[name].lower()
        if record is not None and record.intent is not None and record.alias.lower() != alias:
            return (
                f"the outcome of a create under the previous alias {record.alias} is unknown: restore that alias and "
                "provision first"
            )
        if record is not None and record.env not in (None, env) and record.env in self.listed:
            return f"the tenant has {record.env}, which is still listed: delete that environment first"
        owner = self.alias_owners.get(alias)
        if owner is None or owner.tenant == name or name in self.previous_owners or owner.env in self.released_envs:
            return None
        state = owner.env or "a create of unknown outcome"
        return f"its alias belongs to tenant {owner.tenant!r}, which has {state} in the journal: resolve that first"

    def _forget_error(self, name: str, env: str) -> str | None:
        if name not in self.records:
            return "the journal has no such tenant"
        if env in self.listed:
            return "the platform still lists it: only a deleted environment can be forgotten"
        binding = self.bindings.get(env)
        return None if binding is None or binding.tenant == name else _other_owner_message(binding)


def _other_owner_message(binding: Binding) -> str:
    return f"the environment belongs to tenant {binding.tenant!r}"
