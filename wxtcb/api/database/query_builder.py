"""Statements of the database, built of values that are escaped: no value ever becomes code.

``str(statement)`` is what is sent. Each kind fits one call: a `Query` is no `Delete`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, TypeAlias, get_args

import attrs

from wxtcb.api.database.literals import Document, Written, literal, name_of, object_of
from wxtcb.api.database.operators import Changes, Conditions, changes_text, conditions_text
from wxtcb.errors import InvalidArgument
from wxtcb.validation import check_entries, check_mapping, check_text, field_is, kind_is

Order: TypeAlias = Literal["asc", "desc"]

MOST: Final = 1000
_SIGNS: Final = {'"asc"': "1", '"desc"': "-1"}


@attrs.frozen
class Insert(Written):
    """Adds records."""


@attrs.frozen
class Update(Written):
    """Changes records."""


@attrs.frozen
class Delete(Written):
    """Removes records."""


@attrs.frozen
class Aggregate(Written):
    """Sends records through a pipeline."""


@attrs.frozen
class Readable:
    """What records can be read from; `source` is the statement so far, and code: `collection` makes the first one."""

    source: str = attrs.field(kw_only=True)

    def order_by(self, field: str, order: Order = "asc") -> Selection:
        """Sort by a field; a second call sorts what is equal by the first."""
        chosen, step = self._selection(), f".orderBy({name_of('field', field)}, {_order('order', order)})"
        return attrs.evolve(chosen, orders=chosen.orders + step)

    def field(self, *names: str) -> Selection:
        """Give these fields alone, and ``_id``."""
        check_entries("names", names)
        step = f".field({object_of({name_of('names', each): 'true' for each in names})})"
        return attrs.evolve(self._selection(), fields=step)

    def skip(self, count: int) -> Selection:
        """Leave the first *count* records out."""
        return attrs.evolve(self._selection(), skipped=_count("count", count, 0))

    def limit(self, count: int) -> Selection:
        """Give at most *count* records; it is 10 without a limit, and 1000 at the most."""
        return attrs.evolve(self._selection(), limited=_count("count", count, 1, MOST))

    def get(self) -> Query:
        """Read them."""
        return Query(self._selection())

    def _selection(self) -> Selection:
        return Selection(source=self.source)

    def __str__(self) -> str:
        return self.source


@attrs.frozen
class Selection(Readable):
    """Some records in some order; every method gives a new one. None stands for what was not said."""

    orders: str = ""
    fields: str = ""
    skipped: int | None = None
    limited: int | None = None

    def _selection(self) -> Selection:
        return self

    def __str__(self) -> str:
        skip = "" if self.skipped is None else f".skip({self.skipped})"
        limit = "" if self.limited is None else f".limit({self.limited})"
        return f"{self.source}{self.orders}{skip}{limit}{self.fields}"


@attrs.frozen
class Query:
    """Reads the records of a selection."""

    selection: Selection = attrs.field(validator=kind_is(Selection, optional=False))

    def __str__(self) -> str:
        return f"{self.selection}.get()"


@attrs.frozen
class Filter(Readable):
    """The records that meet conditions; they can be changed and removed too, all of them."""

    def update(self, changes: Changes) -> Update:
        """Change every record: a value, or a mapping, takes the place of what the field held."""
        return Update(text=f"{self}.update({{data: {changes_text('changes', changes)}}})")

    def remove(self) -> Delete:
        """Remove every record."""
        return Delete(text=f"{self}.remove()")


@attrs.frozen
class Record:
    """One record of collection *source*, by its ``_id``."""

    record_id: str = attrs.field(validator=field_is(check_text))
    source: str = attrs.field(kw_only=True)

    def get(self) -> Query:
        """Read it; there may be none."""
        return Query(Selection(source=f"{self.source}.where({object_of({'_id': self._written_id})})"))

    def update(self, changes: Changes) -> Update:
        """Change it, if it is there: a value, or a mapping, takes the place of what the field held."""
        return Update(text=f"{self}.update({{data: {changes_text('changes', changes)}}})")

    def set(self, document: Document) -> Update:
        """Put *document* in its place, or make it if it is not there."""
        return Update(text=f"{self}.set({{data: {_document(document)}}})")

    def remove(self) -> Delete:
        """Remove it, if it is there."""
        return Delete(text=f"{self}.remove()")

    def __str__(self) -> str:
        return f"{self.source}.doc({self._written_id})"

    @property
    def _written_id(self) -> str:
        return literal("record_id", self.record_id)


@attrs.frozen
class Pipeline(Written):
    """Steps that the records of a collection go through, one after the other; every method gives a new one."""

    def match(self, conditions: Conditions) -> Pipeline:
        """Let pass what meets the conditions."""
        return self._then("match", conditions_text("conditions", conditions))

    def sort(self, orders: Mapping[str, Order]) -> Pipeline:
        """Sort by these fields, the first of them first."""
        check_mapping("orders", orders)
        check_entries("orders", orders)
        signs = {name_of("orders", key): _SIGNS[_order("orders", each)] for key, each in orders.items()}
        return self._then("sort", object_of(signs))

    def skip(self, count: int) -> Pipeline:
        """Leave the first *count* out."""
        return self._then("skip", str(_count("count", count, 0)))

    def limit(self, count: int) -> Pipeline:
        """Let *count* pass at most."""
        return self._then("limit", str(_count("count", count, 1)))

    def project(self, *names: str) -> Pipeline:
        """Keep these fields alone, and ``_id``."""
        check_entries("names", names)
        return self._then("project", object_of({name_of("names", each): "1" for each in names}))

    def end(self) -> Aggregate:
        """Read what comes out."""
        return Aggregate(text=f"{self}.end()")

    def _then(self, stage: str, argument: str) -> Pipeline:
        return Pipeline(text=f"{self}.{stage}({argument})")


@attrs.frozen
class Collection(Readable):
    """All records of a collection."""

    def where(self, conditions: Conditions) -> Filter:
        """Choose records; a mapping or a list as a value is an exact match, a field in an object is ``"a.b"``.

        Empty conditions choose all there are: look twice where they come from a user, before you remove those.
        """
        return Filter(source=f"{self}.where({conditions_text('conditions', conditions)})")

    def doc(self, record_id: str) -> Record:
        """Choose one record by its ``_id``."""
        return Record(record_id, source=self.source)

    def add(self, *documents: Document) -> Insert:
        """Add records; each gets an ``_id`` unless it has one."""
        check_entries("documents", documents)
        texts = [_document(each) for each in documents]
        data = texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"
        return Insert(text=f"{self}.add({{data: {data}}})")

    def aggregate(self) -> Pipeline:
        """Send all records through a pipeline."""
        return Pipeline(text=f"{self}.aggregate()")


def collection(name: str) -> Collection:
    """Begin a statement on collection *name*."""
    return Collection(source=f"db.collection({name_of('name', name)})")


def _document(document: object) -> str:
    check_mapping("document", document)
    return literal("document", document)


def _count(name: str, value: object, least: int, most: float = float("inf")) -> int:
    if type(value) is not int or not least <= value <= most:
        until = "" if most == float("inf") else f" and at most {most}"
        raise InvalidArgument(f"{name} must be a whole number, at least {least}{until}, not {value!r}")
    return value


def _order(name: str, value: Order) -> str:
    if value not in get_args(Order):
        raise InvalidArgument(f"{name} must be 'asc' or 'desc', not {value!r}")
    return f'"{value}"'
