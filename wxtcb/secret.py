"""Secrets: a string that is never shown, and the redaction of texts that may contain one."""

from __future__ import annotations

import hmac
import json
from typing import Final, Self
from urllib.parse import unquote

__all__ = ["Secret"]

_HTML_ESCAPES: Final = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#x27;"})

# The first characters of a secret may be shown if there are fewer than these: they do not help to guess the rest.
_MIN_PREFIX_LENGTH: Final = 8


class Secret:
    """A token, ticket, password or app secret whose repr, str and format are always ``***``.

    Only `reveal` returns the value. Two secrets are equal if their values are; the comparison takes constant time. A
    secret can be copied, but not pickled.
    """

    # Not an attrs class: `attrs.asdict`, cattrs and rich would show its field.
    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    @classmethod
    def of(cls, value: str | Self) -> Self:
        """Return *value* as a `Secret`; a `Secret` is returned unchanged."""
        return value if isinstance(value, cls) else cls(str(value))

    def reveal(self) -> str:
        """Return the value; do not store it in a local variable, message or log."""
        return self._value

    def __bool__(self) -> bool:
        return bool(self._value)

    def __repr__(self) -> str:
        return "***"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        # `compare_digest` accepts strings in ASCII only, but bytes of any kind.
        return hmac.compare_digest(self._value.encode(), other._value.encode())

    def __hash__(self) -> int:
        return hash(self._value)

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, _: object) -> Self:
        return self

    def __reduce__(self) -> str:
        raise TypeError("a Secret cannot be pickled: the pickle would contain its value in clear text")


def redact(text: str, *secrets: Secret) -> str:
    """Return *text* with every occurrence of the values of *secrets* replaced by ``***``.

    The values are found in plain, JSON-escaped and HTML-escaped form. If one occurs percent-encoded, in whole or in
    part, the whole text is returned decoded.
    """
    forms = {form for secret in secrets if secret for form in _encoded_forms(secret.reveal())}
    # The longest first: a secret may contain another one, and must not remain in part.
    longest_first = sorted(forms, key=len, reverse=True)
    for form in longest_first:
        text = text.replace(form, "***")
    # Any character of a value may be percent-encoded or not, so the encoded forms cannot be listed.
    for form in longest_first:
        if form in unquote(text):
            text = unquote(text).replace(form, "***")
    return text


def redact_truncated(text: str, *secrets: Secret) -> str:
    """Return *text* redacted as by `redact`, also if it ends in the middle of one of *secrets*."""
    text = redact(text, *secrets)
    for form in {form for secret in secrets for form in _encoded_forms(secret.reveal())}:
        for decoded in (text, unquote(text)):
            lengths = range(len(form) - 1, _MIN_PREFIX_LENGTH - 1, -1)
            if length := next((length for length in lengths if decoded.endswith(form[:length])), 0):
                text = f"{decoded[:-length]}***"
    return text


def _encoded_forms(value: str) -> set[str]:
    """Return *value* as it may be written in JSON (with and without non-ASCII escapes) and in HTML, and plain."""
    forms = {value, *(json.dumps(value, ensure_ascii=ascii_only)[1:-1] for ascii_only in (True, False))}
    # PHP and some Java libraries escape the slash in JSON.
    forms |= {form.replace("/", "\\/") for form in forms}
    return forms | {form.translate(_HTML_ESCAPES) for form in forms}
