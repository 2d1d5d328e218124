"""Connections to a PostgreSQL database: opened when needed, replaced when lost, and closed together."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
import warnings
from collections.abc import Sequence
from typing import Any, Final

import attrs

from wxtcb.errors import InvalidArgument
from wxtcb.provision.journal import JournalError
from wxtcb.provision.postgres import schema
from wxtcb.secret import Secret
from wxtcb.tokens.user_code import cancellation_count, raise_if_cancelled

try:
    import psycopg
    from psycopg import errors, pq
    from psycopg.conninfo import conninfo_to_dict, make_conninfo
except ModuleNotFoundError as error:
    # Another module that psycopg itself misses is not fixed by installing psycopg.
    if (error.name or "").partition(".")[0] != "psycopg":
        raise
    raise ModuleNotFoundError("PostgresJournal needs psycopg: pip install 'wxtcb[postgres]'", name="psycopg") from error

Row = tuple[Any, ...]
Connection = psycopg.AsyncConnection[Row]

FIRST_PAUSE: Final = 0.02
MAX_PAUSE: Final = 1.0
# A host that is gone sends no notice: the system's own limits are hours. libpq ignores them for a Unix socket.
_DEFAULTS: Final = {
    "application_name": "wxtcb",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "20000",
}
# The timeline changes with every fail-over and every restore to a point in time, the system with another cluster. Only
# a server that accepts writes has a present timeline.
_READ_CLUSTER: Final = (
    "SELECT CASE WHEN NOT pg_is_in_recovery() THEN substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8) END,"
    " (SELECT system_identifier::text FROM pg_control_system())"
)
_READ_META: Final = (
    "SELECT format, timeline, system, extract(epoch FROM clock_timestamp() - rolled_back_at)::float8 FROM wxtcb_meta"
)
# Where none was stored yet, earlier processes could not read it, and nothing is known to be lost.
_STORE_META: Final = (
    "INSERT INTO wxtcb_meta AS m (only_row, format, timeline, system) VALUES (true, $1, $2, $3)"
    " ON CONFLICT (only_row) DO UPDATE SET timeline = excluded.timeline, system = excluded.system, rolled_back_at ="
    " CASE WHEN m.timeline IS NULL THEN m.rolled_back_at ELSE clock_timestamp() END"
    " WHERE (m.timeline, m.system) IS DISTINCT FROM (excluded.timeline, excluded.system)"
)


@attrs.frozen
class Failure:
    """Failed attempt: its error, and whether another attempt may succeed.

    `rejected`: a server that accepts connections has rejected this one, unless it has started only since then.
    """

    error: JournalError
    transient: bool
    sqlstate: str | None = None
    constraint: str | None = None
    rejected: bool = False


class UniqueConflict(JournalError):
    """A statement would have stored a key that another row has; nothing is stored."""


def parse_conninfo(conninfo: str | Secret) -> Secret:
    """Return a URL or connection string of libpq with wxtcb's defaults; raise `InvalidArgument` without quoting it."""
    given = conninfo.reveal() if isinstance(conninfo, Secret) else str(conninfo)
    options: dict[str, Any] = {"host": "@"}
    # The message quotes a part of the URL, which may be the password. Raised below, without it as context.
    with contextlib.suppress(psycopg.Error):
        options = conninfo_to_dict(given)
    # An "@" in a password that is not encoded leaves the rest of the password in the name of the host.
    if "@" not in str(options.get("host")):
        return Secret(make_conninfo(**{**_DEFAULTS, **options}))
    # Otherwise the frame would hold the URL.
    del conninfo, given, options
    raise InvalidArgument(
        "the PostgreSQL URL is invalid: expected postgresql://USER:PASSWORD@HOST:PORT/DATABASE?OPTION=VALUE, with "
        "special characters percent-encoded, or a connection string of libpq"
    )


@attrs.define(eq=False)
class Database:
    """A database, and the connections of one event loop to it.

    `timeout` is the number of seconds that a statement may wait for the database, over all attempts.
    """

    _conninfo: Secret
    schema: str
    timeout: float
    # By `time.monotonic`: when the database began to go on from an older copy.
    rolled_back_at: float | None = attrs.field(init=False, default=None)
    _open: set[Connection] = attrs.field(init=False, factory=set["Connection"])
    _loop: asyncio.AbstractEventLoop | None = attrs.field(init=False, default=None)
    _pid: int = attrs.field(init=False, default=0)
    connected_before: bool = attrs.field(init=False, default=False)
    _closed: bool = attrs.field(init=False, default=False)

    @property
    def is_open(self) -> bool:
        # In a forked child, to close the connections would close them for the parent, too.
        return self._pid == os.getpid() and any(not connection.closed for connection in self._open)

    @property
    def backends(self) -> set[int]:
        """The process numbers of the server's ends of the connections."""
        return {connection.info.backend_pid for connection in self._open if not connection.closed}

    def sql(self, statement: str) -> bytes:
        # psycopg takes a `str` only if it is a literal.
        return schema.qualify(statement, self.schema).encode()

    def check_usable(self) -> None:
        """Raise `JournalError` in another event loop, and after `aclose`."""
        if self._closed:
            raise JournalError("the journal was closed; open a new one")
        loop = asyncio.get_running_loop()
        # Detects a fork, too: the child inherits the object, but runs an event loop of its own.
        self._loop = self._loop or loop
        if self._loop is not loop:
            raise JournalError(
                "the journal was used in another event loop or before a fork; nothing was sent to the database. Open "
                "one PostgresJournal per process and loop"
            )

    async def connect(self) -> Connection:
        """Open a connection and check the tables; raise `psycopg.Error` or `JournalError`."""
        # A call that was under way when the journal was closed ends here.
        self.check_usable()
        failure: BaseException
        try:
            connection = await psycopg.AsyncConnection.connect(
                self._conninfo.reveal(),
                autocommit=True,
                # Prepared statements do not pass a pooler in transaction mode.
                prepare_threshold=None,
                cursor_factory=psycopg.AsyncRawCursor,
            )
        except BaseException as error:
            # The frames of psycopg hold the password.
            failure = error.with_traceback(None)
            failure.__context__ = failure.__cause__ = None
        else:
            return await self._introduce(connection)
        raise failure

    async def _introduce(self, connection: Connection) -> Connection:
        self._open.add(connection)
        self._pid = os.getpid()
        try:
            await self._check_tables(connection)
        except BaseException:
            await self.discard(connection)
            raise
        self.connected_before = True
        return connection

    async def discard(self, connection: Connection) -> None:
        self._open.discard(connection)
        await connection.close()

    async def _check_tables(self, connection: Connection) -> None:
        cluster = await self._read_cluster(connection)
        try:
            stored = await (await connection.execute(self.sql(_READ_META))).fetchone()
        except (errors.UndefinedTable, errors.InvalidSchemaName):
            await connection.execute(schema.creation_script(self.schema).encode())
            stored = None
        if stored is not None and stored[0] != schema.FORMAT:
            raise JournalError(
                f"the tables of the journal have format {stored[0]}, and this version of wxtcb needs format "
                f"{schema.FORMAT}: use the version of wxtcb that made them, or another database or schema"
            )
        if stored is None or (None not in cluster and stored[1:3] != cluster):
            await connection.execute(self.sql(_STORE_META), (schema.FORMAT, *cluster))
            stored = await (await connection.execute(self.sql(_READ_META))).fetchone()
        if stored is not None and stored[3] is not None:
            # By the clock of the database, so that all processes agree; only the later time counts.
            self.rolled_back_at = max(time.monotonic() - stored[3], self.rolled_back_at or float("-inf"))

    @staticmethod
    async def _read_cluster(connection: Connection) -> tuple[str | None, str | None]:
        try:
            ((timeline, system),) = await (await connection.execute(_READ_CLUSTER)).fetchall()
        except (errors.InsufficientPrivilege, errors.UndefinedFunction, errors.FeatureNotSupported):
            # Some hosted databases do not allow it. Then a fail-over goes unnoticed.
            return None, None
        return timeline, system

    async def describe(self, error: Exception) -> Failure:
        """Return the failure for an exception of an attempt; its message has no password and no stored value."""
        if isinstance(error, JournalError):
            return Failure(error, transient=False)
        sqlstate = getattr(error, "sqlstate", None)
        problem, advice, transient = _explain(error, sqlstate)
        rejected = False
        if transient and sqlstate is None and not self.connected_before:
            # A wrong password, or a database that does not exist, looks the same; then the server does answer.
            accepted = await asyncio.to_thread(pq.PGconn.ping, self._conninfo.reveal().encode())
            rejected = accepted not in (pq.Ping.REJECT, pq.Ping.NO_RESPONSE)
        message = f"the database of the journal failed: {problem}"
        text = f"{message}; {advice}" if advice else message
        diagnostics = getattr(error, "diag", None)
        constraint = getattr(diagnostics, "constraint_name", None)
        conflict = isinstance(error, errors.UniqueViolation)
        failed = UniqueConflict(text) if conflict else JournalError(text)
        return Failure(failed, transient, sqlstate, constraint, rejected)

    async def aclose(self) -> None:
        self._closed = True
        for connection in [*self._open]:
            await self.discard(connection)

    def abandon(self) -> None:
        """Close the sockets of a journal that was not closed, outside of any event loop."""
        for connection in self._open:
            # psycopg would warn of each of them, too.
            connection.pgconn.finish()
        warnings.warn("a PostgresJournal was never closed", ResourceWarning, stacklevel=3, source=self)


@attrs.define(eq=False)
class Lane:
    """At most `limit` connections of a database, for statements that must not wait for those of another lane."""

    _database: Database
    limit: int = 1
    _idle: list[Connection] = attrs.field(init=False, factory=list["Connection"])
    _slots: asyncio.Semaphore = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._slots = asyncio.Semaphore(self.limit)

    def check_usable(self) -> None:
        """Raise `JournalError` in another event loop, and after the journal was closed."""
        self._database.check_usable()

    async def ensure_tables(self) -> None:
        """Create the tables if they are missing, on a connection of its own."""
        self.check_usable()
        if not self._database.connected_before:
            await self.fetch("SELECT 1")

    async def fetch(
        self,
        statement: str,
        arguments: Sequence[object] = (),
        *,
        again: tuple[str, Sequence[object]] | None = None,
    ) -> list[Row]:
        """Execute one statement and return its rows.

        If the connection is lost or the server restarts, the statement (or *again*) is executed again, up to the
        timeout of the database. So it may run twice, and must allow for that. Raises `UniqueConflict` and
        `JournalError`.
        """
        self.check_usable()
        database = self._database
        time_of_loop = asyncio.get_running_loop().time
        deadline, pause, rejections = time_of_loop() + database.timeout, FIRST_PAUSE, 0
        cancellations = cancellation_count()
        async with self._slots:
            while True:
                result = await self._attempt(database.sql(statement), arguments, deadline)
                if not isinstance(result, Failure):
                    return result
                # If the connection is lost while psycopg cancels a statement, it raises that error instead.
                await raise_if_cancelled(cancellations)
                rejections += result.rejected
                if not result.transient or rejections > 1 or time_of_loop() + pause >= deadline:
                    break
                await asyncio.sleep(pause)
                statement, arguments = again or (statement, arguments)
                pause = min(pause * 2, MAX_PAUSE)
        # Outside of any `except`: the cause could hold values of the statement.
        raise result.error

    async def _attempt(self, sql: bytes, arguments: Sequence[object], deadline: float) -> list[Row] | Failure:
        connection: Connection | None = None
        failed: Exception
        try:
            async with asyncio.timeout_at(deadline):
                connection = self._idle.pop() if self._idle else await self._database.connect()
                cursor = await connection.execute(sql, arguments)
                return await cursor.fetchall() if cursor.description else []
        except (psycopg.Error, JournalError, TimeoutError, UnicodeEncodeError) as error:
            failed = error
        finally:
            if connection is not None:
                await self._give_back(connection)
        return await self._database.describe(failed)

    async def _give_back(self, connection: Connection) -> None:
        # A cancelled statement leaves the connection idle, or broken.
        if not connection.closed and connection.info.transaction_status is pq.TransactionStatus.IDLE:
            self._idle.append(connection)
        else:
            await self._database.discard(connection)


def _explain(error: Exception, sqlstate: str | None) -> tuple[str, str, bool]:
    """Return what an error means, what to do, and whether another attempt may succeed."""
    if isinstance(error, TimeoutError):
        return "it did not answer in time", "check whether it is overloaded or a lock is held", False
    # The message of the server without its details, which quote values; that of libpq has no password.
    message = getattr(getattr(error, "diag", None), "message_primary", None) or str(error)
    problem = " ".join(message.split()) if isinstance(error, psycopg.Error) else type(error).__name__
    match sqlstate:
        case None:
            return problem, "check the URL and whether the server is up", isinstance(error, psycopg.OperationalError)
        case "25006":
            return problem, "it is read-only, such as a standby: connect to the primary", False
        case "53100":
            return problem, "its disk is full: free space", False
        case "42501":
            return problem, "let a role that may do it run the script of `wxtcb init --sql`, and grant access", False
        case "40001" | "40P01" | "53300":
            return problem, "", True
        case _:
            # Connection exceptions, and a server that shuts down, was killed, or starts.
            return problem, "", sqlstate.startswith(("08", "57P"))
