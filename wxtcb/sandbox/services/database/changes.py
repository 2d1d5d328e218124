"""What an update does to a record."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from decimal import Decimal
from typing import Final, cast

from wxtcb.sandbox.errors import platform_error
from wxtcb.sandbox.services.database.operators import flatten
from wxtcb.sandbox.services.database.terms import Command, require_plain_value
from wxtcb.sandbox.services.database.values import DatabaseRecord, Value, type_rank
from wxtcb.sandbox.services.database.words import syntax_error, unsupported

__all__ = ["RecordUpdate", "build_update"]

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
