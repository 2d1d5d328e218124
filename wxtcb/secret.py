"""Secrets: a string that is never shown, and the cleaning of texts that may contain one."""

from __future__ import annotations

import hmac
import json
import re
import weakref
from collections.abc import Iterable
from typing import Any, Final, Self
from urllib.parse import unquote

__all__ = ["Secret"]

_HTML_ESCAPES: Final = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#x27;"})

_UNRESERVED: Final = re.compile(r"[\w.~-]*", re.ASCII)

# A part of a secret is redacted from this length on. A shorter part may occur by chance, and helps little to guess.
PART_LENGTH: Final = 12
# At the end of a truncated text, a shorter beginning of a secret is no coincidence either.
_MIN_PREFIX_LENGTH: Final = 8
# An index of all parts takes 100 times the memory of the secrets. It is built only for a longer text, or after several.
_TEXTS_WITHOUT_INDEX: Final = 3
_LENGTH_WITHOUT_INDEX: Final = 2048

# Every `Secret` that exists, for `live_secrets`. Keyed by identity, because two equal secrets are two entries.
# `Any`, because `Self` in the constructor is not `Secret` for a type checker, and the type is invariant.
_live: Final[dict[int, weakref.ref[Any]]] = {}


def _forget(reference: weakref.ref[Any]) -> None:
    _live.pop(id(reference), None)


class Secret:
    """A token, ticket, password or app secret whose repr, str and format are always ``***``.

    Only `reveal` returns the value. Two secrets are equal if their values are; the comparison takes constant time. A
    secret can be copied, but not pickled.
    """

    # Not an attrs class: `attrs.asdict`, cattrs and rich would show its field.
    __slots__ = ("__weakref__", "_value")

    def __init__(self, value: str) -> None:
        self._value = value
        reference = weakref.ref(self, _forget)
        _live[id(reference)] = reference

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
        # `compare_digest` accepts strings in ASCII only, but bytes of any kind. An environment variable that is not
        # UTF-8 contains lone surrogates, and the error of a plain `encode` would quote the value.
        return hmac.compare_digest(
            self._value.encode("utf-8", "surrogatepass"), other._value.encode("utf-8", "surrogatepass")
        )

    def __hash__(self) -> int:
        return hash(self._value)

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, _: object) -> Self:
        return self

    def __reduce__(self) -> str:
        raise TypeError("a Secret cannot be pickled: the pickle would contain its value in clear text")


def live_secrets() -> tuple[weakref.ref[Secret], ...]:
    """Return a reference to every `Secret` of this process that is still in use."""
    # `copy` is atomic; an iteration could meet a secret that another thread creates or drops.
    return tuple(_live.copy().values())


class Redactor:
    """Function that replaces *secrets* in a text by ``***``: whole values, and parts of at least `PART_LENGTH`.

    The values are found in plain, JSON-escaped and HTML-escaped form. If one occurs percent-encoded, in whole or in
    part, the whole text is returned decoded. The time is linear in the length of the text.
    """

    __slots__ = ("_anchors", "_forms", "_stride", "_texts_without_index")

    def __init__(self, secrets: Iterable[Secret], *, stride: int = 1) -> None:
        """Prepare the search. With *stride* n, only every n-th part of a secret is indexed, which saves memory.

        A part is then found if it is the beginning of the secret, or has at least `PART_LENGTH` + n - 1 characters.
        """
        forms = {form for secret in secrets if secret for form in _encoded_forms(secret.reveal())}
        # The longest first: a secret may contain another one, and must not remain in part.
        self._forms = sorted(forms, key=len, reverse=True)
        self._stride = stride
        self._texts_without_index = _TEXTS_WITHOUT_INDEX if stride == 1 else 0
        self._anchors: dict[str, tuple[str, int]] | None = None

    def __call__(self, text: str) -> str:
        redacted = self._redact(text)
        # Any character of a value may be percent-encoded or not, so the encoded forms cannot be listed.
        if "%" in redacted:
            decoded = unquote(redacted)
            if (redacted_again := self._redact(decoded)) != decoded:
                return redacted_again
        return redacted

    def redact_truncated(self, text: str) -> str:
        """Return *text* redacted, also if it ends after at least 8 characters of a secret."""
        text = self(text)
        for candidate in (text, unquote(text)) if "%" in text else (text,):
            for form in self._forms:
                lengths = range(min(len(form), PART_LENGTH) - 1, _MIN_PREFIX_LENGTH - 1, -1)
                if length := next((length for length in lengths if candidate.endswith(form[:length])), 0):
                    return f"{candidate[:-length]}***"
        return text

    def _redact(self, text: str) -> str:
        for form in self._forms:
            if form in text:
                text = text.replace(form, "***")
        if len(text) < PART_LENGTH:
            return text
        anchors = self._find_anchors(text) if self._anchors is None else self._anchors
        return self._redact_parts(text, anchors) if anchors else text

    def _find_anchors(self, text: str) -> dict[str, tuple[str, int]]:
        """Return the parts of the secrets, or at least those that occur in *text*."""
        if self._texts_without_index and len(text) <= _LENGTH_WITHOUT_INDEX:
            self._texts_without_index -= 1
            in_text = {text[start : start + PART_LENGTH] for start in range(len(text) - PART_LENGTH + 1)}
            return {
                part: (form, start)
                for form in self._forms
                for start in range(len(form) - PART_LENGTH + 1)
                if (part := form[start : start + PART_LENGTH]) in in_text
            }
        # Not earlier, because most texts are as short as "ok".
        self._anchors = {
            form[start : start + PART_LENGTH]: (form, start)
            for form in self._forms
            for start in range(0, len(form) - PART_LENGTH + 1, self._stride)
        }
        return self._anchors

    def _redact_parts(self, text: str, anchors: dict[str, tuple[str, int]]) -> str:
        pieces, kept_from, position = list[str](), 0, 0
        last = len(text) - PART_LENGTH
        while position <= last:
            found = anchors.get(text[position : position + PART_LENGTH])
            if found is None:
                position += 1
                continue
            start, end = self._extend(text, position, kept_from, *found)
            if pieces and start <= kept_from:
                # It overlaps or touches the part before, which has its stars already.
                kept_from = max(kept_from, end)
            else:
                pieces += (text[kept_from:start], "***")
                kept_from = end
            # Without gaps in the index, the next position is tried, so that the union of all parts is covered.
            position = position + 1 if self._stride == 1 else end
        return "".join((*pieces, text[kept_from:])) if pieces else text

    def _extend(self, text: str, position: int, kept_from: int, form: str, start: int) -> tuple[int, int]:
        """Return where the part of *form* at *position* begins and ends, which *start* is the index of in *form*."""
        end = position + PART_LENGTH
        if self._stride > 1:
            shift = start - position
            while end < len(text) and end + shift < len(form) and text[end] == form[end + shift]:
                end += 1
            while position > kept_from and position + shift > 0 and text[position - 1] == form[position + shift - 1]:
                position -= 1
        return position, end


def redact(text: str, *secrets: Secret) -> str:
    """Return *text* with every occurrence of *secrets*, and of their longer parts, replaced as by `Redactor`."""
    return Redactor(secrets)(text)


def redact_truncated(text: str, *secrets: Secret) -> str:
    """Return *text* redacted as by `redact`, also if it ends in the middle of one of *secrets*."""
    return Redactor(secrets).redact_truncated(text)


def escape_unprintable(text: str) -> str:
    r"""Return *text* on one line, with control and bidirectional characters escaped as in ``\x1b``."""
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


def _encoded_forms(value: str) -> set[str]:
    """Return *value* as it may be written in JSON (with and without non-ASCII escapes) and in HTML, and plain."""
    # The usual case, a token: no encoding changes these characters.
    if _UNRESERVED.fullmatch(value):
        return {value}
    forms = {value, *(json.dumps(value, ensure_ascii=ascii_only)[1:-1] for ascii_only in (True, False))}
    # PHP and some Java libraries escape the slash in JSON.
    forms |= {form.replace("/", "\\/") for form in forms}
    return forms | {form.translate(_HTML_ESCAPES) for form in forms}
