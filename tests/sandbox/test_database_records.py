"""Collections and records of the simulated platform."""

from __future__ import annotations

import re
from typing import Any

import orjson
import pytest

from wxtcb.sandbox import World
from wxtcb.sandbox.asked import Body
from wxtcb.sandbox.handlers import HANDLERS
from wxtcb.sandbox.refusal import Refused

PEOPLE = [
    {"_id": "a", "name": "Ann", "age": 30, "tags": ["x", "y"], "home": {"town": "Rome", "no": 1}},
    {"_id": "b", "name": "Bob", "age": 20, "tags": ["y"], "home": {"town": "Bonn"}, "gone": None},
    {"_id": "c", "name": "Cid", "age": 20.5, "tags": [], "rooms": [{"n": 1}, {"n": 2}]},
    {"_id": "d", "name": "Dee", "age": "old"},
]


@pytest.fixture
def env(world: World) -> str:
    """Give an environment with a collection of people."""
    env = world.add("a")
    people = world.databases.add(env, "people")
    for person in PEOPLE:
        people.put(dict(person))
    return env


def call(world: World, path: str, **fields: object) -> dict[str, Any]:
    """Make a call below the wire."""
    answer: dict[str, Any] = orjson.loads(HANDLERS[f"/componenttcb/{path}"](world, Body(fields)))
    return answer


def record(world: World, env: str, action: str, steps: str) -> dict[str, Any]:
    """Carry a statement on the people out."""
    return call(world, "dbrecord", action=action, env=env, query=f"db.collection('people').{steps}")


def ids(answer: dict[str, Any]) -> str:
    """Return the ids of the records found."""
    return "".join(orjson.loads(text)["_id"] for text in answer["data"])


def one(world: World, env: str, record_id: str) -> dict[str, Any]:
    """Read one record."""
    [text] = record(world, env, "query", f"doc('{record_id}').get()")["data"]
    found: dict[str, Any] = orjson.loads(text)
    return found


@pytest.mark.parametrize(
    ("conditions", "found"),
    [
        ("{}", "abcd"),
        ("{name: 'Ann'}", "a"),
        ("{name: 'Ann', age: 20}", ""),
        ("{'home.town': 'Bonn'}", "b"),
        ("{home: {town: 'Rome'}}", "a"),
        ("{home: _.eq({town: 'Rome'})}", ""),
        ("{home: _.eq({town: 'Rome', no: 1})}", "a"),
        ("{home: {no: _.gte(1)}}", "a"),
        ("{tags: 'y'}", "ab"),
        ("{tags: ['y']}", "b"),
        ("{tags: []}", "c"),
        ("{'tags.0': 'x'}", "a"),
        ("{'tags.7': 'x'}", ""),
        ("{'rooms.n': 2}", "c"),
        ("{'rooms.1.n': 2}", "c"),
        ("{'name.x': 1}", ""),
        ("{age: 20}", "b"),
        ("{age: true}", ""),
        ("{age: _.gt(20)}", "ac"),
        ("{age: _.gte(20)}", "abc"),
        ("{age: _.lt(30)}", "bc"),
        ("{age: _.lte('old')}", "d"),
        ("{age: _.neq(20)}", "acd"),
        ("{tags: _.neq('y')}", "cd"),
        ("{age: _.in([30, 'old'])}", "ad"),
        ("{age: _.in([])}", ""),
        ("{age: _.nin([30, 'old'])}", "bc"),
        ("{home: _.exists(true)}", "ab"),
        ("{home: _.exists(false)}", "cd"),
        ("{gone: null}", "abcd"),
        ("{name: null}", ""),
        ("{gone: _.exists(true)}", "b"),
        ("{age: _.gt(20).and(_.lt(30))}", "c"),
        ("{age: _.or([30, _.eq('old')])}", "ad"),
        ("{name: _.exists(true), age: _.nin(['old', 30, 20])}", "c"),
        ("_.or([{name: 'Ann'}, {name: 'Bob'}])", "ab"),
        ("_.and({tags: 'y'}, {age: 20})", "b"),
        ("{home: {}}", ""),
    ],
)
def test_conditions_choose_records(world: World, env: str, conditions: str, found: str) -> None:
    """Equality, paths, lists and comparisons mean what they mean on the platform, and the total counts them all."""
    answer = record(world, env, "query", f"where({conditions}).get()")
    assert ids(answer) == found
    assert answer["pager"] == {"offset": 0, "limit": 10, "total": len(found)}


@pytest.mark.parametrize(
    ("steps", "found"),
    [
        ("orderBy('name', 'desc').get()", "dcba"),
        ("orderBy('age', 'asc').get()", "bcad"),
        ("orderBy('home.no', 'desc').orderBy('name', 'asc').get()", "abcd"),
        ("orderBy('home.no', 'asc').orderBy('name', 'desc').get()", "dcba"),
        ("skip(1).limit(2).get()", "bc"),
        ("limit(1000).get()", "abcd"),
        ("skip(9).get()", ""),
        ("doc('b').get()", "b"),
        ("doc('z').get()", ""),
    ],
)
def test_records_come_in_order_and_in_part(world: World, env: str, steps: str, found: str) -> None:
    """What is missing sorts as null, and numbers sort before texts."""
    assert ids(record(world, env, "query", steps)) == found


def test_ten_records_come_without_a_limit(world: World, env: str) -> None:
    """The pager says so, and how many there are."""
    record(world, env, "insert", f"add({{data: [{','.join('{n: 1}' for _ in range(20))}]}})")
    answer = record(world, env, "query", "where({n: 1}).skip(5).get()")
    assert len(answer["data"]) == 10
    assert answer["pager"] == {"offset": 5, "limit": 10, "total": 20}


@pytest.mark.parametrize(
    ("fields", "keys"),
    [
        ("{name: true}", ["_id", "name"]),
        ("{name: 1, _id: 0}", ["name"]),
        ("{name: false, tags: false, home: 0}", ["_id", "age"]),
        ("{_id: false}", ["name", "age", "tags", "home"]),
    ],
)
def test_fields_can_be_chosen(world: World, env: str, fields: str, keys: list[str]) -> None:
    """Those that are wanted, or all but those that are not; `_id` comes unless it is unwanted."""
    [text] = record(world, env, "query", f"where({{name: 'Ann'}}).field({fields}).get()")["data"]
    assert list(orjson.loads(text)) == keys
    [text] = call(
        world, "dbaggregate", env=env, query=f"db.collection('people').aggregate().limit(1).project({fields}).end()"
    )["data"]
    assert list(orjson.loads(text)) == keys


@pytest.mark.parametrize(
    ("stages", "found"),
    [
        ("", "abcd"),
        (".match({tags: 'y'})", "ab"),
        (".sort({age: -1})", "dacb"),
        (".sort({gone: 1, name: -1}).skip(1).limit(2)", "cb"),
        (".limit(2).match({name: 'Cid'})", ""),
    ],
)
def test_a_pipeline_goes_step_by_step(world: World, env: str, stages: str, found: str) -> None:
    """Each stage takes what the one before it gave."""
    query = f"db.collection('people').aggregate(){stages}.end()"
    assert ids(call(world, "dbaggregate", env=env, query=query)) == found


def test_what_was_added_is_found(world: World, env: str) -> None:
    """One record or a list of some; each gets an id of 32 hexadecimal digits unless it has one."""
    one_id = record(world, env, "insert", "add({data: {n: 1}})")["id_list"]
    both = record(world, env, "insert", "add({data: [{_id: '', n: 2}, {_id: 'mine', n: 3}]})")["id_list"]
    assert [bool(re.fullmatch("[0-9a-f]{32}", each)) for each in one_id + both] == [True, True, False]
    assert both[1] == "mine"
    assert one(world, env, one_id[0]) == {"_id": one_id[0], "n": 1}
    assert record(world, env, "query", "where({n: _.gt(0)}).get()")["pager"]["total"] == 3


@pytest.mark.parametrize(
    "query",
    [
        'db.collection("geo").where({done:true}).limit(10).skip(1).get()',
        "const Point = db.Geo.Point;db.collection('geo').where({name: 'x',age: _.gt(10).and(_.lt(20)),"
        "loc: new Point(113,23),array: [1,2]}).limit(10).skip(1).orderBy('age','asc').orderBy('name', 'desc')"
        ".field({ name: true }).get()",
    ],
)
def test_the_documented_queries_are_understood(world: World, env: str, query: str) -> None:
    """They find what they describe, but for the first that does."""
    geo = world.databases.add(env, "geo")
    for name in ("first", "second"):
        place = {"type": "Point", "coordinates": [113.0, 23.0]}
        geo.put({"_id": name, "done": True, "name": "x", "age": 15, "loc": place, "array": [1, 2]})
    answer = call(world, "dbrecord", action="query", env=env, query=query)
    assert answer["pager"] == {"offset": 1, "limit": 10, "total": 2}
    assert ids(answer) == "second"


def test_what_json_cannot_hold_comes_back_in_its_form(world: World, env: str) -> None:
    """Dates, places and doubles without a fraction stand there as extended JSON."""
    data = "{_id: 'e', at: new Date(1500), now: db.serverDate(), loc: new db.Geo.Point(113, 23.5), big: 1e20, x: 0.5}"
    record(world, env, "insert", f"add({{data: {data}}})")
    assert one(world, env, "e") == {
        "_id": "e",
        "at": {"$date": "1970-01-01T00:00:01.500Z"},
        "now": {"$date": "2020-09-13T12:26:40.000Z"},
        "loc": {"type": "Point", "coordinates": [{"$numberDouble": "113.0"}, 23.5]},
        "big": {"$numberDouble": "1e+20"},
        "x": 0.5,
    }


@pytest.mark.parametrize(
    ("data", "changed"),
    [
        ("{age: 31}", {"age": 31}),
        ("{age: _.inc(-0.5)}", {"age": 29.5}),
        ("{age: _.mul(2)}", {"age": 60}),
        ("{n: _.inc(2), m: _.mul(2)}", {"n": 2, "m": 0}),
        ("{home: {town: 'Oslo'}}", {"home": {"town": "Oslo", "no": 1}}),
        ("{home: _.set({town: 'Oslo'})}", {"home": {"town": "Oslo"}}),
        ("{'home.no': _.inc(1)}", {"home": {"town": "Rome", "no": 2}}),
        ("{'new.a.b': 1}", {"new": {"a": {"b": 1}}}),
        ("{tags: _.push(['z', ['w']])}", {"tags": ["x", "y", "z", ["w"]]}),
        ("{tags: _.push('z')}", {"tags": ["x", "y", "z"]}),
        ("{list: _.push([1])}", {"list": [1]}),
        ("{'home.no': _.remove(), 'x.y': _.remove(), nothing: _.remove()}", {"home": {"town": "Rome"}}),
        ("{'name.x': _.remove()}", {}),
        ("{name: 'Ann'}", {}),
        ("{at: new Date(0)}", {"at": {"$date": "1970-01-01T00:00:00.000Z"}}),
    ],
)
def test_an_update_changes_what_it_names(world: World, env: str, data: str, changed: dict[str, object]) -> None:
    """The rest stays; what ends as it was is matched, but not modified."""
    answer = record(world, env, "update", f"where({{name: 'Ann'}}).update({{data: {data}}})")
    assert (answer["matched"], answer["modified"], answer["id"]) == (1, int(bool(changed)), "")
    assert one(world, env, "a") == {**PEOPLE[0], **changed}


def test_an_update_changes_all_that_match(world: World, env: str) -> None:
    """None is no error."""
    assert record(world, env, "update", "where({tags: 'y'}).update({data: {age: 1}})")["modified"] == 2
    assert record(world, env, "update", "doc('z').update({data: {age: 1}})")["matched"] == 0


def test_a_record_is_set_or_made(world: World, env: str) -> None:
    """Made: its id is told and nothing counted; set: it holds nothing but the new fields."""
    made = record(world, env, "update", "doc('z').set({data: {n: 1}})")
    assert (made["matched"], made["modified"], made["id"]) == (0, 0, "z")
    again = record(world, env, "update", "doc('z').set({data: {m: 1}})")
    assert (again["matched"], again["modified"], again["id"]) == (1, 1, "")
    assert one(world, env, "z") == {"_id": "z", "m": 1}


def test_what_was_removed_is_gone(world: World, env: str) -> None:
    """By conditions or by id; what is not there counts 0."""
    assert record(world, env, "delete", "where({tags: 'y'}).remove()")["deleted"] == 2
    assert record(world, env, "delete", "doc('c').remove()")["deleted"] == 1
    assert record(world, env, "delete", "doc('c').remove()")["deleted"] == 0
    assert ids(record(world, env, "query", "get()")) == "d"


@pytest.mark.parametrize(
    ("action", "steps", "words"),
    [
        ("query", "count()", "count() at the end is not simulated"),
        ("query", "remove()", "remove() is none of this action's"),
        ("delete", "get()", "get() is none of this action's"),
        ("query", "get(1)", "get takes nothing"),
        ("query", "where({}).watch().get()", "watch() before get() is not simulated"),
        ("query", "where({}).where({}).get()", "where() after another where() is not simulated"),
        ("query", "where({}).doc('a').get()", "doc() after another where() is not simulated"),
        ("query", "limit(1).limit(2).get()", "limit() after another limit() is not simulated"),
        ("query", "where(5).get()", "conditions must be an object"),
        ("query", "where().get()", "where takes one argument"),
        ("query", "where({a: _.regex('x')}).get()", "_.regex with these arguments is not simulated"),
        ("query", "where({a: _.in(5)}).get()", "_.in with these arguments is not simulated"),
        ("query", "where({a: _.gt(_.lt(5))}).get()", "_.lt here is not simulated"),
        ("query", "where(_.nor([{a: 1}])).get()", "_.nor for a whole record is not simulated"),
        ("query", "limit(0).get()", "limit takes a whole number, at least 1"),
        ("query", "limit(1001).get()", "limit is 1000 at the most"),
        ("query", "limit('5').get()", "limit takes a whole number"),
        ("query", "skip(-1).get()", "skip takes a whole number, at least 0"),
        ("query", "orderBy('a').get()", "orderBy takes a field"),
        ("query", "field({}).get()", "field takes an object"),
        ("query", "field({'a.b': true}).get()", "is not simulated"),
        ("query", "field({a: true, b: false}).get()", "field takes fields that are wanted"),
        ("query", "doc('').get()", "doc takes an _id"),
        ("query", "doc({}).get()", "doc takes an _id"),
        ("query", "get", "get must be called"),
        ("insert", "add({n: 1})", "add takes an object with data alone"),
        ("insert", "add({data: 5})", "add takes an object, or a list of some"),
        ("insert", "add({data: []})", "add takes an object, or a list of some"),
        ("insert", "add({data: {n: _.inc(1)}})", "_.inc here is not simulated"),
        ("insert", "where({}).add({data: {}})", "where() before add() is not simulated"),
        ("update", "update({data: {a: 1}})", "is not simulated"),
        ("update", "where({}).limit(1).update({data: {a: 1}})", "is not simulated"),
        ("update", "where({}).update({data: {}})", "data must be an object that is not empty"),
        ("update", "where({}).update({data: {age: _.inc('1')}})", "_.inc with these arguments"),
        ("update", "where({}).update({data: {tags: _.push({each: [1]})}})", "_.push with these arguments"),
        ("update", "where({}).update({data: {'tags.0': _.remove()}})", "a change inside of a list is not simulated"),
        ("update", "where({}).update({data: {'tags.0': 1}})", "a change inside of a list is not simulated"),
        ("update", f"where({{}}).update({{data: {{'{'a.' * 70}b': 1}}}})", "a path of more than 64 names"),
        ("update", "where({}).set({data: {a: 1}})", "set() of more than one record is not simulated"),
        ("update", "doc('a').set({data: {_id: 'b'}})", "set takes an object without _id"),
        ("delete", "remove()", "is not simulated"),
        ("delete", "where({}).limit(1).remove()", "is not simulated"),
        ("delete", "where({}).remove(1)", "remove takes nothing"),
    ],
)
def test_what_the_language_does_not_have_is_refused(
    world: World, env: str, action: str, steps: str, words: str
) -> None:
    """The refusal says what it is about, and nothing has changed."""
    before = world.databases.collection(env, "people").records
    with pytest.raises(Refused, match=re.escape(words)) as no:
        record(world, env, action, steps)
    assert no.value.errcode == 40097
    assert world.databases.collection(env, "people").records == before


@pytest.mark.parametrize(
    ("action", "steps", "words"),
    [
        ("insert", "add({data: {_id: 'a'}})", "duplicate _id"),
        ("insert", "add({data: [{_id: 'x'}, {_id: 'x'}]})", "duplicate _id"),
        ("update", "where({}).update({data: {_id: 'z'}})", "_id cannot be changed"),
        ("update", "where({}).update({data: {name: _.inc(1)}})", "name is no number"),
        ("update", "where({}).update({data: {name: _.push(1)}})", "name is no list"),
        ("update", "where({}).update({data: {'name.x': 1}})", "name is no object"),
    ],
)
def test_what_the_records_do_not_allow_is_refused(world: World, env: str, action: str, steps: str, words: str) -> None:
    """The database itself says no, and of many records none has changed."""
    before = world.databases.collection(env, "people").records
    with pytest.raises(Refused, match=re.escape(words)) as no:
        record(world, env, action, steps)
    assert no.value.errcode == -502001
    assert world.databases.collection(env, "people").records == before


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("", "one statement is asked for"),
        ("db.collection('people').get();db.collection('people').get()", "more than one statement"),
        ("db.get()", "with steps"),
        ("db.collection('people')", "with steps"),
        ("_.gt(5)", "with steps"),
        ("db", "with steps"),
        ("db.collection('people').aggregate().end()", "none of this action's"),
    ],
)
def test_a_statement_is_one_chain_on_a_collection(world: World, env: str, query: str, words: str) -> None:
    """Anything else is refused."""
    with pytest.raises(Refused, match=re.escape(words)):
        call(world, "dbrecord", action="query", env=env, query=query)


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        ("end()", "an aggregate is"),
        ("where({}).end()", "an aggregate is"),
        ("aggregate().end(1)", "an aggregate is"),
        ("aggregate().group({_id: 1}).end()", "the stage group is not simulated"),
        ("aggregate().sort({}).end()", "sort takes an object"),
        ("aggregate().sort({a: 'asc'}).end()", "sort takes 1 or -1"),
        ("aggregate().limit(0).end()", "limit takes a whole number"),
        ("aggregate().project({a: '$b'}).end()", "is not simulated"),
        ("get()", "none of this action's"),
    ],
)
def test_what_a_pipeline_does_not_have_is_refused(world: World, env: str, steps: str, words: str) -> None:
    """Stages that are not simulated are named."""
    with pytest.raises(Refused, match=re.escape(words)) as no:
        call(world, "dbaggregate", env=env, query=f"db.collection('people').{steps}")
    assert no.value.errcode == 40097


def test_collections_are_listed_with_what_they_hold(world: World, env: str) -> None:
    """Counts and bytes are those of the records; pages are cut by limit and offset."""
    call(world, "dbcollection", action="add", env=env, collection_name="empty")
    listed = call(world, "dbcollection", action="get", env=env)
    people, empty = listed["collections"]
    assert empty == {"name": "empty", "count": 0, "size": 0, "index_count": 2, "index_size": 8192}
    assert (people["count"], people["size"]) == (4, sum(len(orjson.dumps(each)) for each in PEOPLE))
    part = call(world, "dbcollection", action="get", env=env, limit=1, offset=1)
    assert ([each["name"] for each in part["collections"]], part["total"]) == (["empty"], 2)
    call(world, "dbcollection", action="del", env=env, collection_name="people")
    assert call(world, "dbcollection", action="get", env=env)["total"] == 1


def test_indexes_are_created_and_deleted(world: World, env: str) -> None:
    """Each counts, and all or none of a call are."""
    keys = [{"name": "age", "direction": "-1"}]
    call(world, "dbindex", action="create", env=env, collection_name="people", indexes=[{"name": "i", "keys": keys}])
    people = world.databases.collection(env, "people")
    assert (people.indexes, people.stats()["index_count"]) == ({"i": [("age", "-1")]}, 3)
    for name in ("i", "_id_"):
        with pytest.raises(Refused, match="exists") as no:
            call(
                world,
                "dbindex",
                action="create",
                env=env,
                collection_name="people",
                indexes=[{"name": "new", "keys": keys}, {"name": name, "keys": keys}],
            )
        assert no.value.errcode == -502001
    with pytest.raises(Refused, match="j does not exist"):
        call(
            world,
            "dbindex",
            action="delete",
            env=env,
            collection_name="people",
            indexes=[{"name": "i"}, {"name": "j"}],
        )
    assert list(people.indexes) == ["i"]
    call(world, "dbindex", action="delete", env=env, collection_name="people", indexes=[{"name": "i"}])
    assert not people.indexes


def test_the_acl_is_kept(world: World, env: str) -> None:
    """A new collection is its creators' own; the rule is kept with CUSTOM alone."""

    def modified(tag: str, **rule: str) -> dict[str, Any]:
        call(world, "dbmodifyacl", env=env, collection_name="people", acl_tag=tag, **rule)
        answer = call(world, "dbgetacl", env=env, collection_name="people")
        return {name: answer[name] for name in ("acl_tag", "rule") if name in answer}

    assert call(world, "dbgetacl", env=env, collection_name="people")["acl_tag"] == "PRIVATE"
    assert modified("CUSTOM", rule="{}") == {"acl_tag": "CUSTOM", "rule": "{}"}
    assert modified("READONLY", rule="") == {"acl_tag": "READONLY"}
    assert modified("ADMINONLY") == {"acl_tag": "ADMINONLY"}


@pytest.mark.parametrize(
    ("path", "fields", "errcode"),
    [
        ("dbmodifyacl", {"collection_name": "people", "acl_tag": "custom", "rule": ""}, 40097),
        ("dbmodifyacl", {"collection_name": "people", "acl_tag": "CUSTOM", "rule": ""}, 40097),
        ("dbgetacl", {"collection_name": "nobody"}, -502005),
        ("dbcollection", {"action": "add", "collection_name": "people"}, -502001),
        ("dbcollection", {"action": "del", "collection_name": "nobody"}, -502005),
        ("dbcollection", {"action": "get", "limit": 0}, 40097),
        ("dbcollection", {"action": "get", "offset": -1}, 40097),
        ("dbrecord", {"action": "query", "query": "db.collection('nobody').get()"}, -502005),
        ("dbmigrationstate", {"job_id": 5}, 40097),
        (
            "dbindex",
            {
                "action": "create",
                "collection_name": "people",
                "indexes": [{"name": "i", "keys": [{"name": "a", "direction": "up"}]}],
            },
            40097,
        ),
    ],
    ids=str,
)
def test_what_is_not_there_or_not_so_is_refused(
    world: World, env: str, path: str, fields: dict[str, Any], errcode: int
) -> None:
    """Unknown collections and jobs, and values outside of their sets, have their errcodes."""
    with pytest.raises(Refused) as no:
        call(world, path, env=env, **fields)
    assert no.value.errcode == errcode


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("dbcollection", {"action": "get"}),
        ("dbcollection", {"action": "add", "collection_name": "x"}),
        ("dbrecord", {"action": "query", "query": "db.collection('people').get()"}),
        ("dbmigrationstate", {"job_id": 5}),
    ],
    ids=str,
)
def test_a_halted_environment_is_refused(world: World, env: str, path: str, fields: dict[str, Any]) -> None:
    """Its database cannot be used, and neither can that of one that is not there."""
    world.halt(env)
    for each in (env, "nowhere"):
        with pytest.raises(Refused) as no:
            call(world, path, env=each, **fields)
        assert no.value.errcode == -501005
