"""What a person has decided about tenants: whether it can be, and what it makes of the journal's records. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property

import attrs

from wxtcb.api.environment import EnvInfo
from wxtcb.errors import InvalidArgument
from wxtcb.provision.deciding import begin_anew
from wxtcb.provision.journal import Binding, Record
from wxtcb.provision.plan import Decisions, Release


@attrs.define(frozen=True, slots=False)
class Rulings:
    """The `decisions`, for tenants of whom `aliases` has all and `records` those the journal knows."""

    decisions: Decisions
    aliases: Mapping[str, str]
    records: Mapping[str, Record]
    listed: Mapping[str, EnvInfo]
    bound: Mapping[str, Binding]

    def check(self) -> None:
        """Refuse, all problems at once, what no person can want."""
        problems = [*self._problems()]
        if problems:
            raise InvalidArgument("; ".join((*problems, "nothing was changed")))

    @cached_property
    def freed(self) -> frozenset[str]:
        """The environments that their tenants lose."""
        taken_over = (env for name, env in self.decisions.adopt.items() if self._former(name, env))
        return frozenset((*self.decisions.forget.values(), *taken_over))

    @cached_property
    def releases(self) -> Mapping[str, Release]:
        """The records that change, by tenant."""
        ruled = ((record, self._rule(record)) for record in self.records.values())
        return {
            before.tenant: Release(before, attrs.evolve(after, version=before.version + 1))
            for before, after in ruled
            if after is not before
        }

    @cached_property
    def left_out(self) -> Mapping[str, Record]:
        """Who has an environment, or may have one, and is missing among the tenants though these are all."""
        if not self.decisions.whole or self.decisions.removed:
            return {}
        return {
            name: record
            for name, record in self.records.items()
            if name not in self.aliases and record.is_open and not record.retired and record.env not in self.freed
        }

    def known(self, name: str) -> Record | None:
        """Return what a tenant begins with: its own record, or that of the tenant whose environment it takes over."""
        own = self.releases[name].after if name in self.releases else self.records.get(name)
        env = self.decisions.adopt.get(name)
        if env is None or (own is not None and own.env == env):
            return own
        former = self._former(name, env)
        if former is None:
            return begin_anew(own) if own else None
        mine = own or Record(tenant=name, alias=self.aliases[name])
        kept = attrs.evolve(former, tenant=name, alias=self.aliases[name], env=None, intent=None, retired=False)
        return attrs.evolve(kept, version=mine.version, attempt=mine.attempt)

    def _former(self, name: str, env: str) -> Record | None:
        """Return the record of the tenant that had *env* until now, and is called *name* now."""
        holder = self.bound.get(env)
        if holder is None or holder.tenant in self.aliases or not self.decisions.whole or name not in self.aliases:
            return None
        return self.records.get(holder.tenant)

    def _rule(self, record: Record) -> Record:
        is_wanted = record.tenant in self.aliases
        if record.env in self.freed:
            record = begin_anew(record)
        if is_wanted and record.retired:
            return attrs.evolve(record, retired=False)
        if not is_wanted and self.decisions.removed and not record.retired and record.is_open:
            return attrs.evolve(record, retired=True)
        return record

    def _problems(self) -> Iterator[str]:
        for name, env in self.decisions.adopt.items():
            if problem := self._why_not_adopt(name, env):
                yield f"adopt {name}={env}: {problem}"
        for name, env in self.decisions.forget.items():
            if problem := self._why_not_forget(name, env):
                yield f"forget {name}={env}: {problem}"

    def _why_not_adopt(self, name: str, env: str) -> str | None:
        info, holder = self.listed.get(env), self.bound.get(env)
        if name not in self.aliases:
            return "there is no such tenant"
        if info is None:
            return "the platform lists no such environment"
        if holder is not None and holder.tenant != name and not self._former(name, env):
            return f"that is the environment of tenant {holder.tenant!r}"
        if info.alias.lower() != self.aliases[name].lower():
            mine = self.aliases[name]
            return f"its alias is {info.alias!r}, and that of the tenant {mine!r}: give the tenant that alias"
        return None

    def _why_not_forget(self, name: str, env: str) -> str | None:
        record = self.records.get(name)
        if record is None or record.env != env:
            return "the journal does not have it as that tenant's environment"
        if env in self.listed:
            return "the platform lists it still; only what was deleted can be forgotten"
        return None
