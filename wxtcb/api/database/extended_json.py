"""Records as texts of extended JSON, read into Python values and written from them."""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

import attrs
import orjson

from wxtcb._protocol.fields import WireFormat
from wxtcb.api.database.literals import MAX_DEPTH, MAX_SAFE_INTEGER
from wxtcb.errors import InvalidArgument
from wxtcb.validation import check_mapping

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)
_INT64_LIMIT: Final = 2**63


@attrs.frozen
class Timestamp:
    """A moment as the database keeps its own: seconds since 1970, and a number within the second."""

    time: int
    increment: int


def read_document(text: str) -> dict[str, Any]:
    """Read a record out of a text, a line of an export file for instance.

    Dates become aware `datetime`, object ids `str`, 32- and 64-bit numbers `int`, doubles `float`, decimals `Decimal`,
    binary data `bytes`, undefined None. A ``$`` form that wxtcb does not know is left as it is. Raises
    `InvalidArgument` for what is no JSON object.
    """
    try:
        return _parse_document(text)
    except (RecursionError, TypeError, ValueError) as error:
        reason = str(error)
    raise InvalidArgument(f"text is no record: {reason}")


def write_document(document: Mapping[str, Any]) -> str:
    """Write a record as a text, without line breaks: a line of a file for `db_import`, for instance.

    Dates are kept to the millisecond. Raises `InvalidArgument` for what extended JSON has no form for.
    """
    check_mapping("document", document)
    try:
        return orjson.dumps(_to_extended("document", document, 0)).decode()
    except (orjson.JSONEncodeError, OverflowError) as error:
        reason = str(error)
    raise InvalidArgument(f"document cannot be written as JSON: {reason}")


def _parse_document(text: object) -> dict[str, Any]:
    if not isinstance(text, str):
        raise TypeError("JSON document in a text")
    found = orjson.loads(text)
    if not isinstance(found, dict):
        raise TypeError("JSON object in a text")
    return {key: _to_python(each) for key, each in found.items()}


def _parse_documents(texts: object) -> list[dict[str, Any]]:
    if not isinstance(texts, list):
        raise TypeError("list of JSON documents in texts")
    return [_parse_document(text) for text in texts]


def _write_documents(documents: Iterable[Mapping[str, Any]]) -> list[str]:
    return [write_document(each) for each in documents]


DOCUMENTS_FORMAT: Final = WireFormat("JSON documents in texts", _write_documents, _parse_documents, splittable=True)


def _to_python(value: object) -> object:
    if isinstance(value, list):
        return [_to_python(each) for each in value]
    if not isinstance(value, dict):
        return value
    if any(key.startswith("$") for key in value):
        return _from_extended(value)
    return {key: _to_python(each) for key, each in value.items()}


def _from_extended(wrapper: dict[str, Any]) -> object:
    """Read one of the ``$`` forms; one that is not known, or not well-formed, stays as it is."""
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
    return _EPOCH + milliseconds * _MILLISECOND


def _to_bytes(wrapper: dict[str, Any]) -> bytes:
    inner = wrapper["$binary"]
    return base64.b64decode(_require_str(inner["base64"] if isinstance(inner, dict) else inner), validate=True)


def _to_timestamp(wrapper: dict[str, Any]) -> Timestamp:
    return Timestamp(_require_int(wrapper["$timestamp"]["t"]), _require_int(wrapper["$timestamp"]["i"]))


_DECODERS: Final[Mapping[frozenset[str], Callable[[dict[str, Any]], object]]] = {
    frozenset({"$date"}): _to_datetime,
    frozenset({"$oid"}): lambda form: _require_str(form["$oid"]),
    frozenset({"$numberInt"}): lambda form: int(_require_str(form["$numberInt"])),
    frozenset({"$numberLong"}): lambda form: int(_require_str(form["$numberLong"])),
    frozenset({"$numberDouble"}): lambda form: float(_require_str(form["$numberDouble"])),
    frozenset({"$numberDecimal"}): lambda form: Decimal(_require_str(form["$numberDecimal"])),
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
            raise InvalidArgument(f"{name} holds what extended JSON has no form for: {type(value).__name__}")


def _nested_to_extended(name: str, value: Mapping[object, object] | Sequence[object], depth: int) -> object:
    if depth > MAX_DEPTH:
        raise InvalidArgument(f"{name} is nested deeper than {MAX_DEPTH}")
    if isinstance(value, Mapping):
        return {_check_key(name, key): _to_extended(name, each, depth) for key, each in value.items()}
    return [_to_extended(name, each, depth) for each in value]


_NON_FINITE_NAMES: Final = {float("inf"): "Infinity", float("-inf"): "-Infinity"}


def _int_to_extended(name: str, value: int) -> object:
    if abs(value) <= MAX_SAFE_INTEGER:
        return int(value)
    if not -_INT64_LIMIT <= value < _INT64_LIMIT:
        raise InvalidArgument(f"{name} holds a number beyond 64 bits: {value!r}")
    return {"$numberLong": str(value)}


def _format_date(name: str, value: datetime) -> str:
    if value.utcoffset() is None:
        raise InvalidArgument(f"{name} holds a time without a zone: {value!r}")
    return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _check_key(name: str, key: object) -> str:
    if not isinstance(key, str) or key.startswith("$"):
        raise InvalidArgument(f"{name} has a key that is no field's name: {key!r}")
    return key
