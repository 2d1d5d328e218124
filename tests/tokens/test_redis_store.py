"""The store in Redis, against real servers: what is particular to it, and what clients of all kinds make of it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import subprocess
import sys
import time
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
from wxtcb.tokens.shared_state import SharedState
from wxtcb.tokens.state import TokenState

from .bounded_wait import LONG, finish
from .valkey_server import running_valkey, shared_valkey

APPID = "wx0123456789abcdef"
KEY = f"wxtcb:{{{APPID}}}"
ANSWER = module.REPLY_TIMEOUT


@pytest.fixture
def server():
    """Give the server that most tests share, empty."""
    server = shared_valkey()
    with redis.Redis.from_url(server.url) as client:
        client.flushall()
        client.script_flush()
    return server


@pytest.fixture
def own_server():
    """Give a server that a test may maltreat."""
    with running_valkey() as server:
        yield server


@pytest.fixture
async def admin(server):
    """Give a plain client, for what the store does not do."""
    async with Redis.from_url(server.url, decode_responses=True) as client:
        yield client


@pytest.fixture
async def store(server):
    """Give a store with a client of its own."""
    async with RedisStore.from_url(server.url) as store:
        yield store


@pytest.fixture
async def other(server):
    """Give another store on the same server, as another host has it."""
    async with RedisStore.from_url(server.url) as store:
        yield store


async def keep(store, document):
    """Keep *document*, whatever is kept, and return its version."""
    assert await store.compare_and_set(APPID, document, version=(await store.load(APPID)).version)
    return (await store.load(APPID)).version


async def see(waiter, writer, version, document="new"):
    """Let *waiter* wait, *writer* keep something, and the former see it."""
    waiting = asyncio.create_task(waiter.wait_for_change(APPID, version=version, timeout=LONG))
    await asyncio.sleep(0.03)
    assert not waiting.done()
    assert await writer.compare_and_set(APPID, document, version=version)
    await finish(waiting)


async def connections(admin, count, kind="normal"):
    """Wait until so many connections of that kind are open; a deadline of asyncio's could get lost in redis-py."""
    for _ in range(6000):
        if len(found := await admin.client_list(_type=kind)) == count:
            return
        await asyncio.sleep(0.01)
    raise AssertionError(found)


async def listeners(admin, count):
    """Wait until so many connections are subscribed."""
    await connections(admin, count, "pubsub")


async def test_a_client_that_was_lent_stays_open(server):
    """Closing the store leaves the caller's client, its connections included."""
    async with Redis.from_url(server.url) as client:
        async with RedisStore(client) as store:
            await store.load(APPID)
        assert client.connection_pool._available_connections[0].is_connected


async def test_waiting_takes_no_connection_from_those_who_work(server, admin):
    """With one connection in a pool that blocks, many wait, and load and compare_and_set go on."""
    pool = BlockingConnectionPool.from_url(server.url, max_connections=1, timeout=60)
    async with Redis.from_pool(pool) as client, asyncio.TaskGroup() as waiting:
        store = RedisStore(client)
        version = await keep(store, "one")
        for _ in range(5):
            waiting.create_task(store.wait_for_change(APPID, version=version, timeout=LONG))
        await listeners(admin, 5)
        assert (await store.load(APPID)).version == version
        assert await store.compare_and_set(APPID, "two", version=version)


async def test_two_hundred_at_once(store, other):
    """More tasks than connections take turns, on a client of the store's own too."""
    version = await keep(store, "one")
    waits = [other.wait_for_change(APPID, version=version, timeout=0.3) for _ in range(10)]
    kept = await asyncio.gather(*(store.load(APPID) for _ in range(200)), *waits)
    assert {each.document for each in kept[:200]} == {"one"}


async def test_concurrent_changes_lose_nothing(store, other):
    """Forty increments from two hosts, each repeated until it is kept, add up."""

    async def increment(store):
        while True:
            kept = await store.load(APPID)
            if await store.compare_and_set(APPID, str(int(kept.document) + 1), version=kept.version):
                return

    await keep(store, "0")
    await asyncio.gather(*(increment(each) for _ in range(20) for each in (store, other)))
    assert (await store.load(APPID)).document == "40"


async def test_platforms_and_prefixes_are_kept_apart(store, server):
    """Another appid, and another prefix on the same server, is another place."""
    await keep(store, "one")
    async with RedisStore.from_url(server.url, prefix="staging") as staging:
        assert (await staging.load(APPID)).document is None
    assert (await store.load("wx1")).document is None
    assert not await store.compare_and_set("wx1", "no", version=(await store.load(APPID)).version)


async def test_a_store_of_a_url_lives_in_one_event_loop_after_the_other(server):
    """It makes a client for each loop, used until it is closed, and again after that."""

    def run_once(store):
        async def use():
            async with store:
                return await keep(store, "one")

        with asyncio.Runner() as runner:
            return runner.run(use())

    store = RedisStore.from_url(server.url)
    versions = [await asyncio.to_thread(run_once, store) for _ in range(2)]
    assert versions[0] != versions[1]
    await store.aclose()


async def test_closing_in_another_loop_leaves_its_client_alone(server):
    """A client whose loop is gone is not awaited."""
    store = RedisStore.from_url(server.url)

    async def make():
        await store._get_client()

    await asyncio.to_thread(asyncio.run, make())
    await store.aclose()
    await keep(store, "one")
    await store.aclose()


# What a listener would see


async def test_no_document_is_in_a_key_a_channel_or_a_message(store, admin):
    """Names hold the appid, messages the version; the value is in the hash alone."""
    async with admin.pubsub(ignore_subscribe_messages=True) as listening:
        await listening.psubscribe("*")
        assert await listening.get_message(timeout=1) is None
        version = await keep(store, "S3CRET")
        told = None
        while told is None:
            told = await listening.get_message(timeout=1)
    assert told == {"type": "pmessage", "pattern": "*", "channel": KEY, "data": version}
    assert await admin.keys("*") == [KEY]
    assert await admin.hgetall(KEY) == {"document": "S3CRET", "version": version}


async def test_repr_shows_neither_password_nor_client(server):
    """A store is safe to print."""
    store = RedisStore.from_url("redis://someone:S3CRET@127.0.0.1:1/0", prefix="staging")
    client = Redis(password="S3CRET")
    assert repr(store) == "RedisStore(prefix='staging')"
    assert "S3CRET" not in repr(RedisStore(client))


# Waiting


async def test_a_change_between_the_look_and_the_subscription_is_not_missed(store, other, monkeypatch):
    """After subscribing it looks once more, before it listens."""
    version = await keep(store, "one")
    subscribe = module._subscribe

    async def subscribe_late(line, channel):
        assert await other.compare_and_set(APPID, "two", version=version)
        await subscribe(line, channel)

    monkeypatch.setattr(module, "_subscribe", subscribe_late)
    monkeypatch.setattr(module, "MESSAGE_TIMEOUT", LONG)
    await finish(store.wait_for_change(APPID, version=version, timeout=LONG))


async def test_messages_alone_wake(store, other, admin, monkeypatch):
    """With the next look an hour away, a change is still seen."""
    monkeypatch.setattr(module, "MESSAGE_TIMEOUT", LONG)
    version = await keep(store, "one")
    waiting = asyncio.create_task(store.wait_for_change(APPID, version=version, timeout=LONG))
    await listeners(admin, 1)
    assert await other.compare_and_set(APPID, "two", version=version)
    await finish(waiting)


async def test_what_was_not_published_is_seen_at_the_next_look(store, admin, monkeypatch):
    """A message that is lost costs a moment, no more."""
    monkeypatch.setattr(module, "MESSAGE_TIMEOUT", 0.05)
    version = await keep(store, "one")
    waiting = asyncio.create_task(store.wait_for_change(APPID, version=version, timeout=LONG))
    await listeners(admin, 1)
    await admin.hset(KEY, "version", "by hand")
    await finish(waiting)


async def test_a_subscription_that_breaks_is_replaced_by_looking(store, other, admin, monkeypatch):
    """Whoever waited on it sees the next change all the same."""
    monkeypatch.setattr(module, "MESSAGE_TIMEOUT", LONG)
    version = await keep(store, "one")
    waiting = asyncio.create_task(store.wait_for_change(APPID, version=version, timeout=LONG))
    await listeners(admin, 1)
    await admin.client_kill_filter(_type="pubsub")
    assert await other.compare_and_set(APPID, "two", version=version)
    await finish(waiting)


async def test_a_subscription_that_never_stands_is_replaced_by_looking(store, other, monkeypatch):
    """It is given a second, then the waiter looks instead."""

    async def never(line, channel):
        await asyncio.sleep(LONG)

    monkeypatch.setattr(module, "_subscribe", never)
    monkeypatch.setattr(module, "SUBSCRIBE_TIMEOUT", 0.01)
    await see(store, other, await keep(store, "one"))


async def test_no_subscription_stays(store, other, admin):
    """Changed, run out of time or cancelled: the connection is closed."""
    version = await keep(store, "one")
    await store.wait_for_change(APPID, version=version, timeout=0.03)
    cancelled = asyncio.create_task(store.wait_for_change(APPID, version=version, timeout=LONG))
    await listeners(admin, 1)
    cancelled.cancel()
    await asyncio.wait([cancelled])
    await see(store, other, version)
    await listeners(admin, 0)


# Rights and refusals

RIGHTS = "on >S3CRET resetchannels ~wxtcb:* +@connection +eval +evalsha +hget +hset +exists +time"


async def set_user(admin, *rights):
    """Make the user `wxtcb`."""
    await admin.execute_command("ACL", "SETUSER", "wxtcb", "reset", *RIGHTS.split(), *rights)


def as_user(server, password="S3CRET"):
    """Make a store that logs in as that user."""
    return RedisStore.from_url(f"unix://wxtcb@{server.server.unix_socket_path}?password={password}")


@pytest.mark.parametrize(("rights", "subscriptions"), [(("&wxtcb:*", "+publish", "+subscribe"), 1), ((), 0)])
async def test_few_rights_suffice(server, admin, rights, subscriptions):
    """The rights that the module names are enough; without those to the channel it looks instead of listening."""
    await set_user(admin, *rights)
    async with as_user(server) as store:
        version = await keep(store, "one")
        waiting = asyncio.create_task(store.wait_for_change(APPID, version=version, timeout=LONG))
        await asyncio.sleep(0.05)
        await listeners(admin, subscriptions)
        assert await store.compare_and_set(APPID, "two", version=version)
        await finish(waiting)


async def test_a_wrong_password_is_an_error_that_does_not_show_it(server, admin):
    """It names the kind of error, and the place."""
    await set_user(admin)
    async with as_user(server, "WR0NG") as store:
        with pytest.raises(TokenStoreError, match=r"wxtcb:\{wx0123456789abcdef\} .*WRONGPASS") as caught:
            await store.load(APPID)
        assert caught.value.permanent
    assert "WR0NG" not in f"{caught.value!r}"


async def test_missing_rights_are_named(server, admin):
    """A user without a right to the keys is told so."""
    await set_user(admin, "resetkeys")
    async with as_user(server) as store:
        with pytest.raises(TokenStoreError, match="NOPERM") as caught:
            await store.load(APPID)
        assert caught.value.permanent


@pytest.mark.parametrize("foreign", ["SET", "HSET", "LPUSH"])
async def test_what_somebody_else_keeps_under_our_key_is_left_as_it_is(store, admin, foreign):
    """Load, compare_and_set and wait refuse a value of another type, and a hash that is no record."""
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


async def test_a_server_without_memory_refuses_to_keep(store, admin):
    """Swap says why; what is kept can still be read, and kept again later."""
    version = await keep(store, "one")
    await admin.config_set("maxmemory", 1)
    try:
        with pytest.raises(TokenStoreError, match="no memory left"):
            await store.compare_and_set(APPID, "two", version=version)
        assert (await store.load(APPID)).document == "one"
    finally:
        await admin.config_set("maxmemory", 0)
    assert await store.compare_and_set(APPID, "two", version=version)


async def test_a_replica_refuses_to_keep(store, admin):
    """Swap says so, load reads what the replica has; promoted, it keeps."""
    version = await keep(store, "one")
    await admin.replicaof("127.0.0.1", 1)
    try:
        with pytest.raises(TokenStoreError, match="READONLY"):
            await store.compare_and_set(APPID, "two", version=version)
        assert (await store.load(APPID)).document == "one"
    finally:
        await admin.replicaof("NO", "ONE")
    assert await store.compare_and_set(APPID, "two", version=version)


async def test_forgotten_scripts_are_sent_again(store, admin):
    """A server that forgets its scripts in mid-use is told them anew."""
    version = ""
    for number in range(3):
        await admin.script_flush()
        assert await store.compare_and_set(APPID, str(number), version=version)
        await admin.script_flush()
        version = (await store.load(APPID)).version


def test_a_server_that_quotes_what_it_refuses_is_not_quoted():
    """A server without scripts answers with the first arguments it was sent, which no message of ours repeats."""

    async def refused(url):
        async with RedisStore.from_url(url) as store:
            with pytest.raises(TokenStoreError, match="cannot be reached: ResponseError") as caught:
                await store.compare_and_set(APPID, "S3CRET", version="")
            return caught.value

    with running_valkey(rename_command='EVALSHA ""') as server:
        error = asyncio.run(refused(server.url))
    assert "S3CRET" not in f"{error!r} {error.__cause__!r} {error.__context__!r}"


# Servers that go away


async def test_a_server_that_is_gone_is_an_error_and_the_client_works_when_it_is_back(own_server):
    """Nobody waits for it; nothing is kept without persistence: a new beginning, at which no old version matches."""
    async with RedisStore.from_url(own_server.url) as store:
        version = await keep(store, "one")
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
        await keep(store, "two")


async def test_a_server_that_stops_while_one_waits_is_an_error(own_server):
    """Whoever waits is told of it, and not at the end of its time."""
    async with RedisStore.from_url(own_server.url) as store, Redis.from_url(own_server.url) as admin:
        waiting = asyncio.create_task(store.wait_for_change(APPID, version="", timeout=LONG))
        await listeners(admin, 1)
        own_server.kill()
        with pytest.raises(TokenStoreError, match="cannot be reached"):
            await finish(waiting)


async def test_a_server_that_writes_its_disk_goes_on_where_it_was():
    """Killed and started again, it has the document and the version, and the same client reads them."""
    with running_valkey(appendonly="yes", appendfsync="always") as server:
        async with RedisStore.from_url(server.url) as store:
            version = await keep(store, "one")
            server.kill()
            server.start()
            kept = await store.load(APPID)
            assert (kept.document, kept.version) == ("one", version)
            assert await store.compare_and_set(APPID, "two", version=version)


async def test_a_flushed_server_is_a_new_beginning(store, admin):
    """No old version matches, and whoever waits sees the change."""
    version = await keep(store, "one")
    await admin.flushall()
    assert not await store.compare_and_set(APPID, "late", version=version)
    await store.wait_for_change(APPID, version=version, timeout=LONG)
    assert await store.compare_and_set(APPID, "two", version="")
    assert (await store.load(APPID)).version != version


async def test_a_server_that_hangs_is_an_error_of_the_clients_timeout(own_server, pass_time):
    """It asks twice, then gives up; when the server goes on, so does the client."""
    async with RedisStore.from_url(f"{own_server.url}?socket_timeout=100") as store:
        version = await keep(store, "one")
        own_server.pause()
        loading, passed = asyncio.create_task(store.load(APPID)), 0
        while not loading.done():
            pass_time(10)
            passed += 10
            await asyncio.sleep(0.001)
        with pytest.raises(TokenStoreError, match="cannot be reached"):
            await loading
        assert passed > 150
        own_server.resume()
        assert (await store.load(APPID)).version == version


async def test_a_shared_record_waits_no_longer_for_a_server_that_hangs_than_it_promises(
    own_server, monkeypatch, pass_time
):
    """Whatever the timeouts of the caller's client are; a waiter returns when its time is up, and all works again."""
    monkeypatch.setattr(SharedState._call_store, "__defaults__", (100.0,))
    async with Redis.from_url(own_server.url, socket_timeout=LONG) as client, Redis.from_url(own_server.url) as admin:
        shared = SharedState(RedisStore(client), APPID)
        seen = await shared.read()
        waiting = asyncio.create_task(shared.wait_for_change(seen, 100))
        await listeners(admin, 1)
        own_server.pause()
        reading = asyncio.create_task(shared.read())
        await asyncio.sleep(0.01)
        assert not reading.done()
        pass_time(101)
        with pytest.raises(TokenStoreError, match=r"within 100 s"):
            await finish(reading)
        await finish(waiting)
        own_server.resume()
        assert (await shared.read()).state == TokenState()


def test_a_client_of_its_own_gives_up_before_a_shared_record_does(monkeypatch):
    """Two answers that do not come take less than two seconds, so the error names what failed."""
    monkeypatch.setattr(module, "REPLY_TIMEOUT", ANSWER)
    client = module._create_client(module.Secret("redis://127.0.0.1"))
    options = client.connection_pool.connection_kwargs
    assert 2 * options["socket_timeout"] < 2
    assert options["retry"].get_retries() == 1


# Replies that get lost


@contextlib.asynccontextmanager
async def losing_replies(server, how_many):
    """Give the path of a socket behind which the connection breaks instead of the next *how_many* replies to a compare_and_set."""
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


async def test_a_swap_whose_reply_is_lost_is_not_taken_for_somebody_elses(server, admin):
    """The client asks again, finds the new version it chose already there, and says yes."""
    async with losing_replies(server, 1) as path, RedisStore.from_url(f"unix://{path}") as store:
        await store.load(APPID)
        await admin.script_load(module.COMPARE_AND_SET.source)
        assert await store.compare_and_set(APPID, "one", version="")
        assert (await store.load(APPID)).document == "one"


async def test_a_swap_whose_reply_is_lost_twice_is_an_error_and_may_have_been_kept(server, admin):
    """There are two chances, then the caller has to look."""
    async with losing_replies(server, 2) as path, RedisStore.from_url(f"unix://{path}") as store:
        await admin.script_load(module.COMPARE_AND_SET.source)
        with pytest.raises(TokenStoreError, match="cannot be reached"):
            await store.compare_and_set(APPID, "one", version="")
        assert (await store.load(APPID)).document == "one"


# Cancellation


async def cancelled_sometime(use, turns):
    """Run *use*, cancel it after so many turns of the loop, and tell what became of that."""
    task = asyncio.create_task(use)
    for _ in range(turns):
        await asyncio.sleep(0)
    told = task.cancel()
    await asyncio.wait([task])
    assert task.cancelled() or task.exception() is None
    if task.cancelled() != told:
        return "lost"
    return "cancelled" if told else "too late"


@pytest.fixture(params=["own", "free", "blocking"])
async def store_to_cancel(request, server):
    """Give a store with a client of its own, or one that opens as many connections as it needs, or three."""
    if request.param == "own":
        async with RedisStore.from_url(server.url) as store:
            yield store
        return
    pool = BlockingConnectionPool.from_url(server.url, max_connections=3, timeout=60)
    client = Redis.from_url(server.url) if request.param == "free" else Redis.from_pool(pool)
    async with client:
        yield RedisStore(client)


@pytest.mark.unmeasured
async def test_cancelling_at_random_loses_no_connection_and_mixes_up_no_replies(store_to_cancel, admin):
    """Of 500 tasks under load each ends as it was told, with answers for its own appid; all connections come back."""
    store, chance, ended = store_to_cancel, random.Random(7), Counter()
    appids = [f"wx{number}" for number in range(5)]
    for appid in appids:
        assert await store.compare_and_set(appid, appid, version="")

    async def use(appid):
        kept = await store.load(appid)
        assert kept.document == appid
        await store.compare_and_set(appid, appid, version=kept.version)
        await store.wait_for_change(appid, version=kept.version if chance.random() < 0.5 else "", timeout=0.01)
        assert (await store.load(appid)).document == appid

    async def worker():
        for _ in range(25):
            ended[await cancelled_sometime(use(chance.choice(appids)), chance.randrange(40))] += 1

    await asyncio.gather(*(worker() for _ in range(20)))
    assert ended["lost"] == 0
    assert ended["cancelled"] > 150, ended
    pool = (await store._get_client()).connection_pool
    assert not pool._in_use_connections
    assert {(await store.load(appid)).document for appid in appids * 20} == set(appids)
    await pool.disconnect()
    await connections(admin, 1)


async def test_a_cancellation_is_never_lost(store):
    """Wherever it comes in the course of a load, the task ends cancelled."""
    await store.load(APPID)
    ends = [await cancelled_sometime(store.load(APPID), turns) for turns in range(40)]
    assert "lost" not in ends
    assert ends.count("cancelled") > 3


async def test_a_cancellation_of_anyio_is_never_lost(store):
    """A cancel scope knows its own cancellation when it comes out of a load."""
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
async def client(request, server, lasting_cluster):
    """Give a client of the kind asked for."""
    if request.param == "cluster":
        opened = await cluster_client(lasting_cluster)
        await opened.flushall()
    elif request.param == "of a small pool":
        opened = Redis.from_pool(BlockingConnectionPool.from_url(server.url, max_connections=1, timeout=60))
    else:
        opened = Redis(unix_socket_path=str(server.server.unix_socket_path), **CLIENTS[request.param])
    yield opened
    await opened.aclose()


@pytest.fixture(scope="module", autouse=True)
def lasting_cluster():
    """Run a cluster of one node, which owns all slots."""
    with running_valkey(tcp=True, cluster_enabled="yes") as server:
        with redis.Redis.from_url(server.url) as client:
            client.execute_command("CLUSTER", "ADDSLOTS", *range(16384))
        yield server


async def cluster_client(server):
    """Open a client of the cluster, which takes two seconds to become writable."""
    async with Redis.from_url(server.url, decode_responses=True) as single:
        for _ in range(3000):
            if (await single.cluster("INFO"))["cluster_state"] == "ok":
                break
            await asyncio.sleep(0.02)
    return RedisCluster(host="127.0.0.1", port=server.port)


async def test_a_client_of_any_kind_keeps_and_loads(client):
    """What is kept comes back whole; a wrong version changes nothing; the time is the server's."""
    store = RedisStore(client)
    before = time.time()
    nothing = await store.load(APPID)
    assert (nothing.document, nothing.version) == (None, "")
    assert before - 1 < nothing.store_time < time.time() + 1
    document = "{}\n\x00é票🎟" * 5000
    assert await store.compare_and_set(APPID, document, version="")
    kept = await store.load(APPID)
    assert kept.document == document
    for version in ("", "another"):
        assert not await store.compare_and_set(APPID, "no", version=version)
    again = await store.load(APPID)
    assert (again.document, again.version, again.store_time >= kept.store_time) == (document, kept.version, True)
    assert await store.compare_and_set(APPID, "", version=kept.version)
    assert not await store.compare_and_set(APPID, "no", version=kept.version)
    assert (await store.load(APPID)).document == ""


async def test_a_client_of_any_kind_waits(client):
    """It returns after the change, without waiting when there was one, after `within` when there is none."""
    store = RedisStore(client)
    version = await keep(store, "one")
    await see(store, store, version)
    await finish(store.wait_for_change(APPID, version=version, timeout=LONG))
    version = await keep(store, "three")
    waiting = asyncio.create_task(store.wait_for_change(APPID, version=version, timeout=0.15))
    await asyncio.sleep(0)
    assert not waiting.done()
    await finish(waiting)


# Arguments


@pytest.mark.parametrize("client", [None, "redis://localhost", redis.Redis()], ids=["none", "url", "synchronous"])
def test_what_is_no_asynchronous_client_is_refused(client):
    """The message says what is wanted, and what it was given."""
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
def test_a_bad_url_is_refused_without_being_quoted(url):
    """It may hold a password: neither the message nor what hangs on it shows it."""
    with pytest.raises(InvalidArgument, match="must be redis://") as caught:
        RedisStore.from_url(url)
    error = caught.value
    assert "S3CRET" not in f"{error!r}"
    assert error.__cause__ is None
    assert error.__context__ is None
    frames = []
    trace = error.__traceback__.tb_next
    while trace:
        frames.append(f"{trace.tb_frame.f_locals}")
        trace = trace.tb_next
    assert "S3CRET" not in " ".join(frames)


def test_an_empty_prefix_is_refused():
    """It would leave nothing to give rights to."""
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
    ("absent", "told"),
    [
        ("redis", "wxtcb.tokens.redis needs redis; install it with: pip install 'wxtcb[redis]' / redis"),
        ("something", "No module named 'something' / something"),
    ],
)
def test_without_redis_the_import_says_what_to_install(absent, told):
    """What redis itself misses is told as it is."""
    command = [sys.executable, "-c", WITHOUT.format(absent=absent)]
    assert subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout.strip() == told
