"""A value that is passed around but never shown."""

from __future__ import annotations

import hmac
import json
from typing import Final, Self
from urllib.parse import unquote

_HTML_ESCAPES: Final = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#x27;"})

_MIN_PREFIX_LENGTH: Final = 8  # the beginning of a secret that is shorter tells nothing


class Secret:
    """A token, ticket, password or app secret; its repr, str and format are always ``***``.

    Two secrets are equal if their values are, compared in constant time. `reveal` is the only way to the value: it is
    no attrs class, because `attrs.asdict`, cattrs and rich show the fields of those.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    @classmethod
    def of(cls, value: str | Self) -> Self:
        """Wrap *value*, or give it back if it is a `Secret` already."""
        return value if isinstance(value, cls) else cls(str(value))

    def reveal(self) -> str:
        """Return the value itself: keep it out of locals, messages and logs."""
        return self._value

    def __bool__(self) -> bool:
        return bool(self._value)

    def __repr__(self) -> str:
        return "***"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self._value.encode(), other._value.encode())

    def __hash__(self) -> int:
        return hash(self._value)

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, _: object) -> Self:
        return self

    def __reduce__(self) -> str:
        raise TypeError("a Secret cannot be pickled: it would leave the process in clear")


def redact(text: str, *secrets: Secret) -> str:
    """Return *text* with every occurrence of the values of *secrets* replaced by ``***``.

    They are found as they are, and as JSON and HTML write them. Where one occurs URL-quoted, in whole or in part, the
    whole text is unquoted.
    """
    found = {shape for secret in secrets if secret for shape in _encoded_forms(secret.reveal())}
    shapes = sorted(found, key=len, reverse=True)
    for shape in shapes:
        text = text.replace(shape, "***")
    for shape in shapes:
        if shape in unquote(text):
            text = unquote(text).replace(shape, "***")
    return text


def redact_truncated(text: str, *secrets: Secret) -> str:
    """Return *text* as `redact` does, also where it ends in the middle of one of *secrets*."""
    text = redact(text, *secrets)
    for shape in {shape for secret in secrets for shape in _encoded_forms(secret.reveal())}:
        for plain in (text, unquote(text)):
            begun = next(
                (size for size in range(len(shape) - 1, _MIN_PREFIX_LENGTH - 1, -1) if plain.endswith(shape[:size])), 0
            )
            text = f"{plain[:-begun]}***" if begun else text
    return text


def _encoded_forms(value: str) -> set[str]:
    """Return how *value* may be written: in JSON with and without escapes beyond ASCII, and each of them in HTML."""
    written = {value, *(json.dumps(value, ensure_ascii=ascii_only)[1:-1] for ascii_only in (True, False))}
    written |= {each.replace("/", "\\/") for each in written}
    return written | {each.translate(_HTML_ESCAPES) for each in written}
