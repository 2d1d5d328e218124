"""Statements of the database, built of values that are escaped: no value ever becomes code.

``str(statement)`` is what is sent. Each kind fits one call: a `Query` is no `Delete`.
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

MAX_LIMIT: Final = 1000
_SORT_DIRECTIONS: Final = {'"asc"': "1", '"desc"': "-1"}


@attrs.frozen
class Insert(Expression):
    """Adds records."""


@attrs.frozen
class Update(Expression):
    """Changes records."""


@attrs.frozen
class Delete(Expression):
    """Removes records."""


@attrs.frozen
class Aggregate(Expression):
    """Sends records through a pipeline."""


@attrs.frozen
class Selectable:
    """What records can be read from; `source` is the statement so far, and code: `collection` makes the first one."""

    source: str = attrs.field(kw_only=True)

    def order_by(self, field: str, order: SortOrder = "asc") -> Selection:
        """Sort by a field; a second call sorts what is equal by the first."""
        chosen, step = self._selection(), f".orderBy({name_literal('field', field)}, {_order_literal('order', order)})"
        return attrs.evolve(chosen, order_clauses=chosen.order_clauses + step)

    def field(self, *names: str) -> Selection:
        """Give these fields alone, and ``_id``."""
        check_not_empty("names", names)
        step = f".field({object_literal({name_literal('names', each): 'true' for each in names})})"
        return attrs.evolve(self._selection(), projection=step)

    def skip(self, count: int) -> Selection:
        """Leave the first *count* records out."""
        return attrs.evolve(self._selection(), skip_count=_require_in_range("count", count, 0))

    def limit(self, count: int) -> Selection:
        """Give at most *count* records; it is 10 without a limit, and 1000 at the most."""
        return attrs.evolve(self._selection(), limit_count=_require_in_range("count", count, 1, MAX_LIMIT))

    def get(self) -> Query:
        """Read them."""
        return Query(self._selection())

    def _selection(self) -> Selection:
        return Selection(source=self.source)

    def __str__(self) -> str:
        return self.source


@attrs.frozen
class Selection(Selectable):
    """Some records in some order; every method gives a new one. None stands for what was not said."""

    order_clauses: str = ""
    projection: str = ""
    skip_count: int | None = None
    limit_count: int | None = None

    def _selection(self) -> Selection:
        return self

    def __str__(self) -> str:
        skip = "" if self.skip_count is None else f".skip({self.skip_count})"
        limit = "" if self.limit_count is None else f".limit({self.limit_count})"
        return f"{self.source}{self.order_clauses}{skip}{limit}{self.projection}"


@attrs.frozen
class Query:
    """Reads the records of a selection."""

    selection: Selection = attrs.field(validator=type_validator(Selection, optional=False))

    def __str__(self) -> str:
        return f"{self.selection}.get()"


@attrs.frozen
class Filter(Selectable):
    """The records that meet conditions; they can be changed and removed too, all of them."""

    def update(self, changes: Changes) -> Update:
        """Change every record: a value, or a mapping, takes the place of what the field held."""
        return Update(text=f"{self}.update({{data: {render_changes('changes', changes)}}})")

    def remove(self) -> Delete:
        """Remove every record."""
        return Delete(text=f"{self}.remove()")


@attrs.frozen
class RecordRef:
    """One record of collection *source*, by its ``_id``."""

    record_id: str = attrs.field(validator=validator(check_string))
    source: str = attrs.field(kw_only=True)

    def get(self) -> Query:
        """Read it; there may be none."""
        return Query(Selection(source=f"{self.source}.where({object_literal({'_id': self._id_literal})})"))

    def update(self, changes: Changes) -> Update:
        """Change it, if it is there: a value, or a mapping, takes the place of what the field held."""
        return Update(text=f"{self}.update({{data: {render_changes('changes', changes)}}})")

    def set(self, document: Document) -> Update:
        """Put *document* in its place, or make it if it is not there."""
        return Update(text=f"{self}.set({{data: {_document_literal(document)}}})")

    def remove(self) -> Delete:
        """Remove it, if it is there."""
        return Delete(text=f"{self}.remove()")

    def __str__(self) -> str:
        return f"{self.source}.doc({self._id_literal})"

    @property
    def _id_literal(self) -> str:
        return to_literal("record_id", self.record_id)


@attrs.frozen
class Pipeline(Expression):
    """Steps that the records of a collection go through, one after the other; every method gives a new one."""

    def match(self, conditions: Conditions) -> Pipeline:
        """Let pass what meets the conditions."""
        return self._append_stage("match", render_conditions("conditions", conditions))

    def sort(self, orders: Mapping[str, SortOrder]) -> Pipeline:
        """Sort by these fields, the first of them first."""
        check_mapping("orders", orders)
        check_not_empty("orders", orders)
        signs = {
            name_literal("orders", key): _SORT_DIRECTIONS[_order_literal("orders", each)]
            for key, each in orders.items()
        }
        return self._append_stage("sort", object_literal(signs))

    def skip(self, count: int) -> Pipeline:
        """Leave the first *count* out."""
        return self._append_stage("skip", str(_require_in_range("count", count, 0)))

    def limit(self, count: int) -> Pipeline:
        """Let *count* pass at most."""
        return self._append_stage("limit", str(_require_in_range("count", count, 1)))

    def project(self, *names: str) -> Pipeline:
        """Keep these fields alone, and ``_id``."""
        check_not_empty("names", names)
        return self._append_stage("project", object_literal({name_literal("names", each): "1" for each in names}))

    def end(self) -> Aggregate:
        """Read what comes out."""
        return Aggregate(text=f"{self}.end()")

    def _append_stage(self, stage: str, argument: str) -> Pipeline:
        return Pipeline(text=f"{self}.{stage}({argument})")


@attrs.frozen
class Collection(Selectable):
    """All records of a collection."""

    def where(self, conditions: Conditions) -> Filter:
        """Choose records; a mapping or a list as a value is an exact match, a field in an object is ``"a.b"``.

        Empty conditions choose all there are: look twice where they come from a user, before you remove those.
        """
        return Filter(source=f"{self}.where({render_conditions('conditions', conditions)})")

    def doc(self, record_id: str) -> RecordRef:
        """Choose one record by its ``_id``."""
        return RecordRef(record_id, source=self.source)

    def add(self, *documents: Document) -> Insert:
        """Add records; each gets an ``_id`` unless it has one."""
        check_not_empty("documents", documents)
        texts = [_document_literal(each) for each in documents]
        data = texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"
        return Insert(text=f"{self}.add({{data: {data}}})")

    def aggregate(self) -> Pipeline:
        """Send all records through a pipeline."""
        return Pipeline(text=f"{self}.aggregate()")


def collection(name: str) -> Collection:
    """Begin a statement on collection *name*."""
    return Collection(source=f"db.collection({name_literal('name', name)})")


def _document_literal(document: object) -> str:
    check_mapping("document", document)
    return to_literal("document", document)


def _require_in_range(name: str, value: object, minimum: int, maximum: float = float("inf")) -> int:
    if type(value) is not int or not minimum <= value <= maximum:
        until = "" if maximum == float("inf") else f" and at most {maximum}"
        raise InvalidArgument(f"{name} must be a whole number, at least {minimum}{until}, not {value!r}")
    return value


def _order_literal(name: str, value: SortOrder) -> str:
    if value not in get_args(SortOrder):
        raise InvalidArgument(f"{name} must be 'asc' or 'desc', not {value!r}")
    return f'"{value}"'
