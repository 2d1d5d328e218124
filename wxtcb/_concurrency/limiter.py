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
_NO_LIMIT: Final = 1 << 40


@attrs.define(repr=False, eq=False)
class _Path:
    """The minutes of one path: the present one began at `opens_at` (or will), and admits `allowance` calls."""

    opens_at: float
    paused_until: float = -math.inf
    allowance: int = _NO_LIMIT
    admitted: int = 0
    admitted_before: int = 0
    queue: deque[asyncio.Future[None]] = attrs.field(factory=deque)
    nap: asyncio.Future[None] | None = None

    def wait(self, now: float) -> float:
        """Return the seconds until the next call may pass."""
        if now < self.opens_at:
            return self.opens_at - now
        if now >= self.opens_at + MINUTE:
            self._turn_to(int((now - self.opens_at) // MINUTE))
        return 0.0 if self.admitted < self.allowance else self.opens_at + MINUTE - now

    def _turn_to(self, minutes: int) -> None:
        self.opens_at += minutes * MINUTE
        self.allowance = min(_NO_LIMIT, self.allowance << min(minutes, 40))
        self.admitted_before = self.admitted if minutes == 1 else 0
        self.admitted = 0

    def give_back(self, minute: float) -> None:
        """Undo an admission in the minute that began at *minute*: that call was never sent."""
        if self.opens_at == minute:
            self.admitted -= 1
            if self.nap is not None:
                _wake(self.nap)

    def close(self, opens_at: float) -> None:
        self.allowance = max(1, max(self.admitted, self.admitted_before) // 4)
        self.opens_at = self.paused_until = opens_at
        self.admitted = self.admitted_before = 0


@attrs.define(repr=False, eq=False)
class Gate:
    """Admission for every call of a session: at most `slots` at a time, in the order of asking.

    After `pause`, a path stays closed until the next minute of the wall clock, then admits a quarter of what it
    admitted in the limited minute, and twice as many in every minute that stays clean. Other paths go on.
    """

    slots: int
    now: Callable[[], float]
    wall: Callable[[], float] = time.time
    _free: int = attrs.field(init=False, default=attrs.Factory(lambda self: self.slots, takes_self=True))
    _queue: deque[asyncio.Future[None]] = attrs.field(init=False, factory=deque)
    _paths: dict[str, _Path] = attrs.field(init=False, factory=dict)
    _rests: set[asyncio.Future[None]] = attrs.field(init=False, factory=set)
    _closed: bool = attrs.field(init=False, default=False)

    @property
    def waiting(self) -> int:
        """The number of calls that wait for a slot."""
        return sum(not turn.done() for turn in tuple(self._queue))

    @property
    def paused(self) -> int:
        """The number of calls that wait for their path to open."""
        return sum(len(path.queue) for path in tuple(self._paths.values()))

    @property
    def in_use(self) -> int:
        """The number of slots taken."""
        return self.slots - self._free

    def try_enter(self, path: str) -> bool:
        """Take a slot if one is free and nobody is before us; `SessionClosed` after `close`."""
        self._refuse_if_closed()
        state = self._paths.get(path)
        if state is None:
            state = self._paths[path] = _Path(self.now())
        if self._queue or self._free <= 0 or state.queue or state.wait(self.now()) > 0:
            return False
        state.admitted += 1
        self._free -= 1
        return True

    async def enter(self, path: str) -> None:
        """Wait until *path* is open and a slot is free, and take it; `leave` gives it back."""
        while not self.try_enter(path):
            state = self._paths[path]
            await self._pass(state)
            minute = state.opens_at
            try:
                await self._take_slot()
            except BaseException:
                state.give_back(minute)
                raise
            if self.now() >= state.opens_at:
                return
            self.leave()

    def leave(self) -> None:
        """Give a slot back, to the one who waits longest."""
        while self._queue:
            turn = self._queue.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1

    def pause(self, path: str, *, sent_at: float) -> float | None:
        """Close *path* until the next minute, because a call sent at *sent_at* met the minute limit.

        Returns the seconds, or None where the path was closed after that call was sent.
        """
        state = self._paths[path]
        if sent_at < state.paused_until:
            return None
        seconds = MINUTE - self.wall() % MINUTE
        state.close(self.now() + seconds)
        return seconds

    async def rest(self, seconds: float) -> None:
        """Sleep, but end with `SessionClosed` as soon as the gate is closed."""
        await self._rest_on(asyncio.get_running_loop().create_future(), seconds)

    async def _rest_on(self, rest: asyncio.Future[None], seconds: float) -> None:
        self._refuse_if_closed()
        self._rests.add(rest)
        timer = rest.get_loop().call_later(seconds, _wake, rest)
        try:
            await rest
        finally:
            timer.cancel()
            self._rests.discard(rest)
        self._refuse_if_closed()

    def close(self) -> None:
        """End every wait with `SessionClosed`, now and from now on."""
        self._closed = True
        for turn in (*self._queue, *self._rests):
            _wake(turn)

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise SessionClosed("the session was closed while this call waited; nothing more was sent for it")

    async def _pass(self, path: _Path) -> None:
        turn = asyncio.get_running_loop().create_future()
        path.queue.append(turn)
        try:
            if path.queue[0] is not turn:
                await turn
                self._refuse_if_closed()
            while (wait := path.wait(self.now())) > 0:
                path.nap = asyncio.get_running_loop().create_future()
                await self._rest_on(path.nap, wait)
            path.admitted += 1
        finally:
            path.queue.remove(turn)
            if path.queue:
                _wake(path.queue[0])

    async def _take_slot(self) -> None:
        if self._free > 0 and not self._queue:
            self._free -= 1
            return
        turn = asyncio.get_running_loop().create_future()
        self._queue.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():
                self.leave()
            raise
        self._refuse_if_closed()


def _wake(turn: asyncio.Future[None]) -> None:
    if not turn.done():
        turn.set_result(None)
