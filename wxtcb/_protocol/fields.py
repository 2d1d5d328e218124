"""How a field stands in JSON where that differs from Python: attrs metadata, to be joined with ``|``.

Names in Python are regular; the platform's change between families and are misspelt here and there.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any, Final

import attrs
import orjson

ALIASES: Final = "wxtcb.spellings"
INTERNED: Final = "wxtcb.repeats"
WIRE_NAME: Final = "wxtcb.wire"
WIRE_FORMAT: Final = "wxtcb.form"

Metadata = dict[str, object]


@attrs.frozen
class WireFormat:
    """Another JSON form of a value: `encode` makes it of what JSON would hold, `decode` takes it back.

    `decode` raises `TypeError`, with the name of the form, or `ValueError` for what is not in this form. Where it reads a
    list, `splittable` says that it may be given a part of it as well.
    """

    name: str
    encode: Callable[[Any], object]
    decode: Callable[[Any], object]
    splittable: bool = attrs.field(default=False, kw_only=True)


def wire_name(name: str) -> Metadata:
    """Return attrs metadata for a field that has another name in JSON."""
    return {WIRE_NAME: name}


def aliases(*names: str) -> Metadata:
    """Return attrs metadata for a reply field that the platform writes in other ways too."""
    return {ALIASES: names}


def interned() -> Metadata:
    """Return attrs metadata for a text that many entries of a list have in common: it is kept in memory once."""
    return {INTERNED: True}


def wire_format(fmt: WireFormat) -> Metadata:
    """Return attrs metadata for a field whose value has another form in JSON."""
    return {WIRE_FORMAT: fmt}


@attrs.frozen
class WireField:
    """Where a field stands in JSON, and in which form."""

    attribute: str
    wire_name: str
    wire_format: WireFormat | None


@cache
def wire_fields_of(cls: type[attrs.AttrsInstance]) -> tuple[WireField, ...]:
    """Return the places of all fields of *cls*."""
    return tuple(WireField(each.name, wire_name_of(each), each.metadata.get(WIRE_FORMAT)) for each in attrs.fields(cls))


@attrs.frozen
class Encoded:
    """A value that is to be written in another form; JSON has not seen it yet."""

    value: object = attrs.field(repr=False)
    wire_format: WireFormat


def wire_fields(value: attrs.AttrsInstance) -> dict[str, object]:
    """Return the fields of *value* by their names in JSON, so that they can stand in a body among others."""
    fields = {}
    for place in wire_fields_of(type(value)):
        entry = getattr(value, place.attribute)
        fields[place.wire_name] = (
            entry if entry is None or place.wire_format is None else Encoded(entry, place.wire_format)
        )
    return fields


def wire_name_of(field: attrs.Attribute[Any]) -> str:
    """Return the name of a field in JSON."""
    return str(field.metadata.get(WIRE_NAME, field.name))


def _number_to_string(value: float) -> str:
    """Write a number as Python does, but for the exponent."""
    mantissa, _, exponent = str(value).partition("e")
    places = len(mantissa.partition(".")[2]) - int(exponent or 0)
    return f"{value:.{max(0, places)}f}" if exponent else mantissa


def _string_to_number(value: object) -> float:
    if not isinstance(value, str):
        raise TypeError("number in a text")
    number = float(value)
    if not math.isfinite(number) or "_" in value:
        raise ValueError("Python reads more as a number than JSON does")
    return int(value) if value.lstrip("-").isdecimal() else number


def _string_to_json(value: object) -> object:
    if not isinstance(value, str):
        raise TypeError("JSON in a text")
    return orjson.loads(value) if value.strip() else None


NUMBER_IN_STRING: Final = WireFormat("number in a text", _number_to_string, _string_to_number)
JSON_IN_STRING: Final = WireFormat("JSON in a text", lambda value: orjson.dumps(value).decode(), _string_to_json)
