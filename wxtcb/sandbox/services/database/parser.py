"""The grammar of the statement language: recursive descent from words to terms; nothing is ever evaluated as code."""

from __future__ import annotations

import math
import string
from collections.abc import Iterator
from enum import Enum
from typing import Final, TypeAlias

from attrs import define, evolve, field, frozen

from wxtcb.sandbox.errors import PlatformError, platform_error

__all__ = [
    "Chain",
    "ChainStep",
    "Expression",
    "LexToken",
    "LexTokenKind",
    "parse",
    "syntax_error",
    "tokenize",
    "unsupported",
]

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


MAX_NESTING: Final = 128
MAX_SAFE_INTEGER: Final = 2**53 - 1

_DECLARATION_KEYWORDS: Final = ("const", "let", "var")
_CONSTANTS: Final = {"true": True, "false": False, "null": None}
_UNSUPPORTED_NAMES: Final = (
    "undefined",
    "NaN",
    "Infinity",
    "function",
    "async",
    "await",
    "this",
    "return",
    "if",
    "for",
    "while",
)


@frozen
class ChainStep:
    """A member of what stands before it; `args` are None where it is not called."""

    name: str
    args: tuple[Expression, ...] | None = None


@frozen
class Chain:
    """A name and the steps that go on from it: ``db.collection("geo").get()``; `is_new` by ``new`` or not."""

    root: str
    steps: tuple[ChainStep, ...] = ()
    is_new: bool = False


Expression: TypeAlias = Chain | dict[str, "Expression"] | list["Expression"] | str | int | float | bool | None


def parse(text: str) -> list[Chain]:
    """Read the statements of a text; declared names stand for what they were declared to be."""
    return _Parser(tokenize(text)).parse_statements()


@define
class _Parser:
    _tokens: list[LexToken]
    _position: int = 0
    _depth: int = 0
    _in_declaration: bool = False
    _declarations: dict[str, Chain] = field(init=False, factory=lambda: {"db": Chain("db"), "_": Chain("_")})

    def parse_statements(self) -> list[Chain]:
        found: list[Chain] = []
        while not self._is_at_end():
            if self._accept(";"):
                continue
            if self._current.kind is LexTokenKind.NAME and self._current.value in _DECLARATION_KEYWORDS:
                self._parse_declaration()
            else:
                found.append(self._parse_statement())
            if not self._is_at_end():
                self._expect(";")
        return found

    @property
    def _current(self) -> LexToken:
        return self._tokens[self._position]

    def _is_at_end(self) -> bool:
        return self._current.kind is LexTokenKind.END

    def _advance(self) -> LexToken:
        word = self._current
        self._position += 1
        return word

    def _accept(self, punctuation: str) -> bool:
        """Take the next word if it is this mark."""
        found = self._current.kind is LexTokenKind.PUNCTUATION and self._current.value == punctuation
        self._position += found
        return found

    def _expect(self, punctuation: str) -> None:
        if not self._accept(punctuation):
            word = self._current
            raise syntax_error(f"{punctuation!r} expected at {word.position}, not {word.value or 'the end'!r}")

    def _parse_name(self) -> str:
        word = self._advance()
        if word.kind is not LexTokenKind.NAME:
            raise syntax_error(f"a name expected at {word.position}")
        return word.value

    def _parse_declaration(self) -> None:
        self._advance()
        name = self._parse_name()
        self._expect("=")
        self._in_declaration = True
        self._declarations[name] = self._parse_statement()
        self._in_declaration = False

    def _parse_statement(self) -> Chain:
        at, term = self._current.position, self._parse_expression()
        if not isinstance(term, Chain):
            raise syntax_error(f"a statement expected at {at}")
        return term

    def _parse_expression(self) -> Expression:
        self._depth += 1
        if self._depth > MAX_NESTING:
            raise syntax_error(f"nested deeper than {MAX_NESTING}")
        term = self._parse_primary()
        self._depth -= 1
        return term

    def _parse_primary(self) -> Expression:
        word = self._advance()
        match word.kind, word.value:
            case LexTokenKind.STRING, text:
                return text
            case LexTokenKind.NUMBER, digits:
                return _parse_number(digits)
            case LexTokenKind.PUNCTUATION, "-" if self._current.kind is LexTokenKind.NUMBER:
                return _parse_number(f"-{self._advance().value}")
            case LexTokenKind.PUNCTUATION, "{":
                return self._parse_object()
            case LexTokenKind.PUNCTUATION, "[":
                return self._parse_list("]")
            case LexTokenKind.NAME, "new":
                return evolve(self._parse_chain(self._parse_name()), is_new=True)
            case LexTokenKind.NAME, name if name in _CONSTANTS:
                return _CONSTANTS[name]
            case LexTokenKind.NAME, name:
                return self._parse_chain(name)
            case _:
                raise syntax_error(f"a value expected at {word.position}, not {word.value or 'the end'!r}")

    def _parse_chain(self, name: str) -> Chain:
        if name in _UNSUPPORTED_NAMES or (name not in self._declarations and name != "Date"):
            raise unsupported(name)
        chain = self._declarations.get(name, Chain(name))
        if self._in_declaration and self._depth > 1 and any(step.args for step in chain.steps):
            raise unsupported(f"{name} within what another name stands for")  # so that nothing doubles on and on
        steps = list(chain.steps)
        while True:
            if self._accept("."):
                steps.append(ChainStep(self._parse_name()))
            elif self._accept("("):
                args = tuple(self._parse_list(")"))
                last = steps.pop() if steps else ChainStep("")
                if last.args is not None:
                    raise unsupported("a call of what a call gave")
                steps.append(evolve(last, args=args))
            else:
                return evolve(chain, steps=tuple(steps))
            if len(steps) > MAX_NESTING:
                raise syntax_error(f"a chain of more than {MAX_NESTING} steps")

    def _parse_list(self, end: str) -> list[Expression]:
        found: list[Expression] = []
        while not self._accept(end):
            found.append(self._parse_expression())
            if not self._accept(","):
                self._expect(end)
                break
        return found

    def _parse_object(self) -> dict[str, Expression]:
        found: dict[str, Expression] = {}
        while not self._accept("}"):
            key = self._parse_key()
            self._expect(":")
            found[key] = self._parse_expression()
            if not self._accept(","):
                self._expect("}")
                break
        return found

    def _parse_key(self) -> str:
        word = self._advance()
        if word.kind in (LexTokenKind.PUNCTUATION, LexTokenKind.END):
            raise syntax_error(f"a key expected at {word.position}, not {word.value or 'the end'!r}")
        if word.value.startswith("$") or word.value == "__proto__":
            raise unsupported(f"the key {word.value}")
        return word.value


def _parse_number(digits: str) -> int | float:
    """Read a number as JavaScript keeps it: a double, here an int where it is whole and exact."""
    value = float(digits)
    if not math.isfinite(value):
        raise syntax_error(f"{digits} is no finite number")
    return int(value) if value.is_integer() and abs(value) <= MAX_SAFE_INTEGER else value
