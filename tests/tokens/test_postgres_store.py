"""Tests of PostgresStore against real servers, with connections of its own and with pools of the caller."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import random
import struct
import subprocess
import sys
import tempfile
import traceback
from collections import Counter

import anyio
import psycopg
import psycopg_pool
import pytest
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool, AsyncNullConnectionPool

import wxtcb
import wxtcb.tokens.postgres as module
from tests.postgres_server import start_postgres
from wxtcb.errors import InvalidArgument, TokenStoreError
from wxtcb.secret import Secret
from wxtcb.tokens.encrypted import EncryptedStore
from wxtcb.tokens.postgres import PostgresStore
from wxtcb.tokens.state_repository import STORE_TIMEOUT, StateRepository
from wxtcb.tokens.store_urls import StoreURL, open_store

from .bounded_wait import LONG, finish
from .conftest import KEY
from .token_harness import CacheHarness

APPID = "wx0123456789abcdef"
REPLY_TIMEOUT = module.REPLY_TIMEOUT


@pytest.fixture
def database(postgres):
    """Return the name of an empty database of the shared server."""
    name = postgres.create_database()
    yield name
    postgres.drop_database(name)


@pytest.fixture
def url(postgres, database):
    """Return the URL of the empty database."""
    return postgres.url(database)


@pytest.fixture
async def store(url):
    """Return a store with connections of its own."""
    async with PostgresStore.from_url(url) as store:
        yield store


@pytest.fixture
async def other(url):
    """Return another store on the same database, as another host has it."""
    async with PostgresStore.from_url(url) as store:
        yield store


@pytest.fixture
def own_server():
    """Return a server that a test may stop, pause or kill."""
    server = start_postgres()
    yield server
    server.stop()


@pytest.fixture
def role(postgres):
    """Return the name of a new role without a password and without permissions."""
    name = f"role{random.getrandbits(64):x}"
    postgres.execute(f"CREATE ROLE {name} LOGIN")
    return name


async def write(store, document="one"):
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


def count_connections(server, database, condition="true"):
    """Return how many connections to *database* are open."""
    query = f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{database}' AND ({condition})"
    return server.execute(query)[0][0]


async def wait_for_connections(server, database, count, condition="true"):
    """Wait until so many connections are open."""
    for _ in range(6000):
        if (found := count_connections(server, database, condition)) == count:
            return
        await asyncio.sleep(0.01)
    raise AssertionError(found)


async def wait_for_listeners(server, database, count):
    """Wait until so many connections listen; a listening connection has executed nothing else."""
    await wait_for_connections(server, database, count, "query LIKE '%LISTEN%' AND state = 'idle'")


async def catch(awaitable):
    """Return the error of a store, and check that it has no cause, which could quote the document."""
    with pytest.raises(TokenStoreError) as caught:
        await finish(awaitable)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    return caught.value


@contextlib.asynccontextmanager
async def relay(server, change):
    """Relay connections, and yield the directory of the socket.

    *change* gets the last request and the data of the server, and returns what the client receives, or None to break.
    """

    async def serve(reader, writer):
        from_server, to_server = await asyncio.open_unix_connection(f"{server.folder}/.s.PGSQL.{server.port}")
        request = b""

        async def forward():
            nonlocal request
            while data := await reader.read(65536):
                request = data
                to_server.write(data)
            to_server.close()

        forwarding = asyncio.create_task(forward())
        with contextlib.closing(writer), contextlib.closing(to_server):
            while (data := await from_server.read(65536)) and (data := change(request, data)) is not None:
                writer.write(data)
        forwarding.cancel()

    with tempfile.TemporaryDirectory(prefix="wxtcb-", dir="/tmp") as folder:
        async with await asyncio.start_unix_server(serve, f"{folder}/.s.PGSQL.{server.port}"):
            yield folder


def via(folder, server, database):
    """Return the URL of a database through the socket in *folder*."""
    return f"postgresql://postgres@/{database}?host={folder}&port={server.port}"


def pooler(server):
    """Relay connections as a pooler does, with a number of the process that is the pooler's."""

    def change(_, data):
        # BackendKeyData: the type, the length, and the number.
        start = data.find(b"K\0\0\0\x0c")
        return data if start < 0 else data[: start + 5] + struct.pack("!i", 1) + data[start + 9 :]

    return relay(server, change)


# Connections


async def test_many_tasks_share_eight_connections(postgres, database, store, other):
    """More tasks than connections take turns."""
    version = await write(store)
    waits = [other.wait_for_change(APPID, version=version, timeout=0.3) for _ in range(10)]
    stored = await asyncio.gather(*(store.load(APPID) for _ in range(200)), *waits)
    assert {each.document for each in stored[:200]} == {"one"}
    # And two listeners, which may be about to end.
    assert count_connections(postgres, database) <= 2 * module.MAX_CONNECTIONS + 2


async def test_concurrent_writes_lose_nothing(postgres):
    """Increments from two hosts add up, also if the default isolation level of the database is another one."""
    for level in ("read committed", "repeatable read", "serializable"):
        database = postgres.create_database(default_transaction_isolation=level)
        async with contextlib.AsyncExitStack() as stack:
            stack.callback(postgres.drop_database, database)
            stores = [await stack.enter_async_context(PostgresStore.from_url(postgres.url(database))) for _ in range(2)]

            async def increment(store):
                while True:
                    stored = await store.load(APPID)
                    if await store.compare_and_set(APPID, str(int(stored.document) + 1), version=stored.version):
                        return

            await write(stores[0], "0")
            await asyncio.gather(*(increment(each) for _ in range(10) for each in stores))
            assert (await stores[0].load(APPID)).document == "20"


async def test_closed_store_leaves_no_connection_and_connects_again(postgres, database, store):
    """After closing no connection is open; the next use opens one."""
    await write(store)
    await store.aclose()
    await store.aclose()
    await wait_for_connections(postgres, database, 0)
    assert (await store.load(APPID)).document == "one"


async def test_connection_in_use_is_closed_after_its_operation(postgres, database, store):
    """An operation that runs while the store is closed ends as usual, and leaves no connection."""
    await write(store)
    loads = [asyncio.create_task(store.load(APPID)) for _ in range(5)]
    await asyncio.sleep(0.001)
    await store.aclose()
    assert {each.document for each in await asyncio.gather(*loads)} == {"one"}
    await wait_for_connections(postgres, database, 0)


async def test_closing_fails_waiters(store):
    """A waiter gets an error when the store is closed."""
    version = await write(store)
    waiting = asyncio.create_task(store.wait_for_change(APPID, version=version, timeout=LONG))
    await asyncio.sleep(0.05)
    await store.aclose()
    assert "was closed" in str(await catch(waiting))


def test_store_may_be_used_in_two_loops_at_once(url):
    """Each event loop has connections of its own."""

    async def use(store):
        return [(await store.load(APPID)).document for _ in range(50)]

    async def main():
        async with PostgresStore.from_url(url) as store:
            await write(store)
            return await asyncio.gather(asyncio.to_thread(asyncio.run, use(store)), use(store))

    assert {document for read in asyncio.run(main()) for document in read} == {"one"}


async def test_forgotten_store_is_a_resource_warning(url):
    """It names the server without its user, and the connections are closed."""
    store = PostgresStore.from_url(url)
    await store.load(APPID)
    references = [store]
    del store
    with pytest.warns(ResourceWarning, match=r"a PostgresStore was never closed: postgresql://\*\*\*@/test"):
        references.clear()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_forked_process_does_not_end_the_connections_of_its_parent(url):
    """A child that forgets or uses the store leaves the parent's connections open."""

    async def main():
        async with PostgresStore.from_url(url) as store:
            await write(store)
            [connection] = store._client().idle
            if (child := os.fork()) == 0:
                store.__del__()
                os._exit(0)
            os.waitpid(child, 0)  # noqa: ASYNC222 - it ends at once
            assert (await store.load(APPID)).document == "one"
            assert store._client().idle == [connection]

    with pytest.MonkeyPatch.context() as patch:
        # The warning of the child is not the parent's.
        patch.setattr(module.warnings, "warn", lambda *_, **__: None)
        asyncio.run(main())


async def test_dead_connections_are_replaced(postgres, database, store):
    """After an operator ended all connections, every operation succeeds."""
    version = await write(store)
    await asyncio.gather(*(store.load(APPID) for _ in range(20)))
    for _ in range(3):
        postgres.disconnect(database)
        assert (await store.load(APPID)).version == version
        postgres.disconnect(database)
        version = await write(store)


# What a listener, an administrator and a reader of logs would see


async def test_notification_contains_the_appid_only(url, store):
    """Neither the document nor its version is sent."""
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as listening:
        await listening.execute("LISTEN wxtcb_tokens")
        await write(store, "S3CRET")
        [message] = [each async for each in listening.notifies(timeout=60, stop_after=1)]
    assert (message.channel, message.payload) == ("wxtcb_tokens", APPID)


async def test_statements_and_logs_contain_no_document(own_server, caplog):
    """The document is in no statement that the server shows, and in no log of the server, psycopg or asyncio."""
    own_server.execute("ALTER SYSTEM SET log_statement = 'all'", "ALTER SYSTEM SET log_min_duration_statement = 0")
    own_server.execute("ALTER SYSTEM SET log_parameter_max_length = 0", "SELECT pg_reload_conf()")
    caplog.set_level(logging.DEBUG)
    loop = asyncio.get_running_loop()
    loop.set_debug(True)
    loop.slow_callback_duration = 0.0
    async with PostgresStore.from_url(own_server.url()) as store:
        version = await write(store, "S3CRET")
        log = own_server.log()
        shown = own_server.execute("SELECT string_agg(query, ' ') FROM pg_stat_activity")[0][0]
        # The server's message quotes the row, as does its log.
        own_server.execute("ALTER TABLE wxtcb_tokens ADD CHECK (length(document) < 10)")
        error = await catch(store.compare_and_set(APPID, "S3CRET" * 5, version=version))
    loop.set_debug(False)
    assert "CheckViolation (23514)" in str(error)
    assert "INSERT INTO wxtcb_tokens" in log
    assert "wxtcb_tokens" in shown
    for text in (log, shown, caplog.text):
        assert "S3CRET" not in text
        assert b"S3CRET".hex() not in text


async def test_repr_shows_neither_user_nor_password():
    """The repr has the address only."""
    store = PostgresStore.from_url("postgresql://someone:S3CRET@127.0.0.1:1/shop")
    assert repr(store) == "PostgresStore()"
    async with AsyncConnectionPool("host=127.0.0.1 password=S3CRET", open=False) as pool:
        assert "S3CRET" not in repr(PostgresStore(pool))


async def test_stored_document_is_bytes(postgres, database, store):
    """An encrypted document is stored as its ciphertext, and the time of the change is the server's."""
    await write(EncryptedStore(store, KEY), "S3CRET")
    [(document, recent)] = postgres.execute(
        "SELECT document, clock_timestamp() - changed_at < interval '1 minute' FROM wxtcb_tokens", database=database
    )
    assert document.startswith(b"gAAAA")
    assert recent


# Waiting


async def test_change_before_listening_is_not_missed(store, other, monkeypatch):
    """After LISTEN the version is checked once more."""
    version = await write(store)
    connect = module._Client._connect

    async def connect_late(self):
        monkeypatch.undo()
        monkeypatch.setattr(module, "MESSAGE_TIMEOUT", LONG)
        assert await other.compare_and_set(APPID, "two", version=version)
        return await connect(self)

    await store.load(APPID)
    monkeypatch.setattr(module._Client, "_connect", connect_late)
    await finish(store.wait_for_change(APPID, version=version, timeout=LONG))


async def test_notification_wakes_a_waiter(postgres, database, store, other, monkeypatch):
    """A waiter wakes although its next check is an hour away."""
    monkeypatch.setattr(module, "MESSAGE_TIMEOUT", LONG)
    version = await write(store)
    waiting = asyncio.create_task(store.wait_for_change(APPID, version=version, timeout=LONG))
    await wait_for_listeners(postgres, database, 1)
    assert await other.compare_and_set(APPID, "two", version=version)
    await finish(waiting)


async def test_lost_notification_is_found_by_the_next_check(postgres, database, store, monkeypatch):
    """A change without a notification is found by the next check."""
    monkeypatch.setattr(module, "MESSAGE_TIMEOUT", 0.05)
    version = await write(store)
    waiting = asyncio.create_task(store.wait_for_change(APPID, version=version, timeout=LONG))
    await wait_for_listeners(postgres, database, 1)
    postgres.execute("UPDATE wxtcb_tokens SET version = 'by hand'", database=database)
    await finish(waiting)


async def test_broken_listener_is_replaced_by_polling(postgres, database, store, other, monkeypatch):
    """A waiter whose connections break finds the next change."""
    monkeypatch.setattr(module, "MESSAGE_TIMEOUT", LONG)
    version = await write(store)
    waiting = asyncio.create_task(store.wait_for_change(APPID, version=version, timeout=LONG))
    await wait_for_listeners(postgres, database, 1)
    postgres.disconnect(database)
    assert await other.compare_and_set(APPID, "two", version=version)
    await finish(waiting)


async def test_listener_whose_connection_breaks_closes_it(postgres, url, database):
    """It pauses instead from then on."""
    listener = module._Listener()
    listener.connection = await psycopg.AsyncConnection.connect(url, autocommit=True)
    waiting = asyncio.create_task(listener.wait_for_message())
    await asyncio.sleep(0)
    postgres.disconnect(database)
    await finish(waiting)
    assert listener.connection is None


async def test_failed_listener_is_replaced_by_polling(postgres, database, store, other, monkeypatch):
    """Where LISTEN is not possible, the waiter polls."""
    monkeypatch.setattr(module, "_LISTEN", "LISTEN")
    monkeypatch.setattr(module, "MESSAGE_TIMEOUT", LONG)
    await check_wakes(store, other, await write(store))
    await wait_for_listeners(postgres, database, 0)


async def test_failed_connection_of_a_listener_is_replaced_by_polling(store, other, monkeypatch):
    """If the server accepts no further connection, the waiter polls on the others."""
    version = await write(store)

    async def fail(_):
        raise OSError(111, "S3CRET")

    monkeypatch.setattr(module._Client, "_connect", fail)
    waiting = asyncio.create_task(store.wait_for_change(APPID, version=version, timeout=LONG))
    await asyncio.sleep(0.05)
    monkeypatch.undo()
    assert await other.compare_and_set(APPID, "two", version=version)
    await finish(waiting)


async def test_behind_a_pooler_waiters_poll(postgres, database, other, monkeypatch):
    """A pooler shows another number of the process; a notification is then not relied on."""
    monkeypatch.setattr(module, "MESSAGE_TIMEOUT", LONG)
    async with pooler(postgres) as folder, PostgresStore.from_url(via(folder, postgres, database)) as store:
        await check_wakes(store, other, await write(store))
        await wait_for_listeners(postgres, database, 0)


async def test_thousand_waiters_share_one_connection(postgres, database, store, other, monkeypatch):
    """All wake after one write, long before the next check, and no connection remains."""
    monkeypatch.setattr(module, "MESSAGE_TIMEOUT", LONG)
    version = await write(store)
    waits = [asyncio.create_task(store.wait_for_change(APPID, version=version, timeout=LONG)) for _ in range(1000)]
    await wait_for_listeners(postgres, database, 1)
    assert count_connections(postgres, database) <= module.MAX_CONNECTIONS + 2
    assert await other.compare_and_set(APPID, "two", version=version)
    await finish(asyncio.gather(*waits))
    await wait_for_listeners(postgres, database, 0)


async def test_waiters_of_several_platforms_wake_separately(store):
    """A change wakes the waiters of its own platform only."""
    version = await write(store)
    one = asyncio.create_task(store.wait_for_change(APPID, version=version, timeout=LONG))
    two = asyncio.create_task(store.wait_for_change("wx2", version="", timeout=LONG))
    await asyncio.sleep(0.05)
    await store.compare_and_set("wx2", "document", version="")
    await finish(two)
    assert not one.done()
    await write(store)
    await finish(one)


async def test_no_listener_stays_open(postgres, database, store, other):
    """The connection is closed after a change, a timeout or a cancellation."""
    version = await write(store, "one")
    await store.wait_for_change(APPID, version=version, timeout=0.03)
    cancelled = asyncio.create_task(store.wait_for_change(APPID, version=version, timeout=LONG))
    await wait_for_listeners(postgres, database, 1)
    cancelled.cancel()
    await asyncio.wait([cancelled])
    await check_wakes(store, other, version)
    await wait_for_listeners(postgres, database, 0)


# The table


async def test_many_stores_create_the_table_at_once(postgres, url, database):
    """Each finds or creates it, also after it was dropped."""
    async with contextlib.AsyncExitStack() as stack:
        stores = [await stack.enter_async_context(PostgresStore.from_url(url)) for _ in range(10)]
        for _ in range(3):
            assert {each.document for each in await asyncio.gather(*(each.load(APPID) for each in stores))} == {None}
            written = [store.compare_and_set(APPID, "one", version="") for store in stores]
            assert sorted(await asyncio.gather(*written)) == [False] * 9 + [True]
            postgres.execute("DROP TABLE wxtcb_tokens", database=database)


async def test_user_without_permission_to_create_needs_the_schema_from_its_owner(postgres, database, role):
    """The error names `schema_sql`; with that table and the documented permissions every operation works."""
    postgres.execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC", database=database)
    async with PostgresStore.from_url(postgres.url(database, user=role)) as store:
        error = await catch(store.load(APPID))
        assert "has no table wxtcb_tokens, and the user may not create it: run PostgresStore.schema_sql()" in str(error)
        assert error.permanent
        postgres.execute(store.schema_sql(), database=database)
        error = await catch(store.load(APPID))
        assert "needs the permissions SELECT, INSERT, UPDATE and DELETE" in str(error)
        assert error.permanent
        postgres.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON wxtcb_tokens TO {role}", database=database)
        await check_wakes(store, store, await write(store))


async def test_table_of_another_program_is_rejected_and_unchanged(postgres, database, store):
    """All operations reject a table with other columns, or with columns of other types."""
    for columns in ("id int", "appid int, document text, version int"):
        postgres.execute(f"CREATE TABLE wxtcb_tokens ({columns})", database=database)
        for operation in (
            store.load(APPID),
            store.compare_and_set(APPID, "ours", version=""),
            store.wait_for_change(APPID, version="", timeout=1),
        ):
            error = await catch(operation)
            assert "of another program" in str(error)
            assert error.permanent
        assert postgres.execute("SELECT * FROM wxtcb_tokens", "DROP TABLE wxtcb_tokens", database=database) == []


async def test_read_only_database_rejects_writes(postgres, database, store):
    """A write fails and a load works; later writes work again. A missing table is not created."""
    version = await write(store)
    settings = f"ALTER DATABASE {database} SET default_transaction_read_only = '{{}}'"
    postgres.execute(settings.format("on"))
    await store.aclose()
    error = await catch(store.compare_and_set(APPID, "two", version=version))
    assert "cannot be written: this server or database is read-only" in str(error)
    assert not error.permanent
    assert (await store.load(APPID)).document == "one"
    postgres.execute("SET default_transaction_read_only = off", "DROP TABLE wxtcb_tokens", database=database)
    assert "is read-only" in str(await catch(store.load(APPID)))
    postgres.execute(settings.format("off"))
    await store.aclose()
    assert await store.compare_and_set(APPID, "two", version="")


async def test_rows_of_unused_platforms_are_deleted_after_a_day(postgres, database, store):
    """A write deletes what other platforms changed more than 24 hours ago; a rejected write and a load do not."""
    for number in range(3):
        assert await store.compare_and_set(f"wx{number}", "old", version="")
    postgres.execute("UPDATE wxtcb_tokens SET changed_at = now() - interval '25 hours'", database=database)
    assert await store.compare_and_set("new", "new", version="") is True
    assert (await store.load("wx0")).document is None
    version = await write(store)
    postgres.execute("UPDATE wxtcb_tokens SET changed_at = now() - interval '23 hours'", database=database)
    assert await store.compare_and_set(APPID, "two", version=version)
    postgres.execute("UPDATE wxtcb_tokens SET changed_at = now() - interval '25 hours'", database=database)
    assert not await store.compare_and_set(APPID, "three", version=version)
    assert (await store.load("new")).document == "new"
    # The row of the platform itself stays.
    assert await store.compare_and_set(APPID, "three", version=(await store.load(APPID)).version)
    assert (await store.load(APPID)).document == "three"
    assert postgres.execute("SELECT appid FROM wxtcb_tokens", database=database) == [(APPID,)]


def test_write_survives_a_crash_although_the_database_commits_asynchronously():
    """Each acknowledged write is there after a crash; a transaction with the setting of the database is lost."""
    server = start_postgres(synchronous_commit="off", wal_writer_delay="10000")
    try:

        async def main():
            async with PostgresStore.from_url(server.url()) as store:
                await write(store)
                server.execute("CREATE TABLE control (one int)", "CHECKPOINT")
                version = await write(store, "two")
                server.execute("INSERT INTO control VALUES (1)")
                server.crash()
                server.start()
                stored = await store.load(APPID)
                assert (stored.document, stored.version) == ("two", version)
                assert server.execute("SELECT * FROM control") == []

        asyncio.run(main())
    finally:
        server.stop()


async def test_stronger_setting_of_the_database_is_kept(url, monkeypatch):
    """`remote_apply` waits for stand-by servers, too, and is not lowered; every other setting becomes `on`."""
    expression = module._UPDATE.partition("set_config(")[2].rpartition(")\nFROM")[0]
    async with await psycopg.AsyncConnection.connect(url) as connection:
        for default, used in (("remote_apply", "remote_apply"), ("off", "on"), ("local", "on")):
            await connection.execute(f"SET synchronous_commit = {default}")
            cursor = await connection.execute(f"SELECT set_config({expression})")
            assert await cursor.fetchone() == (used,)
            await connection.rollback()


# Servers that go away


async def test_store_works_when_the_server_is_back(own_server):
    """A stopped server is an error at once; after a restart or a crash the document is there."""
    async with PostgresStore.from_url(own_server.url()) as store:
        version = await write(store)
        for stop in (own_server.shutdown, own_server.crash):
            stop()
            for operation in (
                store.load(APPID),
                store.compare_and_set(APPID, "", version=version),
                store.wait_for_change(APPID, version=version, timeout=LONG),
            ):
                error = await catch(operation)
                assert "cannot be reached" in str(error)
                assert not error.permanent
            own_server.start()
            stored = await store.load(APPID)
            assert (stored.document, stored.version) == ("one", version)
            assert await store.compare_and_set(APPID, "one", version=version)
            version = (await store.load(APPID)).version


async def test_server_that_stops_during_a_wait_is_an_error(own_server):
    """Every waiter gets the error before its timeout, and a later one waits again."""
    async with PostgresStore.from_url(own_server.url()) as store:
        version = await write(store)
        waits = [asyncio.create_task(store.wait_for_change(APPID, version=version, timeout=LONG)) for _ in range(3)]
        await wait_for_listeners(own_server, "postgres", 1)
        own_server.shutdown()
        for waiting in waits:
            assert "cannot be reached" in str(await catch(waiting))
        own_server.start()
        await check_wakes(store, store, version)


async def test_hanging_server_is_an_error_after_two_attempts(own_server, monkeypatch):
    """Both attempts end at their timeout; the store works again when the server does."""
    async with PostgresStore.from_url(own_server.url()) as store:
        version = await write(store)
        own_server.pause()
        try:
            monkeypatch.setattr(module, "REPLY_TIMEOUT", 0.05)
            assert "cannot be reached: no reply in time" in str(await catch(store.load(APPID)))
            assert "no reply in time" in str(await catch(store.compare_and_set(APPID, "two", version=version)))
        finally:
            own_server.resume()
        monkeypatch.setattr(module, "REPLY_TIMEOUT", 60)
        assert (await store.load(APPID)).document in {"one", "two"}
        await write(store, "three")


async def test_state_repository_limits_the_wait_for_a_hanging_server(own_server, monkeypatch, pass_time):
    """The limit holds although the store would wait longer, and no cancellation waits for the server."""
    monkeypatch.setattr(StateRepository._call_store, "__defaults__", (100.0,))
    monkeypatch.setattr(module, "REPLY_TIMEOUT", LONG)
    async with PostgresStore.from_url(own_server.url()) as store:
        shared = StateRepository(store, APPID)
        await shared.read()
        own_server.pause()
        try:
            reading = asyncio.create_task(shared.read())
            await asyncio.sleep(0.01)
            assert not reading.done()
            pass_time(101)
            assert "within 100 s" in str(await catch(reading))
        finally:
            own_server.resume()
        assert (await shared.read()).state.token is None


def test_store_gives_up_before_state_repository_does():
    """Two attempts take less than `STORE_TIMEOUT`, so the error names the reason."""
    assert 2 * REPLY_TIMEOUT < STORE_TIMEOUT


@pytest.mark.parametrize("lost", [1, 2])
async def test_write_with_a_lost_reply(postgres, database, store, lost):
    """It is sent again, and finds its own new version; after two lost replies it is an error, although it is stored."""
    left = itertools.count(lost, -1)

    def change(request, data):
        return None if b"WITH written" in request and next(left) > 0 else data

    await store.load(APPID)
    async with relay(postgres, change) as folder, PostgresStore.from_url(via(folder, postgres, database)) as relayed:
        for document in ("one", "two"):
            left = itertools.count(lost, -1)
            version = (await store.load(APPID)).version
            if lost == 1:
                assert await relayed.compare_and_set(APPID, document, version=version)
            else:
                error = await catch(relayed.compare_and_set(APPID, document, version=version))
                assert "cannot be reached: the connection was lost" in str(error)
            assert (await store.load(APPID)).document == document


# Errors


async def test_error_says_why_there_is_no_connection(postgres, database, role, free_port, tmp_path):
    """The reason is in wxtcb's words; those that waiting does not fix are permanent. No user or password is shown."""
    postgres.execute("DO $$ BEGIN CREATE ROLE locked LOGIN PASSWORD 'right'; EXCEPTION WHEN OTHERS THEN NULL; END $$")
    postgres.execute(f"ALTER DATABASE {database} CONNECTION LIMIT 0")
    cases = {
        postgres.url(user="locked", password="S3CRET"): ("user or password is wrong", True),
        postgres.url(user="locked", password="S3CRET", tcp=True): ("user or password is wrong", True),
        postgres.url(user="locked"): ("user or password is wrong", True),
        postgres.url(user="S3CRET"): ("the user or the database does not exist", True),
        postgres.url("S3CRETdb", user=role): ("the user or the database does not exist", True),
        postgres.url(database, user=role): ("it has no free connection", False),
        f"postgresql://a:S3CRET@127.0.0.1:{free_port}/x": ("Connection refused", False),
        f"postgresql://a:S3CRET@/x?host={tmp_path}": ("the server has no such socket", False),
        "postgresql://a:S3CRET@no-such-host.invalid/x?wxtcb_plain=1": ("the host name could not be resolved", False),
        postgres.url(user="postgres", tcp=True) + "?sslmode=require": ("the TLS handshake failed", False),
    }
    for url, (reason, permanent) in cases.items():
        async with PostgresStore.from_url(url) as store:
            error = await catch(store.load(APPID))
            assert reason in str(error), url
            assert store.masked_url in str(error)
            assert error.permanent == permanent, url
            assert "S3CRET" not in str(error).replace(f"/{'S3CRETdb'}", "")


class Conflict(psycopg.Error):
    """An error of a server."""

    sqlstate = "40001"


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (psycopg.OperationalError("S3CRET"), "cannot be reached: OperationalError"),
        (psycopg.OperationalError("FATAL:  S3CRET the database system is starting up"), "starting or stopping"),
        (psycopg.OperationalError("session is read-only S3CRET"), "no server of the URL accepts writes"),
        (psycopg.OperationalError("connection timeout expired"), "no reply in time"),
        (psycopg.OperationalError("SSL error: certificate verify failed S3CRET"), "its TLS certificate is not trusted"),
        (psycopg.OperationalError('no pg_hba.conf entry for host "S3CRET"'), "does not permit this connection"),
        (psycopg.errors.DiskFull("S3CRET"), "the disk of the server is full"),
        (psycopg.errors.UndefinedFile("S3CRET"), "cannot be accessed: UndefinedFile (58P01)"),
        (Conflict("S3CRET"), "transactions of other processes conflict"),
        (KeyError("S3CRET"), "cannot be reached: KeyError"),
    ],
)
async def test_no_message_of_the_client_or_server_is_quoted(monkeypatch, error, reason):
    """An error has a reason in wxtcb's words, or the class of the original one."""

    async def fail(_):
        raise error

    monkeypatch.setattr(module._Client, "_connect", fail)
    monkeypatch.setattr(module, "REPLY_TIMEOUT", 0.01)
    async with PostgresStore.from_url("postgresql://127.0.0.1:1") as store:
        caught = await catch(store.load(APPID))
    assert reason in str(caught)
    assert "S3CRET" not in f"{caught!r}"


async def test_invalid_appid_is_an_error(store):
    """A text of PostgreSQL contains no NUL; the connection works on."""
    await store.load(APPID)
    assert "DataError" in str(await catch(store.load("\0")))
    assert (await store.load(APPID)).document is None


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


@pytest.fixture(params=["own", "pool"])
async def store_to_cancel(request, url):
    """Return a store with connections of its own, or with a pool of three."""
    if request.param == "own":
        async with PostgresStore.from_url(url) as store:
            yield store
        return
    async with AsyncConnectionPool(url, min_size=3, max_size=3, timeout=60) as pool:
        yield PostgresStore(pool)


@pytest.mark.unmeasured
async def test_random_cancellations_mix_up_no_replies(postgres, database, store_to_cancel):
    """Of 200 tasks each ends as expected, with replies for its own appid, and no connection is lost."""
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
        for _ in range(20):
            ended[await cancel_after_turns(use(chance.choice(appids)), chance.randrange(40))] += 1

    await asyncio.gather(*(worker() for _ in range(10)))
    assert ended["lost"] == 0
    assert ended["cancelled"] > 50, ended
    assert {(await store.load(appid)).document for appid in appids * 4} == set(appids)
    await wait_for_connections(postgres, database, 0, "query LIKE '%LISTEN%'")
    await wait_for_connections(postgres, database, 0, "state <> 'idle'")


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


# Pools of the caller


async def conninfo_later(url):
    """Return *url*, as a pool gets a password that changes."""
    return url


POOLS = {
    "plain": {},
    "committing": {"kwargs": {"autocommit": True}},
    "with rows of another kind": {"kwargs": {"row_factory": dict_row}},
    "with cursors of another kind": {"kwargs": {"cursor_factory": psycopg.AsyncRawCursor}},
    "that prepares": {"kwargs": {"prepare_threshold": 0}},
}


@pytest.fixture(params=[*POOLS, "of functions", "without idle connections"])
async def pool(request, url):
    """Return an open pool of the requested kind."""
    if request.param == "of functions":
        if psycopg_pool.__version__ < "3.3":
            pytest.skip("this version has no such pools")
        pool = AsyncConnectionPool(lambda: conninfo_later(url), kwargs=dict, min_size=1, open=False)
    elif request.param == "without idle connections":
        pool = AsyncNullConnectionPool(url, open=False)
    else:
        pool = AsyncConnectionPool(url, min_size=1, max_size=1, open=False, **POOLS[request.param])
    async with pool:
        yield pool


async def test_every_kind_of_pool_works_and_stays_as_it_is(pool):
    """All operations work, also with a single connection while tasks wait; the pool stays open and unchanged."""
    async with pool.connection() as connection:
        before = connection.autocommit
    async with PostgresStore(pool) as store:
        version = await write(store, "{}\n\0é票🎟" * 500)
        assert (await store.load(APPID)).document == "{}\n\0é票🎟" * 500
        for wrong in ("", "another"):
            assert not await store.compare_and_set(APPID, "no", version=wrong)
        await check_wakes(store, store, version)
        await finish(store.wait_for_change(APPID, version=version, timeout=LONG))
    async with pool.connection() as connection:
        assert connection.autocommit == before
        await connection.execute("SELECT 1")


async def test_address_of_a_pool(url, database, postgres):
    """It is that of its settings; for settings from functions, only the scheme."""
    addresses = {
        AsyncConnectionPool(
            url, open=False
        ): f"postgresql://***@/{database}?host={postgres.folder}&port={postgres.port}",
        AsyncConnectionPool("host=a", kwargs={"dbname": "b", "autocommit": True}, open=False): "postgresql://a/b",
        AsyncConnectionPool(lambda: url, open=False): "postgresql://",
        AsyncConnectionPool("nonsense", open=False): "postgresql://",
    }
    for pool, address in addresses.items():
        assert PostgresStore(pool).masked_url == address


async def test_closed_pool_is_an_error(url):
    """The error names the exception of the pool."""
    store = PostgresStore(AsyncConnectionPool(url, open=False))
    assert "cannot be reached: PoolClosed" in str(await catch(store.load(APPID)))


async def test_dead_connections_of_a_pool_are_replaced(postgres, url, database):
    """After the server ended all connections of a pool, the next operation succeeds."""
    async with AsyncConnectionPool(url, min_size=4, max_size=4) as pool:
        await pool.wait()
        store = PostgresStore(pool)
        version = await write(store)
        for _ in range(3):
            postgres.disconnect(database)
            assert (await store.load(APPID)).version == version


async def test_cancellation_while_a_connection_is_given_back_leaves_it_whole(url):
    """The pool gets its connection back, and the next operation uses it."""
    giving_back, go_on = asyncio.Event(), asyncio.Event()

    class SlowPool(AsyncConnectionPool):
        @contextlib.asynccontextmanager
        async def connection(self, timeout=None):
            async with super().connection(timeout) as connection:
                yield connection
                giving_back.set()
                await go_on.wait()

    async with SlowPool(url, min_size=1, max_size=1) as pool:
        store = PostgresStore(pool)
        loading = asyncio.create_task(store.load(APPID))
        await giving_back.wait()
        loading.cancel()
        await asyncio.sleep(0)
        go_on.set()
        await asyncio.wait([loading])
        assert loading.cancelled()
        number = pool.get_stats()["connections_num"]
        assert (await store.load(APPID)).document is None
        assert pool.get_stats()["connections_num"] == number


def test_missing_argument_is_a_type_error():
    """Nothing else is reported when the object is deleted."""
    with pytest.raises(TypeError, match="pool"):
        PostgresStore()


@pytest.mark.parametrize("pool", [None, "postgresql://localhost", object()], ids=["none", "url", "object"])
def test_other_pools_are_rejected(pool):
    """The message names the expected and the given class."""
    kind = f"{type(pool).__module__}.{type(pool).__name__}"
    with pytest.raises(InvalidArgument, match=rf"must be a psycopg_pool.AsyncConnectionPool, not {kind}"):
        PostgresStore(pool)


# URLs


@pytest.mark.parametrize(
    "url",
    [
        "S3CRET",
        "host=localhost password=S3CRET",
        "http://:S3CRET@localhost",
        "postgresql://:S3CRET@localhost?unknown=1",
        "postgresql://:S3CRET@[localhost",
        "postgresql://:S3CRET%@localhost",
        "postgresql://:S3CRET@localhost/\udcff",
    ],
)
def test_invalid_url_is_rejected_and_not_quoted(url):
    """Neither the message nor a chained exception nor a frame shows the URL, which may contain a password."""
    with pytest.raises(InvalidArgument, match="must be postgresql://") as caught:
        open_store(url) if url.startswith("postgres") else PostgresStore.from_url(url)
    error = caught.value
    assert error.__cause__ is None
    assert error.__context__ is None
    story = traceback.TracebackException.from_exception(error, capture_locals=True)
    frames = [frame for frame in story.stack if frame.filename == module.__file__]
    assert "S3CRET" not in "".join([str(error), *(str(frame.locals) for frame in frames if "url" not in frame.name)])


@pytest.mark.parametrize(
    ("url", "masked"),
    [
        ("postgresql://localhost", "postgresql://localhost/"),
        ("postgres://127.9.9.9:1/shop", "postgresql://127.9.9.9:1/shop"),
        ("postgresql://me:S3CRET@[::1]:7/shop", "postgresql://***@[::1]:7/shop"),
        ("postgresql://localhost:1,127.0.0.1:2/shop", "postgresql://localhost:1,127.0.0.1:2/shop"),
        ("postgresql://localhost,127.0.0.1/shop?port=5", "postgresql://localhost:5,127.0.0.1:5/shop"),
        ("postgresql:///shop", "postgresql:///shop"),
        ("postgresql:///shop?host=/run/postgresql", "postgresql:///shop?host=/run/postgresql"),
        ("postgresql://db/shop?hostaddr=127.0.0.1", "postgresql://db/shop"),
        ("postgresql://:S3CRET@db:6432/shop?sslmode=verify-full", "postgresql://***@db:6432/shop"),
        ("postgresql://db/shop?sslrootcert=system", "postgresql://db/shop"),
        ("postgresql://:S3CRET@10.1.2.3/shop?wxtcb_plain=1", "postgresql://***@10.1.2.3/shop"),
        ("postgresql://db/shop?sslmode=require&wxtcb_unverified=1", "postgresql://db/shop"),
    ],
)
def test_url_of_a_protected_connection_is_accepted(monkeypatch, url, masked):
    """A connection on this machine, with verified TLS, or permitted by an option; the store masks the password."""
    monkeypatch.delenv("PGHOST", raising=False)
    store = open_store(Secret(url))
    assert isinstance(store, PostgresStore)
    assert store.masked_url == masked


@pytest.mark.parametrize(
    ("url", "option"),
    [
        ("postgresql://:S3CRET@10.1.2.3:5432/shop", "allow_plain"),
        ("postgresql://:S3CRET@db/shop?sslmode=prefer", "allow_plain"),
        ("postgresql://localhost,10.1.2.3/shop?password=S3CRET", "allow_plain"),
        ("postgresql://localhost/shop?hostaddr=10.1.2.3&password=S3CRET", "allow_plain"),
        ("postgresql:///shop?host=db&password=S3CRET", "allow_plain"),
        ("postgresql:///shop?service=S3CRET", "allow_plain"),
        ("postgresql://:S3CRET@db/shop?wxtcb_unverified=1", "allow_plain"),
        ("postgresql://:S3CRET@db/shop?sslmode=require", "allow_unverified"),
        ("postgresql://:S3CRET@db/shop?sslmode=verify-ca&wxtcb_plain=1", "allow_unverified"),
    ],
)
def test_url_of_an_unprotected_connection_needs_an_option(url, option):
    """The message names the server and the option, and no frame shows the password."""
    with pytest.raises(InvalidArgument, match=rf"postgresql://.*{option}=True") as caught:
        PostgresStore.from_url(Secret(url))
    frames = traceback.TracebackException.from_exception(caught.value, capture_locals=True).stack[1:]
    assert "S3CRET" not in f"{caught.value!r} {[frame.locals for frame in frames]}"
    assert PostgresStore.from_url(url, **{option: True}).masked_url in str(caught.value)


def test_server_of_the_environment_is_checked(monkeypatch):
    """A missing host is taken from PGHOST, and a missing mode from PGSSLMODE."""
    monkeypatch.setenv("PGHOST", "db")
    with pytest.raises(InvalidArgument, match="allow_plain"):
        PostgresStore.from_url("postgresql:///shop")
    monkeypatch.setenv("PGSSLMODE", "verify-full")
    assert PostgresStore.from_url("postgresql:///shop").masked_url == "postgresql://db/shop"


async def test_of_several_hosts_the_one_that_accepts_writes_is_used(postgres, database, free_port):
    """A host without a server is passed over."""
    url = f"postgresql://postgres@127.0.0.1:{free_port},127.0.0.1:{postgres.port}/{database}"
    for _ in range(4):
        async with PostgresStore.from_url(url) as store:
            await write(store)


# Sessions


@pytest.mark.parametrize("key", [None, Secret(KEY)], ids=["plain", "encrypted"])
async def test_session_opens_and_closes_the_store_of_its_url(postgres, database, url, key):
    """The token is fetched once, a second session finds it, and no connection remains."""
    fetches = []

    async def source():
        fetches.append(1)
        return wxtcb.tokens.ComponentToken("T0KEN", 7200)

    for _ in range(2):
        store = StoreURL(Secret(url), key)
        async with wxtcb.Session(component_appid=APPID, token_source=source, token_store=store) as session:
            assert (await session.token()).reveal() == "T0KEN"
        await wait_for_connections(postgres, database, 0)
    assert len(fetches) == 1
    [(document,)] = postgres.execute("SELECT document FROM wxtcb_tokens", database=database)
    assert (b"T0KEN" in document) == (key is None)


async def test_variable_names_the_store(monkeypatch, url, postgres, database):
    """`Session.from_env` opens the store that WXTCB_TOKEN_STORE names."""
    variables = {"COMPONENT_APPID": APPID, "COMPONENT_APPSECRET": "secret", "TICKET": "ticket@@@1", "TOKEN_STORE": url}
    for name, value in variables.items():
        monkeypatch.setenv(f"WXTCB_{name}", value)
    async with wxtcb.Session.from_env():
        assert postgres.execute("SELECT count(*) FROM wxtcb_tokens", database=database) == [(0,)]
        await wait_for_connections(postgres, database, 1)
    await wait_for_connections(postgres, database, 0)


async def test_thousand_callers_cause_one_fetch(url):
    """Of ten processes with a hundred callers each, one fetches, and all return its token."""
    async with contextlib.AsyncExitStack() as stack:
        processes = [
            CacheHarness(
                store=await stack.enter_async_context(PostgresStore.from_url(url)),
                seconds=0.1,
                owner=f"host:{number}",
                brand=f"T{number}",
            )
            for number in range(10)
        ]
        tokens = await finish(asyncio.gather(*(each.token() for each in processes for _ in range(100))))
        assert sum(each.fetches for each in processes) == 1
        for process, token in zip(processes, tokens[::100], strict=True):
            process.cache.invalidate(token, 42001)
        again = await finish(asyncio.gather(*(each.token() for each in processes for _ in range(100))))
        assert len({token.value for token in again}) == 1
        assert sum(each.fetches for each in processes) == 2
        for process in processes:
            await process.cache.aclose()


WITHOUT = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name == "psycopg":
            raise ModuleNotFoundError("No module named '{absent}'", name="{absent}")

sys.meta_path.insert(0, Missing())
try:
    import wxtcb.tokens.postgres
except ModuleNotFoundError as error:
    print(error, "/", error.name)
"""


@pytest.mark.usefixtures("measured")
@pytest.mark.parametrize(
    ("absent", "result"),
    [
        ("psycopg", "wxtcb.tokens.postgres needs psycopg: pip install 'wxtcb[postgres]' / psycopg"),
        ("something", "No module named 'something' / something"),
    ],
)
def test_without_psycopg_the_import_says_what_to_install(absent, result):
    """The import names the extra; a module that psycopg itself misses is raised unchanged."""
    command = [sys.executable, "-c", WITHOUT.format(absent=absent)]
    assert subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout.strip() == result
