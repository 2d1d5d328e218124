"""The grammar of the statement language: recursive descent from words to terms; nothing is ever evaluated as code."""

from __future__ import annotations

import math
from typing import Final, TypeAlias

from attrs import define, evolve, field, frozen

from wxtcb.sandbox.services.database.words import Kind, Word, malformed, not_simulated, words_of

__all__ = ["Chain", "Step", "Term", "parse"]

DEEPEST: Final = 128
SAFE_INTEGER: Final = 2**53 - 1

_DECLARES: Final = ("const", "let", "var")
_CONSTANTS: Final = {"true": True, "false": False, "null": None}
_UNFIT: Final = ("undefined", "NaN", "Infinity", "function", "async", "await", "this", "return", "if", "for", "while")


@frozen
class Step:
    """A member of what stands before it; `args` are None where it is not called."""

    name: str
    args: tuple[Term, ...] | None = None


@frozen
class Chain:
    """A name and the steps that go on from it: ``db.collection("geo").get()``; `made` by ``new`` or not."""

    root: str
    steps: tuple[Step, ...] = ()
    made: bool = False


Term: TypeAlias = Chain | dict[str, "Term"] | list["Term"] | str | int | float | bool | None


def parse(text: str) -> list[Chain]:
    """Read the statements of a text; declared names stand for what they were declared to be."""
    return _Parser(words_of(text)).statements()


@define
class _Parser:
    _words: list[Word]
    _at: int = 0
    _depth: int = 0
    _declares: bool = False
    _declared: dict[str, Chain] = field(init=False, factory=lambda: {"db": Chain("db"), "_": Chain("_")})

    def statements(self) -> list[Chain]:
        found: list[Chain] = []
        while not self._ends():
            if self._takes(";"):
                continue
            if self._next.kind is Kind.NAME and self._next.value in _DECLARES:
                self._declare()
            else:
                found.append(self._chain_alone())
            if not self._ends():
                self._need(";")
        return found

    @property
    def _next(self) -> Word:
        return self._words[self._at]

    def _ends(self) -> bool:
        return self._next.kind is Kind.END

    def _take(self) -> Word:
        word = self._next
        self._at += 1
        return word

    def _takes(self, mark: str) -> bool:
        """Take the next word if it is this mark."""
        found = self._next.kind is Kind.MARK and self._next.value == mark
        self._at += found
        return found

    def _need(self, mark: str) -> None:
        if not self._takes(mark):
            word = self._next
            raise malformed(f"{mark!r} expected at {word.at}, not {word.value or 'the end'!r}")

    def _name(self) -> str:
        word = self._take()
        if word.kind is not Kind.NAME:
            raise malformed(f"a name expected at {word.at}")
        return word.value

    def _declare(self) -> None:
        self._take()
        name = self._name()
        self._need("=")
        self._declares = True
        self._declared[name] = self._chain_alone()
        self._declares = False

    def _chain_alone(self) -> Chain:
        at, term = self._next.at, self._term()
        if not isinstance(term, Chain):
            raise malformed(f"a statement expected at {at}")
        return term

    def _term(self) -> Term:
        self._depth += 1
        if self._depth > DEEPEST:
            raise malformed(f"nested deeper than {DEEPEST}")
        term = self._bare_term()
        self._depth -= 1
        return term

    def _bare_term(self) -> Term:
        word = self._take()
        match word.kind, word.value:
            case Kind.TEXT, text:
                return text
            case Kind.NUMBER, digits:
                return _number(digits)
            case Kind.MARK, "-" if self._next.kind is Kind.NUMBER:
                return _number(f"-{self._take().value}")
            case Kind.MARK, "{":
                return self._object()
            case Kind.MARK, "[":
                return self._terms("]")
            case Kind.NAME, "new":
                return evolve(self._chain(self._name()), made=True)
            case Kind.NAME, name if name in _CONSTANTS:
                return _CONSTANTS[name]
            case Kind.NAME, name:
                return self._chain(name)
            case _:
                raise malformed(f"a value expected at {word.at}, not {word.value or 'the end'!r}")

    def _chain(self, name: str) -> Chain:
        if name in _UNFIT or (name not in self._declared and name != "Date"):
            raise not_simulated(name)
        chain = self._declared.get(name, Chain(name))
        if self._declares and self._depth > 1 and any(step.args for step in chain.steps):
            raise not_simulated(f"{name} within what another name stands for")  # so that nothing doubles on and on
        steps = list(chain.steps)
        while True:
            if self._takes("."):
                steps.append(Step(self._name()))
            elif self._takes("("):
                args = tuple(self._terms(")"))
                last = steps.pop() if steps else Step("")
                if last.args is not None:
                    raise not_simulated("a call of what a call gave")
                steps.append(evolve(last, args=args))
            else:
                return evolve(chain, steps=tuple(steps))
            if len(steps) > DEEPEST:
                raise malformed(f"a chain of more than {DEEPEST} steps")

    def _terms(self, end: str) -> list[Term]:
        found: list[Term] = []
        while not self._takes(end):
            found.append(self._term())
            if not self._takes(","):
                self._need(end)
                break
        return found

    def _object(self) -> dict[str, Term]:
        found: dict[str, Term] = {}
        while not self._takes("}"):
            key = self._key()
            self._need(":")
            found[key] = self._term()
            if not self._takes(","):
                self._need("}")
                break
        return found

    def _key(self) -> str:
        word = self._take()
        if word.kind in (Kind.MARK, Kind.END):
            raise malformed(f"a key expected at {word.at}, not {word.value or 'the end'!r}")
        if word.value.startswith("$") or word.value == "__proto__":
            raise not_simulated(f"the key {word.value}")
        return word.value


def _number(digits: str) -> int | float:
    """Read a number as JavaScript keeps it: a double, here an int where it is whole and exact."""
    value = float(digits)
    if not math.isfinite(value):
        raise malformed(f"{digits} is no finite number")
    return int(value) if value.is_integer() and abs(value) <= SAFE_INTEGER else value
