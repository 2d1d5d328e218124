"""Which records meet conditions, and in which order they stand."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, cast

from wxtcb.sandbox.services.database.terms import Command, need_plain
from wxtcb.sandbox.services.database.values import Record, Value, key_of, kind_of
from wxtcb.sandbox.services.database.words import malformed, not_simulated

__all__ = ["Test", "flat", "sorted_by", "test_of"]

Test = Callable[[Record], bool]
Found = Callable[[Sequence[Value]], bool]

_DIGITS: Final = 10  # no list is so long that the number of an entry has as many

_ORDERED: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    "gt": operator.gt,
    "gte": operator.ge,
    "lt": operator.lt,
    "lte": operator.le,
}


def test_of(conditions: Value) -> Test:
    """Return what tells whether a record meets conditions."""
    if isinstance(conditions, Command):
        return _joined(conditions.name, (test_of(each) for each in conditions.args))
    if not isinstance(conditions, dict):
        raise malformed("conditions must be an object")
    tests = [_field_test(path, _found_test(wanted)) for path, wanted in flat(cast("Record", conditions))]
    return lambda record: all(test(record) for test in tests)


def flat(fields: Record, before: str = "") -> Iterable[tuple[str, Value]]:
    """Take objects apart as the platform does: what stands in one is a field of its own, by its path."""
    for key, value in fields.items():
        if isinstance(value, dict) and value:
            yield from flat(cast("Record", value), f"{before}{key}.")
        else:
            yield f"{before}{key}", value


def sorted_by(records: Iterable[Record], orders: Sequence[tuple[str, bool]]) -> list[Record]:
    """Sort records by fields, the first of them first; each field goes down where it says True."""
    found = list(records)
    for path, down in reversed(orders):
        found.sort(key=_place_by(path), reverse=down)
    return found


def _place_by(path: str) -> Callable[[Record], Any]:
    """Return what records are sorted by: what they have at a path, null where there is nothing."""
    parts = path.split(".")
    return lambda record: key_of(next(iter(_at(record, parts)), None))


def _field_test(path: str, test: Found) -> Test:
    parts = path.split(".")
    return lambda record: test(_at(record, parts))


def _found_test(wanted: Value) -> Found:
    """Return what tells whether the values found in a field are as wanted; none are where it is missing."""
    if not isinstance(wanted, Command):
        return _equal(need_plain(wanted))
    match wanted.name, wanted.args:
        case ("and" | "or") as how, parts:
            return _joined(how, [_found_test(part) for part in parts])
        case "eq", (value,):
            return _equal(need_plain(value))
        case "neq", (value,):
            return _no(_equal(need_plain(value)))
        case "in", (list(values),):
            return _joined("or", [_equal(need_plain(value)) for value in values])
        case "nin", (list(values),):
            return _no(_joined("or", [_equal(need_plain(value)) for value in values]))
        case "exists", (bool(present),):
            return lambda found: bool(found) is present
        case name, (value,) if name in _ORDERED:
            return _ordered(_ORDERED[name], need_plain(value))
        case _:
            raise not_simulated(f"_.{wanted.name} with these arguments")


def _joined(how: str, tests: Iterable[Callable[[Any], bool]]) -> Callable[[Any], bool]:
    if how not in ("and", "or"):
        raise not_simulated(f"_.{how} for a whole record")
    join, kept = all if how == "and" else any, list(tests)
    return lambda what: join(test(what) for test in kept)


def _no(test: Found) -> Found:
    return lambda found: not test(found)


def _equal(wanted: Value) -> Found:
    key = key_of(wanted)
    if wanted is None:
        return lambda found: not found or any(key_of(value) == key for value in _each(found))
    return lambda found: any(key_of(value) == key for value in _each(found))


def _ordered(compare: Callable[[Any, Any], bool], wanted: Value) -> Found:
    kind, key = kind_of(wanted), key_of(wanted)
    return lambda found: any(kind_of(value) == kind and compare(key_of(value), key) for value in _each(found))


def _each(found: Iterable[Value]) -> Iterable[Value]:
    """Return the values, and those that lists among them hold."""
    for value in found:
        yield value
        if isinstance(value, list):
            yield from value


def _at(value: Value, parts: Sequence[str]) -> list[Value]:
    """Return what stands at a path, which goes through each entry of a list, or through one by its number."""
    if not parts:
        return [value]
    head, rest = parts[0], parts[1:]
    if isinstance(value, dict):
        fields = cast("Record", value)
        return _at(fields[head], rest) if head in fields else []
    if not isinstance(value, list):
        return []
    entries = value
    if head.isdecimal():
        return _at(entries[int(head)], rest) if len(head) < _DIGITS and int(head) < len(entries) else []
    return [found for entry in entries if isinstance(entry, dict) for found in _at(entry, parts)]
