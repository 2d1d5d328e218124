"""Rate limits of a clock minute and a clock day, and the monthly number of quota resets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Final

from attrs import Factory, define

from wxtcb.sandbox.errors import platform_error

MINUTE: Final = 60
DAY: Final = 86_400


@define(eq=False)
class RateWindow:
    """Counter of calls per path, in windows that begin at multiples of `seconds`; one above a limit gets `errcode`."""

    seconds: float
    errcode: int
    # By path: the number of the window, and the calls in it. A count of an older window is 0.
    _counts: dict[str, tuple[int, int]] = Factory(dict[str, tuple[int, int]])

    def acquire(self, path: str, limits: Mapping[str, int], now: float) -> None:
        """Count a call, or raise `PlatformError` if the window is full; rejected calls are not counted."""
        limit, count = limits.get(path), self.count(path, now)
        if limit is not None and count >= limit:
            raise platform_error(self.errcode)
        self._counts[path] = (int(now // self.seconds), count + 1)

    def count(self, path: str, now: float) -> int:
        window, count = self._counts.get(path, (0, 0))
        return count if window == int(now // self.seconds) else 0

    def clear(self, *paths: str) -> None:
        for path in paths or [*self._counts]:
            self._counts.pop(path, None)


@define(eq=False)
class ResetQuota:
    """Counter of quota resets, of which each account has ten a month."""

    _counts: Counter[tuple[str, str]] = Factory(Counter[tuple[str, str]])

    def consume(self, account: str, month: str) -> None:
        if self._counts[account, month] >= 10:
            raise platform_error(48006, "ten resets a month")
        self._counts[account, month] += 1
