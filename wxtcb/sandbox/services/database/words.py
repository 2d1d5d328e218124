"""The words of the statement language: names, texts, numbers and marks."""

from __future__ import annotations

import string
from collections.abc import Iterator
from enum import Enum
from typing import Final

from attrs import define, frozen

from wxtcb.sandbox.errors import PlatformError, platform_error

__all__ = ["LexToken", "LexTokenKind", "syntax_error", "tokenize", "unsupported"]

MAX_STATEMENT_LENGTH: Final = 512 * 1024

_WHITESPACE: Final = " \t\r\n"
_PUNCTUATION: Final = "{}[]().,;:=-"
_NAME_START: Final = string.ascii_letters + "_$"
_NAME_CHARACTERS: Final = _NAME_START + string.digits
_ESCAPES: Final = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "v": "\v", "0": "\0"}
_LINE_ENDS: Final = "\r\n"


class LexTokenKind(Enum):
    """What a word is."""

    NAME = "name"
    STRING = "text"
    NUMBER = "number"
    PUNCTUATION = "mark"
    END = "end"


@frozen
class LexToken:
    """One word and the place where it begins."""

    kind: LexTokenKind
    value: str
    position: int


def syntax_error(reason: str) -> PlatformError:
    """Refuse what is no statement."""
    return platform_error(40097, f"query: {reason}")


def unsupported(feature: str) -> PlatformError:
    """Refuse, by its name, what the platform may know, but this sandbox does not."""
    return platform_error(40097, f"query: {feature} is not simulated")


def tokenize(text: str) -> list[LexToken]:
    """Take a statement apart."""
    if len(text) > MAX_STATEMENT_LENGTH:
        raise syntax_error(f"longer than {MAX_STATEMENT_LENGTH} characters")
    return list(_Tokenizer(text).tokens())


@define
class _Tokenizer:
    _text: str
    _position: int = 0

    def tokens(self) -> Iterator[LexToken]:
        while True:
            self._skip_space()
            start = self._position
            if start >= len(self._text):
                yield LexToken(LexTokenKind.END, "", start)
                return
            kind, value = self._read_token(self._text[start])
            yield LexToken(kind, value, start)

    def _skip_space(self) -> None:
        while self._position < len(self._text) and self._text[self._position] in _WHITESPACE:
            self._position += 1

    def _read_token(self, first: str) -> tuple[LexTokenKind, str]:
        if first in _NAME_START:
            return LexTokenKind.NAME, self._read_while(_NAME_CHARACTERS)
        if first in string.digits:
            return LexTokenKind.NUMBER, self._read_number()
        if first in "\"'":
            return LexTokenKind.STRING, self._read_string(first)
        if first in _PUNCTUATION:
            self._position += 1
            return LexTokenKind.PUNCTUATION, first
        raise unsupported(f"{first!r} at {self._position}")

    def _read_while(self, accepted: str) -> str:
        start = self._position
        while self._position < len(self._text) and self._text[self._position] in accepted:
            self._position += 1
        return self._text[start : self._position]

    def _read_number(self) -> str:
        """Read digits, a fraction and an exponent; what else follows at once is no number."""
        start = self._position
        self._read_while(string.digits)
        if self._text[self._position : self._position + 1] == ".":
            self._position += 1
            self._read_while(string.digits)
        if self._text[self._position : self._position + 1] in ("e", "E"):
            self._position += 2 if self._text[self._position + 1 : self._position + 2] in ("+", "-") else 1
            if not self._read_while(string.digits):
                raise syntax_error(f"a number without its exponent at {start}")
        if self._read_while(_NAME_CHARACTERS):
            raise unsupported(f"the number {self._text[start : self._position]}")
        return self._text[start : self._position]

    def _read_string(self, quote: str) -> str:
        start, parts = self._position, list[str]()
        self._position += 1
        while (here := self._text[self._position : self._position + 1]) != quote:
            if not here or here in _LINE_ENDS:
                raise syntax_error(f"a text without its end at {start}")
            self._position += 1
            parts.append(self._read_escape() if here == "\\" else here)
        self._position += 1
        return _join_surrogates("".join(parts), start)

    def _read_escape(self) -> str:
        mark = self._text[self._position : self._position + 1]
        self._position += 1
        if mark == "u":
            return self._read_code_point(4)
        if mark == "x":
            return self._read_code_point(2)
        if not mark or mark in string.digits[1:] or mark in _LINE_ENDS:
            raise syntax_error(f"a bad escape at {self._position - 2}")
        return _ESCAPES.get(mark, mark)

    def _read_code_point(self, size: int) -> str:
        digits = self._text[self._position : self._position + size]
        if len(digits) != size or not set(digits) <= set(string.hexdigits):
            raise syntax_error(f"a bad escape at {self._position - 2}")
        self._position += size
        return chr(int(digits, 16))


def _join_surrogates(text: str, position: int) -> str:
    """Join the halves of characters that were escaped one by one."""
    try:
        return text.encode("utf-16", "surrogatepass").decode("utf-16")
    except UnicodeDecodeError:
        raise syntax_error(f"half a character in the text at {position}") from None
