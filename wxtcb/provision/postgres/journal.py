"""PostgresJournal: the journal for any number of processes on any number of hosts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, Self

import attrs

from wxtcb._concurrency.tasks import cooperative_iter
from wxtcb.errors import InvalidArgument
from wxtcb.provision.journal import CommitResult, JournalError
from wxtcb.provision.postgres.commits import CommitQueue
from wxtcb.provision.postgres.connection import Database, Lane, Row, parse_conninfo
from wxtcb.provision.postgres.desired import PostgresDesired
from wxtcb.provision.postgres.election import PostgresElection
from wxtcb.provision.postgres.notifications import ChangeListener
from wxtcb.provision.postgres.schema import (
    DURABLE,
    FORMAT,
    check_schema_name,
    decode_text,
    encode_names,
    encode_text,
    load_document,
)
from wxtcb.provision.record import Binding, HistoryEntry, JournalEntry, JournalIdentity, TenantRecord
from wxtcb.secret import Secret
from wxtcb.validation import hide_arguments_in_traceback

__all__ = ["PostgresJournal"]

_BIND: Final = f"""\
INSERT INTO wxtcb_meta AS m (only_row, format, component_appid, on_loopback, namespace)
VALUES (true, {FORMAT}, $1::text, $2::boolean, $3::text)
ON CONFLICT (only_row) DO UPDATE SET component_appid = coalesce(m.component_appid, excluded.component_appid),
    on_loopback = coalesce(m.on_loopback, excluded.on_loopback), namespace = coalesce(m.namespace, excluded.namespace)
RETURNING component_appid, on_loopback, namespace, {DURABLE}"""
_READ_IDENTITY: Final = (
    "SELECT component_appid, on_loopback, namespace FROM wxtcb_meta WHERE component_appid IS NOT NULL"
)
_LOAD_ALL: Final = "SELECT tenant, document FROM wxtcb_tenants"
_LOAD: Final = f"{_LOAD_ALL} WHERE tenant = ANY($1::text[]) OR open_alias = ANY($2::text[]) OR env = ANY($3::text[])"
# The age is by one clock, that of the database: the clocks of the hosts do not matter.
_BINDINGS: Final = (
    "SELECT env, tenant, extract(epoch FROM clock_timestamp() - bound_at)::float8 FROM wxtcb_tenants"
    " WHERE env IS NOT NULL"
)
_HISTORY: Final = "SELECT tenant, history FROM wxtcb_tenants WHERE tenant = ANY($1::text[])"

DESIRED_CONNECTIONS: Final = 4


@hide_arguments_in_traceback
@attrs.define(eq=False, init=False, repr=False)
class PostgresJournal:
    """Journal in a PostgreSQL database, for any number of processes and hosts. Use it with ``async with``.

    *conninfo* is a URL such as ``postgresql://user:password@host/database``, or a connection string of libpq; the
    server must be PostgreSQL 14 or later. *schema* is the PostgreSQL schema of the tables: each platform needs a
    database or a schema of its own. The first call creates the tables if they are missing; if the role may not do that,
    run the script of `schema_sql` first.

    Calls wait up to *timeout* seconds for a database that restarts or fails over. A statement whose connection is lost
    is executed again, and recognizes what it has stored. Afterwards, and for any other failure, they raise
    `JournalError`; whether the change was stored is then unknown, and a later call can continue. Commits survive a
    crash of the server; the default of `synchronous_commit` does not matter.

    The object belongs to the event loop of its first call, and uses at most seven connections: one for records, four
    for the desired state, one for the election and one for notifications. They pass a pooler in transaction mode, but
    notifications do not: then changes of other processes are noticed only by polling, and a fail-over behind the pooler
    only by a new connection. A fail-over is noticed if the role may execute `pg_control_system`.
    """

    desired: PostgresDesired
    election: PostgresElection
    _database: Database
    _queue: CommitQueue
    _listener: ChangeListener

    def __init__(self, conninfo: str | Secret, *, schema: str = "public", timeout: float = 30.0) -> None:
        check_schema_name(schema)
        if not timeout > 0:
            raise InvalidArgument(f"timeout must be a positive number of seconds, not {timeout!r}")
        self._database = Database(parse_conninfo(conninfo), schema, timeout)
        self._listener = ChangeListener(self._database)
        self._queue = CommitQueue(Lane(self._database), self._listener.add)
        self.desired = PostgresDesired(Lane(self._database, DESIRED_CONNECTIONS), schema, self._listener)
        # A lane of its own: a submission that waits for a lock must not delay the renewal of the lease.
        self.election = PostgresElection(Lane(self._database), self._listener.add)

    def __repr__(self) -> str:
        return f"PostgresJournal(schema={self._database.schema!r})"

    @property
    def schema(self) -> str:
        """PostgreSQL schema of the tables."""
        return self._database.schema

    @property
    def durable(self) -> bool:
        return True

    @property
    def wait(self) -> None:
        return None

    @property
    def rolled_back_at(self) -> float | None:
        return self._database.rolled_back_at

    async def bind_identity(self, identity: JournalIdentity | None = None) -> JournalIdentity:
        if identity is None:
            rows = await self._queue.read(_READ_IDENTITY)
        else:
            appid, namespace = encode_text(identity.component_appid), encode_text(identity.namespace)
            rows = await self._queue.read(_READ_IDENTITY)
            rows = rows or await self._queue.read(_BIND, appid, identity.on_loopback, namespace)
        if not rows:
            raise JournalError("the journal is new: run `wxtcb init`, or open a Provisioner with it first")
        appid, on_loopback, namespace, *_ = rows[0]
        return JournalIdentity(
            component_appid=decode_text(appid), on_loopback=on_loopback, namespace=decode_text(namespace)
        )

    async def load(
        self, tenants: Iterable[str] | None = None, *, aliases: Iterable[str] = (), envs: Iterable[str] = ()
    ) -> Mapping[str, TenantRecord]:
        if tenants is None:
            rows = await self._queue.read(_LOAD_ALL)
        else:
            names = encode_names(tenants), encode_names(alias.lower() for alias in aliases), encode_names(envs)
            rows = await self._queue.read(_LOAD, *names) if any(names) else list[Row]()
        return {decode_text(row[0]): load_document(*row) async for row in cooperative_iter(rows)}

    async def bindings(self, now: float) -> Mapping[str, Binding]:
        rows = await self._queue.read(_BINDINGS)
        return {decode_text(env): Binding(decode_text(tenant), now - age) for env, tenant, age in rows}

    async def history(self, tenants: Iterable[str]) -> Mapping[str, tuple[HistoryEntry, ...]]:
        rows = await self._queue.read(_HISTORY, encode_names(tenants))
        return {decode_text(tenant): HistoryEntry.parse_lines(decode_text(lines)) for tenant, lines in rows}

    async def commit(
        self,
        record: TenantRecord,
        entry: HistoryEntry,
        previous_owner: JournalEntry | None = None,
        *,
        epoch: int | None = None,
    ) -> CommitResult:
        """Store *record* (`Journal.commit`); it may be stored even if the call is cancelled: load it and compare."""
        released = () if previous_owner is None else (previous_owner,)
        return await self._queue.commit(*released, (record, entry), epoch=epoch)

    async def aclose(self) -> None:
        """Finish the pending commits and reads, and close the connections; later calls fail."""
        try:
            await self._queue.aclose()
        finally:
            await self._listener.aclose()
            await self._database.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __del__(self) -> None:
        # The attribute is missing if an argument was invalid.
        database: Database | None = getattr(self, "_database", None)
        if database is not None and database.is_open:
            database.abandon()
