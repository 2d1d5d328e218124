"""Tests of RedisStore against real servers, with clients of all kinds."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import itertools
import random
import reprlib
import socket
import ssl
import subprocess
import sys
from collections import Counter

import anyio
import pytest
import redis
from redis.asyncio import BlockingConnectionPool, Redis, RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

import wxtcb.tokens.redis as module
from wxtcb.errors import InvalidArgument, TokenStoreError
from wxtcb.tokens.redis import RedisStore
from wxtcb.tokens.state_repository import StateRepository

from .bounded_wait import LONG, finish
from .token_harness import APPID as HARNESS_APPID, CacheHarness
from .valkey_server import running_valkey, shared_valkey

APPID = "wx0123456789abcdef"
KEY = f"wxtcb:{{{APPID}}}"
ANSWER = module.REPLY_TIMEOUT


@pytest.fixture
def server():
    """Return the server that most tests share, empty."""
    server = shared_valkey()
    with redis.Redis.from_url(server.url) as client:
        client.flushall()
        client.script_flush()
    return server


@pytest.fixture
def own_server():
    """Return a server that a test may stop or kill."""
    with running_valkey() as server:
        yield server


@pytest.fixture
async def admin(server):
    """Return a plain client, for what the store does not do."""
    async with Redis.from_url(server.url, decode_responses=True) as client:
        yield client


@pytest.fixture
async def store(server):
    """Return a store with a client of its own."""
    async with RedisStore.from_url(server.url) as store:
        yield store


@pytest.fixture
async def other(server):
    """Return another store on the same server, as another host has it."""
    async with RedisStore.from_url(server.url) as store:
        yield store


async def write(store, document):
    """Write *document* over the stored one, and return its version."""
    assert await store.compare_and_set(APPID, document, version=(await store.load(APPID)).version)
    return (await store.load(APPID)).version


async def check_wakes(waiter, writer, version, document="new"):
    """Check that *waiter* wakes after a write by *writer*."""
    waiting = asyncio.create_task(waiter.wait_for_change(APPID, version=version, timeout=LONG))
    await asyncio.sleep(0.03)
    assert not waiting.done()
    assert await writer.compare_and_set(APPID, document, version=version)
    await finish(waiting)


async def wait_for_connections(admin, count, kind="normal"):
    """Wait until so many connections of that kind are open; an asyncio deadline could get lost in redis-py."""
    for _ in range(6000):
        if len(found := await admin.client_list(_type=kind)) == count:
            return
        await asyncio.sleep(0.01)
    raise AssertionError(found)


async def wait_for_subscribers(admin, count):
    """Wait until so many connections are subscribed."""
    await wait_for_connections(admin, count, "pubsub")


async def test_client_of_the_caller_stays_open(server):
    """Closing the store leaves the caller's client and its connections open."""
    async with Redis.from_url(server.url) as client:
        async with RedisStore(client) as store:
            await store.load(APPID)
        assert client.connection_pool._available_connections[0].is_connected


async def test_waiters_take_no_connection_from_the_pool(server, admin):
    """With a pool of one connection many tasks wait, and load and compare_and_set work."""
    pool = BlockingConnectionPool.from_url(server.url, max_connections=1, timeout=60)
    async with Redis.from_pool(pool) as client, asyncio.TaskGroup() as waiting:
        store = RedisStore(client)
        version = await write(store, "one")
        for _ in range(5):
            waiting.create_task(store.wait_for_change(APPID, version=version, timeout=LONG))
        await wait_for_subscribers(admin, 5)
        assert (await store.load(APPID)).version == version
        assert await store.compare_and_set(APPID, "two", version=version)


async def test_two_hundred_tasks_at_once(store, other):
    """More tasks than connections take turns, also on a client of the store."""
    version = await write(store, "one")
    waits = [other.wait_for_change(APPID, version=version, timeout=0.3) for _ in range(10)]
    stored = await asyncio.gather(*(store.load(APPID) for _ in range(200)), *waits)
    assert {each.document for each in stored[:200]} == {"one"}


async def test_concurrent_writes_lose_nothing(store, other):
    """Forty increments from two hosts, each repeated until it is stored, add up."""

    async def increment(store):
        while True:
            stored = await store.load(APPID)
            if await store.compare_and_set(APPID, str(int(stored.document) + 1), version=stored.version):
                return

    await write(store, "0")
    await asyncio.gather(*(increment(each) for _ in range(20) for each in (store, other)))
    assert (await store.load(APPID)).document == "40"


async def test_platforms_and_prefixes_are_separate(store, server):
    """Another appid, or another prefix on the same server, has a separate document."""
    await write(store, "one")
    async with RedisStore.from_url(server.url, prefix="staging") as staging:
        assert (await staging.load(APPID)).document is None
    assert (await store.load("wx1")).document is None
    assert not await store.compare_and_set("wx1", "no", version=(await store.load(APPID)).version)


async def test_store_from_a_url_works_in_successive_event_loops(server):
    """It creates a client for each loop, and another one after it was closed."""

    def run_once(store):
        async def use():
            async with store:
                return await write(store, "one")

        with asyncio.Runner() as runner:
            return runner.run(use())

    store = RedisStore.from_url(server.url)
    versions = [await asyncio.to_thread(run_once, store) for _ in range(2)]
    assert versions[0] != versions[1]
    await store.aclose()


async def test_closing_in_another_loop_does_nothing(server):
    """A client whose loop is gone is not awaited."""
    store = RedisStore.from_url(server.url)

    async def make():
        await store._get_client()

    await asyncio.to_thread(asyncio.run, make())
    await store.aclose()
    await write(store, "one")
    await store.aclose()


# What a listener would see


async def test_no_document_is_in_a_key_channel_or_message(store, admin):
    """Keys and channels have the appid, messages the version; only the hash has the document."""
    async with admin.pubsub(ignore_subscribe_messages=True) as listening:
        await listening.psubscribe("*")
        assert await listening.get_message(timeout=1) is None
        version = await write(store, "S3CRET")
        result = None
        while result is None:
            result = await listening.get_message(timeout=1)
    assert result == {"type": "pmessage", "pattern": "*", "channel": KEY, "data": version}
    assert await admin.keys("*") == [KEY]
    assert await admin.hgetall(KEY) == {"document": "S3CRET", "version": version}


async def test_repr_shows_neither_password_nor_client(server):
    """The repr of a store shows no secret."""
    store = RedisStore.from_url("redis://someone:S3CRET@127.0.0.1:1/0", prefix="staging")
    client = Redis(password="S3CRET")
    assert repr(store) == "RedisStore(prefix='staging')"
    assert "S3CRET" not in repr(RedisStore(client))


# Waiting


async def test_change_before_the_subscription_is_not_missed(store, other, monkeypatch):
    """After subscribing the waiter checks the version once more."""
    version = await write(store, "one")
    subscribe = module._subscribe

    async def subscribe_late(line, channel):
        assert await other.compare_and_set(APPID, "two", version=version)
        await subscribe(line, channel)

    monkeypatch.setattr(module, "_subscribe", subscribe_late)
    monkeypatch.setattr(module, "MESSAGE_TIMEOUT", LONG)
    await finish(store.wait_for_change(APPID, version=version, timeout=LONG))


async def test_message_wakes_a_waiter(store, other, admin, monkeypatch):
    """A waiter wakes although its next check is an hour away."""
    monkeypatch.setattr(module, "MESSAGE_TIMEOUT", LONG)
    version = await write(store, "one")
    waiting = asyncio.create_task(store.wait_for_change(APPID, version=version, timeout=LONG))
    await wait_for_subscribers(admin, 1)
    assert await other.compare_and_set(APPID, "two", version=version)
    await finish(waiting)


async def test_lost_message_is_found_by_the_next_check(store, admin, monkeypatch):
    """A change without a message is found by the next check."""
    monkeypatch.setattr(module, "MESSAGE_TIMEOUT", 0.05)
    version = await write(store, "one")
    waiting = asyncio.create_task(store.wait_for_change(APPID, version=version, timeout=LONG))
    await wait_for_subscribers(admin, 1)
    await admin.hset(KEY, "version", "by hand")
    await finish(waiting)


async def test_broken_subscription_is_replaced_by_polling(store, other, admin, monkeypatch):
    """A waiter whose connection breaks finds the next change."""
    monkeypatch.setattr(module, "MESSAGE_TIMEOUT", LONG)
    version = await write(store, "one")
    waiting = asyncio.create_task(store.wait_for_change(APPID, version=version, timeout=LONG))
    await wait_for_subscribers(admin, 1)
    await admin.client_kill_filter(_type="pubsub")
    assert await other.compare_and_set(APPID, "two", version=version)
    await finish(waiting)


async def test_failed_subscription_is_replaced_by_polling(store, other, monkeypatch):
    """A subscription that hangs is given up after a second, and the waiter polls."""

    async def never(line, channel):
        await asyncio.sleep(LONG)

    monkeypatch.setattr(module, "_subscribe", never)
    monkeypatch.setattr(module, "SUBSCRIBE_TIMEOUT", 0.01)
    await check_wakes(store, other, await write(store, "one"))


async def test_no_subscription_stays_open(store, other, admin):
    """The connection is closed after a change, a timeout or a cancellation."""
    version = await write(store, "one")
    await store.wait_for_change(APPID, version=version, timeout=0.03)
    cancelled = asyncio.create_task(store.wait_for_change(APPID, version=version, timeout=LONG))
    await wait_for_subscribers(admin, 1)
    cancelled.cancel()
    await asyncio.wait([cancelled])
    await check_wakes(store, other, version)
    await wait_for_subscribers(admin, 0)


# Rights and refusals

RIGHTS = "on >S3CRET resetchannels ~wxtcb:* +@connection +eval +evalsha +hget +hset +exists +time +expire"


async def set_user(admin, *rights):
    """Create the user `wxtcb`."""
    await admin.execute_command("ACL", "SETUSER", "wxtcb", "reset", *RIGHTS.split(), *rights)


def as_user(server, password="S3CRET"):
    """Return a store that logs in as that user."""
    return RedisStore.from_url(f"unix://wxtcb@{server.server.unix_socket_path}?password={password}")


@pytest.mark.parametrize(("rights", "subscriptions"), [(("&wxtcb:*", "+publish", "+subscribe"), 1), ((), 0)])
async def test_documented_permissions_suffice(server, admin, rights, subscriptions):
    """The permissions that the module names are enough; without those for the channel the waiter polls."""
    await set_user(admin, *rights)
    async with as_user(server) as store:
        version = await write(store, "one")
        waiting = asyncio.create_task(store.wait_for_change(APPID, version=version, timeout=LONG))
        await asyncio.sleep(0.05)
        await wait_for_subscribers(admin, subscriptions)
        assert await store.compare_and_set(APPID, "two", version=version)
        await finish(waiting)


async def test_user_without_permission_to_expire_keys_may_write(server, admin):
    """Then the key does not expire."""
    await set_user(admin, "-expire")
    async with as_user(server) as store:
        await write(store, "one")
    assert await admin.ttl(KEY) == -1


async def test_wrong_password_is_not_shown(server, admin):
    """The error has the code of the server and the key, but no password."""
    await set_user(admin)
    async with as_user(server, "WR0NG") as store:
        with pytest.raises(TokenStoreError, match=r"wxtcb:\{wx0123456789abcdef\} .*WRONGPASS") as caught:
            await store.load(APPID)
        assert caught.value.permanent
    assert "WR0NG" not in f"{caught.value!r}"


async def test_missing_permissions_are_named(server, admin):
    """A user without access to the keys gets NOPERM."""
    await set_user(admin, "resetkeys")
    async with as_user(server) as store:
        with pytest.raises(TokenStoreError, match="NOPERM") as caught:
            await store.load(APPID)
        assert caught.value.permanent


@pytest.mark.parametrize("foreign", ["SET", "HSET", "LPUSH"])
async def test_data_of_another_program_is_rejected_and_unchanged(store, admin, foreign):
    """All operations reject a value of another type, and a hash that is not a document."""
    await admin.execute_command(foreign, KEY, *(["field"] if foreign == "HSET" else []), "theirs")
    before = await admin.dump(KEY)
    for ask in (
        store.load(APPID),
        store.compare_and_set(APPID, "ours", version=""),
        store.wait_for_change(APPID, version="", timeout=1),
    ):
        with pytest.raises(TokenStoreError, match="another program") as caught:
            await ask
        assert caught.value.permanent
    assert await admin.dump(KEY) == before


async def test_server_without_memory_rejects_writes(store, admin):
    """A write fails with OOM; loads work, and writes work again later."""
    version = await write(store, "one")
    await admin.config_set("maxmemory", 1)
    try:
        with pytest.raises(TokenStoreError, match="no memory left"):
            await store.compare_and_set(APPID, "two", version=version)
        assert (await store.load(APPID)).document == "one"
    finally:
        await admin.config_set("maxmemory", 0)
    assert await store.compare_and_set(APPID, "two", version=version)


async def test_replica_rejects_writes(store, admin):
    """A write fails with READONLY and a load works; after a promotion writes work."""
    version = await write(store, "one")
    await admin.replicaof("127.0.0.1", 1)
    try:
        with pytest.raises(TokenStoreError, match="READONLY"):
            await store.compare_and_set(APPID, "two", version=version)
        assert (await store.load(APPID)).document == "one"
    finally:
        await admin.replicaof("NO", "ONE")
    assert await store.compare_and_set(APPID, "two", version=version)


async def test_forgotten_scripts_are_sent_again(store, admin):
    """A server that flushed its scripts during use gets them again."""
    version = ""
    for number in range(3):
        await admin.script_flush()
        assert await store.compare_and_set(APPID, str(number), version=version)
        await admin.script_flush()
        version = (await store.load(APPID)).version


def test_message_of_the_server_is_not_quoted():
    """A server without scripts quotes the first arguments; the error does not contain them."""

    async def refused(url):
        async with RedisStore.from_url(url) as store:
            with pytest.raises(TokenStoreError, match="cannot be reached: ResponseError") as caught:
                await store.compare_and_set(APPID, "S3CRET", version="")
            return caught.value

    with running_valkey(rename_command='EVALSHA ""') as server:
        error = asyncio.run(refused(server.url))
    assert "S3CRET" not in f"{error!r} {error.__cause__!r} {error.__context__!r}"


# Expiry


async def test_key_expires_a_day_after_each_change(store, admin):
    """A change begins the day anew; a read and a rejected change do not."""
    version = await write(store, "one")
    assert 86000 < await admin.ttl(KEY) <= 86400
    await admin.expire(KEY, 100)
    await store.load(APPID)
    assert not await store.compare_and_set(APPID, "no", version="another")
    assert await admin.ttl(KEY) <= 100
    assert await store.compare_and_set(APPID, "two", version=version)
    assert 86000 < await admin.ttl(KEY) <= 86400


async def test_expired_key_causes_one_fetch_by_all_processes(server, admin):
    """Valid tokens stay in use; when they are rejected, one process fetches, and the others find its token."""
    async with contextlib.AsyncExitStack() as stack:
        processes = [
            CacheHarness(
                store=await stack.enter_async_context(RedisStore.from_url(server.url)),
                seconds=0.01,
                owner=f"host:{number}",
                brand=f"T{number}",
            )
            for number in range(8)
        ]
        tokens = await asyncio.gather(*(process.token() for process in processes))
        await admin.pexpire(f"wxtcb:{{{HARNESS_APPID}}}", 1)
        while await admin.keys("*"):
            await asyncio.sleep(0.01)
        assert all(process.cache.cached() is not None for process in processes)
        assert sum(process.fetches for process in processes) == 1
        for process, token in zip(processes, tokens, strict=True):
            process.cache.invalidate(token, 42001)
        tokens = await asyncio.gather(*(process.token() for process in processes for _ in range(5)))
        assert len({token.value for token in tokens}) == 1
        assert sum(process.fetches for process in processes) == 2
        for process in processes:
            await process.cache.aclose()


# Servers that go away


async def test_client_works_when_the_server_is_back(own_server):
    """A stopped server is an error at once; without persistence it comes back empty, and no old version matches."""
    async with RedisStore.from_url(own_server.url) as store:
        version = await write(store, "one")
        own_server.kill()
        for ask in (
            store.load(APPID),
            store.compare_and_set(APPID, "", version=version),
            store.wait_for_change(APPID, version=version, timeout=LONG),
        ):
            with pytest.raises(TokenStoreError, match="cannot be reached"):
                await finish(ask)
        own_server.start()
        assert (await store.load(APPID)).document is None
        assert not await store.compare_and_set(APPID, "late", version=version)
        await write(store, "two")


@pytest.mark.parametrize(
    ("cause", "reason"),
    [
        (ConnectionRefusedError(errno.ECONNREFUSED, "S3CRET"), "Connection refused"),
        (socket.gaierror(-2, "S3CRET"), "the host name could not be resolved"),
        (ssl.SSLCertVerificationError(1, "S3CRET"), "its TLS certificate is not trusted"),
        (ssl.SSLError(1, "S3CRET"), "the TLS handshake failed"),
        (TimeoutError("S3CRET"), "no reply in time"),
        (ConnectionResetError("S3CRET"), "ConnectionError"),
        (None, "ConnectionError"),
    ],
    ids=["refused", "unknown host", "certificate", "handshake", "timeout", "without number", "without cause"],
)
async def test_error_says_why_the_server_is_unreachable(monkeypatch, cause, reason):
    """The reason is in wxtcb's or the system's words; the message of the client is not quoted."""

    async def fail(*_):
        raise redis.ConnectionError("S3CRET") from cause

    monkeypatch.setattr(module, "_eval_script", fail)
    async with RedisStore.from_url("redis://127.0.0.1:1") as store:
        with pytest.raises(TokenStoreError, match=f"cannot be reached: {reason}") as caught:
            await store.load(APPID)
    assert "S3CRET" not in f"{caught.value!r}"


async def test_real_client_gives_the_reason_of_a_refused_connection(free_port):
    """The client that the store creates reports the system's error as the cause of its own."""
    async with RedisStore.from_url(f"redis://127.0.0.1:{free_port}") as store:
        with pytest.raises(TokenStoreError, match="cannot be reached: Connection refused"):
            await store.load(APPID)


async def test_error_names_the_server_and_no_password(own_server):
    """The message has the address, also that of a caller's client."""
    path = own_server.server.unix_socket_path
    own_server.kill()
    async with RedisStore.from_url(f"unix://someone:S3CRET@{path}?db=3") as store:
        with pytest.raises(TokenStoreError, match=rf"unix://\*\*\*@{path}\?db=3 cannot be reached") as caught:
            await store.load(APPID)
    assert "S3CRET" not in f"{caught.value!r}"
    assert "someone" not in f"{caught.value!r}"


async def test_server_that_stops_during_a_wait_is_an_error(own_server):
    """A waiter gets the error before its timeout."""
    async with RedisStore.from_url(own_server.url) as store, Redis.from_url(own_server.url) as admin:
        waiting = asyncio.create_task(store.wait_for_change(APPID, version="", timeout=LONG))
        await wait_for_subscribers(admin, 1)
        own_server.kill()
        with pytest.raises(TokenStoreError, match="cannot be reached"):
            await finish(waiting)


async def test_persistent_server_keeps_document_and_version():
    """A server with persistence that was killed has the document again, for the same client."""
    with running_valkey(appendonly="yes", appendfsync="always") as server:
        async with RedisStore.from_url(server.url) as store:
            version = await write(store, "one")
            server.kill()
            server.start()
            stored = await store.load(APPID)
            assert (stored.document, stored.version) == ("one", version)
            assert await store.compare_and_set(APPID, "two", version=version)


async def test_flushed_server_accepts_no_old_version(store, admin):
    """No old version matches, and waiters wake."""
    version = await write(store, "one")
    await admin.flushall()
    assert not await store.compare_and_set(APPID, "late", version=version)
    await store.wait_for_change(APPID, version=version, timeout=LONG)
    assert await store.compare_and_set(APPID, "two", version="")
    assert (await store.load(APPID)).version != version


async def test_hanging_server_is_an_error_after_the_client_timeout(own_server, pass_time):
    """The client tries twice and gives up; it works again when the server does."""
    async with RedisStore.from_url(f"{own_server.url}?socket_timeout=100") as store:
        version = await write(store, "one")
        own_server.pause()
        loading, passed = asyncio.create_task(store.load(APPID)), 0
        while not loading.done():
            pass_time(10)
            passed += 10
            await asyncio.sleep(0.001)
        with pytest.raises(TokenStoreError, match="cannot be reached: no reply in time"):
            await loading
        assert passed > 150
        own_server.resume()
        assert (await store.load(APPID)).version == version


async def test_state_repository_limits_the_wait_for_a_hanging_server(own_server, monkeypatch, pass_time):
    """The limit holds for any timeouts of the caller's client, and the store works again later."""
    monkeypatch.setattr(StateRepository._call_store, "__defaults__", (100.0,))
    async with Redis.from_url(own_server.url, socket_timeout=LONG) as client, Redis.from_url(own_server.url) as admin:
        shared = StateRepository(RedisStore(client), APPID)
        seen = await shared.read()
        waiting = asyncio.create_task(shared.wait_for_change(seen, 100))
        await wait_for_subscribers(admin, 1)
        own_server.pause()
        reading = asyncio.create_task(shared.read())
        await asyncio.sleep(0.01)
        assert not reading.done()
        pass_time(101)
        with pytest.raises(TokenStoreError, match=r"within 100 s"):
            await finish(reading)
        await finish(waiting)
        own_server.resume()
        assert (await shared.read()).state.token is None


def test_client_gives_up_before_state_repository_does(monkeypatch):
    """Two reply timeouts take less than `STORE_TIMEOUT`, so the error names the cause."""
    monkeypatch.setattr(module, "REPLY_TIMEOUT", ANSWER)
    client = module._create_client(module.Secret("redis://127.0.0.1"))
    options = client.connection_pool.connection_kwargs
    assert 2 * options["socket_timeout"] < 2
    assert options["retry"].get_retries() == 1


# Replies that get lost


@contextlib.asynccontextmanager
async def losing_replies(server, how_many):
    """Return the path of a socket that breaks instead of the next *how_many* replies to a write."""
    left = itertools.count(how_many, -1)

    async def serve(reader, writer):
        to_server = await asyncio.open_unix_connection(server.server.unix_socket_path)
        with contextlib.closing(writer), contextlib.closing(to_server[1]):
            while asked := await reader.read(65536):
                to_server[1].write(asked)
                answer = await to_server[0].read(65536)
                if module.COMPARE_AND_SET.sha1.encode() in asked and next(left) > 0:
                    return
                writer.write(answer)

    path = f"{server.server.unix_socket_path}.{how_many}"
    async with await asyncio.start_unix_server(serve, path):
        yield path


async def test_write_with_a_lost_reply_succeeds(server, admin):
    """The client sends it again, and the script finds its own new version."""
    async with losing_replies(server, 1) as path, RedisStore.from_url(f"unix://{path}") as store:
        await store.load(APPID)
        await admin.script_load(module.COMPARE_AND_SET.source)
        assert await store.compare_and_set(APPID, "one", version="")
        assert (await store.load(APPID)).document == "one"


async def test_write_with_two_lost_replies_is_an_error(server, admin):
    """After two lost replies the write raises, although the document may be stored."""
    async with losing_replies(server, 2) as path, RedisStore.from_url(f"unix://{path}") as store:
        await admin.script_load(module.COMPARE_AND_SET.source)
        with pytest.raises(TokenStoreError, match="cannot be reached"):
            await store.compare_and_set(APPID, "one", version="")
        assert (await store.load(APPID)).document == "one"


# Cancellation


async def cancel_after_turns(use, turns):
    """Run *use*, cancel it after so many turns of the loop, and return how it ended."""
    task = asyncio.create_task(use)
    for _ in range(turns):
        await asyncio.sleep(0)
    result = task.cancel()
    await asyncio.wait([task])
    assert task.cancelled() or task.exception() is None
    if task.cancelled() != result:
        return "lost"
    return "cancelled" if result else "too late"


@pytest.fixture(params=["own", "free", "blocking"])
async def store_to_cancel(request, server):
    """Return a store with its own client, with an unlimited pool, or with a pool of three."""
    if request.param == "own":
        async with RedisStore.from_url(server.url) as store:
            yield store
        return
    pool = BlockingConnectionPool.from_url(server.url, max_connections=3, timeout=60)
    client = Redis.from_url(server.url) if request.param == "free" else Redis.from_pool(pool)
    async with client:
        yield RedisStore(client)


@pytest.mark.unmeasured
async def test_random_cancellations_mix_up_no_replies(store_to_cancel, admin):
    """Of 500 tasks each ends as expected, with replies for its own appid, and all connections are returned."""
    store, chance, ended = store_to_cancel, random.Random(7), Counter()
    appids = [f"wx{number}" for number in range(5)]
    for appid in appids:
        assert await store.compare_and_set(appid, appid, version="")

    async def use(appid):
        stored = await store.load(appid)
        assert stored.document == appid
        await store.compare_and_set(appid, appid, version=stored.version)
        await store.wait_for_change(appid, version=stored.version if chance.random() < 0.5 else "", timeout=0.01)
        assert (await store.load(appid)).document == appid

    async def worker():
        for _ in range(25):
            ended[await cancel_after_turns(use(chance.choice(appids)), chance.randrange(40))] += 1

    await asyncio.gather(*(worker() for _ in range(20)))
    assert ended["lost"] == 0
    assert ended["cancelled"] > 150, ended
    pool = (await store._get_client()).connection_pool
    assert not pool._in_use_connections
    assert {(await store.load(appid)).document for appid in appids * 20} == set(appids)
    await pool.disconnect()
    await wait_for_connections(admin, 1)


async def test_cancellation_is_never_lost(store):
    """A task that is cancelled anywhere in a load ends cancelled."""
    await store.load(APPID)
    ends = [await cancel_after_turns(store.load(APPID), turns) for turns in range(40)]
    assert "lost" not in ends
    assert ends.count("cancelled") > 3


async def test_anyio_cancellation_is_never_lost(store):
    """A cancel scope recognises its own cancellation after a load."""
    await store.load(APPID)
    for turns in range(6):
        with anyio.CancelScope() as scope:
            cancel_after(scope, turns)
            await store.load(APPID)
        assert scope.cancelled_caught, turns


def cancel_after(scope, turns):
    """Cancel *scope* after so many turns of the loop."""
    if turns:
        asyncio.get_running_loop().call_soon(cancel_after, scope, turns - 1)
    else:
        scope.cancel()


# Clients of all kinds

CLIENTS = {
    "plain": {},
    "decoded": {"decode_responses": True},
    "decoded as something else": {"decode_responses": True, "encoding": "latin-1"},
    "RESP2": {"protocol": 2},
    "RESP3": {"protocol": 3},
    "impatient": {"socket_timeout": 0.1, "retry": Retry(NoBackoff(), 100)},
    "without a timeout": {"socket_timeout": None},
    "checking": {"health_check_interval": 0.01},
    "of one connection": {"single_connection_client": True},
    "with a database": {"db": 3},
    "retrying": {"retry": Retry(NoBackoff(), 3)},
}


@pytest.fixture(params=[*CLIENTS, "of a small pool", "cluster"])
async def client(request, server, shared_cluster):
    """Return a client of the requested kind."""
    if request.param == "cluster":
        opened = await cluster_client(shared_cluster)
        await opened.flushall()
    elif request.param == "of a small pool":
        opened = Redis.from_pool(BlockingConnectionPool.from_url(server.url, max_connections=1, timeout=60))
    else:
        opened = Redis(unix_socket_path=str(server.server.unix_socket_path), **CLIENTS[request.param])
    yield opened
    await opened.aclose()


@pytest.fixture(scope="module", autouse=True)
def shared_cluster():
    """Run a cluster of one node, which owns all slots."""
    with running_valkey(tcp=True, cluster_enabled="yes") as server:
        with redis.Redis.from_url(server.url) as client:
            client.execute_command("CLUSTER", "ADDSLOTS", *range(16384))
        yield server


async def cluster_client(server):
    """Return a client of the cluster, which takes two seconds to become writable."""
    async with Redis.from_url(server.url, decode_responses=True) as single:
        for _ in range(3000):
            if (await single.cluster("INFO"))["cluster_state"] == "ok":
                break
            await asyncio.sleep(0.02)
    return RedisCluster(host="127.0.0.1", port=server.port)


async def server_time(client):
    """Return the time on the server's clock."""
    seconds, micros = await client.time()
    return seconds + micros / 1e6


async def test_every_kind_of_client_reads_and_writes(client):
    """A document is read unchanged, a wrong version writes nothing, and the time is the server's."""
    store = RedisStore(client)
    before = await server_time(client)
    nothing = await store.load(APPID)
    assert (nothing.document, nothing.version) == (None, "")
    assert before <= nothing.store_time <= await server_time(client)
    document = "{}\n\x00é票🎟" * 5000
    assert await store.compare_and_set(APPID, document, version="")
    stored = await store.load(APPID)
    assert stored.document == document
    for version in ("", "another"):
        assert not await store.compare_and_set(APPID, "no", version=version)
    again = await store.load(APPID)
    assert (again.document, again.version, again.store_time >= stored.store_time) == (document, stored.version, True)
    assert await store.compare_and_set(APPID, "", version=stored.version)
    assert not await store.compare_and_set(APPID, "no", version=stored.version)
    assert (await store.load(APPID)).document == ""


async def test_every_kind_of_client_waits(client):
    """It returns after a change, at once after an earlier change, and after the timeout without one."""
    store = RedisStore(client)
    version = await write(store, "one")
    await check_wakes(store, store, version)
    await finish(store.wait_for_change(APPID, version=version, timeout=LONG))
    version = await write(store, "three")
    waiting = asyncio.create_task(store.wait_for_change(APPID, version=version, timeout=0.15))
    await asyncio.sleep(0)
    assert not waiting.done()
    await finish(waiting)


# Arguments


@pytest.mark.parametrize("client", [None, "redis://localhost", redis.Redis()], ids=["none", "url", "synchronous"])
def test_other_clients_are_rejected(client):
    """The message names the expected and the given class."""
    kind = f"{type(client).__module__}.{type(client).__name__}"
    with pytest.raises(InvalidArgument, match=rf"client must be a redis.asyncio.Redis or .*, not {kind}"):
        RedisStore(client)


@pytest.mark.parametrize(
    "url",
    [
        "S3CRET",
        "http://:S3CRET@localhost",
        "redis://:S3CRET/1@localhost",
        "redis://:S3CRET@localhost:port",
        "redis://:S3CRET@localhost?unknown=1",
        "redis://:S3CRET@localhost?socket_timeout=S3CRET",
        "redis://:S3CRET@localhost?protocol=9",
        "redis://[S3CRET",
    ],
)
def test_invalid_url_is_rejected_and_not_quoted(url):
    """Neither the message nor a chained exception shows the URL, which may contain a password."""
    with pytest.raises(InvalidArgument, match="must be redis://") as caught:
        RedisStore.from_url(url)
    error = caught.value
    assert "S3CRET" not in f"{error!r}"
    assert error.__cause__ is None
    assert error.__context__ is None
    # redis-py before 7.4 raises in the repr of a pool with an invalid option. Tools that show locals skip such a value.
    show = reprlib.Repr()
    show.maxother = 100_000
    frames = []
    trace = error.__traceback__.tb_next
    while trace:
        frames += [show.repr_instance(value, 1) for value in trace.tb_frame.f_locals.values()]
        trace = trace.tb_next
    assert "S3CRET" not in " ".join(frames)


@pytest.mark.parametrize(
    ("url", "masked"),
    [
        ("redis://localhost", "redis://localhost:6379/0"),
        ("redis://127.9.9.9:1/2", "redis://127.9.9.9:1/2"),
        ("redis://me:S3CRET@[::1]:7", "redis://***@[::1]:7/0"),
        ("redis://", "redis://localhost:6379/0"),
        ("unix:///run/valkey.sock", "unix:///run/valkey.sock?db=0"),
        ("rediss://:S3CRET@cache:6380/1", "rediss://***@cache:6380/1"),
        ("rediss://cache?ssl_check_hostname=true&ssl_cert_reqs=required", "rediss://cache:6379/0"),
        ("redis://:S3CRET@10.1.2.3?wxtcb_plain=1", "redis://***@10.1.2.3:6379/0"),
        ("redis://10.1.2.3?db=4&wxtcb_plain=1", "redis://10.1.2.3:6379/4"),
        ("rediss://cache?ssl_cert_reqs=none&wxtcb_unverified=1&db=5", "rediss://cache:6379/5"),
    ],
)
def test_url_of_a_protected_connection_is_accepted(url, masked):
    """A connection on this machine, with TLS, or permitted by an option of the URL; the store masks the password."""
    assert RedisStore.from_url(url).masked_url == masked


@pytest.mark.parametrize(
    ("url", "option"),
    [
        ("redis://:S3CRET@10.1.2.3:6379/0", "allow_plain"),
        ("redis://:S3CRET@cache", "allow_plain"),
        ("redis://:S3CRET@localhost.example", "allow_plain"),
        ("redis://:S3CRET@0.0.0.0", "allow_plain"),
        ("redis://%31%30.1.2.3?password=S3CRET", "allow_plain"),
        ("redis:///0?host=10.1.2.3&password=S3CRET", "allow_plain"),
        ("redis://:S3CRET@cache?wxtcb_unverified=1", "allow_plain"),
        ("rediss://:S3CRET@cache?ssl_cert_reqs=none", "allow_unverified"),
        ("rediss://:S3CRET@cache?ssl_check_hostname=false", "allow_unverified"),
        ("rediss://:S3CRET@127.0.0.1?ssl_check_hostname=false", "allow_unverified"),
        ("rediss://:S3CRET@cache?ssl_cert_reqs=none&wxtcb_plain=1", "allow_unverified"),
    ],
)
def test_url_of_an_unprotected_connection_needs_an_option(url, option):
    """The message names the server and the option, and shows no password."""
    with pytest.raises(InvalidArgument, match=rf"^rediss?://.*{option}=True") as caught:
        RedisStore.from_url(url)
    assert "S3CRET" not in f"{caught.value!r}"
    assert RedisStore.from_url(url, **{option: True}).masked_url in str(caught.value)


def test_address_of_a_client_of_the_caller(shared_cluster):
    """It is that of its options; for a cluster, that of the nodes which the client was given."""
    assert RedisStore(Redis(host="10.1.2.3", password="S3CRET")).masked_url == "redis://***@10.1.2.3:6379/0"
    cluster = RedisCluster(host="127.0.0.1", port=shared_cluster.port)
    assert RedisStore(cluster).masked_url == f"redis://127.0.0.1:{shared_cluster.port}"


def test_empty_prefix_is_rejected():
    """A prefix must not be empty."""
    with pytest.raises(InvalidArgument, match="prefix"):
        RedisStore.from_url("redis://localhost", prefix="")


WITHOUT = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name == "redis":
            raise ModuleNotFoundError("No module named '{absent}'", name="{absent}")

sys.meta_path.insert(0, Missing())
try:
    import wxtcb.tokens.redis
except ModuleNotFoundError as error:
    print(error, "/", error.name)
"""


@pytest.mark.usefixtures("measured")
@pytest.mark.parametrize(
    ("absent", "result"),
    [
        ("redis", "wxtcb.tokens.redis needs redis: pip install 'wxtcb[redis]' / redis"),
        ("something", "No module named 'something' / something"),
    ],
)
def test_without_redis_the_import_says_what_to_install(absent, result):
    """The import names the extra; a module that redis itself misses is raised unchanged."""
    command = [sys.executable, "-c", WITHOUT.format(absent=absent)]
    assert subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout.strip() == result
