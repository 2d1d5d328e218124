"""Journal in memory, for the sandbox and for tests."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import attrs

from wxtcb.errors import InvalidArgument
from wxtcb.provision.desired import (
    AliasInUse,
    DesiredChange,
    DesiredState,
    DesiredTenant,
    Effect,
    apply_change,
)
from wxtcb.provision.election import Leader, Term
from wxtcb.provision.journal import CommitResult, Committed, Deposed, JournalError, KeyTaken, Stale
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
class ChangeCounter:
    """Number of changes of a journal, and those who wait for the next one."""

    count: int = 0
    _waiters: set[asyncio.Future[None]] = attrs.field(init=False, factory=set["asyncio.Future[None]"])

    def add(self) -> None:
        self.count += 1
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def wait(self, seen: int, timeout: float) -> int:
        if self.count == seen:
            # A future and not an `asyncio.Event`: simulated processes share a journal, and each has its own loop.
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.add(waiter)
            try:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(timeout):
                        await waiter
            finally:
                self._waiters.discard(waiter)
        return self.count


@attrs.define(eq=False)
class MemoryElection:
    """Election among the users of one `MemoryJournal`."""

    _clock: Callable[[], float]
    _changes: ChangeCounter
    _epoch: int = attrs.field(init=False, default=0)
    # None: the term was released, or there has been none.
    _holder: str | None = attrs.field(init=False, default=None)
    _until: float = attrs.field(init=False, default=0.0)

    async def acquire(self, holder: str, lease: float) -> Term | None:
        now = self._clock()
        if self._holder is None or now >= self._until:
            self._epoch += 1
            self._holder = holder
            self._changes.add()
        elif self._holder != holder:
            return None
        self._until = now + lease
        return Term(self._epoch, lease)

    async def renew(self, term: Term) -> bool:
        if self._holder is None or term.epoch != self._epoch:
            return False
        self._until = self._clock() + (term.lease or 0.0)
        return True

    async def release(self, term: Term) -> None:
        if term.epoch == self._epoch:
            self._holder = None
            self._changes.add()

    async def leader(self) -> Leader | None:
        remaining = self._until - self._clock()
        return None if self._holder is None or remaining <= 0 else Leader(self._holder, self._epoch, remaining)

    def check_epoch(self, epoch: int) -> None:
        if epoch != self._epoch:
            raise Deposed(f"another process was elected (epoch {self._epoch}, not {epoch}); nothing was stored")


@attrs.frozen
class _Row:
    """A desired tenant, when it is due, and the epoch that has taken it since it last changed."""

    desired: DesiredTenant
    due_at: float
    taken_in: int | None = None


@attrs.define(eq=False)
class MemoryDesired:
    """Desired state in a `MemoryJournal`."""

    _clock: Callable[[], float]
    _changes: ChangeCounter
    _election: MemoryElection
    _rows: dict[str, _Row] = attrs.field(init=False, repr=False, factory=dict[str, _Row])
    # Tenant by alias in lower case.
    _owners: dict[str, str] = attrs.field(init=False, repr=False, factory=dict[str, str])

    async def change(self, changes: Sequence[DesiredChange], *, connection: Any = None) -> tuple[Effect, ...]:
        if connection is not None:
            raise InvalidArgument("connection must be None: a MemoryJournal has no transactions")
        now, effects, rows = self._clock(), list[Effect](), dict[str, _Row]()
        for change in changes:
            row = self._rows.get(change.tenant)
            effect, after = apply_change(None if row is None else row.desired, change, now)
            effects.append(effect)
            if after is not None:
                # `select` computes the delay anew.
                rows[change.tenant] = _Row(attrs.evolve(after, due_in=0.0), now + after.due_in)
        self._check_aliases(rows)
        for name in rows.keys() & self._rows.keys():
            del self._owners[self._rows[name].desired.alias.lower()]
        self._owners |= {row.desired.alias.lower(): name for name, row in rows.items()}
        self._rows |= rows
        if rows:
            self._changes.add()
        return tuple(effects)

    def _check_aliases(self, rows: Mapping[str, _Row]) -> None:
        owners: dict[str, str] = {}
        for name, row in rows.items():
            alias = row.desired.alias
            other = owners.setdefault(alias.lower(), name)
            if other == name:
                stored = self._owners.get(alias.lower(), name)
                # The alias of a tenant that changes too is compared above.
                other = name if stored in rows else stored
            if other != name:
                raise AliasInUse(alias, name, other)

    async def take(self, epoch: int, limit: int) -> tuple[DesiredTenant, ...]:
        self._election.check_epoch(epoch)
        now = self._clock()
        due = (
            row
            for row in self._rows.values()
            if row.desired.state is DesiredState.WAITING and row.due_at <= now and row.taken_in != epoch
        )
        taken = sorted(due, key=lambda row: row.due_at)[:limit]
        self._rows |= {row.desired.tenant: attrs.evolve(row, taken_in=epoch) for row in taken}
        return tuple(row.desired for row in taken)

    async def select(
        self,
        tenants: Iterable[str] | None = None,
        *,
        states: Iterable[DesiredState] | None = None,
        after: str = "",
        limit: int | None = None,
    ) -> tuple[DesiredTenant, ...]:
        now = self._clock()
        names = self._rows.keys() if tenants is None else self._rows.keys() & set(tenants)
        wanted = frozenset(DesiredState if states is None else states)
        found = sorted(name for name in names if name > after and self._rows[name].desired.state in wanted)
        rows = (self._rows[name] for name in found[:limit])
        return tuple(attrs.evolve(row.desired, due_in=max(0.0, row.due_at - now)) for row in rows)

    async def counts(self) -> Mapping[DesiredState, int]:
        counts = Counter(row.desired.state for row in self._rows.values())
        return {state: counts[state] for state in DesiredState}

    async def wait_for_change(self, seen: int, timeout: float) -> int:
        return await self._changes.wait(seen, timeout)


@attrs.define(eq=False)
class MemoryJournal:
    """Journal in memory, for the sandbox and for tests. It is lost when the process ends.

    `clock` returns the Unix time, by which terms end and delays pass.
    """

    clock: Callable[[], float] = time.time
    desired: MemoryDesired = attrs.field(init=False, repr=False)
    election: MemoryElection = attrs.field(init=False, repr=False)
    rolled_back_at: float | None = attrs.field(init=False, default=None)
    wait: float | None = attrs.field(init=False, default=None)
    _identity: JournalIdentity | None = attrs.field(init=False, default=None)
    _records: dict[str, TenantRecord] = attrs.field(init=False, repr=False, factory=dict[str, TenantRecord])
    _histories: dict[str, str] = attrs.field(init=False, repr=False, factory=dict[str, str])
    # Tenant by each key that no other tenant may have.
    _owners: dict[tuple[str, str], str] = attrs.field(init=False, repr=False, factory=dict[tuple[str, str], str])
    _changes: ChangeCounter = attrs.field(init=False, repr=False, factory=ChangeCounter)

    def __attrs_post_init__(self) -> None:
        self.election = MemoryElection(self.clock, self._changes)
        self.desired = MemoryDesired(self.clock, self._changes, self.election)

    @property
    def durable(self) -> bool:
        return False

    async def bind_identity(self, identity: JournalIdentity | None = None) -> JournalIdentity:
        self._identity = self._identity or identity
        if self._identity is None:
            raise JournalError("the journal is new: run `wxtcb init`, or open a Provisioner with it first")
        return self._identity

    async def load(
        self, tenants: Iterable[str] | None = None, *, aliases: Iterable[str] = (), envs: Iterable[str] = ()
    ) -> Mapping[str, TenantRecord]:
        if tenants is None:
            return dict(self._records)
        keys = (*(("alias", alias.lower()) for alias in aliases), *(("env", env) for env in envs))
        names = dict.fromkeys((*tenants, *(self._owners[key] for key in keys if key in self._owners)))
        return {name: self._records[name] for name in names if name in self._records}

    async def bindings(self, now: float) -> Mapping[str, Binding]:  # noqa: ARG002 - all users of it have one clock
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
        if epoch is not None:
            self.election.check_epoch(epoch)
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
        self._changes.add()
        return Committed()


def _unique_keys(record: TenantRecord) -> set[tuple[str, str]]:
    return {(kind, key) for kind, key in zip(("env", "alias"), record.unique_keys(), strict=True) if key is not None}
