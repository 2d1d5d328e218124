"""Types of the database; checked by type checkers, never run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from datetime import datetime
from typing import Any, assert_type

import attrs

from wxtcb import Done, Secret, Session
from wxtcb.api import database
from wxtcb.api.database import ConflictMode, FileType, Index, IndexKey, collection


def statements(now: datetime, anything: Any) -> None:
    """Build statements."""
    geo = collection("geo")
    assert_type(geo, database.Collection)
    found = geo.where({"done": True, "age": database.gt(5), "at": now, "tags": ["a", None], "x": anything})
    assert_type(found, database.Filter)
    assert_type(found.order_by("age", "desc").skip(1).limit(10), database.Selection)
    assert_type(found.field("a", "b").get(), database.Query)
    assert_type(found.update({"n": database.inc(1), "a": {"b": [1.5]}}), database.Update)
    assert_type(found.remove(), database.Delete)
    assert_type(geo.doc("1"), database.RecordRef)
    assert_type(geo.doc("1").get(), database.Query)
    assert_type(geo.doc("1").set({"a": database.Point(113, 23)}), database.Update)
    assert_type(geo.doc("1").update({"a": database.ServerDate()}), database.Update)
    assert_type(geo.doc("1").remove(), database.Delete)
    assert_type(geo.add({"a": 1}, {"b": {"c": ()}}), database.Insert)
    assert_type(geo.aggregate().match({"a": 1}).sort({"a": "desc"}).project("a"), database.Pipeline)
    assert_type(geo.aggregate().end(), database.Aggregate)
    assert_type(database.and_(database.gt(1), database.lt(5)), database.Comparison)
    assert_type(database.or_({"a": 1}, {"b": database.exists()}), database.Combination)
    assert_type(geo.where(database.or_({"a": 1}, database.and_({"b": 1}))).get(), database.Query)
    assert_type(str(geo.get()), str)
    assert_type(geo.limit(5).limit_count, int | None)


def refused_statements() -> None:
    """Build invalid statements."""
    geo = collection("geo")
    collection(5)  # type: ignore[arg-type]
    geo.where("db.x")  # type: ignore[arg-type]
    geo.where({1: "a"})  # type: ignore[dict-item]
    geo.where({"a": object()})  # type: ignore[dict-item]
    geo.where({"a": database.inc(1)})  # type: ignore[dict-item]
    geo.where({"a": {"b": database.gt(1)}})  # type: ignore[dict-item]
    geo.where({"a": 1}).update({"a": database.gt(1)})  # type: ignore[dict-item]
    geo.add({"a": database.gt(1)})  # type: ignore[dict-item]
    geo.add([{"a": 1}])  # type: ignore[arg-type]
    geo.remove()  # type: ignore[attr-defined]
    geo.where({}).limit(1).remove()  # type: ignore[attr-defined]
    geo.where({}).limit(1).update({"a": 1})  # type: ignore[attr-defined]
    geo.order_by("a", "up")  # type: ignore[arg-type]
    geo.limit("5")  # type: ignore[arg-type]
    geo.doc(5)  # type: ignore[arg-type]
    geo.aggregate().sort({"a": -1})  # type: ignore[dict-item]
    database.or_(database.gt(1), {"a": 1})  # type: ignore[call-overload]
    database.inc("1")  # type: ignore[arg-type]
    geo.limit(5).limit_count = 7  # type: ignore[misc]


async def records(session: Session) -> None:
    """Insert, update, delete and query."""
    geo = collection("geo")
    added = await database.db_record_insert(session, "e", geo.add({"a": 1}))
    assert_type(added, database.InsertResult)
    assert_type(added.id_list, tuple[str, ...])
    changed = await database.db_record_update(session, "e", geo.where({}).update({"a": 1}))
    assert_type(changed, database.UpdateResult)
    assert_type(changed.matched, int)
    assert_type(changed.id, str)
    removed = await database.db_record_delete(session, "e", geo.doc("1").remove())
    assert_type(removed, database.DeleteResult)
    assert_type(removed.deleted, int)
    found = await database.db_record_query(session, "e", geo.get())
    assert_type(found, database.QueryResult)
    assert_type(found.documents, tuple[Mapping[str, Any], ...])
    assert_type(found.pager.total, int)
    passed = await database.db_aggregate(session, "e", geo.aggregate().end())
    assert_type(passed, database.AggregateResult)
    assert_type(passed.documents, tuple[Mapping[str, Any], ...])
    assert_type(await database.db_record_query(session, "e", "db.collection('geo').get()"), database.QueryResult)
    assert_type(database.iter_documents(session, "e", geo.get(), page_size=5), AsyncIterator[Mapping[str, Any]])
    assert_type(database.read_document("{}"), dict[str, Any])
    assert_type(database.write_document({}), str)


async def refused_records(session: Session) -> None:
    """Send the statement of another call."""
    geo = collection("geo")
    await database.db_record_query(session, "e", geo)  # type: ignore[arg-type]
    await database.db_record_query(session, "e", geo.where({}).remove())  # type: ignore[arg-type]
    await database.db_record_query(session, "e", geo.aggregate().end())  # type: ignore[arg-type]
    await database.db_record_insert(session, "e", geo.get())  # type: ignore[arg-type]
    await database.db_record_update(session, "e", geo.where({}).remove())  # type: ignore[arg-type]
    await database.db_record_delete(session, "e", geo.doc("1").update({"a": 1}))  # type: ignore[arg-type]
    await database.db_aggregate(session, "e", geo.get())  # type: ignore[arg-type]
    await database.db_record_query(session, geo.get())  # type: ignore[call-arg]
    database.iter_documents(session, "e", "db.collection('geo').get()")  # type: ignore[arg-type]
    database.write_document([])  # type: ignore[arg-type]


async def files(session: Session) -> None:
    """Import and export."""
    job = await database.db_import(
        session, "e", "c", file_path="f", file_type=FileType.JSON, conflict_mode=ConflictMode.UPSERT, stop_on_error=True
    )
    assert_type(job, database.MigrationJob)
    assert_type(job.job_id, int)
    query = collection("c").get()
    assert_type(
        await database.db_export(session, "e", file_path="f", file_type=FileType.CSV, query=query),
        database.MigrationJob,
    )
    state = await database.db_migration_state(session, "e", job.job_id)
    assert_type(state, database.MigrationState)
    assert_type(state.file_url, Secret | None)
    assert_type(await database.wait_until_migrated(session, "e", 5, timeout=60, interval=1.5), database.MigrationState)


async def refused_files(session: Session) -> None:
    """Misuse the calls of jobs."""
    await database.db_export(session, "e", file_path="f", file_type=1, query="q")  # type: ignore[arg-type]
    await database.db_export(session, "e", "f", FileType.CSV, "q")  # type: ignore[call-arg]
    await database.db_export(
        session,
        "e",
        file_path="f",
        file_type=FileType.CSV,
        query=collection("c").where({}).remove(),  # type: ignore[arg-type]
    )
    await database.db_import(session, "e", "c", file_path="f", file_type=FileType.CSV)  # type: ignore[call-arg]
    await database.db_migration_state(session, "e", "5")  # type: ignore[arg-type]
    await database.wait_until_migrated(session, "e", 5, 60)  # type: ignore[call-arg]


async def structure(session: Session) -> None:
    """Manage collections, indexes and access."""
    assert_type(await database.db_collection_add(session, "e", "c"), Done)
    assert_type(await database.db_collection_del(session, "e", "c"), Done)
    page = await database.db_collection_get(session, "e", limit=5, offset=0)
    assert_type(page, database.Collections)
    assert_type(page.collections, tuple[database.CollectionInfo, ...])
    assert_type(page.total, int | None)
    assert_type(database.iter_collections(session, "e"), AsyncIterator[database.CollectionInfo])
    index = Index(name="i", keys=[IndexKey("a"), IndexKey("b", direction=-1), IndexKey("c", direction="2dsphere")])
    assert_type(index.keys, tuple[IndexKey, ...])
    assert_type(index.keys[0].direction, database.Direction)
    assert_type(attrs.evolve(index, name="j"), Index)
    assert_type(await database.db_index_create(session, "e", "c", [index]), Done)
    assert_type(await database.db_index_delete(session, "e", "c", ["i"]), Done)
    acl = await database.db_get_acl(session, "e", "c")
    assert_type(acl, database.Acl)
    assert_type(acl.rule, str | None)
    assert_type(await database.db_modify_acl(session, "e", "c", "CUSTOM", "{}"), Done)
    assert_type(await database.db_modify_acl(session, "e", "c", "PRIVATE", rule=None), Done)


async def refused_structure(session: Session) -> None:
    """Misuse the calls of collections."""
    await database.db_collection_add(session, "e")  # type: ignore[call-arg]
    await database.db_collection_del(session, "e")  # type: ignore[call-arg]
    await database.db_collection_get(session, "e", 5)  # type: ignore[call-arg]
    await database.db_get_acl(session, "e", 5)  # type: ignore[arg-type]
    await database.db_modify_acl(session, "e", "c", "private")  # type: ignore[arg-type]
    await database.db_modify_acl(session, "e", "c", "CUSTOM", {"read": True})  # type: ignore[arg-type]
    await database.db_index_create(session, "e", "c", ["i"])  # type: ignore[list-item]
    await database.db_index_delete(session, "e", "c", [Index(name="i", keys=[])])  # type: ignore[list-item]
    Index("i", [])  # type: ignore[call-arg]
    Index(name="i", keys=["a"])  # type: ignore[list-item]
    IndexKey("a", "1")  # type: ignore[call-arg]
    IndexKey("a", direction="up")  # type: ignore[arg-type]
    IndexKey("a", direction=2)  # type: ignore[arg-type]
