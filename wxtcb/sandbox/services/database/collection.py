"""One collection: its records, its indexes, and who may use it."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any, Final, cast

from attrs import define, field, frozen

from wxtcb.sandbox.errors import platform_error
from wxtcb.sandbox.services.database.operators import RecordUpdate, build_update
from wxtcb.sandbox.services.database.parser import syntax_error, unsupported
from wxtcb.sandbox.services.database.statements import (
    DEFAULT_LIMIT,
    Selection,
    Statement,
    build_pipeline,
    build_selection,
    project,
)
from wxtcb.sandbox.services.database.values import DatabaseRecord, Value, encode_record, require_plain_value, sort_key

__all__ = ["Collection", "QueryPage", "UpdateResult"]

_INDEX_SIZE: Final = 4096
_BUILTIN_INDEXES: Final = ("_id_", "_openid_1")


@frozen
class QueryPage:
    """The records of a page, and how many there are in all."""

    records: list[DatabaseRecord]
    offset: int
    limit: int
    total: int


@frozen
class UpdateResult:
    """How many records an update matched and changed; `created_id` is the ``_id`` of one that it made."""

    matched: int
    modified: int
    created_id: str = ""


@define(eq=False)
class Collection:
    """A collection; `new_id` makes the ``_id`` of a record that has none."""

    name: str
    _new_id: Callable[[], str] = field(repr=False)
    acl_tag: str = "PRIVATE"
    rule: str = ""
    indexes: dict[str, list[tuple[str, str]]] = field(factory=dict[str, list[tuple[str, str]]])
    _records: dict[tuple[Any, ...], DatabaseRecord] = field(
        init=False, repr=False, factory=dict[tuple[Any, ...], DatabaseRecord]
    )

    @property
    def records(self) -> list[DatabaseRecord]:
        """All records, oldest first."""
        return list(self._records.values())

    def stats(self) -> dict[str, object]:
        """Count records and indexes, and their bytes."""
        count = len(self.indexes) + len(_BUILTIN_INDEXES)
        size = sum(len(encode_record(record).encode()) for record in self._records.values())
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
            if name in self.indexes or name in _BUILTIN_INDEXES:
                raise platform_error(-502001, f"index {name} exists")
        self.indexes.update(indexes)

    def drop_indexes(self, names: list[str]) -> None:
        """Remove indexes; one that is not there is refused, and none is removed then."""
        for name in names:
            if name not in self.indexes:
                raise platform_error(-502001, f"index {name} does not exist")
        for name in dict.fromkeys(names):
            del self.indexes[name]

    def put(self, record: DatabaseRecord, *, replace: bool = False) -> str:
        """Take a record in and return its ``_id``; one that is there already is replaced, or refused."""
        record_id = record["_id"] if _has_id(record) else self._new_id()
        key = sort_key(record_id)
        if key in self._records and not replace:
            raise platform_error(-502001, f"duplicate _id {record_id}")
        self._records[key] = {"_id": record_id, **{name: each for name, each in record.items() if name != "_id"}}
        return str(record_id)

    def insert(self, statement: Statement) -> list[str]:
        """Add records, all or none."""
        if statement.steps:
            raise unsupported(f"{statement.steps[-1][0]}() before add()")
        data = require_plain_value(statement.data())
        records = data if isinstance(data, list) else [data]
        if not records or not all(isinstance(record, dict) for record in records):
            raise syntax_error("add takes an object, or a list of some")
        given = [sort_key(record["_id"]) for record in records if _has_id(record)]
        if len(set(given)) < len(given) or not self._records.keys().isdisjoint(given):
            raise platform_error(-502001, "duplicate _id")
        return [self.put(record) for record in records]

    def query(self, statement: Statement) -> QueryPage:
        """Read a page of records: 10 where nothing else is said."""
        chosen = self.select(statement)
        records = chosen.apply(self.records)
        limit = chosen.limit or DEFAULT_LIMIT
        page = records[chosen.skip : chosen.skip + limit]
        return QueryPage(_project_all(page, chosen), chosen.skip, limit, len(records))

    def export(self, statement: Statement) -> list[DatabaseRecord]:
        """Read all records of a query, which ends at its limit alone."""
        chosen = self.select(statement)
        until = None if chosen.limit is None else chosen.skip + chosen.limit
        return _project_all(chosen.apply(self.records)[chosen.skip : until], chosen)

    def aggregate(self, statement: Statement) -> list[DatabaseRecord]:
        """Read what comes out of a pipeline."""
        return list(build_pipeline(statement)(self.records))

    def remove(self, statement: Statement) -> int:
        """Remove records and count them."""
        chosen = self._select_for_write(statement)
        if statement.args:
            raise syntax_error("remove takes nothing")
        gone = chosen.apply(self.records)
        for record in gone:
            del self._records[sort_key(record["_id"])]
        return len(gone)

    def update(self, statement: Statement) -> UpdateResult:
        """Change records, all or none."""
        chosen = self._select_for_write(statement)
        if statement.operation == "set":
            return self._replace(chosen, statement.data())
        change = build_update(statement.data())
        matched = chosen.apply(self.records)
        changed = [_apply_update(record, change) for record in matched]
        for record in changed:
            self._records[sort_key(record["_id"])] = record
        modified = sum(sort_key(old) != sort_key(new) for old, new in zip(matched, changed, strict=True))
        return UpdateResult(len(matched), modified)

    def _replace(self, selection: Selection, data: Value) -> UpdateResult:
        if selection.record_id is None:
            raise unsupported("set() of more than one record")
        if not isinstance(data, dict) or "_id" in data:
            raise syntax_error("set takes an object without _id")
        record: DatabaseRecord = {"_id": selection.record_id, **cast("DatabaseRecord", require_plain_value(data))}
        key = sort_key(selection.record_id)
        known = self._records.get(key)
        self._records[key] = record
        if known is None:
            return UpdateResult(0, 0, str(selection.record_id))
        return UpdateResult(1, int(sort_key(known) != sort_key(record)))

    def select(self, statement: Statement) -> Selection:
        """Return what a query chooses."""
        if statement.args:
            raise syntax_error("get takes nothing")
        return build_selection(statement)

    def _select_for_write(self, statement: Statement) -> Selection:
        """Return what is to be changed: one record, or those that meet conditions, with nothing else said."""
        chosen = build_selection(statement)
        if chosen.step_names not in (("where",), ("doc",)):
            raise unsupported(f"{statement.operation}() after anything but one where() or doc()")
        return chosen


def _has_id(record: DatabaseRecord) -> bool:
    return record.get("_id") not in (None, "")


def _apply_update(record: DatabaseRecord, update: RecordUpdate) -> DatabaseRecord:
    new = deepcopy(record)
    update(new)
    return new


def _project_all(records: list[DatabaseRecord], selection: Selection) -> list[DatabaseRecord]:
    fields = selection.fields
    return records if fields is None else [project(record, fields) for record in records]
