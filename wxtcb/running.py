"""What exists while a session is open, and what it shares with its views."""

from __future__ import annotations

import asyncio
import warnings
from typing import TYPE_CHECKING, TypeVar

import attrs

from wxtcb._concurrency.limiter import RequestLimiter
from wxtcb._concurrency.shared_poll import SharedPoller
from wxtcb._http.executor import RequestExecutor
from wxtcb._http.retry import RetryPolicy
from wxtcb._http.transport import Transport
from wxtcb._protocol.codec import encode_body
from wxtcb._protocol.endpoint import Endpoint, Reply
from wxtcb.errors import SessionClosed, WrongLoop
from wxtcb.events import Stats
from wxtcb.telemetry.dispatch import HookDispatcher
from wxtcb.tokens.stores import ClosableTokenStore

if TYPE_CHECKING:
    from wxtcb._object_storage.client import StorageClient
    from wxtcb.tokens.cache import TokenCache

R = TypeVar("R", bound=Reply)


@attrs.define(repr=False, eq=False)
class SessionResources:
    """What exists while a session is open."""

    loop: asyncio.AbstractEventLoop
    transport: Transport
    limiter: RequestLimiter
    executor: RequestExecutor
    token_cache: TokenCache
    policy: RetryPolicy
    dispatcher: HookDispatcher
    storage_client: StorageClient
    store: ClosableTokenStore | None = None
    shared_pollers: dict[Endpoint[Reply], SharedPoller[Reply]] = attrs.field(factory=dict)

    def create_shared_poller(self, endpoint: Endpoint[Reply]) -> SharedPoller[Reply]:
        body = encode_body({}, endpoint=endpoint.path)

        async def look() -> Reply:
            return await self.executor.execute(
                endpoint, body, policy=self.policy, credentials=self.token_cache, dispatcher=self.dispatcher
            )

        return SharedPoller(look, self.loop.time, self.limiter.sleep)

    def stats(self) -> Stats:
        age, left = self.token_cache.age_and_remaining() or (None, None)
        return Stats(
            calls_in_flight=self.limiter.in_use,
            calls_waiting=self.limiter.waiting,
            calls_paused=self.limiter.paused,
            token_age=age,
            token_expires_in=left,
            token_waiters=self.token_cache.waiters,
            retry_quota=self.executor.quota.available,
        )

    async def aclose(self) -> None:
        self.limiter.close()
        self.token_cache.close()
        for sweep in self.shared_pollers.values():
            sweep.close()
        try:
            for sweep in self.shared_pollers.values():
                await sweep.aclose()
            await self.token_cache.aclose()
        finally:
            await self._close_store()

    async def _close_store(self) -> None:
        try:
            if self.store is not None:
                await self.store.aclose()
        finally:
            await self._close_connections()

    async def _close_connections(self) -> None:
        try:
            await self.storage_client.aclose()
        finally:
            await self.transport.aclose()


@attrs.define(repr=False, eq=False)
class SessionLifecycle:
    """What a session and its views have in common."""

    resources: SessionResources | None = None
    closed: bool = False

    def require_open(self) -> SessionResources:
        running = self.resources
        if running is None:
            state = "is closed" if self.closed else "is not open yet: use it inside `async with`"
            raise SessionClosed(f"the session {state}; nothing was sent")
        return running

    def require_current_loop(self) -> SessionResources:
        running = self.require_open()
        if running.loop is not asyncio.get_running_loop():
            raise WrongLoop(
                "the session was entered in another event loop or before a fork; nothing was sent. Enter one session "
                "per process and loop. Under pytest-asyncio give the fixture and the tests the same loop_scope."
            )
        return running

    def __del__(self) -> None:
        if self.resources is not None:
            warnings.warn("a wxtcb.Session was never closed", ResourceWarning, stacklevel=2, source=self)
