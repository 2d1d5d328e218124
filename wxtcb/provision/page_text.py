"""Text as it may stand in a page: whatever it holds, it is shown, and steers nothing."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable
from datetime import datetime
from typing import Final

from wxtcb.provision.journal import utc

_CONTROLS: Final = r"\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff"
_TURNING: Final = r"\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069"
_STEERING: Final = re.compile(f"[{_CONTROLS}{_TURNING}]")
_WEB: Final = re.compile(r"https?://[^\s\x00-\x20\x7f-\x9f]+", re.IGNORECASE)


def shown(text: str) -> str:
    """Return *text* for an element or a quoted attribute; what is not seen, but would turn the rest, is written out."""
    return html.escape(text if text.isprintable() else _STEERING.sub(_written_out, text))


def _written_out(found: re.Match[str]) -> str:
    return repr(found[0])[1:-1]


def coded(values: Iterable[str]) -> str:
    """Return ids, each to be copied as it is."""
    return ", ".join(f"<code>{shown(value)}</code>" for value in values)


def link_to(url: str) -> str:
    """Return a link that tells the other side nothing of this page; what is no address of the web is only text."""
    text = shown(url)
    if _WEB.fullmatch(url) is None or _STEERING.search(url):
        return f"<code>{text}</code>"
    return f'<a rel="noreferrer" href="{text}">{text}</a>'


def moment(at: datetime) -> str:
    """Return a point in time with its offset, so that it means the same wherever it is read."""
    return f'<time datetime="{at.isoformat(timespec="milliseconds")}">{at.isoformat(" ", "seconds")}</time>'


def unix_moment(at: float) -> str:
    """Return a point in Unix time, in UTC."""
    known = utc(at)
    return moment(known) if known else f"{at:.0f} s of Unix time"


def count(number: int, noun: str) -> str:
    """Return a number and what it counts."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
