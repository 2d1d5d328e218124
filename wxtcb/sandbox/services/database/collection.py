"""One collection: its records, its indexes, and who may use it."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any, Final, cast

from attrs import define, field, frozen

from wxtcb.sandbox.errors import refuse
from wxtcb.sandbox.services.database.changes import Change, change_of
from wxtcb.sandbox.services.database.statements import USUAL, Selection, Statement, pipeline_of, projected, selection_of
from wxtcb.sandbox.services.database.terms import need_plain
from wxtcb.sandbox.services.database.values import Record, Value, key_of, write_record
from wxtcb.sandbox.services.database.words import malformed, not_simulated

__all__ = ["Collection", "Found", "Updated"]

_INDEX_SIZE: Final = 4096
_OWN_INDEXES: Final = ("_id_", "_openid_1")


@frozen
class Found:
    """The records of a page, and how many there are in all."""

    records: list[Record]
    offset: int
    limit: int
    total: int


@frozen
class Updated:
    """How many records an update matched and changed; `made` is the ``_id`` of one that it made."""

    matched: int
    modified: int
    made: str = ""


@define(eq=False)
class Collection:
    """A collection; `new_id` makes the ``_id`` of a record that has none."""

    name: str
    _new_id: Callable[[], str] = field(repr=False)
    acl_tag: str = "PRIVATE"
    rule: str = ""
    indexes: dict[str, list[tuple[str, str]]] = field(factory=dict[str, list[tuple[str, str]]])
    _records: dict[tuple[Any, ...], Record] = field(init=False, repr=False, factory=dict[tuple[Any, ...], Record])

    @property
    def records(self) -> list[Record]:
        """All records, oldest first."""
        return list(self._records.values())

    def stats(self) -> dict[str, object]:
        """Count records and indexes, and their bytes."""
        count = len(self.indexes) + len(_OWN_INDEXES)
        size = sum(len(write_record(record).encode()) for record in self._records.values())
        return {
            "name": self.name,
            "count": len(self._records),
            "size": size,
            "index_count": count,
            "index_size": count * _INDEX_SIZE,
        }

    def add_indexes(self, indexes: dict[str, list[tuple[str, str]]]) -> None:
        """Create indexes; one that is there already is refused, and none is created then."""
        for name in indexes:
            if name in self.indexes or name in _OWN_INDEXES:
                raise refuse(-502001, f"index {name} exists")
        self.indexes.update(indexes)

    def drop_indexes(self, names: list[str]) -> None:
        """Remove indexes; one that is not there is refused, and none is removed then."""
        for name in names:
            if name not in self.indexes:
                raise refuse(-502001, f"index {name} does not exist")
        for name in dict.fromkeys(names):
            del self.indexes[name]

    def put(self, record: Record, *, replace: bool = False) -> str:
        """Take a record in and return its ``_id``; one that is there already is replaced, or refused."""
        record_id = record["_id"] if _has_id(record) else self._new_id()
        key = key_of(record_id)
        if key in self._records and not replace:
            raise refuse(-502001, f"duplicate _id {record_id}")
        self._records[key] = {"_id": record_id, **{name: each for name, each in record.items() if name != "_id"}}
        return str(record_id)

    def insert(self, statement: Statement) -> list[str]:
        """Add records, all or none."""
        if statement.steps:
            raise not_simulated(f"{statement.steps[-1][0]}() before add()")
        data = need_plain(statement.data())
        records = data if isinstance(data, list) else [data]
        if not records or not all(isinstance(record, dict) for record in records):
            raise malformed("add takes an object, or a list of some")
        given = [key_of(record["_id"]) for record in records if _has_id(record)]
        if len(set(given)) < len(given) or not self._records.keys().isdisjoint(given):
            raise refuse(-502001, "duplicate _id")
        return [self.put(record) for record in records]

    def query(self, statement: Statement) -> Found:
        """Read a page of records: 10 where nothing else is said."""
        chosen = self.selected(statement)
        records = chosen.all_of(self.records)
        limit = chosen.limited or USUAL
        page = records[chosen.skipped : chosen.skipped + limit]
        return Found(_shown(page, chosen), chosen.skipped, limit, len(records))

    def export(self, statement: Statement) -> list[Record]:
        """Read all records of a query, which ends at its limit alone."""
        chosen = self.selected(statement)
        until = None if chosen.limited is None else chosen.skipped + chosen.limited
        return _shown(chosen.all_of(self.records)[chosen.skipped : until], chosen)

    def aggregate(self, statement: Statement) -> list[Record]:
        """Read what comes out of a pipeline."""
        return list(pipeline_of(statement)(self.records))

    def remove(self, statement: Statement) -> int:
        """Remove records and count them."""
        chosen = self._addressed(statement)
        if statement.args:
            raise malformed("remove takes nothing")
        gone = chosen.all_of(self.records)
        for record in gone:
            del self._records[key_of(record["_id"])]
        return len(gone)

    def update(self, statement: Statement) -> Updated:
        """Change records, all or none."""
        chosen = self._addressed(statement)
        if statement.way == "set":
            return self._replace(chosen, statement.data())
        change = change_of(statement.data())
        matched = chosen.all_of(self.records)
        changed = [_changed(record, change) for record in matched]
        for record in changed:
            self._records[key_of(record["_id"])] = record
        modified = sum(key_of(old) != key_of(new) for old, new in zip(matched, changed, strict=True))
        return Updated(len(matched), modified)

    def _replace(self, chosen: Selection, data: Value) -> Updated:
        if chosen.record_id is None:
            raise not_simulated("set() of more than one record")
        if not isinstance(data, dict) or "_id" in data:
            raise malformed("set takes an object without _id")
        record: Record = {"_id": chosen.record_id, **cast("Record", need_plain(data))}
        key = key_of(chosen.record_id)
        known = self._records.get(key)
        self._records[key] = record
        if known is None:
            return Updated(0, 0, str(chosen.record_id))
        return Updated(1, int(key_of(known) != key_of(record)))

    def selected(self, statement: Statement) -> Selection:
        """Return what a query chooses."""
        if statement.args:
            raise malformed("get takes nothing")
        return selection_of(statement)

    def _addressed(self, statement: Statement) -> Selection:
        """Return what is to be changed: one record, or those that meet conditions, with nothing else said."""
        chosen = selection_of(statement)
        if chosen.names not in (("where",), ("doc",)):
            raise not_simulated(f"{statement.way}() after anything but one where() or doc()")
        return chosen


def _has_id(record: Record) -> bool:
    return record.get("_id") not in (None, "")


def _changed(record: Record, change: Change) -> Record:
    new = deepcopy(record)
    change(new)
    return new


def _shown(records: list[Record], chosen: Selection) -> list[Record]:
    fields = chosen.fields
    return records if fields is None else [projected(record, fields) for record in records]
