"""Python values as literals of the statement language: whatever a value holds, it stays a value there."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, TypeAlias

import attrs

from wxtcb.errors import InvalidArgument
from wxtcb.validation import check_string, validator

MAX_DEPTH: Final = 100
MAX_SAFE_INTEGER: Final = 2**53 - 1

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)
_UNSAFE_CHARACTERS: Final = re.compile("[<>;\x7f-\x9f\u2028\u2029\ufeff]")
_SURROGATE: Final = re.compile("[\ud800-\udfff]")


@attrs.frozen
class Expression:
    """A part of a statement, or a whole one; ``str`` gives its text, which is code and never made of a bare value."""

    _text: str = attrs.field(kw_only=True, alias="text")

    def __str__(self) -> str:
        return self._text


def _degrees_validator(limit: float) -> Callable[[str, object], None]:
    def check(name: str, value: object) -> None:
        if isinstance(value, bool) or not isinstance(value, int | float) or not -limit <= value <= limit:
            raise InvalidArgument(f"{name} must be a number of degrees from -{limit} to {limit}, not {value!r}")

    return check


@attrs.frozen
class Point:
    """A place on the globe, in degrees."""

    longitude: float = attrs.field(validator=validator(_degrees_validator(180)))
    latitude: float = attrs.field(validator=validator(_degrees_validator(90)))


@attrs.frozen
class ServerDate:
    """The moment at which the platform carries the statement out."""


Value: TypeAlias = (
    "bool | int | float | str | datetime | Point | ServerDate | Sequence[Value] | Mapping[str, Value] | None"
)
Document: TypeAlias = Mapping[str, Value]


def to_literal(name: str, value: object, depth: int = 0) -> str:
    """Write a value, called *name* where it is refused.

    Refused is what would be another value there: whole numbers beyond 2**53, NaN, bytes, times without a zone, keys
    that the database takes for operators.
    """
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case str():
            return string_literal(name, value)
        case int() | float():
            return _number_literal(name, value)
        case datetime():
            return _date_literal(name, value)
        case Point():
            return (
                f"new db.Geo.Point({_number_literal(name, value.longitude)}, {_number_literal(name, value.latitude)})"
            )
        case ServerDate():
            return "db.serverDate()"
        case Mapping() | list() | tuple():
            return _nested_literal(name, value, depth + 1)
        case _:
            raise InvalidArgument(f"{name} has no place in a statement here: {type(value).__name__}")


def _nested_literal(name: str, value: Mapping[object, object] | Sequence[object], depth: int) -> str:
    if depth > MAX_DEPTH:
        raise InvalidArgument(f"{name} is nested deeper than {MAX_DEPTH}")
    if isinstance(value, Mapping):
        return object_literal({_key_literal(name, key): to_literal(name, each, depth) for key, each in value.items()})
    return f"[{', '.join(to_literal(name, each, depth) for each in value)}]"


def object_literal(fields: Mapping[str, str]) -> str:
    """Write an object of keys and values that are written already."""
    return f"{{{', '.join(f'{key}: {value}' for key, value in fields.items())}}}"


def string_literal(name: str, text: str) -> str:
    """Write a text; what could end a line, a statement or a script stands there escaped."""
    if _SURROGATE.search(text):
        raise InvalidArgument(f"{name} must be in proper Unicode")
    return _UNSAFE_CHARACTERS.sub(lambda found: f"\\u{ord(found[0]):04x}", json.dumps(text, ensure_ascii=False))


def name_literal(name: str, value: object) -> str:
    """Write the name of a collection, a record or a field, or the path of a field."""
    check_string(name, value)
    return _key_literal(name, value)


def _key_literal(name: str, key: object) -> str:
    if not isinstance(key, str):
        raise InvalidArgument(f"{name} has a key that is no text: {key!r}")
    if key.startswith("$") or key == "__proto__":
        raise InvalidArgument(f"{name} has a key that the database takes for more than a name: {key!r}")
    return string_literal(name, key)


def _number_literal(name: str, value: float) -> str:
    if isinstance(value, int):
        if abs(value) > MAX_SAFE_INTEGER:
            raise InvalidArgument(f"{name} is beyond 2**53, where JavaScript would round it: {value!r}; send a text")
        return int.__repr__(value)
    if not math.isfinite(value):
        raise InvalidArgument(f"{name} must be a finite number, not {value!r}")
    return float.__repr__(value)


def _date_literal(name: str, value: datetime) -> str:
    if value.utcoffset() is None:
        raise InvalidArgument(f"{name} must be a time with a zone, for instance datetime.now(UTC), not {value!r}")
    return f"new Date({(value - _EPOCH) // _MILLISECOND})"
