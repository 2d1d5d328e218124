"""A collection of people in a simulated environment, and calls below the wire."""

from __future__ import annotations

from typing import Any

import orjson

from wxtcb.sandbox import World
from wxtcb.sandbox.handlers import HANDLERS
from wxtcb.sandbox.request import Body

PEOPLE = [
    {"_id": "a", "name": "Ann", "age": 30, "tags": ["x", "y"], "home": {"town": "Rome", "no": 1}},
    {"_id": "b", "name": "Bob", "age": 20, "tags": ["y"], "home": {"town": "Bonn"}, "gone": None},
    {"_id": "c", "name": "Cid", "age": 20.5, "tags": [], "rooms": [{"n": 1}, {"n": 2}]},
    {"_id": "d", "name": "Dee", "age": "old"},
]


def with_people(world: World) -> str:
    """Open an environment with the people in it."""
    env = world.add("a")
    collection = world.databases.add_collection(env, "people")
    for person in PEOPLE:
        collection.put(dict(person))
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
