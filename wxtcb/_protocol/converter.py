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

from wxtcb._protocol.fields import FORM, REPEATS, SPELLINGS, WIRE, Form, wire_name
from wxtcb.secret import Secret

Reader = Callable[[Any, Any], Any]

SLICE: Final = 250

_ENOUGH: Final = 10
_FEW: Final = 10
_entries_refused: Final = cast("Callable[[str, list[Exception], Any], Exception]", IterableValidationError)


@attrs.frozen(eq=False)
class _Ready:
    """What was read ahead out of a list of texts."""

    value: tuple[object, ...]


class Misfit(TypeError):
    """A value is not of the kind that it should be, whose name is the message."""


def why(error: BaseException, kind: type | None) -> str:
    """Say why a value cannot be read, without quoting it."""
    return f"invalid value, expected {error}" if isinstance(error, Misfit) else format_exception(error, kind)


def read_ahead(cls: type[attrs.AttrsInstance], fields: dict[str, Any]) -> Iterator[int]:
    """Read the lists in *fields*, the JSON of a *cls*, in place: what reads the whole has little left to do.

    Stops for a breath after at most `SLICE` entries, and tells how many it has just read. An entry that cannot be read
    is left as it is, with those around it, to be refused by its place when the whole is read.
    """
    for name, kind, many in _branches(cls):
        value = fields.get(name)
        if many and isinstance(value, list):
            yield from _read_entries(kind, value)
        elif isinstance(value, dict):
            yield from read_ahead(kind, value)
    for name, kind, read in _texts(cls):
        value = fields.get(name)
        if isinstance(value, list):
            yield from _read_texts(read, kind, fields, name)


def _read_texts(read: Reader, kind: Any, fields: dict[str, Any], name: str) -> Iterator[int]:
    """Read a list of texts, a few at a time, for each may be large: so few count as much as a whole slice."""
    entries, found = fields[name], list[object]()
    for start in range(0, len(entries), _FEW):
        with suppress(Exception):
            found += read(entries[start : start + _FEW], kind)
        yield SLICE
    if len(found) == len(entries):
        fields[name] = _Ready(tuple(found))


def _read_entries(kind: type[attrs.AttrsInstance], entries: list[Any]) -> Iterator[int]:
    read, deeper = reader_of(kind), bool(_branches(kind))
    for start in range(0, len(entries), SLICE):
        part = entries[start : start + SLICE]
        for entry in part if deeper else ():
            if isinstance(entry, dict):
                yield from read_ahead(kind, entry)
        with suppress(Exception):
            entries[start : start + SLICE] = [read(entry, kind) for entry in part]
        yield len(part)


@cache
def _branches(cls: type[attrs.AttrsInstance]) -> tuple[tuple[str, type[attrs.AttrsInstance], bool], ...]:
    """Return the fields of *cls* that hold objects: a name in JSON, the class, and whether there may be many."""
    attrs.resolve_types(cls)
    found = []
    for field in attrs.fields(cls):
        if FORM in field.metadata:
            continue
        for kind in get_args(field.type) if _takes_none(field.type) else (field.type,):
            entry = get_args(kind)[0] if _is_sequence(kind) else kind
            if attrs.has(entry):
                found += [(name, entry, entry is not kind) for name in _names_of(field)]
    return tuple(found)


def _names_of(field: attrs.Attribute[Any]) -> tuple[str, ...]:
    """Return the names that a field may have in JSON, the right one first."""
    return (wire_name(field), *field.metadata.get(SPELLINGS, ()))


@cache
def _texts(cls: type[attrs.AttrsInstance]) -> tuple[tuple[str, Any, Reader], ...]:
    """Return the fields of *cls* that hold lists of texts to be read: the name in JSON, the type, and what reads it."""
    attrs.resolve_types(cls)
    found = [(field, field.metadata.get(FORM)) for field in attrs.fields(cls)]
    return tuple(
        (wire_name(field), field.type, _from_form(form, field.type, _converter))
        for field, form in found
        if form is not None and form.in_parts
    )


def _takes_none(kind: Any) -> bool:
    return NoneType in get_args(kind)


def _exactly(*accepted: type) -> Reader:
    def read(value: object, _: object) -> object:
        if type(value) in accepted:
            return value
        raise TypeError(accepted[0].__name__)

    return read


def _text_to_secret(value: object, _: object) -> Secret:
    if isinstance(value, str) and value:
        return Secret(value)
    raise TypeError("str")


def _structure_attrs(cls: type[attrs.AttrsInstance], converter: cattrs.Converter) -> Reader:
    attrs.resolve_types(cls)
    fields = attrs.fields(cls)
    hooks: dict[str, Any] = {field.name: _override(field, converter) for field in fields if _is_special(field)}
    fill = make_dict_structure_fn(cls, converter, **hooks)
    spelled = [(field.name, *_names_of(field)) for field in fields if SPELLINGS in field.metadata]
    dropped = {wire_name(field) for field in fields if _drops_null(field)}
    renamed = {field.name: field.metadata[WIRE] for field in fields if WIRE in field.metadata}

    def read(value: Any, kind: Any) -> object:
        if not isinstance(value, dict):
            if isinstance(value, cls):
                return value  # it was read ahead
            raise TypeError("object")
        if dropped and None in value.values():
            value = {name: each for name, each in value.items() if each is not None or name not in dropped}
        names = renamed
        for field, name, *others in spelled:
            if not value.get(name) and (found := _fullest(value, name, others)) != name:
                value, names = {**value, name: value[found]}, {**names, field: found}
        try:
            return fill(value, kind)
        except ClassValidationError as error:
            _rename(error, names)
            raise

    return read


def _rename(error: ClassValidationError, names: Mapping[str, str]) -> None:
    """Let *error* name the fields as they stand in JSON."""
    for note in (note for each in error.exceptions for note in getattr(each, "__notes__", ())):
        if isinstance(note, AttributeValidationNote):
            note.name = names.get(note.name, note.name)


def _is_special(field: attrs.Attribute[Any]) -> bool:
    return not field.metadata.keys().isdisjoint((REPEATS, FORM, WIRE))


def _override(field: attrs.Attribute[Any], converter: cattrs.Converter) -> Any:
    """Tell cattrs how a field is read that differs from Python in JSON."""
    name = field.metadata.get(WIRE)
    if form := field.metadata.get(FORM):
        return override(rename=name, struct_hook=_from_form(form, field.type, converter))
    if REPEATS in field.metadata:
        return override(rename=name, struct_hook=_kept_once(field.type, converter))
    return override(rename=name)


def _from_form(form: Form, kind: Any, converter: cattrs.Converter) -> Reader:
    """Read a value out of its form, and then as JSON of that kind; a null that the kind takes stands for itself."""
    inner = next(each for each in get_args(kind) if each is not NoneType) if _takes_none(kind) else kind
    fill = converter.get_structure_hook(inner)

    def read(value: Any, _: Any) -> object:
        if isinstance(value, _Ready):
            return value.value
        try:
            found = None if value is None else form.read(value)
        except TypeError:
            raise Misfit(form.name) from None
        return None if found is None and inner is not kind else fill(found, inner)

    return read


def _drops_null(field: attrs.Attribute[Any]) -> bool:
    """Tell whether a null counts as missing and does not become None by itself, which is quicker."""
    if field.default is attrs.NOTHING:
        return False
    return field.default is not None or not _takes_none(field.type) or SPELLINGS in field.metadata


def _kept_once(kind: Any, converter: cattrs.Converter) -> Reader:
    fill = converter.get_structure_hook(kind)
    return lambda value, _: intern(value) if type(value) is str else fill(value, kind)


def _fullest(fields: dict[str, object], name: str, others: Iterable[str]) -> str:
    """Return the spelling of *name* under which there is something: a failure may hide beside an empty list.

    Where there is nothing under any, it is the first that is there.
    """
    known = [each for each in (name, *others) if fields.get(each) is not None]
    return max(known, key=lambda each: bool(fields[each]), default=name)


def _is_sequence(kind: Any) -> bool:
    return get_origin(kind) in (tuple, list)


def _structure_sequence(kind: Any, converter: cattrs.Converter) -> Reader:
    make, entry_kind = get_origin(kind), get_args(kind)[0]
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
                if len(errors) == _ENOUGH:
                    break
        if errors:
            raise _entries_refused("while reading entries", errors, kind)
        return make(made)

    return read


def _make_converter() -> cattrs.Converter:
    made = cattrs.Converter()
    for kinds in ((str,), (int,), (bool,), (float, int)):
        made.register_structure_hook(kinds[0], _exactly(*kinds))
        made.register_structure_hook(kinds[0] | None, _exactly(*kinds, NoneType))
    made.register_structure_hook_factory(attrs.has, _structure_attrs)
    made.register_structure_hook_factory(_is_sequence, _structure_sequence)
    made.register_structure_hook_func(lambda kind: kind is Secret, _text_to_secret)
    made.register_structure_hook(str | Secret, _exactly(str))
    return made


_converter: Final = _make_converter()

reader_of: Final[Callable[[Any], Reader]] = cache(_converter.get_structure_hook)
"""Return what makes a value of the given type out of JSON; it is called with the JSON and that type.

Raises `cattrs.StructureHandlerNotFoundError` for a class with fields that no JSON value can become.
"""
