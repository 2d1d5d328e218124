"""Handlers of the function calls: create, change, list, trigger, invoke, delete."""

from __future__ import annotations

import re
from typing import Final

from wxtcb.sandbox.errors import platform_error
from wxtcb.sandbox.request import Body, success
from wxtcb.sandbox.services.functions import Function, Trigger, decode_zip, for_each_env
from wxtcb.sandbox.world import World

__all__ = ["HANDLERS"]

_TRIGGER_NAME: Final = re.compile(r"[a-zA-Z][a-zA-Z0-9_-]{0,59}")
_NON_SETTINGS: Final = frozenset({"env", "functionname", "envs", "zipfile"})


def create_functions(world: World, body: Body) -> bytes:
    """Create a function in each environment; failures are listed in `fail_env_list`, with errcode 0."""
    name, code = body.string("functionname"), decode_zip(body.string("zipfile"))
    settings = _settings(body)
    failed = for_each_env(body.strings("envs"), lambda env: world.functions.create(env, name, code, settings))
    return success(fail_env_list=[{"env": env, "errmsg": message} for env, message in failed])


def replace_codes(world: World, body: Body) -> bytes:
    """Replace the code in each environment; failures are listed in `fail_list`, here with `errormsg`."""
    name, code = body.string("functionname"), decode_zip(body.string("zipfile"))
    failed = for_each_env(body.strings("envs"), lambda env: world.functions.replace_code(env, name, code))
    return success(fail_list=[{"env": env, "errormsg": message} for env, message in failed])


def configure(world: World, body: Body) -> bytes:
    """Change the settings of one function."""
    world.functions.configure(body.string("env"), body.string("functionname"), _settings(body))
    return success()


def delete_function(world: World, body: Body) -> bytes:
    """Delete one function."""
    world.functions.delete(body.string("env"), body.string("functionname"))
    return success()


def list_functions(world: World, body: Body) -> bytes:
    """List a page of the functions whose names contain the search key."""
    page = body.page()
    functions = world.functions.list(body.string("env"), body.optional_string("searchkey") or "")
    return success(total_count=len(functions), functions=[_function_row(function) for function in functions[page]])


def list_triggers(world: World, body: Body) -> bytes:
    """List the triggers of one function; unlike in the request, their type is in lower case."""
    triggers = world.functions.get(body.string("env"), body.string("funcname")).triggers
    rows = [{"trigger_name": trigger.trigger_name, "config": trigger.config, "type": "timer"} for trigger in triggers]
    return success(triggers=rows)


def set_triggers(world: World, body: Body) -> bytes:
    """Set the triggers of a function in each environment; failures are listed in `err_list`."""
    name, triggers = body.string("funcname"), [_parse_trigger(row) for row in body.objects("triggers")]

    def set_triggers_in(env: str) -> None:
        # A list for each environment: they are changed independently later.
        world.functions.get(env, name).triggers = triggers.copy()

    failed = for_each_env(body.strings("envs"), set_triggers_in)
    return success(err_list=[{"env": env, "errmsg": message} for env, message in failed])


def invoke(world: World, body: Body) -> bytes:
    """Invoke a function; the reply contains its result as a string."""
    return success(resp_data=world.functions.invoke(body.string("env"), body.string("name"), body.raw_body))


def _settings(body: Body) -> dict[str, object]:
    return {name: value for name, value in body.fields.items() if name not in _NON_SETTINGS}


def _parse_trigger(row: Body) -> Trigger:
    if row.string("type") != "Timer":
        raise platform_error(40097, "type must be Timer")
    if _TRIGGER_NAME.fullmatch(row.string("trigger_name")) is None:
        raise platform_error(
            40097, "trigger_name must start with a letter and have at most 60 characters of a-zA-Z0-9-_"
        )
    # Cron with seconds and years: second, minute, hour, day, month, weekday, year.
    if len(row.string("config").split()) != 7:
        raise platform_error(40097, "config must have 7 fields")
    return Trigger(row.string("trigger_name"), row.string("config"))


def _function_row(function: Function) -> dict[str, object]:
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
