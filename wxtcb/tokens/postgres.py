"""PostgresStore: the token store for several hosts, on PostgreSQL (14 or later), also behind a connection pooler.

Each platform is one row of the table `wxtcb_tokens`, which the first use creates. Each change sends a notification on
the channel `wxtcb_tokens` with the appid, and nothing else. Each change also deletes the rows of other platforms whose
last change was more than 24 hours ago, so that tokens and tickets do not outlive their platform. By then the token
(2 hours) and the ticket (12 hours) in it have expired too.

No operation needs a session of its own: each is a single statement, which is neither prepared nor part of a longer
transaction. So a pooler such as PgBouncer may assign a server connection to each transaction.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import os
import re
import secrets
import socket
import warnings
from collections.abc import AsyncGenerator, Mapping
from typing import Any, Final, Self

import attrs

from wxtcb.errors import InvalidArgument, TokenStoreError
from wxtcb.secret import Secret
from wxtcb.tokens.store_urls import PLAIN_OPTION, UNVERIFIED_OPTION, is_loopback, split_off_options
from wxtcb.tokens.stores import StoredDocument
from wxtcb.validation import validator

try:
    import psycopg
    from psycopg.conninfo import conninfo_to_dict, make_conninfo
    from psycopg.rows import tuple_row
    from psycopg_pool import AsyncConnectionPool
except ModuleNotFoundError as error:
    # Another module that psycopg itself misses is not fixed by installing psycopg.
    if (error.name or "").partition(".")[0] not in ("psycopg", "psycopg_pool"):
        raise
    message = "wxtcb.tokens.postgres needs psycopg: pip install 'wxtcb[postgres]'"
    raise ModuleNotFoundError(message, name="psycopg") from error

# `wait_for_change` has to return within 50 ms after a change, on a busy machine too.
POLL_INTERVAL: Final = 0.03
# A connection may die without a notice. Then a change is found by the check after this time.
MESSAGE_TIMEOUT: Final = 0.5
# Of one attempt, which may have to connect first. There are two, and both must end before callers give up, after 2 s.
REPLY_TIMEOUT: Final = 0.9
MAX_CONNECTIONS: Final = 8

SCHEMA: Final = """\
CREATE TABLE IF NOT EXISTS wxtcb_tokens (
    appid text PRIMARY KEY,
    document bytea NOT NULL,
    version text NOT NULL,
    changed_at timestamptz NOT NULL
);
"""
# Two processes that create a table at the same time fail, also with IF NOT EXISTS.
_CREATE_TABLE: Final = f"SELECT pg_advisory_xact_lock({int.from_bytes(b'wxtcbTS')}); {SCHEMA}"
_LOAD: Final = """
SELECT document, version, extract(epoch FROM clock_timestamp())::float8
FROM (VALUES (1)) AS one_row LEFT JOIN wxtcb_tokens ON appid = %(appid)s
"""
# Behind a pooler, notifications get lost. A pooler gives the client another number than that of the server's process.
_LISTEN: Final = "SELECT pg_backend_pid(); LISTEN wxtcb_tokens"
_VERSIONS: Final = "SELECT appid, version FROM wxtcb_tokens WHERE appid = ANY(%(appids)s)"
# The rows of other platforms are deleted after the write, and without waiting for locks: two processes could otherwise
# wait for each other. `synchronous_commit` is raised for this transaction only: the setting of a session would reach
# other clients of a pooler.
_WRITE: Final = """
WITH written AS ({change} RETURNING appid), deleted AS (
    DELETE FROM wxtcb_tokens WHERE appid IN (
        SELECT old.appid FROM wxtcb_tokens AS old
        WHERE EXISTS (SELECT FROM written) AND old.appid <> %(appid)s AND old.changed_at < now() - interval '24 hours'
        FOR UPDATE SKIP LOCKED
    )
)
SELECT pg_notify('wxtcb_tokens', appid), set_config('synchronous_commit',
    CASE current_setting('synchronous_commit') WHEN 'remote_apply' THEN 'remote_apply' ELSE 'on' END, true)
FROM written
"""
# A client that got no reply sends the statement again. If the new version is there, the first attempt succeeded.
_INSERT: Final = _WRITE.format(
    change="""
    INSERT INTO wxtcb_tokens AS stored (appid, document, version, changed_at)
    VALUES (%(appid)s, %(document)s, %(new)s, clock_timestamp())
    ON CONFLICT (appid) DO UPDATE SET changed_at = excluded.changed_at WHERE stored.version = excluded.version"""
)
_UPDATE: Final = _WRITE.format(
    change="""
    UPDATE wxtcb_tokens SET document = %(document)s, version = %(new)s, changed_at = clock_timestamp()
    WHERE appid = %(appid)s AND version IN (%(version)s, %(new)s)"""
)


@attrs.frozen
class _Failure:
    """A failed attempt in words of this module, because messages of psycopg and of the server may quote anything."""

    message: str
    permanent: bool = False
    may_retry: bool = False


_TIMED_OUT: Final = _Failure("cannot be reached: no reply in time", may_retry=True)
_FOREIGN_TABLE: Final = _Failure(
    "has a table wxtcb_tokens of another program, which was left unchanged; use another database or schema", True
)
_CONFLICT: Final = _Failure("cannot be accessed: transactions of other processes conflict", may_retry=True)
_MISSING_TABLE: Final = "42P01"
# By SQLSTATE. Waiting does not fix those that are permanent.
_FAILURES: Final = {
    "25006": _Failure("cannot be written: this server or database is read-only"),
    "40001": _CONFLICT,
    "40P01": _CONFLICT,
    "42501": _Failure(
        "cannot be accessed: the user needs the permissions SELECT, INSERT, UPDATE and DELETE on wxtcb_tokens", True
    ),
    "22P02": _FOREIGN_TABLE,
    "42703": _FOREIGN_TABLE,
    "42804": _FOREIGN_TABLE,
    "42809": _FOREIGN_TABLE,
    "42883": _FOREIGN_TABLE,
    "42P10": _FOREIGN_TABLE,
    "53100": _Failure("cannot be written: the disk of the server is full"),
    "53200": _Failure("cannot be accessed: the server has no memory left"),
    "55P03": _Failure("cannot be accessed: another transaction held a lock on wxtcb_tokens"),
    "57014": _Failure("cannot be accessed: the server cancelled the statement"),
}
# Failed connection attempts have no SQLSTATE. These are the English messages of libpq and of the server.
_CONNECTION_FAILURES: Final = tuple(
    (re.compile(pattern), failure)
    for pattern, failure in (
        (
            "password authentication failed|no password supplied",
            _Failure("cannot be accessed: user or password is wrong", permanent=True),
        ),
        (
            "no pg_hba.conf entry",
            _Failure("cannot be accessed: pg_hba.conf of the server does not permit this connection", permanent=True),
        ),
        (
            'FATAL: +(role|database) ".*" does not exist',
            _Failure("cannot be accessed: the user or the database does not exist", permanent=True),
        ),
        ("certificate", _Failure("cannot be reached: its TLS certificate is not trusted")),
        ("SSL", _Failure("cannot be reached: the TLS handshake failed")),
        ("too many (connections|clients)|connection slots", _Failure("cannot be reached: it has no free connection")),
        (
            "starting up|shutting down",
            _Failure("cannot be reached: the server is starting or stopping", may_retry=True),
        ),
        ("session is read-only", _Failure("cannot be reached: no server of the URL accepts writes", may_retry=True)),
        ("resolve host|translate host", _Failure("cannot be reached: the host name could not be resolved")),
        ("Connection refused", _Failure("cannot be reached: Connection refused", may_retry=True)),
        ("No such file", _Failure("cannot be reached: the server has no such socket", may_retry=True)),
        ("timeout", _TIMED_OUT),
    )
)
# Of the statement that creates the table.
_NO_PERMISSION_TO_CREATE: Final = ("42501", "3F000")
_TABLE_NEEDED: Final = _Failure(
    "has no table wxtcb_tokens, and the user may not create it: run PostgresStore.schema_sql() as the owner of the "
    "schema, and grant SELECT, INSERT, UPDATE and DELETE on the table",
    permanent=True,
)
_ADDRESS: Final = ("host", "hostaddr", "port", "user", "password", "dbname", "service")


def _describe_failure(error: Exception, *, was_connected: bool) -> _Failure:
    """Return why an attempt failed, without the message of *error*, which may quote the document or a password."""
    name, code = type(error).__name__, getattr(error, "sqlstate", None)
    if code is not None:
        # Of these classes are the errors of connections that the server has ended. Another one may succeed.
        unknown = _Failure(f"cannot be accessed: {name} ({code})", may_retry=code[:2] in ("08", "57"))
        return _FAILURES.get(code, unknown)
    if was_connected and isinstance(error, psycopg.OperationalError):
        return _Failure("cannot be reached: the connection was lost", may_retry=True)
    text = str(error)
    unknown = _Failure(f"cannot be reached: {name}", may_retry=True)
    return next((failure for pattern, failure in _CONNECTION_FAILURES if pattern.search(text)), unknown)


@attrs.define(eq=False)
class _Operation:
    """A statement and its result, which is not the result of a task: asyncio logs the repr of tasks in debug mode."""

    _statement: str = attrs.field(repr=False)
    _params: Mapping[str, object] | None = attrs.field(repr=False)
    rows: list[tuple[Any, ...]] = attrs.field(init=False, repr=False, factory=list)
    # None after a success.
    failure: _Failure | None = attrs.field(init=False, default=_TIMED_OUT)
    sqlstate: str | None = attrs.field(init=False, default=None)
    _connection: psycopg.AsyncConnection[Any] | None = attrs.field(init=False, repr=False, default=None)
    _is_executed: bool = attrs.field(init=False, default=False)
    _is_aborted: bool = attrs.field(init=False, default=False)

    async def run(self, opener: contextlib.AbstractAsyncContextManager[psycopg.AsyncConnection[Any]]) -> None:
        """Execute the statement on the connection of *opener*, in at most `REPLY_TIMEOUT` seconds."""
        self.failure, self.sqlstate = _TIMED_OUT, None
        self._connection, self._is_executed, self._is_aborted = None, False, False
        task = asyncio.create_task(self._execute(opener))
        try:
            await asyncio.wait([task], timeout=REPLY_TIMEOUT)
        finally:
            if not task.done():
                self._abort(task)
                # It ends at once.
                await asyncio.wait([task])

    async def _execute(self, opener: contextlib.AbstractAsyncContextManager[psycopg.AsyncConnection[Any]]) -> None:
        connection = None
        # No exception leaves the task: asyncio may log it, and it may quote the document.
        try:
            async with opener as connection:
                self._connection = connection
                try:
                    # A cursor with its own settings, because a caller's connection may return rows of another kind.
                    cursor = psycopg.AsyncCursor(connection, row_factory=tuple_row)
                    await cursor.execute(self._statement.encode(), self._params, prepare=False)
                    self.rows = await cursor.fetchall()
                finally:
                    self._is_executed = True
                    if self._is_aborted:
                        # It looks intact if the reply arrived just before.
                        connection.pgconn.finish()
        except Exception as error:
            self.failure = _describe_failure(error, was_connected=connection is not None)
            self.sqlstate = getattr(error, "sqlstate", None)
        else:
            self.failure = None

    def _abort(self, task: asyncio.Task[None]) -> None:
        self._is_aborted = True
        if self._connection is None:
            task.cancel()
        elif not self._is_executed:
            # No cancellation: psycopg would ask the server to cancel the statement, and wait for up to 10 seconds.
            _shut_down(self._connection)


def _shut_down(connection: psycopg.AsyncConnection[Any]) -> None:
    """End the communication of *connection*. Its socket stays open: its number must not be used for another one yet."""
    # The server may have ended it already.
    with contextlib.suppress(OSError, psycopg.Error):
        connected = socket.socket(fileno=connection.fileno())
        try:
            connected.shutdown(socket.SHUT_RDWR)
        finally:
            connected.detach()


@attrs.define(eq=False)
class _Listener:
    """A connection that receives notifications, or a pause of `POLL_INTERVAL` where none is possible."""

    connection: psycopg.AsyncConnection[Any] | None = attrs.field(init=False, repr=False, default=None)

    async def wait_for_message(self) -> None:
        if self.connection is None:
            await asyncio.sleep(POLL_INTERVAL)
            return
        try:
            async for _ in self.connection.notifies(timeout=MESSAGE_TIMEOUT, stop_after=1):
                pass
        except psycopg.Error:
            self.close()

    def close(self) -> None:
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.pgconn.finish()


@attrs.define(eq=False)
class _Client:
    """Connections and waiters of one event loop; neither outlives it."""

    # The connection string, or the caller's pool.
    _source: Secret | AsyncConnectionPool[Any] = attrs.field(repr=False)
    _masked_url: str
    _process_id: int = attrs.field(init=False, factory=os.getpid)
    idle: list[psycopg.AsyncConnection[Any]] = attrs.field(init=False, repr=False, factory=list)
    _slots: asyncio.Semaphore = attrs.field(init=False, factory=lambda: asyncio.Semaphore(MAX_CONNECTIONS))
    # Appid and version of each waiter. Its result is the error to raise.
    _waiters: dict[asyncio.Future[TokenStoreError | None], tuple[str, str]] = attrs.field(init=False, factory=dict)
    # Wakes the waiters; runs while there are any.
    _watcher: asyncio.Task[None] | None = attrs.field(init=False, default=None)
    _is_closed: bool = attrs.field(init=False, default=False)

    async def run(self, statement: str, params: Mapping[str, object]) -> list[tuple[Any, ...]]:
        """Return the rows of *statement*; send it again if it failed for a moment, and create a missing table."""
        await self._run(operation := _Operation(statement, params))
        if operation.sqlstate == _MISSING_TABLE:
            await self._run(creation := _Operation(_CREATE_TABLE, None))
            if creation.failure is None:
                await self._run(operation)
            elif creation.sqlstate in _NO_PERMISSION_TO_CREATE:
                operation.failure = _TABLE_NEEDED
            else:
                operation.failure = creation.failure
        if (failure := operation.failure) is not None:
            raise TokenStoreError(f"{self._masked_url} {failure.message}", permanent=failure.permanent)
        return operation.rows

    async def wait(self, appid: str, version: str) -> None:
        """Return when the stored version differs from *version*."""
        waiter = asyncio.get_running_loop().create_future()
        # Before the check, because the change may happen between the check and the wait.
        self._waiters[waiter] = appid, version
        try:
            # Usually this check suffices, and no connection is opened for the watcher.
            if (await self._versions([appid])).get(appid, "") != version:
                return
            if self._watcher is None and not waiter.done():
                self._watcher = asyncio.create_task(self._watch())
            error = await waiter
        finally:
            del self._waiters[waiter]
            if not self._waiters and self._watcher is not None:
                self._watcher.cancel()
                self._watcher = None
        if error is not None:
            raise error

    def close(self) -> None:
        """Close the connections that are idle now, and the others when their operations end; fail all waiters."""
        self._is_closed = True
        self._close_idle()
        self._wake_all("was closed", permanent=True)

    async def _run(self, operation: _Operation) -> None:
        # After a restart of the server, every connection of a pool is dead, and the pool notices at their next use.
        attempts = 2 if isinstance(self._source, Secret) else max(self._source.max_size, 1) + 1
        async with self._slots:
            deadline = asyncio.get_running_loop().time() + 2 * REPLY_TIMEOUT
            while attempts:
                await operation.run(self._connection())
                if operation.failure is None or not operation.failure.may_retry:
                    break
                if asyncio.get_running_loop().time() >= deadline:
                    break
                # After a conflict, another transaction has succeeded.
                if operation.failure is not _CONFLICT:
                    attempts -= 1
                    # Probably the others are dead, too.
                    self._close_idle()

    @contextlib.asynccontextmanager
    async def _connection(self) -> AsyncGenerator[psycopg.AsyncConnection[Any]]:
        if not isinstance(self._source, Secret):
            async with self._source.connection() as connection:
                # A single statement needs no BEGIN and no COMMIT. Neither call takes a round trip.
                was_autocommit = connection.autocommit
                await connection.set_autocommit(True)
                try:
                    yield connection
                finally:
                    if not connection.closed:
                        await connection.set_autocommit(was_autocommit)
            return
        connection = self.idle.pop() if self.idle else await self._connect()
        try:
            yield connection
        finally:
            if self._is_closed or connection.closed:
                connection.pgconn.finish()
            else:
                self.idle.append(connection)

    @contextlib.asynccontextmanager
    async def _listening_connection(self, listener: _Listener) -> AsyncGenerator[psycopg.AsyncConnection[Any]]:
        # The caller's pool does not count this connection: a waiter must not take one from reads and writes.
        listener.connection = await self._connect()
        yield listener.connection

    async def _connect(self) -> psycopg.AsyncConnection[Any]:
        options: dict[str, Any] = {"autocommit": True}
        if isinstance(self._source, Secret):
            return await psycopg.AsyncConnection.connect(self._source.reveal(), **options)
        # The settings of a pool may be functions, also asynchronous ones.
        settings: list[Any] = [self._source.conninfo, self._source.kwargs]
        for index, value in enumerate(settings):
            result = value() if callable(value) else value
            settings[index] = await result if inspect.isawaitable(result) else result
        kwargs: dict[str, Any] = (settings[1] or {}) | options
        connection: psycopg.AsyncConnection[Any]
        connection = await self._source.connection_class.connect(settings[0] or "", **kwargs)
        return connection

    async def _versions(self, appids: list[str]) -> dict[str, str]:
        return dict(await self.run(_VERSIONS, {"appids": appids}))

    async def _watch(self) -> None:
        """Wake waiters whose version has changed; if the store fails, all of them."""
        listener = _Listener()
        try:
            listen = _Operation(_LISTEN, None)
            await listen.run(self._listening_connection(listener))
            if listener.connection is not None and (
                listen.failure is not None or listen.rows != [(listener.connection.info.backend_pid,)]
            ):
                listener.close()
            while True:
                # First, because the change may have happened before LISTEN.
                versions = await self._versions(sorted({appid for appid, _ in self._waiters.values()}))
                for waiter, (appid, version) in self._waiters.items():
                    if versions.get(appid, "") != version and not waiter.done():
                        waiter.set_result(None)
                await listener.wait_for_message()
        except TokenStoreError as error:
            # The next waiter needs another watcher.
            self._watcher = None
            self._wake_all(error.reason, permanent=error.permanent)
        finally:
            listener.close()

    def _wake_all(self, reason: str, *, permanent: bool) -> None:
        for waiter in [each for each in self._waiters if not each.done()]:
            # One for each, because each gets a traceback of its own.
            waiter.set_result(TokenStoreError(reason, permanent=permanent))

    def _close_idle(self) -> None:
        connections, self.idle = self.idle, []
        # After a fork they are those of the parent.
        for connection in connections if self._process_id == os.getpid() else ():
            connection.pgconn.finish()


def _check_pool(_: str, pool: object) -> None:
    if not isinstance(pool, AsyncConnectionPool | Secret):
        name = f"{type(pool).__module__}.{type(pool).__qualname__}"
        raise InvalidArgument(f"PostgresStore: pool must be a psycopg_pool.AsyncConnectionPool, not {name}")


@attrs.define(eq=False)
class PostgresStore:
    """A token store in PostgreSQL, for processes on several hosts that use the same database and schema.

    *pool* is a `psycopg_pool.AsyncConnectionPool` with any settings, which is open. The caller owns it; the store never
    closes it, and does not check whether its connections are encrypted. `PostgresStore.from_url` creates a store with
    connections of its own. Every failure is a `TokenStoreError`.

    While a task is in `wait_for_change`, the store has one more connection, which receives notifications. If that is
    not possible, or if a pooler is between, the store polls every 30 ms instead. A write is on the server's disk when
    `compare_and_set` returns, also if the default of the database is another one (`synchronous_commit`).

    The first operation creates the table `wxtcb_tokens` if the user may do that. Otherwise run `schema_sql` as the
    owner of the schema, and grant SELECT, INSERT, UPDATE and DELETE on the table.
    """

    # The connection string, or the caller's pool.
    _source: AsyncConnectionPool[Any] | Secret = attrs.field(repr=False, alias="pool", validator=validator(_check_pool))
    # One for each event loop, because connections do not outlive their loop.
    _clients: dict[asyncio.AbstractEventLoop, _Client] = attrs.field(init=False, repr=False, factory=dict)

    @property
    def masked_url(self) -> str:
        """The URL of the server, without user and password."""
        return _mask(self._source)

    @classmethod
    def from_url(cls, url: str | Secret, *, allow_plain: bool = False, allow_unverified: bool = False) -> Self:
        """Create a store for a ``postgresql://`` or ``postgres://`` URL of libpq; nothing is connected yet.

        Each operation is tried at most twice, and waits 0.9 seconds for a connection and a reply. At most 8
        connections are open, and one more for waiters. They are closed by `aclose`; later use connects again. Of
        several hosts, the one that accepts writes is used, unless the URL has ``target_session_attrs``.

        - `allow_plain`, or ``?wxtcb_plain=1``, permits a connection to another machine that may be unencrypted: the
          default of libpq. Everyone on the network can then read, and replace, token and ticket.
        - `allow_unverified`, or ``?wxtcb_unverified=1``, permits ``sslmode=require`` and ``sslmode=verify-ca``.
          Everyone who can redirect connections can then do the same.

        Raises `InvalidArgument` for an invalid URL, or for one that needs one of these options, without quoting user
        and password.
        """
        url, options = split_off_options(Secret.of(url))
        params = _parse(url)
        server, sslmode = _mask_params(params), _ssl_mode(params)
        if "," in str(params.get("host") or params.get("hostaddr") or ""):
            # A server that does not answer would otherwise be the first one of every attempt.
            params = {"target_session_attrs": "read-write", "load_balance_hosts": "random"} | params
        # The texts of an SQL_ASCII database would otherwise be bytes.
        conninfo = Secret(make_conninfo("", **{"client_encoding": "UTF8", **params}))
        is_protected = sslmode == "verify-full" or _is_local(params)
        # The frame is part of the traceback.
        del params
        if not is_protected and sslmode in ("require", "verify-ca"):
            if not (allow_unverified or UNVERIFIED_OPTION in options):
                raise InvalidArgument(
                    f"{server} would be used without verifying its certificate and host name, so another server could "
                    "take its place; use sslmode=verify-full (sslrootcert=FILE names a CA of your own), or add "
                    "wxtcb_unverified=1 to the URL (PostgresStore.from_url: allow_unverified=True)"
                )
        elif not (is_protected or allow_plain or PLAIN_OPTION in options):
            raise InvalidArgument(
                f"the connection to {server} may be unencrypted, so everyone on the network could read token and "
                "ticket; add sslmode=verify-full to the URL (with sslrootcert=FILE for a CA of your own, or "
                "sslrootcert=system), or, if you trust the network, wxtcb_plain=1 "
                "(PostgresStore.from_url: allow_plain=True)"
            )
        return cls(conninfo)

    @staticmethod
    def schema_sql() -> str:
        """Return the statements that create the table, for a user who may not create it."""
        return SCHEMA

    async def load(self, component_appid: str) -> StoredDocument:
        [(document, version, store_time)] = await self._client().run(_LOAD, {"appid": component_appid})
        if document is None:
            return StoredDocument(None, "", float(store_time))
        return StoredDocument(bytes(document).decode(errors="surrogatepass"), version, float(store_time))

    async def compare_and_set(self, component_appid: str, document: str, *, version: str) -> bool:
        params = {
            "appid": component_appid,
            # Bytes, because a text of PostgreSQL contains no NUL. "surrogatepass" accepts any str.
            "document": document.encode(errors="surrogatepass"),
            "version": version,
            # Random and not a counter: after a loss of data no old version may occur again.
            "new": secrets.token_hex(16),
        }
        return len(await self._client().run(_UPDATE if version else _INSERT, params)) == 1

    async def wait_for_change(self, component_appid: str, *, version: str, timeout: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._client().wait(component_appid, version)

    async def aclose(self) -> None:
        """Close the connections that the store has opened in this event loop; a caller's pool stays open.

        `wait_for_change` raises `TokenStoreError`.
        """
        if (client := self._clients.pop(asyncio.get_running_loop(), None)) is not None:
            client.close()
        self._forget_ended_loops()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __del__(self) -> None:
        # The attribute is missing if arguments were.
        clients = [*getattr(self, "_clients", {}).values()]
        if any(client.idle for client in clients):
            warnings.warn(f"a PostgresStore was never closed: {self.masked_url}", ResourceWarning, stacklevel=2)
        for client in clients:
            client.close()

    def _client(self) -> _Client:
        loop = asyncio.get_running_loop()
        if (client := self._clients.get(loop)) is None:
            self._forget_ended_loops()
            client = self._clients[loop] = _Client(self._source, self.masked_url)
        return client

    def _forget_ended_loops(self) -> None:
        for loop in [each for each in self._clients if each.is_closed()]:
            self._clients.pop(loop).close()


def _parse(url: Secret) -> dict[str, Any]:
    """Return the parameters of a connection URL."""
    with contextlib.suppress(psycopg.Error, UnicodeError):
        if url.reveal().startswith(("postgresql://", "postgres://")):
            return conninfo_to_dict(url.reveal())
    # Outside the block: the exceptions quote parts of the URL.
    raise InvalidArgument(
        "the URL of a PostgreSQL store must be postgresql:// with [user:password@][host][:port][/database]; it must "
        "not have options that libpq does not know"
    )


def _default(name: str) -> str:
    """Return the value that libpq uses for a parameter without a value, from the environment or built in."""
    values = {each.keyword: each.val for each in psycopg.pq.Conninfo.get_defaults()}
    return (values.get(name.encode()) or b"").decode(errors="replace")


def _hosts(params: Mapping[str, Any]) -> list[str]:
    """Return the hosts of a connection string; an empty one is the default socket of this machine."""
    # The address is what counts: beside it, the host is only a name for the certificate.
    hosts = params.get("hostaddr") or params.get("host") or _default("hostaddr") or _default("host")
    return str(hosts).split(",")


def _is_local(params: Mapping[str, Any]) -> bool:
    # The file of services may contain any host.
    if params.get("service") or _default("service"):
        return False
    return all(host.startswith(("/", "@")) or not host or is_loopback(host) for host in _hosts(params))


def _ssl_mode(params: Mapping[str, Any]) -> str:
    # libpq, too, has another default for this one.
    by_root = "verify-full" if params.get("sslrootcert") == "system" else ""
    return str(params.get("sslmode") or by_root or _default("sslmode"))


def _mask(source: AsyncConnectionPool[Any] | Secret) -> str:
    """Return the URL of *source* without user and password."""
    if isinstance(source, Secret):
        return _mask_params(conninfo_to_dict(source.reveal()))
    if callable(source.conninfo) or callable(source.kwargs):
        return "postgresql://"
    shown = {name: value for name, value in (source.kwargs or {}).items() if name in _ADDRESS}
    with contextlib.suppress(psycopg.Error):
        return _mask_params(conninfo_to_dict(source.conninfo, **shown))
    return "postgresql://"


def _mask_params(params: Mapping[str, Any]) -> str:
    user = "***@" if params.get("user") or params.get("password") else ""
    hosts, ports = str(params.get("host") or params.get("hostaddr") or _default("host")), str(params.get("port") or "")
    database = str(params.get("dbname") or "")
    if hosts.startswith(("/", "@")) or not hosts:
        options = "&".join(f"{name}={value}" for name, value in (("host", hosts), ("port", ports)) if value)
        return f"postgresql://{user}/{database}?{options}".rstrip("?")
    names = [f"[{host}]" if ":" in host else host for host in hosts.split(",")]
    each_port = ports.split(",") if "," in ports else [ports] * len(names)
    netloc = ",".join(f"{name}:{port}" if port else name for name, port in zip(names, each_port, strict=False))
    return f"postgresql://{user}{netloc}/{database}"
