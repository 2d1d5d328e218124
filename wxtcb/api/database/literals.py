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
from wxtcb.validation import check_text, field_is

DEEPEST: Final = 100
SAFE_INTEGER: Final = 2**53 - 1

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)
_ESCAPED: Final = re.compile("[<>;\x7f-\x9f\u2028\u2029\ufeff]")
_SURROGATE: Final = re.compile("[\ud800-\udfff]")


@attrs.frozen
class Written:
    """A part of a statement, or a whole one; ``str`` gives its text, which is code and never made of a bare value."""

    _text: str = attrs.field(kw_only=True, alias="text")

    def __str__(self) -> str:
        return self._text


def _check_degrees(most: float) -> Callable[[str, object], None]:
    def check(name: str, value: object) -> None:
        if isinstance(value, bool) or not isinstance(value, int | float) or not -most <= value <= most:
            raise InvalidArgument(f"{name} must be a number of degrees from -{most} to {most}, not {value!r}")

    return check


@attrs.frozen
class Point:
    """A place on the globe, in degrees."""

    longitude: float = attrs.field(validator=field_is(_check_degrees(180)))
    latitude: float = attrs.field(validator=field_is(_check_degrees(90)))


@attrs.frozen
class ServerDate:
    """The moment at which the platform carries the statement out."""


Value: TypeAlias = (
    "bool | int | float | str | datetime | Point | ServerDate | Sequence[Value] | Mapping[str, Value] | None"
)
Document: TypeAlias = Mapping[str, Value]


def literal(name: str, value: object, depth: int = 0) -> str:
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
            return quoted(name, value)
        case int() | float():
            return _number(name, value)
        case datetime():
            return _date(name, value)
        case Point():
            return f"new db.Geo.Point({_number(name, value.longitude)}, {_number(name, value.latitude)})"
        case ServerDate():
            return "db.serverDate()"
        case Mapping() | list() | tuple():
            return _nested(name, value, depth + 1)
        case _:
            raise InvalidArgument(f"{name} has no place in a statement here: {type(value).__name__}")


def _nested(name: str, value: Mapping[object, object] | Sequence[object], depth: int) -> str:
    if depth > DEEPEST:
        raise InvalidArgument(f"{name} is nested deeper than {DEEPEST}")
    if isinstance(value, Mapping):
        return object_of({_key(name, key): literal(name, each, depth) for key, each in value.items()})
    return f"[{', '.join(literal(name, each, depth) for each in value)}]"


def object_of(fields: Mapping[str, str]) -> str:
    """Write an object of keys and values that are written already."""
    return f"{{{', '.join(f'{key}: {value}' for key, value in fields.items())}}}"


def quoted(name: str, text: str) -> str:
    """Write a text; what could end a line, a statement or a script stands there escaped."""
    if _SURROGATE.search(text):
        raise InvalidArgument(f"{name} must be in proper Unicode")
    return _ESCAPED.sub(lambda found: f"\\u{ord(found[0]):04x}", json.dumps(text, ensure_ascii=False))


def name_of(name: str, value: object) -> str:
    """Write the name of a collection, a record or a field, or the path of a field."""
    check_text(name, value)
    return _key(name, value)


def _key(name: str, key: object) -> str:
    if not isinstance(key, str):
        raise InvalidArgument(f"{name} has a key that is no text: {key!r}")
    if key.startswith("$") or key == "__proto__":
        raise InvalidArgument(f"{name} has a key that the database takes for more than a name: {key!r}")
    return quoted(name, key)


def _number(name: str, value: float) -> str:
    if isinstance(value, int):
        if abs(value) > SAFE_INTEGER:
            raise InvalidArgument(f"{name} is beyond 2**53, where JavaScript would round it: {value!r}; send a text")
        return int.__repr__(value)
    if not math.isfinite(value):
        raise InvalidArgument(f"{name} must be a finite number, not {value!r}")
    return float.__repr__(value)


def _date(name: str, value: datetime) -> str:
    if value.utcoffset() is None:
        raise InvalidArgument(f"{name} must be a time with a zone, for instance datetime.now(UTC), not {value!r}")
    return f"new Date({(value - _EPOCH) // _MILLISECOND})"
