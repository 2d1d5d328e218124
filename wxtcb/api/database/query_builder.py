"""Builder of database statements: every value is escaped, so no value can become code.

``str(statement)`` is the code that is sent. Each kind of statement fits one call: a `Query` is not a `Delete`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, TypeAlias, get_args

import attrs

from wxtcb.api.database.literals import Document, Expression, name_literal, object_literal, to_literal
from wxtcb.api.database.operators import Changes, Conditions, render_changes, render_conditions
from wxtcb.errors import InvalidArgument
from wxtcb.validation import check_mapping, check_not_empty, check_string, type_validator, validator

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
