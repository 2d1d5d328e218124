"""A collection: records, indexes and access rules."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import Any, Final, cast

from attrs import define, field

from wxtcb.sandbox.errors import platform_error
from wxtcb.sandbox.services.database.operators import build_update
from wxtcb.sandbox.services.database.parser import syntax_error, unsupported
from wxtcb.sandbox.services.database.statements import RecordSelection, Statement, build_pipeline, build_selection
from wxtcb.sandbox.services.database.values import DatabaseRecord, Value, encode_record, require_plain_value, sort_key

# Every collection of the platform has these two. They can be neither created nor deleted.
_BUILTIN_INDEXES: Final = ("_id_", "_openid_1")
_Key = tuple[Any, ...]


@define(eq=False)
class DatabaseCollection:
    """A collection. `new_id` returns an ``_id`` for a record that has none."""

    name: str
    _new_id: Callable[[], str] = field(repr=False)
    acl_tag: str = "PRIVATE"
    rule: str = ""
    indexes: dict[str, list[tuple[str, str]]] = field(factory=dict[str, list[tuple[str, str]]])
    # Keyed by the sort key of _id, so that 1 and 1.0 are the same id, as in the database.
    _records: dict[_Key, DatabaseRecord] = field(init=False, repr=False, factory=dict[_Key, DatabaseRecord])

    @property
    def records(self) -> list[DatabaseRecord]:
        return list(self._records.values())

    def stats(self) -> dict[str, object]:
        count = len(self.indexes) + len(_BUILTIN_INDEXES)
        size = sum(len(encode_record(record).encode()) for record in self._records.values())
        indexes = {"index_count": count, "index_size": count * 4096}
        return {"name": self.name, "count": len(self._records), "size": size, **indexes}

    def add_indexes(self, indexes: dict[str, list[tuple[str, str]]]) -> None:
        for name in indexes:
            if name in self.indexes or name in _BUILTIN_INDEXES:
                raise platform_error(-502001, f"index {name} exists")
        self.indexes.update(indexes)

    def drop_indexes(self, names: list[str]) -> None:
        for name in names:
            if name not in self.indexes:
                raise platform_error(-502001, f"index {name} does not exist")
        # A name may be given twice.
        for name in dict.fromkeys(names):
            del self.indexes[name]

    def put(self, record: DatabaseRecord, *, replace: bool = False) -> str:
        record_id = record["_id"] if _has_id(record) else self._new_id()
        key = sort_key(record_id)
        if key in self._records and not replace:
            raise platform_error(-502001, f"duplicate _id {record_id}")
        self._records[key] = {"_id": record_id, **{name: each for name, each in record.items() if name != "_id"}}
        return str(record_id)

    def insert(self, statement: Statement) -> list[str]:
        if statement.steps:
            raise unsupported(f"{statement.steps[-1][0]}() before add()")
        data = require_plain_value(statement.data())
        records = data if isinstance(data, list) else [data]
        if not records or not all(isinstance(record, dict) for record in records):
            raise syntax_error("add takes an object or a non-empty list of objects")
        # Check all ids first: a duplicate must leave the collection unchanged.
        ids = [sort_key(record["_id"]) for record in records if _has_id(record)]
        if len(set(ids)) < len(ids) or not self._records.keys().isdisjoint(ids):
            raise platform_error(-502001, "duplicate _id")
        return [self.put(record) for record in records]

    def query(self, statement: Statement) -> Mapping[str, object]:
        """Return a page of records: 10 unless the statement has a limit."""
        selection = self.select(statement)
        records = selection.apply(self.records)
        limit = selection.limit or 10
        page = selection.project(records[selection.skip : selection.skip + limit])
        pager = {"offset": selection.skip, "limit": limit, "total": len(records)}
        return {"pager": pager, "data": [encode_record(record) for record in page]}

    def export(self, statement: Statement) -> list[DatabaseRecord]:
        selection = self.select(statement)
        end = None if selection.limit is None else selection.skip + selection.limit
        return selection.project(selection.apply(self.records)[selection.skip : end])

    def aggregate(self, statement: Statement) -> list[DatabaseRecord]:
        return list(build_pipeline(statement)(self.records))

    def remove(self, statement: Statement) -> int:
        selection = self._select_for_write(statement)
        if statement.args:
            raise syntax_error("remove takes no arguments")
        removed = selection.apply(self.records)
        for record in removed:
            del self._records[sort_key(record["_id"])]
        return len(removed)

    def update(self, statement: Statement) -> Mapping[str, object]:
        selection = self._select_for_write(statement)
        if statement.operation == "set":
            return self._replace(selection, statement.data())
        change = build_update(statement.data())
        matched = selection.apply(self.records)
        # Change copies first: if one update fails, no record is changed.
        changed = [deepcopy(record) for record in matched]
        for record in changed:
            change(record)
        for record in changed:
            self._records[sort_key(record["_id"])] = record
        modified = sum(sort_key(old) != sort_key(new) for old, new in zip(matched, changed, strict=True))
        return {"matched": len(matched), "modified": modified, "id": ""}

    def _replace(self, selection: RecordSelection, data: Value) -> Mapping[str, object]:
        if selection.record_id is None:
            raise unsupported("set() of more than one record")
        if not isinstance(data, dict) or "_id" in data:
            raise syntax_error("set takes an object without _id")
        record: DatabaseRecord = {"_id": selection.record_id, **cast("DatabaseRecord", require_plain_value(data))}
        key = sort_key(selection.record_id)
        old = self._records.get(key)
        self._records[key] = record
        if old is None:
            return {"matched": 0, "modified": 0, "id": str(selection.record_id)}
        return {"matched": 1, "modified": int(sort_key(old) != sort_key(record)), "id": ""}

    def select(self, statement: Statement) -> RecordSelection:
        if statement.args:
            raise syntax_error("get takes no arguments")
        return build_selection(statement)

    def _select_for_write(self, statement: Statement) -> RecordSelection:
        """Return the records to change, which the statement must select by one ``doc`` or one ``where``."""
        selection = build_selection(statement)
        if selection.step_names not in (("where",), ("doc",)):
            raise unsupported(f"{statement.operation}() after anything but one where() or doc()")
        return selection


def _has_id(record: DatabaseRecord) -> bool:
    return record.get("_id") not in (None, "")
