"""Desired state in PostgreSQL: one statement for any number of changes, in a transaction of the caller if wanted."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import attrs
import orjson

from wxtcb.errors import InvalidArgument
from wxtcb.provision.desired import (
    AliasInUse,
    Cancel,
    Decide,
    Decision,
    DecisionPending,
    DesiredChange,
    DesiredState,
    DesiredTenant,
    Effect,
    Submit,
)
from wxtcb.provision.journal import Deposed, JournalError, UnserializableRecord
from wxtcb.provision.postgres import schema
from wxtcb.provision.postgres.caller_connection import Statement, fetch_one
from wxtcb.provision.postgres.connection import Lane, Row, UniqueConflict
from wxtcb.provision.postgres.notifications import ChangeListener
from wxtcb.provision.postgres.schema import DURABLE, NOTIFY, decode_text, encode_key, encode_names, encode_text

__all__ = ["ChangeStatement", "PostgresDesired"]

# Attempts for a submission of an alias that another transaction submits at the same time.
MAX_RACES: Final = 3
# A delay beyond it is no time of PostgreSQL.
MAX_DELAY: Final = 10 * 365 * 86400.0

# What is not changed is only read: the same 100,000 tenants again write nothing. `stored` locks the tenants of all
# other changes, so that what is decided about them holds for the update.
_CHANGE: Final = f"""\
WITH submit AS MATERIALIZED (
    SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::bytea[]) AS s (tenant, alias, alias_key, spec)
), other AS MATERIALIZED (
    SELECT * FROM unnest($5::text[], $6::text[], $7::text[], $8::bigint[], $9::text[], $10::float8[], $11::boolean[])
        AS o (tenant, kind, decision, revision, state, delay, failed)
), stored AS MATERIALIZED (
    SELECT tenant, decision FROM wxtcb_desired WHERE tenant IN (SELECT tenant FROM other) ORDER BY tenant FOR UPDATE
), wanted AS MATERIALIZED (
    SELECT s.* FROM submit s LEFT JOIN wxtcb_desired d USING (tenant)
    WHERE d.tenant IS NULL OR d.state = 'cancelled' OR d.alias <> s.alias OR d.spec <> s.spec
), conflict AS MATERIALIZED (
    SELECT w.tenant, d.tenant AS owner FROM wanted w
    JOIN wxtcb_desired d ON d.alias_key = w.alias_key AND d.tenant <> w.tenant
    WHERE NOT EXISTS (SELECT FROM wanted o WHERE o.tenant = d.tenant) LIMIT 1
), pending AS MATERIALIZED (
    SELECT o.tenant FROM other o JOIN stored s USING (tenant)
    WHERE o.kind = 'decide' AND s.decision <> o.decision LIMIT 1
), verdict AS MATERIALIZED (
    SELECT NOT EXISTS (SELECT FROM conflict) AND NOT EXISTS (SELECT FROM pending) AS may
), submitted AS (
    INSERT INTO wxtcb_desired AS d
        (tenant, alias, alias_key, spec, revision, state, tries, due, changed_at, taken)
    SELECT tenant, alias, alias_key, spec, 1, 'waiting', 0, clock_timestamp(), clock_timestamp(), 0
    FROM wanted, verdict WHERE may
    ON CONFLICT (tenant) DO UPDATE SET alias = excluded.alias, alias_key = excluded.alias_key, spec = excluded.spec,
        revision = d.revision + 1, state = 'waiting', tries = 0, due = excluded.due,
        changed_at = excluded.changed_at, taken = 0
    WHERE d.state = 'cancelled' OR d.alias <> excluded.alias OR d.spec <> excluded.spec
    RETURNING tenant, revision
), updated AS (
    UPDATE wxtcb_desired d SET
        revision = d.revision + CASE o.kind WHEN 'finish' THEN 0 ELSE 1 END,
        state = o.state,
        decision = CASE WHEN o.kind = 'finish' AND o.state = 'waiting' AND NOT o.failed THEN d.decision
            ELSE o.decision END,
        tries = CASE WHEN o.kind = 'finish' AND o.state = 'waiting' THEN d.tries + o.failed::integer ELSE 0 END,
        due = clock_timestamp() + o.delay * interval '1 second',
        changed_at = CASE o.kind WHEN 'finish' THEN d.changed_at ELSE clock_timestamp() END,
        taken = 0
    FROM other o, verdict WHERE may AND d.tenant = o.tenant AND CASE o.kind
        WHEN 'finish' THEN d.revision = o.revision AND d.state NOT IN ('done', 'cancelled')
        WHEN 'cancel' THEN d.state NOT IN ('done', 'cancelled')
        ELSE d.decision IS NULL END
    RETURNING d.tenant
)
SELECT ARRAY(SELECT tenant FROM submitted WHERE revision = 1),
    ARRAY(SELECT tenant FROM submitted WHERE revision > 1 UNION ALL SELECT tenant FROM updated),
    ARRAY(SELECT tenant FROM other EXCEPT SELECT tenant FROM stored),
    ARRAY(SELECT unnest(ARRAY[tenant, owner]) FROM conflict),
    ARRAY(SELECT tenant FROM pending),
    (SELECT {NOTIFY} FROM (SELECT FROM submitted UNION ALL SELECT FROM updated) AS changes LIMIT 1)"""
_COLUMNS: Final = (
    "d.tenant, d.alias, d.spec, d.revision, d.state, d.decision, d.tries,"
    " greatest(0, extract(epoch FROM d.due - clock_timestamp()))::float8, extract(epoch FROM d.changed_at)::float8"
)
# Tenants that changed since they were last taken have `taken` 0, so the index returns them in the order of `due`. Those
# that an earlier term has taken are sorted: there are as many as were under way.
_TAKE: Final = f"""\
WITH fence AS MATERIALIZED (
    SELECT epoch FROM wxtcb_leader WHERE epoch = $1 FOR SHARE
), fresh AS MATERIALIZED (
    SELECT tenant, due FROM wxtcb_desired WHERE state = 'waiting' AND taken = 0 AND due <= now()
        AND EXISTS (SELECT FROM fence)
    ORDER BY due LIMIT $2 FOR UPDATE SKIP LOCKED
), inherited AS MATERIALIZED (
    SELECT tenant, due FROM wxtcb_desired WHERE state = 'waiting' AND /*inherited*/ AND due <= now()
        AND EXISTS (SELECT FROM fence)
    ORDER BY due LIMIT $2 FOR UPDATE SKIP LOCKED
), picked AS MATERIALIZED (
    SELECT tenant FROM (SELECT * FROM fresh UNION ALL SELECT * FROM inherited) AS due_tenants
    ORDER BY due, tenant LIMIT $2
), taken AS (
    UPDATE wxtcb_desired d SET taken = $1, taken_by = $3 FROM picked p WHERE d.tenant = p.tenant
    RETURNING {_COLUMNS}, d.due
)
SELECT (SELECT epoch FROM fence), taken.* FROM (SELECT) AS always LEFT JOIN taken ON true ORDER BY due, tenant"""
_TAKE_FIRST: Final = _TAKE.replace("/*inherited*/", "taken > 0 AND taken < $1")
_TAKE_AGAIN: Final = _TAKE.replace(
    "/*inherited*/", "taken > 0 AND (taken < $1 OR taken = $1 AND taken_by = ANY($4::text[]))"
)
_SELECT: Final = (
    f"SELECT {_COLUMNS} FROM wxtcb_desired d WHERE ($1::text[] IS NULL OR d.tenant = ANY($1::text[]))"
    " AND ($2::text[] IS NULL OR d.state = ANY($2::text[])) AND d.tenant > $3::text ORDER BY d.tenant LIMIT $4::bigint"
)
_COUNT: Final = "SELECT state, count(*) FROM wxtcb_desired GROUP BY state"


@attrs.frozen
class ChangeStatement(Statement):
    """Statement that makes changes of the desired state, to be executed in a transaction of the caller.

    Its only row is the argument of `effects`.
    """

    _changes: tuple[DesiredChange, ...] = attrs.field(repr=False)
    _tenants: tuple[str, ...] = attrs.field(repr=False)

    def effects(self, row: Sequence[Any]) -> tuple[Effect, ...]:
        """Return the effect of each change; raise `AliasInUse` or `DecisionPending` if nothing was changed."""
        new, changed, unknown, conflict, pending = (frozenset(column) for column in row[:5])
        if conflict:
            tenant, owner = row[3]
            change = self._changes[self._tenants.index(tenant)]
            raise AliasInUse(getattr(change, "alias", ""), change.tenant, decode_text(owner))
        if pending:
            raise DecisionPending(decode_text(*pending))
        effects = {**dict.fromkeys(unknown, Effect.UNKNOWN_TENANT), **dict.fromkeys(changed, Effect.CHANGED)}
        effects |= dict.fromkeys(new, Effect.NEW)
        return tuple(effects.get(tenant, Effect.UNCHANGED) for tenant in self._tenants)


@attrs.define(eq=False)
class PostgresDesired:
    """Desired state of the tenants of a `PostgresJournal`.

    `change` takes a `connection` of psycopg, asyncpg, or SQLAlchemy (AsyncConnection, AsyncSession) with one of these
    drivers; it must be to the same database.
    """

    _lane: Lane
    _schema: str
    _listener: ChangeListener
    # Marks of calls of `take` whose tenants may not have reached the caller, and when each can be forgotten.
    _lost_takes: dict[str, float] = attrs.field(init=False, factory=dict[str, float])

    def submission(self, changes: Sequence[DesiredChange]) -> ChangeStatement:
        """Return the statement for *changes*, to be executed with any driver in a transaction of the caller.

        Raises `AliasInUse` if two of *changes* have the same alias, `UnserializableRecord` for a name or alias that
        cannot be stored, and `InvalidArgument` if there are two changes of a tenant.
        """
        tenants = tuple(encode_key(change.tenant, "tenant") for change in changes)
        if len({*tenants}) != len(tenants):
            raise InvalidArgument("changes must contain at most one change of each tenant")
        owners: dict[str, str] = {}
        # For `submit` and for `other`: the columns of the statement.
        submits: list[tuple[object, ...]] = []
        others: list[tuple[object, ...]] = []
        for change, tenant in zip(changes, tenants, strict=True):
            match change:
                case Submit():
                    key = encode_key(change.alias.lower(), "alias")
                    if (owner := owners.setdefault(key, change.tenant)) != change.tenant:
                        raise AliasInUse(change.alias, change.tenant, owner)
                    submits.append((tenant, encode_text(change.alias), key, change.spec))
                case Cancel():
                    others.append((tenant, "cancel", None, None, "cancelled", 0.0, False))
                case Decide():
                    others.append((tenant, "decide", _dump(change.decision), None, "waiting", 0.0, False))
                case _:
                    delay = min(max(change.delay, 0.0), MAX_DELAY)
                    state = change.state.value
                    others.append((tenant, "finish", None, change.revision, state, delay, change.failed))
        arguments = (*_transpose(submits, 4), *_transpose(others, 7))
        return ChangeStatement(schema.qualify(_CHANGE, self._schema), arguments, tuple(changes), tenants)

    async def change(self, changes: Sequence[DesiredChange], *, connection: Any = None) -> tuple[Effect, ...]:
        submission = self.submission(changes)
        if connection is not None:
            await self._lane.ensure_tables()
            return submission.effects(await fetch_one(connection, submission))
        for _ in range(MAX_RACES):
            try:
                ((*row, _durable),) = await self._lane.fetch(f"{submission.sql}, {DURABLE}", submission.arguments)
            # Another transaction submitted an alias after the statement began; the next attempt sees it.
            except UniqueConflict:
                continue
            effects = submission.effects(row)
            if any(effect in (Effect.NEW, Effect.CHANGED) for effect in effects):
                self._listener.add()
            return effects
        raise JournalError("other processes submit the same aliases without end; nothing was changed")

    async def take(self, epoch: int, limit: int) -> tuple[DesiredTenant, ...]:
        now, mark = asyncio.get_running_loop().time(), secrets.token_hex(8)
        lost = [each for each, expiry in self._lost_takes.items() if expiry > now]
        # If the response does not arrive, the tenants stay marked as taken, and no later call would return them. The
        # statement may still run when the call has failed, so the mark is kept for a while.
        self._lost_takes = {each: self._lost_takes[each] for each in lost} | {mark: now + 3600.0}
        arguments = (epoch, limit, mark)
        again = (_TAKE_AGAIN, (*arguments, [*lost, mark]))
        rows = await self._lane.fetch(*(again if lost else (_TAKE_FIRST, arguments)), again=again)
        del self._lost_takes[mark]
        if rows[0][0] is None:
            raise Deposed(f"another process was elected (epoch {epoch} has ended)")
        return tuple(_to_tenant(row[1:]) for row in rows if row[1] is not None)

    async def select(
        self,
        tenants: Iterable[str] | None = None,
        *,
        states: Iterable[DesiredState] | None = None,
        after: str = "",
        limit: int | None = None,
    ) -> tuple[DesiredTenant, ...]:
        names = None if tenants is None else encode_names(tenants)
        wanted = None if states is None else [state.value for state in states]
        rows = await self._lane.fetch(_SELECT, (names, wanted, encode_text(after), limit))
        return tuple(map(_to_tenant, rows))

    async def counts(self) -> Mapping[DesiredState, int]:
        found: dict[str, int] = {state: count for state, count in await self._lane.fetch(_COUNT)}  # noqa: C416
        return {state: found.get(state.value, 0) for state in DesiredState}

    async def wait_for_change(self, seen: int, timeout: float) -> int:
        return await self._listener.wait(seen, timeout)


def _transpose(rows: list[tuple[object, ...]], width: int) -> tuple[Sequence[object], ...]:
    return tuple(list(column) for column in zip(*rows, strict=True)) if rows else ([],) * width


def _dump(decision: Decision) -> str:
    try:
        return encode_text(orjson.dumps(attrs.asdict(decision)).decode())
    except orjson.JSONEncodeError as error:
        raise UnserializableRecord(f"{decision} cannot be stored: use only text that UTF-8 can encode") from error


def _to_tenant(row: Row) -> DesiredTenant:
    tenant, alias, spec, revision, state, decision, tries, due_in, changed_at, *_ = row
    return DesiredTenant(
        tenant=decode_text(tenant),
        alias=decode_text(alias),
        spec=bytes(spec),
        revision=revision,
        state=DesiredState(state),
        decision=None if decision is None else Decision(**orjson.loads(decode_text(decision))),
        tries=tries,
        due_in=due_in,
        changed_at=changed_at,
    )
