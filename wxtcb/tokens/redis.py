"""The token store for many hosts: a Redis (6 or later) or Valkey server, or a cluster of them.

Each platform is one hash, ``wxtcb:{appid}``, with the fields `document` and `version`; what changes it publishes the
new version on the channel of that name. An ACL that suffices: ``resetchannels ~wxtcb:* &wxtcb:* +@connection +eval
+evalsha +hget +hset +exists +time +publish +subscribe``; without the last two, waiting is done by looking.

A server that loses its memory is a new beginning, at which no old version comes back. One that evicts keys
(`maxmemory-policy`) or falls back to an older copy of its data forgets or repeats what it was told.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator, Awaitable
from typing import Any, Final, Protocol, Self, TypeVar, cast

import attrs

from wxtcb.errors import InvalidArgument, TokenStoreError
from wxtcb.secret import Secret
from wxtcb.tokens.callbacks import cancellation_count, raise_if_cancelled
from wxtcb.tokens.scripts import COMPARE_AND_SET, GET_VERSION, LOAD, Script
from wxtcb.tokens.stores import StoredDocument
from wxtcb.validation import check_string, validator

try:
    from redis.asyncio import BlockingConnectionPool, Redis, RedisCluster
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff
    from redis.exceptions import ConnectionError as Unconnected
    from redis.exceptions import NoScriptError, ReadOnlyError, RedisError
    from redis.exceptions import TimeoutError as Unanswered
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] != "redis":
        raise
    raise ModuleNotFoundError("wxtcb.tokens.redis needs redis: pip install 'wxtcb[redis]'", name="redis") from None

T = TypeVar("T")

POLL_INTERVAL: Final = 0.03  # a change is to be seen within 50 ms, on a busy machine too
MESSAGE_TIMEOUT: Final = 0.5  # what is not heard, because a connection died in silence, is seen at the next look
SUBSCRIBE_TIMEOUT: Final = 1.0
REPLY_TIMEOUT: Final = 0.9  # of a client of our own, which asks once again: both together stay below STORE_PATIENCE
MAX_CONNECTIONS: Final = 8


# A server quotes the arguments of what it refuses, and the document is one of them: it is never quoted in turn.
_ERROR_MESSAGES: Final = {
    "WRONGTYPE": "holds something else than a token record, which was left as it is (WRONGTYPE)",
    "WRONGPASS": "cannot be reached: user or password are wrong (WRONGPASS)",
    "OOM": "cannot be kept: Redis has no memory left (OOM)",
    "READONLY": "cannot be kept: this Redis is a replica, which only reads (READONLY)",
    "NOPERM": "may not be used by this user of Redis (NOPERM)",
    "MOVED": "is kept by another node of a cluster: give RedisStore a redis.asyncio.RedisCluster (MOVED)",
    "CLUSTERDOWN": "has no node that keeps it: the cluster is down (CLUSTERDOWN)",
    "LOADING": "is not loaded yet: Redis is starting (LOADING)",
    "MISCONF": "cannot be kept: Redis cannot write its disk (MISCONF)",
    "NOREPLICAS": "cannot be kept: too few replicas of Redis follow (NOREPLICAS)",
}
_PERMANENT_CODES: Final = ("WRONGTYPE", "WRONGPASS", "NOPERM", "MOVED")  # no waiting mends these
_CODES_BY_EXCEPTION: Final = {
    "AuthenticationError": "WRONGPASS",
    "BusyLoadingError": "LOADING",
    "ClusterDownError": "CLUSTERDOWN",
    "MovedError": "MOVED",
    "NoPermissionError": "NOPERM",
    "OutOfMemoryError": "OOM",
    "ReadOnlyError": "READONLY",
}


class _CommandClient(Protocol):
    """What of a client is used."""

    def execute_command(self, *args: str | bytes, **options: object) -> Awaitable[object]: ...


class _Connection(Protocol):
    """What of a connection is used."""

    async def connect(self) -> None: ...
    async def send_command(self, *args: str, **options: object) -> None: ...
    async def read_response(self, **options: object) -> object: ...
    async def disconnect(self, **options: object) -> None: ...


class _ConnectionPool(Protocol):
    """What of a pool is used."""

    def make_connection(self) -> _Connection: ...


@attrs.define(eq=False)
class _OwnedClient:
    """A client for each event loop that comes along, one at a time: connections do not outlive their loop."""

    _url: Secret
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
        life, self._client, self._closer = self._closer, None, None
        if life is not None and self._loop is asyncio.get_running_loop():
            await life.aclose()


async def _closing_with_loop(client: Redis) -> AsyncGenerator[None]:
    """Close *client* with this generator: a loop that ends closes the generators begun in it."""
    try:
        yield
    finally:
        await client.aclose()


def _check_client(_: str, client: object) -> None:
    if not isinstance(client, Redis | RedisCluster | _OwnedClient):
        kind = f"{type(client).__module__}.{type(client).__qualname__}"
        raise InvalidArgument(
            f"RedisStore: client must be a redis.asyncio.Redis or a redis.asyncio.RedisCluster, not {kind}"
        )


@attrs.define(eq=False)
class RedisStore:
    """A token store in Redis or Valkey: for processes on several hosts, all given the same server and *prefix*.

    *client* is the caller's, a `redis.asyncio.Redis` or `redis.asyncio.RedisCluster` with any settings; the store never
    closes it. `RedisStore.from_url` makes a store with a client of its own. Every failure is a `TokenStoreError`.

    While `wait_for_change` waits it holds a connection beside the client's pool; a cluster is looked at every 30 ms instead.
    """

    _client: Redis | RedisCluster | _OwnedClient = attrs.field(repr=False, validator=validator(_check_client))
    prefix: str = attrs.field(default="wxtcb", kw_only=True, validator=validator(check_string))

    @classmethod
    def from_url(cls, url: str | Secret, *, prefix: str = "wxtcb") -> Self:
        """Make a store for ``redis://``, ``rediss://`` or ``unix://``, as redis-py reads them; nothing is opened yet.

        It asks at most twice, and waits 0.9 seconds for each answer unless the URL says otherwise
        (``?socket_timeout=``). Its client is its own, closed by `aclose` or with the event loop; used after that, the
        store connects again.
        """
        url = Secret.of(url)
        _create_client(url)
        return cls(_OwnedClient(url), prefix=prefix)

    async def load(self, component_appid: str) -> StoredDocument:
        reply = await self._run_script(component_appid, LOAD)
        document, version, seconds, micros = cast("tuple[bytes | None, bytes, bytes, bytes]", reply)
        now = int(seconds) + int(micros) / 1e6
        return StoredDocument(None if document is None else document.decode(), version.decode(), now)

    async def compare_and_set(self, component_appid: str, document: str, *, version: str) -> bool:
        return await self._run_script(component_appid, COMPARE_AND_SET, version, secrets.token_hex(16), document) == 1

    async def wait_for_change(self, component_appid: str, *, version: str, timeout: float) -> None:
        bell = _ChangeSubscription()
        try:
            async with asyncio.timeout(timeout):
                if not await self._has_version(component_appid, version):
                    return
                await self._subscribe_to_changes(bell, component_appid)
                while await self._has_version(component_appid, version):
                    await bell.wait_for_message()
        except TimeoutError:
            pass
        finally:
            await bell.close()

    async def aclose(self) -> None:
        """Close what the store has opened; a caller's client stays open."""
        if isinstance(self._client, _OwnedClient):
            await self._client.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def _has_version(self, component_appid: str, version: str) -> bool:
        return await self._run_script(component_appid, GET_VERSION) == version.encode()

    async def _subscribe_to_changes(self, subscription: _ChangeSubscription, component_appid: str) -> None:
        client = await self._get_client()
        if isinstance(client, Redis):
            await subscription.subscribe(cast("_ConnectionPool", client.connection_pool), self._key(component_appid))

    async def _run_script(self, component_appid: str, script: Script, *args: str) -> object:
        key = self._key(component_appid)
        try:
            return await _await_cancellable(_eval_script(await self._get_client(), script, key, args))
        except RedisError as error:
            code, reason = _error_code(error), type(error).__name__
        told = _ERROR_MESSAGES.get(code, f"cannot be reached: {reason}")
        raise TokenStoreError(f"{key} {told}", permanent=code in _PERMANENT_CODES)

    async def _get_client(self) -> Redis | RedisCluster:
        return await self._client.get() if isinstance(self._client, _OwnedClient) else self._client

    def _key(self, component_appid: str) -> str:
        return f"{self.prefix}:{{{component_appid}}}"


@attrs.define(eq=False)
class _ChangeSubscription:
    """Waits for a message; where none can be heard, for a moment.

    The connection is of the pool's making, but not out of the pool: whoever waits takes none from those who work.
    """

    _connection: _Connection | None = attrs.field(init=False, default=None)

    async def subscribe(self, pool: _ConnectionPool, channel: str) -> None:
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
        line, self._connection = self._connection, None
        if line is not None:
            await line.disconnect(nowait=True)


async def _subscribe(connection: _Connection, channel: str) -> None:
    await connection.connect()
    await connection.send_command("SUBSCRIBE", channel, check_health=False)
    await connection.read_response(push_request=True)


async def _eval_script(client: _CommandClient, script: Script, key: str, args: tuple[str, ...]) -> object:
    """Run *script*; the server keeps it from the first time on, until it restarts or forgets it."""
    encoded = [each.encode() for each in args]
    try:
        return await client.execute_command("EVALSHA", script.sha1, "1", key, *encoded, NEVER_DECODE=True)
    except NoScriptError:
        pass
    return await client.execute_command("EVAL", script.source, "1", key, *encoded, NEVER_DECODE=True)


async def _await_cancellable(awaitable: Awaitable[T]) -> T:
    """Await *answer*, and be cancelled if that was asked for meanwhile.

    redis-py sends under `asyncio.wait_for`, which in Python 3.11 loses a cancellation that comes as the sending ends.
    """
    requests = cancellation_count()
    result = await awaitable
    await raise_if_cancelled(requests)
    return result


def _create_client(url: Secret) -> Redis:
    """Make a client with settings that suit a store, over which those in *url* prevail."""
    pool = _create_pool(url)
    if pool is None:
        raise InvalidArgument(
            "the URL of a Redis store must be redis:// or rediss:// with [user:password@]host[:port][/database], or "
            "unix:// with the path of a socket, and hold no option that redis-py does not know"
        )
    return Redis.from_pool(pool)


def _create_pool(url: Secret) -> BlockingConnectionPool | None:
    """Make a pool, or None where *url* cannot be read: the errors of its parts quote them."""
    retry = Retry(NoBackoff(), 1, supported_errors=(Unconnected, Unanswered, ReadOnlyError))
    options: dict[str, Any] = {"socket_timeout": REPLY_TIMEOUT, "socket_connect_timeout": REPLY_TIMEOUT, "retry": retry}
    if not url.reveal().startswith("unix:"):
        options["socket_keepalive"] = True
    try:
        pool = BlockingConnectionPool.from_url(
            url.reveal(), max_connections=MAX_CONNECTIONS, timeout=2 * REPLY_TIMEOUT, **options
        )
        cast("_ConnectionPool", pool).make_connection()
    except (AttributeError, RedisError, TypeError, ValueError):
        return None
    return pool


def _error_code(error: RedisError) -> str:
    """Return the code of the server's refusal; while connecting, it is the cause of what is raised."""
    kinds = (type(each).__name__ for each in (error, error.__cause__) if each is not None)
    by_class = next((_CODES_BY_EXCEPTION[kind] for kind in kinds if kind in _CODES_BY_EXCEPTION), None)
    return by_class or next((code for code in _ERROR_MESSAGES if code in str(error)), "")
