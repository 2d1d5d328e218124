"""URLs of object storage: signed by the platform, and therefore sent unchanged."""

from __future__ import annotations

import string
from typing import Final
from urllib.parse import parse_qsl, quote, urlsplit

from yarl import URL

from wxtcb.secret import Secret

# All ASCII punctuation, "%" included: a quoted URL must not be quoted a second time.
_UNQUOTED: Final = string.punctuation
# A shorter value of a parameter, such as a version number, could occur anywhere in a message.
_MIN_SECRET_LENGTH: Final = 8


def raw_url(url: Secret) -> URL:
    """Return *url* as a yarl URL that aiohttp does not encode again; a second encoding would break the signature."""
    return URL(quote_invalid(url), encoded=True)


def secrets_in_url(url: Secret) -> tuple[Secret, ...]:
    """Return the secrets in *url*: the URL, its query, and the decoded values in the query."""
    query = urlsplit(quote_invalid(url)).query
    values = (value for _, value in parse_qsl(query) if len(value) >= _MIN_SECRET_LENGTH)
    return (url, *map(Secret, (query, *values) if query else ()))


def quote_invalid(url: Secret) -> str:
    """Return *url* with the characters quoted that a request line cannot contain: spaces, controls and non-ASCII."""
    return quote(url.reveal(), safe=_UNQUOTED)
