"""The values of records: how they compare, and how they stand in extended JSON."""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final, TypeAlias, cast

import orjson

__all__ = ["Record", "Value", "key_of", "kind_of", "read_record", "write_record"]

Value: TypeAlias = Any  # what JSON holds, datetime, Decimal or bytes
Record = dict[str, Value]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
DEEPEST: Final = 128

_SAFE_INTEGER: Final = 2**53 - 1
_ORDER: Final = (type(None), float, str, dict, list, bytes, bool, datetime)


def kind_of(value: Value) -> int:
    """Return the place of a value's kind in the order of the database; all numbers are of one kind."""
    number = isinstance(value, int | float | Decimal) and not isinstance(value, bool)
    return _ORDER.index(float if number else type(value))


def key_of(value: Value) -> tuple[Any, ...]:
    """Return what stands for a value where values are compared: equal for equal ones, sorted as the database sorts."""
    kind = kind_of(value)
    if isinstance(value, dict):
        return kind, tuple((key, key_of(each)) for key, each in cast("Record", value).items())
    if isinstance(value, list):
        return kind, tuple(key_of(each) for each in value)
    if (isinstance(value, float) and math.isnan(value)) or (isinstance(value, Decimal) and value.is_nan()):
        return kind, -math.inf
    return (kind, 0) if value is None else (kind, value)


def write_record(record: Record) -> str:
    """Write a record as extended JSON."""
    return orjson.dumps(_write(record)).decode()


def read_record(text: str | bytes) -> Record:
    """Read a record out of extended JSON, or raise ValueError for what is none."""
    try:
        return {_checked(key): _read(value, 1) for key, value in orjson.loads(text).items()}
    except (ArithmeticError, AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"no record in extended JSON: {error}") from None


def _write(value: Value) -> Value:
    match value:
        case dict():
            return {key: _write(each) for key, each in cast("Record", value).items()}
        case list():
            return [_write(each) for each in value]
        case bool():
            return value
        case int():
            return value if abs(value) <= _SAFE_INTEGER else {"$numberLong": str(value)}
        case float():
            return _write_float(value)
        case Decimal():
            return {"$numberDecimal": str(value)}
        case datetime():
            return {"$date": value.isoformat(timespec="milliseconds").replace("+00:00", "Z")}
        case bytes():
            return {"$binary": {"base64": base64.b64encode(value).decode(), "subType": "00"}}
        case _:
            return value


def _write_float(value: float) -> Value:
    """Write a double that would be read as a whole number, or as none, in a form of its own."""
    if math.isfinite(value) and not value.is_integer():
        return value
    return {"$numberDouble": {"inf": "Infinity", "-inf": "-Infinity", "nan": "NaN"}.get(str(value), str(value))}


def _read(value: Value, depth: int) -> Value:
    if depth > DEEPEST:
        raise ValueError(f"nested deeper than {DEEPEST}")
    if isinstance(value, list):
        return [_read(each, depth + 1) for each in value]
    if not isinstance(value, dict):
        return value
    fields = cast("Record", value)
    if len(fields) == 1 and (name := next(iter(fields))) in _FORMS:
        return _FORMS[name](fields[name])
    return {_checked(key): _read(each, depth + 1) for key, each in fields.items()}


def _checked(key: str) -> str:
    if not key or key.startswith(("$", ".")) or key.endswith(".") or ".." in key:
        raise ValueError(f"bad key {key!r}")
    return key


def _read_date(inner: Value) -> datetime:
    if isinstance(inner, str):
        moment = datetime.fromisoformat(inner)
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    return _EPOCH + timedelta(milliseconds=int(inner["$numberLong"]) if isinstance(inner, dict) else inner)


_FORMS: Final[Mapping[str, Callable[[Value], Value]]] = {
    "$date": _read_date,
    "$oid": str,
    "$numberInt": int,
    "$numberLong": int,
    "$numberDouble": float,
    "$numberDecimal": Decimal,
    "$binary": lambda inner: base64.b64decode(inner["base64"], validate=True),
}
