"""Which records meet conditions, and in which order they stand."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import deepcopy
from decimal import Decimal
from typing import Any, Final, cast

from wxtcb.sandbox.errors import platform_error
from wxtcb.sandbox.services.database.parser import syntax_error, unsupported
from wxtcb.sandbox.services.database.values import (
    Command,
    DatabaseRecord,
    Value,
    require_plain_value,
    sort_key,
    type_rank,
)

__all__ = ["RecordPredicate", "RecordUpdate", "build_predicate", "build_update", "flatten", "sort_records"]

RecordPredicate = Callable[[DatabaseRecord], bool]
ValuesPredicate = Callable[[Sequence[Value]], bool]

_MAX_INDEX_DIGITS: Final = 10  # no list is so long that the number of an entry has as many

_COMPARISONS: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    "gt": operator.gt,
    "gte": operator.ge,
    "lt": operator.lt,
    "lte": operator.le,
}


def build_predicate(conditions: Value) -> RecordPredicate:
    """Return what tells whether a record meets conditions."""
    if isinstance(conditions, Command):
        return _combine(conditions.name, (build_predicate(each) for each in conditions.args))
    if not isinstance(conditions, dict):
        raise syntax_error("conditions must be an object")
    tests = [
        _field_predicate(path, _values_predicate(wanted))
        for path, wanted in flatten(cast("DatabaseRecord", conditions))
    ]
    return lambda record: all(test(record) for test in tests)


def flatten(fields: DatabaseRecord, prefix: str = "") -> Iterable[tuple[str, Value]]:
    """Take objects apart as the platform does: what stands in one is a field of its own, by its path."""
    for key, value in fields.items():
        if isinstance(value, dict) and value:
            yield from flatten(cast("DatabaseRecord", value), f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def sort_records(records: Iterable[DatabaseRecord], orders: Sequence[tuple[str, bool]]) -> list[DatabaseRecord]:
    """Sort records by fields, the first of them first; each field goes down where it says True."""
    found = list(records)
    for path, down in reversed(orders):
        found.sort(key=_sort_key_at(path), reverse=down)
    return found


def _sort_key_at(path: str) -> Callable[[DatabaseRecord], Any]:
    """Return what records are sorted by: what they have at a path, null where there is nothing."""
    parts = path.split(".")
    return lambda record: sort_key(next(iter(_values_at(record, parts)), None))


def _field_predicate(path: str, predicate: ValuesPredicate) -> RecordPredicate:
    parts = path.split(".")
    return lambda record: predicate(_values_at(record, parts))


def _values_predicate(expected: Value) -> ValuesPredicate:
    """Return what tells whether the values found in a field are as wanted; none are where it is missing."""
    if not isinstance(expected, Command):
        return _equals(require_plain_value(expected))
    match expected.name, expected.args:
        case ("and" | "or") as how, parts:
            return _combine(how, [_values_predicate(part) for part in parts])
        case "eq", (value,):
            return _equals(require_plain_value(value))
        case "neq", (value,):
            return _negate(_equals(require_plain_value(value)))
        case "in", (list(values),):
            return _combine("or", [_equals(require_plain_value(value)) for value in values])
        case "nin", (list(values),):
            return _negate(_combine("or", [_equals(require_plain_value(value)) for value in values]))
        case "exists", (bool(present),):
            return lambda found: bool(found) is present
        case name, (value,) if name in _COMPARISONS:
            return _compares(_COMPARISONS[name], require_plain_value(value))
        case _:
            raise unsupported(f"_.{expected.name} with these arguments")


def _combine(logical_operator: str, predicates: Iterable[Callable[[Any], bool]]) -> Callable[[Any], bool]:
    if logical_operator not in ("and", "or"):
        raise unsupported(f"_.{logical_operator} for a whole record")
    join, kept = all if logical_operator == "and" else any, list(predicates)
    return lambda what: join(test(what) for test in kept)


def _negate(predicate: ValuesPredicate) -> ValuesPredicate:
    return lambda found: not predicate(found)


def _equals(expected: Value) -> ValuesPredicate:
    key = sort_key(expected)
    if expected is None:
        return lambda found: not found or any(sort_key(value) == key for value in _iter_values(found))
    return lambda found: any(sort_key(value) == key for value in _iter_values(found))


def _compares(compare: Callable[[Any, Any], bool], expected: Value) -> ValuesPredicate:
    kind, key = type_rank(expected), sort_key(expected)
    return lambda found: any(
        type_rank(value) == kind and compare(sort_key(value), key) for value in _iter_values(found)
    )


def _iter_values(values: Iterable[Value]) -> Iterable[Value]:
    """Return the values, and those that lists among them hold."""
    for value in values:
        yield value
        if isinstance(value, list):
            yield from value


def _values_at(value: Value, parts: Sequence[str]) -> list[Value]:
    """Return what stands at a path, which goes through each entry of a list, or through one by its number."""
    if not parts:
        return [value]
    head, rest = parts[0], parts[1:]
    if isinstance(value, dict):
        fields = cast("DatabaseRecord", value)
        return _values_at(fields[head], rest) if head in fields else []
    if not isinstance(value, list):
        return []
    entries = value
    if head.isdecimal():
        return (
            _values_at(entries[int(head)], rest) if len(head) < _MAX_INDEX_DIGITS and int(head) < len(entries) else []
        )
    return [found for entry in entries if isinstance(entry, dict) for found in _values_at(entry, parts)]


MAX_PATH_DEPTH: Final = 64
_INT64_LIMIT: Final = 2**63

RecordUpdate = Callable[[DatabaseRecord], None]


def build_update(data: Value) -> RecordUpdate:
    """Return what changes a record in place as `data` says: an object in it changes but the fields that it holds."""
    if not isinstance(data, dict) or not data:
        raise syntax_error("data must be an object that is not empty")
    changes = [_field_update(path, wanted) for path, wanted in flatten(cast("DatabaseRecord", data))]

    def change(record: DatabaseRecord) -> None:
        for each in changes:
            each(record)

    return change


def _field_update(path: str, new_value: Value) -> RecordUpdate:
    if path == "_id":
        raise platform_error(-502001, "_id cannot be changed")
    parts = path.split(".")
    if len(parts) > MAX_PATH_DEPTH:
        raise syntax_error(f"a path of more than {MAX_PATH_DEPTH} names")
    command = new_value if isinstance(new_value, Command) else Command("set", (new_value,))
    match command.name, [require_plain_value(arg) for arg in command.args]:
        case "set", [value]:
            return lambda record: _set_value(record, parts, deepcopy(value))
        case "remove", []:
            return lambda record: _remove_value(record, parts)
        case "inc", [int() | float() as number]:
            return lambda record: _set_value(record, parts, _to_int64_or_double(_get_number(record, parts) + number))
        case "mul", [int() | float() as number]:
            return lambda record: _set_value(record, parts, _to_int64_or_double(_get_number(record, parts) * number))
        case "push", [value] if not isinstance(value, dict):
            new = value if isinstance(value, list) else [value]
            return lambda record: _set_value(record, parts, [*_get_list(record, parts), *deepcopy(new)])
        case _:
            raise unsupported(f"_.{command.name} with these arguments")


def _get_or_create_object(record: DatabaseRecord, names: Sequence[str]) -> DatabaseRecord:
    """Return the object at a path, and make it where there is none."""
    for name in names:
        inner: Value = record.setdefault(name, {})
        if isinstance(inner, list):
            raise unsupported("a change inside of a list")
        if not isinstance(inner, dict):
            raise platform_error(-502001, f"{name} is no object")
        record = cast("DatabaseRecord", inner)
    return record


def _get_object(record: DatabaseRecord, names: Sequence[str]) -> DatabaseRecord:
    """Return the object at a path, an empty one where there is none."""
    for name in names:
        inner: Value = record.get(name, {})
        if isinstance(inner, list):
            raise unsupported("a change inside of a list")
        record = cast("DatabaseRecord", inner) if isinstance(inner, dict) else {}
    return record


def _set_value(record: DatabaseRecord, parts: Sequence[str], value: Value) -> None:
    _get_or_create_object(record, parts[:-1])[parts[-1]] = value


def _remove_value(record: DatabaseRecord, parts: Sequence[str]) -> None:
    _get_object(record, parts[:-1]).pop(parts[-1], None)


def _get_value(record: DatabaseRecord, parts: Sequence[str], default: Value) -> Value:
    return _get_object(record, parts[:-1]).get(parts[-1], default)


def _get_number(record: DatabaseRecord, parts: Sequence[str]) -> Value:
    value = _get_value(record, parts, 0)
    if type_rank(value) != type_rank(0):
        raise platform_error(-502001, f"{'.'.join(parts)} is no number")
    if isinstance(value, Decimal):
        raise unsupported("reckoning with a decimal")
    return value


def _to_int64_or_double(number: float) -> float:
    """Return a number as the database keeps it: one that 64 bits cannot hold is a double."""
    return number if -_INT64_LIMIT <= number < _INT64_LIMIT else float(number)


def _get_list(record: DatabaseRecord, parts: Sequence[str]) -> list[Value]:
    value = _get_value(record, parts, [])
    if not isinstance(value, list):
        raise platform_error(-502001, f"{'.'.join(parts)} is no list")
    return value
