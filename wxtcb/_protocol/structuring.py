"""Structuring, as cattrs calls it: parsed JSON to attrs classes, at once or in slices. `codec` handles the bytes.

The converter is strict where a wrong value would do harm: a null or a number is not a string, a bool is not a number,
a string is not a list. It is tolerant where the platform may grow: unknown fields are ignored. A null stands for the
default of a field that has one, and for an empty list: a Go program writes an empty list so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import cache, partial
from sys import intern
from types import NoneType, UnionType
from typing import Any, Final, Literal, cast, get_args, get_origin

import attrs
import cattrs
from cattrs.errors import AttributeValidationNote, ClassValidationError, IterableValidationError, IterableValidationNote
from cattrs.gen import make_dict_structure_fn, override
from cattrs.v import format_exception

from wxtcb._protocol.fields import ALIASES, INTERNED, SALVAGE, WIRE_FORMAT, WIRE_NAME, WireFormat, wire_name_of
from wxtcb.secret import Secret

# A function of a JSON value and its type, as cattrs defines it. Neither has a narrower type: a JSON value can be
# anything, and type forms such as `int | None` are not instances of `type`.
StructureHook = Callable[[Any, Any], Any]

# Entries of a list that are converted before other tasks run. 250 entries take about a millisecond.
SLICE_SIZE: Final = 250

# If the platform changes a field, ten entries say as much as ten thousand.
_MAX_ENTRY_ERRORS: Final = 10
# Odd entries of a list that are reported one by one.
_MAX_SALVAGED: Final = 100
# Strings with JSON inside may be large, so ten of them count as a whole slice.
_STRINGS_PER_SLICE: Final = 10
# The stub of cattrs declares no constructor for it.
_make_iterable_error: Final = cast("Callable[[str, list[Exception], Any], Exception]", IterableValidationError)


class WrongType(TypeError):
    """A value that is not in its wire format; the message is the name of the format."""


def describe_error(error: BaseException, expected_type: type | UnionType | None) -> str:
    """Return why a value cannot be converted, without quoting it; for `cattrs.transform_error`."""
    if isinstance(error, WrongType):
        return f"invalid value, expected {error}"
    if isinstance(error, TypeError) and isinstance(expected_type, UnionType):
        # cattrs takes the `__name__` of a type, which is "Union" for every union since Python 3.14.
        return f"invalid value for type, expected {expected_type}"
    return format_exception(error, cast("type | None", expected_type))


def make_converter(*, forbid_extra_keys: bool = False, detailed_validation: bool = True) -> cattrs.Converter:
    """Return a new strict converter for attrs classes with the metadata of `wxtcb._protocol.fields`.

    Hooks for further types can be registered on it. With *forbid_extra_keys* an unknown key is an error; a field found
    under one of its `aliases` is then an error too. Errors are cattrs' exception groups. `cattrs.transform_error` with
    `describe_error` turns them into lines such as "required field missing @ $.info_list[0].env", which quote no value.
    Without *detailed_validation*, which is faster, the first error of an object is raised by itself.
    """
    converter = cattrs.Converter(detailed_validation=detailed_validation)
    # cattrs itself would convert: str(5), int("5"), bool("false"). An int is accepted for a float, because JSON does
    # not distinguish 1 from 1.0.
    for accepted in ((str,), (int,), (bool,), (float, int)):
        converter.register_structure_hook(accepted[0], _exact_type_hook(*accepted))
        converter.register_structure_hook(accepted[0] | None, _exact_type_hook(*accepted, NoneType))
    structure_attrs = partial(_attrs_hook, forbid_extra_keys=forbid_extra_keys)
    converter.register_structure_hook_factory(attrs.has, structure_attrs)
    converter.register_structure_hook_factory(_is_sequence, _sequence_hook)
    # A `Literal` lists the documented values; the platform may send others of the same type.
    converter.register_structure_hook_factory(
        lambda type_: _is_literal(type_) or (_accepts_none(type_) and any(map(_is_literal, get_args(type_)))),
        lambda type_: _exact_type_hook(*dict.fromkeys(map(type, _literal_values(type_)))),
    )
    converter.register_structure_hook_func(lambda type_: type_ is Secret, _structure_secret)
    converter.register_structure_hook_func(lambda type_: type_ == Mapping[str, Secret], _structure_variables)
    # An empty string in place of a signed URL means that there is none.
    converter.register_structure_hook(
        Secret | None, lambda value, _: None if value in (None, "") else _structure_secret(value, _)
    )
    return converter


def _exact_type_hook(*accepted: type) -> StructureHook:
    first = accepted[0]

    def structure(value: object, _: object) -> object:
        # The usual type is compared by itself, which is faster.
        if type(value) is first or type(value) in accepted:
            return value
        raise TypeError(first.__name__)

    return structure


def _structure_secret(value: object, _: object) -> Secret:
    if isinstance(value, str) and value:
        return Secret(value)
    raise TypeError("str")


def _is_literal(type_: Any) -> bool:
    return get_origin(type_) is Literal


def _literal_values(type_: Any) -> list[object]:
    """Return the values of a `Literal`, and of its union with None."""
    members = [type_] if _is_literal(type_) else get_args(type_)
    return [value for member in members for value in get_args(member) or (None,)]


def _structure_variables(value: object, _: object) -> dict[str, Secret]:
    # An environment variable may be empty, unlike a password.
    if isinstance(value, dict) and all(isinstance(text, str | Secret) for text in value.values()):
        return {name: Secret.of(text) for name, text in value.items()}
    raise TypeError("object of strings")


def _is_sequence(type_: Any) -> bool:
    return get_origin(type_) in (tuple, list)


def _sequence_hook(type_: Any, converter: cattrs.Converter) -> StructureHook:
    # Replaces cattrs' own hook, which accepts any iterable and collects the errors of all entries.
    build, entry_type = get_origin(type_), get_args(type_)[0]
    structure_entry = converter.get_structure_hook(entry_type)

    def structure(value: Any, _: Any) -> object:
        if not isinstance(value, list):
            raise TypeError("array")
        entries, errors = [], []
        for index, entry in enumerate(value):
            try:
                entries.append(structure_entry(entry, entry_type))
            except Exception as error:
                error.add_note(IterableValidationNote(f"entry {index}", index, entry_type))
                errors.append(error)
                if len(errors) == _MAX_ENTRY_ERRORS:
                    break
        if errors:
            raise _make_iterable_error("while structuring entries", errors, type_)
        return build(entries)

    return structure


def _attrs_hook(
    cls: type[attrs.AttrsInstance], converter: cattrs.Converter, *, forbid_extra_keys: bool
) -> StructureHook:
    attrs.resolve_types(cls)
    fields = attrs.fields(cls)
    # Annotated, because cattrs declares each keyword of `make_dict_structure_fn` with a type of its own.
    overrides: dict[str, Any] = {
        field.name: _field_override(field, converter)
        for field in fields
        if not field.metadata.keys().isdisjoint((INTERNED, WIRE_FORMAT, WIRE_NAME))
    }
    structure_fields = make_dict_structure_fn(cls, converter, _cattrs_forbid_extra_keys=forbid_extra_keys, **overrides)
    # Everything that depends on the class alone is computed here, once; `structure` runs for every object.
    aliased = [
        (field.name, wire_name_of(field), field.metadata[ALIASES]) for field in fields if ALIASES in field.metadata
    ]
    null_is_missing = {wire_name_of(field) for field in fields if _treats_null_as_missing(field)}
    null_is_empty = {wire_name_of(field) for field in fields if _is_required_list(field)}
    treats_null = bool(null_is_missing or null_is_empty)
    salvageable = [
        (wire_name_of(field), get_args(field.type)[0], *field.metadata[SALVAGE])
        for field in fields
        if SALVAGE in field.metadata
    ]
    renamed = {field.name: field.metadata[WIRE_NAME] for field in fields if WIRE_NAME in field.metadata}

    def structure(value: Any, type_: Any) -> object:
        if not isinstance(value, dict):
            if isinstance(value, cls):
                return value  # `structure_lists_in_slices` converted it already
            raise TypeError("object")
        if treats_null and None in value.values():
            value = {
                name: [] if item is None and name in null_is_empty else item
                for name, item in value.items()
                if item is not None or name not in null_is_missing
            }
        names = renamed
        for attribute, name, others in aliased:
            if not value.get(name) and (used := _first_non_empty(value, name, others)) != name:
                value, names = {**value, name: value[used]}, {**names, attribute: used}
        try:
            return structure_fields(value, type_)
        except ClassValidationError as error:
            if any(_salvage_entries(value, *each) for each in salvageable):
                return structure_fields(value, type_)
            _use_wire_names(error, names)
            raise

    return structure


def _is_required_list(field: attrs.Attribute[Any]) -> bool:
    return field.default is attrs.NOTHING and _is_sequence(field.type)


def _salvage_entries(
    fields: dict[str, Any],
    name: str,
    entry_type: type[attrs.AttrsInstance],
    sibling: str,
    recover: Callable[[object, str], tuple[object, object]],
) -> bool:
    """Replace the unreadable entries of the list *name* in *fields*, and report them under *sibling*.

    Returns False, and changes nothing, if that does not help: nothing of the list is readable, or all of it, or too
    many entries are not: then the platform has changed, and explaining each would take seconds.
    """
    if not isinstance(entries := fields.get(name), list):
        return False
    structure, kept, reports = structure_hook(entry_type), list[object](), list[object]()
    for index, entry in enumerate(entries):
        try:
            kept.append(structure(entry, entry_type))
        except Exception as error:
            reasons = cattrs.transform_error(error, path=f"$.{name}[{index}]", format_exception=describe_error)
            if len(reports) == _MAX_SALVAGED:
                return False
            substitute, report = recover(entry, "; ".join(reasons))
            kept += [] if substitute is None else [substitute]
            reports.append(report)
    if not reports or not kept:
        return False
    # In place: the caller structures the same object again, and entries that are structured already are taken over.
    fields[name], fields[sibling] = kept, reports
    return True


def _field_override(field: attrs.Attribute[Any], converter: cattrs.Converter) -> Any:
    """Return how cattrs structures a field with metadata."""
    name = field.metadata.get(WIRE_NAME)
    if fmt := field.metadata.get(WIRE_FORMAT):
        return override(rename=name, struct_hook=_wire_format_hook(fmt, field.type, converter))
    if INTERNED in field.metadata:
        structure = converter.get_structure_hook(field.type)
        return override(
            rename=name,
            struct_hook=lambda value, type_: intern(value) if type(value) is str else structure(value, type_),
        )
    return override(rename=name)


def _wire_format_hook(fmt: WireFormat, type_: Any, converter: cattrs.Converter) -> StructureHook:
    """Return a hook that decodes a value from its wire format and then structures the result as *type_*."""
    optional = _accepts_none(type_)
    inner = next(each for each in get_args(type_) if each is not NoneType) if optional else type_
    structure_decoded = converter.get_structure_hook(inner)

    def structure(value: Any, _: Any) -> object:
        if isinstance(value, _Prestructured):
            return value.value
        try:
            decoded = None if value is None else fmt.decode(value)
        except TypeError as error:
            raise WrongType(fmt.name) from error
        return None if decoded is None and optional else structure_decoded(decoded, inner)

    if (unchanged := fmt.unchanged) is not None:
        return lambda value, type_: value if type(value) is unchanged else structure(value, type_)
    return structure


def _use_wire_names(error: ClassValidationError, names: Mapping[str, str]) -> None:
    """Replace the attribute names in the notes of *error* by the names in JSON, which the caller sees in the reply."""
    for note in (note for each in error.exceptions for note in getattr(each, "__notes__", ())):
        if isinstance(note, AttributeValidationNote):
            note.name = names.get(note.name, note.name)


def _treats_null_as_missing(field: attrs.Attribute[Any]) -> bool:
    if field.default is attrs.NOTHING:
        return False
    # A null in a field whose default is None needs no special treatment, which is faster.
    return field.default is not None or not _accepts_none(field.type)


def _first_non_empty(fields: dict[str, object], name: str, others: Iterable[str]) -> str:
    """Return the first of *name* and *others* with a value that is not empty, else the first with any value."""
    # An empty list under one name may accompany a list of failures under another.
    present = [each for each in (name, *others) if fields.get(each) is not None]
    return max(present, key=lambda each: bool(fields[each]), default=name)


def _wire_names(field: attrs.Attribute[Any]) -> tuple[str, ...]:
    """Return the names that a field may have in JSON, the documented one first."""
    return (wire_name_of(field), *field.metadata.get(ALIASES, ()))


def _accepts_none(type_: Any) -> bool:
    return NoneType in get_args(type_)


_converter: Final = make_converter()

structure_hook: Final[Callable[[Any], StructureHook]] = cache(_converter.get_structure_hook)
"""Return the hook for a type: a function of a JSON value and that type.

Raises `cattrs.StructureHandlerNotFoundError` for a class with a field of a type that JSON cannot represent.
"""


@attrs.frozen(eq=False)
class _Prestructured:
    """The result of structuring a list of strings ahead of the object that contains it."""

    value: tuple[object, ...]


def structure_lists_in_slices(cls: type[attrs.AttrsInstance], fields: dict[str, Any]) -> Iterator[int]:
    """Structure the lists in *fields*, the JSON of a *cls*, in place and step by step.

    Yields after at most `SLICE_SIZE` entries, with their number, so that the caller can let other tasks run. Afterwards
    `structure_hook` has little left to do. A slice with an invalid entry is left unchanged: `structure_hook` then
    reports the entry with its index.
    """
    for name, nested, is_list in _nested_fields(cls):
        value = fields.get(name)
        if is_list and isinstance(value, list):
            yield from _structure_entries(nested, value)
        elif isinstance(value, dict):
            yield from structure_lists_in_slices(nested, value)
    for name, list_type, structure in _sliceable_fields(cls):
        value = fields.get(name)
        if isinstance(value, list):
            yield from _structure_string_list(structure, list_type, fields, name)


def _structure_entries(entry_type: type[attrs.AttrsInstance], entries: list[Any]) -> Iterator[int]:
    structure, has_nested = structure_hook(entry_type), bool(_nested_fields(entry_type))
    for start in range(0, len(entries), SLICE_SIZE):
        part = entries[start : start + SLICE_SIZE]
        for entry in part if has_nested else ():
            if isinstance(entry, dict):
                yield from structure_lists_in_slices(entry_type, entry)
        with suppress(Exception):
            entries[start : start + SLICE_SIZE] = [structure(entry, entry_type) for entry in part]
        yield len(part)


def _structure_string_list(
    structure: StructureHook, list_type: Any, fields: dict[str, Any], name: str
) -> Iterator[int]:
    strings, entries = fields[name], list[object]()
    for start in range(0, len(strings), _STRINGS_PER_SLICE):
        with suppress(Exception):
            entries += structure(strings[start : start + _STRINGS_PER_SLICE], list_type)
        yield SLICE_SIZE
    # Shorter if a slice failed. Then the strings stay, and are reported when the whole is structured.
    if len(entries) == len(strings):
        fields[name] = _Prestructured(tuple(entries))


@cache
def _nested_fields(cls: type[attrs.AttrsInstance]) -> tuple[tuple[str, type[attrs.AttrsInstance], bool], ...]:
    """Return the fields of *cls* that contain objects: the name in JSON, the class, and whether it is a list."""
    attrs.resolve_types(cls)
    nested = []
    for field in attrs.fields(cls):
        # In JSON such a field is a string, not an object.
        if WIRE_FORMAT in field.metadata:
            continue
        for type_ in get_args(field.type) if _accepts_none(field.type) else (field.type,):
            entry_type = get_args(type_)[0] if _is_sequence(type_) else type_
            if attrs.has(entry_type):
                nested += [(name, entry_type, entry_type is not type_) for name in _wire_names(field)]
    return tuple(nested)


@cache
def _sliceable_fields(cls: type[attrs.AttrsInstance]) -> tuple[tuple[str, Any, StructureHook], ...]:
    """Return the fields of *cls* whose wire format is splittable: the name in JSON, the type, and the hook."""
    attrs.resolve_types(cls)
    formats = [(field, field.metadata.get(WIRE_FORMAT)) for field in attrs.fields(cls)]
    return tuple(
        (wire_name_of(field), field.type, _wire_format_hook(fmt, field.type, _converter))
        for field, fmt in formats
        if fmt is not None and fmt.splittable
    )
