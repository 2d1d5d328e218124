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
from wxtcb._concurrency.single_flight import Flight
from wxtcb._http.executor import Token
from wxtcb.errors import SessionClosed, TokenStoreError, WxtcbError
from wxtcb.events import RenewalFailed, TokenExpired, TokenRenewed
from wxtcb.secret import Secret
from wxtcb.tokens.decision import WORTH_WAITING, Wish
from wxtcb.tokens.providers import is_transient
from wxtcb.tokens.refresh import Found, Renewal
from wxtcb.tokens.state import LONGEST_PAUSE

PATIENCE: Final = 5.0
KNOWN_DEAD: Final = 16
LOOKS: Final = 1.0
NOT_LATEST: Final = 40001
NEVER: Final = float("-inf")


@attrs.frozen
class Windows:
    """When to renew: from `advisory` on in the background, from `mandatory` on before anybody goes on."""

    advisory: float
    mandatory: float
    expiry: float

    @classmethod
    def of(cls, expiry: float, life: float, uniform: Callable[[float, float], float]) -> Windows:
        """Draw the windows of a token that lives *life* seconds: 15 and 5 minutes, in proportion if it is short."""
        jitter = uniform(0.0, min(60.0, life / 120))
        return cls(expiry - min(900.0, life / 8) - jitter, expiry - min(300.0, life / 24), expiry)


_NO_TOKEN: Final = Windows(NEVER, NEVER, NEVER)


@attrs.define(eq=False)
class TokenCache:
    """Holds the newest token and renews it in time.

    `get` is a plain check. Everything else happens in one `Flight` at a time, a `Renewal.find`. A failed flight is
    followed by a pause of 1 s, doubled up to 30 s, in which nothing is fetched.
    """

    renewal: Renewal
    now: Callable[[], float] = attrs.field(
        init=False, default=attrs.Factory(lambda self: self.renewal.now, takes_self=True)
    )
    _token: Token | None = attrs.field(init=False, default=None)
    _found: Found | None = attrs.field(init=False, default=None)
    _windows: Windows = attrs.field(init=False, default=_NO_TOKEN)
    _fresh_until: float = attrs.field(init=False, default=NEVER)
    _waiters: int = attrs.field(init=False, default=0)
    _flight: Flight[None] | None = attrs.field(init=False, default=None)
    _failure: WxtcbError | None = attrs.field(init=False, default=None)
    _pause: float = attrs.field(init=False, default=0.0)
    _next_at: float = attrs.field(init=False, default=NEVER)
    _dead: deque[Secret] = attrs.field(init=False, factory=lambda: deque[Secret](maxlen=KNOWN_DEAD))
    _not_latest: bool = attrs.field(init=False, default=False)
    _looking: Flight[None] | None = attrs.field(init=False, default=None)
    _unsaved: deque[Found] = attrs.field(init=False, factory=deque[Found])
    _saving: Flight[None] | None = attrs.field(init=False, default=None)
    _closed: bool = attrs.field(init=False, default=False)

    def get(self) -> Token | None:
        """Return the token while it is fresh, else None: then `wait` decides."""
        return self._token if self.now() < self._fresh_until else None

    async def wait(self) -> Token:
        """Return a living token, renewing it first where that is due; raise why there is none."""
        self._waiters += 1
        try:
            token = self.get()
            while token is None:
                token = await self._approach(self.now())
            return token
        finally:
            self._waiters -= 1

    @property
    def held(self) -> Found | None:
        """The token held, with who fetched it and why; None without one."""
        return None if self._token is None else self._found

    @property
    def failure(self) -> WxtcbError | None:
        """Why the last renewal of this process failed; None if it succeeded."""
        return self._failure

    @property
    def waiters(self) -> int:
        """The number of calls that wait for a token."""
        return self._waiters

    def life(self) -> tuple[float, float] | None:
        """Return the seconds since the token was made and until it expires, or None where there is none."""
        if (held := self.held) is None:
            return None
        now = self.now()
        return now - held.made_at, held.expiry - now

    def expire(self, token: Token, errcode: int, /) -> bool:
        """Drop *token* if it is still the one held: the platform called it dead. Another may be had from `wait`."""
        if self._token is token:
            self._token, self._windows, self._fresh_until = None, _NO_TOKEN, NEVER
            self._dead.append(token.value)
            self._not_latest = errcode == NOT_LATEST
            self.renewal.observers.emit(TokenExpired(token.generation, errcode))
        return True

    def close(self) -> None:
        """Begin to end a renewal under way; who waits for it gets `SessionClosed`."""
        self._closed = True
        for flight in self._flights():
            flight.cancel()

    async def aclose(self) -> None:
        """Close, and wait for the end of a renewal under way."""
        self.close()
        for flight in self._flights():
            await flight.aclose()

    def _flights(self) -> list[Flight[None]]:
        return [flight for flight in (self._flight, self._looking, self._saving) if flight is not None]

    async def _approach(self, now: float) -> Token | None:
        """Take the next step to a living token, and return it if that sufficed."""
        if now < self._windows.expiry:
            await self._renew_in_time(now)
            return self._token if self.now() < self._windows.expiry else None
        if flight := self._fly_if_allowed(now, waiting=True):
            await self._ride(flight)
        else:
            await self._sit_out(now)
        return self.get()

    async def _renew_in_time(self, now: float) -> None:
        """See to a renewal while the token lives; wait for it, within bounds, once it is mandatory."""
        flight = self._fly_if_allowed(now, waiting=False)
        if flight is None or now < self._windows.mandatory:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(flight.started_at + PATIENCE):
                await flight.landed.wait()

    def _fly_if_allowed(self, now: float, *, waiting: bool) -> Flight[None] | None:
        """Return the flight under way, or a new one unless there is a pause; None while it lasts."""
        if self._flight is not None and not self._flight.landed.is_set():
            return self._flight
        if self._closed:
            raise SessionClosed("the session is closed; nothing was sent")
        final = self._failure is not None and not is_transient(self._failure)
        if now < self._next_at and not (waiting and final):
            return None
        cause = self._cause(now)
        self._flight = Flight.launch(lambda: self._renew(cause), now)
        return self._flight

    async def _ride(self, flight: Flight[None]) -> None:
        """Wait for *flight*; raise its failure only if another flight soon would fail the same."""
        try:
            await flight.wait()
        except WxtcbError as error:
            if isinstance(error, SessionClosed) or not is_transient(error):
                raise

    async def _sit_out(self, now: float) -> None:
        """Wait for the end of a pause; if it is long raise its cause, unless others have got a token meanwhile."""
        pause = self._next_at - now
        if pause <= WORTH_WAITING or self._failure is None:
            await self.renewal.rest(pause)
            return
        if self._looking is None or now >= self._looking.started_at + LOOKS:
            self._looking = Flight.launch(self._look, now)
        await self._looking.wait()
        if self.get() is None and self._failure is not None:
            raise _with_retry_after(self._failure, max(0.0, self._next_at - self.now()))

    async def _look(self) -> None:
        cause, started = self._cause(self.now()), self.now()
        with contextlib.suppress(TokenStoreError):
            if (found := await self.renewal.look(self._wish(cause))) is not None:
                self._take(found, cause, started)

    def _cause(self, now: float) -> str:
        if self._token is None:
            return "dead" if self._found else "first"
        if now >= self._windows.expiry:
            return "expired"
        return "advisory" if now < self._windows.mandatory else "mandatory"

    async def _renew(self, cause: str) -> None:
        started = self.now()
        try:
            found = await self.renewal.find(lambda: self._wish(cause))
        except WxtcbError as error:
            failure = copy.copy(error)  # without the frames of a foreign source or store, which hold secrets
        except Exception as error:
            self._note_failure(cause, WxtcbError(f"wxtcb failed in itself ({type(error).__name__})"), started)
            raise
        else:
            self._take(found, cause, started)
            return
        self._note_failure(cause, failure, started)
        raise failure

    def _take(self, found: Found, cause: str, started: float) -> None:
        self._adopt(found)
        left = found.expiry - self.now()
        self.renewal.observers.emit(TokenRenewed(found.generation, cause, left, self.now() - started, found.adopted))
        if found.unsaved:
            self._save(found)

    def _wish(self, cause: str) -> Wish:
        left = self._windows.expiry - self.now()
        held = self._token.value if self._token is not None and left > 0 else None
        generation = 0 if self._found is None else self._found.generation
        return Wish(cause, held, max(0.0, left), tuple(self._dead), self._not_latest, generation)

    def _save(self, found: Found) -> None:
        """See to it that the store gets a token that it could not take."""
        self._unsaved.append(found)
        if self._saving is None or self._saving.landed.is_set():
            self._saving = Flight.launch(self._save_all, self.now())

    async def _save_all(self) -> None:
        while self._unsaved:
            found = self._unsaved[0]
            await self.renewal.save(found, functools.partial(self._holds, found))
            self._unsaved.popleft()

    def _holds(self, found: Found) -> bool:
        return self._token is not None and self._token.value == found.value and self.now() < found.expiry

    def _adopt(self, found: Found) -> None:
        self._token, self._found = Token(found.value, found.generation), found
        self._windows = Windows.of(found.expiry, found.life, self.renewal.uniform)
        self._fresh_until = self._windows.advisory
        self._failure, self._pause, self._next_at = None, 0.0, NEVER
        self._not_latest = False

    def _note_failure(self, cause: str, error: WxtcbError, started: float) -> None:
        if not is_transient(error):
            pause = min(MINUTE, error.retry_after or 1.0)
        elif error.retry_after is not None:
            pause = error.retry_after
        else:
            pause = self._pause = min(LONGEST_PAUSE, 2 * self._pause or 1.0)
        first_in_its_pause = started >= self._next_at
        self._failure, self._next_at = error, self.now() + pause
        if first_in_its_pause:
            self.renewal.observers.emit(RenewalFailed(cause, error, pause, self.now() - started))


def _with_retry_after(error: WxtcbError, seconds: float) -> WxtcbError:
    mine = copy.copy(error)
    mine.retry_after = seconds
    return mine
