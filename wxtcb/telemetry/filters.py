"""Filters that redact secrets for tools that record URLs, local variables and bodies automatically.

wxtcb itself exposes no secret. But the platform requires the token in the URL, and tools that instrument aiohttp record
URLs.
"""

from __future__ import annotations

import re
import weakref
from typing import TYPE_CHECKING, Final, TypeVar, cast

import attrs

from wxtcb.secret import PART_LENGTH, Redactor, Secret, live_secrets

if TYPE_CHECKING:
    from yarl import URL

E = TypeVar("E")

REDACTED: Final = "***"
# Deeper values are replaced as a whole: a structure that contains itself would otherwise be followed without end.
MAX_DEPTH: Final = 32
# Between the parts of a secret that are indexed: a part of 23 characters is found anywhere, a beginning from 12 on.
_STRIDE: Final = 12
_NAME_SUFFIX: Final = (
    r"(?:tokens?|secret(?:_?key)?|ticket|password|passwd|pwd|aes_?key|authorization|credentials?|cookie)"
)
# Names that are also common words: in prose, "error code: 5" and "token store: closed" must remain readable.
_COMMON_SUFFIX: Final = r"(?:key|code|store|variables)"
# "=" may be percent-encoded, also several times, where a URL is a parameter of another one.
_EQUALS_SIGN: Final = r"(?:=|%(?:25)*3D)"
_SECRET_NAME_PATTERN: Final = re.compile(_NAME_SUFFIX + "$", re.IGNORECASE)
_COMMON_NAME_PATTERN: Final = re.compile(_COMMON_SUFFIX + "$", re.IGNORECASE)
_URL_SECRET_PATTERN: Final = re.compile(rf"({_NAME_SUFFIX}{_EQUALS_SIGN})[^&#\s]+", re.IGNORECASE)
_QUERY_SECRET_PATTERN: Final = re.compile(
    rf"((?:\A|[?&])[^?&=#\s\"']*{_NAME_SUFFIX}{_EQUALS_SIGN})[^&#\s\"'<>\\]+", re.IGNORECASE
)
# Signatures in links to object storage (COS): `sign` and `q-signature`.
_SIGNATURE_PATTERN: Final = re.compile(rf"((?:\A|[?&]|%26)(?:sign|q-signature){_EQUALS_SIGN})[^&#\s\"'<>\\]+")
_VALUE: Final = r"""
    (?: (["']) (?: \\. | (?!\2) .)*           # quoted: up to the same quote
    # Escaped quotes, inside a quoted string. Compared only where backslashes begin, so that the time is linear.
    |   (\\+ ["']) .*? (?= (?<! \\) \3 | \Z)
    |   (?: (?: bearer | basic ) \s+)? [^\s"'&<>,;)}\]\\]+ )
"""
_SECRET_VALUE_PATTERN: Final = re.compile(
    rf"""({_NAME_SUFFIX} \\* ["']? \s* (?: {_EQUALS_SIGN} | : ) \s*) {_VALUE}""",
    re.IGNORECASE | re.VERBOSE | re.DOTALL,
)
# The same for the common names, behind "=" or as the quoted key of an object. Numbers stay: no secret is one, and an
# errcode is needed.
_COMMON_VALUE_PATTERN: Final = re.compile(
    rf"""({_COMMON_SUFFIX} (?: \\* ["'] \s* : | \s* {_EQUALS_SIGN}) \s*) (?! -? \d+ (?: [^\w] | \Z)) {_VALUE}""",
    re.IGNORECASE | re.VERBOSE | re.DOTALL,
)
# scheme://user:password@host
_URL_PASSWORD_PATTERN: Final = re.compile(r"(://[^\s/:@?#\"'<>]*:)[^\s/?#\"'<>]+(?=@)")
# <AuthorizationCode><![CDATA[...]]></AuthorizationCode> of a push. The match includes all that is read up to the end of
# CDATA, so that it is not read again from the next element: the time is linear.
_XML_PATTERN: Final = re.compile(
    rf"(<[\w:-]*(?:{_NAME_SUFFIX}|{_COMMON_SUFFIX})>\s*+)[^<]*+(?:<!\[CDATA\[.*?(?:\]\]>[^<]*+|\Z)|(?=</))",
    re.IGNORECASE | re.DOTALL,
)
_TICKET_PATTERN: Final = re.compile(r"ticket@@@[\w-]+")


def url_filter(url: URL) -> str:
    """Return *url* as a string with its secrets redacted.

    For OpenTelemetry: ``AioHttpClientInstrumentor().instrument(url_filter=url_filter)``.
    """
    return _redact(_URL_SECRET_PATTERN.sub(rf"\1{REDACTED}", str(url.with_user(None))), _live_redactor.get())


def sentry_filter(event: E, _hint: object, /) -> E:
    """Return a Sentry event, transaction, span or breadcrumb with the platform's secrets redacted.

    Pass it to ``sentry_sdk.init`` as `before_send`, `before_send_transaction` and `before_breadcrumb`. If spans are
    streamed, pass it as `before_send_span`, too. Redacted are:

    - the value of every `Secret` of this process of at least 12 characters, under any name, and its longer parts;
    - values of names that end in token, tokens, secret, secret_key, ticket, password, passwd, pwd, aes_key,
      authorization, credential, credentials or cookie: local variables, fields, elements of XML, and in strings the
      value after ``name=`` or ``name:``;
    - values of names that end in key, code, store or variables, except numbers; in strings after ``name=`` and
      ``"name":``;
    - the password in ``scheme://user:password@host``, and signatures in links to object storage;
    - everything that looks like a component_verify_ticket.
    """
    return cast("E", _redact_value(event, _live_redactor.get(), MAX_DEPTH))


@attrs.define(eq=False)
class _LiveRedactor:
    """Redactor of the secrets that are in use; built again only after the set of secrets has changed."""

    references: tuple[weakref.ref[Secret], ...] = ()
    redactor: Redactor = attrs.field(factory=lambda: Redactor(()))

    def get(self) -> Redactor:
        references = live_secrets()
        # By identity, which is unique as long as the references are kept here. `==` would compare the values.
        if [*map(id, references)] != [*map(id, self.references)]:
            secrets = (secret for reference in references if (secret := reference()) is not None)
            long_secrets = (secret for secret in secrets if len(secret.reveal()) >= PART_LENGTH)
            self.references, self.redactor = references, Redactor(long_secrets, stride=_STRIDE)
        return self.redactor


_live_redactor: Final = _LiveRedactor()


def _redact(text: str, live_redactor: Redactor) -> str:
    text = live_redactor(text)
    text = _URL_PASSWORD_PATTERN.sub(rf"\1{REDACTED}", text)
    text = _XML_PATTERN.sub(rf"\1{REDACTED}", text)
    text = _COMMON_VALUE_PATTERN.sub(_redact_match, text)
    text = _SIGNATURE_PATTERN.sub(rf"\1{REDACTED}", _QUERY_SECRET_PATTERN.sub(rf"\1{REDACTED}", text))
    return _TICKET_PATTERN.sub(REDACTED, _SECRET_VALUE_PATTERN.sub(_redact_match, text))


def _redact_match(match: re.Match[str]) -> str:
    return f"{match[1]}{match[2] or match[3] or ''}{REDACTED}"


def _redact_value(value: object, live_redactor: Redactor, depth: int) -> object:
    if depth == 0:
        return REDACTED
    match value:
        case str():
            return _redact(value, live_redactor)
        case bytes() | bytearray() | memoryview():
            return _redact(bytes(value).decode(errors="replace"), live_redactor)
        case dict():
            return dict(_redact_entry(key, each, live_redactor, depth - 1) for key, each in value.items())
        case list() | tuple() | set() | frozenset():
            return [_redact_value(each, live_redactor, depth - 1) for each in value]
        case _:
            return value


def _redact_entry(name: object, value: object, live_redactor: Redactor, depth: int) -> tuple[object, object]:
    if not isinstance(name, str | bytes):
        return name, _redact_value(value, live_redactor, depth)
    text = name.decode(errors="replace") if isinstance(name, bytes) else name
    # A number behind a common name is no secret, and an errcode is needed.
    is_common = _COMMON_NAME_PATTERN.search(text) and not isinstance(value, int | float)
    if value is not None and (is_common or _SECRET_NAME_PATTERN.search(text)):
        return _redact(text, live_redactor), REDACTED
    return _redact(text, live_redactor), _redact_value(value, live_redactor, depth)
