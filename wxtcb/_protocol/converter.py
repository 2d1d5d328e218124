"""JSON to attrs classes: the one cattrs converter, and how much of a reply is read before others get a turn.

Values are read strictly where it matters (a null or a number is no text, a bool no number) and leniently where the
platform may grow (unknown fields are ignored, a null where there is a default is the default).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import cache
from sys import intern
from types import NoneType
from typing import Any, Final, cast, get_args, get_origin

import attrs
import cattrs
from cattrs.errors import (
    AttributeValidationNote,
    ClassValidationError,
    IterableValidationError,
    IterableValidationNote,
)
from cattrs.gen import make_dict_structure_fn, override
from cattrs.v import format_exception

from wxtcb._protocol.fields import ALIASES, INTERNED, WIRE_FORMAT, WIRE_NAME, WireFormat, wire_name_of
from wxtcb.secret import Secret

StructureHook = Callable[[Any, Any], Any]

SLICE_SIZE: Final = 250

_MAX_ENTRY_ERRORS: Final = 10
_STRINGS_PER_SLICE: Final = 10
_make_iterable_error: Final = cast("Callable[[str, list[Exception], Any], Exception]", IterableValidationError)


@attrs.frozen(eq=False)
class _Prestructured:
    """What was read ahead out of a list of texts."""

    value: tuple[object, ...]


class WrongType(TypeError):
    """A value is not of the kind that it should be, whose name is the message."""


def describe_error(error: BaseException, expected_type: type | None) -> str:
    """Say why a value cannot be read, without quoting it."""
    return (
        f"invalid value, expected {error}" if isinstance(error, WrongType) else format_exception(error, expected_type)
    )


def structure_lists_in_slices(cls: type[attrs.AttrsInstance], fields: dict[str, Any]) -> Iterator[int]:
    """Read the lists in *fields*, the JSON of a *cls*, in place: what reads the whole has little left to do.

    Stops for a breath after at most `SLICE_SIZE` entries, and tells how many it has just read. An entry that cannot be read
    is left as it is, with those around it, to be refused by its place when the whole is read.
    """
    for name, kind, many in _nested_fields(cls):
        value = fields.get(name)
        if many and isinstance(value, list):
            yield from _structure_entries(kind, value)
        elif isinstance(value, dict):
            yield from structure_lists_in_slices(kind, value)
    for name, kind, read in _sliceable_fields(cls):
        value = fields.get(name)
        if isinstance(value, list):
            yield from _structure_string_list(read, kind, fields, name)


def _structure_string_list(hook: StructureHook, list_type: Any, fields: dict[str, Any], name: str) -> Iterator[int]:
    """Read a list of texts, a few at a time, for each may be large: so few count as much as a whole slice."""
    entries, found = fields[name], list[object]()
    for start in range(0, len(entries), _STRINGS_PER_SLICE):
        with suppress(Exception):
            found += hook(entries[start : start + _STRINGS_PER_SLICE], list_type)
        yield SLICE_SIZE
    if len(found) == len(entries):
        fields[name] = _Prestructured(tuple(found))


def _structure_entries(entry_type: type[attrs.AttrsInstance], entries: list[Any]) -> Iterator[int]:
    read, deeper = structure_hook(entry_type), bool(_nested_fields(entry_type))
    for start in range(0, len(entries), SLICE_SIZE):
        part = entries[start : start + SLICE_SIZE]
        for entry in part if deeper else ():
            if isinstance(entry, dict):
                yield from structure_lists_in_slices(entry_type, entry)
        with suppress(Exception):
            entries[start : start + SLICE_SIZE] = [read(entry, entry_type) for entry in part]
        yield len(part)


@cache
def _nested_fields(cls: type[attrs.AttrsInstance]) -> tuple[tuple[str, type[attrs.AttrsInstance], bool], ...]:
    """Return the fields of *cls* that hold objects: a name in JSON, the class, and whether there may be many."""
    attrs.resolve_types(cls)
    found = []
    for field in attrs.fields(cls):
        if WIRE_FORMAT in field.metadata:
            continue
        for kind in get_args(field.type) if _accepts_none(field.type) else (field.type,):
            entry = get_args(kind)[0] if _is_sequence(kind) else kind
            if attrs.has(entry):
                found += [(name, entry, entry is not kind) for name in _wire_names(field)]
    return tuple(found)


def _wire_names(field: attrs.Attribute[Any]) -> tuple[str, ...]:
    """Return the names that a field may have in JSON, the right one first."""
    return (wire_name_of(field), *field.metadata.get(ALIASES, ()))


@cache
def _sliceable_fields(cls: type[attrs.AttrsInstance]) -> tuple[tuple[str, Any, StructureHook], ...]:
    """Return the fields of *cls* that hold lists of texts to be read: the name in JSON, the type, and what reads it."""
    attrs.resolve_types(cls)
    found = [(field, field.metadata.get(WIRE_FORMAT)) for field in attrs.fields(cls)]
    return tuple(
        (wire_name_of(field), field.type, _wire_format_hook(form, field.type, _converter))
        for field, form in found
        if form is not None and form.splittable
    )


def _accepts_none(type_: Any) -> bool:
    return NoneType in get_args(type_)


def _exact_type_hook(*accepted: type) -> StructureHook:
    def read(value: object, _: object) -> object:
        if type(value) in accepted:
            return value
        raise TypeError(accepted[0].__name__)

    return read


def _structure_secret(value: object, _: object) -> Secret:
    if isinstance(value, str) and value:
        return Secret(value)
    raise TypeError("str")


def _structure_attrs(cls: type[attrs.AttrsInstance], converter: cattrs.Converter) -> StructureHook:
    attrs.resolve_types(cls)
    fields = attrs.fields(cls)
    hooks: dict[str, Any] = {
        field.name: _field_override(field, converter) for field in fields if _needs_override(field)
    }
    fill = make_dict_structure_fn(cls, converter, **hooks)
    spelled = [(field.name, *_wire_names(field)) for field in fields if ALIASES in field.metadata]
    dropped = {wire_name_of(field) for field in fields if _treats_null_as_missing(field)}
    renamed = {field.name: field.metadata[WIRE_NAME] for field in fields if WIRE_NAME in field.metadata}

    def read(value: Any, kind: Any) -> object:
        if not isinstance(value, dict):
            if isinstance(value, cls):
                return value  # it was read ahead
            raise TypeError("object")
        if dropped and None in value.values():
            value = {name: each for name, each in value.items() if each is not None or name not in dropped}
        names = renamed
        for field, name, *others in spelled:
            if not value.get(name) and (found := _first_non_empty(value, name, others)) != name:
                value, names = {**value, name: value[found]}, {**names, field: found}
        try:
            return fill(value, kind)
        except ClassValidationError as error:
            _use_wire_names(error, names)
            raise

    return read


def _use_wire_names(error: ClassValidationError, names: Mapping[str, str]) -> None:
    """Let *error* name the fields as they stand in JSON."""
    for note in (note for each in error.exceptions for note in getattr(each, "__notes__", ())):
        if isinstance(note, AttributeValidationNote):
            note.name = names.get(note.name, note.name)


def _needs_override(field: attrs.Attribute[Any]) -> bool:
    return not field.metadata.keys().isdisjoint((INTERNED, WIRE_FORMAT, WIRE_NAME))


def _field_override(field: attrs.Attribute[Any], converter: cattrs.Converter) -> Any:
    """Tell cattrs how a field is read that differs from Python in JSON."""
    name = field.metadata.get(WIRE_NAME)
    if form := field.metadata.get(WIRE_FORMAT):
        return override(rename=name, struct_hook=_wire_format_hook(form, field.type, converter))
    if INTERNED in field.metadata:
        return override(rename=name, struct_hook=_interning_hook(field.type, converter))
    return override(rename=name)


def _wire_format_hook(wire_format: WireFormat, type_: Any, converter: cattrs.Converter) -> StructureHook:
    """Read a value out of its form, and then as JSON of that kind; a null that the kind takes stands for itself."""
    inner = next(each for each in get_args(type_) if each is not NoneType) if _accepts_none(type_) else type_
    fill = converter.get_structure_hook(inner)

    def read(value: Any, _: Any) -> object:
        if isinstance(value, _Prestructured):
            return value.value
        try:
            found = None if value is None else wire_format.decode(value)
        except TypeError:
            raise WrongType(wire_format.name) from None
        return None if found is None and inner is not type_ else fill(found, inner)

    return read


def _treats_null_as_missing(field: attrs.Attribute[Any]) -> bool:
    """Tell whether a null counts as missing and does not become None by itself, which is quicker."""
    if field.default is attrs.NOTHING:
        return False
    return field.default is not None or not _accepts_none(field.type) or ALIASES in field.metadata


def _interning_hook(type_: Any, converter: cattrs.Converter) -> StructureHook:
    fill = converter.get_structure_hook(type_)
    return lambda value, _: intern(value) if type(value) is str else fill(value, type_)


def _first_non_empty(fields: dict[str, object], name: str, others: Iterable[str]) -> str:
    """Return the spelling of *name* under which there is something: a failure may hide beside an empty list.

    Where there is nothing under any, it is the first that is there.
    """
    known = [each for each in (name, *others) if fields.get(each) is not None]
    return max(known, key=lambda each: bool(fields[each]), default=name)


def _is_sequence(type_: Any) -> bool:
    return get_origin(type_) in (tuple, list)


def _structure_sequence(type_: Any, converter: cattrs.Converter) -> StructureHook:
    make, entry_kind = get_origin(type_), get_args(type_)[0]
    fill = converter.get_structure_hook(entry_kind)

    def read(value: Any, _: Any) -> object:
        if not isinstance(value, list):
            raise TypeError("array")
        made, errors = [], []
        for number, entry in enumerate(value):
            try:
                made.append(fill(entry, entry_kind))
            except Exception as error:
                error.add_note(IterableValidationNote(f"entry {number}", number, entry_kind))
                errors.append(error)
                if len(errors) == _MAX_ENTRY_ERRORS:
                    break
        if errors:
            raise _make_iterable_error("while reading entries", errors, type_)
        return make(made)

    return read


def _make_converter() -> cattrs.Converter:
    made = cattrs.Converter()
    for kinds in ((str,), (int,), (bool,), (float, int)):
        made.register_structure_hook(kinds[0], _exact_type_hook(*kinds))
        made.register_structure_hook(kinds[0] | None, _exact_type_hook(*kinds, NoneType))
    made.register_structure_hook_factory(attrs.has, _structure_attrs)
    made.register_structure_hook_factory(_is_sequence, _structure_sequence)
    made.register_structure_hook_func(lambda kind: kind is Secret, _structure_secret)
    made.register_structure_hook(str | Secret, _exact_type_hook(str))
    return made


_converter: Final = _make_converter()

structure_hook: Final[Callable[[Any], StructureHook]] = cache(_converter.get_structure_hook)
"""Return what makes a value of the given type out of JSON; it is called with the JSON and that type.

Raises `cattrs.StructureHandlerNotFoundError` for a class with fields that no JSON value can become.
"""
