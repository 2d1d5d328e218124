"""How many calls a clock minute and a clock day allow, and how often a month the day can begin anew."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Final

from attrs import Factory, define

from wxtcb.sandbox.errors import platform_error

__all__ = ["DAY", "MINUTE", "RateWindow", "ResetQuota"]

MINUTE: Final = 60
DAY: Final = 86_400
_MAX_MONTHLY_RESETS: Final = 10


@define(eq=False)
class RateWindow:
    """Counts calls per path in windows of fixed length that begin at multiples of it on the world's clock."""

    seconds: float
    errcode: int
    _counts: dict[str, tuple[int, int]] = Factory(dict[str, tuple[int, int]])

    def acquire(self, path: str, limits: Mapping[str, int], now: float) -> None:
        """Count a call, or refuse it when the window has had as many as its limit; refused calls are not counted."""
        limit, count = limits.get(path), self.count(path, now)
        if limit is not None and count >= limit:
            raise platform_error(self.errcode)
        self._counts[path] = (int(now // self.seconds), count + 1)

    def count(self, path: str, now: float) -> int:
        """Return how many calls the present window has had."""
        began, count = self._counts.get(path, (0, 0))
        return count if began == int(now // self.seconds) else 0

    def clear(self, *paths: str) -> None:
        """Count from 0 again, on these paths, or on all if none is named."""
        for path in paths or [*self._counts]:
            self._counts.pop(path, None)


@define(eq=False)
class ResetQuota:
    """Counts the resets of each account in each month, of which there are ten."""

    _counts: Counter[tuple[str, str]] = Factory(Counter[tuple[str, str]])

    def consume(self, account: str, month: str) -> None:
        """Count a reset, or refuse it when the month has had its ten."""
        if self._counts[account, month] >= _MAX_MONTHLY_RESETS:
            raise platform_error(48006, "ten resets a month")
        self._counts[account, month] += 1
