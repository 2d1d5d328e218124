"""RedisStore: the token store for several hosts, on Redis (6 or later), Valkey, or a cluster of either.

Each platform is one hash, ``wxtcb:{appid}``, with the fields `document` and `version`. Each change publishes the new
version on the channel of the same name. An ACL that suffices: ``resetchannels ~wxtcb:* &wxtcb:* +@connection +eval
+evalsha +hget +hset +exists +time +expire +publish +subscribe``. Without the last two, waiters poll.

Each change lets the hash expire 24 hours later, so that tokens and tickets do not outlive the platform. By then the
token (2 hours) and the ticket (12 hours) in it have expired too, and the first process that needs a token finds an
empty store. A token of a `token_source` may last longer; processes then go on with the one in their memory.

A server that lost its memory is an empty store, too. No old version occurs again. The server must not evict keys
(`maxmemory-policy`): that loses a token.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import secrets
import socket
import ssl
from collections.abc import AsyncGenerator, Awaitable
from typing import Any, Final, Protocol, Self, TypeVar, cast

import attrs

from wxtcb.errors import InvalidArgument, TokenStoreError
from wxtcb.secret import Secret
from wxtcb.tokens.store_urls import PLAIN_OPTION, UNVERIFIED_OPTION, is_loopback, split_off_options
from wxtcb.tokens.stores import StoredDocument
from wxtcb.tokens.user_code import cancellation_count, raise_if_cancelled
from wxtcb.validation import check_string, validator

try:
    from redis.asyncio import BlockingConnectionPool, Redis, RedisCluster, SSLConnection
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff
    from redis.exceptions import (
        ConnectionError as RedisConnectionError,
        NoScriptError,
        ReadOnlyError,
        RedisError,
        TimeoutError as RedisTimeoutError,
    )
except ModuleNotFoundError as error:
    # Another module that redis itself misses is not fixed by installing redis.
    if (error.name or "").partition(".")[0] != "redis":
        raise
    raise ModuleNotFoundError("wxtcb.tokens.redis needs redis: pip install 'wxtcb[redis]'", name="redis") from error

T = TypeVar("T")

# `wait_for_change` has to return within 50 ms after a change, on a busy machine too.
POLL_INTERVAL: Final = 0.03
# A connection may die without a notice. Then a change is found by the check after this time.
MESSAGE_TIMEOUT: Final = 0.5
SUBSCRIBE_TIMEOUT: Final = 1.0
# For clients that the store creates. They try twice, and both attempts must end before callers give up, after 2 s.
REPLY_TIMEOUT: Final = 0.9
MAX_CONNECTIONS: Final = 8
# Seconds after the last change. Twice as long as a ticket is valid, and 12 times as long as a token.
KEY_TTL: Final = 86400

# The server's own messages are never shown: they quote the arguments of a rejected command, and one is the document.
_ERROR_MESSAGES: Final = {
    "WRONGTYPE": "holds data of another program, which was left unchanged; use another prefix (WRONGTYPE)",
    "WRONGPASS": "cannot be accessed: user or password is wrong (WRONGPASS)",
    "OOM": "cannot be written: Redis has no memory left (OOM)",
    "READONLY": "cannot be written: this Redis is a read-only replica (READONLY)",
    "NOPERM": "cannot be accessed: the Redis user lacks a permission (NOPERM)",
    "MOVED": "is on another node of a cluster: give RedisStore a redis.asyncio.RedisCluster (MOVED)",
    "CLUSTERDOWN": "cannot be accessed: the cluster is down (CLUSTERDOWN)",
    "LOADING": "cannot be accessed yet: Redis is starting (LOADING)",
    "MISCONF": "cannot be written: Redis cannot write to its disk (MISCONF)",
    "NOREPLICAS": "cannot be written: Redis has too few replicas (NOREPLICAS)",
}
# Waiting does not fix these.
_PERMANENT_CODES: Final = ("WRONGTYPE", "WRONGPASS", "NOPERM", "MOVED")
# redis-py strips the code from the message of these exceptions.
_CODES_BY_EXCEPTION: Final = {
    "AuthenticationError": "WRONGPASS",
    "BusyLoadingError": "LOADING",
    "ClusterDownError": "CLUSTERDOWN",
    "MovedError": "MOVED",
    "NoPermissionError": "NOPERM",
    "OutOfMemoryError": "OOM",
    "ReadOnlyError": "READONLY",
}


@attrs.frozen
class Script:
    """A Lua script, and the name under which the server caches it."""

    source: str
    sha1: str


def _create_script(source: str) -> Script:
    return Script(source, hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest())


# A script is atomic, and EVAL needs no WATCH, which would occupy a connection for the whole transaction.
# Without the EXISTS check a hash of another program would look like an empty store.
_READ_VERSION_LUA: Final = """
local version = redis.call('HGET', KEYS[1], 'version')
if not version and redis.call('EXISTS', KEYS[1]) == 1 then
  return redis.error_reply('WRONGTYPE a hash of another program')
end
version = version or ''
"""
GET_VERSION: Final = _create_script(f"{_READ_VERSION_LUA} return version")
LOAD: Final = _create_script(
    f"""{_READ_VERSION_LUA}
local now = redis.call('TIME')
return {{redis.call('HGET', KEYS[1], 'document'), version, now[1], now[2]}}
"""
)
# A client that got no reply sends the script again. If the new version is there, the first attempt succeeded.
# `pcall`, because a user without permission to publish or to let keys expire may still write.
COMPARE_AND_SET: Final = _create_script(
    f"""{_READ_VERSION_LUA}
if version == ARGV[2] then return 1 end
if version ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'document', ARGV[3], 'version', ARGV[2])
redis.pcall('EXPIRE', KEYS[1], {KEY_TTL})
redis.pcall('PUBLISH', KEYS[1], ARGV[2])
return 1
"""
)


# The parts of redis-py that the store uses. Its own annotations are incomplete in these places.
class _CommandClient(Protocol):
    def execute_command(self, *args: str | bytes, **options: object) -> Awaitable[object]: ...


class _Connection(Protocol):
    async def connect(self) -> None: ...
    async def send_command(self, *args: str, **options: object) -> None: ...
    async def read_response(self, **options: object) -> object: ...
    async def disconnect(self, **options: object) -> None: ...


class _ConnectionPool(Protocol):
    def make_connection(self) -> _Connection: ...


@attrs.define(eq=False)
class _OwnedClient:
    """A client that the store creates, a new one for each event loop: connections do not outlive their loop."""

    _url: Secret
    masked_url: str
    _client: Redis | None = attrs.field(init=False, repr=False, default=None)
    _closer: AsyncGenerator[None] | None = attrs.field(init=False, repr=False, default=None)
    _loop: asyncio.AbstractEventLoop | None = attrs.field(init=False, repr=False, default=None)

    async def get(self) -> Redis:
        loop = asyncio.get_running_loop()
        if self._client is None or self._loop is not loop:
            self._client, self._loop = _create_client(self._url), loop
            self._closer = _closing_with_loop(self._client)
            await anext(self._closer)
        return self._client

    async def aclose(self) -> None:
        closer, self._client, self._closer = self._closer, None, None
        # In another loop there is nothing to do: the client was closed with its own loop.
        if closer is not None and self._loop is asyncio.get_running_loop():
            await closer.aclose()


async def _closing_with_loop(client: Redis) -> AsyncGenerator[None]:
    """Close *client* when this generator is closed, which `asyncio.run` does at the end of the loop."""
    try:
        yield
    finally:
        await client.aclose()


def _check_client(_: str, client: object) -> None:
    if not isinstance(client, Redis | RedisCluster | _OwnedClient):
        name = f"{type(client).__module__}.{type(client).__qualname__}"
        raise InvalidArgument(
            f"RedisStore: client must be a redis.asyncio.Redis or a redis.asyncio.RedisCluster, not {name}"
        )


@attrs.define(eq=False)
class RedisStore:
    """A token store in Redis or Valkey, for processes on several hosts that use the same server and *prefix*.

    *client* is a `redis.asyncio.Redis` or `redis.asyncio.RedisCluster` with any settings. The caller owns it; the store
    never closes it, and does not check whether its connections are encrypted. `RedisStore.from_url` creates a store
    with a client of its own. Every failure is a `TokenStoreError`.

    `wait_for_change` opens a connection in addition to the client's pool. On a cluster it polls every 30 ms instead.
    """

    _client: Redis | RedisCluster | _OwnedClient = attrs.field(repr=False, validator=validator(_check_client))
    prefix: str = attrs.field(default="wxtcb", kw_only=True, validator=validator(check_string))

    @property
    def masked_url(self) -> str:
        """The URL of the server, without user and password."""
        if isinstance(self._client, _OwnedClient):
            return self._client.masked_url
        if isinstance(self._client, RedisCluster):
            return f"redis://{','.join(self._client.nodes_manager.startup_nodes)}"
        return _ServerAddress.of(self._client).masked_url

    @classmethod
    def from_url(
        cls, url: str | Secret, *, prefix: str = "wxtcb", allow_plain: bool = False, allow_unverified: bool = False
    ) -> Self:
        """Create a store for a ``redis://``, ``rediss://`` or ``unix://`` URL of redis-py; nothing is connected yet.

        Each operation is tried at most twice, and waits 0.9 seconds for a reply unless the URL has
        ``?socket_timeout=``. The client is closed by `aclose` or with its event loop; later use connects again.

        - `allow_plain`, or ``?wxtcb_plain=1``, permits ``redis://`` to another machine. Everyone on the network can
          then read, and replace, token and ticket.
        - `allow_unverified`, or ``?wxtcb_unverified=1``, permits ``rediss://`` with ``ssl_cert_reqs=none`` or
          ``ssl_check_hostname=false``. Everyone who can redirect connections can then do the same.

        Raises `InvalidArgument` for an invalid URL, or for one that needs one of these options, without quoting user
        and password.
        """
        url, options = split_off_options(Secret.of(url))
        # Only to check the URL: the client that is used is created in its event loop.
        server = _ServerAddress.of(_create_client(url))
        if not (allow_plain or PLAIN_OPTION in options or server.is_local or server.uses_tls):
            raise InvalidArgument(
                f"{server.masked_url} is not encrypted, so everyone on the network could read token and ticket; use "
                "rediss://, or, if you trust the network, add wxtcb_plain=1 to the URL "
                "(RedisStore.from_url: allow_plain=True)"
            )
        if not (allow_unverified or UNVERIFIED_OPTION in options or server.is_verified):
            raise InvalidArgument(
                f"{server.masked_url} would be used without verifying its certificate and host name, so another server "
                "could take its place; remove ssl_cert_reqs=none and ssl_check_hostname=false (ssl_ca_certs=FILE names "
                "a CA of your own), or add wxtcb_unverified=1 to the URL (RedisStore.from_url: allow_unverified=True)"
            )
        return cls(_OwnedClient(url, server.masked_url), prefix=prefix)

    async def load(self, component_appid: str) -> StoredDocument:
        reply = await self._run_script(component_appid, LOAD)
        document, version, seconds, micros = cast("tuple[bytes | None, bytes, bytes, bytes]", reply)
        store_time = int(seconds) + int(micros) / 1e6
        return StoredDocument(None if document is None else document.decode(), version.decode(), store_time)

    async def compare_and_set(self, component_appid: str, document: str, *, version: str) -> bool:
        return await self._run_script(component_appid, COMPARE_AND_SET, version, secrets.token_hex(16), document) == 1

    async def wait_for_change(self, component_appid: str, *, version: str, timeout: float) -> None:
        subscription = _ChangeSubscription()
        try:
            async with asyncio.timeout(timeout):
                # Usually the first check suffices, and no connection is opened for it.
                if not await self._has_version(component_appid, version):
                    return
                client = await self._get_client()
                if isinstance(client, Redis):
                    pool = cast("_ConnectionPool", client.connection_pool)
                    await subscription.subscribe(pool, self._key(component_appid))
                # Checked again after subscribing, because the change may have happened in between.
                while await self._has_version(component_appid, version):
                    await subscription.wait_for_message()
        except TimeoutError:
            pass
        finally:
            await subscription.close()

    async def aclose(self) -> None:
        """Close the client that the store has created; a caller's client stays open."""
        if isinstance(self._client, _OwnedClient):
            await self._client.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def _has_version(self, component_appid: str, version: str) -> bool:
        return await self._run_script(component_appid, GET_VERSION) == version.encode()

    async def _run_script(self, component_appid: str, script: Script, *args: str) -> object:
        key = self._key(component_appid)
        try:
            return await _await_cancellable(_eval_script(await self._get_client(), script, key, args))
        except RedisError as error:
            code, reason = _error_code(error), _describe_failure(error)
        # Outside the `except` block: the message of the original error may quote the document.
        message = _ERROR_MESSAGES.get(code, f"cannot be reached: {reason}")
        raise TokenStoreError(f"{key} in {self.masked_url} {message}", permanent=code in _PERMANENT_CODES)

    async def _get_client(self) -> Redis | RedisCluster:
        return await self._client.get() if isinstance(self._client, _OwnedClient) else self._client

    def _key(self, component_appid: str) -> str:
        # The braces are a hash tag: in a cluster, key and channel belong to the same slot.
        return f"{self.prefix}:{{{component_appid}}}"


@attrs.define(eq=False)
class _ChangeSubscription:
    """A subscription to a channel, or a pause of `POLL_INTERVAL` where none is possible."""

    _connection: _Connection | None = attrs.field(init=False, default=None)

    async def subscribe(self, pool: _ConnectionPool, channel: str) -> None:
        # The pool does not count this connection: a waiter must not take one from reads and writes.
        self._connection = pool.make_connection()
        try:
            async with asyncio.timeout(SUBSCRIBE_TIMEOUT):
                await _await_cancellable(_subscribe(self._connection, channel))
        except (RedisError, TimeoutError):
            await self.close()

    async def wait_for_message(self) -> None:
        if self._connection is None:
            await asyncio.sleep(POLL_INTERVAL)
            return
        try:
            await self._connection.read_response(timeout=MESSAGE_TIMEOUT, disconnect_on_error=False, push_request=True)
        except RedisError:
            await self.close()

    async def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            # `nowait`, because a server that is down would delay the waiter by the TCP timeout.
            await connection.disconnect(nowait=True)


async def _subscribe(connection: _Connection, channel: str) -> None:
    await connection.connect()
    await connection.send_command("SUBSCRIBE", channel, check_health=False)
    await connection.read_response(push_request=True)


async def _eval_script(client: _CommandClient, script: Script, key: str, args: tuple[str, ...]) -> object:
    """Run *script*; the server caches it at the first run, until it restarts or flushes its scripts."""
    # Encoded here, because a caller's client may have another encoding. Likewise for NEVER_DECODE.
    encoded = [each.encode() for each in args]
    try:
        return await client.execute_command("EVALSHA", script.sha1, "1", key, *encoded, NEVER_DECODE=True)
    except NoScriptError:
        pass
    return await client.execute_command("EVAL", script.source, "1", key, *encoded, NEVER_DECODE=True)


async def _await_cancellable(awaitable: Awaitable[T]) -> T:
    """Return the result of *awaitable*; raise CancelledError if a cancellation was requested meanwhile.

    redis-py sends under `asyncio.wait_for`, which loses a cancellation that arrives as the sending ends (Python 3.11;
    fixed in 3.12).
    """
    count_before = cancellation_count()
    result = await awaitable
    await raise_if_cancelled(count_before)
    return result


@attrs.frozen
class _ServerAddress:
    """Address of a client's server, and how the connection to it is protected."""

    masked_url: str
    is_local: bool
    uses_tls: bool
    is_verified: bool

    @classmethod
    def of(cls, client: Redis) -> _ServerAddress:
        """Return the address of the server of *client*."""
        # Of the client's options and not of the URL: redis-py also reads the host from the query of a URL.
        options = client.connection_pool.connection_kwargs
        user = "***@" if options.get("username") or options.get("password") else ""
        database = options.get("db") or 0
        if path := options.get("path"):
            return cls(f"unix://{user}{path}?db={database}", is_local=True, uses_tls=False, is_verified=True)
        uses_tls = issubclass(client.connection_pool.connection_class, SSLConnection)
        host, scheme = options.get("host", "localhost"), "rediss" if uses_tls else "redis"
        netloc = f"[{host}]" if ":" in host else host
        return cls(
            f"{scheme}://{user}{netloc}:{options.get('port', 6379)}/{database}",
            is_local=is_loopback(host),
            uses_tls=uses_tls,
            is_verified=options.get("ssl_cert_reqs", "required") not in ("none", ssl.CERT_NONE)
            and options.get("ssl_check_hostname", True) is True,
        )


def _create_client(url: Secret) -> Redis:
    """Return a client with settings that suit a store; options in *url* override them."""
    retry = Retry(NoBackoff(), 1, supported_errors=(RedisConnectionError, RedisTimeoutError, ReadOnlyError))
    # `Any`, because redis-py takes options of many types here.
    options: dict[str, Any] = {"socket_timeout": REPLY_TIMEOUT, "socket_connect_timeout": REPLY_TIMEOUT, "retry": retry}
    if not url.reveal().startswith("unix:"):
        options["socket_keepalive"] = True
    options |= {"max_connections": MAX_CONNECTIONS, "timeout": 2 * REPLY_TIMEOUT}
    with contextlib.suppress(AttributeError, RedisError, TypeError, ValueError):
        pool = BlockingConnectionPool.from_url(url.reveal(), **options)
        # An unknown option is an error only when a connection is created.
        cast("_ConnectionPool", pool).make_connection()
        return Redis.from_pool(pool)
    # Outside the block: the exceptions quote parts of the URL.
    raise InvalidArgument(
        "the URL of a Redis store must be redis:// or rediss:// with [user:password@]host[:port][/database], or "
        "unix:// with the path of a socket; it must not have options that redis-py does not know"
    )


def _describe_failure(error: RedisError) -> str:
    """Return why the server cannot be reached, without the message of *error*, which may quote the document."""
    match error.__cause__ or error.__context__:
        case ssl.SSLCertVerificationError():
            return "its TLS certificate is not trusted"
        case ssl.SSLError():
            return "the TLS handshake failed"
        case socket.gaierror():
            return "the host name could not be resolved"
        case TimeoutError() | RedisTimeoutError():
            return "no reply in time"
        # The text of the system for this number; that of the exception may contain anything.
        case OSError(errno=int(number)):
            return os.strerror(number)
        case _:
            return type(error).__name__


def _error_code(error: RedisError) -> str:
    """Return the code of the server's error; for a failed connection attempt it is in the cause of *error*."""
    names = [type(each).__name__ for each in (error, error.__cause__) if each is not None]
    codes = [_CODES_BY_EXCEPTION[name] for name in names if name in _CODES_BY_EXCEPTION]
    return next(iter(codes), None) or next((code for code in _ERROR_MESSAGES if code in str(error)), "")
