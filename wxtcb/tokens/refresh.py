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
    RateLimited,
    SendVetoed,
    TicketError,
    TokenStoreError,
    TransportError,
    WxtcbError,
)
from wxtcb.events import TokenConflictDetected, TokenStoreWriteFailed
from wxtcb.secret import Secret
from wxtcb.telemetry.dispatch import HookDispatcher
from wxtcb.tokens.decision import MAX_BACKOFF_WAIT, RefreshRequest, check_hourly_limit, refresh_delay, usable_token
from wxtcb.tokens.lease import LeaseHandle, LeaseManager
from wxtcb.tokens.providers import FetchFunction, StoredTicketSource, TicketTokenProvider, TokenProvider, is_transient
from wxtcb.tokens.shared_state import SharedState, StateSnapshot
from wxtcb.tokens.sources import API_COMPONENT_TOKEN, ComponentToken
from wxtcb.tokens.state import CONFLICT_THRESHOLD, LEASE_DURATION, TokenState

STORE_OUTAGE_WAIT: Final = 5.0
STORE_RETRY_INTERVAL: Final = 0.5
STORELESS_FETCH_INTERVAL: Final = 60.0
MAX_CLOCK_DRIFT: Final = 5.0
PUSH_POLL_INTERVAL: Final = 0.5
MAX_TTL: Final = 30 * 86400
DISTANT_PAST: Final = float("-inf")
TOKEN_PATH: Final = API_COMPONENT_TOKEN.path
SHARE_STORE_HINT: Final = (
    "Give every process of this platform one shared token_store: this one keeps its token for itself."
)
FIND_OTHER_FETCHER_HINT: Final = (
    "Find the program that fetches tokens without this token_store, and let it use the store."
)


def process_id() -> str:
    """Return what other processes know this one by: host and process id."""
    return f"{socket.gethostname()}:{os.getpid()}"


@attrs.frozen
class FetchedToken:
    """A token of `ttl` seconds from `requested_at` on by this process's clock, and who (`fetched_by`) fetched it, and why.

    `lease_nonce` is that of the lease under which it was fetched, if any, and `snapshot` what the store showed last before that.
    The answer `latency` so many seconds. It is `is_unstored` as long as the store lacks it.
    """

    value: Secret
    generation: int
    ttl: float
    requested_at: float
    fetched_by: str
    reason: str
    lease_nonce: str = ""
    snapshot: StateSnapshot | None = attrs.field(default=None, repr=False)
    latency: float = 0.0
    from_store: bool = False
    is_unstored: bool = False

    @property
    def expires_at(self) -> float:
        """When it ends."""
        return self.requested_at + self.ttl


@attrs.define(eq=False)
class TokenRefresher:
    """Gets tokens for one process, `owner`, one at a time. Without an `provider` it only takes what others keep."""

    owner: str
    shared_state: SharedState
    provider: TokenProvider | None
    dispatcher: HookDispatcher
    now: Callable[[], float]
    sleep: Callable[[float], Awaitable[None]]
    max_fetches_per_hour: int | None = 30
    conflict_hint: str = ""
    uniform: Callable[[float, float], float] = random.uniform
    _lease_manager: LeaseManager = attrs.field(
        init=False,
        default=attrs.Factory(lambda self: LeaseManager(self.owner, self.shared_state, self.now), takes_self=True),
    )
    _store_deadline: float | None = attrs.field(init=False, default=None)
    _next_storeless_fetch_at: float = attrs.field(init=False, default=DISTANT_PAST)
    _storeless_fetch_times: deque[float] = attrs.field(init=False, factory=lambda: deque[float](maxlen=1000))

    @property
    def uses_stored_ticket(self) -> bool:
        """Whether tokens are bought with the ticket that the store keeps."""
        return isinstance(self.provider, TicketTokenProvider) and isinstance(
            self.provider.ticket_source, StoredTicketSource
        )

    async def get(self, build_request: Callable[[], RefreshRequest]) -> FetchedToken:
        """Return a token that serves; raise what forbids one. *wish_of* says what is wanted at each moment."""
        self._store_deadline = None
        while True:
            try:
                return await self._get_with_store(build_request)
            except TokenStoreError as error:
                wish = build_request()
                if wish.current_token is not None or self.provider is None or error.permanent:
                    raise
                down = error
            if self._store_deadline is None:
                self._store_deadline = self.now() + STORE_OUTAGE_WAIT + self.uniform(0.0, STORE_OUTAGE_WAIT)
            if self.now() < self._store_deadline:
                await self.sleep(STORE_RETRY_INTERVAL)
            elif (found := await self._fetch_without_store(wish, self.provider, down)) is not None:
                return found

    async def peek(self, request: RefreshRequest) -> FetchedToken | None:
        """Return the token in the store if it serves; fetch nothing."""
        return self._usable_stored_token(await self._read_state(), request)

    async def store(self, fetched: FetchedToken, is_current: Callable[[], bool]) -> None:
        """Keep a token that the store could not keep as soon as it can.

        It is left out if others have a newer one, or fetch one, by then, and unless it *is_held* still: what this
        process has got since is newer, even if it is dead.
        """

        def keep(record: TokenState, now: float) -> TokenState | None:
            age = self.now() - fetched.requested_at
            counted = record if fetched.lease_nonce else record.with_fetch_counted(now - age, now)
            if not is_current() or self._is_superseded(record, now, fetched):
                return None if fetched.lease_nonce else counted
            fresh = counted.with_token(
                fetched.value, fetched.ttl, age=age, now=now, fetched_by=fetched.fetched_by, reason=fetched.reason
            )
            return fresh.with_latency(fetched.latency)

        await self.shared_state.update_with_retry(keep, self.sleep)
        if fetched.requested_at in self._storeless_fetch_times:
            self._storeless_fetch_times.remove(fetched.requested_at)

    def _is_superseded(self, state: TokenState, now: float, fetched: FetchedToken) -> bool:
        """Tell whether somebody has, or may have, fetched since *found*, or does so now.

        Clocks are compared only where the store keeps another token than it did when this one was fetched, and believed
        only where the store's has gone on as ours has. Two requests may have overlapped, and when they were sent does
        not tell which token was sold last: in doubt it is that of the store.
        """
        is_leased = state.lease is not None and state.lease.nonce != fetched.lease_nonce
        if is_leased and self._lease_manager.remaining(state, now) > 0:
            return True
        if state.token is None or fetched.snapshot is None:
            return state.token is not None
        if state.token == fetched.snapshot.state.token:
            return False
        drift = (now - fetched.snapshot.store_time) - (self.now() - fetched.snapshot.loop_time)
        asked_for = now - (self.now() - fetched.requested_at)
        return abs(drift) > MAX_CLOCK_DRIFT or state.token.minted_at + state.token.took >= asked_for

    async def _get_with_store(self, build_request: Callable[[], RefreshRequest]) -> FetchedToken:
        gives_up_at = self.now() + MAX_BACKOFF_WAIT
        while True:
            wish, seen = build_request(), await self._read_state()
            if (found := self._usable_stored_token(seen, wish)) is not None:
                return found
            if self.provider is None:
                gives_up_at = gives_up_at if wish.current_token is None else self.now() + MAX_BACKOFF_WAIT
                await self._wait_for_other_process(seen, gives_up_at)
            elif (pause := self._refresh_delay(seen.state, seen.store_time, wish)) > 0:
                await self.shared_state.wait_for_change(seen, pause)
                self._store_deadline = None
            elif (found := await self._acquire_and_fetch(seen, wish, self.provider)) is not None:
                return found

    async def _read_state(self) -> StateSnapshot:
        seen = await self.shared_state.read()
        return attrs.evolve(seen, state=self._lease_manager.without_orphaned(seen.state, seen.store_time))

    def _usable_stored_token(self, snapshot: StateSnapshot, request: RefreshRequest) -> FetchedToken | None:
        token = usable_token(snapshot.state, snapshot.store_time, request)
        if token is None:
            return None
        made_at = self.now() + token.remaining(snapshot.store_time) - token.life
        return FetchedToken(token.value, token.generation, token.life, made_at, token.by, token.cause, from_store=True)

    async def _wait_for_other_process(self, snapshot: StateSnapshot, deadline: float) -> None:
        if self.now() >= deadline:
            raise TransportError(
                "this process only reads tokens, and no other has renewed the one in the store",
                endpoint=TOKEN_PATH,
                sent=False,
            )
        await self.shared_state.wait_for_change(snapshot, MAX_BACKOFF_WAIT)

    def _refresh_delay(self, state: TokenState, now: float, request: RefreshRequest) -> float:
        pause = refresh_delay(state, now, request, self._lease_manager.remaining(state, now))
        if not pause and self.provider is not None and self.provider.invalidates_previous:
            uncounted = (self.now() - at for at in self._storeless_fetch_times)
            check_hourly_limit(
                (*(now - at for at in state.recent_fetch_times(now)), *uncounted), self.max_fetches_per_hour
            )
        return pause

    async def _acquire_and_fetch(
        self, snapshot: StateSnapshot, request: RefreshRequest, provider: TokenProvider
    ) -> FetchedToken | None:
        """Fetch under the lease, or return None where it is time to look again."""
        order = await self._prepare_fetch(snapshot, provider)
        if order is None:
            return None
        hold = await self._lease_manager.acquire(
            lambda record, now: (
                not usable_token(record, now, request) and self._refresh_delay(record, now, request) <= 0
            ),
            not_latest=request.not_latest,
            counts_as_fetch=provider.invalidates_previous,
        )
        if hold is None:
            await self.shared_state.wait_for_change(
                snapshot, STORE_RETRY_INTERVAL
            )  # which returns at once where somebody was quicker
            return None
        async with self._lease_manager.renewing(hold):
            return await self._fetch_under_lease(hold, order, request)

    async def _prepare_fetch(self, snapshot: StateSnapshot, provider: TokenProvider) -> FetchFunction | None:
        """Return what fetches a token, or None after a moment of waiting for a push."""
        try:
            return await provider.prepare()
        except TicketError as lacking:
            await provider.request_ticket_push(lacking)
        await self.shared_state.wait_for_change(snapshot, PUSH_POLL_INTERVAL)
        return None

    def _emit_conflict(self, snapshot: StateSnapshot) -> None:
        if snapshot.state.contests >= CONFLICT_THRESHOLD:
            self.dispatcher.emit(
                TokenConflictDetected(
                    snapshot.state.contests, snapshot.state.conflict_backoff(snapshot.store_time), self.conflict_hint
                )
            )

    async def _fetch_under_lease(
        self, handle: LeaseHandle, fetch: FetchFunction, request: RefreshRequest
    ) -> FetchedToken | None:
        asked_at, seen = self.now(), self.shared_state.last_snapshot
        try:
            token = await fetch(lambda: self.now() < handle.expires_at)
            found = self._build_fetched_token(token, asked_at, request, seen, handle.nonce)
        except WxtcbError as error:
            await self._release_after_failure(handle, error)
            if isinstance(error, SendVetoed):
                return None
            raise
        except BaseException:
            await self._lease_manager.release(handle)
            raise
        return await self._store_under_lease(handle, found)

    def _build_fetched_token(
        self,
        token: ComponentToken,
        requested_at: float,
        request: RefreshRequest,
        snapshot: StateSnapshot | None,
        lease_nonce: str = "",
    ) -> FetchedToken:
        value, life = token.component_access_token, token.expires_in
        if value in request.invalid_tokens:
            raise TransportError(
                "the token that was given is one that WeChat called dead", endpoint=TOKEN_PATH, sent=False
            )
        if not 0 < life <= MAX_TTL or requested_at + life <= self.now():
            raise BadReply(f"the new token lives {life} s", endpoint=TOKEN_PATH, status=200, permanent=True)
        took = self.now() - requested_at
        return FetchedToken(
            value,
            request.generation + 1,
            float(life),
            requested_at,
            self.owner,
            request.reason,
            lease_nonce,
            snapshot,
            took,
        )

    async def _store_under_lease(self, handle: LeaseHandle, fetched: FetchedToken) -> FetchedToken | None:
        """Store a token fetched under a lease; None if the lease has gone to somebody else, who stores a newer one."""

        def settle(record: TokenState, now: float) -> TokenState | None:
            age = self.now() - fetched.requested_at
            settled = record.with_fetched_token(
                handle.nonce, fetched.value, fetched.ttl, age=age, now=now, reason=fetched.reason
            )
            return None if settled is None else settled.with_latency(fetched.latency)

        try:
            seen = await self._lease_manager.release_with(settle)
        except TokenStoreError as error:
            return self._mark_unstored(fetched, error)
        if seen is None or seen.state.token is None:
            return None
        self._emit_conflict(seen)
        return attrs.evolve(fetched, generation=seen.state.token.generation)

    async def _release_after_failure(self, handle: LeaseHandle, error: WxtcbError) -> None:
        """End the lease for a failure, which everybody heeds who would meet the same; it is told in `retry_after`."""

        def fail(record: TokenState, now: float) -> TokenState | None:
            pause = None
            if isinstance(error, RateLimited):
                pause = MINUTE
            elif is_transient(error) and not isinstance(error, SendVetoed):
                pause = record.next_backoff()
            error.retry_after = pause
            ended = record.with_failure(handle.nonce, error.reason, now, backoff=pause)
            if ended is not None and isinstance(error, ApiError) and not is_transient(error):
                return ended.with_rejection(error.errcode, error.errmsg, self.owner, now)
            return ended

        with contextlib.suppress(TokenStoreError):
            await self._lease_manager.release_with(fail)

    async def _fetch_without_store(
        self, request: RefreshRequest, provider: TokenProvider, store_error: TokenStoreError
    ) -> FetchedToken | None:
        """Fetch without the store, at most once a minute; every process does, so each may void the token of another.

        In between, the store is looked at again after 5 seconds. None: this process was held up before its request
        left, and the store may be back by now.
        """
        if (left := self._next_storeless_fetch_at - self.now()) > 0:
            store_error.retry_after = min(left, STORE_OUTAGE_WAIT)
            raise store_error
        check_hourly_limit((self.now() - at for at in self._storeless_fetch_times), self.max_fetches_per_hour)
        order = await provider.prepare()
        asked_at, seen = self.now(), self.shared_state.last_snapshot
        try:
            token = await order(lambda: self.now() < asked_at + LEASE_DURATION)
        except SendVetoed:
            return None
        except TransportError as error:
            self._next_storeless_fetch_at = asked_at + STORELESS_FETCH_INTERVAL if error.sent else DISTANT_PAST
            raise
        self._next_storeless_fetch_at = asked_at + STORELESS_FETCH_INTERVAL
        found = self._build_fetched_token(token, asked_at, request, seen)
        self._storeless_fetch_times.append(asked_at)
        return self._mark_unstored(found, store_error)

    def _mark_unstored(self, fetched: FetchedToken, error: TokenStoreError) -> FetchedToken:
        self.dispatcher.emit(TokenStoreWriteFailed(fetched.generation, error.reason))
        return attrs.evolve(fetched, is_unstored=True)
