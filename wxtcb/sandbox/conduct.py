"""How operations and functions of the simulated platform go, as a test in another process orders it."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from typing import Any, Final, cast

from wxtcb.sandbox.environments import ReadyPolicy
from wxtcb.sandbox.fault import InvalidFault
from wxtcb.sandbox.world import World

__all__ = ["configure_functions", "configure_operations"]

_OPERATION_FIELDS: Final = {"seconds", "looks", "builds_fail", "release_fails"}
_FUNCTION_FIELDS: Final = {"name", "answer", "fails"}


def configure_operations(world: World, options: object) -> object:
    """Say when operations that begin from now on get ready, and whether builds and releases fail; the rest stays."""
    now = {
        "seconds": world.operations_ready_after.seconds,
        "looks": world.operations_ready_after.polls,
        "builds_fail": world.containers.builds_fail,
        "release_fails": world.cloudrun.release_fails,
    }
    wanted = now | _parse_options(options, _OPERATION_FIELDS)
    seconds, looks = wanted["seconds"], wanted["looks"]
    if type(seconds) not in (int, float) or type(looks) is not int or not (0 <= seconds < inf and looks >= 0):
        raise InvalidFault("$: seconds and looks must be numbers from 0 on, looks a whole one")
    if type(wanted["builds_fail"]) is not bool or type(wanted["release_fails"]) is not bool:
        raise InvalidFault("$: builds_fail and release_fails must be true or false")
    world.operations_ready_after = ReadyPolicy(seconds, looks)
    world.containers.builds_fail, world.cloudrun.release_fails = wanted["builds_fail"], wanted["release_fails"]
    return wanted


def configure_functions(world: World, options: object) -> object:
    """Let functions of a name return `answer`, or fail whenever they are created or changed as long as `fails`."""
    wanted = _parse_options(options, _FUNCTION_FIELDS)
    name, fails = wanted.get("name"), wanted.get("fails", False)
    if type(name) is not str or type(fails) is not bool:
        raise InvalidFault('$ must be {"name": of the functions}, with "answer": what they return, and "fails": true')
    if "answer" in wanted:
        world.functions.set_handler(name, lambda _event: wanted["answer"])
    if fails:
        world.functions.set_failure(name)
    else:
        world.functions.clear_failure(name)
    return {"name": name, "fails": fails}


def _parse_options(options: object, names: set[str]) -> dict[str, Any]:
    if not isinstance(options, Mapping) or not options.keys() <= names:
        raise InvalidFault(f"$ must be an object with no other names than {', '.join(sorted(names))}")
    return dict(cast("Mapping[str, Any]", options))
