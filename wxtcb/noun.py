"""The base of the attrs classes that there are many of."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, Final

import attrs


class Noun:
    """One repr, one comparison and one hash for all attrs classes derived from it; they do what those of attrs do.

    Of the time that importing wxtcb takes, a third went into compiling them anew for each of 150 classes. A class says
    ``repr=False, eq=False``, for attrs to leave them to this one. What a field says of its repr, and whether it counts
    for eq and hash, holds; a key to compare it by (``eq=str.lower``) is not looked at.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        shown = [f"{name}={show(getattr(self, name))}" for name, show in _shown(type(self))]
        return f"{type(self).__qualname__.rpartition('>.')[2]}({', '.join(shown)})"

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in _compared(type(self)))

    def __hash__(self) -> int:
        return hash((type(self), *[getattr(self, name) for name in _hashed(type(self))]))


def _read_shown(kind: type[Any]) -> tuple[tuple[str, Callable[[Any], str]], ...]:
    return tuple(
        (each.name, repr if isinstance(each.repr, bool) else each.repr) for each in attrs.fields(kind) if each.repr
    )


def _read_compared(kind: type[Any]) -> tuple[str, ...]:
    return tuple(each.name for each in attrs.fields(kind) if each.eq)


def _read_hashed(kind: type[Any]) -> tuple[str, ...]:
    return tuple(each.name for each in attrs.fields(kind) if (each.eq if each.hash is None else each.hash))


_shown: Final[Callable[[type], tuple[tuple[str, Callable[[Any], str]], ...]]] = cache(_read_shown)
_compared: Final[Callable[[type], tuple[str, ...]]] = cache(_read_compared)
_hashed: Final[Callable[[type], tuple[str, ...]]] = cache(_read_hashed)
