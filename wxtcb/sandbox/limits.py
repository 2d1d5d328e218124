"""How many calls a clock minute and a clock day allow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from attrs import Factory, define

from wxtcb.sandbox.refusal import refuse

__all__ = ["DAY", "MINUTE", "Window"]

MINUTE: Final = 60
DAY: Final = 86_400


@define(eq=False)
class Window:
    """Counts calls per path in windows of fixed length that begin at multiples of it on the world's clock."""

    seconds: float
    errcode: int
    _counts: dict[str, tuple[int, int]] = Factory(dict[str, tuple[int, int]])

    def admit(self, path: str, limits: Mapping[str, int], now: float) -> None:
        """Count a call, or refuse it when the window has had as many as its limit; refused calls are not counted."""
        limit = limits.get(path)
        if limit is None:
            return
        window = int(now // self.seconds)
        began, count = self._counts.get(path, (window, 0))
        count = count if began == window else 0
        if count >= limit:
            raise refuse(self.errcode)
        self._counts[path] = (window, count + 1)
