"""Which records meet conditions, and in which order they stand."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, cast

from wxtcb.sandbox.services.database.terms import Command, require_plain_value
from wxtcb.sandbox.services.database.values import DatabaseRecord, Value, sort_key, type_rank
from wxtcb.sandbox.services.database.words import syntax_error, unsupported

__all__ = ["RecordPredicate", "build_predicate", "flatten", "sort_records"]

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
