"""URLs of object storage: signed by the platform, and therefore sent unchanged."""

from __future__ import annotations

import string
from typing import Final
from urllib.parse import parse_qsl, quote, urlsplit

from yarl import URL

from wxtcb.secret import Secret
from wxtcb.validation import is_loopback

# All ASCII punctuation, "%" included: a quoted URL must not be quoted a second time.
_UNQUOTED: Final = string.punctuation
# A shorter value of a parameter, such as a version number, could occur anywhere in a message.
_MIN_SECRET_LENGTH: Final = 8


def is_url_allowed(url: Secret, *, allow_http: bool) -> bool:
    """Return whether *url* is valid and safe to send a file to: https, or http to loopback or with *allow_http*."""
    try:
        parts = urlsplit(_quote_invalid(url))
        usable = parts.port != 0
    # `urlsplit` raises for an invalid IPv6 host, `port` for a port that is not a number in the valid range.
    except ValueError:
        return False
    if not usable or not parts.hostname or parts.username is not None or parts.scheme not in ("http", "https"):
        return False
    return parts.scheme == "https" or allow_http or is_loopback(_quote_invalid(url))


def raw_url(url: Secret) -> URL:
    """Return *url* as a yarl URL that aiohttp does not encode again; a second encoding would break the signature."""
    return URL(_quote_invalid(url), encoded=True)


def secrets_in_url(url: Secret) -> tuple[Secret, ...]:
    """Return the secrets in *url*: the URL, its query, and the decoded values in the query."""
    query = urlsplit(_quote_invalid(url)).query
    values = (value for _, value in parse_qsl(query) if len(value) >= _MIN_SECRET_LENGTH)
    return (url, *map(Secret, (query, *values) if query else ()))


def _quote_invalid(url: Secret) -> str:
    """Return *url* with the characters quoted that a request line cannot contain: spaces, controls and non-ASCII."""
    return quote(url.reveal(), safe=_UNQUOTED)
