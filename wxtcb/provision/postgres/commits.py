"""Group commit: one ordered queue of commits and reads, in which waiting commits share one statement."""

from __future__ import annotations

import asyncio
import itertools
import secrets
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import attrs

from wxtcb.provision.journal import CommitResult, Committed, Deposed, JournalError, KeyTaken, Stale
from wxtcb.provision.postgres.connection import Lane, Row, UniqueConflict
from wxtcb.provision.postgres.schema import DURABLE, NOTIFY, decode_text, encode_key, encode_text, load_document
from wxtcb.provision.record import JournalEntry, TenantRecord
from wxtcb.provision.record_json import dump_entry

MAX_BATCH: Final = 500
# Attempts for a commit that another process overtakes between two of its statements.
MAX_RACES: Final = 20

# The versions, the epoch and the unique keys are checked by the statement that writes.
# `may` is false, and nothing is stored:
# - in a batch, if a commit claims a key that another one releases. Which of the two was requested first matters, so
#   they are executed one by one.
# - for the two records of a change of owner, if one of them is not the next version.
_COMMIT: Final = f"""\
WITH given AS MATERIALIZED (
    SELECT * FROM unnest($1::text[], $2::bigint[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[])
        AS g (tenant, version, env, open_alias, document, line, token)
), stored AS MATERIALIZED (
    SELECT t.tenant, t.version,
        nullif(t.env, g.env) AS released_env, nullif(t.open_alias, g.open_alias) AS released_alias
    FROM given g JOIN wxtcb_tenants t USING (tenant)
    /*lock*/
), fence AS MATERIALIZED (
    -- The lock makes the next election wait for the end of this commit.
    SELECT epoch FROM wxtcb_leader WHERE epoch = $8 FOR SHARE
), verdict AS MATERIALIZED (
    SELECT $8::bigint IS NULL OR EXISTS (SELECT FROM fence) AS elected, /*may*/ AS may
), inserted AS (
    INSERT INTO wxtcb_tenants (tenant, version, env, open_alias, document, history, bound_at, token)
    SELECT tenant, version, env, open_alias, document, line, CASE WHEN env IS NOT NULL THEN clock_timestamp() END, token
    FROM given, verdict WHERE version = 1 AND elected AND may
    /*conflict*/
    RETURNING tenant
), updated AS (
    UPDATE wxtcb_tenants t SET version = g.version, env = g.env, open_alias = g.open_alias, document = g.document,
        history = t.history || g.line, token = g.token,
        bound_at = CASE WHEN g.env = t.env THEN t.bound_at WHEN g.env IS NOT NULL THEN clock_timestamp() END
    FROM given g, verdict v WHERE t.tenant = g.tenant AND t.version = g.version - 1 AND v.elected AND v.may
    RETURNING t.tenant
), written AS MATERIALIZED (
    SELECT tenant FROM inserted UNION ALL SELECT tenant FROM updated
)
SELECT elected, may, ARRAY(SELECT tenant FROM written), {DURABLE},
    (SELECT {NOTIFY} FROM written LIMIT 1)
FROM verdict"""
_COMMIT_BATCH: Final = (
    _COMMIT.replace("/*lock*/", "")
    .replace("/*conflict*/", "ON CONFLICT (tenant) DO NOTHING")
    .replace(
        "/*may*/",
        "NOT EXISTS (SELECT FROM given WHERE env IN (SELECT released_env FROM stored WHERE released_env IS NOT NULL)"
        " OR open_alias IN (SELECT released_alias FROM stored WHERE released_alias IS NOT NULL))",
    )
)
_COMMIT_PAIR: Final = (
    _COMMIT.replace("/*lock*/", "ORDER BY t.tenant FOR UPDATE OF t")
    .replace("/*conflict*/", "")
    .replace(
        "/*may*/",
        "NOT EXISTS (SELECT FROM given g LEFT JOIN stored s USING (tenant)"
        " WHERE coalesce(s.version, 0) <> g.version - 1)",
    )
)
_READ_STORED: Final = "SELECT tenant, token, document FROM wxtcb_tenants WHERE tenant = ANY($1::text[])"
_READ_OWNER: Final = (
    "SELECT tenant FROM wxtcb_tenants WHERE (env = $1::text OR open_alias = $2::text) AND tenant <> $3::text"
    " ORDER BY tenant LIMIT 1"
)


@attrs.frozen
class RecordRow:
    """A record as values of a table."""

    record: TenantRecord
    tenant: str
    env: str | None
    open_alias: str | None
    document: str
    line: str
    token: str

    @classmethod
    def from_entry(cls, entry: JournalEntry, token: str) -> RecordRow:
        """Return the row of a record; raise `UnserializableRecord` if it cannot be stored."""
        record, history_entry = entry
        document, line = dump_entry(record, history_entry)
        env, alias = record.unique_keys()
        return cls(
            record,
            encode_key(record.tenant, "tenant"),
            None if env is None else encode_key(env, "environment"),
            None if alias is None else encode_key(alias, "alias"),
            document,
            encode_text(line),
            token,
        )

    def unique_keys(self) -> Iterable[tuple[str, str | None]]:
        """Return what no other commit of a batch may have."""
        return (key for key in (("tenant", self.tenant), ("env", self.env), ("alias", self.open_alias)) if key[1])


@attrs.define(eq=False)
class Call:
    """A call that waits in the queue: a commit of `rows` under `epoch`, or a read by `statement`."""

    future: asyncio.Future[Any]
    rows: tuple[RecordRow, ...] = ()
    epoch: int | None = None
    statement: str = ""
    arguments: Sequence[object] = ()

    def resolve(self, result: object) -> None:
        # The caller may have been cancelled in the meantime.
        if self.future.done():
            return
        if isinstance(result, Exception):
            self.future.set_exception(result)
        else:
            self.future.set_result(result)


@attrs.define(eq=False)
class CommitQueue:
    """Executes the calls of one journal object in their order, on one connection.

    `on_commit` is called after each statement that stored something.
    """

    _lane: Lane
    _on_commit: Callable[[], None]
    _calls: deque[Call] = attrs.field(init=False, factory=deque["Call"])
    # Runs while calls wait; the task belongs to this object, so a cancelled caller affects no other.
    _worker: asyncio.Task[None] | None = attrs.field(init=False, default=None)
    _closed: bool = attrs.field(init=False, default=False)
    _tokens: Callable[[], str] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        prefix, numbers = secrets.token_hex(8), itertools.count()
        self._tokens = lambda: f"{prefix}-{next(numbers)}"

    async def commit(self, *entries: JournalEntry, epoch: int | None) -> CommitResult:
        """Store the records of *entries* together; the last one is that of which keys may be in use."""
        rows = tuple(RecordRow.from_entry(entry, self._tokens()) for entry in entries)
        result: CommitResult = await self._enqueue(rows=rows, epoch=epoch)
        return result

    async def read(self, statement: str, *arguments: object) -> list[Row]:
        """Return the rows of a query that sees all commits requested before it."""
        rows: list[Row] = await self._enqueue(statement=statement, arguments=arguments)
        return rows

    async def aclose(self) -> None:
        """Refuse further calls, and wait until those that wait have ended."""
        self._closed = True
        if self._worker is not None:
            await asyncio.wait([self._worker])

    async def _enqueue(self, **call: Any) -> Any:
        self._lane.check_usable()
        if self._closed:
            raise JournalError("the journal was closed; open a new one")
        future = asyncio.get_running_loop().create_future()
        self._calls.append(Call(future, **call))
        if self._worker is None:
            self._worker = asyncio.create_task(self._run(), name="wxtcb-postgres-journal")
        return await future

    async def _run(self) -> None:
        batch: list[Call] = []
        try:
            while self._calls:
                batch = self._next_batch()
                await self._execute(batch)
        finally:
            # Only at the end of the loop are there calls left.
            for call in (*batch, *self._calls):
                call.resolve(JournalError("the journal was closed before the database answered; read it again"))
            self._calls.clear()
            self._worker = None

    def _next_batch(self) -> list[Call]:
        """Return the next call, and the commits after it that can share its statement."""
        first = self._calls.popleft()
        batch, keys = [first], {key for row in first.rows for key in row.unique_keys()}
        while len(first.rows) == 1 and self._calls and len(batch) < MAX_BATCH:
            call = self._calls[0]
            if len(call.rows) != 1 or call.epoch != first.epoch or not keys.isdisjoint(call.rows[0].unique_keys()):
                break
            keys.update(call.rows[0].unique_keys())
            batch.append(self._calls.popleft())
        return batch

    async def _execute(self, batch: list[Call]) -> None:
        try:
            if not batch[0].rows:
                batch[0].resolve(await self._lane.fetch(batch[0].statement, batch[0].arguments))
            elif len(batch) == 1 or not await self._commit_together(batch):
                for call in batch:
                    call.resolve(await self._commit_alone(call))
        except JournalError as error:
            # One error for each call: a traceback is added to it in each caller.
            for call in batch:
                call.resolve(type(error)(*error.args))
        except Exception as error:
            for call in batch:
                call.resolve(JournalError(f"the journal failed ({type(error).__name__}); read it again"))

    async def _commit_together(self, batch: list[Call]) -> bool:
        """Resolve all commits of a batch; return False, and store nothing, if they must be executed one by one."""
        rows = [call.rows[0] for call in batch]
        try:
            elected, may, written = await self._write(_COMMIT_BATCH, rows, batch[0].epoch)
        except UniqueConflict:
            return False
        if not elected or not may:
            return False
        rejected = [row for row in rows if row.tenant not in written]
        stored = (await self._read_stored(rejected))[1] if rejected else {}
        for call, row in zip(batch, rows, strict=True):
            call.resolve(Stale(stored[row.tenant]) if row.tenant in stored else Committed())
        return True

    async def _commit_alone(self, call: Call) -> CommitResult | Exception:
        rows, statement = call.rows, _COMMIT_BATCH if len(call.rows) == 1 else _COMMIT_PAIR
        for _ in range(MAX_RACES):
            try:
                elected, _may, written = await self._write(statement, rows, call.epoch)
            except UniqueConflict:
                elected, written = True, set[str]()
            if len(written) == len(rows):
                return Committed()
            kept, stored = await self._read_stored(rows)
            if len(kept) == len(rows):
                return Committed()
            if not elected:
                return Deposed(f"another process was elected (epoch {call.epoch} has ended); nothing was stored")
            # Versions are compared before keys: who has an old record must read it anew before it judges by its keys.
            for row in rows:
                record = stored.get(row.tenant)
                if row.tenant in stored and (record.version if record else 0) != row.record.version - 1:
                    return Stale(record)
            if owner := await self._lane.fetch(_READ_OWNER, (rows[-1].env, rows[-1].open_alias, rows[-1].tenant)):
                return KeyTaken(decode_text(owner[0][0]))
        return JournalError("other processes change the same records without end; nothing was stored")

    async def _write(self, statement: str, rows: Sequence[RecordRow], epoch: int | None) -> tuple[bool, bool, set[str]]:
        columns = (
            [row.tenant for row in rows],
            [row.record.version for row in rows],
            [row.env for row in rows],
            [row.open_alias for row in rows],
            [row.document for row in rows],
            [row.line for row in rows],
            [row.token for row in rows],
        )
        ((elected, may, written, *_),) = await self._lane.fetch(statement, (*columns, epoch))
        if written:
            self._on_commit()
        return elected, may, set(written)

    async def _read_stored(self, rows: Sequence[RecordRow]) -> tuple[set[str], dict[str, TenantRecord | None]]:
        """Return the tenants of *rows* whose stored row is that of *rows*, and the stored records of the others."""
        found = await self._lane.fetch(_READ_STORED, ([row.tenant for row in rows],))
        stored = {tenant: (token, document) for tenant, token, document in found}
        # The response to an earlier attempt was lost with its connection, and the row is stored.
        kept = {row.tenant for row in rows if stored.get(row.tenant, ("",))[0] == row.token}
        names = [row.tenant for row in rows if row.tenant not in kept]
        return kept, {name: load_document(name, stored[name][1]) if name in stored else None for name in names}
