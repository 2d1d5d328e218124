"""JSON to attrs classes: the one cattrs converter, and how much of a reply is read before others get a turn.

Values are read strictly where it matters (a null or a number is no text, a bool no number) and leniently where the
platform may grow (unknown fields are ignored, a null where there is a default is the default).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import cache
from types import NoneType
from typing import Any, Final, cast, get_args, get_origin

import attrs
import cattrs
from cattrs.errors import IterableValidationError, IterableValidationNote
from cattrs.gen import make_dict_structure_fn

from wxtcb.secret import Secret

Reader = Callable[[Any, Any], Any]

SLICE: Final = 250
SPELLINGS: Final = "wxtcb.spellings"

_ENOUGH: Final = 10
_entries_refused: Final = cast("Callable[[str, list[Exception], Any], Exception]", IterableValidationError)


def also_spelled(*names: str) -> dict[str, tuple[str, ...]]:
    """Return attrs metadata for a reply field that the platform writes in other ways too."""
    return {SPELLINGS: names}


def read_ahead(cls: type[attrs.AttrsInstance], fields: dict[str, Any]) -> Iterator[int]:
    """Read the lists of objects in *fields*, the JSON of a *cls*, in place: what reads the whole has little left to do.

    Stops for a breath after at most `SLICE` entries, and tells how many it has just read. An entry that cannot be read
    is left as it is, with those around it, to be refused by its place when the whole is read.
    """
    for name, kind, many in _branches(cls):
        value = fields.get(name)
        if many and isinstance(value, list):
            yield from _read_entries(kind, value)
        elif isinstance(value, dict):
            yield from read_ahead(kind, value)


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
    """Return the fields of *cls* that hold objects: the name, the class, and whether there may be many."""
    attrs.resolve_types(cls)
    found = []
    for field in attrs.fields(cls):
        for kind in get_args(field.type) if _takes_none(field.type) else (field.type,):
            entry = get_args(kind)[0] if _is_sequence(kind) else kind
            if attrs.has(entry):
                found.append((field.name, entry, entry is not kind))
    return tuple(found)


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
    fill = make_dict_structure_fn(cls, converter)
    spelled = {field.name: field.metadata[SPELLINGS] for field in attrs.fields(cls) if SPELLINGS in field.metadata}
    lenient = {field.name for field in attrs.fields(cls) if field.default is not attrs.NOTHING}
    as_it_is = {field.name for field in attrs.fields(cls) if field.default is None and _takes_none(field.type)}
    dropped = lenient - (as_it_is - spelled.keys())

    def read(value: Any, kind: Any) -> object:
        if not isinstance(value, dict):
            if isinstance(value, cls):
                return value  # it was read ahead
            raise TypeError("object")
        if dropped and None in value.values():
            value = {name: each for name, each in value.items() if each is not None or name not in dropped}
        if spelled and not value.keys() >= spelled.keys():
            value = _respell(value, spelled)
        return fill(value, kind)

    return read


def _respell(fields: dict[str, object], spelled: Mapping[str, tuple[str, ...]]) -> dict[str, object]:
    for name, others in spelled.items():
        found = next((other for other in others if other in fields), None)
        if name not in fields and found is not None:
            fields = {**fields, name: fields[found]}
    return fields


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
    return made


_converter: Final = _make_converter()

reader_of: Final[Callable[[Any], Reader]] = cache(_converter.get_structure_hook)
"""Return what makes a value of the given type out of JSON; it is called with the JSON and that type.

Raises `cattrs.StructureHandlerNotFoundError` for a class with fields that no JSON value can become.
"""
