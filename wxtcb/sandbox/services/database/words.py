"""The words of the statement language: names, texts, numbers and marks."""

from __future__ import annotations

import string
from collections.abc import Iterator
from enum import Enum
from typing import Final

from attrs import define, frozen

from wxtcb.sandbox.errors import Refused, refuse

__all__ = ["Kind", "Word", "malformed", "not_simulated", "words_of"]

LONGEST: Final = 512 * 1024

_SPACE: Final = " \t\r\n"
_MARKS: Final = "{}[]().,;:=-"
_FIRST: Final = string.ascii_letters + "_$"
_LATER: Final = _FIRST + string.digits
_ESCAPES: Final = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "v": "\v", "0": "\0"}
_LINE_ENDS: Final = "\r\n"


class Kind(Enum):
    """What a word is."""

    NAME = "name"
    TEXT = "text"
    NUMBER = "number"
    MARK = "mark"
    END = "end"


@frozen
class Word:
    """One word and the place where it begins."""

    kind: Kind
    value: str
    at: int


def malformed(reason: str) -> Refused:
    """Refuse what is no statement."""
    return refuse(40097, f"query: {reason}")


def not_simulated(what: str) -> Refused:
    """Refuse, by its name, what the platform may know, but this sandbox does not."""
    return refuse(40097, f"query: {what} is not simulated")


def words_of(text: str) -> list[Word]:
    """Take a statement apart."""
    if len(text) > LONGEST:
        raise malformed(f"longer than {LONGEST} characters")
    return list(_Reader(text).words())


@define
class _Reader:
    _text: str
    _at: int = 0

    def words(self) -> Iterator[Word]:
        while True:
            self._skip_space()
            start = self._at
            if start >= len(self._text):
                yield Word(Kind.END, "", start)
                return
            kind, value = self._word(self._text[start])
            yield Word(kind, value, start)

    def _skip_space(self) -> None:
        while self._at < len(self._text) and self._text[self._at] in _SPACE:
            self._at += 1

    def _word(self, first: str) -> tuple[Kind, str]:
        if first in _FIRST:
            return Kind.NAME, self._run(_LATER)
        if first in string.digits:
            return Kind.NUMBER, self._number()
        if first in "\"'":
            return Kind.TEXT, self._quoted(first)
        if first in _MARKS:
            self._at += 1
            return Kind.MARK, first
        raise not_simulated(f"{first!r} at {self._at}")

    def _run(self, accepted: str) -> str:
        start = self._at
        while self._at < len(self._text) and self._text[self._at] in accepted:
            self._at += 1
        return self._text[start : self._at]

    def _number(self) -> str:
        """Read digits, a fraction and an exponent; what else follows at once is no number."""
        start = self._at
        self._run(string.digits)
        if self._text[self._at : self._at + 1] == ".":
            self._at += 1
            self._run(string.digits)
        if self._text[self._at : self._at + 1] in ("e", "E"):
            self._at += 2 if self._text[self._at + 1 : self._at + 2] in ("+", "-") else 1
            if not self._run(string.digits):
                raise malformed(f"a number without its exponent at {start}")
        if self._run(_LATER):
            raise not_simulated(f"the number {self._text[start : self._at]}")
        return self._text[start : self._at]

    def _quoted(self, quote: str) -> str:
        start, parts = self._at, list[str]()
        self._at += 1
        while (here := self._text[self._at : self._at + 1]) != quote:
            if not here or here in _LINE_ENDS:
                raise malformed(f"a text without its end at {start}")
            self._at += 1
            parts.append(self._escaped() if here == "\\" else here)
        self._at += 1
        return _joined("".join(parts), start)

    def _escaped(self) -> str:
        mark = self._text[self._at : self._at + 1]
        self._at += 1
        if mark == "u":
            return self._code(4)
        if mark == "x":
            return self._code(2)
        if not mark or mark in string.digits[1:] or mark in _LINE_ENDS:
            raise malformed(f"a bad escape at {self._at - 2}")
        return _ESCAPES.get(mark, mark)

    def _code(self, size: int) -> str:
        digits = self._text[self._at : self._at + size]
        if len(digits) != size or not set(digits) <= set(string.hexdigits):
            raise malformed(f"a bad escape at {self._at - 2}")
        self._at += size
        return chr(int(digits, 16))


def _joined(text: str, at: int) -> str:
    """Join the halves of characters that were escaped one by one."""
    try:
        return text.encode("utf-16", "surrogatepass").decode("utf-16")
    except UnicodeDecodeError:
        raise malformed(f"half a character in the text at {at}") from None
