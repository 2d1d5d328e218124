"""Operators of database statements: comparisons for `where`, changes for `update`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias, cast, overload

import attrs

from wxtcb.api.database.literals import Expression, Value, name_literal, object_literal, to_literal
from wxtcb.errors import InvalidArgument
from wxtcb.validation import check_mapping, check_not_empty


@attrs.frozen
class Comparison(Expression):
    """Condition on the value of one field; made by `eq`, `gt` and so on."""


@attrs.frozen
class Combination(Expression):
    """Conditions on a record, combined by `and_` or `or_`."""


@attrs.frozen
class Change(Expression):
    """Change of one field; made by `set_`, `inc` and so on."""


Conditions: TypeAlias = Mapping[str, "Value | Comparison"] | Combination
Changes: TypeAlias = Mapping[str, "Value | Change"]


def eq(value: Value) -> Comparison:
    """Match a field equal to *value*, as the bare value does."""
    return Comparison(text=_operator_call("eq", value))


def neq(value: Value) -> Comparison:
    """Match a field not equal to *value*; a missing field matches."""
    return Comparison(text=_operator_call("neq", value))


def gt(value: Value) -> Comparison:
    """Match a field greater than *value*."""
    return Comparison(text=_operator_call("gt", value))


def gte(value: Value) -> Comparison:
    """Match a field greater than or equal to *value*."""
    return Comparison(text=_operator_call("gte", value))


def lt(value: Value) -> Comparison:
    """Match a field less than *value*."""
    return Comparison(text=_operator_call("lt", value))


def lte(value: Value) -> Comparison:
    """Match a field less than or equal to *value*."""
    return Comparison(text=_operator_call("lte", value))


def in_(values: Sequence[Value]) -> Comparison:
    """Match a field equal to one of *values*; an empty list matches nothing."""
    return Comparison(text=_operator_call("in", _require_list("values", values)))


def nin(values: Sequence[Value]) -> Comparison:
    """Match a field equal to none of *values*."""
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
    """Match if all conditions match: comparisons of one field, or conditions on a record."""
    return _combine("and", conditions)


@overload
def or_(*conditions: Comparison) -> Comparison: ...


@overload
def or_(*conditions: Conditions) -> Combination: ...


def or_(*conditions: Comparison | Conditions) -> Comparison | Combination:
    """Match if at least one condition matches: comparisons of one field, or conditions on a record."""
    return _combine("or", conditions)


def set_(value: Value) -> Change:
    """Replace the field with *value*, as the bare value does."""
    return Change(text=_operator_call("set", value))


def inc(number: float) -> Change:
    """Add *number* to the field; a missing field counts as 0."""
    return Change(text=_operator_call("inc", _require_number(number)))


def mul(number: float) -> Change:
    """Multiply the field by *number*; a missing field becomes 0."""
    return Change(text=_operator_call("mul", _require_number(number)))


def remove() -> Change:
    """Remove the field from the record."""
    return Change(text="_.remove()")


def push(*values: Value) -> Change:
    """Append each value to the list in the field; a missing field becomes a list."""
    check_not_empty("values", values)
    return Change(text=_operator_call("push", list(values)))


def render_conditions(name: str, conditions: Conditions) -> str:
    """Return conditions on a record as code."""
    if isinstance(conditions, Combination):
        return str(conditions)
    check_mapping(name, conditions)
    return object_literal(
        {name_literal(f"{name}: a key", key): _render_condition(name, key, each) for key, each in conditions.items()}
    )


def render_changes(name: str, changes: Changes) -> str:
    """Return changes of a record as code."""
    check_mapping(name, changes)
    check_not_empty(name, changes)
    fields = {}
    for key, change in changes.items():
        # Without `set`, the platform would merge a mapping into the field's previous value.
        expression = set_(change) if isinstance(change, Mapping) else change
        text = str(expression) if isinstance(expression, Change) else to_literal(f"{name}: {key}", expression)
        fields[name_literal(f"{name}: a key", key)] = text
    return object_literal(fields)


def _render_condition(name: str, key: str, value: Value | Comparison) -> str:
    if isinstance(value, Comparison):
        return str(value)
    text = to_literal(f"{name}: {key}", value)
    # Without `eq`, the platform would match the fields inside an object one by one instead of the whole object.
    return f"_.eq({text})" if isinstance(value, Mapping) else text


def _combine(operator: str, conditions: Sequence[Comparison | Conditions]) -> Comparison | Combination:
    check_not_empty("conditions", conditions)
    if all(isinstance(each, Comparison) for each in conditions):
        return Comparison(text=f"_.{operator}([{', '.join(map(str, conditions))}])")
    if any(isinstance(each, Comparison) for each in conditions):
        raise InvalidArgument(f"{operator}_ takes comparisons of one field or conditions on a record, not both")
    rendered = [render_conditions("conditions", cast("Conditions", each)) for each in conditions]
    return Combination(text=f"_.{operator}([{', '.join(rendered)}])")


def _operator_call(operator: str, value: object) -> str:
    return f"_.{operator}({to_literal(f'the value of {operator}', value)})"


# A string is a sequence for type checkers, but `_.in("ab")` is not a list of two values.
def _require_list(name: str, values: object) -> object:
    if not isinstance(values, list | tuple):
        raise InvalidArgument(f"{name} must be a list, not {type(values).__name__}")
    return values


def _require_number(number: object) -> object:
    if isinstance(number, bool) or not isinstance(number, int | float):
        raise InvalidArgument(f"number must be a number, not {number!r}")
    return number
