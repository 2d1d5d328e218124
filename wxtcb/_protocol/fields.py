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

SPELLINGS: Final = "wxtcb.spellings"
REPEATS: Final = "wxtcb.repeats"
WIRE: Final = "wxtcb.wire"
FORM: Final = "wxtcb.form"

Metadata = dict[str, object]


@attrs.frozen
class Form:
    """Another JSON form of a value: `write` makes it of what JSON would hold, `read` takes it back.

    `read` raises `TypeError`, with the name of the form, or `ValueError` for what is not in this form. Where it reads a
    list, `in_parts` says that it may be given a part of it as well.
    """

    name: str
    write: Callable[[Any], object]
    read: Callable[[Any], object]
    in_parts: bool = attrs.field(default=False, kw_only=True)


def wire(name: str) -> Metadata:
    """Return attrs metadata for a field that has another name in JSON."""
    return {WIRE: name}


def also_spelled(*names: str) -> Metadata:
    """Return attrs metadata for a reply field that the platform writes in other ways too."""
    return {SPELLINGS: names}


def repeats() -> Metadata:
    """Return attrs metadata for a text that many entries of a list have in common: it is kept in memory once."""
    return {REPEATS: True}


def written_as(form: Form) -> Metadata:
    """Return attrs metadata for a field whose value has another form in JSON."""
    return {FORM: form}


@attrs.frozen
class Place:
    """Where a field stands in JSON, and in which form."""

    field: str
    name: str
    form: Form | None


@cache
def places_of(cls: type[attrs.AttrsInstance]) -> tuple[Place, ...]:
    """Return the places of all fields of *cls*."""
    return tuple(Place(each.name, wire_name(each), each.metadata.get(FORM)) for each in attrs.fields(cls))


@attrs.frozen
class Formed:
    """A value that is to be written in another form; JSON has not seen it yet."""

    value: object = attrs.field(repr=False)
    form: Form


def fields_of(value: attrs.AttrsInstance) -> dict[str, object]:
    """Return the fields of *value* by their names in JSON, so that they can stand in a body among others."""
    fields = {}
    for place in places_of(type(value)):
        entry = getattr(value, place.field)
        fields[place.name] = entry if entry is None or place.form is None else Formed(entry, place.form)
    return fields


def wire_name(field: attrs.Attribute[Any]) -> str:
    """Return the name of a field in JSON."""
    return str(field.metadata.get(WIRE, field.name))


def _number_to_text(value: float) -> str:
    """Write a number as Python does, but for the exponent."""
    mantissa, _, exponent = str(value).partition("e")
    places = len(mantissa.partition(".")[2]) - int(exponent or 0)
    return f"{value:.{max(0, places)}f}" if exponent else mantissa


def _text_to_number(value: object) -> float:
    if not isinstance(value, str):
        raise TypeError("number in a text")
    number = float(value)
    if not math.isfinite(number) or "_" in value:
        raise ValueError("Python reads more as a number than JSON does")
    return int(value) if value.lstrip("-").isdecimal() else number


def _text_to_json(value: object) -> object:
    if not isinstance(value, str):
        raise TypeError("JSON in a text")
    return orjson.loads(value) if value.strip() else None


NUMBER_TEXT: Final = Form("number in a text", _number_to_text, _text_to_number)
JSON_TEXT: Final = Form("JSON in a text", lambda value: orjson.dumps(value).decode(), _text_to_json)
