"""Whether the journal knows of something that is yet to come, by the clock of now. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

_MAX_CLOCK_SKEW: Final = 60.0


def clock_skew_notes(timestamps: Iterable[float], now: float) -> Iterator[str]:
    """Say by how much the latest of these moments, in Unix time, is ahead of *now*, if it is by more than a minute."""
    ahead = max(timestamps, default=now) - now
    if ahead > _MAX_CLOCK_SKEW:
        yield (
            f"Note: the clock was set back, or was ahead then: the journal has something of {ahead:.0f} s from now. "
            "No wait minds."
        )
