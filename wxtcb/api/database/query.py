"""Builder of database statements: every value is escaped, so no value can become code.

The statement language is a subset of JavaScript. ``str(statement)`` is the code that is sent. Each kind of statement
fits one call: a `Query` is not a `Delete`.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, Literal, TypeAlias, cast, get_args, overload

import attrs

from wxtcb.errors import InvalidArgument
from wxtcb.validation import check_mapping, check_not_empty, check_string, type_validator, validator

# Literals: everything that could end a literal is escaped or rejected
# A list that contains itself would recurse without end; real records are far less deep.
MAX_DEPTH: Final = 100
# JavaScript's Number.MAX_SAFE_INTEGER: larger integers are rounded.
MAX_SAFE_INTEGER: Final = 2**53 - 1
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
MILLISECOND: Final = timedelta(milliseconds=1)

# Valid inside a JSON string, but they could end a line, a statement or a script where the literal is embedded.
_UNSAFE_CHARACTERS: Final = re.compile("[<>;\x7f-\x9f\u2028\u2029\ufeff]")
_SURROGATE: Final = re.compile("[\ud800-\udfff]")


@attrs.frozen
class Expression:
    """A statement or a part of one; ``str`` returns its code, which never contains an unescaped value."""

    # Keyword-only, so that `Collection(user_input)` fails instead of taking the input for code.
    _text: str = attrs.field(kw_only=True, alias="text")

    def __str__(self) -> str:
        return self._text


def _degrees_validator(limit: float) -> Callable[[str, object], None]:
    def check(name: str, value: object) -> None:
        if isinstance(value, bool) or not isinstance(value, int | float) or not -limit <= value <= limit:
            raise InvalidArgument(f"{name} must be a number of degrees from -{limit} to {limit}, not {value!r}")

    return check


@attrs.frozen
class Point:
    """A geographical position in degrees: longitude -180 to 180, latitude -90 to 90."""

    longitude: float = attrs.field(validator=validator(_degrees_validator(180)))
    latitude: float = attrs.field(validator=validator(_degrees_validator(90)))


@attrs.frozen
class ServerDate:
    """The time at which the platform executes the statement."""


Value: TypeAlias = (
    "bool | int | float | str | datetime | Point | ServerDate | Sequence[Value] | Mapping[str, Value] | None"
)
Document: TypeAlias = Mapping[str, Value]


def to_literal(name: str, value: object, depth: int = 0) -> str:
    """Return a value as a literal; *name* names it in errors.

    Raises `InvalidArgument` for values that the database would read as something else: integers beyond 2**53, NaN,
    bytes, times without a time zone, keys that the database takes for operators.
    """
    match value:
        case None:
            return "null"
        # Before int: a bool is an int.
        case bool():
            return "true" if value else "false"
        case str():
            return string_literal(name, value)
        case int() | float():
            return _number_literal(name, value)
        case datetime():
            return _date_literal(name, value)
        case Point(longitude=longitude, latitude=latitude):
            return f"new db.Geo.Point({_number_literal(name, longitude)}, {_number_literal(name, latitude)})"
        case ServerDate():
            return "db.serverDate()"
        case Mapping() | list() | tuple():
            return _nested_literal(name, value, depth + 1)
        case _:
            raise InvalidArgument(f"{name} contains a {type(value).__name__}, which cannot be part of a statement")


def _nested_literal(name: str, value: Mapping[object, object] | Sequence[object], depth: int) -> str:
    if depth > MAX_DEPTH:
        raise InvalidArgument(f"{name} is nested too deeply: the limit is {MAX_DEPTH} levels")
    if isinstance(value, Mapping):
        return object_literal({_key_literal(name, key): to_literal(name, each, depth) for key, each in value.items()})
    return f"[{', '.join(to_literal(name, each, depth) for each in value)}]"


def object_literal(fields: Mapping[str, str]) -> str:
    """Return an object literal; keys and values are literals already."""
    return f"{{{', '.join(f'{key}: {value}' for key, value in fields.items())}}}"


def string_literal(name: str, text: str) -> str:
    """Return a string literal, with every character escaped that could end a line, a statement or a script."""
    if _SURROGATE.search(text):
        raise InvalidArgument(f"{name} is not valid Unicode: it contains a lone surrogate")
    return _UNSAFE_CHARACTERS.sub(lambda found: f"\\u{ord(found[0]):04x}", json.dumps(text, ensure_ascii=False))


def name_literal(name: str, value: object) -> str:
    """Return the name of a collection, record or field, or the path of a field, as a literal."""
    check_string(name, value)
    return _key_literal(name, value)


def _key_literal(name: str, key: object) -> str:
    if not isinstance(key, str):
        raise InvalidArgument(f"{name} has a key that is not a string: {key!r}")
    # "$" begins an operator, so a key of a user could change a condition; "__proto__" is special in JavaScript.
    if key.startswith("$") or key == "__proto__":
        raise InvalidArgument(f"{name} has a key that the database takes for an operator: {key!r}")
    return string_literal(name, key)


# `int.__repr__` and `float.__repr__`: a subclass, such as an enum, may have a repr that is not a number.
def _number_literal(name: str, value: float) -> str:
    if isinstance(value, int):
        if abs(value) > MAX_SAFE_INTEGER:
            raise InvalidArgument(f"{name} {value!r} is beyond 2**53, where JavaScript rounds it: send it as a string")
        return int.__repr__(value)
    if not math.isfinite(value):
        raise InvalidArgument(f"{name} must be a finite number, not {value!r}")
    return float.__repr__(value)


def _date_literal(name: str, value: datetime) -> str:
    if value.utcoffset() is None:
        raise InvalidArgument(f"{name} {value!r} has no time zone: use an aware datetime, such as datetime.now(UTC)")
    return f"new Date({(value - EPOCH) // MILLISECOND})"


# Operators: comparisons for `where`, changes for `update`
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


# Statements
SortOrder: TypeAlias = Literal["asc", "desc"]

# Documented maximum of limit() for server-side calls.
MAX_LIMIT: Final = 1000
_SORT_DIRECTIONS: Final = {'"asc"': "1", '"desc"': "-1"}


@attrs.frozen
class Insert(Expression):
    """Statement that adds records."""


@attrs.frozen
class Update(Expression):
    """Statement that changes records."""


@attrs.frozen
class Delete(Expression):
    """Statement that removes records."""


@attrs.frozen
class Aggregate(Expression):
    """Statement that runs records through an aggregation pipeline."""


@attrs.frozen
class Selectable:
    """Source of records: `source` is the statement so far, as code; `collection` makes the first one."""

    source: str = attrs.field(kw_only=True)

    def order_by(self, field: str, order: SortOrder = "asc") -> Selection:
        """Sort by a field; a second call sorts records that are equal in the first field."""
        selection = self._selection()
        clause = f".orderBy({name_literal('field', field)}, {_order_literal('order', order)})"
        return attrs.evolve(selection, order_clauses=selection.order_clauses + clause)

    def field(self, *names: str) -> Selection:
        """Return only these fields and ``_id``."""
        check_not_empty("names", names)
        projection = f".field({object_literal({name_literal('names', each): 'true' for each in names})})"
        return attrs.evolve(self._selection(), projection=projection)

    def skip(self, count: int) -> Selection:
        """Skip the first *count* records."""
        return attrs.evolve(self._selection(), skip_count=_require_in_range("count", count, 0))

    def limit(self, count: int) -> Selection:
        """Return at most *count* records, 1 to 1000; without a limit the platform returns 10."""
        return attrs.evolve(self._selection(), limit_count=_require_in_range("count", count, 1, MAX_LIMIT))

    def get(self) -> Query:
        """Return the statement that reads the records."""
        return Query(self._selection())

    def _selection(self) -> Selection:
        return Selection(source=self.source)

    def __str__(self) -> str:
        return self.source


@attrs.frozen
class Selection(Selectable):
    """A sorted, projected or limited part of the records; every method returns a new one. None means "not set"."""

    order_clauses: str = ""
    projection: str = ""
    skip_count: int | None = None
    limit_count: int | None = None

    def _selection(self) -> Selection:
        return self

    def __str__(self) -> str:
        skip = "" if self.skip_count is None else f".skip({self.skip_count})"
        limit = "" if self.limit_count is None else f".limit({self.limit_count})"
        # The documented order of the steps; the methods may be called in any order.
        return f"{self.source}{self.order_clauses}{skip}{limit}{self.projection}"


@attrs.frozen
class Query:
    """Statement that reads the records of a selection."""

    selection: Selection = attrs.field(validator=type_validator(Selection, optional=False))

    def __str__(self) -> str:
        return f"{self.selection}.get()"


@attrs.frozen
class Filter(Selectable):
    """The records that match conditions; all of them can be updated or removed."""

    def update(self, changes: Changes) -> Update:
        """Change every matching record; a value or mapping replaces the field's previous value."""
        return Update(text=f"{self}.update({{data: {render_changes('changes', changes)}}})")

    def remove(self) -> Delete:
        """Remove every matching record."""
        return Delete(text=f"{self}.remove()")


@attrs.frozen
class RecordRef:
    """One record of the collection *source*, by its ``_id``."""

    record_id: str = attrs.field(validator=validator(check_string))
    source: str = attrs.field(kw_only=True)

    def get(self) -> Query:
        """Read the record; the result is empty if it does not exist."""
        # By a condition: `doc(id).get()` answers a missing record with an error, `where` with an empty list.
        return Query(Selection(source=f"{self.source}.where({object_literal({'_id': self._id_literal})})"))

    def update(self, changes: Changes) -> Update:
        """Change the record if it exists; a value or mapping replaces the field's previous value."""
        return Update(text=f"{self}.update({{data: {render_changes('changes', changes)}}})")

    def set(self, document: Document) -> Update:
        """Replace the record with *document*, or create it."""
        return Update(text=f"{self}.set({{data: {_document_literal(document)}}})")

    def remove(self) -> Delete:
        """Remove the record if it exists."""
        return Delete(text=f"{self}.remove()")

    def __str__(self) -> str:
        return f"{self.source}.doc({self._id_literal})"

    @property
    def _id_literal(self) -> str:
        return to_literal("record_id", self.record_id)


@attrs.frozen
class Pipeline(Expression):
    """An aggregation pipeline: stages applied to records in order; every method returns a new one."""

    def match(self, conditions: Conditions) -> Pipeline:
        """Keep only records that match the conditions."""
        return self._append_stage("match", render_conditions("conditions", conditions))

    def sort(self, orders: Mapping[str, SortOrder]) -> Pipeline:
        """Sort by these fields, in the order of the mapping."""
        check_mapping("orders", orders)
        check_not_empty("orders", orders)
        directions = {
            name_literal("orders", key): _SORT_DIRECTIONS[_order_literal("orders", each)]
            for key, each in orders.items()
        }
        return self._append_stage("sort", object_literal(directions))

    def skip(self, count: int) -> Pipeline:
        """Skip the first *count* records."""
        return self._append_stage("skip", str(_require_in_range("count", count, 0)))

    def limit(self, count: int) -> Pipeline:
        """Keep at most *count* records."""
        return self._append_stage("limit", str(_require_in_range("count", count, 1)))

    def project(self, *names: str) -> Pipeline:
        """Keep only these fields and ``_id``."""
        check_not_empty("names", names)
        return self._append_stage("project", object_literal({name_literal("names", each): "1" for each in names}))

    def end(self) -> Aggregate:
        """Return the statement that reads the result of the pipeline."""
        return Aggregate(text=f"{self}.end()")

    def _append_stage(self, stage: str, argument: str) -> Pipeline:
        return Pipeline(text=f"{self}.{stage}({argument})")


@attrs.frozen
class Collection(Selectable):
    """All records of a collection."""

    def where(self, conditions: Conditions) -> Filter:
        """Select records; a mapping or list as a value is an exact match, ``"a.b"`` is a field of an object.

        Empty conditions select all records: check conditions from a user before you remove the selected records.
        """
        return Filter(source=f"{self}.where({render_conditions('conditions', conditions)})")

    def doc(self, record_id: str) -> RecordRef:
        """Select one record by its ``_id``."""
        return RecordRef(record_id, source=self.source)

    def add(self, *documents: Document) -> Insert:
        """Add records; a record without an ``_id`` gets one."""
        check_not_empty("documents", documents)
        literals = [_document_literal(each) for each in documents]
        data = literals[0] if len(literals) == 1 else f"[{', '.join(literals)}]"
        return Insert(text=f"{self}.add({{data: {data}}})")

    def aggregate(self) -> Pipeline:
        """Start an aggregation pipeline over all records."""
        return Pipeline(text=f"{self}.aggregate()")


def collection(name: str) -> Collection:
    """Return the collection *name*, the start of every statement."""
    return Collection(source=f"db.collection({name_literal('name', name)})")


def _document_literal(document: object) -> str:
    check_mapping("document", document)
    return to_literal("document", document)


def _require_in_range(name: str, value: object, minimum: int, maximum: float = float("inf")) -> int:
    if type(value) is not int or not minimum <= value <= maximum:
        until = "" if maximum == float("inf") else f" and at most {maximum}"
        raise InvalidArgument(f"{name} must be an integer of at least {minimum}{until}, not {value!r}")
    return value


# Checked at run time: the order becomes code, and callers may pass one that a user chose.
def _order_literal(name: str, value: SortOrder) -> str:
    if value not in get_args(SortOrder):
        raise InvalidArgument(f"{name} must be 'asc' or 'desc', not {value!r}")
    return f'"{value}"'
