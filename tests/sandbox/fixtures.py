"""A collection of people in a simulated environment, and calls without HTTP."""

from __future__ import annotations

from typing import Any

import orjson

from wxtcb.sandbox import World
from wxtcb.sandbox.request import Body
from wxtcb.sandbox.routes import handle

PEOPLE = [
    {"_id": "a", "name": "Ann", "age": 30, "tags": ["x", "y"], "home": {"town": "Rome", "no": 1}},
    {"_id": "b", "name": "Bob", "age": 20, "tags": ["y"], "home": {"town": "Bonn"}, "gone": None},
    {"_id": "c", "name": "Cid", "age": 20.5, "tags": [], "rooms": [{"n": 1}, {"n": 2}]},
    {"_id": "d", "name": "Dee", "age": "old"},
]


def with_people(world: World) -> str:
    """Create an environment with the collection, and return its id."""
    env = world.add("a")
    collection = world.databases.add_collection(env, "people")
    for person in PEOPLE:
        collection.put(dict(person))
    return env


def call(world: World, path: str, **fields: object) -> dict[str, Any]:
    """Make a call without HTTP, and return the reply."""
    reply: dict[str, Any] = orjson.loads(handle(world, f"/componenttcb/{path}", Body(fields)))
    return reply


def record(world: World, env: str, action: str, steps: str) -> dict[str, Any]:
    """Run a statement on the collection."""
    return call(world, "dbrecord", action=action, env=env, query=f"db.collection('people').{steps}")


def ids(reply: dict[str, Any]) -> str:
    """Return the ids of the records in a reply."""
    return "".join(orjson.loads(text)["_id"] for text in reply["data"])


def one(world: World, env: str, record_id: str) -> dict[str, Any]:
    """Return one record."""
    [text] = record(world, env, "query", f"doc('{record_id}').get()")["data"]
    found: dict[str, Any] = orjson.loads(text)
    return found
