"""Tests of imports and exports."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest

from wxtcb.sandbox import ReadyPolicy, World
from wxtcb.sandbox.errors import PlatformError
from wxtcb.sandbox.request import Body
from wxtcb.sandbox.routes import handle

from .sandbox_harness import Clock, Harness

JSON, CSV = 1, 2
INSERT, UPSERT = 1, 2


@pytest.fixture
def env(world: World) -> str:
    """Return an environment with an empty collection."""
    env = world.add("a")
    world.databases.add_collection(env, "c")
    return env


def call(world: World, path: str, **fields: object) -> dict[str, Any]:
    """Make a call without HTTP."""
    answer: dict[str, Any] = orjson.loads(handle(world, f"/componenttcb/{path}", Body(fields)))
    return answer


def imported(world: World, env: str, data: bytes, **options: object) -> tuple[str, int, int, str]:
    """Import a file and return the result."""
    world.storage.write(env, "in", data)
    usual = {"file_type": JSON, "conflict_mode": INSERT, "stop_on_error": False}
    return state(world, env, begin(world, env, **(usual | options)))


def begin(world: World, env: str, **options: object) -> int:
    """Start an import and return its id."""
    job: int = call(world, "dbimport", env=env, collection_name="c", file_path="in", **options)["job_id"]
    return job


def state(world: World, env: str, job_id: int) -> tuple[str, int, int, str]:
    """Poll a job."""
    answer = call(world, "dbmigrationstate", env=env, job_id=job_id)
    return answer["status"], answer["record_success"], answer["record_fail"], answer["error_msg"]


def exported(world: World, env: str, file_type: int, steps: str = "get()") -> bytes:
    """Export records and return the file."""
    query = f"db.collection('c').{steps}"
    job_id = call(world, "dbexport", env=env, file_path="out", file_type=file_type, query=query)["job_id"]
    answer = call(world, "dbmigrationstate", env=env, job_id=job_id)
    data = world.storage.read(env, "out")
    assert answer["file_url"].startswith("http")
    assert data is not None
    return data


def records(world: World, env: str) -> list[dict[str, Any]]:
    """Return the records of the collection, without generated ids."""
    return [
        {key: value for key, value in record.items() if key != "_id" or len(value) < 32}
        for record in world.databases.collection(env, "c").records
    ]


def test_lines_of_json_become_records(world: World, env: str) -> None:
    """Empty lines and a byte order mark are ignored. Extended JSON is decoded."""
    data = (
        b'\xef\xbb\xbf{"_id":"1","at":{"$date":"2026-01-01T00:00:00.000Z"},"n":{"$numberLong":"5"}}\r\n'
        b'\n{"x":{"$numberDouble":"1.0"},"o":{"$oid":"5f"},"b":{"$binary":{"base64":"AQ==","subType":"00"}},'
        b'"i":{"$numberInt":"3"},"d":{"$numberDecimal":"1.10"},"big":{"$numberLong":"9223372036854775807"},'
        b'"l":[{"$date":{"$numberLong":"0"}},{"$date":0},{"$date":"2026-01-01T08:00:00+08:00"},{"$date":"2026-01-01"}]}'
    )
    assert imported(world, env, data) == ("success", 2, 0, "导入完成.")
    first, second = exported(world, env, JSON).splitlines()
    assert json.loads(first) == {"_id": "1", "at": {"$date": "2026-01-01T00:00:00.000Z"}, "n": 5}
    found = json.loads(second)
    del found["_id"]
    assert found == {
        "x": {"$numberDouble": "1.0"},
        "o": "5f",
        "b": {"$binary": {"base64": "AQ==", "subType": "00"}},
        "i": 3,
        "d": {"$numberDecimal": "1.10"},
        "big": {"$numberLong": "9223372036854775807"},
        "l": [
            {"$date": "1970-01-01T00:00:00.000Z"},
            {"$date": "1970-01-01T00:00:00.000Z"},
            {"$date": "2026-01-01T00:00:00.000Z"},
            {"$date": "2026-01-01T00:00:00.000Z"},
        ],
    }


@pytest.mark.parametrize(
    "line",
    [
        b"[]",
        b"5",
        b"{",
        b'{".a":1}',
        b'{"a.":1}',
        b'{"a..b":1}',
        b'{"":1}',
        b'{"$set":1}',
        b'{"a":{"$gt":1}}',
        b'{"a":{"$date":"x"}}',
        b'{"a":{"$date":[]}}',
        b'{"a":{"$date":{}}}',
        b'{"a":{"$numberDecimal":"x"}}',
        b'{"_id":"old"}',
        b"\xff",
        b'{"a":' * 500 + b"1" + b"}" * 500,
    ],
    ids=lambda line: line[:20],
)
def test_a_bad_record_fails_alone_unless_it_is_to_stop_the_job(world: World, env: str, line: bytes) -> None:
    """An invalid record is counted, and the others are imported. With stop_on_error the job fails there."""
    world.databases.collection(env, "c").put({"_id": "old"})
    data = b'{"n":1}\n' + line + b'\n{"n":2}'
    assert imported(world, env, data)[:3] == ("success", 2, 1)
    status, done, failed, message = imported(world, env, data, stop_on_error=True)
    assert (status, done, failed, bool(message)) == ("fail", 1, 1, True)
    assert [each.get("n") for each in records(world, env)] == [None, 1, 2, 1]


def test_numbers_that_are_none_are_kept_and_sorted(world: World, env: str) -> None:
    """NaN sorts before all numbers, and infinities at the ends. Each is exported in its extended form."""
    forms = [{"n": {"$numberDouble": text}} for text in ("Infinity", "NaN", "-1.0")]
    imported(world, env, b"\n".join(orjson.dumps(form) for form in forms))
    steps = "orderBy('n', 'asc').field({n: true, _id: false}).get()"
    assert [json.loads(line) for line in exported(world, env, JSON, steps).splitlines()] == forms[1:] + forms[:1]


def test_upsert_takes_the_place_of_what_is_there(world: World, env: str) -> None:
    """With upsert a record of the same id is replaced."""
    assert imported(world, env, b'{"_id":"1","n":1,"m":1}')[1] == 1
    assert imported(world, env, b'{"_id":"1","n":2}\n{"_id":"2"}', conflict_mode=UPSERT)[:3] == ("success", 2, 0)
    assert records(world, env) == [{"_id": "1", "n": 2}, {"_id": "2"}]


def test_rows_of_csv_become_records(world: World, env: str) -> None:
    """The first row contains the keys. A cell that is JSON is decoded, an empty one is omitted."""
    data = b'name,n,flag,list,note\n"Ann, ""A""",1.5,true,"[1]",\nBob,,,,x\n\nCid,1,2,3,4,5\n'
    assert imported(world, env, data, file_type=CSV)[:3] == ("success", 2, 1)
    assert records(world, env) == [
        {"name": 'Ann, "A"', "n": 1.5, "flag": True, "list": [1]},
        {"name": "Bob", "note": "x"},
    ]


@pytest.mark.parametrize(("data", "ended"), [(b"", (0, 0)), (b"a,b", (0, 0)), (b"\xff", (0, 1)), (b'a\n"x', (0, 1))])
def test_a_file_that_is_no_csv_fails(world: World, env: str, data: bytes, ended: tuple[int, int]) -> None:
    """An invalid CSV file fails the job. An empty one has no records."""
    assert imported(world, env, data, file_type=CSV)[1:3] == ended


def test_an_export_holds_all_records_of_its_query(world: World, env: str) -> None:
    """Without a limit an export contains all records. Skip, limit, order and fields apply."""
    imported(world, env, b"\n".join(b'{"_id":"%02d","n":%d}' % (n, n) for n in range(12)))
    assert len(exported(world, env, JSON).splitlines()) == 12
    steps = "where({n: _.gt(1)}).orderBy('n', 'desc').skip(1).limit(2).field({n: true}).get()"
    assert exported(world, env, JSON, steps) == b'{"_id":"10","n":10}\n{"_id":"09","n":9}\n'


def test_an_export_as_csv_can_be_imported_again(world: World, env: str) -> None:
    """The columns are all keys. Values that are not strings are JSON."""
    rows = [{"_id": "x", "a": "text, with comma", "b": [1, {"c": None}]}, {"_id": "y", "n": 2.5, "f": False}]
    imported(world, env, b"\n".join(orjson.dumps(row) for row in rows))
    data = exported(world, env, CSV)
    assert data.decode().splitlines()[0] == "_id,a,b,n,f"
    world.databases.drop_collection(env, "c")
    world.databases.add_collection(env, "c")
    assert imported(world, env, data, file_type=CSV)[:3] == ("success", 2, 0)
    assert records(world, env) == rows


def test_a_missing_file_fails_the_job(world: World, env: str) -> None:
    """The call that starts a job succeeds. The missing file fails the job later."""
    job_id = begin(world, env, file_type=JSON, conflict_mode=INSERT, stop_on_error=False)
    assert state(world, env, job_id) == ("fail", 0, 0, "文件不存在.")


def test_a_job_takes_its_time(world: World, env: str, clock: Clock) -> None:
    """A job waits, then runs when it is due, even if it is never polled."""
    world.operations_ready_after = ReadyPolicy(seconds=60, polls=1)
    world.storage.write(env, "in", b"{}")
    job_id = begin(world, env, file_type=JSON, conflict_mode=INSERT, stop_on_error=False)
    assert [state(world, env, job_id)[0] for _ in range(2)] == ["waiting", "reading"]
    assert records(world, env) == []
    clock.advance(60)
    assert records(world, env) == [{}]
    assert [state(world, env, job_id)[:2] for _ in range(2)] == [("success", 1)] * 2
    query = "db.collection('c').get()"
    job_id = call(world, "dbexport", env=env, file_path="out", file_type=JSON, query=query)["job_id"]
    assert [state(world, env, job_id)[0] for _ in range(2)] == ["waiting", "migrating"]
    assert world.storage.read(env, "out") is None


@pytest.mark.parametrize(
    ("path", "fields", "errcode"),
    [
        ("dbimport", {"collection_name": "no"}, -502005),
        ("dbimport", {"file_type": 3}, 40097),
        ("dbimport", {"conflict_mode": 0}, 40097),
        ("dbexport", {"file_type": 0, "query": "db.collection('c').get()"}, 40097),
        ("dbexport", {"query": "db.collection('no').get()"}, -502005),
        ("dbexport", {"query": "db.collection('c').where({}).remove()"}, 40097),
        ("dbexport", {"query": "db.collection('c').where(5).get()"}, 40097),
    ],
    ids=str,
)
def test_a_job_that_cannot_be_is_refused_at_once(
    world: World, env: str, path: str, fields: dict[str, object], errcode: int
) -> None:
    """Invalid values, unknown collections and statements of another kind are rejected immediately."""
    usual = {"env": env, "collection_name": "c", "file_path": "x", "file_type": JSON}
    with pytest.raises(PlatformError) as no:
        call(world, path, **(usual | {"conflict_mode": INSERT, "stop_on_error": False} | fields))
    assert no.value.errcode == errcode


def test_the_job_of_another_environment_is_not_there(world: World, env: str) -> None:
    """A job of another environment is unknown."""
    job_id = begin(world, env, file_type=JSON, conflict_mode=INSERT, stop_on_error=False)
    with pytest.raises(PlatformError, match="job_id"):
        state(world, world.add("b"), job_id)


async def test_the_calls_answer_over_the_wire(harness: Harness) -> None:
    """Each call works over HTTP with the action in query and body. A field of another action is rejected."""
    env = harness.sandbox.world.add("a")
    token = harness.sandbox.world.issue_token()

    async def post(path: str, body: dict[str, Any]) -> dict[str, Any]:
        action = {"action": body["action"]} if "action" in body else {}
        return await harness.post(f"/componenttcb/{path}", {"env": env, **body}, access_token=token, **action)

    assert (await post("dbcollection", {"action": "add", "collection_name": "c"}))["errcode"] == 0
    added = await post("dbrecord", {"action": "insert", "query": 'db.collection("c").add({data: {a: 1}})'})
    found = await post("dbrecord", {"action": "query", "query": 'db.collection("c").where({a: 1}).get()'})
    assert found["data"] == [f'{{"_id":"{added["id_list"][0]}","a":1}}']
    export = {"file_path": "f", "file_type": 1, "query": 'db.collection("c").get()'}
    job_id = (await post("dbexport", export))["job_id"]
    assert (await post("dbmigrationstate", {"job_id": job_id}))["status"] == "success"
    assert (await post("dbcollection", {"action": "get", "collection_name": "c"}))["errcode"] == 40097
    assert (await post("dbcollection", {"action": "add"}))["errcode"] == 40101
    index = {"collection_name": "c", "indexes": [{"name": "i"}]}
    assert (await post("dbindex", {"action": "create", **index}))["errcode"] == 40101
    acl = {"collection_name": "c", "acl_tag": "PRIVATE"}
    assert (await post("dbmodifyacl", acl))["errcode"] == 0
