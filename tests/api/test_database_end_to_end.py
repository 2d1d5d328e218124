"""Database calls against the sandbox: records are found again, and values of users stay values."""

from __future__ import annotations

from datetime import UTC

import orjson
import pytest
from hypothesis import example, given, settings, strategies as st

import wxtcb
from wxtcb.api import database
from wxtcb.api.database import ConflictMode, FileType, collection, gt
from wxtcb.sandbox import ReadyPolicy, World
from wxtcb.sandbox.request import Body
from wxtcb.sandbox.routes import handle

GEO = collection("geo")
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
    | st.datetimes(timezones=st.just(UTC)).map(lambda at: at.replace(microsecond=0, fold=0)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab.'\"\\;}\u2028"), inner, max_size=3),
    max_leaves=8,
)
ATTACKS = [
    '"}).remove();db.collection("geo").where({"a":"',
    '"}); db.collection("geo").remove(); ("',
    "'}).remove()//",
    "\\",
    '\\"',
    "\u2028}).remove()",
    "*/ /* ${db.collection('geo').remove()} `",
    "</script><script>",
    "$where",
]


@pytest.fixture
def session(live):
    """Use the simulated platform in every test."""
    return live


@pytest.fixture
async def env(sandbox, session):
    """Create an environment with a collection of three records."""
    env = sandbox.world.add("a")
    await database.db_collection_add(session, env, "geo")
    await database.db_record_insert(session, env, GEO.add(*({"_id": f"{n}", "n": n} for n in range(3))))
    return env


def executed(world, env, action, statement):
    """Execute a statement in the sandbox without HTTP."""
    body = Body({"action": action, "env": env, "query": str(statement)})
    return orjson.loads(handle(world, "/componenttcb/dbrecord", body))


@settings(max_examples=60)
@given(VALUES)
@example(ATTACKS)
def test_value_of_a_user_is_stored_and_found(value):
    """It is stored unchanged, a query by it finds only its record, and other records stay."""
    world = World()
    env = world.add("a")
    world.databases.add_collection(env, "geo").put({"_id": "other", "v": "other"})
    executed(world, env, "insert", GEO.add({"_id": "mine", "v": value}))
    found = executed(world, env, "query", GEO.where({"_id": "mine", "v": value}).get())
    assert [database.read_document(text) for text in found["data"]] == [{"_id": "mine", "v": value}]
    assert executed(world, env, "delete", GEO.where({"_id": "mine", "v": value}).remove())["deleted"] == 1
    assert [record["_id"] for record in world.databases.collection(env, "geo").records] == ["other"]


@pytest.mark.parametrize("attack", ATTACKS)
async def test_injection_has_no_effect(session, env, attack):
    """As a condition, an id or a new value, an attack is an ordinary string."""
    assert (await database.db_record_delete(session, env, GEO.where({"name": attack}).remove())).deleted == 0
    assert (await database.db_record_delete(session, env, GEO.doc(attack).remove())).deleted == 0
    await database.db_record_update(session, env, GEO.doc("1").update({"name": attack}))
    found = await database.db_record_query(session, env, GEO.get())
    assert [each.get("name") for each in found.documents] == [None, attack, None]


async def test_record_life_cycle(session, env):
    """Added records are found, changed, aggregated and removed."""
    changed = await database.db_record_update(session, env, GEO.where({"n": gt(0)}).update({"n": database.inc(10)}))
    assert (changed.matched, changed.modified) == (2, 2)
    made = await database.db_record_update(session, env, GEO.doc("new").set({"n": 5, "loc": database.Point(113, 23)}))
    assert made.id == "new"
    found = await database.db_record_query(session, env, GEO.order_by("n", "desc").limit(3).field("n").get())
    assert found.pager == database.Pager(offset=0, limit=3, total=4)
    assert [each["n"] for each in found.documents] == [12, 11, 5]
    passed = await database.db_aggregate(session, env, GEO.aggregate().match({"n": 5}).project("loc").end())
    assert passed.documents == ({"_id": "new", "loc": {"type": "Point", "coordinates": [113.0, 23.0]}},)
    removed = await database.db_record_delete(session, env, GEO.where({"n": database.in_([0, 5])}).remove())
    assert removed.deleted == 2
    rest = [each["_id"] async for each in database.iter_documents(session, env, GEO.order_by("_id").get(), page_size=1)]
    assert rest == ["1", "2"]


async def test_export_and_import(sandbox, session, env):
    """An exported file can be imported into another collection."""
    sandbox.world.operations_ready_after = ReadyPolicy.after_polls(2)
    job = await database.db_export(session, env, file_path="x.json", file_type=FileType.JSON, query=GEO.get())
    ended = await database.wait_until_migrated(session, env, job.job_id, interval=0.001)
    assert (ended.status, ended.record_success) == ("success", 3)
    await database.db_collection_add(session, env, "copy")
    job = await database.db_import(
        session, env, "copy", file_path="x.json", file_type=FileType.JSON, conflict_mode=ConflictMode.INSERT
    )
    await database.wait_until_migrated(session, env, job.job_id, interval=0.001)
    copied = [each async for each in database.iter_documents(session, env, collection("copy").get())]
    assert copied == [{"_id": f"{n}", "n": n} for n in range(3)]
    again = await database.db_import(
        session,
        env,
        "copy",
        file_path="x.json",
        file_type=FileType.JSON,
        conflict_mode=ConflictMode.INSERT,
        stop_on_error=True,
    )
    with pytest.raises(wxtcb.errors.OperationFailed, match="duplicate _id 0"):
        await database.wait_until_migrated(session, env, again.job_id, interval=0.001)


async def test_collection_life_cycle(session, env):
    """Indexes, access rules and collections are created and deleted."""
    index = database.Index(name="by_n", keys=[database.IndexKey("n", direction=-1)])
    await database.db_index_create(session, env, "geo", [index])
    [info] = [each async for each in database.iter_collections(session, env)]
    assert (info.name, info.count, info.index_count) == ("geo", 3, 3)
    await database.db_index_delete(session, env, "geo", ["by_n"])
    await database.db_modify_acl(session, env, "geo", "CUSTOM", '{"read": true}')
    assert await database.db_get_acl(session, env, "geo") == database.Acl(acl_tag="CUSTOM", rule='{"read": true}')
    await database.db_modify_acl(session, env, "geo", "ADMINONLY")
    assert (await database.db_get_acl(session, env, "geo")).rule is None
    await database.db_collection_del(session, env, "geo")
    with pytest.raises(wxtcb.ApiError, match="collection geo") as caught:
        await database.db_record_query(session, env, GEO.get())
    assert caught.value.errcode == -502005
