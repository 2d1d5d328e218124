"""Tests of collections, indexes and access rules."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from wxtcb.sandbox import World
from wxtcb.sandbox.errors import PlatformError

from .fixtures import PEOPLE, call, with_people
from .sandbox_harness import Harness


@pytest.fixture
def env(world: World) -> str:
    """Return an environment with a collection of people."""
    return with_people(world)


def test_collections_are_listed_with_what_they_hold(world: World, env: str) -> None:
    """A list contains the numbers and sizes of records, in pages by limit and offset."""
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
    """All indexes of a call are created or deleted, or none."""
    keys = [{"name": "age", "direction": "-1"}]
    call(world, "dbindex", action="create", env=env, collection_name="people", indexes=[{"name": "i", "keys": keys}])
    people = world.databases.collection(env, "people")
    assert (people.indexes, people.stats()["index_count"]) == ({"i": [("age", "-1")]}, 3)
    for name in ("i", "_id_"):
        with pytest.raises(PlatformError, match="exists") as no:
            call(
                world,
                "dbindex",
                action="create",
                env=env,
                collection_name="people",
                indexes=[{"name": "new", "keys": keys}, {"name": name, "keys": keys}],
            )
        assert no.value.errcode == -502001
    with pytest.raises(PlatformError, match="j does not exist"):
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
    """A new collection is PRIVATE. A rule is stored only with CUSTOM."""

    def modified(tag: str, **rule: str) -> dict[str, Any]:
        call(world, "dbmodifyacl", env=env, collection_name="people", acl_tag=tag, **rule)
        answer = call(world, "dbgetacl", env=env, collection_name="people")
        return {name: answer[name] for name in ("acl_tag", "rule") if name in answer}

    assert call(world, "dbgetacl", env=env, collection_name="people")["acl_tag"] == "PRIVATE"
    assert modified("CUSTOM", rule="{}") == {"acl_tag": "CUSTOM", "rule": "{}"}
    assert modified("READONLY", rule="") == {"acl_tag": "READONLY"}
    assert modified("ADMINONLY") == {"acl_tag": "ADMINONLY"}


@pytest.mark.parametrize("places", [("query",), ("body",), ("query", "body")])
async def test_action_is_accepted_in_query_and_body(harness: Harness, places: tuple[str, ...]) -> None:
    """Programs send the action in the query alone, in the body alone, or in both; each of them is served."""
    env, action = harness.sandbox.world.add("a"), {"action": "get"}
    token = harness.sandbox.world.issue_token()
    body, query = action if "body" in places else {}, action if "query" in places else {}
    reply = await harness.post("/componenttcb/dbcollection", {"env": env, **body}, access_token=token, **query)
    assert (reply["errcode"], reply["total"]) == (0, 0)


def test_message_about_an_existing_collection_is_the_platforms(world: World, env: str) -> None:
    """A program recognises by "Table exist" that it has created the collection in an earlier run."""
    with pytest.raises(PlatformError, match="Table exist"):
        call(world, "dbcollection", action="add", env=env, collection_name="people")
