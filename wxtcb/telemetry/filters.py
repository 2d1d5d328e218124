"""Filters for tools that record URLs, local variables and bodies by themselves, and the platform's secrets with them.

wxtcb shows no secret, but the platform wants its token in the URL, and a tool that instruments aiohttp reads URLs.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, TypeVar, cast

if TYPE_CHECKING:
    from yarl import URL

E = TypeVar("E")

HIDDEN: Final = "***"
DEEPEST: Final = 32
_NAME: Final = r"(?:tokens?|secret(?:_?key)?|ticket|password|pwd|aes_?key|authorization)"
_IS: Final = r"(?:=|%(?:25)*3D)"
_SECRET_NAME: Final = re.compile(_NAME + "$", re.IGNORECASE)
_VALUE_IN_URL: Final = re.compile(rf"({_NAME}{_IS})[^&#\s]+", re.IGNORECASE)
_VALUE_IN_QUERY: Final = re.compile(rf"((?:\A|[?&])[^?&=#\s\"']*{_NAME}{_IS})[^&#\s\"'<>\\]+", re.IGNORECASE)
_SIGNATURE: Final = re.compile(rf"((?:\A|[?&]|%26)(?:sign|q-signature){_IS})[^&#\s\"'<>\\]+")
_SECRET_VALUE: Final = re.compile(
    rf"""
    ({_NAME} \\* ["']? \s* (?: {_IS} | : ) \s*)
    (?: (["']) (?: \\. | (?!\2) .)*           # in quotes: up to the same quote
    |   (\\+ ["']) .*? (?= \3 | \Z)           # in quotes of a quoted text
    |   (?: (?: bearer | basic ) \s+)? [^\s"'&<>,;)}}\]\\]+ )
    """,
    re.IGNORECASE | re.VERBOSE | re.DOTALL,
)
_TICKET: Final = re.compile(r"ticket@@@[\w-]+")


def url_filter(url: URL) -> str:
    """Return *url* as text without its secrets: ``AioHttpClientInstrumentor().instrument(url_filter=url_filter)``."""
    return _blot(_VALUE_IN_URL.sub(rf"\1{HIDDEN}", str(url.with_user(None))))


def sentry_filter(event: E, _hint: object, /) -> E:
    """Return a Sentry event, transaction, span or breadcrumb without the platform's secrets.

    Give it to ``sentry_sdk.init`` as `before_send`, `before_send_transaction` and `before_breadcrumb`, and where spans
    are streamed as `before_send_span`. Hidden are the values of all names that end in token, tokens, secret,
    secret_key, ticket, password, pwd, aeskey or authorization, as local variables, fields, and in texts where ``=`` or
    ``:`` follows, the signatures of links to object storage, and everything that looks like a ticket.
    """
    return cast("E", _scrub(event, DEEPEST))


def _blot(text: str) -> str:
    text = _SIGNATURE.sub(rf"\1{HIDDEN}", _VALUE_IN_QUERY.sub(rf"\1{HIDDEN}", text))
    return _TICKET.sub(HIDDEN, _SECRET_VALUE.sub(_hide, text))


def _hide(found: re.Match[str]) -> str:
    return f"{found[1]}{found[2] or found[3] or ''}{HIDDEN}"


def _scrub(value: object, depth: int) -> object:
    if depth == 0:
        return HIDDEN
    match value:
        case str():
            return _blot(value)
        case bytes():
            return _blot(value.decode(errors="replace"))
        case dict():
            return {key: _entry(key, each, depth - 1) for key, each in value.items()}
        case list() | tuple():
            return [_scrub(each, depth - 1) for each in value]
        case _:
            return value


def _entry(name: object, value: object, depth: int) -> object:
    if value is not None and isinstance(name, str) and _SECRET_NAME.search(name):
        return HIDDEN
    return _scrub(value, depth)
