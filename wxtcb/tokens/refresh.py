"""Token refresh: finds the next token in the store, fetches it under the lease, or fetches it without the store.

Only the process that holds the lease may fetch, and it extends the lease while its request is under way. Right before
it sends the request it checks on its own clock that the lease still holds (the fence). If another process has taken the
lease over meanwhile, the fetched token is not stored. All other processes wait for the holder's result, at most
`LEASE_DURATION` seconds beyond the last time the lease was extended.

If a token is rejected while the store is down, processes fetch without it after a while. Each of them may then
invalidate another's token, so each does that at most once a minute.
"""

from __future__ import annotations

import contextlib
import os
import random
import socket
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

import attrs

from wxtcb import errors
from wxtcb._concurrency.limiter import MINUTE
from wxtcb.events import TokenConflictDetected, TokenStoreWriteFailed
from wxtcb.secret import Secret
from wxtcb.telemetry.dispatch import HookDispatcher
from wxtcb.tokens.lease import LeaseHandle, LeaseManager
from wxtcb.tokens.providers import (
    API_COMPONENT_TOKEN,
    ComponentToken,
    FetchFunction,
    StoredTicketSource,
    TicketTokenProvider,
    TokenProvider,
    is_transient,
    unsent_error,
)
from wxtcb.tokens.state_repository import StateRepository, StateSnapshot
from wxtcb.tokens.token_state import CONFLICT_THRESHOLD, HOUR, LEASE_DURATION, RETRY_BACKOFF, StoredToken, TokenState

# A longer backoff is not waited for: the caller gets the error at once, with `retry_after`.
MAX_BACKOFF_WAIT: Final = 4.0
# How long a process without a valid token waits for a store that is down before it fetches without it. Up to as much
# again is added as jitter, so that not all processes fetch at the same moment.
STORE_OUTAGE_WAIT: Final = 5.0
STORE_RETRY_INTERVAL: Final = 0.5
STORELESS_FETCH_INTERVAL: Final = 60.0
# Beyond this difference the store's clock is taken to have been set.
MAX_CLOCK_DRIFT: Final = 5.0
# Tokens are documented to last 2 hours. A value beyond this limit is an error and not a long-lived token.
MAX_TTL: Final = 30 * 86400
DISTANT_PAST: Final = float("-inf")
TOKEN_PATH: Final = API_COMPONENT_TOKEN.path
SHARE_STORE_HINT: Final = (
    "Give every process of this platform the same token_store: this process stores its token for itself only."
)
FIND_OTHER_FETCHER_HINT: Final = (
    "Find the program that fetches tokens without this token_store, and let it use the store."
)


def process_id() -> str:
    """Return the name by which other processes know this one: host and process id."""
    return f"{socket.gethostname()}:{os.getpid()}"


@attrs.frozen
class RefreshRequest:
    """Requirement of a refresh: a token other than `current_token` that is valid for longer.

    `reason` is that of `events.TokenRefreshed`. `current_token` is None if there is no valid token; it is valid for
    `current_remaining` seconds. `invalid_tokens` must not be used, even if the store still has them. `not_latest` is
    true if the platform rejected the last of them as "not latest". `generation` is the last one that this process knew.
    """

    reason: str
    current_token: Secret | None = None
    current_remaining: float = 0.0
    invalid_tokens: tuple[Secret, ...] = ()
    not_latest: bool = False
    generation: int = 0


@attrs.frozen
class RefreshedToken:
    """Result of a refresh: a token that this process fetched, or (`from_store`) one that it read from the store.

    - `requested_at`, `ttl`: it is valid for `ttl` seconds from `requested_at` on, on this process's clock.
    - `fetched_by`: name of the process that fetched it.
    - `reason`: reason of that fetch, as in `events.TokenRefreshed`.

    The other fields describe a fetch by this process:

    - `lease_nonce`: that of the lease under which it was fetched, "" if there was none.
    - `snapshot`: the state of the store before the fetch.
    - `latency`: seconds until the response.
    - `needs_store_write`: true if the store could not accept it yet, so that it must still be written.
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
    needs_store_write: bool = False

    @property
    def expires_at(self) -> float:
        """The time of expiry, on this process's clock."""
        return self.requested_at + self.ttl


def select_stored_token(state: TokenState, now: float, request: RefreshRequest) -> StoredToken | None:
    """Return the stored token if it satisfies *request*: not rejected, not the current one, and valid for longer."""
    token = state.token
    if token is None or token.value in request.invalid_tokens or token.value == request.current_token:
        return None
    return token if token.remaining(now) > request.current_remaining else None


def delay_from_state(state: TokenState, now: float, request: RefreshRequest, lease_remaining: float) -> float:
    """Return the seconds for which *state* allows no fetch: a lease, the backoff after a failure or after a conflict.

    Returns 0 if this process may fetch now. Raises `TransportError` or `TokenConflict` instead of a backoff of over 4
    seconds.
    """
    # Another process is fetching.
    if lease_remaining > 0:
        return lease_remaining
    if state.failure is not None and (remaining := state.failure.remaining(now)) > 0:
        if remaining > MAX_BACKOFF_WAIT:
            error = unsent_error(
                f"the last refresh by a process of this platform failed ({state.failure.reason}); "
                f"the next one is due in {remaining:.0f} s"
            )
            error.retry_after = remaining
            raise error
        return remaining
    # Only "not latest" points to another fetcher; a token that expired or was revoked may be replaced at once.
    conflict_backoff = state.conflict_backoff(now) if request.not_latest else 0.0
    if conflict_backoff > MAX_BACKOFF_WAIT:
        raise errors.TokenConflict(state.conflicts, conflict_backoff)
    return conflict_backoff


def check_hourly_limit(ages: Iterable[float], limit: int | None) -> None:
    """Raise `TokenFetchLimit` if *limit* or more tokens of these *ages*, in seconds, were fetched in the last hour."""
    recent = sorted((age for age in ages if age < HOUR), reverse=True)
    if limit is not None and len(recent) >= limit:
        raise errors.TokenFetchLimit(limit, HOUR - recent[-limit])


@attrs.define(eq=False)
class TokenRefresher:
    """The refreshes of one process, `owner`, one at a time; without a `provider` it only reads tokens of others."""

    owner: str
    state_repository: StateRepository
    provider: TokenProvider | None
    dispatcher: HookDispatcher
    now: Callable[[], float]
    sleep: Callable[[float], Awaitable[None]]
    max_fetches_per_hour: int | None = 30
    conflict_hint: str = ""
    uniform: Callable[[float, float], float] = random.uniform
    _lease_manager: LeaseManager = attrs.field(
        init=False,
        default=attrs.Factory(lambda self: LeaseManager(self.owner, self.state_repository, self.now), takes_self=True),
    )
    # When to stop waiting for a store that is down, and fetch without it; None while it is up.
    _store_deadline: float | None = attrs.field(init=False, default=None)
    _next_storeless_fetch_at: float = attrs.field(init=False, default=DISTANT_PAST)
    # When tokens were fetched without the store. The store does not know these fetches, so this process counts them
    # towards the hourly limit until `store` has counted them there.
    _storeless_fetch_times: deque[float] = attrs.field(init=False, factory=lambda: deque[float](maxlen=1000))

    @property
    def uses_stored_ticket(self) -> bool:
        """Whether tokens are fetched with the ticket in the store."""
        provider = self.provider
        return isinstance(provider, TicketTokenProvider) and isinstance(provider.ticket_source, StoredTicketSource)

    async def get(self, build_request: Callable[[], RefreshRequest]) -> RefreshedToken:
        """Return a token that satisfies the request, from the store or newly fetched.

        *build_request* is called again before each decision: during a wait the current token may expire or be rejected.
        Raises the failure of the fetch, or of the store.
        """
        self._store_deadline = None
        while True:
            # With the store if it is up. If it is down, try again every half second until the deadline, and then fetch
            # without it.
            try:
                return await self._get_with_store(build_request)
            except errors.TokenStoreError as error:
                request = build_request()
                # With a valid token there is no need to fetch without the store. A permanent error means that the
                # store is misconfigured; fetching without it would go on unnoticed.
                if request.current_token is not None or self.provider is None or error.permanent:
                    raise
                store_error = error
            if self._store_deadline is None:
                self._store_deadline = self.now() + STORE_OUTAGE_WAIT + self.uniform(0.0, STORE_OUTAGE_WAIT)
            if self.now() < self._store_deadline:
                await self.sleep(STORE_RETRY_INTERVAL)
                continue
            fetched = await self._fetch_without_store(request, self.provider, store_error)
            # None: no request was sent, so the store is tried again.
            if fetched is not None:
                return fetched

    async def peek(self, request: RefreshRequest) -> RefreshedToken | None:
        """Return the token in the store if it satisfies *request*; fetch nothing."""
        return self._token_from_store(await self._read_state(), request)

    async def store(self, fetched: RefreshedToken, is_current: Callable[[], bool]) -> None:
        """Write a token that the store could not accept, as soon as it can, and count its fetch.

        The token is left out if another process has fetched a newer one or is fetching one, or if *is_current* returns
        False: then this process has a newer token, or this one was rejected or has expired.
        """

        def add_token(state: TokenState, now: float) -> TokenState | None:
            age = self.now() - fetched.requested_at
            # A fetch without a lease was storeless, and is counted here. One under a lease was counted when the lease
            # was granted.
            counted = state if fetched.lease_nonce else state.with_fetch_counted(now - age, now)
            if not is_current() or self._is_superseded(state, now, fetched):
                # The token is not written, but its fetch is counted.
                return None if fetched.lease_nonce else counted
            value, by, reason = fetched.value, fetched.fetched_by, fetched.reason
            stored = counted.with_token(value, fetched.ttl, age=age, now=now, fetched_by=by, reason=reason)
            return stored.with_latency(fetched.latency)

        await self.state_repository.update_with_retry(add_token, self.sleep)
        # The store counts this fetch from now on, so this process no longer does.
        if fetched.requested_at in self._storeless_fetch_times:
            self._storeless_fetch_times.remove(fetched.requested_at)

    def _is_superseded(self, state: TokenState, now: float, fetched: RefreshedToken) -> bool:
        """Return whether another process has fetched, or may have fetched, a token since *fetched*, or is doing so."""
        is_leased = state.lease is not None and state.lease.nonce != fetched.lease_nonce
        if is_leased and self._lease_manager.remaining(state, now) > 0:
            return True
        if state.token is None or fetched.snapshot is None:
            return state.token is not None
        if state.token == fetched.snapshot.state.token:
            return False
        # The store has another token than before the fetch, so the two have to be compared by time. That is possible
        # only if the store's clock has advanced as much as this process's. If the requests overlapped, the times do
        # not show which token the platform issued last. In both cases the store's token wins.
        drift = (now - fetched.snapshot.store_time) - (self.now() - fetched.snapshot.loop_time)
        requested_at = now - (self.now() - fetched.requested_at)
        return abs(drift) > MAX_CLOCK_DRIFT or state.token.requested_at + state.token.latency >= requested_at

    async def _get_with_store(self, build_request: Callable[[], RefreshRequest]) -> RefreshedToken:
        deadline = self.now() + MAX_BACKOFF_WAIT
        while True:
            request, snapshot = build_request(), await self._read_state()
            stored = self._token_from_store(snapshot, request)
            if stored is not None:
                return stored
            if self.provider is None:
                # While the current token is valid, a reader waits for the owner without a limit.
                if request.current_token is not None:
                    deadline = self.now() + MAX_BACKOFF_WAIT
                await self._wait_for_other_process(snapshot, deadline)
                continue
            delay = self._fetch_delay(snapshot.state, snapshot.store_time, request)
            if delay > 0:
                await self.state_repository.wait_for_change(snapshot, delay)
                # The store has answered, so the time to wait for it begins anew with its next failure.
                self._store_deadline = None
                continue
            fetched = await self._acquire_and_fetch(snapshot, request, self.provider)
            # None: another process may have fetched meanwhile, so the store is read again.
            if fetched is not None:
                return fetched

    async def _wait_for_other_process(self, snapshot: StateSnapshot, deadline: float) -> None:
        if self.now() >= deadline:
            raise unsent_error(
                "this process only reads tokens, and no other process has refreshed the one in the store; "
                "check that the process which fetches tokens is running"
            )
        await self.state_repository.wait_for_change(snapshot, MAX_BACKOFF_WAIT)

    async def _read_state(self) -> StateSnapshot:
        snapshot = await self.state_repository.read()
        state = self._lease_manager.without_unconfirmed_lease(snapshot.state, snapshot.store_time)
        return attrs.evolve(snapshot, state=state)

    def _token_from_store(self, snapshot: StateSnapshot, request: RefreshRequest) -> RefreshedToken | None:
        """Return the result of `select_stored_token`, with its times converted to this process's clock."""
        token = select_stored_token(snapshot.state, snapshot.store_time, request)
        if token is None:
            return None
        # From the store's clock to this process's: only the remaining time means the same on both.
        requested_at = self.now() + token.remaining(snapshot.store_time) - token.ttl
        return RefreshedToken(
            token.value, token.generation, token.ttl, requested_at, token.fetched_by, token.reason, from_store=True
        )

    def _fetch_delay(self, state: TokenState, now: float, request: RefreshRequest) -> float:
        """Return `delay_from_state`; raise `TokenFetchLimit` if that is 0 but the hourly limit is reached."""
        delay = delay_from_state(state, now, request, self._lease_manager.remaining(state, now))
        if not delay and self.provider is not None and self.provider.invalidates_previous:
            # The ages of all fetches of the last hour: those of all processes, on the store's clock, and those of this
            # process that the store does not count yet, on this process's clock.
            counted_in_store = (now - at for at in state.recent_fetch_times(now))
            storeless = (self.now() - at for at in self._storeless_fetch_times)
            check_hourly_limit((*counted_in_store, *storeless), self.max_fetches_per_hour)
        return delay

    async def _acquire_and_fetch(
        self, snapshot: StateSnapshot, request: RefreshRequest, provider: TokenProvider
    ) -> RefreshedToken | None:
        """Acquire the lease and fetch; return None if the store has to be read again first."""
        # Prepared before the lease is acquired, because reading the ticket runs user code and may take long.
        try:
            fetch = await provider.prepare()
        except errors.TicketError as ticket_error:
            await provider.request_ticket_push(ticket_error)
            await self.state_repository.wait_for_change(snapshot, 0.5)
            return None
        # The store may have changed since *snapshot*, so the conditions are checked again when the lease is granted.
        handle = await self._lease_manager.acquire(
            lambda state, now: (
                not select_stored_token(state, now, request) and self._fetch_delay(state, now, request) <= 0
            ),
            not_latest=request.not_latest,
            counts_as_fetch=provider.invalidates_previous,
        )
        if handle is None:
            # Returns at once if another process was faster and the state has changed. The pause prevents a tight loop
            # if it has not, for example after the store's clock was set.
            await self.state_repository.wait_for_change(snapshot, STORE_RETRY_INTERVAL)
            return None
        async with self._lease_manager.renewing(handle):
            return await self._fetch_under_lease(handle, fetch, request)

    async def _fetch_under_lease(
        self, handle: LeaseHandle, fetch: FetchFunction, request: RefreshRequest
    ) -> RefreshedToken | None:
        requested_at, snapshot = self.now(), self.state_repository.last_snapshot
        try:
            # The fence: evaluated right before the request is sent, on this process's clock.
            token = await fetch(lambda: self.now() < handle.expires_at)
            fetched = self._build_fetched_token(token, requested_at, request, snapshot, handle.nonce)
        except errors.WxtcbError as error:
            await self._release_after_failure(handle, error)
            if isinstance(error, errors.SendVetoed):
                return None
            raise
        except BaseException:
            # Cancelled, perhaps after the request was sent: the fetch stays counted.
            await self._lease_manager.release(handle)
            raise
        return await self._store_under_lease(handle, fetched)

    def _build_fetched_token(
        self,
        token: ComponentToken,
        requested_at: float,
        request: RefreshRequest,
        snapshot: StateSnapshot | None,
        lease_nonce: str = "",
    ) -> RefreshedToken:
        """Return *token* with the details of its fetch; raise if it cannot be used."""
        value, ttl, now = token.component_access_token, token.expires_in, self.now()
        if value in request.invalid_tokens:
            # Using a rejected token would loop without a pause. An external token source may go on returning one.
            if isinstance(self.provider, TicketTokenProvider):
                message = "a token that was already rejected; wxtcb fetches again after a backoff"
                raise errors.BadReply(message, endpoint=TOKEN_PATH, status=200)
            raise unsent_error(
                "the token source returned a token that WeChat has already rejected; it must return a newer one"
            )
        if not 0 < ttl <= MAX_TTL or requested_at + ttl <= now:
            message = f"the new token expires in {ttl} s, which is not usable"
            raise errors.BadReply(message, endpoint=TOKEN_PATH, status=200, permanent=True)
        generation, reason, latency = request.generation + 1, request.reason, now - requested_at
        return RefreshedToken(
            value, generation, float(ttl), requested_at, self.owner, reason, lease_nonce, snapshot, latency
        )

    async def _store_under_lease(self, handle: LeaseHandle, fetched: RefreshedToken) -> RefreshedToken | None:
        """Store *fetched* and release the lease; return None if another process has the lease, and a newer token."""

        def add_token(state: TokenState, now: float) -> TokenState | None:
            age = self.now() - fetched.requested_at
            value, ttl, reason = fetched.value, fetched.ttl, fetched.reason
            stored = state.with_fetched_token(handle.nonce, value, ttl, age=age, now=now, reason=reason)
            return None if stored is None else stored.with_latency(fetched.latency)

        try:
            snapshot = await self._lease_manager.release_with(add_token)
        except errors.TokenStoreError as error:
            return self._keep_for_store_write(fetched, error)
        if snapshot is None or snapshot.state.token is None:
            return None
        state = snapshot.state
        if state.conflicts >= CONFLICT_THRESHOLD:
            backoff = state.conflict_backoff(snapshot.store_time)
            self.dispatcher.emit(TokenConflictDetected(state.conflicts, backoff, self.conflict_hint))
        return attrs.evolve(fetched, generation=snapshot.state.token.generation)

    async def _release_after_failure(self, handle: LeaseHandle, error: errors.WxtcbError) -> None:
        """Release the lease and record the failure, so that other processes back off too; set `error.retry_after`."""

        def record_failure(state: TokenState, now: float) -> TokenState | None:
            backoff = None
            if isinstance(error, errors.RateLimited):
                # The rate limit is counted per calendar minute, so it is certainly over after a whole one.
                backoff = MINUTE
            elif is_transient(error) and not isinstance(error, errors.SendVetoed):
                backoff = RETRY_BACKOFF.delay(state.failure_count + 1)
            error.retry_after = backoff
            failed = state.with_failure(handle.nonce, error.reason, now, backoff=backoff)
            if failed is not None and isinstance(error, errors.ApiError) and not is_transient(error):
                return failed.with_rejection(error.errcode, error.errmsg, self.owner, now)
            return failed

        # If the store is down, the lease expires automatically, and the caller needs the error of the fetch.
        with contextlib.suppress(errors.TokenStoreError):
            await self._lease_manager.release_with(record_failure)

    async def _fetch_without_store(
        self, request: RefreshRequest, provider: TokenProvider, store_error: errors.TokenStoreError
    ) -> RefreshedToken | None:
        """Fetch without the store and without a lease, at most once a minute; else raise *store_error*.

        Returns None if this process was held up too long before it sent the request: the store may be back.
        """
        remaining = self._next_storeless_fetch_at - self.now()
        if remaining > 0:
            # Not after the whole minute: the store may be back earlier.
            store_error.retry_after = min(remaining, STORE_OUTAGE_WAIT)
            raise store_error
        # The fetches of other processes are unknown while the store is down, so only this process's own are limited.
        check_hourly_limit((self.now() - at for at in self._storeless_fetch_times), self.max_fetches_per_hour)
        fetch = await provider.prepare()
        requested_at, snapshot = self.now(), self.state_repository.last_snapshot
        try:
            # Without a lease the same limit applies from the start, for a process that is suspended before it sends.
            token = await fetch(lambda: self.now() < requested_at + LEASE_DURATION)
        except errors.SendVetoed:
            return None
        except errors.TransportError as error:
            # If the request was sent, it may have invalidated another process's token although its response was lost.
            # If it was not, it changed nothing, and the next fetch need not wait for a minute.
            self._next_storeless_fetch_at = requested_at + STORELESS_FETCH_INTERVAL if error.sent else DISTANT_PAST
            raise
        self._next_storeless_fetch_at = requested_at + STORELESS_FETCH_INTERVAL
        fetched = self._build_fetched_token(token, requested_at, request, snapshot)
        self._storeless_fetch_times.append(requested_at)
        return self._keep_for_store_write(fetched, store_error)

    def _keep_for_store_write(self, fetched: RefreshedToken, error: errors.TokenStoreError) -> RefreshedToken:
        """Return *fetched*, marked for a later write to the store, and report the *error* of the store."""
        self.dispatcher.emit(TokenStoreWriteFailed(fetched.generation, error.reason))
        return attrs.evolve(fetched, needs_store_write=True)
