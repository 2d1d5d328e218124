"""Database calls: requests, replies and rejected arguments."""

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
    """Return the reply of a query."""
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
async def test_call_takes_its_kind_of_statement_or_a_string(session, platform, call, statement):
    """Both are sent as a string; a statement of another call is rejected."""
    platform.replies = [page([], 0) | {"id_list": [], "deleted": 0, "matched": 0, "modified": 0}]
    await call(session, "e-1", statement)
    await call(session, "e-1", "db.x()")
    assert [body["query"] for body in platform.bodies] == [str(statement), "db.x()"]
    others = {GEO.add({}), GEO.where({}).remove(), GEO.doc("1").set({}), GEO.get(), GEO.aggregate().end()}
    for wrong in (others - {statement}) | {"", GEO}:
        with pytest.raises(wxtcb.InvalidArgument, match=r"^query\b"):
            await call(session, "e-1", wrong)
    assert len(platform.sent) == 2


@pytest.mark.parametrize(
    ("call", "args", "options", "name"),
    [
        (database.db_export, ("e",), EXPORT | {"query": GEO.where({}).remove()}, "query"),
        (database.wait_until_migrated, ("e", 5), {"timeout": 0}, "timeout"),
        (database.db_modify_acl, ("e", "c", "custom"), {}, "acl_tag"),
        (database.db_modify_acl, ("e", "c", "CUSTOM"), {}, "rule"),
        (database.db_modify_acl, ("e", "c", "CUSTOM"), {"rule": None}, "rule"),
        (database.db_modify_acl, ("e", "c", "CUSTOM", "[]"), {}, "rule"),
        (database.db_index_create, ("e", "c", []), {}, "indexes"),
        (database.db_index_delete, ("e", "c", []), {}, "names"),
        (database.db_index_delete, ("e", "c", "name"), {}, "names"),
    ],
    ids=lambda each: getattr(each, "__name__", str(each)),
)
async def test_invalid_argument_is_rejected_before_a_request(session, platform, *, call, args, options, name):
    """The message names the argument."""
    with pytest.raises(wxtcb.InvalidArgument, match=rf"^{name}\b"):
        await call(session, *args, **options)
    assert (platform.sent, platform.token_requests) == ([], [])


@pytest.mark.parametrize(
    "build",
    [
        lambda: Index(name="i", keys=[]),
        lambda: IndexKey("due", direction="up"),
        lambda: IndexKey("due", direction=2),
    ],
    ids=range(3),
)
def test_invalid_index_is_rejected(build):
    """An index needs at least one key, with one of three directions."""
    with pytest.raises(wxtcb.InvalidArgument):
        build()


@pytest.mark.parametrize(
    ("direction", "sent"),
    [(1, "1"), (-1, "-1"), ("1", "1"), ("-1", "-1"), ("2dsphere", "2dsphere")],
    ids=repr,
)
async def test_direction_of_an_index_is_sent_as_a_string(session, platform, direction, sent):
    """1 and -1 become strings."""
    platform.replies = [DONE]
    index = Index(name="i", keys=[IndexKey("due", direction=direction)])
    await database.db_index_create(session, "e-1", "c", [index])
    [body] = platform.bodies
    assert body["indexes"] == [{"name": "i", "keys": [{"name": "due", "direction": sent}]}]


@pytest.mark.parametrize(
    ("options", "sent"), [({}, {"rule": ""}), ({"rule": None}, {}), ({"rule": "{}"}, {"rule": "{}"})], ids=str
)
async def test_rule_is_sent_empty_unless_it_is_none(session, platform, options, sent):
    """The pages disagree on whether the rule is required for other tags."""
    platform.replies = [DONE]
    await database.db_modify_acl(session, "e-1", "c", "PRIVATE", **options)
    assert platform.bodies == [{"env": "e-1", "collection_name": "c", "acl_tag": "PRIVATE", **sent}]


async def test_custom_rule_is_sent_unchanged(session, platform):
    """The rule is sent as the given string."""
    platform.replies = [DONE]
    await database.db_modify_acl(session, "e-1", "c", "CUSTOM", ' {"read": true}')
    assert platform.bodies[0]["rule"] == ' {"read": true}'


async def test_import_continues_after_errors_by_default(session, platform):
    """stop_on_error is required on the wire and defaults to False."""
    platform.replies = [DONE | {"job_id": 2**40}]
    assert await database.db_import(session, "e-1", "c", **IMPORT) == database.MigrationJob(job_id=2**40)
    assert platform.bodies[0]["stop_on_error"] is False


async def test_export_takes_a_built_query(session, platform):
    """The query is sent as a string."""
    platform.replies = [DONE | {"job_id": 1}]
    await database.db_export(session, "e-1", **EXPORT | {"query": GEO.where({"a": 1}).get()})
    assert platform.bodies[0]["query"] == 'db.collection("geo").where({"a": 1}).get()'


async def test_pager_accepts_capital_letters(session, platform):
    """The older non-batch call writes capital letters."""
    platform.replies = [{"errcode": 0, "pager": {"Offset": 1, "Limit": 2, "Total": 3}}]
    found = await database.db_record_query(session, "e-1", GEO.get())
    assert found.pager == database.Pager(offset=1, limit=2, total=3)


@pytest.mark.parametrize("name", ["error_msg", "err_msg"])
async def test_message_of_a_job_has_two_spellings(session, platform, name):
    """An old page calls it err_msg."""
    platform.replies = [{"errcode": 0, "status": "fail", name: "broken"}]
    state = await database.db_migration_state(session, "e-1", 5)
    assert state == database.MigrationState(status="fail", error_msg="broken")


@pytest.mark.parametrize(
    ("query", "requested"),
    [
        (GEO.get(), [(0, 2), (2, 2), (4, 2)]),
        (GEO.skip(3).get(), [(3, 2)]),
        (GEO.limit(3).get(), [(0, 2), (2, 1)]),
        (GEO.skip(1).limit(2).get(), [(1, 2)]),
        (GEO.skip(9).get(), [(9, 2)]),
    ],
    ids=str,
)
async def test_all_records_of_a_query_are_iterated(session, platform, query, requested):
    """Skip and limit apply to the whole query, and no page is fetched after the total."""
    platform.replies = [page(range(skip, min(skip + limit, 5)), 5, skip) for skip, limit in requested]
    found = [each["_id"] async for each in database.iter_documents(session, "e-1", query, page_size=2)]
    selection = query.selection
    first = selection.skip_count or 0
    until = 5 if selection.limit_count is None else min(5, first + selection.limit_count)
    assert found == [str(number) for number in range(first, until)]
    texts = [f"{selection.source}.skip({skip}).limit({limit}).get()" for skip, limit in requested]
    assert [body["query"] for body in platform.bodies] == texts


async def test_limit_holds_if_the_platform_returns_more(session, platform):
    """Records beyond the limit are dropped."""
    platform.replies = [page(range(5), 5), page(range(2, 5), 5, 2)]
    found = [each["_id"] async for each in database.iter_documents(session, "e-1", GEO.limit(3).get(), page_size=2)]
    assert found == ["0", "1", "2"]


async def test_page_size_may_be_1000(session, platform):
    """A smaller limit of the query reduces the page size."""
    platform.replies = [page([], 0)]
    assert [each async for each in database.iter_documents(session, "e-1", GEO.get(), page_size=1000)] == []
    assert [each async for each in database.iter_documents(session, "e-1", GEO.get())] == []
    assert [body["query"].partition(".limit")[2] for body in platform.bodies] == ["(1000).get()", "(100).get()"]


@pytest.mark.parametrize("size", [0, 1001])
def test_invalid_page_size_is_rejected_at_once(session, size):
    """A page has 1 to 1000 records."""
    with pytest.raises(wxtcb.InvalidArgument):
        database.iter_documents(session, "e", GEO.get(), page_size=size)


async def test_all_collections_are_iterated(session, platform):
    """The next offset is the number of entries received."""
    entries = [{"name": f"c{number}", "count": 1, "size": 2, "index_count": 2, "index_size": 3} for number in range(3)]
    platform.replies = [
        {"errcode": 0, "collections": entries[:2], "total": 3},
        {"errcode": 0, "collections": entries[2:], "total": 3},
    ]
    names = [each.name async for each in database.iter_collections(session, "e-1")]
    assert names == ["c0", "c1", "c2"]
    assert [body["offset"] for body in platform.bodies] == [0, 2]


@pytest.mark.parametrize("reply", [{}, {"collections": None, "total": None}], ids=str)
async def test_list_of_collections_may_be_empty(session, platform, reply):
    """Every field of the reply is optional."""
    platform.replies = [{"errcode": 0, **reply}]
    assert await database.db_collection_get(session, "e-1") == database.Collections()


@pytest.mark.parametrize("endpoint", [database.DB_RECORD_UPDATE, database.DB_RECORD_DELETE], ids=lambda each: each.name)
async def test_update_and_delete_are_not_repeated_on_busy(session, platform, endpoint):
    """A repeat could count twice or remove newer records, so even -1 is an unknown outcome."""
    platform.replies = [{"errcode": -1, "errmsg": "busy"}]
    with pytest.raises(wxtcb.OutcomeUnknown):
        await getattr(database, endpoint.name)(session, "e-1", "db.x()")
    assert len(platform.sent) == 1


def test_ambiguous_statement_is_not_repeated():
    """Only reads and idempotent calls are repeated."""
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
def test_docstring_names_the_official_interface(endpoint):
    """The last line has the interface and its page."""
    doc = inspect.getdoc(getattr(database, endpoint.name))
    assert doc.splitlines()[-1].startswith(f"Official interface: {endpoint.official}, page cloudbase-")
