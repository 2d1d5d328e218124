"""Parser of the statement language: tokens to expressions by recursive descent. Nothing is ever evaluated as code."""

from __future__ import annotations

import math
import string
from collections.abc import Iterator
from enum import Enum
from typing import Final, TypeAlias

from attrs import define, evolve, field, frozen

from wxtcb.sandbox.errors import PlatformError, platform_error

MAX_STATEMENT_LENGTH: Final = 512 * 1024

_NAME_START: Final = string.ascii_letters + "_$"
_NAME_CHARACTERS: Final = _NAME_START + string.digits
_ESCAPES: Final = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "v": "\v", "0": "\0"}
_LINE_ENDS: Final = "\r\n"
# The parser is recursive: without a limit a short text could exhaust Python's stack.
MAX_NESTING: Final = 128
MAX_SAFE_INTEGER: Final = 2**53 - 1

_CONSTANTS: Final = {"true": True, "false": False, "null": None}
_UNSUPPORTED_NAMES: Final = frozenset(
    ["undefined", "NaN", "Infinity", "function", "async", "await", "this", "return", "if", "for", "while"]
)


class LexTokenKind(Enum):
    """Kind of a token."""

    NAME, STRING, NUMBER, PUNCTUATION, END = "name", "text", "number", "mark", "end"


@frozen
class LexToken:
    """A token and the position where it begins."""

    kind: LexTokenKind
    value: str
    position: int


def syntax_error(reason: str) -> PlatformError:
    """Return the error for text that is not a statement."""
    return platform_error(40097, f"query: {reason}")


def unsupported(feature: str) -> PlatformError:
    """Return the error for a feature that the platform may support but this sandbox does not."""
    return platform_error(40097, f"query: {feature} is not simulated")


def tokenize(text: str) -> list[LexToken]:
    """Split a statement into tokens."""
    if len(text) > MAX_STATEMENT_LENGTH:
        raise syntax_error(f"the text has more than {MAX_STATEMENT_LENGTH} characters")
    return list(_Tokenizer(text).tokens())


@define
class _Tokenizer:
    _text: str
    _position: int = 0

    def tokens(self) -> Iterator[LexToken]:
        self._read_while(" \t\r\n")
        while (start := self._position) < len(self._text):
            yield LexToken(*self._read_token(self._text[start]), start)
            self._read_while(" \t\r\n")
        yield LexToken(LexTokenKind.END, "", start)

    def _read_token(self, first: str) -> tuple[LexTokenKind, str]:
        if first in _NAME_START:
            return LexTokenKind.NAME, self._read_while(_NAME_CHARACTERS)
        if first in string.digits:
            return LexTokenKind.NUMBER, self._read_number()
        if first in "\"'":
            return LexTokenKind.STRING, self._read_string(first)
        if first in "{}[]().,;:=-":
            self._position += 1
            return LexTokenKind.PUNCTUATION, first
        raise unsupported(f"{first!r} at {self._position}")

    def _read_while(self, accepted: str) -> str:
        start = self._position
        while self._position < len(self._text) and self._text[self._position] in accepted:
            self._position += 1
        return self._text[start : self._position]

    def _read_number(self) -> str:
        start = self._position
        self._read_while(string.digits)
        if self._text[self._position : self._position + 1] == ".":
            self._position += 1
            self._read_while(string.digits)
        if self._text[self._position : self._position + 1] in ("e", "E"):
            self._position += 2 if self._text[self._position + 1 : self._position + 2] in ("+", "-") else 1
            if not self._read_while(string.digits):
                raise syntax_error(f"the number at {start} has no exponent")
        # Such as 0x1f, 10n or 5px, all of which would otherwise be read as a number and a name.
        if self._read_while(_NAME_CHARACTERS):
            raise unsupported(f"the number {self._text[start : self._position]}")
        return self._text[start : self._position]

    def _read_string(self, quote: str) -> str:
        start, parts = self._position, list[str]()
        self._position += 1
        while (here := self._text[self._position : self._position + 1]) != quote:
            if not here or here in _LINE_ENDS:
                raise syntax_error(f"the string at {start} has no end")
            self._position += 1
            parts.append(self._read_escape() if here == "\\" else here)
        self._position += 1
        # Join surrogate halves that were escaped separately.
        try:
            return "".join(parts).encode("utf-16", "surrogatepass").decode("utf-16")
        except UnicodeDecodeError:
            raise syntax_error(f"the string at {start} has an unpaired surrogate") from None

    def _read_escape(self) -> str:
        mark = self._text[self._position : self._position + 1]
        self._position += 1
        if mark in ("u", "x"):
            size = 4 if mark == "u" else 2
            digits = self._text[self._position : self._position + size]
            if len(digits) != size or not set(digits) <= set(string.hexdigits):
                raise syntax_error(f"invalid escape at {self._position - 2}")
            self._position += size
            return chr(int(digits, 16))
        if not mark or mark in string.digits[1:] or mark in _LINE_ENDS:
            raise syntax_error(f"invalid escape at {self._position - 2}")
        return _ESCAPES.get(mark, mark)


@frozen
class ChainStep:
    """A member access on the preceding expression. `args` is None if it is not called."""

    name: str
    args: tuple[Expression, ...] | None = None


@frozen
class Chain:
    """A name and its member accesses: ``db.collection("geo").get()``. `is_new` is True after ``new``."""

    root: str
    steps: tuple[ChainStep, ...] = ()
    is_new: bool = False


Expression: TypeAlias = Chain | dict[str, "Expression"] | list["Expression"] | str | int | float | bool | None


def parse(text: str) -> list[Chain]:
    """Parse a text and return its statements. Declared variables are replaced by their values."""
    return _Parser(tokenize(text)).parse_statements()


@define
class _Parser:
    _tokens: list[LexToken]
    _position: int = 0
    _depth: int = 0
    _in_declaration: bool = False
    _declarations: dict[str, Chain] = field(init=False, factory=lambda: {"db": Chain("db"), "_": Chain("_")})

    def parse_statements(self) -> list[Chain]:
        statements: list[Chain] = []
        while not self._is_at_end():
            if self._accept(";"):
                continue
            if self._current.kind is LexTokenKind.NAME and self._current.value in ("const", "let", "var"):
                self._advance()
                name = self._parse_name()
                self._expect("=")
                self._in_declaration = True
                self._declarations[name] = self._parse_statement()
                self._in_declaration = False
            else:
                statements.append(self._parse_statement())
            if not self._is_at_end():
                self._expect(";")
        return statements

    @property
    def _current(self) -> LexToken:
        return self._tokens[self._position]

    def _is_at_end(self) -> bool:
        return self._current.kind is LexTokenKind.END

    def _advance(self) -> LexToken:
        token = self._current
        self._position += 1
        return token

    def _accept(self, punctuation: str) -> bool:
        """Consume the next token if it is *punctuation*, and return whether it was."""
        found = self._current.kind is LexTokenKind.PUNCTUATION and self._current.value == punctuation
        self._position += found
        return found

    def _expect(self, punctuation: str) -> None:
        if not self._accept(punctuation):
            token = self._current
            raise syntax_error(f"expected {punctuation!r} at {token.position}, not {token.value or 'the end'!r}")

    def _parse_name(self) -> str:
        token = self._advance()
        if token.kind is not LexTokenKind.NAME:
            raise syntax_error(f"expected a name at {token.position}")
        return token.value

    def _parse_statement(self) -> Chain:
        position, expression = self._current.position, self._parse_expression()
        if not isinstance(expression, Chain):
            raise syntax_error(f"expected a statement at {position}")
        return expression

    def _parse_expression(self) -> Expression:
        self._depth += 1
        if self._depth > MAX_NESTING:
            raise syntax_error(f"the nesting exceeds {MAX_NESTING} levels")
        expression = self._parse_primary()
        self._depth -= 1
        return expression

    def _parse_primary(self) -> Expression:
        token = self._advance()
        match token.kind, token.value:
            case LexTokenKind.STRING, text:
                return text
            case LexTokenKind.NUMBER, digits:
                return _parse_number(digits)
            case LexTokenKind.PUNCTUATION, "-" if self._current.kind is LexTokenKind.NUMBER:
                return _parse_number(f"-{self._advance().value}")
            case LexTokenKind.PUNCTUATION, "{":
                return self._parse_object()
            case LexTokenKind.PUNCTUATION, "[":
                return [self._parse_expression() for _ in self._items("]")]
            case LexTokenKind.NAME, "new":
                return evolve(self._parse_chain(self._parse_name()), is_new=True)
            case LexTokenKind.NAME, name if name in _CONSTANTS:
                return _CONSTANTS[name]
            case LexTokenKind.NAME, name:
                return self._parse_chain(name)
            case _:
                raise syntax_error(f"expected a value at {token.position}, not {token.value or 'the end'!r}")

    def _parse_chain(self, name: str) -> Chain:
        if name in _UNSUPPORTED_NAMES or (name not in self._declarations and name != "Date"):
            raise unsupported(name)
        chain = self._declarations.get(name, Chain(name))
        if self._in_declaration and self._depth > 1 and any(step.args for step in chain.steps):
            # Without this, each declaration could double the size of the previous one.
            raise unsupported(f"{name} in the declaration of another name")
        steps = list(chain.steps)
        while True:
            # Parentheses turn the step before them into a call.
            if self._accept("."):
                steps.append(ChainStep(self._parse_name()))
            elif self._accept("("):
                args = tuple([self._parse_expression() for _ in self._items(")")])
                last = steps.pop() if steps else ChainStep("")
                if last.args is not None:
                    raise unsupported("a call of the result of a call")
                steps.append(evolve(last, args=args))
            else:
                return evolve(chain, steps=tuple(steps))
            if len(steps) > MAX_NESTING:
                raise syntax_error(f"a chain has more than {MAX_NESTING} steps")

    def _items(self, end: str) -> Iterator[None]:
        """Yield before each item of a list that ends with *end*, and consume what separates the items."""
        while not self._accept(end):
            yield
            if not self._accept(","):
                self._expect(end)
                return

    def _parse_object(self) -> dict[str, Expression]:
        fields: dict[str, Expression] = {}
        for _ in self._items("}"):
            token = self._advance()
            if token.kind in (LexTokenKind.PUNCTUATION, LexTokenKind.END):
                raise syntax_error(f"a key expected at {token.position}, not {token.value or 'the end'!r}")
            # "$" begins an operator of MongoDB, and "__proto__" would set the prototype in JavaScript.
            if token.value.startswith("$") or token.value == "__proto__":
                raise unsupported(f"the key {token.value}")
            self._expect(":")
            fields[token.value] = self._parse_expression()
        return fields


def _parse_number(digits: str) -> int | float:
    """Return a number as JavaScript stores it: a double, or an int if it is whole and exact."""
    value = float(digits)
    if not math.isfinite(value):
        raise syntax_error(f"{digits} is no finite number")
    return int(value) if value.is_integer() and abs(value) <= MAX_SAFE_INTEGER else value
