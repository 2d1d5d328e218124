"""How the next token is got: found in the store, fetched under the lease, or, while the store is down, alone.

One process at a time may fetch: the one that holds the lease, which it prolongs while its request is under way. It asks
its own clock right before the request leaves, and once the lease has gone to somebody else its token stays out of the
store. Everybody else waits for what the holder stores, at most as long as a lease lasts beyond its last sign of life.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import socket
import uuid
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

import attrs

from wxtcb.errors import BadReply, MinuteLimit, TokenStoreError, TransportError, Withheld, WxtcbError
from wxtcb.events import OtherFetcherSuspected, StoreFailed
from wxtcb.gate import MINUTE
from wxtcb.observers import Observers
from wxtcb.secret import Secret
from wxtcb.tokens.decision import WORTH_WAITING, Wish, pause_before, serving, stop_at_ceiling
from wxtcb.tokens.record import CONTESTED, LEASE, Record
from wxtcb.tokens.shared import Seen, SharedRecord
from wxtcb.tokens.sources import (
    API_COMPONENT_TOKEN,
    ComponentTicket,
    ComponentToken,
    KeptTicketSource,
    Order,
    Origin,
    is_transient,
)

STORE_ABSENCE: Final = 5.0
STORE_LOOKS: Final = 0.5
ALONE: Final = 60.0
LONGEST_WAIT: Final = 10.0
PATH: Final = API_COMPONENT_TOKEN.path
SHARE: Final = "Give every process of this platform one shared token_store: this one keeps its token for itself."
LOOK_FOR_OTHERS: Final = "Find the program that fetches tokens without this token_store, and let it use the store."


def whoami() -> str:
    """Return what other processes know this one by: host and process id."""
    return f"{socket.gethostname()}:{os.getpid()}"


@attrs.frozen
class Found:
    """A token of `life` seconds, which ends at `expiry` by this process's clock; `unsaved` if the store lacks it.

    `nonce` is that of the lease under which it was fetched, if any.
    """

    value: Secret
    generation: int
    life: float
    expiry: float
    nonce: str = ""
    adopted: bool = False
    unsaved: bool = False


@attrs.define
class Hold:
    """A lease of this process; by its own clock it ends at `until` at the latest."""

    nonce: str
    until: float


@attrs.define(eq=False)
class Renewal:
    """Gets tokens for one process, `me`, one at a time. Without an `origin` it only takes what others keep."""

    me: str
    shared: SharedRecord
    origin: Origin | None
    observers: Observers
    now: Callable[[], float]
    rest: Callable[[float], Awaitable[None]]
    max_fetches_per_hour: int | None = 30
    advice: str = ""
    uniform: Callable[[float, float], float] = random.uniform
    _patient_until: float | None = attrs.field(init=False, default=None)
    _alone_at: deque[float] = attrs.field(init=False, factory=lambda: deque[float](maxlen=1000))

    @property
    def needs_kept_ticket(self) -> bool:
        """Whether tokens are bought with the ticket that the store keeps."""
        return isinstance(self.origin, ComponentTicket) and isinstance(self.origin.newest_ticket, KeptTicketSource)

    async def find(self, wish: Wish) -> Found:
        """Return a token that serves; raise what forbids one."""
        self._patient_until = None
        while True:
            try:
                return await self._find_in_store(wish)
            except TokenStoreError as error:
                if wish.held is not None or self.origin is None:
                    raise
                down = error
            if self._patient_until is None:
                self._patient_until = self.now() + STORE_ABSENCE + self.uniform(0.0, STORE_ABSENCE)
            if self.now() >= self._patient_until:
                return await self._fetch_alone(wish, self.origin, down)
            await self.rest(STORE_LOOKS)

    async def save(self, found: Found, wish: Wish, is_held: Callable[[], bool]) -> None:
        """Keep a token that the store could not keep as soon as it can.

        It is left out if others have, or fetch, one by then, and unless it *is_held* still: what this process has got
        since is newer, even if it is dead.
        """

        def keep(record: Record, now: float) -> Record | None:
            lease = record.lease
            leased = lease is not None and lease.nonce != found.nonce and lease.left(now) > 0
            if leased or not is_held() or serving(record, now, wish):
                return None
            age = found.life - (found.expiry - self.now())
            return record.with_token(found.value, found.life, age=age, now=now, by=self.me, cause=wish.cause)

        await self.shared.change_when_up(keep, self.rest)

    async def _find_in_store(self, wish: Wish) -> Found:
        gives_up_at = self.now() + max(wish.held_left, WORTH_WAITING)
        while True:
            seen = await self.shared.read()
            if (token := serving(seen.record, seen.now, wish)) is not None:
                expiry = self.now() + token.left(seen.now)
                return Found(token.value, token.generation, token.life, expiry, adopted=True)
            if self.origin is None:
                await self._leave_to_others(seen, gives_up_at)
            elif (pause := self._pause(seen.record, seen.now, wish)) > 0:
                await self.shared.wait(seen, pause)
                self._patient_until = None
            elif (found := await self._try_to_fetch(wish, self.origin)) is not None:
                return found

    async def _leave_to_others(self, seen: Seen, gives_up_at: float) -> None:
        left = gives_up_at - self.now()
        if left <= 0:
            raise TransportError(
                "this process only reads tokens, and no other has renewed the one in the store",
                endpoint=PATH,
                sent=False,
            )
        await self.shared.wait(seen, min(left, LONGEST_WAIT))

    def _pause(self, record: Record, now: float, wish: Wish) -> float:
        pause = pause_before(record, now, wish)
        if not pause and self.origin is not None and self.origin.voids:
            alone = (self.now() - at for at in self._alone_at)
            stop_at_ceiling((*(now - at for at in record.recent_mints(now)), *alone), self.max_fetches_per_hour)
        return pause

    async def _try_to_fetch(self, wish: Wish, origin: Origin) -> Found | None:
        """Fetch under the lease, or return None where somebody else was quicker."""
        order = await origin.prepare()
        hold = await self._take_lease(wish, counted=origin.voids)
        return None if hold is None else await self._fetch_under(hold, order, wish)

    async def _take_lease(self, wish: Wish, *, counted: bool) -> Hold | None:
        hold = Hold(uuid.uuid4().hex, self.now() + LEASE)

        def grant(record: Record, now: float) -> Record | None:
            if serving(record, now, wish) or self._pause(record, now, wish) > 0:
                return None
            return record.granted(hold.nonce, self.me, now, not_latest=wish.not_latest, counted=counted)

        async with self._giving_back(hold):
            seen = await self.shared.change(grant)
        if seen is None:
            return None
        if seen.record.contests >= CONTESTED:
            self.observers.emit(OtherFetcherSuspected(seen.record.contests, seen.record.truce(seen.now), self.advice))
        return hold

    async def _fetch_under(self, hold: Hold, order: Order, wish: Wish) -> Found | None:
        asked_at = self.now()
        try:
            async with self._giving_back(hold), self._keeping(hold):
                token = await order(lambda: self.now() < hold.until)
            found = self._found(token, asked_at, wish, hold.nonce)
        except WxtcbError as error:
            await self._give_up(hold, error)
            if isinstance(error, Withheld):
                return None
            raise
        return await self._settle(hold, found, wish.cause)

    def _found(self, token: ComponentToken, asked_at: float, wish: Wish, nonce: str = "") -> Found:
        expiry = asked_at + token.expires_in
        if expiry <= self.now():
            raise BadReply(f"the new token lives {token.expires_in} s", endpoint=PATH, status=200, lasting=True)
        return Found(token.component_access_token, wish.generation + 1, float(token.expires_in), expiry, nonce)

    async def _settle(self, hold: Hold, found: Found, cause: str) -> Found | None:
        """Store a token fetched under a lease; None if the lease has gone to somebody else, who stores a newer one."""

        def settle(record: Record, now: float) -> Record | None:
            age = found.life - (found.expiry - self.now())
            return record.settled(hold.nonce, found.value, found.life, age=age, now=now, cause=cause)

        try:
            seen = await self.shared.change(settle)
        except TokenStoreError as error:
            return self._unsaved(found, error)
        if seen is None or seen.record.token is None:
            return None
        return attrs.evolve(found, generation=seen.record.token.generation)

    async def _fetch_alone(self, wish: Wish, origin: Origin, down: TokenStoreError) -> Found:
        """Fetch without the store, at most once a minute; every process does, so each may void the token of another.

        In between, the store is looked at again after 5 seconds.
        """
        if self._alone_at and (left := self._alone_at[-1] + ALONE - self.now()) > 0:
            down.retry_after = min(left, STORE_ABSENCE)
            raise down
        stop_at_ceiling((self.now() - at for at in self._alone_at), self.max_fetches_per_hour)
        order = await origin.prepare()
        asked_at = self.now()
        self._alone_at.append(asked_at)
        token = await order(lambda: True)
        return self._unsaved(self._found(token, asked_at, wish), down)

    def _unsaved(self, found: Found, error: TokenStoreError) -> Found:
        self.observers.emit(StoreFailed(found.generation, error.reason))
        return attrs.evolve(found, unsaved=True)

    async def _give_up(self, hold: Hold, error: WxtcbError) -> None:
        """End the lease for a failure, which everybody heeds who would meet the same; it is told in `retry_after`."""

        def fail(record: Record, now: float) -> Record | None:
            pause = None
            if isinstance(error, MinuteLimit):
                pause = MINUTE
            elif is_transient(error) and not isinstance(error, Withheld):
                pause = record.next_pause()
            error.retry_after = pause
            return record.failed(hold.nonce, error.reason, now, pause=pause)

        with contextlib.suppress(TokenStoreError):
            await self.shared.change(fail)

    @contextlib.asynccontextmanager
    async def _giving_back(self, hold: Hold) -> AsyncIterator[None]:
        """Give the lease back if this is cancelled, so that nobody waits for who is gone."""
        try:
            yield
        except asyncio.CancelledError:
            with contextlib.suppress(TokenStoreError):
                await self.shared.change(lambda record, _: record.released(hold.nonce))
            raise

    @contextlib.asynccontextmanager
    async def _keeping(self, hold: Hold) -> AsyncIterator[None]:
        """Prolong the lease as long as the block runs."""
        beat = asyncio.create_task(self._prolong(hold))
        try:
            yield
        finally:
            beat.cancel()
            await asyncio.wait([beat])

    async def _prolong(self, hold: Hold) -> None:
        pause = LEASE / 3
        while True:
            await asyncio.sleep(pause)
            asked_at = self.now()
            try:
                seen = await self.shared.change(lambda record, now: record.extended(hold.nonce, now))
            except TokenStoreError:
                pause = STORE_LOOKS
                continue
            if seen is None:
                return
            hold.until, pause = asked_at + LEASE, LEASE / 3
