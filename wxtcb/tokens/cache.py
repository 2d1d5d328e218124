"""The token of a session: fresh without waiting, renewed by one flight, never by a herd."""

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
from wxtcb._http.executor import Token
from wxtcb.errors import SessionClosed, TokenStoreError, WxtcbError
from wxtcb.events import TokenRefreshed, TokenRefreshFailed, TokenRejected
from wxtcb.secret import Secret
from wxtcb.tokens.decision import MAX_BACKOFF_WAIT, RefreshRequest
from wxtcb.tokens.providers import is_transient
from wxtcb.tokens.refresh import FetchedToken, TokenRefresher
from wxtcb.tokens.state import MAX_BACKOFF

MAX_REFRESH_WAIT: Final = 5.0
MAX_INVALID_TOKENS: Final = 16
PEEK_INTERVAL: Final = 1.0
ERRCODE_NOT_LATEST: Final = 40001
DISTANT_PAST: Final = float("-inf")


@attrs.frozen
class RefreshWindows:
    """When to renew: from `advisory_at` on in the background, from `mandatory_at` on before anybody goes on."""

    advisory_at: float
    mandatory_at: float
    expires_at: float

    @classmethod
    def compute(cls, expires_at: float, ttl: float, uniform: Callable[[float, float], float]) -> RefreshWindows:
        """Draw the windows of a token that lives *life* seconds: 15 and 5 minutes, in proportion if it is short."""
        jitter = uniform(0.0, min(60.0, ttl / 120))
        return cls(expires_at - min(900.0, ttl / 8) - jitter, expires_at - min(300.0, ttl / 24), expires_at)


_NO_WINDOWS: Final = RefreshWindows(DISTANT_PAST, DISTANT_PAST, DISTANT_PAST)


@attrs.define(eq=False)
class TokenCache:
    """Holds the newest token and renews it in time.

    `cached` is a plain check. Everything else happens in one `SharedTask` at a time, a `TokenRefresher.find`. A failed flight is
    followed by a pause of 1 s, doubled up to 30 s, in which nothing is fetched.
    """

    refresher: TokenRefresher
    now: Callable[[], float] = attrs.field(
        init=False, default=attrs.Factory(lambda self: self.refresher.now, takes_self=True)
    )
    _token: Token | None = attrs.field(init=False, default=None)
    _fetched: FetchedToken | None = attrs.field(init=False, default=None)
    _windows: RefreshWindows = attrs.field(init=False, default=_NO_WINDOWS)
    _fresh_until: float = attrs.field(init=False, default=DISTANT_PAST)
    _waiters: int = attrs.field(init=False, default=0)
    _refresh_task: SharedTask[None] | None = attrs.field(init=False, default=None)
    _last_error: WxtcbError | None = attrs.field(init=False, default=None)
    _backoff: float = attrs.field(init=False, default=0.0)
    _next_refresh_at: float = attrs.field(init=False, default=DISTANT_PAST)
    _invalid_tokens: deque[Secret] = attrs.field(init=False, factory=lambda: deque[Secret](maxlen=MAX_INVALID_TOKENS))
    _not_latest: bool = attrs.field(init=False, default=False)
    _peek_task: SharedTask[None] | None = attrs.field(init=False, default=None)
    _unstored: deque[FetchedToken] = attrs.field(init=False, factory=deque[FetchedToken])
    _store_task: SharedTask[None] | None = attrs.field(init=False, default=None)
    _closed: bool = attrs.field(init=False, default=False)

    def cached(self) -> Token | None:
        """Return the token while it is fresh, else None: then `get` decides."""
        return self._token if self.now() < self._fresh_until else None

    async def get(self) -> Token:
        """Return a living token, renewing it first where that is due; raise why there is none."""
        self._waiters += 1
        try:
            token = self.cached()
            while token is None:
                token = await self._get_or_refresh(self.now())
            return token
        finally:
            self._waiters -= 1

    @property
    def current(self) -> FetchedToken | None:
        """The token held, with who fetched it and why; None without one."""
        return None if self._token is None else self._fetched

    @property
    def last_error(self) -> WxtcbError | None:
        """Why the last renewal of this process failed; None if it succeeded."""
        return self._last_error

    @property
    def waiters(self) -> int:
        """The number of calls that wait for a token."""
        return self._waiters

    def age_and_remaining(self) -> tuple[float, float] | None:
        """Return the seconds since the token was made and until it expires, or None where there is none."""
        if (held := self.current) is None:
            return None
        now = self.now()
        return now - held.requested_at, held.expires_at - now

    def invalidate(self, token: Token, errcode: int, /) -> bool:
        """Drop *token* if it is still the one held: the platform called it dead. Another may be had from `get`."""
        if self._token is token:
            self._token, self._windows, self._fresh_until = None, _NO_WINDOWS, DISTANT_PAST
            self._invalid_tokens.append(token.value)
            self._not_latest = errcode == ERRCODE_NOT_LATEST
            self.refresher.dispatcher.emit(TokenRejected(token.generation, errcode))
        return True

    def close(self) -> None:
        """Begin to end a renewal under way; who waits for it gets `SessionClosed`."""
        self._closed = True
        for flight in self._tasks():
            flight.cancel()

    async def aclose(self) -> None:
        """Close, and wait for the end of a renewal under way."""
        self.close()
        for flight in self._tasks():
            await flight.aclose()

    def _tasks(self) -> list[SharedTask[None]]:
        return [flight for flight in (self._refresh_task, self._peek_task, self._store_task) if flight is not None]

    async def _get_or_refresh(self, now: float) -> Token | None:
        """Take the next step to a living token, and return it if that sufficed."""
        if now < self._windows.expires_at:
            await self._refresh_before_expiry(now)
            return self._token if self.now() < self._windows.expires_at else None
        if flight := self._start_refresh(now, blocking=True):
            await self._await_refresh(flight)
        else:
            await self._wait_for_backoff(now)
        return self.cached()

    async def _refresh_before_expiry(self, now: float) -> None:
        """See to a renewal while the token lives; wait for it, within bounds, once it is mandatory."""
        flight = self._start_refresh(now, blocking=False)
        if flight is None or now < self._windows.mandatory_at:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(flight.started_at + MAX_REFRESH_WAIT):
                await flight.done.wait()

    def _start_refresh(self, now: float, *, blocking: bool) -> SharedTask[None] | None:
        """Return the flight under way, or a new one unless there is a pause; None while it lasts."""
        if self._refresh_task is not None and not self._refresh_task.done.is_set():
            return self._refresh_task
        if self._closed:
            raise SessionClosed("the session is closed; nothing was sent")
        final = self._last_error is not None and not is_transient(self._last_error)
        if now < self._next_refresh_at and not (blocking and final):
            return None
        cause = self._refresh_reason(now)
        self._refresh_task = SharedTask.start(lambda: self._refresh(cause), now)
        return self._refresh_task

    async def _await_refresh(self, task: SharedTask[None]) -> None:
        """Wait for *flight*; raise its failure only if another flight soon would fail the same."""
        try:
            await task.wait()
        except WxtcbError as error:
            if isinstance(error, SessionClosed) or not is_transient(error):
                raise

    async def _wait_for_backoff(self, now: float) -> None:
        """Wait for the end of a pause; if it is long raise its cause, unless others have got a token meanwhile."""
        pause = self._next_refresh_at - now
        if pause <= MAX_BACKOFF_WAIT or self._last_error is None:
            await self.refresher.sleep(pause)
            return
        if self._peek_task is None or now >= self._peek_task.started_at + PEEK_INTERVAL:
            self._peek_task = SharedTask.start(self._peek_store, now)
        await self._peek_task.wait()
        if self.cached() is None and self._last_error is not None:
            raise _with_retry_after(self._last_error, max(0.0, self._next_refresh_at - self.now()))

    async def _peek_store(self) -> None:
        cause, started = self._refresh_reason(self.now()), self.now()
        with contextlib.suppress(TokenStoreError):
            if (found := await self.refresher.peek(self._build_request(cause))) is not None:
                self._on_refreshed(found, cause, started)

    def _refresh_reason(self, now: float) -> str:
        if self._token is None:
            return "dead" if self._fetched else "first"
        if now >= self._windows.expires_at:
            return "expired"
        return "advisory" if now < self._windows.mandatory_at else "mandatory"

    async def _refresh(self, reason: str) -> None:
        started = self.now()
        try:
            found = await self.refresher.get(lambda: self._build_request(reason))
        except WxtcbError as error:
            failure = copy.copy(error)  # without the frames of a foreign source or store, which hold secrets
        except Exception as error:
            self._record_error(reason, WxtcbError(f"wxtcb failed in itself ({type(error).__name__})"), started)
            raise
        else:
            self._on_refreshed(found, reason, started)
            return
        self._record_error(reason, failure, started)
        raise failure

    def _on_refreshed(self, fetched: FetchedToken, reason: str, started_at: float) -> None:
        self._set_token(fetched)
        left = fetched.expires_at - self.now()
        self.refresher.dispatcher.emit(
            TokenRefreshed(fetched.generation, reason, left, self.now() - started_at, fetched.from_store)
        )
        if fetched.is_unstored:
            self._schedule_store(fetched)

    def _build_request(self, reason: str) -> RefreshRequest:
        left = self._windows.expires_at - self.now()
        held = self._token.value if self._token is not None and left > 0 else None
        generation = 0 if self._fetched is None else self._fetched.generation
        return RefreshRequest(reason, held, max(0.0, left), tuple(self._invalid_tokens), self._not_latest, generation)

    def _schedule_store(self, fetched: FetchedToken) -> None:
        """See to it that the store gets a token that it could not take."""
        self._unstored.append(fetched)
        if self._store_task is None or self._store_task.done.is_set():
            self._store_task = SharedTask.start(self._store_all, self.now())

    async def _store_all(self) -> None:
        while self._unstored:
            found = self._unstored[0]
            await self.refresher.store(found, functools.partial(self._is_current, found))
            self._unstored.popleft()

    def _is_current(self, fetched: FetchedToken) -> bool:
        return self._token is not None and self._token.value == fetched.value and self.now() < fetched.expires_at

    def _set_token(self, fetched: FetchedToken) -> None:
        self._token, self._fetched = Token(fetched.value, fetched.generation), fetched
        self._windows = RefreshWindows.compute(fetched.expires_at, fetched.ttl, self.refresher.uniform)
        self._fresh_until = self._windows.advisory_at
        self._last_error, self._backoff, self._next_refresh_at = None, 0.0, DISTANT_PAST
        self._not_latest = False

    def _record_error(self, reason: str, error: WxtcbError, started_at: float) -> None:
        if not is_transient(error):
            pause = min(MINUTE, error.retry_after or 1.0)
        elif error.retry_after is not None:
            pause = error.retry_after
        else:
            pause = self._backoff = min(MAX_BACKOFF, 2 * self._backoff or 1.0)
        first_in_its_pause = started_at >= self._next_refresh_at
        self._last_error, self._next_refresh_at = error, self.now() + pause
        if first_in_its_pause:
            self.refresher.dispatcher.emit(TokenRefreshFailed(reason, error, pause, self.now() - started_at))


def _with_retry_after(error: WxtcbError, seconds: float) -> WxtcbError:
    mine = copy.copy(error)
    mine.retry_after = seconds
    return mine
