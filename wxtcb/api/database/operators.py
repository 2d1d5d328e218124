"""What stands in a statement where a plain value does not do: comparisons in `where`, changes in `update`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias, cast, overload

import attrs

from wxtcb.api.database.literals import Expression, Value, name_literal, object_literal, to_literal
from wxtcb.errors import InvalidArgument
from wxtcb.validation import check_mapping, check_not_empty


@attrs.frozen
class Comparison(Expression):
    """What the value of one field must be like; made by `eq`, `gt` and their like."""


@attrs.frozen
class Combination(Expression):
    """Conditions on a record joined by `and_` or `or_`."""


@attrs.frozen
class Change(Expression):
    """What happens to one field; made by `set_`, `inc` and their like."""


Conditions: TypeAlias = Mapping[str, "Value | Comparison"] | Combination
Changes: TypeAlias = Mapping[str, "Value | Change"]


def eq(value: Value) -> Comparison:
    """Match what equals *value*, the same as the value alone."""
    return Comparison(text=_operator_call("eq", value))


def neq(value: Value) -> Comparison:
    """Match what does not equal *value*, a field that is missing included."""
    return Comparison(text=_operator_call("neq", value))


def gt(value: Value) -> Comparison:
    """Match what is greater than *value*."""
    return Comparison(text=_operator_call("gt", value))


def gte(value: Value) -> Comparison:
    """Match what is *value* or greater."""
    return Comparison(text=_operator_call("gte", value))


def lt(value: Value) -> Comparison:
    """Match what is less than *value*."""
    return Comparison(text=_operator_call("lt", value))


def lte(value: Value) -> Comparison:
    """Match what is *value* or less."""
    return Comparison(text=_operator_call("lte", value))


def in_(values: Sequence[Value]) -> Comparison:
    """Match what equals one of *values*; none of them, and it matches nothing."""
    return Comparison(text=_operator_call("in", _require_list("values", values)))


def nin(values: Sequence[Value]) -> Comparison:
    """Match what equals none of *values*."""
    return Comparison(text=_operator_call("nin", _require_list("values", values)))


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
    return _combine("and", conditions)


@overload
def or_(*conditions: Comparison) -> Comparison: ...


@overload
def or_(*conditions: Conditions) -> Combination: ...


def or_(*conditions: Comparison | Conditions) -> Comparison | Combination:
    """Join what need not all hold, but one: comparisons of one field, or conditions on a record."""
    return _combine("or", conditions)


def set_(value: Value) -> Change:
    """Put *value* in the field's place, the same as the value alone."""
    return Change(text=_operator_call("set", value))


def inc(number: float) -> Change:
    """Add to a number; a field that is missing counts as 0."""
    return Change(text=_operator_call("inc", _require_number(number)))


def mul(number: float) -> Change:
    """Multiply a number; a field that is missing becomes 0."""
    return Change(text=_operator_call("mul", _require_number(number)))


def remove() -> Change:
    """Take the field out of the record."""
    return Change(text="_.remove()")


def push(*values: Value) -> Change:
    """Append to a list, one entry per argument; a field that is missing becomes a list."""
    check_not_empty("values", values)
    return Change(text=_operator_call("push", list(values)))


def render_conditions(name: str, conditions: Conditions) -> str:
    """Write what records must be like.

    A mapping or a list is an exact match there: the platform would take an object apart, and look into what it holds.
    """
    if isinstance(conditions, Combination):
        return str(conditions)
    check_mapping(name, conditions)
    return object_literal(
        {name_literal(f"{name}: a key", key): _render_condition(name, key, each) for key, each in conditions.items()}
    )


def render_changes(name: str, changes: Changes) -> str:
    """Write what happens to the fields of a record; a mapping takes the place of what was there as a whole."""
    check_mapping(name, changes)
    check_not_empty(name, changes)
    fields = {}
    for key, change in changes.items():
        whole = set_(change) if isinstance(change, Mapping) else change
        text = str(whole) if isinstance(whole, Change) else to_literal(f"{name}: {key}", whole)
        fields[name_literal(f"{name}: a key", key)] = text
    return object_literal(fields)


def _render_condition(name: str, key: str, value: Value | Comparison) -> str:
    if isinstance(value, Comparison):
        return str(value)
    text = to_literal(f"{name}: {key}", value)
    return f"_.eq({text})" if isinstance(value, Mapping) else text


def _combine(operator: str, conditions: Sequence[Comparison | Conditions]) -> Comparison | Combination:
    check_not_empty("conditions", conditions)
    if all(isinstance(each, Comparison) for each in conditions):
        return Comparison(text=f"_.{operator}([{', '.join(map(str, conditions))}])")
    if any(isinstance(each, Comparison) for each in conditions):
        raise InvalidArgument(f"{operator}_ joins comparisons of one field, or conditions on a record, not both")
    texts = [render_conditions("conditions", cast("Conditions", each)) for each in conditions]
    return Combination(text=f"_.{operator}([{', '.join(texts)}])")


def _operator_call(operator: str, value: object) -> str:
    return f"_.{operator}({to_literal(f'the value of {operator}', value)})"


def _require_list(name: str, values: object) -> object:
    if not isinstance(values, list | tuple):
        raise InvalidArgument(f"{name} must be a list, not {type(values).__name__}")
    return values


def _require_number(number: object) -> object:
    if isinstance(number, bool) or not isinstance(number, int | float):
        raise InvalidArgument(f"number must be a number, not {number!r}")
    return number
