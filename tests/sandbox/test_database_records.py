"""Tests of records: query, insert, update and delete."""

from __future__ import annotations

import re

import orjson
import pytest

from wxtcb.sandbox import World

from .fixtures import PEOPLE, call, ids, one, record, with_people


@pytest.fixture
def env(world: World) -> str:
    """Return an environment with a collection of people."""
    return with_people(world)


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
    """Equality, paths, lists and comparisons select records as on the platform. The total counts all matches."""
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
    """A missing field sorts like null, and numbers sort before strings."""
    assert ids(record(world, env, "query", steps)) == found


def test_ten_records_come_without_a_limit(world: World, env: str) -> None:
    """A query without a limit returns ten records and the total."""
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
    """A projection includes or excludes fields. `_id` is included unless it is excluded."""
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
    """Each stage gets the result of the previous one."""
    query = f"db.collection('people').aggregate(){stages}.end()"
    assert ids(call(world, "dbaggregate", env=env, query=query)) == found


def test_what_was_added_is_found(world: World, env: str) -> None:
    """One record or several are inserted. A record without id gets one of 32 hexadecimal digits."""
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
        (
            "const Point = db.Geo.Point;db.collection('geo').where({name: 'x',age: _.gt(10).and(_.lt(20)),"
            "loc: new Point(113,23),array: [1,2]}).limit(10).skip(1).orderBy('age','asc').orderBy('name', 'desc')"
            ".field({ name: true }).get()"
        ),
    ],
)
def test_the_documented_queries_are_understood(world: World, env: str, query: str) -> None:
    """The documented queries find what they describe."""
    geo = world.databases.add_collection(env, "geo")
    for name in ("first", "second"):
        place = {"type": "Point", "coordinates": [113.0, 23.0]}
        geo.put({"_id": name, "done": True, "name": "x", "age": 15, "loc": place, "array": [1, 2]})
    answer = call(world, "dbrecord", action="query", env=env, query=query)
    assert answer["pager"] == {"offset": 1, "limit": 10, "total": 2}
    assert ids(answer) == "second"


def test_what_json_cannot_hold_comes_back_in_its_form(world: World, env: str) -> None:
    """Dates, points and whole doubles are returned in extended JSON."""
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
        ("{age: _.mul(9007199254740991)}", {"age": {"$numberLong": "270215977642229730"}}),
        ("{age: _.mul(1e20)}", {"age": {"$numberDouble": "3e+21"}}),
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
    """Fields that are not named stay. A record that does not change is matched but not modified."""
    answer = record(world, env, "update", f"where({{name: 'Ann'}}).update({{data: {data}}})")
    assert (answer["matched"], answer["modified"], answer["id"]) == (1, int(bool(changed)), "")
    assert one(world, env, "a") == {**PEOPLE[0], **changed}


def test_a_number_grows_as_a_double_beyond_64_bits(world: World, env: str) -> None:
    """A number that exceeds 64 bits becomes a double."""
    for _ in range(2):
        record(world, env, "update", "doc('a').update({data: {age: _.mul(9007199254740991)}})")
    [document] = record(world, env, "query", "doc('a').get()")["data"]
    assert orjson.loads(document)["age"] == {"$numberDouble": str(float(30 * 9007199254740991**2))}


def test_an_update_changes_all_that_match(world: World, env: str) -> None:
    """An update changes all matching records, possibly none."""
    assert record(world, env, "update", "where({tags: 'y'}).update({data: {age: 1}})")["modified"] == 2
    assert record(world, env, "update", "doc('z').update({data: {age: 1}})")["matched"] == 0


def test_a_record_is_set_or_made(world: World, env: str) -> None:
    """`set` replaces a record, or creates it and returns its id."""
    made = record(world, env, "update", "doc('z').set({data: {n: 1}})")
    assert (made["matched"], made["modified"], made["id"]) == (0, 0, "z")
    again = record(world, env, "update", "doc('z').set({data: {m: 1}})")
    assert (again["matched"], again["modified"], again["id"]) == (1, 1, "")
    assert one(world, env, "z") == {"_id": "z", "m": 1}


def test_what_was_removed_is_gone(world: World, env: str) -> None:
    """Records are deleted by conditions or by id. Deleting an unknown record counts 0."""
    assert record(world, env, "delete", "where({tags: 'y'}).remove()")["deleted"] == 2
    assert record(world, env, "delete", "doc('c').remove()")["deleted"] == 1
    assert record(world, env, "delete", "doc('c').remove()")["deleted"] == 0
    assert ids(record(world, env, "query", "get()")) == "d"
