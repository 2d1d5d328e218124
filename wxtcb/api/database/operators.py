"""What stands in a statement where a plain value does not do: comparisons in `where`, changes in `update`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias, cast, overload

import attrs

from wxtcb.api.database.literals import Value, Written, literal, name_of, object_of
from wxtcb.errors import InvalidArgument
from wxtcb.validation import check_entries, check_mapping


@attrs.frozen
class Comparison(Written):
    """What the value of one field must be like; made by `eq`, `gt` and their like."""


@attrs.frozen
class Combination(Written):
    """Conditions on a record joined by `and_` or `or_`."""


@attrs.frozen
class Change(Written):
    """What happens to one field; made by `set_`, `inc` and their like."""


Conditions: TypeAlias = Mapping[str, "Value | Comparison"] | Combination
Changes: TypeAlias = Mapping[str, "Value | Change"]


def eq(value: Value) -> Comparison:
    """Match what equals *value*, the same as the value alone."""
    return Comparison(text=_call("eq", value))


def neq(value: Value) -> Comparison:
    """Match what does not equal *value*, a field that is missing included."""
    return Comparison(text=_call("neq", value))


def gt(value: Value) -> Comparison:
    """Match what is greater than *value*."""
    return Comparison(text=_call("gt", value))


def gte(value: Value) -> Comparison:
    """Match what is *value* or greater."""
    return Comparison(text=_call("gte", value))


def lt(value: Value) -> Comparison:
    """Match what is less than *value*."""
    return Comparison(text=_call("lt", value))


def lte(value: Value) -> Comparison:
    """Match what is *value* or less."""
    return Comparison(text=_call("lte", value))


def in_(values: Sequence[Value]) -> Comparison:
    """Match what equals one of *values*; none of them, and it matches nothing."""
    return Comparison(text=_call("in", _listed("values", values)))


def nin(values: Sequence[Value]) -> Comparison:
    """Match what equals none of *values*."""
    return Comparison(text=_call("nin", _listed("values", values)))


def exists() -> Comparison:
    """Match records that have the field."""
    return Comparison(text="_.exists(true)")


def missing() -> Comparison:
    """Match records that do not have the field."""
    return Comparison(text="_.exists(false)")


@overload
def and_(*conditions: Comparison) -> Comparison: ...


@overload
def and_(*conditions: Conditions) -> Combination: ...


def and_(*conditions: Comparison | Conditions) -> Comparison | Combination:
    """Join what must all hold: comparisons of one field, or conditions on a record."""
    return _join("and", conditions)


@overload
def or_(*conditions: Comparison) -> Comparison: ...


@overload
def or_(*conditions: Conditions) -> Combination: ...


def or_(*conditions: Comparison | Conditions) -> Comparison | Combination:
    """Join what need not all hold, but one: comparisons of one field, or conditions on a record."""
    return _join("or", conditions)


def set_(value: Value) -> Change:
    """Put *value* in the field's place, the same as the value alone."""
    return Change(text=_call("set", value))


def inc(number: float) -> Change:
    """Add to a number; a field that is missing counts as 0."""
    return Change(text=_call("inc", _numeric(number)))


def mul(number: float) -> Change:
    """Multiply a number; a field that is missing becomes 0."""
    return Change(text=_call("mul", _numeric(number)))


def remove() -> Change:
    """Take the field out of the record."""
    return Change(text="_.remove()")


def push(*values: Value) -> Change:
    """Append to a list, one entry per argument; a field that is missing becomes a list."""
    check_entries("values", values)
    return Change(text=_call("push", list(values)))


def conditions_text(name: str, conditions: Conditions) -> str:
    """Write what records must be like.

    A mapping or a list is an exact match there: the platform would take an object apart, and look into what it holds.
    """
    if isinstance(conditions, Combination):
        return str(conditions)
    check_mapping(name, conditions)
    return object_of({name_of(f"{name}: a key", key): _condition(name, key, each) for key, each in conditions.items()})


def changes_text(name: str, changes: Changes) -> str:
    """Write what happens to the fields of a record; a mapping takes the place of what was there as a whole."""
    check_mapping(name, changes)
    check_entries(name, changes)
    fields = {}
    for key, change in changes.items():
        whole = set_(change) if isinstance(change, Mapping) else change
        text = str(whole) if isinstance(whole, Change) else literal(f"{name}: {key}", whole)
        fields[name_of(f"{name}: a key", key)] = text
    return object_of(fields)


def _condition(name: str, key: str, value: Value | Comparison) -> str:
    if isinstance(value, Comparison):
        return str(value)
    text = literal(f"{name}: {key}", value)
    return f"_.eq({text})" if isinstance(value, Mapping) else text


def _join(how: str, conditions: Sequence[Comparison | Conditions]) -> Comparison | Combination:
    check_entries("conditions", conditions)
    if all(isinstance(each, Comparison) for each in conditions):
        return Comparison(text=f"_.{how}([{', '.join(map(str, conditions))}])")
    if any(isinstance(each, Comparison) for each in conditions):
        raise InvalidArgument(f"{how}_ joins comparisons of one field, or conditions on a record, not both")
    texts = [conditions_text("conditions", cast("Conditions", each)) for each in conditions]
    return Combination(text=f"_.{how}([{', '.join(texts)}])")


def _call(command: str, value: object) -> str:
    return f"_.{command}({literal(f'the value of {command}', value)})"


def _listed(name: str, values: object) -> object:
    if not isinstance(values, list | tuple):
        raise InvalidArgument(f"{name} must be a list, not {type(values).__name__}")
    return values


def _numeric(number: object) -> object:
    if isinstance(number, bool) or not isinstance(number, int | float):
        raise InvalidArgument(f"number must be a number, not {number!r}")
    return number
