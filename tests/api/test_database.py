"""The calls of the database: what goes out, what comes back, what is refused before anything is sent."""

from __future__ import annotations

import inspect

import pytest

import wxtcb
from wxtcb._protocol.endpoint import Repeat
from wxtcb.api import database
from wxtcb.api.database import ConflictMode, FileType, Index, IndexKey, collection

DONE = {"errcode": 0, "errmsg": "ok"}
GEO = collection("geo")
IMPORT = {"file_path": "a.json", "file_type": FileType.JSON, "conflict_mode": ConflictMode.INSERT}
EXPORT = {"file_path": "a.json", "file_type": FileType.CSV, "query": "db"}
KEY = IndexKey("due")


def page(documents, total, offset=0):
    """Make the reply of a query."""
    pager = {"offset": offset, "limit": 2, "total": total}
    return {"errcode": 0, "pager": pager, "data": [f'{{"_id":"{each}"}}' for each in documents]}


@pytest.mark.parametrize(
    ("call", "statement"),
    [
        (database.db_record_insert, GEO.add({})),
        (database.db_record_delete, GEO.where({}).remove()),
        (database.db_record_update, GEO.doc("1").set({})),
        (database.db_record_query, GEO.get()),
        (database.db_aggregate, GEO.aggregate().end()),
    ],
    ids=lambda each: getattr(each, "__name__", type(each).__name__),
)
async def test_a_call_takes_its_own_kind_of_statement_and_a_text(session, platform, call, statement):
    """Both go out as text; the statement of another call, and what is none, are refused."""
    platform.replies = [page([], 0) | {"id_list": [], "deleted": 0, "matched": 0, "modified": 0}]
    await call(session, "e-1", statement)
    await call(session, "e-1", "db.x()")
    assert [body["query"] for body in platform.bodies] == [str(statement), "db.x()"]
    others = {GEO.add({}), GEO.where({}).remove(), GEO.doc("1").set({}), GEO.get(), GEO.aggregate().end()}
    for wrong in (others - {statement}) | {"", None, GEO, b"db"}:
        with pytest.raises(wxtcb.InvalidArgument, match=r"^query must be"):
            await call(session, "e-1", wrong)
    assert len(platform.sent) == 2


@pytest.mark.parametrize(
    ("call", "args", "options", "name"),
    [
        (database.db_import, ("e", ""), IMPORT, "collection_name"),
        (database.db_import, ("e", "c"), IMPORT | {"file_path": ""}, "file_path"),
        (database.db_import, ("e", "c"), IMPORT | {"file_type": 1}, "file_type"),
        (database.db_import, ("e", "c"), IMPORT | {"conflict_mode": 2}, "conflict_mode"),
        (database.db_import, ("e", "c"), IMPORT | {"conflict_mode": FileType.CSV}, "conflict_mode"),
        (database.db_import, ("e", "c"), IMPORT | {"stop_on_error": 1}, "stop_on_error"),
        (database.db_export, ("e",), EXPORT | {"file_path": 5}, "file_path"),
        (database.db_export, ("e",), EXPORT | {"file_type": "csv"}, "file_type"),
        (database.db_export, ("e",), EXPORT | {"query": GEO.where({}).remove()}, "query"),
        (database.db_migration_state, ("e", "5"), {}, "job_id"),
        (database.wait_until_migrated, ("e", True), {}, "job_id"),
        (database.wait_until_migrated, ("e", 5), {"timeout": 0}, "timeout"),
        (database.db_get_acl, ("e", None), {}, "collection_name"),
        (database.db_modify_acl, ("e", "c", "custom"), {}, "acl_tag"),
        (database.db_modify_acl, ("e", "c", "CUSTOM"), {}, "rule"),
        (database.db_modify_acl, ("e", "c", "CUSTOM"), {"rule": None}, "rule"),
        (database.db_modify_acl, ("e", "c", "CUSTOM", "[]"), {}, "rule"),
        (database.db_modify_acl, ("e", "c", "PRIVATE", {}), {}, "rule"),
        (database.db_index_create, ("e", "c", []), {}, "indexes"),
        (database.db_index_create, ("e", "c", [{"name": "i"}]), {}, "indexes"),
        (database.db_index_delete, ("e", "c", []), {}, "names"),
        (database.db_index_delete, ("e", "c", "name"), {}, "names"),
        (database.db_collection_get, ("e",), {"limit": "5"}, "limit"),
        (database.db_collection_get, ("e",), {"offset": True}, "offset"),
        (database.db_collection_add, ("e", ""), {}, "collection_name"),
        (database.db_collection_del, ("e", ""), {}, "collection_name"),
        *[
            (call, ("", *args), options, "env")
            for call, args, options in (
                (database.db_import, ("c",), IMPORT),
                (database.db_export, (), EXPORT),
                (database.db_migration_state, (5,), {}),
                (database.wait_until_migrated, (5,), {}),
                (database.db_aggregate, ("db",), {}),
                (database.db_get_acl, ("c",), {}),
                (database.db_collection_get, (), {}),
            )
        ],
    ],
    ids=lambda each: getattr(each, "__name__", str(each)),
)
async def test_arguments_are_checked_before_anything_is_sent(session, platform, *, call, args, options, name):
    """Each is refused by its name."""
    with pytest.raises(wxtcb.InvalidArgument, match=rf"^{name}\b"):
        await call(session, *args, **options)
    assert (platform.sent, platform.bought) == ([], [])


@pytest.mark.parametrize(
    "build",
    [
        lambda: Index(name="", keys=[KEY]),
        lambda: Index(name="i", keys=[]),
        lambda: Index(name="i", keys=["due"]),
        lambda: Index(name="i", keys=KEY),
        lambda: IndexKey("", direction="1"),
        lambda: IndexKey("due", direction="up"),
        lambda: IndexKey("due", direction=2),
    ],
    ids=range(7),
)
def test_an_index_is_checked_when_it_is_made(build):
    """A name, and at least one key with one of the three directions."""
    with pytest.raises(wxtcb.InvalidArgument):
        build()


@pytest.mark.parametrize(
    ("direction", "sent"),
    [(1, "1"), (-1, "-1"), ("1", "1"), ("-1", "-1"), ("2dsphere", "2dsphere")],
    ids=repr,
)
async def test_the_direction_of_an_index_is_a_text(session, platform, direction, sent):
    """However it is given, the platform gets a text."""
    platform.replies = [DONE]
    index = Index(name="i", keys=[IndexKey("due", direction=direction)])
    await database.db_index_create(session, "e-1", "c", [index])
    [body] = platform.bodies
    assert body["indexes"] == [{"name": "i", "keys": [{"name": "due", "direction": sent}]}]


@pytest.mark.parametrize(
    ("options", "sent"), [({}, {"rule": ""}), ({"rule": None}, {}), ({"rule": "{}"}, {"rule": "{}"})], ids=str
)
async def test_the_rule_is_sent_empty_unless_the_caller_leaves_it_out(session, platform, options, sent):
    """The pages disagree on whether it is required where it means nothing, so the caller can choose."""
    platform.replies = [DONE]
    await database.db_modify_acl(session, "e-1", "c", "PRIVATE", **options)
    assert platform.bodies == [{"env": "e-1", "collection_name": "c", "acl_tag": "PRIVATE", **sent}]


async def test_custom_access_goes_by_its_rule(session, platform):
    """The rule goes out as the text that was given."""
    platform.replies = [DONE]
    await database.db_modify_acl(session, "e-1", "c", "CUSTOM", ' {"read": true}')
    assert platform.bodies[0]["rule"] == ' {"read": true}'


async def test_an_import_goes_on_after_errors_unless_told_otherwise(session, platform):
    """The flag is required on the wire, and False here."""
    platform.replies = [DONE | {"job_id": 2**40}]
    assert await database.db_import(session, "e-1", "c", **IMPORT) == database.MigrationJob(job_id=2**40)
    assert platform.bodies[0]["stop_on_error"] is False


async def test_an_export_takes_a_built_query(session, platform):
    """It goes out as text."""
    platform.replies = [DONE | {"job_id": 1}]
    await database.db_export(session, "e-1", **EXPORT | {"query": GEO.where({"a": 1}).get()})
    assert platform.bodies[0]["query"] == 'db.collection("geo").where({"a": 1}).get()'


async def test_the_pager_may_be_spelled_as_in_the_older_call(session, platform):
    """Its twin outside of the batch calls writes the names in capitals."""
    platform.replies = [{"errcode": 0, "pager": {"Offset": 1, "Limit": 2, "Total": 3}}]
    found = await database.db_record_query(session, "e-1", GEO.get())
    assert found.pager == database.Pager(offset=1, limit=2, total=3)


@pytest.mark.parametrize("name", ["error_msg", "err_msg"])
async def test_the_message_of_a_job_has_two_names(session, platform, name):
    """An old table calls it err_msg."""
    platform.replies = [{"errcode": 0, "status": "fail", name: "broken"}]
    state = await database.db_migration_state(session, "e-1", 5)
    assert state == database.MigrationState(status="fail", error_msg="broken")


@pytest.mark.parametrize(
    ("query", "asked"),
    [
        (GEO.get(), [(0, 2), (2, 2), (4, 2)]),
        (GEO.skip(3).get(), [(3, 2)]),
        (GEO.limit(3).get(), [(0, 2), (2, 1)]),
        (GEO.skip(1).limit(2).get(), [(1, 2)]),
        (GEO.skip(9).get(), [(9, 2)]),
    ],
    ids=str,
)
async def test_all_records_of_a_query_come_page_by_page(session, platform, query, asked):
    """Skip and limit of the query bound the whole; nothing is asked for once the total has come."""
    platform.replies = [page(range(skip, min(skip + limit, 5)), 5, skip) for skip, limit in asked]
    found = [each["_id"] async for each in database.iter_documents(session, "e-1", query, page_size=2)]
    whole = query.selection
    first = whole.skip or 0
    until = 5 if whole.limit_count is None else min(5, first + whole.limit_count)
    assert found == [str(number) for number in range(first, until)]
    texts = [f"{whole.source}.skip({skip}).limit({limit}).get()" for skip, limit in asked]
    assert [body["query"] for body in platform.bodies] == texts


async def test_a_limit_holds_though_the_platform_gives_more(session, platform):
    """What is beyond it is left out."""
    platform.replies = [page(range(5), 5), page(range(2, 5), 5, 2)]
    found = [each["_id"] async for each in database.iter_documents(session, "e-1", GEO.limit(3).get(), page_size=2)]
    assert found == ["0", "1", "2"]


async def test_a_page_may_hold_as_much_as_the_platform_gives(session, platform):
    """That is 1000 records, unless the caller wants fewer."""
    platform.replies = [page([], 0)]
    assert [each async for each in database.iter_documents(session, "e-1", GEO.get(), page_size=1000)] == []
    assert [each async for each in database.iter_documents(session, "e-1", GEO.get())] == []
    assert [body["query"].partition(".limit")[2] for body in platform.bodies] == ["(1000).get()", "(100).get()"]


@pytest.mark.parametrize(
    ("env", "query", "size"),
    [("", GEO.get(), 1), ("e", "db.collection('x').get()", 1), ("e", GEO.get(), 0), ("e", GEO.get(), 1001)],
    ids=str,
)
def test_what_cannot_be_paged_is_refused_at_once(session, env, query, size):
    """A text has no skip and limit that could be changed; no page is larger than the platform gives."""
    with pytest.raises(wxtcb.InvalidArgument):
        database.iter_documents(session, env, query, page_size=size)


async def test_all_collections_come_page_by_page(session, platform):
    """The next page begins where the entries of the last one ended."""
    entries = [{"name": f"c{number}", "count": 1, "size": 2, "index_count": 2, "index_size": 3} for number in range(3)]
    platform.replies = [
        {"errcode": 0, "collections": entries[:2], "total": 3},
        {"errcode": 0, "collections": entries[2:], "total": 3},
    ]
    names = [each.name async for each in database.iter_collections(session, "e-1")]
    assert names == ["c0", "c1", "c2"]
    assert [body["offset"] for body in platform.bodies] == [0, 2]


@pytest.mark.parametrize("reply", [{}, {"collections": None, "total": None}], ids=str)
async def test_an_environment_may_have_no_collections(session, platform, reply):
    """No field of the reply is promised."""
    platform.replies = [{"errcode": 0, **reply}]
    assert await database.db_collection_get(session, "e-1") == database.Collections()


@pytest.mark.parametrize("endpoint", [database.DB_RECORD_UPDATE, database.DB_RECORD_DELETE], ids=lambda each: each.name)
async def test_a_statement_that_may_have_acted_is_not_sent_again_though_the_platform_is_busy(
    session, platform, endpoint
):
    """It may count up, or remove what came since: even -1 leaves it to the caller."""
    platform.replies = [{"errcode": -1, "errmsg": "busy"}]
    with pytest.raises(wxtcb.OutcomeUnknown):
        await getattr(database, endpoint.name)(session, "e-1", "db.x()")
    assert len(platform.sent) == 1


def test_nothing_that_could_act_twice_is_repeated():
    """A statement may add, count up, or remove what came since; only reads and what ends the same are repeated."""
    repeats = {each.name: each.repeat for each in database.ENDPOINTS}
    assert {name for name, repeat in repeats.items() if repeat is Repeat.ONCE} == {
        "db_import",
        "db_export",
        "db_record_insert",
        "db_index_create",
        "db_collection_add",
    }
    assert {name for name, repeat in repeats.items() if repeat is Repeat.NEVER} == {
        "db_record_delete",
        "db_record_update",
    }
    assert {name for name, repeat in repeats.items() if repeat is Repeat.SET} == {
        "db_modify_acl",
        "db_index_delete",
        "db_collection_del",
    }


@pytest.mark.parametrize("endpoint", database.ENDPOINTS, ids=lambda each: each.name)
def test_the_docstring_of_a_call_names_its_interface(endpoint):
    """The last line is the platform's name of the call and its page."""
    doc = inspect.getdoc(getattr(database, endpoint.name))
    assert doc.splitlines()[-1].startswith(f"Official interface: {endpoint.official}, page cloudbase-")
