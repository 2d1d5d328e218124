"""Python values as literals of the database's statement language, which is a subset of JavaScript.

A value can never become code: this module escapes or rejects everything that could end a literal.
"""

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

# A list that contains itself would recurse without end; real records are far less deep.
MAX_DEPTH: Final = 100
# JavaScript's Number.MAX_SAFE_INTEGER: larger integers are rounded.
MAX_SAFE_INTEGER: Final = 2**53 - 1
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
MILLISECOND: Final = timedelta(milliseconds=1)

# Valid inside a JSON string, but they could end a line, a statement or a script where the literal is embedded.
_UNSAFE_CHARACTERS: Final = re.compile("[<>;\x7f-\x9f\u2028\u2029\ufeff]")
_SURROGATE: Final = re.compile("[\ud800-\udfff]")


@attrs.frozen
class Expression:
    """A statement or a part of one; ``str`` returns its code, which never contains an unescaped value."""

    # Keyword-only, so that `Collection(user_input)` fails instead of taking the input for code.
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
    """A geographical position in degrees: longitude -180 to 180, latitude -90 to 90."""

    longitude: float = attrs.field(validator=validator(_degrees_validator(180)))
    latitude: float = attrs.field(validator=validator(_degrees_validator(90)))


@attrs.frozen
class ServerDate:
    """The time at which the platform executes the statement."""


Value: TypeAlias = (
    "bool | int | float | str | datetime | Point | ServerDate | Sequence[Value] | Mapping[str, Value] | None"
)
Document: TypeAlias = Mapping[str, Value]


def to_literal(name: str, value: object, depth: int = 0) -> str:
    """Return a value as a literal; *name* names it in errors.

    Raises `InvalidArgument` for values that the database would read as something else: integers beyond 2**53, NaN,
    bytes, times without a time zone, keys that the database takes for operators.
    """
    match value:
        case None:
            return "null"
        # Before int: a bool is an int.
        case bool():
            return "true" if value else "false"
        case str():
            return string_literal(name, value)
        case int() | float():
            return _number_literal(name, value)
        case datetime():
            return _date_literal(name, value)
        case Point(longitude=longitude, latitude=latitude):
            return f"new db.Geo.Point({_number_literal(name, longitude)}, {_number_literal(name, latitude)})"
        case ServerDate():
            return "db.serverDate()"
        case Mapping() | list() | tuple():
            return _nested_literal(name, value, depth + 1)
        case _:
            raise InvalidArgument(f"{name} contains a {type(value).__name__}, which cannot be part of a statement")


def _nested_literal(name: str, value: Mapping[object, object] | Sequence[object], depth: int) -> str:
    if depth > MAX_DEPTH:
        raise InvalidArgument(f"{name} is nested too deeply: the limit is {MAX_DEPTH} levels")
    if isinstance(value, Mapping):
        return object_literal({_key_literal(name, key): to_literal(name, each, depth) for key, each in value.items()})
    return f"[{', '.join(to_literal(name, each, depth) for each in value)}]"


def object_literal(fields: Mapping[str, str]) -> str:
    """Return an object literal; keys and values are literals already."""
    return f"{{{', '.join(f'{key}: {value}' for key, value in fields.items())}}}"


def string_literal(name: str, text: str) -> str:
    """Return a string literal, with every character escaped that could end a line, a statement or a script."""
    if _SURROGATE.search(text):
        raise InvalidArgument(f"{name} is not valid Unicode: it contains a lone surrogate")
    return _UNSAFE_CHARACTERS.sub(lambda found: f"\\u{ord(found[0]):04x}", json.dumps(text, ensure_ascii=False))


def name_literal(name: str, value: object) -> str:
    """Return the name of a collection, record or field, or the path of a field, as a literal."""
    check_string(name, value)
    return _key_literal(name, value)


def _key_literal(name: str, key: object) -> str:
    if not isinstance(key, str):
        raise InvalidArgument(f"{name} has a key that is not a string: {key!r}")
    # "$" begins an operator, so a key of a user could change a condition; "__proto__" is special in JavaScript.
    if key.startswith("$") or key == "__proto__":
        raise InvalidArgument(f"{name} has a key that the database takes for an operator: {key!r}")
    return string_literal(name, key)


# `int.__repr__` and `float.__repr__`: a subclass, such as an enum, may have a repr that is not a number.
def _number_literal(name: str, value: float) -> str:
    if isinstance(value, int):
        if abs(value) > MAX_SAFE_INTEGER:
            raise InvalidArgument(f"{name} {value!r} is beyond 2**53, where JavaScript rounds it: send it as a string")
        return int.__repr__(value)
    if not math.isfinite(value):
        raise InvalidArgument(f"{name} must be a finite number, not {value!r}")
    return float.__repr__(value)


def _date_literal(name: str, value: datetime) -> str:
    if value.utcoffset() is None:
        raise InvalidArgument(f"{name} {value!r} has no time zone: use an aware datetime, such as datetime.now(UTC)")
    return f"new Date({(value - EPOCH) // MILLISECOND})"
