"""Operators of queries and updates: predicates, sorting, and changes of records."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Sequence
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

RecordPredicate = Callable[[DatabaseRecord], bool]
RecordUpdate = Callable[[DatabaseRecord], None]
ValuesPredicate = Callable[[Sequence[Value]], bool]

MAX_PATH_DEPTH: Final = 64
_COMPARISONS: Final = {"gt": operator.gt, "gte": operator.ge, "lt": operator.lt, "lte": operator.le}


def build_predicate(conditions: Value) -> RecordPredicate:
    """Return a function that tests whether a record matches the conditions."""
    if isinstance(conditions, Command):
        return _combine(conditions.name, (build_predicate(each) for each in conditions.args))
    if not isinstance(conditions, dict):
        raise syntax_error("conditions must be an object")
    tests = [(path.split("."), _values_predicate(each)) for path, each in flatten(cast("DatabaseRecord", conditions))]
    return lambda record: all(test(_values_at(record, parts)) for parts, test in tests)


def flatten(fields: DatabaseRecord, prefix: str = "") -> Iterable[tuple[str, Value]]:
    """Flatten nested objects into dotted paths, as the platform does."""
    for key, value in fields.items():
        if isinstance(value, dict) and value:
            yield from flatten(cast("DatabaseRecord", value), f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def sort_records(records: Iterable[DatabaseRecord], orders: Sequence[tuple[str, bool]]) -> list[DatabaseRecord]:
    """Sort records by several fields. A field sorts in descending order if its flag is True."""
    result = list(records)
    # Sorting is stable, so sorting by the last field first makes the first field decide.
    for path, descending in reversed(orders):
        result.sort(key=_sort_key_at(path.split(".")), reverse=descending)
    return result


def _sort_key_at(parts: Sequence[str]) -> Callable[[DatabaseRecord], Any]:
    # A missing field sorts like null.
    return lambda record: sort_key(next(iter(_values_at(record, parts)), None))


def _values_predicate(expected: Value) -> ValuesPredicate:
    """Return a test of the values found in a field. There are none if the field is missing."""
    if not isinstance(expected, Command):
        return _equals(require_plain_value(expected))
    match expected.name, expected.args:
        case ("and" | "or") as logical_operator, parts:
            return _combine(logical_operator, [_values_predicate(part) for part in parts])
        case "eq", (value,):
            return _equals(require_plain_value(value))
        case "in", (list(values),):
            return _combine("or", [_equals(require_plain_value(value)) for value in values])
        case ("neq" | "nin") as name, (value,) if name == "neq" or isinstance(value, list):
            positive = _values_predicate(Command("eq" if name == "neq" else "in", (value,)))
            return lambda found: not positive(found)
        case "exists", (bool(present),):
            return lambda found: bool(found) is present
        case name, (value,) if name in _COMPARISONS:
            plain = require_plain_value(value)
            # Values of different types are never less or greater than each other in a condition.
            compare, rank, key = _COMPARISONS[name], type_rank(plain), sort_key(plain)
            return lambda found: any(
                type_rank(each) == rank and compare(sort_key(each), key) for each in _iter_values(found)
            )
        case _:
            raise unsupported(f"_.{expected.name} with these arguments")


def _combine(logical_operator: str, predicates: Iterable[Callable[[Any], bool]]) -> Callable[[Any], bool]:
    if logical_operator not in ("and", "or"):
        raise unsupported(f"_.{logical_operator} for a whole record")
    join, tests = all if logical_operator == "and" else any, list(predicates)
    return lambda value: join(test(value) for test in tests)


def _equals(expected: Value) -> ValuesPredicate:
    key = sort_key(expected)
    # As in MongoDB, null also matches a missing field.
    return lambda found: (expected is None and not found) or any(sort_key(each) == key for each in _iter_values(found))


def _iter_values(values: Iterable[Value]) -> Iterable[Value]:
    for value in values:
        yield value
        if isinstance(value, list):
            yield from value


def _values_at(value: Value, parts: Sequence[str]) -> list[Value]:
    """Return the values at a path. A path enters every item of a list, or a single item by its index."""
    if not parts:
        return [value]
    head, rest = parts[0], parts[1:]
    if isinstance(value, dict):
        fields = cast("DatabaseRecord", value)
        return _values_at(fields[head], rest) if head in fields else []
    if not isinstance(value, list):
        return []
    if head.isdecimal():
        # A longer number cannot be an index, and int() of a very long one would be slow.
        return _values_at(value[int(head)], rest) if len(head) < 10 and int(head) < len(value) else []
    return [found for item in value if isinstance(item, dict) for found in _values_at(item, parts)]


def build_update(data: Value) -> RecordUpdate:
    """Return a function that updates a record in place. A nested object changes only the fields that it contains."""
    if not isinstance(data, dict) or not data:
        raise syntax_error("data must be a non-empty object")
    changes = [_field_update(path, expected) for path, expected in flatten(cast("DatabaseRecord", data))]

    def change(record: DatabaseRecord) -> None:
        for each in changes:
            each(record)

    return change


def _field_update(path: str, new_value: Value) -> RecordUpdate:
    if path == "_id":
        raise platform_error(-502001, "_id cannot be changed")
    parts = path.split(".")
    if len(parts) > MAX_PATH_DEPTH:
        raise syntax_error(f"a path has more than {MAX_PATH_DEPTH} names")
    command = new_value if isinstance(new_value, Command) else Command("set", (new_value,))
    match command.name, [require_plain_value(arg) for arg in command.args]:
        case "set", [value]:
            # One update changes many records, so each gets its own copy.
            return lambda record: _set_value(record, parts, deepcopy(value))
        case "remove", []:
            return lambda record: _get_object(record, parts[:-1]).pop(parts[-1], None)
        case "inc", [int() | float() as number]:
            return lambda record: _set_value(record, parts, _to_int64_or_double(_get_number(record, parts) + number))
        case "mul", [int() | float() as number]:
            return lambda record: _set_value(record, parts, _to_int64_or_double(_get_number(record, parts) * number))
        case "push", [value] if not isinstance(value, dict):
            # push appends the items of a list, not the list itself.
            new = value if isinstance(value, list) else [value]
            return lambda record: _set_value(record, parts, [*_get_list(record, parts), *deepcopy(new)])
        case _:
            raise unsupported(f"_.{command.name} with these arguments")


def _get_or_create_object(record: DatabaseRecord, names: Sequence[str]) -> DatabaseRecord:
    for name in names:
        inner: Value = record.setdefault(name, {})
        if isinstance(inner, list):
            raise unsupported("an update inside a list")
        if not isinstance(inner, dict):
            raise platform_error(-502001, f"{name} is not an object")
        record = cast("DatabaseRecord", inner)
    return record


def _get_object(record: DatabaseRecord, names: Sequence[str]) -> DatabaseRecord:
    """Return the object at a path, or an empty one if it is missing."""
    for name in names:
        inner: Value = record.get(name, {})
        if isinstance(inner, list):
            raise unsupported("an update inside a list")
        record = cast("DatabaseRecord", inner) if isinstance(inner, dict) else {}
    return record


def _set_value(record: DatabaseRecord, parts: Sequence[str], value: Value) -> None:
    _get_or_create_object(record, parts[:-1])[parts[-1]] = value


def _get_number(record: DatabaseRecord, parts: Sequence[str]) -> Value:
    value = _get_object(record, parts[:-1]).get(parts[-1], 0)
    if type_rank(value) != type_rank(0):
        raise platform_error(-502001, f"{'.'.join(parts)} is not a number")
    if isinstance(value, Decimal):
        raise unsupported("arithmetic with a decimal")
    return value


def _to_int64_or_double(number: float) -> float:
    """Return a number as the database stores it: a double if it exceeds 64 bits."""
    return number if -(2**63) <= number < 2**63 else float(number)


def _get_list(record: DatabaseRecord, parts: Sequence[str]) -> list[Value]:
    value = _get_object(record, parts[:-1]).get(parts[-1], [])
    if not isinstance(value, list):
        raise platform_error(-502001, f"{'.'.join(parts)} is not a list")
    return value
