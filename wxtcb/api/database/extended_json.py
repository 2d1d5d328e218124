"""Records as extended JSON (MongoDB's JSON for types that JSON does not have): read and written.

Source of the ``$`` forms: MongoDB Extended JSON v2, canonical and relaxed, and v1 for binary data.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

import attrs
import orjson

from wxtcb._protocol.fields import WireFormat
from wxtcb.api.database.query import EPOCH, MAX_DEPTH, MAX_SAFE_INTEGER, MILLISECOND
from wxtcb.errors import InvalidArgument

_INT64_LIMIT: Final = 2**63
_NON_FINITE_NAMES: Final = {float("inf"): "Infinity", float("-inf"): "-Infinity"}


@attrs.frozen
class Timestamp:
    """A timestamp of the database: seconds since 1970, and a counter within the second."""

    time: int
    increment: int


# A record may have any fields, so its values are `Any`: `object` would force a cast on every caller.
def read_document(text: str) -> dict[str, Any]:
    """Parse a record from extended JSON, for instance a line of an export file.

    Dates become aware `datetime`, object ids `str`, 32- and 64-bit numbers `int`, doubles `float`, decimals `Decimal`,
    binary data `bytes`, undefined None. Unknown ``$`` forms stay unchanged. Raises `InvalidArgument` if *text* is not a
    JSON object.
    """
    try:
        return _parse_document(text)
    except (RecursionError, TypeError, ValueError) as error:
        raise InvalidArgument(f"text is not a record: {error}") from error


def write_document(document: Mapping[str, Any]) -> str:
    """Return a record as extended JSON on one line, for instance a line of a file for `db_import`.

    Dates are rounded down to milliseconds. Raises `InvalidArgument` for values that extended JSON cannot represent.
    """
    try:
        return orjson.dumps(_to_extended("document", document, 0)).decode()
    except (orjson.JSONEncodeError, OverflowError) as error:
        raise InvalidArgument(f"document cannot be written as JSON: {error}") from error


def _parse_document(text: object) -> dict[str, Any]:
    if not isinstance(text, str):
        raise TypeError("JSON document in a string")
    document = orjson.loads(text)
    if not isinstance(document, dict):
        raise TypeError("JSON object in a string")
    return {key: _to_python(each) for key, each in document.items()}


def _parse_documents(texts: object) -> list[dict[str, Any]]:
    if not isinstance(texts, list):
        raise TypeError("list of JSON documents in strings")
    return [_parse_document(text) for text in texts]


def _write_documents(documents: Iterable[Mapping[str, Any]]) -> list[str]:
    return [write_document(each) for each in documents]


DOCUMENTS_FORMAT: Final = WireFormat("JSON documents in strings", _write_documents, _parse_documents, splittable=True)


def _to_python(value: object) -> object:
    if isinstance(value, list):
        return [_to_python(each) for each in value]
    if not isinstance(value, dict):
        return value
    # Only a form of extended JSON has keys that begin with "$".
    if any(key.startswith("$") for key in value):
        return _from_extended(value)
    return {key: _to_python(each) for key, each in value.items()}


def _from_extended(wrapper: dict[str, Any]) -> object:
    """Return the value of a ``$`` form, or the form itself if it is unknown or malformed."""
    try:
        return _DECODERS[frozenset(wrapper)](wrapper)
    except (ArithmeticError, KeyError, TypeError, ValueError):
        return wrapper


def _require_str(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("str")
    return value


def _require_int(value: object) -> int:
    if type(value) is not int:
        raise TypeError("int")
    return value


def _to_datetime(wrapper: dict[str, Any]) -> datetime:
    inner = wrapper["$date"]
    if isinstance(inner, str):
        moment = datetime.fromisoformat(inner)
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    milliseconds = int(_require_str(inner["$numberLong"])) if isinstance(inner, dict) else _require_int(inner)
    return EPOCH + milliseconds * MILLISECOND


def _to_bytes(wrapper: dict[str, Any]) -> bytes:
    inner = wrapper["$binary"]
    return base64.b64decode(_require_str(inner["base64"] if isinstance(inner, dict) else inner), validate=True)


def _to_timestamp(wrapper: dict[str, Any]) -> Timestamp:
    return Timestamp(_require_int(wrapper["$timestamp"]["t"]), _require_int(wrapper["$timestamp"]["i"]))


_DECODERS: Final[Mapping[frozenset[str], Callable[[dict[str, Any]], object]]] = {
    frozenset({"$date"}): _to_datetime,
    frozenset({"$oid"}): lambda wrapper: _require_str(wrapper["$oid"]),
    frozenset({"$numberInt"}): lambda wrapper: int(_require_str(wrapper["$numberInt"])),
    frozenset({"$numberLong"}): lambda wrapper: int(_require_str(wrapper["$numberLong"])),
    frozenset({"$numberDouble"}): lambda wrapper: float(_require_str(wrapper["$numberDouble"])),
    frozenset({"$numberDecimal"}): lambda wrapper: Decimal(_require_str(wrapper["$numberDecimal"])),
    frozenset({"$binary"}): _to_bytes,
    frozenset({"$binary", "$type"}): _to_bytes,
    frozenset({"$timestamp"}): _to_timestamp,
    frozenset({"$undefined"}): lambda _: None,
}


def _to_extended(name: str, value: object, depth: int) -> object:
    match value:
        case None | bool() | str():
            return value
        case int():
            return _int_to_extended(name, value)
        case float():
            return value if math.isfinite(value) else {"$numberDouble": _NON_FINITE_NAMES.get(value, "NaN")}
        case Decimal():
            return {"$numberDecimal": str(value)}
        case datetime():
            return {"$date": _format_date(name, value)}
        case bytes():
            return {"$binary": {"base64": base64.b64encode(value).decode(), "subType": "00"}}
        case Timestamp():
            return {"$timestamp": {"t": value.time, "i": value.increment}}
        case Mapping() | list() | tuple():
            return _nested_to_extended(name, value, depth + 1)
        case _:
            raise InvalidArgument(f"{name} contains a {type(value).__name__}, which extended JSON cannot represent")


def _nested_to_extended(name: str, value: Mapping[object, object] | Sequence[object], depth: int) -> object:
    if depth > MAX_DEPTH:
        raise InvalidArgument(f"{name} is nested too deeply: the limit is {MAX_DEPTH} levels")
    if isinstance(value, Mapping):
        return {_check_key(name, key): _to_extended(name, each, depth) for key, each in value.items()}
    return [_to_extended(name, each, depth) for each in value]


def _int_to_extended(name: str, value: int) -> object:
    # A larger number would be rounded by JavaScript, so it is written as a string with its type.
    if abs(value) <= MAX_SAFE_INTEGER:
        return int(value)
    if not -_INT64_LIMIT <= value < _INT64_LIMIT:
        raise InvalidArgument(f"{name} contains a number beyond 64 bits: {value!r}")
    return {"$numberLong": str(value)}


def _format_date(name: str, value: datetime) -> str:
    if value.utcoffset() is None:
        raise InvalidArgument(f"{name} contains a time without a time zone: {value!r}; use an aware datetime")
    return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _check_key(name: str, key: object) -> str:
    # A "$" would turn the object into a form of extended JSON when it is read.
    if not isinstance(key, str) or key.startswith("$"):
        raise InvalidArgument(f"{name} has a key that cannot name a field: {key!r}")
    return key
