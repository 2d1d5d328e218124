"""What a person has decided about tenants: whether it can be, and what it makes of the journal's records. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property

import attrs

from wxtcb.api.environment import EnvInfo
from wxtcb.errors import InvalidArgument
from wxtcb.provision.journal import Binding, Record
from wxtcb.provision.plan import Decisions, Release
from wxtcb.provision.planner import begin_anew


@attrs.define(frozen=True, slots=False)
class Rulings:
    """The `decisions`, for tenants of whom `aliases` has all and `records` those the journal knows, taken `now`."""

    decisions: Decisions
    aliases: Mapping[str, str]
    records: Mapping[str, Record]
    listed: Mapping[str, EnvInfo]
    bound: Mapping[str, Binding]
    now: float

    def check(self) -> None:
        """Refuse, all problems at once, what no person can want."""
        problems = [*self._problems()]
        if problems:
            raise InvalidArgument("; ".join((*problems, "nothing was changed")))

    @cached_property
    def claims(self) -> Mapping[str, Record]:
        """Who has an unclear create, by the alias in lower case under which that is."""
        return {record.alias.lower(): record for record in self.records.values() if record.intent is not None}

    @cached_property
    def holders(self) -> Mapping[str, Record]:
        """Who has an environment, or may have one, by its alias in lower case."""
        return {record.alias.lower(): record for record in self.records.values() if record.is_open}

    @cached_property
    def moved(self) -> Mapping[str, Record]:
        """Tenants that take over an environment, and the record of who had it, or its unclear create, until now."""
        found = ((name, self._former(name, env)) for name, env in self.decisions.adopt.items())
        return {name: former for name, former in found if former is not None}

    @cached_property
    def freed(self) -> frozenset[str]:
        """The environments that their tenants lose."""
        return frozenset((*self.decisions.forget.values(), *(self.decisions.adopt[name] for name in self.moved)))

    def known(self, name: str) -> Record | None:
        """Return what a tenant begins with, once everything is released."""
        if name in self.moved:
            return self._take_over(name).after
        own = self.records.get(name)
        if own is not None and (release := self.release(own)):
            own = release.after
        env = self.decisions.adopt.get(name)
        if own is None or env in (None, own.env):
            return own
        return begin_anew(own) if own.env else attrs.evolve(own, intent=None)

    def release(self, record: Record) -> Release | None:
        """Return what becomes of a record by itself; None if it stays as it is."""
        after = record if record.tenant in self.moved else self._rule(record)
        return None if after is record else Release(record, attrs.evolve(after, version=record.version + 1))

    def moves(self) -> Iterator[Release]:
        """Return what becomes of those who take over what another had, all of it at once."""
        for name in self.moved:
            yield self._take_over(name)

    def leaves_out(self, record: Record) -> bool:
        """Tell whether somebody who has an environment, or may have one, is missing though the tenants are all."""
        if not self.decisions.whole or self.decisions.removed or record.tenant in self.aliases:
            return False
        moved = any(former is record for former in self.moved.values())
        return record.is_open and not record.retired and not moved and record.env not in self.freed

    def notes(self) -> Iterator[str]:
        """Say what changes nothing."""
        for name, env in self.decisions.forget.items():
            if self.records[name].env != env:
                yield f"Note: there is nothing to forget: the journal does not have {env} for tenant {name!r}."

    def _take_over(self, name: str) -> Release:
        former, alias = self.moved[name], self.aliases[name]
        own = self.records.get(name) or Record(tenant=name, alias=alias)
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
        left = attrs.evolve(begin_anew(former), version=former.version + 1)
        return Release(own, heir, giver=Release(former, left))

    def _former(self, name: str, env: str) -> Record | None:
        """Return the record of the tenant that is called *name* now, as far as can be told."""
        if not self.decisions.whole or name not in self.aliases:
            return None
        holder = self.bound.get(env)
        former = self.records.get(holder.tenant) if holder else self.claims.get(self.aliases[name].lower())
        return None if former is None or former.tenant in self.aliases else former

    def _rule(self, record: Record) -> Record:
        if record.tenant in self.decisions.forget and record.env == self.decisions.forget[record.tenant]:
            record = begin_anew(record)
        if record.tenant in self.aliases:
            return attrs.evolve(record, retired=False) if record.retired else record
        if any(former is record for former in self.moved.values()):
            return record
        removed = self.decisions.removed and record.is_open and not record.retired
        return attrs.evolve(record, retired=True) if removed else record

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
        if holder is not None and holder.tenant != name and name not in self.moved:
            return _of_another(holder)
        if info.alias.lower() != self.aliases[name].lower():
            mine = self.aliases[name]
            return f"its alias is {info.alias!r}, and that of the tenant {mine!r}: give the tenant that alias"
        return self._what_is_in_the_way(name, env)

    def _what_is_in_the_way(self, name: str, env: str) -> str | None:
        own, alias = self.records.get(name), self.aliases[name].lower()
        if own is not None and own.intent is not None and own.alias.lower() != alias:
            return f"a create under its earlier alias {own.alias} is unclear: finish that one first"
        if own is not None and own.env not in (None, env) and own.env in self.listed:
            return f"it has {own.env}, which is listed: delete that one first"
        holder = self.holders.get(alias)
        if holder is None or holder.tenant == name or name in self.moved or holder.env in self.freed:
            return None
        has = holder.env or "an unclear create"
        return f"its alias is that of tenant {holder.tenant!r}, who has {has} by the journal: settle that first"

    def _why_not_forget(self, name: str, env: str) -> str | None:
        if name not in self.records:
            return "the journal knows no such tenant"
        if env in self.listed:
            return "the platform lists it still; only what was deleted can be forgotten"
        holder = self.bound.get(env)
        return None if holder is None or holder.tenant == name else _of_another(holder)


def _of_another(holder: Binding) -> str:
    return f"that is the environment of tenant {holder.tenant!r}"
