"""Text as it may stand in a page: whatever it holds, it is shown, and steers nothing."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable
from datetime import datetime
from typing import Final

from wxtcb.provision.journal import to_utc

_CONTROL_CHARACTERS: Final = r"\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff"
_BIDI_CHARACTERS: Final = r"\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069"
_UNSAFE_CHARACTERS: Final = re.compile(f"[{_CONTROL_CHARACTERS}{_BIDI_CHARACTERS}]")
_WEB_URL: Final = re.compile(r"https?://[^\s\x00-\x20\x7f-\x9f]+", re.IGNORECASE)


def escape(text: str) -> str:
    """Return *text* for an element or a quoted attribute; what is not seen, but would turn the rest, is written out."""
    return html.escape(text if text.isprintable() else _UNSAFE_CHARACTERS.sub(_escape_character, text))


def _escape_character(match: re.Match[str]) -> str:
    return repr(match[0])[1:-1]


def render_code(values: Iterable[str]) -> str:
    """Return ids, each to be copied as it is."""
    return ", ".join(f"<code>{escape(value)}</code>" for value in values)


def render_link(url: str) -> str:
    """Return a link that tells the other side nothing of this page; what is no address of the web is only text."""
    text = escape(url)
    if _WEB_URL.fullmatch(url) is None or _UNSAFE_CHARACTERS.search(url):
        return f"<code>{text}</code>"
    return f'<a rel="noreferrer" href="{text}">{text}</a>'


def format_time(time: datetime) -> str:
    """Return a point in time with its offset, so that it means the same wherever it is read."""
    return f'<time datetime="{time.isoformat(timespec="milliseconds")}">{time.isoformat(" ", "seconds")}</time>'


def format_unix_time(time: float) -> str:
    """Return a point in Unix time, in UTC."""
    known = to_utc(time)
    return format_time(known) if known else f"{time:.0f} s of Unix time"


def format_count(number: int, noun: str) -> str:
    """Return a number and what it counts."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
