"""Who may send now.

Two things are held here: a number of slots, handed out first come, first served, and per path the pause that follows
the platform's minute limit (45011). A call waits for its path first and for a slot after, so that a paused path holds
no slot.
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
_UNLIMITED: Final = 1 << 40


@attrs.define(repr=False, eq=False)
class _PathState:
    """The minutes of one path: the present one began at `opens_at` (or will), and admits `allowance` calls."""

    opens_at: float
    paused_until: float = -math.inf
    allowance: int = _UNLIMITED
    admitted: int = 0
    admitted_last_minute: int = 0
    waiters: deque[asyncio.Future[None]] = attrs.field(factory=deque)
    sleeper: asyncio.Future[None] | None = None

    def seconds_until_open(self, now: float) -> float:
        """Return the seconds until the next call may pass."""
        if now < self.opens_at:
            return self.opens_at - now
        if now >= self.opens_at + MINUTE:
            self._advance_minutes(int((now - self.opens_at) // MINUTE))
        return 0.0 if self.admitted < self.allowance else self.opens_at + MINUTE - now

    def _advance_minutes(self, minutes: int) -> None:
        self.opens_at += minutes * MINUTE
        self.allowance = min(_UNLIMITED, self.allowance << min(minutes, 40))
        self.admitted_last_minute = self.admitted if minutes == 1 else 0
        self.admitted = 0

    def cancel_admission(self, minute: float) -> None:
        """Undo an admission in the minute that began at *minute*: that call was never sent."""
        if self.opens_at == minute:
            self.admitted -= 1
            if self.sleeper is not None:
                _wake(self.sleeper)

    def pause_until(self, opens_at: float) -> None:
        self.allowance = max(1, max(self.admitted, self.admitted_last_minute) // 4)
        self.opens_at = self.paused_until = opens_at
        self.admitted = self.admitted_last_minute = 0


@attrs.define(repr=False, eq=False)
class RequestLimiter:
    """Admission for every call of a session: at most `slots` at a time, in the order of asking.

    After `pause`, a path stays closed until the next minute of the wall clock, then admits a quarter of what it
    admitted in the limited minute, and twice as many in every minute that stays clean. Other paths go on.
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
        """The number of calls that wait for a slot."""
        return sum(not turn.done() for turn in tuple(self._slot_waiters))

    @property
    def paused(self) -> int:
        """The number of calls that wait for their path to open."""
        return sum(len(path.waiters) for path in tuple(self._paths.values()))

    @property
    def in_use(self) -> int:
        """The number of slots taken."""
        return self.slots - self._free_slots

    def try_acquire(self, path: str) -> bool:
        """Take a slot if one is free and nobody is before us; `SessionClosed` after `pause_until`."""
        self._raise_if_closed()
        state = self._paths.get(path)
        if state is None:
            state = self._paths[path] = _PathState(self.now())
        if self._slot_waiters or self._free_slots <= 0 or state.waiters or state.seconds_until_open(self.now()) > 0:
            return False
        state.admitted += 1
        self._free_slots -= 1
        return True

    async def acquire(self, path: str) -> None:
        """Wait until *path* is open and a slot is free, and take it; `release` gives it back."""
        while not self.try_acquire(path):
            state = self._paths[path]
            await self._wait_for_path(state)
            minute = state.opens_at
            try:
                await self._acquire_slot()
            except BaseException:
                state.cancel_admission(minute)
                raise
            if self.now() >= state.opens_at:
                return
            self.release()

    def release(self) -> None:
        """Give a slot back, to the one who waits longest."""
        while self._slot_waiters:
            turn = self._slot_waiters.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._free_slots += 1

    def pause(self, path: str, *, sent_at: float) -> float | None:
        """Close *path* until the next minute, because a call sent at *sent_at* met the minute limit.

        Returns the seconds, or None where the path was closed after that call was sent.
        """
        state = self._paths[path]
        if sent_at < state.paused_until:
            return None
        seconds = MINUTE - self.wall_clock() % MINUTE
        state.pause_until(self.now() + seconds)
        return seconds

    async def sleep(self, seconds: float) -> None:
        """Sleep, but end with `SessionClosed` as soon as the gate is closed."""
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
        """End every wait with `SessionClosed`, now and from now on."""
        self._closed = True
        for turn in (*self._slot_waiters, *self._sleepers):
            _wake(turn)

    def _raise_if_closed(self) -> None:
        if self._closed:
            raise SessionClosed("the session was closed while this call waited; nothing more was sent for it")

    async def _wait_for_path(self, path: _PathState) -> None:
        turn = asyncio.get_running_loop().create_future()
        path.waiters.append(turn)
        try:
            if path.waiters[0] is not turn:
                await turn
                self._raise_if_closed()
            while (wait := path.seconds_until_open(self.now())) > 0:
                path.sleeper = asyncio.get_running_loop().create_future()
                await self._sleep_on(path.sleeper, wait)
            path.admitted += 1
        finally:
            path.waiters.remove(turn)
            if path.waiters:
                _wake(path.waiters[0])

    async def _acquire_slot(self) -> None:
        if self._free_slots > 0 and not self._slot_waiters:
            self._free_slots -= 1
            return
        turn = asyncio.get_running_loop().create_future()
        self._slot_waiters.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():
                self.release()
            raise
        self._raise_if_closed()


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
