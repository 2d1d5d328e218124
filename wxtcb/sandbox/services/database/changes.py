"""What an update does to a record."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from decimal import Decimal
from typing import Final, cast

from wxtcb.sandbox.errors import refuse
from wxtcb.sandbox.services.database.operators import flat
from wxtcb.sandbox.services.database.terms import Command, need_plain
from wxtcb.sandbox.services.database.values import Record, Value, kind_of
from wxtcb.sandbox.services.database.words import malformed, not_simulated

__all__ = ["Change", "change_of"]

DEEPEST: Final = 64
_LONG: Final = 2**63

Change = Callable[[Record], None]


def change_of(data: Value) -> Change:
    """Return what changes a record in place as `data` says: an object in it changes but the fields that it holds."""
    if not isinstance(data, dict) or not data:
        raise malformed("data must be an object that is not empty")
    changes = [_field_change(path, wanted) for path, wanted in flat(cast("Record", data))]

    def change(record: Record) -> None:
        for each in changes:
            each(record)

    return change


def _field_change(path: str, wanted: Value) -> Change:
    if path == "_id":
        raise refuse(-502001, "_id cannot be changed")
    parts = path.split(".")
    if len(parts) > DEEPEST:
        raise malformed(f"a path of more than {DEEPEST} names")
    command = wanted if isinstance(wanted, Command) else Command("set", (wanted,))
    match command.name, [need_plain(arg) for arg in command.args]:
        case "set", [value]:
            return lambda record: _put(record, parts, deepcopy(value))
        case "remove", []:
            return lambda record: _drop(record, parts)
        case "inc", [int() | float() as number]:
            return lambda record: _put(record, parts, _kept(_number(record, parts) + number))
        case "mul", [int() | float() as number]:
            return lambda record: _put(record, parts, _kept(_number(record, parts) * number))
        case "push", [value] if not isinstance(value, dict):
            new = value if isinstance(value, list) else [value]
            return lambda record: _put(record, parts, [*_entries(record, parts), *deepcopy(new)])
        case _:
            raise not_simulated(f"_.{command.name} with these arguments")


def _made(record: Record, names: Sequence[str]) -> Record:
    """Return the object at a path, and make it where there is none."""
    for name in names:
        inner: Value = record.setdefault(name, {})
        if isinstance(inner, list):
            raise not_simulated("a change inside of a list")
        if not isinstance(inner, dict):
            raise refuse(-502001, f"{name} is no object")
        record = cast("Record", inner)
    return record


def _there(record: Record, names: Sequence[str]) -> Record:
    """Return the object at a path, an empty one where there is none."""
    for name in names:
        inner: Value = record.get(name, {})
        if isinstance(inner, list):
            raise not_simulated("a change inside of a list")
        record = cast("Record", inner) if isinstance(inner, dict) else {}
    return record


def _put(record: Record, parts: Sequence[str], value: Value) -> None:
    _made(record, parts[:-1])[parts[-1]] = value


def _drop(record: Record, parts: Sequence[str]) -> None:
    _there(record, parts[:-1]).pop(parts[-1], None)


def _now(record: Record, parts: Sequence[str], otherwise: Value) -> Value:
    return _there(record, parts[:-1]).get(parts[-1], otherwise)


def _number(record: Record, parts: Sequence[str]) -> Value:
    value = _now(record, parts, 0)
    if kind_of(value) != kind_of(0):
        raise refuse(-502001, f"{'.'.join(parts)} is no number")
    if isinstance(value, Decimal):
        raise not_simulated("reckoning with a decimal")
    return value


def _kept(number: float) -> float:
    """Return a number as the database keeps it: one that 64 bits cannot hold is a double."""
    return number if -_LONG <= number < _LONG else float(number)


def _entries(record: Record, parts: Sequence[str]) -> list[Value]:
    value = _now(record, parts, [])
    if not isinstance(value, list):
        raise refuse(-502001, f"{'.'.join(parts)} is no list")
    return value
