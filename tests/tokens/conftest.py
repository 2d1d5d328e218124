"""Fixtures for tests of stores: every store, opened twice."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import attrs
import pytest
from redis.asyncio import Redis

from tests.postgres_server import shared_postgres
from wxtcb.tokens import postgres as postgres_module, redis as redis_module
from wxtcb.tokens.encrypted import EncryptedStore
from wxtcb.tokens.postgres import PostgresStore
from wxtcb.tokens.redis import RedisStore
from wxtcb.tokens.stores import MemoryStore, SqliteStore, TokenStore

from .valkey_server import shared_valkey

KEY = "x" * 43 + "="


@attrs.frozen
class Backend:
    """Where a store keeps its documents.

    `handle` opens it once more, as another process would; `lose` loses all that is kept.
    """

    handle: Callable[[], TokenStore]
    lose: Callable[[], Awaitable[None]]


async def memory(_, __):
    """Return a store in memory."""
    store = MemoryStore()

    async def lose():
        store._documents.clear()
        for bells in store._waiters.values():
            for bell in bells:
                bell.set_result(None)

    return Backend(lambda: store, lose)


async def sqlite(folder, stack):
    """Return a store in a file."""

    async def lose():
        for file in folder.glob("tokens.db*"):
            file.unlink()

    def handle():
        store = SqliteStore(folder / "tokens.db")
        stack.push_async_callback(store.aclose)
        return store

    return Backend(handle, lose)


async def redis(folder, stack):
    """Return a store with a prefix of its own on a shared server."""
    url = shared_valkey().url

    async def lose():
        async with Redis.from_url(url) as client:
            await client.delete(*await client.keys(f"{folder.name}:*"))

    def handle():
        store = RedisStore.from_url(url, prefix=folder.name)
        stack.push_async_callback(store.aclose)
        return store

    return Backend(handle, lose)


async def postgres(_, stack):
    """Return a store in a database of its own on a shared server."""
    server = shared_postgres()
    name = server.create_database()
    stack.callback(server.drop_database, name)

    async def lose():
        server.truncate(name)

    def handle():
        store = PostgresStore.from_url(server.url(name))
        stack.push_async_callback(store.aclose)
        return store

    return Backend(handle, lose)


def encrypted(inner):
    """Return the store of *inner*, encrypted."""

    async def seal(folder, stack):
        backend = await inner(folder, stack)
        return attrs.evolve(backend, handle=lambda: EncryptedStore(backend.handle(), KEY))

    return seal


# Each is given an empty folder and an AsyncExitStack for what has to be closed, and returns a `Backend`.
STORES = {
    "memory": memory,
    "encrypted memory": encrypted(memory),
    "sqlite": sqlite,
    "encrypted sqlite": encrypted(sqlite),
    "redis": redis,
    "encrypted redis": encrypted(redis),
    "postgres": postgres,
    "encrypted postgres": encrypted(postgres),
}


@pytest.fixture(scope="session", autouse=True)
def _stop_shared_server():
    """Kill the server that tests share, if it was started."""
    yield
    if shared_valkey.cache_info().currsize:
        shared_valkey().end()


@pytest.fixture(autouse=True)
def _long_reply_timeout(monkeypatch):
    """Return slow servers a long reply timeout."""
    monkeypatch.setattr(redis_module, "REPLY_TIMEOUT", 60.0)
    monkeypatch.setattr(postgres_module, "REPLY_TIMEOUT", 60.0)


@pytest.fixture
def until():
    """Return a coroutine function that waits until a condition holds."""

    async def wait(condition):
        for _ in range(10_000):
            if condition():
                return
            await asyncio.sleep(0.01)
        pytest.fail("the condition never held")

    return wait


@pytest.fixture(params=STORES)
def new_backend(request, tmp_path_factory):
    """Return a coroutine function that creates the backend of one kind of store, closed by a stack."""
    if "postgres" in request.param:
        # Ends the shared server at the end of the tests.
        request.getfixturevalue("postgres")

    async def new(stack):
        return await STORES[request.param](tmp_path_factory.mktemp("backend"), stack)

    return new


@pytest.fixture
async def backend(new_backend):
    """Return the backend of one kind of store."""
    async with contextlib.AsyncExitStack() as stack:
        yield await new_backend(stack)


@pytest.fixture
async def one(backend):
    """Return a handle on the backend."""
    return backend.handle()


@pytest.fixture
async def other(backend):
    """Return a second handle on the same backend."""
    return backend.handle()
