"""The URLs of object storage: signed by others, so sent as they are, byte for byte."""

from __future__ import annotations

import string
from typing import Final
from urllib.parse import parse_qsl, quote, urlsplit

from yarl import URL

from wxtcb.secret import Secret
from wxtcb.validation import is_loopback

_UNQUOTED: Final = string.punctuation
_MIN_SECRET_LENGTH: Final = 8


def is_url_allowed(url: Secret, *, allow_http: bool) -> bool:
    """Tell whether bytes and their signature may go there: https, or http to this machine or where it is allowed."""
    try:
        parts = urlsplit(_quote_invalid(url))
        usable = parts.port != 0
    except ValueError:
        return False
    if not usable or not parts.hostname or parts.username is not None or parts.scheme not in ("http", "https"):
        return False
    return parts.scheme == "https" or allow_http or is_loopback(_quote_invalid(url))


def raw_url(url: Secret) -> URL:
    """Return *url* for aiohttp, which is to encode nothing of it a second time."""
    return URL(_quote_invalid(url), encoded=True)


def secrets_in_url(url: Secret) -> tuple[Secret, ...]:
    """Return what nobody is to be shown of *url*: the whole, its query, and the signatures in it, in clear."""
    query = urlsplit(_quote_invalid(url)).query
    values = (value for _, value in parse_qsl(query) if len(value) >= _MIN_SECRET_LENGTH)
    return (url, *map(Secret, (query, *values) if query else ()))


def _quote_invalid(url: Secret) -> str:
    """Quote what cannot stand in a request line at all: spaces, control characters, and what is not ASCII."""
    return quote(url.reveal(), safe=_UNQUOTED)
