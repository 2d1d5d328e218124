"""How the next token is got: found in the store, fetched under the lease, or, while the store is down, alone.

One process at a time may fetch: the one that holds the lease, which it prolongs while its request is under way. It asks
its own clock right before the request leaves, and once the lease has gone to somebody else its token stays out of the
store. Everybody else waits for what the holder stores, at most as long as a lease lasts beyond its last sign of life.
"""

from __future__ import annotations

import contextlib
import os
import random
import socket
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final

import attrs

from wxtcb._concurrency.limiter import MINUTE
from wxtcb.errors import (
    ApiError,
    BadReply,
    MinuteLimit,
    TicketError,
    TokenStoreError,
    TransportError,
    Withheld,
    WxtcbError,
)
from wxtcb.events import OtherFetcherSuspected, StoreFailed
from wxtcb.secret import Secret
from wxtcb.telemetry.dispatch import Observers
from wxtcb.tokens.decision import WORTH_WAITING, Wish, pause_before, serving, stop_at_ceiling
from wxtcb.tokens.lease import Hold, Leases
from wxtcb.tokens.providers import ComponentTicket, KeptTicketSource, Order, Origin, is_transient
from wxtcb.tokens.shared_state import Seen, SharedRecord
from wxtcb.tokens.sources import API_COMPONENT_TOKEN, ComponentToken
from wxtcb.tokens.state import CONTESTED, LEASE, Record

STORE_ABSENCE: Final = 5.0
STORE_LOOKS: Final = 0.5
ALONE: Final = 60.0
DRIFT: Final = 5.0
PUSH_LOOKS: Final = 0.5
LONGEST_LIFE: Final = 30 * 86400
NEVER: Final = float("-inf")
PATH: Final = API_COMPONENT_TOKEN.path
SHARE: Final = "Give every process of this platform one shared token_store: this one keeps its token for itself."
LOOK_FOR_OTHERS: Final = "Find the program that fetches tokens without this token_store, and let it use the store."


def whoami() -> str:
    """Return what other processes know this one by: host and process id."""
    return f"{socket.gethostname()}:{os.getpid()}"


@attrs.frozen
class Found:
    """A token of `life` seconds from `made_at` on by this process's clock, and who (`by`) fetched it, and why.

    `nonce` is that of the lease under which it was fetched, if any, and `seen` what the store showed last before that.
    The answer `took` so many seconds. It is `unsaved` as long as the store lacks it.
    """

    value: Secret
    generation: int
    life: float
    made_at: float
    by: str
    cause: str
    nonce: str = ""
    seen: Seen | None = attrs.field(default=None, repr=False)
    took: float = 0.0
    adopted: bool = False
    unsaved: bool = False

    @property
    def expiry(self) -> float:
        """When it ends."""
        return self.made_at + self.life


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
    _leases: Leases = attrs.field(
        init=False, default=attrs.Factory(lambda self: Leases(self.me, self.shared, self.now), takes_self=True)
    )
    _patient_until: float | None = attrs.field(init=False, default=None)
    _alone_again_at: float = attrs.field(init=False, default=NEVER)
    _uncounted: deque[float] = attrs.field(init=False, factory=lambda: deque[float](maxlen=1000))

    @property
    def needs_kept_ticket(self) -> bool:
        """Whether tokens are bought with the ticket that the store keeps."""
        return isinstance(self.origin, ComponentTicket) and isinstance(self.origin.newest_ticket, KeptTicketSource)

    async def find(self, wish_of: Callable[[], Wish]) -> Found:
        """Return a token that serves; raise what forbids one. *wish_of* says what is wanted at each moment."""
        self._patient_until = None
        while True:
            try:
                return await self._find_in_store(wish_of)
            except TokenStoreError as error:
                wish = wish_of()
                if wish.held is not None or self.origin is None or error.lasting:
                    raise
                down = error
            if self._patient_until is None:
                self._patient_until = self.now() + STORE_ABSENCE + self.uniform(0.0, STORE_ABSENCE)
            if self.now() < self._patient_until:
                await self.rest(STORE_LOOKS)
            elif (found := await self._fetch_alone(wish, self.origin, down)) is not None:
                return found

    async def look(self, wish: Wish) -> Found | None:
        """Return the token in the store if it serves; fetch nothing."""
        return self._adopted(await self._look(), wish)

    async def save(self, found: Found, is_held: Callable[[], bool]) -> None:
        """Keep a token that the store could not keep as soon as it can.

        It is left out if others have a newer one, or fetch one, by then, and unless it *is_held* still: what this
        process has got since is newer, even if it is dead.
        """

        def keep(record: Record, now: float) -> Record | None:
            age = self.now() - found.made_at
            counted = record if found.nonce else record.counting(now - age, now)
            if not is_held() or self._is_superseded(record, now, found):
                return None if found.nonce else counted
            fresh = counted.with_token(found.value, found.life, age=age, now=now, by=found.by, cause=found.cause)
            return fresh.taking(found.took)

        await self.shared.change_when_up(keep, self.rest)
        if found.made_at in self._uncounted:
            self._uncounted.remove(found.made_at)

    def _is_superseded(self, record: Record, now: float, found: Found) -> bool:
        """Tell whether somebody has, or may have, fetched since *found*, or does so now.

        Clocks are compared only where the store keeps another token than it did when this one was fetched, and believed
        only where the store's has gone on as ours has. Two requests may have overlapped, and when they were sent does
        not tell which token was sold last: in doubt it is that of the store.
        """
        is_leased = record.lease is not None and record.lease.nonce != found.nonce
        if is_leased and self._leases.left(record, now) > 0:
            return True
        if record.token is None or found.seen is None:
            return record.token is not None
        if record.token == found.seen.record.token:
            return False
        drift = (now - found.seen.now) - (self.now() - found.seen.at)
        asked_for = now - (self.now() - found.made_at)
        return abs(drift) > DRIFT or record.token.minted_at + record.token.took >= asked_for

    async def _find_in_store(self, wish_of: Callable[[], Wish]) -> Found:
        gives_up_at = self.now() + WORTH_WAITING
        while True:
            wish, seen = wish_of(), await self._look()
            if (found := self._adopted(seen, wish)) is not None:
                return found
            if self.origin is None:
                gives_up_at = gives_up_at if wish.held is None else self.now() + WORTH_WAITING
                await self._leave_to_others(seen, gives_up_at)
            elif (pause := self._pause(seen.record, seen.now, wish)) > 0:
                await self.shared.wait(seen, pause)
                self._patient_until = None
            elif (found := await self._try_to_fetch(seen, wish, self.origin)) is not None:
                return found

    async def _look(self) -> Seen:
        seen = await self.shared.read()
        return attrs.evolve(seen, record=self._leases.cleared(seen.record, seen.now))

    def _adopted(self, seen: Seen, wish: Wish) -> Found | None:
        token = serving(seen.record, seen.now, wish)
        if token is None:
            return None
        made_at = self.now() + token.left(seen.now) - token.life
        return Found(token.value, token.generation, token.life, made_at, token.by, token.cause, adopted=True)

    async def _leave_to_others(self, seen: Seen, gives_up_at: float) -> None:
        if self.now() >= gives_up_at:
            raise TransportError(
                "this process only reads tokens, and no other has renewed the one in the store",
                endpoint=PATH,
                sent=False,
            )
        await self.shared.wait(seen, WORTH_WAITING)

    def _pause(self, record: Record, now: float, wish: Wish) -> float:
        pause = pause_before(record, now, wish, self._leases.left(record, now))
        if not pause and self.origin is not None and self.origin.voids:
            uncounted = (self.now() - at for at in self._uncounted)
            stop_at_ceiling((*(now - at for at in record.recent_mints(now)), *uncounted), self.max_fetches_per_hour)
        return pause

    async def _try_to_fetch(self, seen: Seen, wish: Wish, origin: Origin) -> Found | None:
        """Fetch under the lease, or return None where it is time to look again."""
        order = await self._prepare(seen, origin)
        if order is None:
            return None
        hold = await self._leases.take(
            lambda record, now: not serving(record, now, wish) and self._pause(record, now, wish) <= 0,
            not_latest=wish.not_latest,
            counted=origin.voids,
        )
        if hold is None:
            await self.shared.wait(seen, STORE_LOOKS)  # which returns at once where somebody was quicker
            return None
        async with self._leases.keeping(hold):
            return await self._fetch_under(hold, order, wish)

    async def _prepare(self, seen: Seen, origin: Origin) -> Order | None:
        """Return what fetches a token, or None after a moment of waiting for a push."""
        try:
            return await origin.prepare()
        except TicketError as lacking:
            await origin.ask_for_push(lacking)
        await self.shared.wait(seen, PUSH_LOOKS)
        return None

    def _tell_of_contest(self, seen: Seen) -> None:
        if seen.record.contests >= CONTESTED:
            self.observers.emit(OtherFetcherSuspected(seen.record.contests, seen.record.truce(seen.now), self.advice))

    async def _fetch_under(self, hold: Hold, order: Order, wish: Wish) -> Found | None:
        asked_at, seen = self.now(), self.shared.last
        try:
            token = await order(lambda: self.now() < hold.until)
            found = self._found(token, asked_at, wish, seen, hold.nonce)
        except WxtcbError as error:
            await self._give_up(hold, error)
            if isinstance(error, Withheld):
                return None
            raise
        except BaseException:
            await self._leases.release(hold)
            raise
        return await self._settle(hold, found)

    def _found(self, token: ComponentToken, asked_at: float, wish: Wish, seen: Seen | None, nonce: str = "") -> Found:
        value, life = token.component_access_token, token.expires_in
        if value in wish.dead:
            raise TransportError("the token that was given is one that WeChat called dead", endpoint=PATH, sent=False)
        if not 0 < life <= LONGEST_LIFE or asked_at + life <= self.now():
            raise BadReply(f"the new token lives {life} s", endpoint=PATH, status=200, lasting=True)
        took = self.now() - asked_at
        return Found(value, wish.generation + 1, float(life), asked_at, self.me, wish.cause, nonce, seen, took)

    async def _settle(self, hold: Hold, found: Found) -> Found | None:
        """Store a token fetched under a lease; None if the lease has gone to somebody else, who stores a newer one."""

        def settle(record: Record, now: float) -> Record | None:
            age = self.now() - found.made_at
            settled = record.settled(hold.nonce, found.value, found.life, age=age, now=now, cause=found.cause)
            return None if settled is None else settled.taking(found.took)

        try:
            seen = await self._leases.end(settle)
        except TokenStoreError as error:
            return self._unsaved(found, error)
        if seen is None or seen.record.token is None:
            return None
        self._tell_of_contest(seen)
        return attrs.evolve(found, generation=seen.record.token.generation)

    async def _give_up(self, hold: Hold, error: WxtcbError) -> None:
        """End the lease for a failure, which everybody heeds who would meet the same; it is told in `retry_after`."""

        def fail(record: Record, now: float) -> Record | None:
            pause = None
            if isinstance(error, MinuteLimit):
                pause = MINUTE
            elif is_transient(error) and not isinstance(error, Withheld):
                pause = record.next_pause()
            error.retry_after = pause
            ended = record.failed(hold.nonce, error.reason, now, pause=pause)
            if ended is not None and isinstance(error, ApiError) and not is_transient(error):
                return ended.refused(error.errcode, error.errmsg, self.me, now)
            return ended

        with contextlib.suppress(TokenStoreError):
            await self._leases.end(fail)

    async def _fetch_alone(self, wish: Wish, origin: Origin, down: TokenStoreError) -> Found | None:
        """Fetch without the store, at most once a minute; every process does, so each may void the token of another.

        In between, the store is looked at again after 5 seconds. None: this process was held up before its request
        left, and the store may be back by now.
        """
        if (left := self._alone_again_at - self.now()) > 0:
            down.retry_after = min(left, STORE_ABSENCE)
            raise down
        stop_at_ceiling((self.now() - at for at in self._uncounted), self.max_fetches_per_hour)
        order = await origin.prepare()
        asked_at, seen = self.now(), self.shared.last
        try:
            token = await order(lambda: self.now() < asked_at + LEASE)
        except Withheld:
            return None
        except TransportError as error:
            self._alone_again_at = asked_at + ALONE if error.sent else NEVER
            raise
        self._alone_again_at = asked_at + ALONE
        found = self._found(token, asked_at, wish, seen)
        self._uncounted.append(asked_at)
        return self._unsaved(found, down)

    def _unsaved(self, found: Found, error: TokenStoreError) -> Found:
        self.observers.emit(StoreFailed(found.generation, error.reason))
        return attrs.evolve(found, unsaved=True)
