"""Cloud functions: what is sent, what is refused before, and what comes back."""

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
    """Make the code of a function."""
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
NO_TEXTS = [None, "", " ", 5, b"f", ["f"]]
NO_ENVS = [None, "", "e-1", b"e-1", [], [""], [5], 5]
REFUSED = [
    *[(name, "function_name", value) for name in CALLS if name != "get_scf_list" for value in NO_TEXTS],
    *[(name, "envs", value) for name in CALLS if name.startswith("batch") for value in NO_ENVS],
    *[(name, "env", value) for name in CALLS if not name.startswith("batch") for value in NO_TEXTS],
    *[(name, "code", value) for name in CALLS if "upload" in name for value in (None, b"PK", "UEsD")],
    *[("batch_upload_scf", name, value) for name in ("vpc_id", "subnet_id") for value in NO_TEXTS[1:]],
    *[("batch_update_triggers", "triggers", value) for value in (None, TRIGGER, [None], [{"trigger_name": "a"}], "a")],
    *[("update_scf_config", "config", value) for value in (None, {}, {"timeout": 5}, "x")],
    *[("get_scf_list", name, value) for name in ("offset", "limit") for value in ("1", True, 1.0)],
    *[("get_scf_list", "search_key", value) for value in (5, b"f", ["f"])],
]


@pytest.mark.parametrize(("call", "name", "value"), REFUSED, ids=repr)
async def test_an_argument_that_cannot_be_meant_is_refused_by_name(session, platform, call, name, value):
    """The message begins with the argument, and nothing is sent."""
    with pytest.raises(wxtcb.InvalidArgument, match=rf"^{name}\b"):
        await CALLS[call](session, **{name: value})
    assert (platform.sent, platform.bought) == ([], [])


@pytest.mark.parametrize("listed", ["err_list", "fail_env_list", "fail_list"])
@pytest.mark.parametrize("reason", ["errmsg", "errormsg"])
@pytest.mark.parametrize("call", [name for name in CALLS if name.startswith("batch")])
async def test_a_failure_hidden_in_a_success_is_found_in_every_spelling(session, platform, call, listed, reason):
    """Each of the three calls names the list, or the reason, in its own way: in Python they are the same."""
    platform.replies = [{**DONE, listed: [{"env": "e-2", reason: "can't find the env"}]}]
    with pytest.raises(wxtcb.PartialFailure, match="can't find the env") as partial:
        await CALLS[call](session)
    assert list(partial.value.failed) == FAILED
    assert partial.value.reply == MultiEnvResult(err_list=tuple(FAILED))


@pytest.mark.parametrize("reply", [{}, {"err_list": None}, {"fail_list": []}, {"fail_env_list": None}], ids=str)
async def test_a_rollout_without_failures_is_returned(session, platform, reply):
    """Lists that are missing, null or empty hide nothing."""
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
async def test_a_failure_does_not_hide_beside_an_empty_list(session, platform, reply):
    """Of several spellings in one reply the one that holds something counts."""
    platform.replies = [DONE | reply]
    with pytest.raises(wxtcb.PartialFailure) as partial:
        await CALLS["batch_upload_scf_code"](session)
    assert list(partial.value.failed) == FAILED


async def test_an_environment_may_fail_without_a_reason(session, platform):
    """The reason is then an empty text."""
    platform.replies = [{**DONE, "fail_list": [{"env": "e-2"}]}]
    rollout = await CALLS["batch_upload_scf_code"](session.with_options(partial="return"))
    assert rollout.failed == (EnvFailure(env="e-2"),)


async def test_a_network_goes_out_under_the_platforms_names(session, platform):
    """They are vpcid and subnetid; each is sent only when given."""
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
async def test_only_the_settings_that_are_given_go_out(session, platform, options, sent):
    """Each under its own name, also where it is empty."""
    platform.replies = [DONE]
    await functions.update_scf_config(session, "e-1", "f", FunctionConfig(**options))
    assert platform.bodies == [{"env": "e-1", "functionname": "f", **sent}]


async def test_a_secret_variable_goes_out_and_shows_nowhere(session, platform):
    """In clear on the wire, in no repr, and blotted out where the platform echoes it."""
    platform.replies = [{"errcode": 40097, "errmsg": "bad value hunter2"}]
    config = FunctionConfig(environment_variables={"KEY": wxtcb.Secret("hunter2"), "OTHER": "plain"})
    with pytest.raises(wxtcb.InvalidRequest, match=re.escape("bad value ***")):
        await functions.update_scf_config(session, "e-1", "f", config)
    assert platform.bodies[0]["environment_variables"][0] == {"key": "KEY", "value": "hunter2"}
    assert "hunter2" not in repr(config)
    assert "plain" not in repr(config)


def test_the_variables_are_those_of_the_moment():
    """What the caller does to the mapping later changes nothing."""
    variables = {"A": "1"}
    config = FunctionConfig(environment_variables=variables)
    variables["A"] = "2"
    assert config.environment_variables == {"A": "1"}


@pytest.mark.parametrize(
    ("kind", "fields", "name"),
    [
        *[(FunctionConfig, {"memory_size": value}, "memory_size") for value in ("1", True, 1.0)],
        *[(FunctionConfig, {"timeout": value}, "timeout") for value in ("1", True, 1.0)],
        *[(FunctionConfig, {"public_net": value}, "public_net") for value in ({}, "ENABLE", True)],
        *[(FunctionConfig, {"vpc": value}, "vpc") for value in ({}, "v")],
        *[
            (FunctionConfig, {"environment_variables": value}, "environment_variables")
            for value in ("A=1", [("A", "1")], {"": "1"}, {5: "1"}, {"A": 1}, {"A": None}, {"A": b"1"})
        ],
        *[(FunctionVpc, {"vpc_id": value}, "vpc_id") for value in (1, b"v", ["v"])],
        *[(FunctionVpc, {"subnet_id": value}, "subnet_id") for value in (1, b"s", ["s"])],
        *[
            (PublicNet, {"public_net_status": "ENABLE", "eip_status": "ENABLE"} | {name: value}, name)
            for name in ("public_net_status", "eip_status")
            for value in (True, "enable", "", None, ["ENABLE"])
        ],
    ],
    ids=str,
)
def test_a_setting_that_cannot_be_meant_is_refused_by_field(kind, fields, name):
    """The message names class and field."""
    with pytest.raises(wxtcb.InvalidArgument, match=rf"^{kind.__name__}: {name}\b"):
        kind(**fields)


def test_no_variable_shows_when_settings_are_refused():
    """Neither the message nor a frame of the traceback quotes one."""
    with pytest.raises(wxtcb.InvalidArgument) as caught:
        FunctionConfig(environment_variables={"KEY": "hunter2", "BAD": 5})
    told = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    shown = [
        str(value) for frame in told.stack for value in (frame.locals or {}).values() if frame.name != caught.typename
    ]
    assert "hunter2" not in str(caught.value)
    assert not any("hunter2" in text for text in shown[1:])


async def test_no_variable_shows_when_the_call_is_refused(session, platform):
    """No frame of the traceback holds one, though it is a plain text."""
    platform.replies = [{"errcode": 40097, "errmsg": "no"}]
    config = FunctionConfig(environment_variables={"KEY": "hunter2"})
    with pytest.raises(wxtcb.InvalidRequest) as caught:
        await functions.update_scf_config(session, "e-1", "f", config)
    told = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    shown = [text for frame in told.stack if frame.name == "update_scf_config" for text in frame.locals.values()]
    assert shown
    assert not any("hunter2" in text for text in shown)


@pytest.mark.parametrize("name", ["a", "A-1_b", "z" * 60])
@pytest.mark.parametrize("config", ["0 0 2 1 * * *", "*/5 * * * * * *", " 0  0 2 1 * MON-FRI 2030 "])
async def test_a_trigger_goes_out_as_a_timer(session, platform, name, config):
    """Its type is Timer, as the page prescribes."""
    platform.replies = [DONE]
    await CALLS["batch_update_triggers"](session, triggers=[Trigger(trigger_name=name, config=config)])
    [sent] = platform.bodies[0]["triggers"]
    assert sent == {"trigger_name": name, "config": config, "type": "Timer"}


async def test_no_triggers_are_sent_as_none(session, platform):
    """Whether that clears them is the platform's to say."""
    platform.replies = [DONE]
    await CALLS["batch_update_triggers"](session, triggers=iter(()))
    assert platform.bodies == [{"funcname": "f", "envs": ["e-1"], "triggers": []}]


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        *[
            ({"trigger_name": value}, "trigger_name")
            for value in ("", "1a", "-a", "a b", "a.b", "z" * 61, "a\n", None, 5)
        ],
        *[({"config": value}, "config") for value in ("", "0 2 * * * *", "0 0 0 2 * * * *", None, 5, ["0"] * 7)],
    ],
    ids=str,
)
def test_a_trigger_against_the_rules_is_refused_by_field(fields, name):
    """The documented name and the 7 fields are checked here."""
    with pytest.raises(wxtcb.InvalidArgument, match=rf"^Trigger: {name}\b"):
        Trigger(**{"trigger_name": "a", "config": "0 0 2 1 * * *"} | fields)


@pytest.mark.parametrize(("kind", "timer"), [("timer", True), ("Timer", True), ("TIMER", True), ("cos", False)])
def test_a_type_is_compared_whatever_its_case(kind, timer):
    """The platform takes Timer and gives timer."""
    assert TriggerInfo(trigger_name="any name", config="?", type=kind).is_timer is timer


async def test_a_nested_errcode_is_no_error_of_the_call(session, platform):
    """Why a function failed stands in its row, with a code that is a text."""
    reason = [{"errcode": "ResourceNotFound.File", "errmsg": "entry file not found"}]
    row = {"name": "f", "runtime": "Nodejs8.9", "status": "CreateFailed", "status_reason": reason, **TIMES}
    platform.replies = [{**DONE, "total_count": 1, "functions": [row, {**row, "status_reason": None}]}]
    listed = await functions.get_scf_list(session, "e-1", offset=0, limit=5, search_key="")
    assert [len(each.status_reason) for each in listed.functions] == [1, 0]
    assert listed.functions[0].status_reason[0].errcode == "ResourceNotFound.File"
    assert platform.bodies == [{"env": "e-1", "offset": 0, "limit": 5, "searchkey": ""}]


def page(*names, total):
    """Make a page of a list."""
    rows = [{"name": name, "runtime": "Nodejs8.9", "status": "Active", **TIMES} for name in names]
    return {**DONE, "total_count": total, "functions": rows}


async def test_a_listing_pages_by_itself(session, platform):
    """Each page is asked for from the number of functions that came."""
    platform.replies = [page("a", "b", total=3), page("c", total=3)]
    found = functions.iter_functions(session, "e-1", page_size=2, search_key="x")
    assert [each.function_name async for each in found] == ["a", "b", "c"]
    assert [body["offset"] for body in platform.bodies] == [0, 2]
    assert {(body["limit"], body["searchkey"]) for body in platform.bodies} == {(2, "x")}


@pytest.mark.parametrize(
    ("options", "name"), [({"env": ""}, "env"), ({"page_size": 0}, "page_size"), ({"page_size": "2"}, "page_size")]
)
def test_a_listing_that_cannot_be_is_refused_at_once(options, name):
    """Not only when the first function is asked for."""
    with pytest.raises(wxtcb.InvalidArgument, match=rf"^{name}\b"):
        functions.iter_functions(None, **{"env": "e-1"} | options)


@pytest.mark.parametrize("call", ["batch_upload_scf", "batch_upload_scf_code", "update_scf_config"])
async def test_what_begins_an_update_is_not_sent_again_when_its_end_is_unknown(session, platform, call):
    """A function that is being updated refuses another update, so that a repeat would fail where the first did not."""
    platform.replies = [{"errcode": -1000, "errmsg": "system error"}]
    with pytest.raises(wxtcb.OutcomeUnknown):
        await CALLS[call](session)
    assert len(platform.sent) == 1
