"""Journal in memory, for the sandbox and for tests."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import attrs

from wxtcb.provision.journal import CommitResult, Committed, JournalError, KeyTaken, Stale
from wxtcb.provision.record import (
    Binding,
    HistoryEntry,
    JournalEntry,
    JournalIdentity,
    TenantRecord,
    collect_bindings,
)

__all__ = ["MemoryJournal"]


@attrs.define(eq=False)
class MemoryJournal:
    """Journal in memory, for the sandbox and for tests. It is lost when the process ends."""

    rolled_back_at: float | None = attrs.field(init=False, default=None)
    wait: float | None = attrs.field(init=False, default=None)
    _identity: JournalIdentity | None = attrs.field(init=False, default=None)
    _records: dict[str, TenantRecord] = attrs.field(init=False, repr=False, factory=dict[str, TenantRecord])
    _histories: dict[str, str] = attrs.field(init=False, repr=False, factory=dict[str, str])
    # Tenant by each key that no other tenant may have.
    _owners: dict[tuple[str, str], str] = attrs.field(init=False, repr=False, factory=dict[tuple[str, str], str])

    @property
    def durable(self) -> bool:
        return False

    async def bind_identity(self, identity: JournalIdentity | None = None) -> JournalIdentity:
        self._identity = self._identity or identity
        if self._identity is None:
            raise JournalError("the journal is new: open a Provisioner with it first")
        return self._identity

    async def load(
        self, tenants: Iterable[str] | None = None, *, aliases: Iterable[str] = (), envs: Iterable[str] = ()
    ) -> Mapping[str, TenantRecord]:
        if tenants is None:
            return dict(self._records)
        keys = (*(("alias", alias.lower()) for alias in aliases), *(("env", env) for env in envs))
        names = dict.fromkeys((*tenants, *(self._owners[key] for key in keys if key in self._owners)))
        return {name: self._records[name] for name in names if name in self._records}

    async def bindings(self, now: float) -> Mapping[str, Binding]:
        return collect_bindings(self._records.values())

    async def history(self, tenants: Iterable[str]) -> Mapping[str, tuple[HistoryEntry, ...]]:
        return {name: HistoryEntry.parse_lines(self._histories[name]) for name in tenants if name in self._histories}

    async def commit(
        self,
        record: TenantRecord,
        entry: HistoryEntry,
        previous_owner: JournalEntry | None = None,
        *,
        epoch: int | None = None,
    ) -> CommitResult:
        # The previous owner comes first, so that its keys are free when the new owner is indexed.
        entries = ((record, entry),) if previous_owner is None else (previous_owner, (record, entry))
        keys = _unique_keys(record)
        owners = {self._owners.get(key, record.tenant) for key in keys} - {record.tenant}
        for changed, _ in entries:
            stored = self._records.get(changed.tenant)
            if changed.version != (stored.version if stored else 0) + 1:
                return Stale(stored)
            if changed is not record and keys.isdisjoint(_unique_keys(changed)):
                owners -= {changed.tenant}
        if owners:
            return KeyTaken(min(owners))
        for changed, changed_entry in entries:
            stored = self._records.get(changed.tenant)
            for key in _unique_keys(stored) if stored else ():
                self._owners.pop(key, None)
            self._owners |= dict.fromkeys(_unique_keys(changed), changed.tenant)
            self._records[changed.tenant] = changed
            self._histories[changed.tenant] = self._histories.get(changed.tenant, "") + changed_entry.to_line()
        return Committed()


def _unique_keys(record: TenantRecord) -> set[tuple[str, str]]:
    return {(kind, key) for kind, key in zip(("env", "alias"), record.unique_keys(), strict=True) if key is not None}
