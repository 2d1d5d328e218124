"""Desired state in a journal file."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Final

import attrs
import orjson

from wxtcb.errors import InvalidArgument
from wxtcb.provision.desired import (
    AliasInUse,
    Decision,
    DesiredChange,
    DesiredState,
    DesiredTenant,
    Effect,
    apply_change,
)
from wxtcb.provision.sqlite.schema import CorruptRow, check_epoch, json_list, savepoint
from wxtcb.provision.sqlite.thread import JournalThread

_SELECT: Final = "SELECT tenant, alias, spec, revision, state, decision, tries, due, changed_at FROM desired"
# `taken` is cleared: what has changed can be taken again.
_WRITE: Final = (
    "INSERT INTO desired VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0) ON CONFLICT (tenant) DO UPDATE SET alias = ?2, "
    "alias_key = ?3, spec = ?4, revision = ?5, state = ?6, decision = ?7, tries = ?8, due = ?9, changed_at = ?10, "
    "taken = 0"
)
_STATES: Final = {state.value: state for state in DesiredState}


@attrs.frozen
class SqliteDesired:
    """Desired state in the file of a `SqliteJournal`."""

    _thread: JournalThread
    _clock: Callable[[], float] = time.time

    async def change(self, changes: Sequence[DesiredChange], *, connection: Any = None) -> tuple[Effect, ...]:
        if connection is not None:
            raise InvalidArgument("connection must be None: a SqliteJournal uses no connection of the caller")
        return await self._thread.run(partial(_change, changes=changes, now=self._clock()), write=True)

    async def take(self, epoch: int, limit: int) -> tuple[DesiredTenant, ...]:
        return await self._thread.run(partial(_take, epoch=epoch, limit=limit, now=self._clock()), write=True)

    async def select(
        self,
        tenants: Iterable[str] | None = None,
        *,
        states: Iterable[DesiredState] | None = None,
        after: str = "",
        limit: int | None = None,
    ) -> tuple[DesiredTenant, ...]:
        conditions, values = ["tenant > ?"], list[str | float]([after])
        wanted = None if states is None else [state.value for state in states]
        for column, chosen in (("tenant", tenants), ("state", wanted)):
            if chosen is not None:
                conditions.append(f"{column} IN (SELECT value FROM json_each(?))")
                values.append(json_list(chosen))
        clause = f"WHERE {' AND '.join(conditions)} ORDER BY tenant LIMIT ?"
        values.append(-1 if limit is None else limit)
        return await self._thread.run(partial(_select, clause=clause, values=values, now=self._clock()))

    async def counts(self) -> Mapping[DesiredState, int]:
        statement = "SELECT state, count(*) FROM desired GROUP BY state"
        found = await self._thread.run(lambda db: dict(db.execute(statement).fetchall()))
        return {state: found.get(state.value, 0) for state in DesiredState}

    async def wait_for_change(self, seen: int, timeout: float) -> int:
        return await self._thread.wait_for_change(seen, timeout)


_WHERE_TENANT: Final = "WHERE tenant IN (SELECT value FROM json_each(?))"


def _change(db: sqlite3.Connection, changes: Sequence[DesiredChange], now: float) -> tuple[Effect, ...]:
    names = json_list(change.tenant for change in changes)
    stored = {each.tenant: each for each in _select(db, _WHERE_TENANT, (names,), now)}
    results = [apply_change(stored.get(change.tenant), change, now) for change in changes]
    changed = [after for _, after in results if after is not None]
    with savepoint(db):
        for each in changed:
            # All aliases that change are free before the first one is written, so that tenants can exchange them.
            if each.tenant in stored and each.alias != stored[each.tenant].alias:
                db.execute("UPDATE desired SET alias_key = NULL WHERE tenant = ?", (each.tenant,))
        for each in changed:
            _write(db, each, now)
    return tuple(effect for effect, _ in results)


def _write(db: sqlite3.Connection, desired: DesiredTenant, now: float) -> None:
    key = desired.alias.lower()
    decision = desired.decision and orjson.dumps(attrs.asdict(desired.decision)).decode()
    fields = (desired.tenant, desired.alias, key, desired.spec, desired.revision, desired.state.value, decision)
    try:
        db.execute(_WRITE, (*fields, desired.tries, now + desired.due_in, desired.changed_at))
    except sqlite3.IntegrityError as error:
        (other,) = db.execute("SELECT tenant FROM desired WHERE alias_key = ?", (key,)).fetchone()
        raise AliasInUse(desired.alias, desired.tenant, other) from error


def _take(db: sqlite3.Connection, epoch: int, limit: int, now: float) -> tuple[DesiredTenant, ...]:
    check_epoch(db, epoch)
    # SQLite would choose the index of all states, and sort all tenants that wait.
    due = "INDEXED BY desired_waiting WHERE state = 'waiting' AND NOT taken AND due <= ? ORDER BY due LIMIT ?"
    tenants = _select(db, due, (now, limit), now)
    names = json_list(each.tenant for each in tenants)
    db.execute(f"UPDATE desired SET taken = 1 {_WHERE_TENANT}", (names,))
    return tenants


def _select(
    db: sqlite3.Connection, clause: str, values: Sequence[str | float], now: float
) -> tuple[DesiredTenant, ...]:
    return tuple(_decode(row, now) for row in db.execute(f"{_SELECT} {clause}", values))


def _decode(row: tuple[Any, ...], now: float) -> DesiredTenant:
    tenant, alias, spec, revision, state, decision, tries, due, changed_at = row
    try:
        return DesiredTenant(
            tenant=tenant,
            alias=alias,
            spec=spec,
            revision=revision,
            state=_STATES[state],
            decision=None if decision is None else Decision(**orjson.loads(decision)),
            tries=tries,
            due_in=max(0.0, due - now),
            changed_at=changed_at,
        )
    # Any exception means damage, as for records.
    except Exception as error:
        raise CorruptRow(f"the row of tenant {tenant!r} in the table desired cannot be read") from error
