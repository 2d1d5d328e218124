"""The calls that create, change, list, trigger, run and delete functions."""

from __future__ import annotations

import re
from typing import Final

from wxtcb.sandbox.errors import refuse
from wxtcb.sandbox.request import Body, ok
from wxtcb.sandbox.services.functions import Function, Trigger, each_env, open_zip
from wxtcb.sandbox.world import World

__all__ = ["HANDLERS"]

_TRIGGER: Final = re.compile(r"[a-zA-Z][a-zA-Z0-9_-]{0,59}")
_PAGE: Final = 20
_NAMES: Final = frozenset({"env", "functionname", "envs", "zipfile"})


def create_functions(world: World, body: Body) -> bytes:
    """Create a function in each environment: those where that fails stand in fail_env_list, under errcode 0."""
    name, code = body.text("functionname"), open_zip(body.text("zipfile"))
    settings = _settings(body)
    failed = each_env(body.texts("envs"), lambda env: world.functions.create(env, name, code, settings))
    return ok(fail_env_list=[{"env": env, "errmsg": why} for env, why in failed])


def replace_codes(world: World, body: Body) -> bytes:
    """Replace the code in each environment; here those that fail stand in fail_list, with errormsg."""
    name, code = body.text("functionname"), open_zip(body.text("zipfile"))
    failed = each_env(body.texts("envs"), lambda env: world.functions.replace_code(env, name, code))
    return ok(fail_list=[{"env": env, "errormsg": why} for env, why in failed])


def configure(world: World, body: Body) -> bytes:
    """Change the settings of one function."""
    world.functions.configure(body.text("env"), body.text("functionname"), _settings(body))
    return ok()


def delete_function(world: World, body: Body) -> bytes:
    """Delete one function."""
    world.functions.delete(body.text("env"), body.text("functionname"))
    return ok()


def list_functions(world: World, body: Body) -> bytes:
    """List a page of the functions whose names hold the key."""
    limit, offset = body.number("limit", _PAGE), body.number("offset", 0)
    if limit < 1 or offset < 0:
        raise refuse(40097, "limit must be above 0, and offset not below it")
    found = world.functions.list(body.text("env"), body.maybe_text("searchkey") or "")
    return ok(total_count=len(found), functions=[_row(each) for each in found[offset : offset + limit]])


def list_triggers(world: World, body: Body) -> bytes:
    """List the triggers of one function; their type is in lower case here."""
    found = world.functions.find(body.text("env"), body.text("funcname")).triggers
    rows = [{"trigger_name": each.trigger_name, "config": each.config, "type": "timer"} for each in found]
    return ok(triggers=rows)


def set_triggers(world: World, body: Body) -> bytes:
    """Set the triggers of a function in each environment; those that fail stand in err_list."""
    name, triggers = body.text("funcname"), [_read_trigger(row) for row in body.rows("triggers")]

    def set_in(env: str) -> None:
        world.functions.find(env, name).triggers = triggers.copy()

    failed = each_env(body.texts("envs"), set_in)
    return ok(err_list=[{"env": env, "errmsg": why} for env, why in failed])


def invoke(world: World, body: Body) -> bytes:
    """Run a function; what it returns is a text in the reply."""
    return ok(resp_data=world.functions.invoke(body.text("env"), body.text("name"), body.raw))


def _settings(body: Body) -> dict[str, object]:
    return {name: value for name, value in body.fields.items() if name not in _NAMES}


def _read_trigger(row: Body) -> Trigger:
    if row.text("type") != "Timer":
        raise refuse(40097, "type must be Timer")
    if _TRIGGER.fullmatch(row.text("trigger_name")) is None:
        raise refuse(40097, "trigger_name must start with a letter and hold at most 60 of a-zA-Z0-9-_")
    if len(row.text("config").split()) != 7:
        raise refuse(40097, "config must have 7 fields")
    return Trigger(row.text("trigger_name"), row.text("config"))


def _row(function: Function) -> dict[str, object]:
    reasons = [function.failure] if function.failure else []
    return {
        "name": function.name,
        "runtime": "Nodejs8.9",
        "status": function.status,
        "status_reason": [{"errcode": errcode, "errmsg": errmsg} for errcode, errmsg in reasons],
        "add_time": function.add_time,
        "mod_time": function.mod_time,
    }


HANDLERS: Final = {
    "/componenttcb/batchuploadscf": create_functions,
    "/componenttcb/batchuploadscfcode": replace_codes,
    "/componenttcb/updatescfconfig": configure,
    "/componenttcb/deletescf": delete_function,
    "/componenttcb/getscflist": list_functions,
    "/componenttcb/gettriggers": list_triggers,
    "/componenttcb/batchupdatetriggers": set_triggers,
    "/tcb/invokecloudfunction": invoke,
}
