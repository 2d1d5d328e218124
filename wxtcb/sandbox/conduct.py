"""How operations and functions of the simulated platform go, as a test in another process orders it."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from typing import Any, Final, cast

from wxtcb.sandbox.environments import Ready
from wxtcb.sandbox.fault import BadFault
from wxtcb.sandbox.world import World

__all__ = ["conduct_functions", "conduct_operations"]

_OPERATIONS: Final = {"seconds", "looks", "builds_fail", "release_fails"}
_FUNCTIONS: Final = {"name", "answer", "fails"}


def conduct_operations(world: World, order: object) -> object:
    """Say when operations that begin from now on get ready, and whether builds and releases fail; the rest stays."""
    now = {
        "seconds": world.operations_after.seconds,
        "looks": world.operations_after.looks,
        "builds_fail": world.containers.builds_fail,
        "release_fails": world.cloudrun.release_fails,
    }
    wanted = now | _read(order, _OPERATIONS)
    seconds, looks = wanted["seconds"], wanted["looks"]
    if type(seconds) not in (int, float) or type(looks) is not int or not (0 <= seconds < inf and looks >= 0):
        raise BadFault("$: seconds and looks must be numbers from 0 on, looks a whole one")
    if type(wanted["builds_fail"]) is not bool or type(wanted["release_fails"]) is not bool:
        raise BadFault("$: builds_fail and release_fails must be true or false")
    world.operations_after = Ready(seconds, looks)
    world.containers.builds_fail, world.cloudrun.release_fails = wanted["builds_fail"], wanted["release_fails"]
    return wanted


def conduct_functions(world: World, order: object) -> object:
    """Let functions of a name return `answer`, or fail whenever they are created or changed as long as `fails`."""
    wanted = _read(order, _FUNCTIONS)
    name, fails = wanted.get("name"), wanted.get("fails", False)
    if type(name) is not str or type(fails) is not bool:
        raise BadFault('$ must be {"name": of the functions}, with "answer": what they return, and "fails": true')
    if "answer" in wanted:
        world.functions.behave(name, lambda _event: wanted["answer"])
    if fails:
        world.functions.fail(name)
    else:
        world.functions.mend(name)
    return {"name": name, "fails": fails}


def _read(order: object, names: set[str]) -> dict[str, Any]:
    if not isinstance(order, Mapping) or not order.keys() <= names:
        raise BadFault(f"$ must be an object with no other names than {', '.join(sorted(names))}")
    return dict(cast("Mapping[str, Any]", order))
