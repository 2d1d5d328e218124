"""Tests of the errors of the simulated databases."""

from __future__ import annotations

import re
from typing import Any

import pytest

from wxtcb.sandbox import World
from wxtcb.sandbox.errors import PlatformError
from wxtcb.sandbox.services.database.values import decode_record

from .fixtures import call, ids, record, with_people


@pytest.fixture
def env(world: World) -> str:
    """Return an environment with a collection of people."""
    return with_people(world)


@pytest.mark.parametrize(
    ("action", "steps", "words"),
    [
        ("query", "count()", "count() at the end is not simulated"),
        ("query", "remove()", "remove() is not an operation of this action"),
        ("delete", "get()", "get() is not an operation of this action"),
        ("query", "get(1)", "get takes no arguments"),
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
        ("query", "limit(0).get()", "limit takes an integer, at least 1"),
        ("query", "limit(1001).get()", "limit must be at most 1000"),
        ("query", "limit('5').get()", "limit takes an integer"),
        ("query", "skip(-1).get()", "skip takes an integer, at least 0"),
        ("query", "orderBy('a').get()", "orderBy takes a field"),
        ("query", "field({}).get()", "field takes an object"),
        ("query", "field({'a.b': true}).get()", "is not simulated"),
        ("query", "field({a: true, b: false}).get()", "either included or excluded"),
        ("query", "doc('').get()", "doc takes an _id"),
        ("query", "doc({}).get()", "doc takes an _id"),
        ("query", "get", "get must be called"),
        ("insert", "add({n: 1})", "contains only data"),
        ("insert", "add({data: 5})", "add takes an object or a non-empty list of objects"),
        ("insert", "add({data: []})", "add takes an object or a non-empty list of objects"),
        ("insert", "add({data: {n: _.inc(1)}})", "_.inc here is not simulated"),
        ("insert", "where({}).add({data: {}})", "where() before add() is not simulated"),
        ("update", "update({data: {a: 1}})", "is not simulated"),
        ("update", "where({}).limit(1).update({data: {a: 1}})", "is not simulated"),
        ("update", "where({}).update({data: {}})", "data must be a non-empty object"),
        ("update", "where({}).update({data: {age: _.inc('1')}})", "_.inc with these arguments"),
        ("update", "where({}).update({data: {tags: _.push({each: [1]})}})", "_.push with these arguments"),
        ("update", "where({}).update({data: {'tags.0': _.remove()}})", "an update inside a list is not simulated"),
        ("update", "where({}).update({data: {'tags.0': 1}})", "an update inside a list is not simulated"),
        ("update", f"where({{}}).update({{data: {{'{'a.' * 70}b': 1}}}})", "more than 64 names"),
        ("update", "where({}).set({data: {a: 1}})", "set() of more than one record is not simulated"),
        ("update", "doc('a').set({data: {_id: 'b'}})", "set takes an object without _id"),
        ("delete", "remove()", "is not simulated"),
        ("delete", "where({}).limit(1).remove()", "is not simulated"),
        ("delete", "where({}).remove(1)", "remove takes no arguments"),
    ],
)
def test_what_the_language_does_not_have_is_refused(
    world: World, env: str, action: str, steps: str, words: str
) -> None:
    """The error names the rejected feature, and nothing changes."""
    before = world.databases.collection(env, "people").records
    with pytest.raises(PlatformError, match=re.escape(words)) as no:
        record(world, env, action, steps)
    assert no.value.errcode == 40097
    assert world.databases.collection(env, "people").records == before


@pytest.mark.parametrize(
    ("action", "steps", "words"),
    [
        ("insert", "add({data: {_id: 'a'}})", "duplicate _id"),
        ("insert", "add({data: [{_id: 'x'}, {_id: 'x'}]})", "duplicate _id"),
        ("update", "where({}).update({data: {_id: 'z'}})", "_id cannot be changed"),
        ("update", "where({}).update({data: {name: _.inc(1)}})", "name is not a number"),
        ("update", "where({}).update({data: {name: _.push(1)}})", "name is not a list"),
        ("update", "where({}).update({data: {'name.x': 1}})", "name is not an object"),
    ],
)
def test_what_the_records_do_not_allow_is_refused(world: World, env: str, action: str, steps: str, words: str) -> None:
    """If one record cannot be changed, none is."""
    before = world.databases.collection(env, "people").records
    with pytest.raises(PlatformError, match=re.escape(words)) as no:
        record(world, env, action, steps)
    assert no.value.errcode == -502001
    assert world.databases.collection(env, "people").records == before


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("", "a statement is missing"),
        ("db.collection('people').get();db.collection('people').get()", "more than one statement"),
        ("db.get()", "with steps"),
        ("db.collection('people')", "with steps"),
        ("_.gt(5)", "with steps"),
        ("db", "with steps"),
        ("db.collection('people').aggregate().end()", "not an operation of this action"),
    ],
)
def test_a_statement_is_one_chain_on_a_collection(world: World, env: str, query: str, words: str) -> None:
    """A query must be one statement on a collection."""
    with pytest.raises(PlatformError, match=re.escape(words)):
        call(world, "dbrecord", action="query", env=env, query=query)


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        ("end()", "an aggregate must be"),
        ("where({}).end()", "an aggregate must be"),
        ("aggregate().end(1)", "an aggregate must be"),
        ("aggregate().group({_id: 1}).end()", "the stage group is not simulated"),
        ("aggregate().sort({}).end()", "sort takes a non-empty object"),
        ("aggregate().sort({a: 'asc'}).end()", "sort takes 1 or -1"),
        ("aggregate().limit(0).end()", "limit takes an integer"),
        ("aggregate().project({a: '$b'}).end()", "is not simulated"),
        ("get()", "not an operation of this action"),
    ],
)
def test_what_a_pipeline_does_not_have_is_refused(world: World, env: str, steps: str, words: str) -> None:
    """A stage that is not simulated is named in the error."""
    with pytest.raises(PlatformError, match=re.escape(words)) as no:
        call(world, "dbaggregate", env=env, query=f"db.collection('people').{steps}")
    assert no.value.errcode == 40097


@pytest.mark.parametrize(
    ("path", "fields", "errcode"),
    [
        ("dbmodifyacl", {"collection_name": "people", "acl_tag": "custom", "rule": ""}, 40097),
        ("dbmodifyacl", {"collection_name": "people", "acl_tag": "CUSTOM", "rule": ""}, 40097),
        ("dbgetacl", {"collection_name": "unknown"}, -502005),
        ("dbcollection", {"action": "add", "collection_name": "people"}, -502001),
        ("dbcollection", {"action": "del", "collection_name": "unknown"}, -502005),
        ("dbcollection", {"action": "get", "limit": 0}, 40097),
        ("dbcollection", {"action": "get", "offset": -1}, 40097),
        ("dbrecord", {"action": "query", "query": "db.collection('unknown').get()"}, -502005),
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
    """Unknown collections and jobs, and invalid values, have their errcodes."""
    with pytest.raises(PlatformError) as no:
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
    """Statements need a NORMAL environment."""
    world.halt(env)
    for each in (env, "nowhere"):
        with pytest.raises(PlatformError) as no:
            call(world, path, env=each, **fields)
        assert no.value.errcode == -501005


@pytest.mark.parametrize("number", ["1.5", "NaN", "sNaN"])
def test_a_decimal_is_compared_but_not_reckoned_with(world: World, env: str, number: str) -> None:
    """A decimal can be compared but not changed. NaN is the smallest number."""
    collection = world.databases.collection(env, "people")
    collection.put(decode_record(f'{{"_id":"e","age":{{"$numberDecimal":"{number}"}}}}'))
    assert ids(record(world, env, "query", "where({age: _.lt(2)}).get()")) == "e"
    with pytest.raises(PlatformError, match="arithmetic with a decimal is not simulated"):
        record(world, env, "update", "doc('e').update({data: {age: _.inc(0.5)}})")


@pytest.mark.parametrize("steps", ["where({'tags.%s': 'x'}).get()", "where({'rooms.%s.n': 1}).get()"])
def test_no_list_has_an_entry_of_a_monstrous_number(world: World, env: str, steps: str) -> None:
    """An index of many digits matches nothing and is not an error."""
    assert ids(record(world, env, "query", steps % ("9" * 5000))) == ""


def test_what_is_just_not_too_deep_goes_all_the_way(world: World, env: str) -> None:
    """A record with the maximum nesting is inserted, found, changed and read."""
    deep = "[" * 110 + "]" * 110
    objects = "{a: " * 110 + "1" + "}" * 110
    record(world, env, "insert", f"add({{data: {{_id: 'deep', list: {deep}, object: {objects}}}}})")
    found = record(world, env, "query", f"where({{list: {deep}, object: _.eq({objects})}}).get()")
    assert ids(found) == "deep"
    assert ids(record(world, env, "query", f"where({{object: {objects}}}).orderBy('object', 'asc').get()")) == "deep"
    assert record(world, env, "update", "doc('deep').update({data: {list: _.push([1])}})")["modified"] == 1
    assert record(world, env, "delete", "doc('deep').remove()")["deleted"] == 1
