"""Tests of cloud functions over HTTP."""

from __future__ import annotations

import base64
import hashlib
import io
import zipfile
from collections.abc import Iterable
from typing import Any

import orjson
import pytest

from wxtcb.sandbox import ReadyPolicy

from .sandbox_harness import Clock, Harness

CREATE = "/componenttcb/batchuploadscf"
CODE = "/componenttcb/batchuploadscfcode"
CONFIGURE = "/componenttcb/updatescfconfig"
DELETE = "/componenttcb/deletescf"
LIST = "/componenttcb/getscflist"
TRIGGERS = "/componenttcb/gettriggers"
SET_TRIGGERS = "/componenttcb/batchupdatetriggers"
INVOKE = "/tcb/invokecloudfunction"
TIMER = {"trigger_name": "nightly", "config": "0 0 2 * * * *", "type": "Timer"}


def zipped(name: str = "index.js", text: str = "1", *, pad: int = 0) -> str:
    """Return a base64 zip of one file, padded with *pad* random bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as opened:
        opened.writestr(zipfile.ZipInfo(name), text + "x" * pad)
    return base64.b64encode(buffer.getvalue()).decode()


def spoilt(*, at: int) -> str:
    """Return a zip with a wrong byte in its directory: at 6 the required version, at 46 the first name."""
    data = bytearray(base64.b64decode(zipped("\u00e9.js")))
    data[data.rindex(b"PK\x01\x02") + at] = 0xFF
    return base64.b64encode(data).decode()


@pytest.fixture
def env(harness: Harness) -> str:
    """Return an environment."""
    return harness.sandbox.world.add("a")


async def create(harness: Harness, envs: Iterable[str], name: str = "f", **more: object) -> dict[str, Any]:
    """Create a function."""
    return await harness.call(CREATE, {"functionname": name, "envs": [*envs], "zipfile": zipped(), **more})


async def upload(harness: Harness, path: str, body: object) -> dict[str, Any]:
    """Post a large body in chunks, as aiohttp requires."""
    query = {"access_token": harness.sandbox.world.issue_token()}
    async with harness.http.post(path, data=io.BytesIO(orjson.dumps(body)), params=query) as reply:
        answer: dict[str, Any] = await reply.json(content_type=None)
        return answer


async def statuses(harness: Harness, env: str, **more: object) -> dict[str, str]:
    """Return the functions by name and status."""
    return {row["name"]: row["status"] for row in (await harness.call(LIST, {"env": env, **more}))["functions"]}


async def invoke(harness: Harness, env: str, name: str, event: bytes) -> dict[str, Any]:
    """Invoke a function."""
    query = {"access_token": harness.sandbox.world.issue_token(), "env": env, "name": name}
    async with harness.http.post(INVOKE, data=event, params=query) as reply:
        answer: dict[str, Any] = await reply.json(content_type=None)
        return answer


async def test_a_function_is_created_where_that_can_be(harness: Harness, env: str) -> None:
    """Environments that are unknown or have a function of the name are listed in fail_env_list."""
    halted = harness.sandbox.world.add("b", status="HALTED")
    assert await create(harness, [env], vpcid="v", subnetid="s") == {"errcode": 0, "errmsg": "ok", "fail_env_list": []}
    other = harness.sandbox.world.add("c")
    reply = await create(harness, [other, env, "nowhere", halted])
    assert reply["errcode"] == 0
    assert [failed["env"] for failed in reply["fail_env_list"]] == [env, "nowhere", halted]
    assert "exists" in reply["fail_env_list"][0]["errmsg"]
    assert await statuses(harness, other) == {"f": "Active"}
    assert harness.sandbox.world.functions.functions[env, "f"].settings == {"vpcid": "v", "subnetid": "s"}


async def test_a_function_takes_its_time(harness: Harness, clock: Clock, env: str) -> None:
    """A function is Creating, then Active, and Updating after a change, as long as the world says."""
    harness.sandbox.world.operations_ready_after = ReadyPolicy.after_seconds(10)
    await create(harness, [env])
    assert await statuses(harness, env) == {"f": "Creating"}
    clock.advance(10)
    assert await statuses(harness, env) == {"f": "Active"}
    await harness.call(CODE, {"functionname": "f", "envs": [env], "zipfile": zipped(text="2")})
    assert await statuses(harness, env) == {"f": "Updating"}
    clock.advance(10)
    row = (await harness.call(LIST, {"env": env}))["functions"][0]
    assert row == {
        "name": "f",
        "runtime": "Nodejs8.9",
        "status": "Active",
        "status_reason": [],
        "add_time": "2020-09-13 20:26:40",
        "mod_time": "2020-09-13 20:26:50",
    }


async def test_a_function_that_is_not_ready_takes_no_change(harness: Harness, env: str) -> None:
    """A change of a function that is not ready is rejected: with errormsg in a batch, else with 40097."""
    await create(harness, [env])
    change = {"functionname": "f", "zipfile": zipped()}
    [failed] = (await harness.call(CODE, {**change, "envs": [env]}))["fail_list"]
    assert failed["env"] == env
    assert "FunctionStatusError: f is Creating" in failed["errormsg"]
    refused = await harness.call(CONFIGURE, {"env": env, "functionname": "f", "timeout": 5})
    assert (refused["errcode"], "f is Creating" in refused["errmsg"]) == (40097, True)


async def test_settings_are_kept_one_by_one(harness: Harness, env: str) -> None:
    """A given setting replaces the old value. The others stay."""
    await create(harness, [env])
    for settings in ({"memorysize": 256, "timeout": 5}, {"timeout": 9}):
        await statuses(harness, env)
        assert (await harness.call(CONFIGURE, {"env": env, "functionname": "f", **settings}))["errcode"] == 0
    assert harness.sandbox.world.functions.functions[env, "f"].settings == {"memorysize": 256, "timeout": 9}


async def test_a_function_fails_on_demand(harness: Harness, env: str) -> None:
    """A failed function has a reason whose errcode is a string. It must be deleted before it is created again."""
    functions = harness.sandbox.world.functions
    functions.set_failure("f")
    await create(harness, [env])
    [row] = (await harness.call(LIST, {"env": env}))["functions"]
    assert row["status"] == "CreateFailed"
    assert row["status_reason"] == [{"errcode": "ResourceNotFound.File", "errmsg": "entry file not found"}]
    functions.clear_failure("f")
    assert len((await harness.call(CODE, {"functionname": "f", "envs": [env], "zipfile": zipped()}))["fail_list"]) == 1
    assert (await invoke(harness, env, "f", b"{}"))["errcode"] == -504002
    assert (await harness.call(DELETE, {"env": env, "functionname": "f"}))["errcode"] == 0
    await create(harness, [env])
    assert await statuses(harness, env) == {"f": "Active"}
    functions.set_failure("f", "Code", "words")
    await harness.call(CONFIGURE, {"env": env, "functionname": "f", "timeout": 5})
    assert await statuses(harness, env) == {"f": "UpdateFailed"}
    functions.clear_failure("f")
    await harness.call(CONFIGURE, {"env": env, "functionname": "f", "timeout": 6})
    assert await statuses(harness, env) == {"f": "Active"}


async def test_functions_are_listed_page_by_page(harness: Harness, env: str) -> None:
    """A page has twenty functions by default, oldest first. The key may be anywhere in the name."""
    for number in range(25):
        await create(harness, [env], f"f{number}")
    await create(harness, [harness.sandbox.world.add("b")], "elsewhere")
    assert [*await statuses(harness, env)] == [f"f{number}" for number in range(20)]
    assert [*await statuses(harness, env, limit=2, offset=23)] == ["f23", "f24"]
    found = await harness.call(LIST, {"env": env, "searchkey": "2", "limit": 1})
    assert (found["total_count"], [row["name"] for row in found["functions"]]) == (7, ["f2"])


@pytest.mark.parametrize("page", [{"limit": 0}, {"offset": -1}])
async def test_a_page_that_cannot_be_is_refused(harness: Harness, env: str, page: dict[str, int]) -> None:
    """A page without entries and a page before the first are rejected."""
    assert (await harness.call(LIST, {"env": env, **page}))["errcode"] == 40097


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (DELETE, {"functionname": "f"}),
        (CONFIGURE, {"functionname": "f", "timeout": 5}),
        (TRIGGERS, {"funcname": "f"}),
    ],
)
async def test_a_function_that_is_not_there_is_refused(
    harness: Harness, env: str, path: str, body: dict[str, object]
) -> None:
    """An unknown function replies -501009, an unknown environment -501005."""
    assert (await harness.call(path, {"env": env, **body}))["errcode"] == -501009
    assert (await harness.call(path, {"env": "nowhere", **body}))["errcode"] == -501005
    assert (await harness.call(LIST, {"env": "nowhere"}))["errcode"] == -501005


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("no base64", "not base64"),
        ("\u00e9", "not base64"),
        (base64.b64encode(b"no zip").decode(), "not a zip"),
        (spoilt(at=6), "not a zip"),
        (spoilt(at=46), "not a zip"),
        (zipped("folder/index.js"), "no file at its root"),
    ],
)
async def test_code_is_looked_into(harness: Harness, env: str, code: str, words: str) -> None:
    """Code that is not a zip with a file at its root is rejected."""
    for path in (CREATE, CODE):
        reply = await harness.call(path, {"functionname": "f", "envs": [env], "zipfile": code})
        assert (reply["errcode"], words in reply["errmsg"]) == (40097, True)


async def test_code_may_be_large_where_code_belongs(harness: Harness, env: str) -> None:
    """Code may have 20 MB, other bodies 1 MB. `seen` stores only the beginning."""
    most = zipped(pad=(20 << 20) - len(base64.b64decode(zipped())))
    assert len(base64.b64decode(most)) == 20 << 20
    body = {"functionname": "f", "envs": [env], "zipfile": most}
    assert await upload(harness, CREATE, body) == {"errcode": 0, "errmsg": "ok", "fail_env_list": []}
    [seen] = harness.sandbox.seen
    assert seen.body["zipfile"] == f"{most[:64]}... ({len(most)} characters)"
    more = zipped(pad=(20 << 20) - len(base64.b64decode(zipped())) + 1)
    refused = await upload(harness, CREATE, body | {"zipfile": more})
    assert (refused["errcode"], "20 MB" in refused["errmsg"]) == (40097, True)
    assert (await upload(harness, CREATE, body | {"zipfile": "x" * 30_000_000}))["errcode"] == 45002
    assert (await upload(harness, LIST, {"env": "e" * (1 << 20)}))["errcode"] == 45002


async def test_triggers_are_set_and_read(harness: Harness, env: str) -> None:
    """Triggers replace all previous ones. Failures are listed in err_list."""
    await create(harness, [env])
    for config in ("0 0 1 * * * *", TIMER["config"]):
        reply = await harness.call(
            SET_TRIGGERS, {"funcname": "f", "envs": [env, "nowhere"], "triggers": [{**TIMER, "config": config}]}
        )
        assert [failed["env"] for failed in reply["err_list"]] == ["nowhere"]
    assert (await harness.call(TRIGGERS, {"env": env, "funcname": "f"}))["triggers"] == [{**TIMER, "type": "timer"}]


@pytest.mark.parametrize(
    ("name", "value"),
    [("type", "timer"), ("config", "0 2 * * * *"), ("trigger_name", "1a"), ("trigger_name", "a" * 61)],
)
async def test_a_trigger_has_rules(harness: Harness, env: str, name: str, value: str) -> None:
    """Type, fields and name of a trigger are checked."""
    await create(harness, [env])
    body = {"funcname": "f", "envs": [env], "triggers": [TIMER | {name: value}]}
    assert (await harness.call(SET_TRIGGERS, body))["errcode"] == 40097


async def test_a_function_returns_event_and_digest(harness: Harness, env: str) -> None:
    """The result of a function is a string: JSON if the function returns JSON, else the text."""
    await create(harness, [env])
    assert (await invoke(harness, env, "f", b"{}"))["errcode"] == -504002
    await statuses(harness, env)
    digest = hashlib.sha256(base64.b64decode(zipped())).hexdigest()
    for event, shown in ((b'{"a": 1}', {"a": 1}), (b"\xff text", "\ufffd text")):
        reply = await invoke(harness, env, "f", event)
        assert orjson.loads(reply["resp_data"]) == {"event": shown, "sha256": digest}


async def test_a_function_behaves_as_it_is_told(harness: Harness, env: str) -> None:
    """A handler receives the bytes of the event. A string is returned unchanged. An exception replies -504002."""
    events: list[bytes] = []

    def behave(event: bytes) -> object:
        events.append(event)
        if event == b"break":
            raise ValueError("broken")
        if event == b"odd":
            return object()
        return "a text" if event == b"text" else [len(event)]

    harness.sandbox.world.functions.set_handler("f", behave)
    await create(harness, [env])
    await statuses(harness, env)
    assert (await invoke(harness, env, "f", b"text"))["resp_data"] == "a text"
    assert (await invoke(harness, env, "f", b"xyz"))["resp_data"] == "[3]"
    broken = await invoke(harness, env, "f", b"break")
    assert (broken["errcode"], "ValueError('broken')" in broken["errmsg"]) == (-504002, True)
    odd = await invoke(harness, env, "f", b"odd")
    assert (odd["errcode"], "not JSON serializable" in odd["errmsg"]) == (-504002, True)
    assert events == [b"text", b"xyz", b"break", b"odd"]


async def test_an_empty_event_is_refused(harness: Harness, env: str) -> None:
    """An empty body is rejected, and the function does not run."""
    await create(harness, [env])
    assert (await invoke(harness, env, "f", b""))["errcode"] == 44002


async def test_a_function_runs_with_its_old_code_while_it_is_updated(harness: Harness, env: str) -> None:
    """A function that was ready once runs its old code while it is updated."""
    await create(harness, [env])
    await statuses(harness, env)
    await harness.call(CONFIGURE, {"env": env, "functionname": "f", "timeout": 5})
    assert (await invoke(harness, env, "f", b"{}"))["errcode"] == 0
