"""The values of records: how they compare, and how they stand in extended JSON."""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final, TypeAlias, cast

import orjson

__all__ = ["DatabaseRecord", "Value", "decode_record", "encode_record", "sort_key", "type_rank"]

Value: TypeAlias = Any  # what JSON holds, datetime, Decimal or bytes
DatabaseRecord = dict[str, Value]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
MAX_RECORD_DEPTH: Final = 128

_MAX_SAFE_INTEGER: Final = 2**53 - 1
_TYPE_ORDER: Final = (type(None), float, str, dict, list, bytes, bool, datetime)


def type_rank(value: Value) -> int:
    """Return the place of a value's kind in the order of the database; all numbers are of one kind."""
    number = isinstance(value, int | float | Decimal) and not isinstance(value, bool)
    return _TYPE_ORDER.index(float if number else type(value))


def sort_key(value: Value) -> tuple[Any, ...]:
    """Return what stands for a value where values are compared: equal for equal ones, sorted as the database sorts."""
    kind = type_rank(value)
    if isinstance(value, dict):
        return kind, tuple((key, sort_key(each)) for key, each in cast("DatabaseRecord", value).items())
    if isinstance(value, list):
        return kind, tuple(sort_key(each) for each in value)
    if (isinstance(value, float) and math.isnan(value)) or (isinstance(value, Decimal) and value.is_nan()):
        return kind, -math.inf
    return (kind, 0) if value is None else (kind, value)


def encode_record(record: DatabaseRecord) -> str:
    """Write a record as extended JSON."""
    return orjson.dumps(_encode(record)).decode()


def decode_record(text: str | bytes) -> DatabaseRecord:
    """Read a record out of extended JSON, or raise ValueError for what is none."""
    try:
        return {_check_key(key): _decode(value, 1) for key, value in orjson.loads(text).items()}
    except (ArithmeticError, AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"no record in extended JSON: {error}") from None


def _encode(value: Value) -> Value:
    match value:
        case dict():
            return {key: _encode(each) for key, each in cast("DatabaseRecord", value).items()}
        case list():
            return [_encode(each) for each in value]
        case bool():
            return value
        case int():
            return value if abs(value) <= _MAX_SAFE_INTEGER else {"$numberLong": str(value)}
        case float():
            return _encode_float(value)
        case Decimal():
            return {"$numberDecimal": str(value)}
        case datetime():
            return {"$date": value.isoformat(timespec="milliseconds").replace("+00:00", "Z")}
        case bytes():
            return {"$binary": {"base64": base64.b64encode(value).decode(), "subType": "00"}}
        case _:
            return value


def _encode_float(value: float) -> Value:
    """Write a double that would be read as a whole number, or as none, in a form of its own."""
    if math.isfinite(value) and not value.is_integer():
        return value
    return {"$numberDouble": {"inf": "Infinity", "-inf": "-Infinity", "nan": "NaN"}.get(str(value), str(value))}


def _decode(value: Value, depth: int) -> Value:
    if depth > MAX_RECORD_DEPTH:
        raise ValueError(f"nested deeper than {MAX_RECORD_DEPTH}")
    if isinstance(value, list):
        return [_decode(each, depth + 1) for each in value]
    if not isinstance(value, dict):
        return value
    fields = cast("DatabaseRecord", value)
    if len(fields) == 1 and (name := next(iter(fields))) in _DECODERS:
        return _DECODERS[name](fields[name])
    return {_check_key(key): _decode(each, depth + 1) for key, each in fields.items()}


def _check_key(key: str) -> str:
    if not key or key.startswith(("$", ".")) or key.endswith(".") or ".." in key:
        raise ValueError(f"bad key {key!r}")
    return key


def _decode_date(inner: Value) -> datetime:
    if isinstance(inner, str):
        moment = datetime.fromisoformat(inner)
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    return _EPOCH + timedelta(milliseconds=int(inner["$numberLong"]) if isinstance(inner, dict) else inner)


_DECODERS: Final[Mapping[str, Callable[[Value], Value]]] = {
    "$date": _decode_date,
    "$oid": str,
    "$numberInt": int,
    "$numberLong": int,
    "$numberDouble": float,
    "$numberDecimal": Decimal,
    "$binary": lambda inner: base64.b64decode(inner["base64"], validate=True),
}
