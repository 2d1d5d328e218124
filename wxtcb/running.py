"""What exists while a session is open, and what it shares with its views."""

from __future__ import annotations

import asyncio
import warnings
from typing import TYPE_CHECKING, TypeVar

import attrs

from wxtcb._concurrency.limiter import Gate
from wxtcb._concurrency.shared_poll import Sweep
from wxtcb._http.executor import Exchange
from wxtcb._http.retry import RetryPolicy
from wxtcb._http.transport import Transport
from wxtcb._protocol.codec import encode
from wxtcb._protocol.endpoint import Endpoint, Reply
from wxtcb.errors import SessionClosed, WrongLoop
from wxtcb.events import Stats
from wxtcb.telemetry.dispatch import Observers
from wxtcb.tokens.stores import OwnedStore

if TYPE_CHECKING:
    from wxtcb._object_storage.client import Transfers
    from wxtcb.tokens.cache import TokenCache

R = TypeVar("R", bound=Reply)


@attrs.define(repr=False, eq=False)
class Running:
    """What exists while a session is open."""

    loop: asyncio.AbstractEventLoop
    transport: Transport
    gate: Gate
    exchange: Exchange
    cache: TokenCache
    policy: RetryPolicy
    observers: Observers
    transfers: Transfers
    store: OwnedStore | None = None
    sweeps: dict[Endpoint[Reply], Sweep[Reply]] = attrs.field(factory=dict)

    def new_sweep(self, endpoint: Endpoint[Reply]) -> Sweep[Reply]:
        body = encode({}, endpoint=endpoint.path)

        async def look() -> Reply:
            return await self.exchange.call(
                endpoint, body, policy=self.policy, credentials=self.cache, observers=self.observers
            )

        return Sweep(look, self.loop.time, self.gate.rest)

    def stats(self) -> Stats:
        age, left = self.cache.life() or (None, None)
        return Stats(
            calls_under_way=self.gate.in_use,
            calls_waiting=self.gate.waiting,
            calls_paused=self.gate.paused,
            token_age=age,
            token_left=left,
            token_waiters=self.cache.waiters,
            retry_quota=self.exchange.quota.level,
        )

    async def aclose(self) -> None:
        self.gate.close()
        self.cache.close()
        for sweep in self.sweeps.values():
            sweep.close()
        try:
            for sweep in self.sweeps.values():
                await sweep.aclose()
            await self.cache.aclose()
        finally:
            await self._let_go()

    async def _let_go(self) -> None:
        try:
            if self.store is not None:
                await self.store.aclose()
        finally:
            await self._disconnect()

    async def _disconnect(self) -> None:
        try:
            await self.transfers.aclose()
        finally:
            await self.transport.aclose()


@attrs.define(repr=False, eq=False)
class Lifetime:
    """What a session and its views have in common."""

    running: Running | None = None
    ended: bool = False

    def peek(self) -> Running:
        running = self.running
        if running is None:
            state = "is closed" if self.ended else "is not open yet: use it inside `async with`"
            raise SessionClosed(f"the session {state}; nothing was sent")
        return running

    def get(self) -> Running:
        running = self.peek()
        if running.loop is not asyncio.get_running_loop():
            raise WrongLoop(
                "the session was entered in another event loop or before a fork; nothing was sent. Enter one session "
                "per process and loop. Under pytest-asyncio give the fixture and the tests the same loop_scope."
            )
        return running

    def __del__(self) -> None:
        if self.running is not None:
            warnings.warn("a wxtcb.Session was never closed", ResourceWarning, stacklevel=2, source=self)
