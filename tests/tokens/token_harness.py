"""Test harness for token refresh: a scripted provider, and the token cache of one process on a store."""

from __future__ import annotations

import asyncio
import contextvars

import attrs
import pytest

from wxtcb._concurrency.limiter import RequestLimiter
from wxtcb._protocol.errcodes import api_error
from wxtcb.errors import TransportError, WxtcbError
from wxtcb.secret import Secret
from wxtcb.telemetry.dispatch import HookDispatcher
from wxtcb.tokens.cache import TokenCache
from wxtcb.tokens.providers import ComponentToken
from wxtcb.tokens.refresh import TOKEN_PATH, TokenRefresher
from wxtcb.tokens.state_repository import StateRepository
from wxtcb.tokens.stores import MemoryStore

APPID = "wx0"
CALLER = contextvars.ContextVar("WHO", default="no caller")


def clock():
    """Return the virtual time."""
    return asyncio.get_running_loop().time()


def errcode(code):
    """Return the error for an errcode of the token call."""
    return api_error(code, "as scripted", endpoint=TOKEN_PATH, without_token=True)


def refused():
    """Return the error of a refused connection."""
    return TransportError("no connection", endpoint=TOKEN_PATH, sent=False)


@attrs.define(eq=False)
class ScriptedProvider:
    """A token provider; `answer` gets the number of the fetch and returns a ttl in seconds or an error."""

    answer: object = 7200
    seconds: float = 0.5
    fetched_at: list = attrs.field(factory=list)
    open: int = 0
    most_open: int = 0
    who: str = ""
    brand: str = "T0KEN"
    values: list = attrs.field(factory=list)
    invalidates_previous: bool = True
    order: object = None
    preparing: object = None

    async def prepare(self):
        if self.preparing:
            return await self.preparing()
        return self.order or self.fetch

    async def fetch(self, may_send):
        assert may_send()
        self.fetched_at.append(clock())
        self.who = CALLER.get()
        number = len(self.fetched_at)
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        try:
            await asyncio.sleep(self.seconds)
        finally:
            self.open -= 1
        answer = self.answer(number) if callable(self.answer) else self.answer
        if isinstance(answer, Exception):
            raise answer
        self.values.append(f"{self.brand}-{number}")
        return ComponentToken(Secret(f"{self.brand}-{number}"), answer)


@attrs.define(eq=False)
class StoreConnection:
    """The connection of one process to a store.

    If `cut`, every operation fails; if `locked`, every write fails; if `frozen`, no operation returns; if `deaf`,
    writes take effect but do not return. `broken` is called before every operation.
    """

    store: object
    cut: bool = False
    locked: bool = False
    frozen: bool = False
    deaf: bool = False
    broken: object = None

    async def load(self, *args, **kwargs):
        return await self._pass("load", args, kwargs)

    async def compare_and_set(self, *args, **kwargs):
        return await self._pass("compare_and_set", args, kwargs)

    async def wait_for_change(self, *args, **kwargs):
        return await self._pass("wait_for_change", args, kwargs)

    async def _pass(self, name, args, kwargs):
        if self.broken:
            self.broken()
        if self.frozen:
            await asyncio.get_running_loop().create_future()
        if self.cut or (self.locked and name == "compare_and_set"):
            raise ConnectionError("S3CRET address")
        answer = await getattr(self.store, name)(*args, **kwargs)
        if self.deaf and name == "compare_and_set":
            await asyncio.get_running_loop().create_future()
        return answer


def lowest(low, _high):
    """Return the lower bound: no jitter."""
    return low


class CacheHarness:
    """A cache with its provider, store, limiter and events; no jitter."""

    def __init__(self, answer=7200, seconds=0.5, *, store=None, brand="T0KEN", uniform=lowest, **options):
        time = asyncio.get_running_loop().time
        self.source = ScriptedProvider(answer, seconds, brand=brand)
        self.store = store or MemoryStore(time)
        self.limiter = RequestLimiter(10, time, time)
        self.events = []
        observers = HookDispatcher((self.events.append,))
        shared = StateRepository(self.store, APPID, observers)
        settings = {"owner": "here:1", "provider": self.source, "uniform": uniform} | options
        self.refresher = TokenRefresher(
            state_repository=shared, dispatcher=observers, now=time, sleep=self.limiter.sleep, **settings
        )
        self.cache = TokenCache(self.refresher)

    async def token(self):
        """Return a token as a call gets it."""
        return self.cache.cached() or await self.cache.get()

    def emitted(self, kind):
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def fetches(self):
        return len(self.source.fetched_at)


def kill(harness):
    """End a process as kill -9 does: nothing of it takes effect any more."""
    harness.store.frozen = True
    harness.cache._refresh_task._task.cancel()


async def until(moment):
    """Sleep until *moment*, counted from the start of the test."""
    await asyncio.sleep(1000 + moment - clock())


async def catch(awaitable):
    """Return the error that *awaitable* raised."""
    with pytest.raises(WxtcbError) as caught:
        await awaitable
    return caught.value
