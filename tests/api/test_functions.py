"""Cloud functions: requests, rejected arguments and replies."""

from __future__ import annotations

import io
import re
import traceback
import zipfile

import pytest

import wxtcb
from wxtcb.api import functions
from wxtcb.api.functions import (
    Code,
    EnvFailure,
    FunctionConfig,
    FunctionVpc,
    MultiEnvResult,
    PublicNet,
    Trigger,
    TriggerInfo,
)

DONE = {"errcode": 0, "errmsg": "ok"}
TIMES = {"add_time": "2021-07-29 15:04:19", "mod_time": "2021-07-29 15:04:19"}
FAILED = [EnvFailure(env="e-2", errmsg="can't find the env")]


def code():
    """Return the code of a function."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as opened:
        opened.writestr("index.js", "exports.main = 1")
    return Code(buffer.getvalue())


CODE = code()
TRIGGER = Trigger(trigger_name="nightly", config="0 0 2 * * * *")
CALLS = {
    "batch_upload_scf": lambda session, **more: functions.batch_upload_scf(
        session, **{"envs": ["e-1"], "function_name": "f", "code": CODE, **more}
    ),
    "batch_upload_scf_code": lambda session, **more: functions.batch_upload_scf_code(
        session, **{"envs": ["e-1"], "function_name": "f", "code": CODE, **more}
    ),
    "batch_update_triggers": lambda session, **more: functions.batch_update_triggers(
        session, **{"envs": ["e-1"], "function_name": "f", "triggers": [TRIGGER], **more}
    ),
    "update_scf_config": lambda session, **more: functions.update_scf_config(
        session, **{"env": "e-1", "function_name": "f", "config": FunctionConfig(), **more}
    ),
    "delete_scf": lambda session, **more: functions.delete_scf(session, **{"env": "e-1", "function_name": "f", **more}),
    "get_scf_list": lambda session, **more: functions.get_scf_list(session, **{"env": "e-1", **more}),
    "get_triggers": lambda session, **more: functions.get_triggers(
        session, **{"env": "e-1", "function_name": "f", **more}
    ),
}
INVALID_ENVS = ["e-1", [], [""]]
BATCH_CALLS = [name for name in CALLS if name.startswith("batch")]


@pytest.mark.parametrize("call", BATCH_CALLS)
@pytest.mark.parametrize("envs", INVALID_ENVS, ids=repr)
async def test_invalid_envs_are_rejected_by_name(session, platform, call, envs):
    """A string in place of a list, an empty list and empty ids are rejected before a request is sent."""
    with pytest.raises(wxtcb.InvalidArgument, match=r"^envs\b"):
        await CALLS[call](session, envs=envs)
    assert (platform.sent, platform.token_requests) == ([], [])


@pytest.mark.parametrize("listed", ["err_list", "fail_env_list", "fail_list"])
@pytest.mark.parametrize("reason", ["errmsg", "errormsg"])
@pytest.mark.parametrize("call", BATCH_CALLS)
async def test_failure_under_errcode_0_is_found_in_every_spelling(session, platform, call, listed, reason):
    """The three calls name the list and the reason in different ways."""
    platform.replies = [{**DONE, listed: [{"env": "e-2", reason: "can't find the env"}]}]
    with pytest.raises(wxtcb.PartialFailure, match="can't find the env") as partial:
        await CALLS[call](session)
    assert list(partial.value.failed) == FAILED
    assert partial.value.reply == MultiEnvResult(err_list=tuple(FAILED))


@pytest.mark.parametrize("reply", [{}, {"err_list": None}, {"fail_list": []}, {"fail_env_list": None}], ids=str)
async def test_result_without_failures_is_returned(session, platform, reply):
    """Missing, null and empty lists are no failure."""
    platform.replies = [DONE | reply]
    assert await CALLS["batch_upload_scf"](session) == MultiEnvResult()


@pytest.mark.parametrize(
    "reply",
    [
        {"fail_env_list": [], "fail_list": [{"env": "e-2", "errormsg": "can't find the env"}]},
        {"err_list": [], "fail_list": [{"env": "e-2", "errmsg": "", "errormsg": "can't find the env"}]},
    ],
    ids=range(2),
)
async def test_non_empty_spelling_wins(session, platform, reply):
    """If a reply has several spellings, the one with a value counts."""
    platform.replies = [DONE | reply]
    with pytest.raises(wxtcb.PartialFailure) as partial:
        await CALLS["batch_upload_scf_code"](session)
    assert list(partial.value.failed) == FAILED


async def test_failure_may_have_no_reason(session, platform):
    """The reason is then an empty string."""
    platform.replies = [{**DONE, "fail_list": [{"env": "e-2"}]}]
    rollout = await CALLS["batch_upload_scf_code"](session.with_options(partial="return"))
    assert rollout.failed == (EnvFailure(env="e-2"),)


async def test_network_has_the_platforms_spelling(session, platform):
    """Vpcid and subnetid are sent only if they are given."""
    platform.replies = [DONE]
    await CALLS["batch_upload_scf"](session, vpc_id="v")
    await CALLS["batch_upload_scf"](session, subnet_id="s")
    sent = {"functionname": "f", "envs": ["e-1"], "zipfile": CODE.base64}
    assert platform.bodies == [{**sent, "vpcid": "v"}, {**sent, "subnetid": "s"}]


@pytest.mark.parametrize(
    ("options", "sent"),
    [
        ({}, {}),
        ({"memory_size": 256}, {"memorysize": 256}),
        ({"timeout": 20}, {"timeout": 20}),
        ({"environment_variables": {}}, {"environment_variables": []}),
        ({"environment_variables": {"A": ""}}, {"environment_variables": [{"key": "A", "value": ""}]}),
        (
            {"public_net": PublicNet(public_net_status="ENABLE", eip_status="DISABLE")},
            {"public_net_config": {"public_net_status": "ENABLE", "eip_status": "DISABLE"}},
        ),
        ({"vpc": FunctionVpc(vpc_id="v")}, {"vpc_config": {"vpcid": "v"}}),
        ({"vpc": FunctionVpc(subnet_id="s")}, {"vpc_config": {"subnetid": "s"}}),
        ({"vpc": FunctionVpc()}, {"vpc_config": {}}),
    ],
    ids=str,
)
async def test_only_given_settings_are_sent(session, platform, options, sent):
    """Each setting has the platform's name, also if it is empty."""
    platform.replies = [DONE]
    await functions.update_scf_config(session, "e-1", "f", FunctionConfig(**options))
    assert platform.bodies == [{"env": "e-1", "functionname": "f", **sent}]


async def test_secret_variable_is_sent_and_redacted(session, platform):
    """It is plain on the wire, in no repr, and redacted if the platform echoes it."""
    platform.replies = [{"errcode": 40097, "errmsg": "bad value hunter2"}]
    config = FunctionConfig(environment_variables={"KEY": wxtcb.Secret("hunter2"), "OTHER": "plain"})
    with pytest.raises(wxtcb.InvalidRequest, match=re.escape("bad value ***")):
        await functions.update_scf_config(session, "e-1", "f", config)
    assert platform.bodies[0]["environment_variables"][0] == {"key": "KEY", "value": "hunter2"}
    assert "hunter2" not in repr(config)
    assert "plain" not in repr(config)


def test_variables_are_copied():
    """A later change of the caller's mapping has no effect."""
    variables = {"A": "1"}
    config = FunctionConfig(environment_variables=variables)
    variables["A"] = "2"
    assert config.environment_variables == {"A": wxtcb.Secret("1")}


async def test_variable_given_as_a_string_is_in_no_error(session, platform):
    """A platform that repeats the request in errmsg does not bring it into logs and spans."""
    platform.replies = [{"errcode": 40097, "errmsg": 'bad {"key":"KEY","value":"hunter2-hunter2"}'}]
    config = FunctionConfig(environment_variables={"KEY": "hunter2-hunter2"})
    with pytest.raises(wxtcb.InvalidRequest) as caught:
        await functions.update_scf_config(session, "e", "f", config)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "variables", ["A=1", [("A", "1")], {"": "1"}, {5: "1"}, {"A": 1}, {"A": None}, {"A": b"1"}], ids=str
)
def test_invalid_variables_are_rejected_by_field(variables):
    """Names are non-empty strings, values are strings or secrets."""
    with pytest.raises(wxtcb.InvalidArgument, match=r"^FunctionConfig: environment_variables\b"):
        FunctionConfig(environment_variables=variables)


def test_rejected_settings_show_no_variable():
    """Neither the message nor a frame of the traceback contains one."""
    with pytest.raises(wxtcb.InvalidArgument) as caught:
        FunctionConfig(environment_variables={"KEY": "hunter2", "BAD": 5})
    trace = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    shown = [
        str(value) for frame in trace.stack for value in (frame.locals or {}).values() if frame.name != caught.typename
    ]
    assert "hunter2" not in str(caught.value)
    assert not any("hunter2" in text for text in shown[1:])


async def test_rejected_call_shows_no_variable(session, platform):
    """No frame of the traceback contains one, although it is a plain string."""
    platform.replies = [{"errcode": 40097, "errmsg": "no"}]
    config = FunctionConfig(environment_variables={"KEY": "hunter2"})
    with pytest.raises(wxtcb.InvalidRequest) as caught:
        await functions.update_scf_config(session, "e-1", "f", config)
    trace = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    shown = [text for frame in trace.stack if frame.name == "update_scf_config" for text in frame.locals.values()]
    assert shown
    assert not any("hunter2" in text for text in shown)


@pytest.mark.parametrize("name", ["a", "A-1_b", "z" * 60])
@pytest.mark.parametrize("config", ["0 0 2 1 * * *", "*/5 * * * * * *", " 0  0 2 1 * MON-FRI 2030 "])
async def test_trigger_is_sent_as_a_timer(session, platform, name, config):
    """Its type is Timer, as the page documents."""
    platform.replies = [DONE]
    await CALLS["batch_update_triggers"](session, triggers=[Trigger(trigger_name=name, config=config)])
    [sent] = platform.bodies[0]["triggers"]
    assert sent == {"trigger_name": name, "config": config, "type": "Timer"}


async def test_empty_list_of_triggers_is_sent(session, platform):
    """The platform decides whether that removes all triggers."""
    platform.replies = [DONE]
    await CALLS["batch_update_triggers"](session, triggers=iter(()))
    assert platform.bodies == [{"funcname": "f", "envs": ["e-1"], "triggers": []}]


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        *[({"trigger_name": value}, "trigger_name") for value in ("", "1a", "-a", "a b", "a.b", "z" * 61, "a\n")],
        *[({"config": value}, "config") for value in ("", "0 2 * * * *", "0 0 0 2 * * * *")],
    ],
    ids=str,
)
def test_invalid_trigger_is_rejected_by_field(fields, name):
    """The rule for names and the 7 fields of the schedule are checked."""
    with pytest.raises(wxtcb.InvalidArgument, match=rf"^Trigger: {name}\b"):
        Trigger(**{"trigger_name": "a", "config": "0 0 2 1 * * *"} | fields)


@pytest.mark.parametrize(("kind", "timer"), [("timer", True), ("Timer", True), ("TIMER", True), ("cos", False)])
def test_trigger_type_is_compared_without_case(kind, timer):
    """The platform takes Timer and returns timer."""
    assert TriggerInfo(trigger_name="any name", config="?", type=kind).is_timer is timer


async def test_nested_errcode_is_not_an_error_of_the_call(session, platform):
    """The reason of a failed function is in its entry, with a code that is a text."""
    reason = [{"errcode": "ResourceNotFound.File", "errmsg": "entry file not found"}]
    row = {"name": "f", "runtime": "Nodejs8.9", "status": "CreateFailed", "status_reason": reason, **TIMES}
    platform.replies = [{**DONE, "total_count": 1, "functions": [row, {**row, "status_reason": None}]}]
    listed = await functions.get_scf_list(session, "e-1", offset=0, limit=5, search_key="")
    assert [len(each.status_reason) for each in listed.functions] == [1, 0]
    assert listed.functions[0].status_reason[0].errcode == "ResourceNotFound.File"
    assert platform.bodies == [{"env": "e-1", "offset": 0, "limit": 5, "searchkey": ""}]


def page(*names, total):
    """Return a page of a list."""
    rows = [{"name": name, "runtime": "Nodejs8.9", "status": "Active", **TIMES} for name in names]
    return {**DONE, "total_count": total, "functions": rows}


async def test_all_pages_are_iterated(session, platform):
    """The next offset is the number of functions received."""
    platform.replies = [page("a", "b", total=3), page("c", total=3)]
    found = functions.iter_functions(session, "e-1", page_size=2, search_key="x")
    assert [each.function_name async for each in found] == ["a", "b", "c"]
    assert [body["offset"] for body in platform.bodies] == [0, 2]
    assert {(body["limit"], body["searchkey"]) for body in platform.bodies} == {(2, "x")}


@pytest.mark.parametrize("page_size", [0, -1])
def test_invalid_page_size_is_rejected_at_once(page_size):
    """The error is raised before the first function is fetched."""
    with pytest.raises(wxtcb.InvalidArgument, match=r"^page_size\b"):
        functions.iter_functions(None, "e-1", page_size=page_size)


@pytest.mark.parametrize("call", ["batch_upload_scf", "batch_upload_scf_code", "update_scf_config"])
async def test_ambiguous_update_is_not_repeated(session, platform, call):
    """A function that is being updated rejects updates, so a repeat could fail although the first one succeeded."""
    platform.replies = [{"errcode": -1000, "errmsg": "system error"}]
    with pytest.raises(wxtcb.OutcomeUnknown):
        await CALLS[call](session)
    assert len(platform.sent) == 1
