"""Field metadata: how a field is written in JSON, where that differs from Python.

Attribute names are regular in Python. On the wire they differ between the platform's families of calls, and some are
misspelt. The functions return attrs metadata, which can be combined with ``|``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Decimal
from functools import cache
from typing import Any, Final

import attrs
import orjson

ALIASES: Final = "wxtcb.aliases"
INTERNED: Final = "wxtcb.interned"
SALVAGE: Final = "wxtcb.salvage"
WIRE_NAME: Final = "wxtcb.wire_name"
WIRE_FORMAT: Final = "wxtcb.wire_format"

Metadata = dict[str, object]


@attrs.frozen
class WireFormat:
    """A representation of a value in JSON that differs from the usual one, for instance a number in a string.

    `encode` takes and returns what JSON can contain; `decode` is its inverse. `decode` raises `TypeError` for a value
    that is not in this format, or `ValueError` for one that cannot be decoded. `splittable` is True if `decode` also
    accepts a part of a list, so that a long list can be decoded in slices. A value of the type `unchanged` is not
    decoded at all, which is faster.
    """

    name: str
    # The types of both sides are those of the field, which attrs metadata cannot carry.
    encode: Callable[[Any], object]
    decode: Callable[[Any], object]
    splittable: bool = attrs.field(default=False, kw_only=True)
    unchanged: type | None = attrs.field(default=None, kw_only=True)


def wire_name(name: str) -> Metadata:
    """Return metadata for a field that has another name in JSON."""
    return {WIRE_NAME: name}


def aliases(*names: str) -> Metadata:
    """Return metadata for a reply field that the platform sometimes sends under other names."""
    return {ALIASES: names}


def interned() -> Metadata:
    """Return metadata for a string that many entries of a list share, so that it is stored in memory once."""
    return {INTERNED: True}


def salvage(sibling: str, recover: Callable[[object, str], tuple[object, object]]) -> Metadata:
    """Return metadata for a list of which an unreadable entry must not hide the others.

    *recover* gets the JSON of such an entry and the reason. It returns what stands for the entry in the list, or None,
    and what reports it in the field *sibling*. A list of which nothing is readable is an error all the same.
    """
    return {SALVAGE: (sibling, recover)}


def wire_format(fmt: WireFormat) -> Metadata:
    """Return metadata for a field whose value has another format in JSON."""
    return {WIRE_FORMAT: fmt}


def wire_name_of(field: attrs.Attribute[Any]) -> str:
    """Return the name of a field in JSON."""
    return str(field.metadata.get(WIRE_NAME, field.name))


@attrs.frozen
class WireField:
    """The name and the format of an attribute in JSON."""

    attribute: str
    wire_name: str
    wire_format: WireFormat | None


@cache
def wire_fields_of(cls: type[attrs.AttrsInstance]) -> tuple[WireField, ...]:
    """Return the name and the format in JSON of every field of *cls*."""
    return tuple(
        WireField(field.name, wire_name_of(field), field.metadata.get(WIRE_FORMAT)) for field in attrs.fields(cls)
    )


@attrs.frozen
class Encoded:
    """A value together with the format in which `codec` writes it."""

    # Hidden in the repr, because the value may contain secrets that were revealed already.
    value: object = attrs.field(repr=False)
    wire_format: WireFormat


def wire_fields(value: attrs.AttrsInstance) -> dict[str, object]:
    """Return the fields of *value* by their names in JSON, for use in a request body."""
    fields = {}
    for field in wire_fields_of(type(value)):
        item = getattr(value, field.attribute)
        fields[field.wire_name] = (
            item if item is None or field.wire_format is None else Encoded(item, field.wire_format)
        )
    return fields


def _number_to_string(value: float) -> str:
    """Write a number in full, since the platform does not read exponents."""
    # Decimal takes over the digits of repr(). Formatting the float itself would round its exact binary value again.
    return f"{Decimal(str(value)):f}"


def _string_to_number(value: object) -> float:
    if not isinstance(value, str):
        raise TypeError("number in a string")
    number = float(value)
    # `float` also accepts "nan", "inf" and "1_000", which are not numbers in JSON.
    if not math.isfinite(number) or "_" in value:
        raise ValueError("not a number in JSON")
    # "8" becomes an int, so that a field of type int accepts it.
    return int(value) if value.lstrip("-").isdecimal() else number


def _string_to_json(value: object) -> object:
    if not isinstance(value, str):
        raise TypeError("JSON in a string")
    # The platform sends an empty string where there is no object.
    return orjson.loads(value) if value.strip() else None


def _id_to_string(value: object) -> object:
    # bool is a subclass of int, but no id.
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise TypeError("string or integer")
    return str(value)


ID_AS_STRING: Final = WireFormat("string or integer", str, _id_to_string, unchanged=str)
NUMBER_IN_STRING: Final = WireFormat("number in a string", _number_to_string, _string_to_number)
JSON_IN_STRING: Final = WireFormat("JSON in a string", lambda value: orjson.dumps(value).decode(), _string_to_json)
