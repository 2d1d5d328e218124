"""Filters that redact secrets for tools that record URLs, local variables and bodies automatically.

wxtcb itself exposes no secret. But the platform requires the token in the URL, and tools that instrument aiohttp record
URLs.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, TypeVar, cast

if TYPE_CHECKING:
    from yarl import URL

E = TypeVar("E")

REDACTED: Final = "***"
# Deeper values are replaced as a whole: a structure that contains itself would otherwise be followed without end.
MAX_DEPTH: Final = 32
_NAME_SUFFIX: Final = r"(?:tokens?|secret(?:_?key)?|ticket|password|pwd|aes_?key|authorization)"
# "=" may be percent-encoded, also several times, where a URL is a parameter of another one.
_EQUALS_SIGN: Final = r"(?:=|%(?:25)*3D)"
_SECRET_NAME_PATTERN: Final = re.compile(_NAME_SUFFIX + "$", re.IGNORECASE)
_URL_SECRET_PATTERN: Final = re.compile(rf"({_NAME_SUFFIX}{_EQUALS_SIGN})[^&#\s]+", re.IGNORECASE)
_QUERY_SECRET_PATTERN: Final = re.compile(
    rf"((?:\A|[?&])[^?&=#\s\"']*{_NAME_SUFFIX}{_EQUALS_SIGN})[^&#\s\"'<>\\]+", re.IGNORECASE
)
# Signatures in links to object storage (COS): `sign` and `q-signature`.
_SIGNATURE_PATTERN: Final = re.compile(rf"((?:\A|[?&]|%26)(?:sign|q-signature){_EQUALS_SIGN})[^&#\s\"'<>\\]+")
_SECRET_VALUE_PATTERN: Final = re.compile(
    rf"""
    ({_NAME_SUFFIX} \\* ["']? \s* (?: {_EQUALS_SIGN} | : ) \s*)
    (?: (["']) (?: \\. | (?!\2) .)*           # quoted: up to the same quote
    |   (\\+ ["']) .*? (?= \3 | \Z)           # escaped quotes, inside a quoted string
    |   (?: (?: bearer | basic ) \s+)? [^\s"'&<>,;)}}\]\\]+ )
    """,
    re.IGNORECASE | re.VERBOSE | re.DOTALL,
)
_TICKET_PATTERN: Final = re.compile(r"ticket@@@[\w-]+")


def url_filter(url: URL) -> str:
    """Return *url* as a string with its secrets redacted.

    For OpenTelemetry: ``AioHttpClientInstrumentor().instrument(url_filter=url_filter)``.
    """
    return _redact(_URL_SECRET_PATTERN.sub(rf"\1{REDACTED}", str(url.with_user(None))))


def sentry_filter(event: E, _hint: object, /) -> E:
    """Return a Sentry event, transaction, span or breadcrumb with the platform's secrets redacted.

    Pass it to ``sentry_sdk.init`` as `before_send`, `before_send_transaction` and `before_breadcrumb`. If spans are
    streamed, pass it as `before_send_span`, too. Redacted are:

    - values of names that end in token, tokens, secret, secret_key, ticket, password, pwd, aes_key or authorization:
      local variables, fields, and in strings the value after ``name=`` or ``name:``;
    - signatures in links to object storage;
    - everything that looks like a component_verify_ticket.
    """
    return cast("E", _redact_value(event, MAX_DEPTH))


def _redact(text: str) -> str:
    text = _SIGNATURE_PATTERN.sub(rf"\1{REDACTED}", _QUERY_SECRET_PATTERN.sub(rf"\1{REDACTED}", text))
    return _TICKET_PATTERN.sub(REDACTED, _SECRET_VALUE_PATTERN.sub(_redact_match, text))


def _redact_match(match: re.Match[str]) -> str:
    return f"{match[1]}{match[2] or match[3] or ''}{REDACTED}"


def _redact_value(value: object, depth: int) -> object:
    if depth == 0:
        return REDACTED
    match value:
        case str():
            return _redact(value)
        case bytes():
            return _redact(value.decode(errors="replace"))
        case dict():
            return {key: _redact_entry(key, each, depth - 1) for key, each in value.items()}
        case list() | tuple():
            return [_redact_value(each, depth - 1) for each in value]
        case _:
            return value


def _redact_entry(name: object, value: object, depth: int) -> object:
    if value is not None and isinstance(name, str) and _SECRET_NAME_PATTERN.search(name):
        return REDACTED
    return _redact_value(value, depth)
