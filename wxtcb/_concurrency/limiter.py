"""Request limiter: a FIFO limit on concurrent requests, and a pause per path after the platform's minute limit (45011).

A call is admitted in two steps: it waits until its path is open and passes it, and then takes a slot. In this order,
calls of a paused path hold no slot.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from typing import TYPE_CHECKING, Final

import attrs

from wxtcb.errors import SessionClosed

if TYPE_CHECKING:
    from collections.abc import Callable

MINUTE: Final = 60.0
# Means "no limit" as an int, so that doubling and comparing need no special case.
_UNLIMITED: Final = 1 << 40


@attrs.define(repr=False, eq=False)
class _PathState:
    """Rate-limit state of one path.

    The current minute starts at `opens_at`, which is in the future during a pause. `passed` calls have passed the path
    in it, of at most `allowance`.
    """

    opens_at: float
    paused_until: float = -math.inf
    allowance: int = _UNLIMITED
    passed: int = 0
    passed_last_minute: int = 0
    waiters: deque[asyncio.Future[None]] = attrs.field(factory=deque)
    sleeper: asyncio.Future[None] | None = None

    def seconds_until_open(self, now: float) -> float:
        """Return the seconds until another call may pass, 0.0 if it may now."""
        if now < self.opens_at:
            return self.opens_at - now
        if now >= self.opens_at + MINUTE:
            minutes = int((now - self.opens_at) // MINUTE)
            self.opens_at += minutes * MINUTE
            # The allowance doubles in every minute without a 45011. The shift is bounded: a path may be idle for days.
            self.allowance = min(_UNLIMITED, self.allowance << min(minutes, 40))
            self.passed_last_minute = self.passed if minutes == 1 else 0
            self.passed = 0
        return 0.0 if self.passed < self.allowance else self.opens_at + MINUTE - now

    def undo_pass(self, minute: float) -> None:
        """Take back a pass in the minute that started at *minute*, because the call was not sent."""
        if self.opens_at == minute:
            self.passed -= 1
            # The first waiter of the path may be sleeping until the next minute; now it may pass in this one.
            if self.sleeper is not None:
                _wake(self.sleeper)

    def pause_until(self, opens_at: float) -> None:
        """Close the path until *opens_at* and reduce its allowance."""
        # The platform does not document its limit. A quarter of the calls that met it is a cautious restart; doubling
        # then approaches the limit again. The previous minute counts, because 45011 may arrive early in a new one.
        self.allowance = max(1, max(self.passed, self.passed_last_minute) // 4)
        self.opens_at = self.paused_until = opens_at
        self.passed = self.passed_last_minute = 0


@attrs.define(repr=False, eq=False)
class PathReservation:
    """Pass of a path for a call that follows. `cancel` takes it back unless the call has used it."""

    _path: _PathState
    _minute: float
    _pending: bool = attrs.field(init=False, default=True)

    def cancel(self) -> None:
        if self._use():
            self._path.undo_pass(self._minute)

    def _use(self) -> bool:
        pending, self._pending = self._pending, False
        return pending

    def use(self, now: float) -> bool:
        """Return whether a call may pass now, and only once; a pause, or a new minute, ends the reservation."""
        return self._use() and self._path.opens_at == self._minute <= now < self._minute + MINUTE


@attrs.define(repr=False, eq=False)
class RequestLimiter:
    """Limiter for all calls of a session: at most `slots` calls at a time, admitted in FIFO order.

    After `pause`, a path is closed until the next minute of the wall clock. Then a quarter as many calls may pass it
    as in the minute in which the limit was met, and twice as many in each further minute without a 45011. Other paths
    are not affected.
    """

    slots: int
    now: Callable[[], float]
    wall_clock: Callable[[], float] = time.time
    _free_slots: int = attrs.field(init=False, default=attrs.Factory(lambda self: self.slots, takes_self=True))
    _slot_waiters: deque[asyncio.Future[None]] = attrs.field(init=False, factory=deque)
    _paths: dict[str, _PathState] = attrs.field(init=False, factory=dict)
    _sleepers: set[asyncio.Future[None]] = attrs.field(init=False, factory=set)
    _closed: bool = attrs.field(init=False, default=False)

    @property
    def waiting(self) -> int:
        """Number of calls that wait for a slot."""
        # Copied first: `Session.stats` may be called from any thread, and a deque must not change during iteration.
        return sum(not waiter.done() for waiter in tuple(self._slot_waiters))

    @property
    def paused(self) -> int:
        """Number of calls that wait for their path to open."""
        return sum(len(path.waiters) for path in tuple(self._paths.values()))

    @property
    def in_use(self) -> int:
        """Number of slots in use."""
        return self.slots - self._free_slots

    def try_acquire(self, path: str) -> bool:
        """Take a slot and return True if the path is open, a slot is free and no earlier call waits.

        Raises `SessionClosed` after `close`.
        """
        self._raise_if_closed()
        state = self._paths.get(path)
        if state is None:
            state = self._paths[path] = _PathState(self.now())
        if self._slot_waiters or self._free_slots <= 0 or state.waiters or state.seconds_until_open(self.now()) > 0:
            return False
        state.passed += 1
        self._free_slots -= 1
        return True

    async def acquire(self, path: str) -> None:
        """Wait until *path* is open and a slot is free, and take the slot; call `release` to return it."""
        while not self.try_acquire(path):
            state = self._paths[path]
            await self._wait_for_path(state)
            minute = state.opens_at
            try:
                await self._acquire_slot()
            except BaseException:
                state.undo_pass(minute)
                raise
            # If the path was paused while this call waited for its slot, the call waits again, without a slot.
            if self.now() >= state.opens_at:
                return
            self.release()

    def try_reserve(self, path: str) -> PathReservation | None:
        """Pass *path*, without taking a slot, if it is open; see `acquire_reserved`."""
        self._raise_if_closed()
        state = self._paths.get(path)
        if state is None:
            state = self._paths[path] = _PathState(self.now())
        if state.waiters or state.seconds_until_open(self.now()) > 0:
            return None
        state.passed += 1
        return PathReservation(state, state.opens_at)

    async def reserve(self, path: str) -> PathReservation:
        """Wait until *path* is open and pass it, without taking a slot; see `acquire_reserved`."""
        if (reservation := self.try_reserve(path)) is not None:
            return reservation
        state = self._paths[path]
        await self._wait_for_path(state)
        return PathReservation(state, state.opens_at)

    async def acquire_reserved(self, path: str, reservation: PathReservation) -> None:
        """Take a slot like `acquire`, for a call whose path was passed before by `reserve`."""
        self._raise_if_closed()
        await self._acquire_slot()
        if not reservation.use(self.now()):
            self.release()
            await self.acquire(path)

    def release(self) -> None:
        """Return a slot; it goes to the call that has waited longest."""
        while self._slot_waiters:
            waiter = self._slot_waiters.popleft()
            # A waiter that is done was cancelled.
            if not waiter.done():
                # The slot passes directly to the waiter. If it became free in between, a new call could overtake.
                waiter.set_result(None)
                return
        self._free_slots += 1

    def pause(self, path: str, *, sent_at: float) -> float | None:
        """Close *path* until the next minute, because a call sent at *sent_at* met the minute limit.

        Returns the length of the pause in seconds. Returns None if the path has been paused since *sent_at*: many calls
        in flight meet the same limit, and only the first one starts a pause.
        """
        state = self._paths[path]
        if sent_at < state.paused_until:
            return None
        # The platform counts by minutes of the wall clock, not from the first call.
        seconds = MINUTE - self.wall_clock() % MINUTE
        state.pause_until(self.now() + seconds)
        return seconds

    async def sleep(self, seconds: float) -> None:
        """Sleep for *seconds*; raise `SessionClosed` as soon as the limiter is closed."""
        await self._sleep_on(asyncio.get_running_loop().create_future(), seconds)

    async def _sleep_on(self, sleeper: asyncio.Future[None], seconds: float) -> None:
        self._raise_if_closed()
        self._sleepers.add(sleeper)
        timer = sleeper.get_loop().call_later(seconds, _wake, sleeper)
        try:
            await sleeper
        finally:
            timer.cancel()
            self._sleepers.discard(sleeper)
        self._raise_if_closed()

    def close(self) -> None:
        """End all current and future waits with `SessionClosed`."""
        self._closed = True
        for waiter in (*self._slot_waiters, *self._sleepers):
            _wake(waiter)

    def _raise_if_closed(self) -> None:
        if self._closed:
            raise SessionClosed("the session was closed while this call waited; no further request was sent")

    async def _wait_for_path(self, path: _PathState) -> None:
        waiter = asyncio.get_running_loop().create_future()
        path.waiters.append(waiter)
        try:
            # Only the first waiter of a path watches the clock; each one wakes its successor when it leaves.
            if path.waiters[0] is not waiter:
                await waiter
                self._raise_if_closed()
            while (wait := path.seconds_until_open(self.now())) > 0:
                path.sleeper = asyncio.get_running_loop().create_future()
                await self._sleep_on(path.sleeper, wait)
            path.passed += 1
        finally:
            path.waiters.remove(waiter)
            if path.waiters:
                _wake(path.waiters[0])

    async def _acquire_slot(self) -> None:
        if self._free_slots > 0 and not self._slot_waiters:
            self._free_slots -= 1
            return
        waiter = asyncio.get_running_loop().create_future()
        self._slot_waiters.append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            # The slot was passed to this call in the same turn of the loop in which it was cancelled.
            if not waiter.cancelled():
                self.release()
            raise
        self._raise_if_closed()


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
