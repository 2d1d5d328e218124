"""Times of replies: the platform sends text without a time zone."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Final

# No page names the zone. All documented samples fit China Standard Time, which has no daylight saving time.
_CHINA: Final = timezone(timedelta(hours=8), "CST")


def parse_time(text: str | None) -> datetime | None:
    """Return ``YYYY-MM-DD HH:MM:SS`` as a time in China Standard Time, or None for any other text."""
    try:
        return datetime.strptime(text or "", "%Y-%m-%d %H:%M:%S").replace(tzinfo=_CHINA)
    except ValueError:
        return None
