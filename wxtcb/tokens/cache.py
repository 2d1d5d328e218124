"""Token cache of a session: holds the newest component_access_token and refreshes it before it expires.

The cache decides *when* to refresh and who waits for it. `wxtcb.tokens.refresh` decides *how*: from the shared store,
or by fetching a new token under a lease. All times are seconds on the monotonic clock of the event loop.

A token goes through four phases; `RefreshWindows` computes when they begin:

- fresh: `cached` returns it. This is the hot path: one clock comparison, and no wait;
- advisory window: one refresh runs in the background, and callers go on with the current token;
- mandatory window: callers wait for that refresh, at most 5 seconds. If it fails, they use the current token;
- expired or rejected: callers wait for a refresh without a time limit. A permanent error is raised. After a transient
  error they try again, unless the backoff is longer than 4 seconds: then the error is raised.

There is no timer: a refresh starts when a caller asks for a token. If none asks before the token expires, the next one
waits.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import functools
from collections import deque
from collections.abc import Callable
from typing import Final

import attrs

from wxtcb._concurrency.limiter import MINUTE
from wxtcb._concurrency.single_flight import SharedTask
from wxtcb._http.executor import ActiveToken, RequestExecutor
from wxtcb.errors import SessionClosed, TokenStoreError, WxtcbError
from wxtcb.events import TokenRefreshed, TokenRefreshFailed, TokenRejected
from wxtcb.secret import Secret
from wxtcb.telemetry.dispatch import HookDispatcher
from wxtcb.tokens.providers import (
    ExternalTokenProvider,
    ReadOnly,
    StoredTicketSource,
    TicketSource,
    TicketTokenProvider,
    TokenProvider,
    TokenSource,
    is_transient,
)
from wxtcb.tokens.refresh import (
    FIND_OTHER_FETCHER_HINT,
    MAX_BACKOFF_WAIT,
    SHARE_STORE_HINT,
    RefreshedToken,
    RefreshRequest,
    TokenRefresher,
    process_id,
)
from wxtcb.tokens.state_repository import StateRepository
from wxtcb.tokens.stores import MemoryStore, TokenStore
from wxtcb.tokens.token_state import RETRY_BACKOFF

# How long a caller waits for a mandatory refresh, counted from the start of the refresh, while the token is valid.
MAX_REFRESH_WAIT: Final = 5.0
# How many rejected tokens are remembered. The store may return one of them again, for example after its clock was set.
MAX_INVALID_TOKENS: Final = 16
# How often callers without a token may read the store during a backoff: another process may have fetched one.
PEEK_INTERVAL: Final = 1.0
# Windows before the expiry of a token that is valid for 2 hours or more. They shrink in proportion to a shorter ttl.
ADVISORY_WINDOW: Final = 900.0
MANDATORY_WINDOW: Final = 300.0
MAX_JITTER: Final = 60.0
FULL_TTL: Final = 7200.0
# "invalid credential, access_token is invalid or not latest": the only code that points to a second fetcher.
ERRCODE_NOT_LATEST: Final = 40001
DISTANT_PAST: Final = float("-inf")


@attrs.frozen
class RefreshWindows:
    """Times of a token's refresh: from `advisory_at` in the background, from `mandatory_at` with callers waiting.

    The token is usable until `expires_at`.
    """

    advisory_at: float
    mandatory_at: float
    expires_at: float

    @classmethod
    def compute(cls, expires_at: float, ttl: float, uniform: Callable[[float, float], float]) -> RefreshWindows:
        """Return the windows of a token that is valid for *ttl* seconds; *uniform* draws the advisory jitter."""
        scale = min(1.0, ttl / FULL_TTL)
        # The jitter keeps processes that share a token from asking for the lease at the same moment.
        jitter = uniform(0.0, MAX_JITTER * scale)
        return cls(expires_at - ADVISORY_WINDOW * scale - jitter, expires_at - MANDATORY_WINDOW * scale, expires_at)


_NO_WINDOWS: Final = RefreshWindows(DISTANT_PAST, DISTANT_PAST, DISTANT_PAST)


@attrs.define(eq=False)
class TokenCache:
    """The newest token of a session, refreshed in time.

    At most one refresh runs at a time, in a `SharedTask` of its own: cancelling a caller never cancels it. After a
    transient failure the next refresh is delayed by the error's `retry_after`. Without one the delay is 1 second,
    doubled with each further such failure up to 30. After a permanent failure it is `retry_after` or 1 second, at most
    60 seconds, and callers without a token skip it.

    `waiters` counts the calls that wait for a token. `last_error` is that of the last refresh, None after a success.
    """

    refresher: TokenRefresher
    # The clock of the event loop. Copied from the refresher, because `cached` runs for every call and must not look it
    # up through two objects.
    now: Callable[[], float] = attrs.field(
        init=False, default=attrs.Factory(lambda self: self.refresher.now, takes_self=True)
    )

    # The token that calls use, None if it was rejected; and the result of the last successful refresh, which it was
    # made of. The next generation is counted from the latter, also after a rejection.
    _token: ActiveToken | None = attrs.field(init=False, default=None)
    _refreshed: RefreshedToken | None = attrs.field(init=False, default=None)
    # When `_token` has to be refreshed. Without a token, all times are in the past, so that `cached` returns None.
    _windows: RefreshWindows = attrs.field(init=False, default=_NO_WINDOWS)
    # Equal to `_windows.advisory_at`; a field of its own, because `cached` is faster without the second look-up.
    _fresh_until: float = attrs.field(init=False, default=DISTANT_PAST)
    waiters: int = attrs.field(init=False, default=0)

    # Refreshes: the one under way or the last one; the error of the last one; the transient failures without
    # `retry_after` since the last success; and the end of the backoff.
    _refresh_task: SharedTask[None] | None = attrs.field(init=False, default=None)
    last_error: WxtcbError | None = attrs.field(init=False, default=None)
    _failures: int = attrs.field(init=False, default=0)
    _next_refresh_at: float = attrs.field(init=False, default=DISTANT_PAST)
    # Reads the store during a backoff.
    _peek_task: SharedTask[None] | None = attrs.field(init=False, default=None)

    # Tokens that the platform rejected, and whether it called the last of them "not latest".
    _invalid_tokens: deque[Secret] = attrs.field(init=False, factory=lambda: deque[Secret](maxlen=MAX_INVALID_TOKENS))
    _last_rejected_not_latest: bool = attrs.field(init=False, default=False)

    # Tokens that the store could not accept when they were refreshed, the oldest first, and the task that retries.
    _pending_writes: deque[RefreshedToken] = attrs.field(init=False, factory=deque[RefreshedToken])
    _write_task: SharedTask[None] | None = attrs.field(init=False, default=None)

    _closed: bool = attrs.field(init=False, default=False)

    def cached(self) -> ActiveToken | None:
        """Return the token while it is fresh, without waiting; return None if `get` has to decide."""
        return self._token if self.now() < self._fresh_until else None

    async def get(self) -> ActiveToken:
        """Return a valid token, refreshing it first if necessary.

        Raises the failure of the refresh if there is no valid token and a retry would not succeed soon: `TicketError`,
        `ApiError`, `TransportError`, `TokenStoreError`, `TokenFetchLimit` or `TokenConflict`, with `retry_after` where
        it is known. Raises `SessionClosed` after `close`.
        """
        self.waiters += 1
        try:
            token = self.cached()
            while token is None:
                token = await self._try_get(self.now())
            return token
        finally:
            self.waiters -= 1

    @property
    def current(self) -> RefreshedToken | None:
        """The newest token that was not rejected, also if it has expired, with details of its fetch; else None."""
        return None if self._token is None else self._refreshed

    def age_and_remaining(self) -> tuple[float, float] | None:
        """Return the age and the remaining seconds (negative after expiry) of `current`, or None without a token."""
        if (current := self.current) is None:
            return None
        now = self.now()
        return now - current.requested_at, current.expires_at - now

    def invalidate(self, token: ActiveToken, errcode: int, /) -> bool:
        """Drop *token*, which the platform rejected with *errcode*. Always return True: `get` can return another token.

        If the cache holds another token by then, nothing changes: many calls may report the same rejected token.
        """
        if self._token is token:
            self._token, self._windows, self._fresh_until = None, _NO_WINDOWS, DISTANT_PAST
            self._invalid_tokens.append(token.value)
            self._last_rejected_not_latest = errcode == ERRCODE_NOT_LATEST
            self.refresher.dispatcher.emit(TokenRejected(token.generation, errcode))
        return True

    def close(self) -> None:
        """Cancel the tasks of the cache; callers that wait for a token get `SessionClosed` at once."""
        self._closed = True
        for task in self._tasks():
            task.cancel()

    async def aclose(self) -> None:
        """Close the cache and wait until its tasks have ended."""
        self.close()
        for task in self._tasks():
            await task.aclose()

    def _tasks(self) -> list[SharedTask[None]]:
        return [task for task in (self._refresh_task, self._peek_task, self._write_task) if task is not None]

    async def _try_get(self, now: float) -> ActiveToken | None:
        """Wait for one refresh or one backoff, then return the token if it is usable; None means: try again."""
        if now < self._windows.expires_at:
            await self._refresh_before_expiry(now)
            # During the wait the token may have expired or been rejected.
            return self._token if self.now() < self._windows.expires_at else None
        refresh = self._start_refresh(now, needs_token=True)
        # None: a backoff prevents it.
        if refresh is None:
            await self._wait_for_backoff(now)
            return self.cached()
        try:
            await refresh.result()
        except WxtcbError as error:
            # After a transient failure the caller tries again: it waits for the backoff, or gets the error from there.
            # `is_transient` is true for SessionClosed, too, but the cache does not open again.
            if isinstance(error, SessionClosed) or not is_transient(error):
                raise
        return self.cached()

    async def _refresh_before_expiry(self, now: float) -> None:
        """Start a refresh of a token that is still valid; wait for it only in the mandatory window."""
        refresh = self._start_refresh(now, needs_token=False)
        # In a backoff, or in the advisory window.
        if refresh is None or now < self._windows.mandatory_at:
            return
        # Counted from the start of the refresh: a caller that comes later does not wait another 5 seconds. A failure
        # is not raised here, because the caller can still use the current token. The hooks report it.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(refresh.started_at + MAX_REFRESH_WAIT):
                await refresh.finished.wait()

    def _start_refresh(self, now: float, *, needs_token: bool) -> SharedTask[None] | None:
        """Return the refresh under way, or start one; return None during a backoff.

        *needs_token* is true if the caller has no valid token.
        """
        if self._refresh_task is not None and not self._refresh_task.finished.is_set():
            return self._refresh_task
        if self._closed:
            raise SessionClosed("the session is closed; no request was sent")
        # A caller without a token need not wait after a permanent failure. `TicketTokenProvider` remembers a rejection
        # for 60 seconds; in that time a refresh sends no fetch unless the ticket changes. A token source is called
        # again each time.
        is_permanent = self.last_error is not None and not is_transient(self.last_error)
        if now < self._next_refresh_at and not (needs_token and is_permanent):
            return None
        reason = self._refresh_reason(now)
        self._refresh_task = SharedTask.start(lambda: self._refresh(reason), now)
        return self._refresh_task

    def _refresh_reason(self, now: float) -> str:
        """Return why a refresh is needed, in the words of `events.TokenRefreshed`."""
        if self._token is None:
            return "rejected" if self._refreshed else "first"
        if now >= self._windows.expires_at:
            return "expired"
        return "advisory" if now < self._windows.mandatory_at else "mandatory"

    async def _refresh(self, reason: str) -> None:
        """Run one refresh in its task: adopt the new token, or start a backoff and raise."""
        started_at = self.now()
        try:
            # A function, because the refresher repeats it after each wait: the token may be rejected meanwhile.
            refreshed = await self.refresher.get(lambda: self._build_request(reason))
        except WxtcbError as error:
            # `copy.copy` drops the traceback: frames of a user's token source or store may hold secrets.
            failure = copy.copy(error)
        except Exception as error:
            # A bug must back off like any other failure, or callers would refresh in a tight loop. `SharedTask` gives
            # callers a WxtcbError without this traceback, and leaves the exception to the event loop's handler.
            internal_error = WxtcbError(f"internal error in wxtcb ({type(error).__name__}); please report it")
            self._record_error(reason, internal_error, started_at)
            raise
        else:
            self._adopt(refreshed, reason, started_at)
            return
        # Outside the `except` block, so that the copy does not get the original as its context.
        self._record_error(reason, failure, started_at)
        raise failure

    def _build_request(self, reason: str) -> RefreshRequest:
        """Return what a refresh has to achieve now. If the current token is valid, the new one must last longer."""
        # Minus infinity without a token.
        remaining = self._windows.expires_at - self.now()
        current = self._token.value if self._token is not None and remaining > 0 else None
        return RefreshRequest(
            reason,
            current_token=current,
            current_remaining=max(0.0, remaining),
            invalid_tokens=tuple(self._invalid_tokens),
            not_latest=self._last_rejected_not_latest,
            generation=0 if self._refreshed is None else self._refreshed.generation,
        )

    def _adopt(self, refreshed: RefreshedToken, reason: str, started_at: float) -> None:
        """Use *refreshed* from now on, end the backoff, and write the token to the store if that is still missing."""
        self._token, self._refreshed = ActiveToken(refreshed.value, refreshed.generation), refreshed
        self._windows = RefreshWindows.compute(refreshed.expires_at, refreshed.ttl, self.refresher.uniform)
        self._fresh_until = self._windows.advisory_at
        self.last_error, self._failures, self._next_refresh_at = None, 0, DISTANT_PAST
        self._last_rejected_not_latest = False
        now = self.now()
        self.refresher.dispatcher.emit(
            TokenRefreshed(
                refreshed.generation, reason, refreshed.expires_at - now, now - started_at, refreshed.from_store
            )
        )
        if refreshed.needs_store_write:
            self._pending_writes.append(refreshed)
            if self._write_task is None or self._write_task.finished.is_set():
                self._write_task = SharedTask.start(self._write_pending, self.now())

    def _record_error(self, reason: str, error: WxtcbError, started_at: float) -> None:
        """Start a backoff after a failed refresh, and report the failure."""
        if not is_transient(error):
            # Capped, so that the store is read again soon enough: another process may have stored a token or a new
            # ticket by then.
            backoff = min(MINUTE, error.retry_after or 1.0)
        elif error.retry_after is not None:
            backoff = error.retry_after
        else:
            self._failures += 1
            backoff = RETRY_BACKOFF.delay(self._failures)
        # One event per backoff. Callers without a token may repeat a permanent failure during its backoff (see
        # `_start_refresh`), perhaps thousands of times.
        starts_backoff = started_at >= self._next_refresh_at
        self.last_error, self._next_refresh_at = error, self.now() + backoff
        if starts_backoff:
            self.refresher.dispatcher.emit(TokenRefreshFailed(reason, error, backoff, self.now() - started_at))

    async def _wait_for_backoff(self, now: float) -> None:
        """Sleep through a short backoff. During a long one, raise its error unless the store has a token."""
        backoff = self._next_refresh_at - now
        # The second condition is for the type checker: during a backoff `last_error` is set.
        if backoff <= MAX_BACKOFF_WAIT or self.last_error is None:
            await self.refresher.sleep(backoff)
            return
        # One peek serves all callers. A running one is never replaced, because `aclose` ends only the last.
        peek = self._peek_task
        if peek is None or (peek.finished.is_set() and now >= peek.started_at + PEEK_INTERVAL):
            peek = self._peek_task = SharedTask.start(self._peek_store, now)
        await peek.result()
        # `last_error` is checked again because the token found may have been rejected meanwhile.
        if self.cached() is None and self.last_error is not None:
            error = copy.copy(self.last_error)
            error.retry_after = max(0.0, self._next_refresh_at - self.now())
            raise error

    async def _peek_store(self) -> None:
        """Use the token in the store if another process has fetched one."""
        started_at = self.now()
        reason = self._refresh_reason(started_at)
        # A store that is down is no reason for another error: callers get the one that started the backoff.
        with contextlib.suppress(TokenStoreError):
            refreshed = await self.refresher.peek(self._build_request(reason))
            # During a slow peek a refresh may have fetched a newer token, or this one may have been rejected.
            has_token = self.now() < self._windows.expires_at
            if refreshed is not None and not has_token and refreshed.value not in self._invalid_tokens:
                self._adopt(refreshed, reason, started_at)

    async def _write_pending(self) -> None:
        """Write the tokens in `_pending_writes` one after another, each as soon as the store accepts it."""
        while self._pending_writes:
            refreshed = self._pending_writes[0]
            await self.refresher.store(refreshed, functools.partial(self._is_current, refreshed))
            # Removed only now: a token appended meanwhile must find this task still running.
            self._pending_writes.popleft()

    def _is_current(self, refreshed: RefreshedToken) -> bool:
        """Return whether calls still use *refreshed*; a token that was replaced need not be written any more."""
        return self._token is not None and self._token.value == refreshed.value and self.now() < refreshed.expires_at


def create_token_cache(
    executor: RequestExecutor,
    dispatcher: HookDispatcher,
    *,
    component_appid: str,
    component_appsecret: Secret,
    ticket: TicketSource | None,
    token_source: TokenSource | ReadOnly | None,
    store: TokenStore | None,
    ticket_timeout: float | None,
    timeout: float,
    max_fetches_per_hour: int | None,
) -> TokenCache:
    """Return the token cache of a session.

    Without a *store* the state is kept in memory, for this session only. If there is no ticket, a push is requested and
    awaited for *ticket_timeout* seconds; None means that no push is requested. *timeout*, in seconds, limits each call
    of *ticket* and *token_source*.
    """
    # Compared with None: a store, or a callable, may be false.
    state_repository = StateRepository(
        MemoryStore(executor.now) if store is None else store, component_appid, dispatcher
    )
    provider: TokenProvider | None = None
    if token_source is None:
        provider = TicketTokenProvider(
            executor,
            component_appid,
            component_appsecret,
            ticket_source=StoredTicketSource(state_repository) if ticket is None else ticket,
            now=executor.now,
            timeout=timeout,
            ticket_timeout=ticket_timeout,
        )
    elif not isinstance(token_source, ReadOnly):
        provider = ExternalTokenProvider(token_source, timeout)
    return TokenCache(
        TokenRefresher(
            owner=process_id(),
            state_repository=state_repository,
            provider=provider,
            dispatcher=dispatcher,
            now=executor.now,
            # The limiter's sleep ends early when the session closes.
            sleep=executor.limiter.sleep,
            max_fetches_per_hour=max_fetches_per_hour,
            conflict_hint=SHARE_STORE_HINT if store is None else FIND_OTHER_FETCHER_HINT,
        )
    )
