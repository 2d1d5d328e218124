"""Every store there is, each at a place of its own that can be opened from two sides."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import attrs
import pytest
from redis.asyncio import Redis

from wxtcb.tokens import redis as redis_module
from wxtcb.tokens.encrypted import EncryptedStore
from wxtcb.tokens.redis import RedisStore
from wxtcb.tokens.stores import MemoryStore, SqliteStore, TokenStore

from .valkey_server import shared_valkey

KEY = "x" * 43 + "="


@attrs.frozen
class Place:
    """Where a store keeps its documents.

    `handle` opens it once more, as another process would; `lose` loses all that is kept.
    """

    handle: Callable[[], TokenStore]
    lose: Callable[[], Awaitable[None]]


async def memory(_, __):
    """Give the memory of this process."""
    store = MemoryStore()

    async def lose():
        store._documents.clear()
        for bells in store._waiters.values():
            for bell in bells:
                bell.set_result(None)

    return Place(lambda: store, lose)


async def sqlite(folder, stack):
    """Give a file."""

    async def lose():
        for file in folder.glob("tokens.db*"):
            file.unlink()

    def handle():
        store = SqliteStore(folder / "tokens.db")
        stack.push_async_callback(store.aclose)
        return store

    return Place(handle, lose)


async def redis(folder, stack):
    """Give a prefix in a server that all places share."""
    url = shared_valkey().url

    async def lose():
        async with Redis.from_url(url) as client:
            await client.delete(*await client.keys(f"{folder.name}:*"))

    def handle():
        store = RedisStore.from_url(url, prefix=folder.name)
        stack.push_async_callback(store.aclose)
        return store

    return Place(handle, lose)


def sealed(inner):
    """Give what *inner* gives, sealed."""

    async def seal(folder, stack):
        place = await inner(folder, stack)
        return attrs.evolve(place, handle=lambda: EncryptedStore(place.handle(), KEY))

    return seal


# Each is given an empty folder and an AsyncExitStack for what has to be closed, and returns a `Place`.
STORES = {
    "memory": memory,
    "sealed memory": sealed(memory),
    "sqlite": sqlite,
    "sealed sqlite": sealed(sqlite),
    "redis": redis,
    "sealed redis": sealed(redis),
}


@pytest.fixture(scope="session", autouse=True)
def _no_server_stays():
    """Kill the server that tests share, if one of them has started it."""
    yield
    if shared_valkey.cache_info().currsize:
        shared_valkey().end()


@pytest.fixture(autouse=True)
def _patient_clients(monkeypatch):
    """Let no client of a RedisStore give a server up that is only slow to answer."""
    monkeypatch.setattr(redis_module, "REPLY_TIMEOUT", 60.0)


@pytest.fixture
def until():
    """Give a coroutine function that returns when a condition holds, and fails only if it never does."""

    async def wait(condition):
        for _ in range(10_000):
            if condition():
                return
            await asyncio.sleep(0.01)
        pytest.fail("it does not come to hold")

    return wait


@pytest.fixture(params=STORES)
def new_place(request, tmp_path_factory):
    """Give a coroutine function that returns a new place of one kind of store, to be closed by a stack."""

    async def new(stack):
        return await STORES[request.param](tmp_path_factory.mktemp("place"), stack)

    return new


@pytest.fixture
async def place(new_place):
    """Give a place of one kind of store."""
    async with contextlib.AsyncExitStack() as stack:
        yield await new_place(stack)


@pytest.fixture
async def one(place):
    """Give a handle on the place."""
    return place.handle()


@pytest.fixture
async def other(place):
    """Give a second handle on the same place."""
    return place.handle()
