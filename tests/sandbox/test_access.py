"""Tests of unsharing, conversion of environments, and cloudbase_access_token."""

from __future__ import annotations

import pytest

from .sandbox_harness import RELATIONS, Harness

UNSHARE = "/componenttcb/batchunshareenv"
MODIFY = "/tcb/modifyenv"
ACCESS = "/tcb/usecloudaccesstoken"
WX1 = "wx5fe6bb43205e9e07"
WX2 = "wx075cf85bf347b6df"


async def test_a_share_ends_pair_by_pair(harness: Harness) -> None:
    """Unsharing removes pairs of environment and mini program. Pairs that are not shared are listed in err_list."""
    world = harness.sandbox.world
    env = world.add("a")
    world.share(env, WX1, None)
    world.confirm(env, WX1)
    ask = {"data": [{"env": env, "appids": [WX1, WX2]}, {"env": "nowhere", "appids": [WX1]}]}
    reply = await harness.call(UNSHARE, ask)
    assert [(flaw["env"], flaw["appid"]) for flaw in reply["err_list"]] == [(env, WX2), ("nowhere", WX1)]
    assert (await harness.call(RELATIONS, {"appids": [WX1]}))["relation_data"] == [{"appid": WX1, "env_list": []}]
    assert len((await harness.call(UNSHARE, ask))["err_list"]) == 3


@pytest.mark.parametrize(("source_type", "failed"), [(None, 0), (1, 0), (0, 1)])
async def test_a_share_ends_under_its_own_source_type(harness: Harness, source_type: int | None, failed: int) -> None:
    """A share is removed only under its source type. A request without source type removes any."""
    env = harness.sandbox.world.add("a")
    harness.sandbox.world.share(env, WX1, 1)
    more = {} if source_type is None else {"source_type": source_type}
    assert len((await harness.call(UNSHARE, {"data": [{"env": env, "appids": [WX1]}], **more}))["err_list"]) == failed


async def test_an_environment_is_modified(harness: Harness) -> None:
    """Converting an environment twice has the same result. An unknown environment is rejected."""
    env = harness.sandbox.world.add("a")
    for _ in range(2):
        assert (await harness.call(MODIFY, {"env": env}))["errcode"] == 0
    assert harness.sandbox.world.access_token_policies.shared_envs == {env}
    assert (await harness.call(MODIFY, {"env": "nowhere"}))["errcode"] == -501005


async def access(harness: Harness, action: str, **fields: object) -> dict[str, object]:
    """Call the access token path, with the action in query and body."""
    body = {"action": action, **fields}
    return await harness.post(ACCESS, body, access_token=harness.sandbox.world.issue_token(), action=action)


async def test_access_is_set_by_who_knows_the_newest_version(harness: Harness) -> None:
    """A write must know the newest version. Paths belong to one environment, the switch to all."""
    first, second = harness.sandbox.world.add("a"), harness.sandbox.world.add("b")
    usual = {"errcode": 0, "errmsg": "ok", "open": True, "api_whitelist": ["/*"], "version": 1}
    assert await access(harness, "get", env=first) == usual
    change: dict[str, object] = {"env": first, "open": False, "api_whitelist": ["/wxa/x"], "version": 1}
    assert (await access(harness, "set", **change))["errcode"] == 0
    assert (await access(harness, "set", **change))["errcode"] == 40097
    assert await access(harness, "get", env=first) == usual | {"open": False, "api_whitelist": ["/wxa/x"], "version": 2}
    assert await access(harness, "get", env=second) == usual | {"open": False}


@pytest.mark.parametrize("name", ["open", "api_whitelist", "version"])
async def test_a_set_needs_what_a_get_does_not_take(harness: Harness, name: str) -> None:
    """The fields of a write are rejected in a read."""
    fields: dict[str, object] = {"open": True, "api_whitelist": ["/*"], "version": 1}
    env = harness.sandbox.world.add("a")
    assert (await access(harness, "get", env=env, **{name: fields[name]}))["errcode"] == 40097
    del fields[name]
    assert (await access(harness, "set", env=env, **fields))["errcode"] == 40101


async def test_an_authorisers_token_will_do_where_the_pages_say_so(harness: Harness) -> None:
    """The token of an authoriser is accepted only by the calls of /tcb/."""
    env, theirs = harness.sandbox.world.add("a"), harness.sandbox.world.credentials.issue_authorizer_token()
    assert (await harness.post(MODIFY, {"env": env}, access_token=theirs))["errcode"] == 0
    assert (await harness.post(MODIFY, {"env": env}, access_token="authorizer_x"))["errcode"] == 40014
    assert (await harness.post(MODIFY, {"env": env}))["errcode"] == 41001
    assert (await harness.post(RELATIONS, {"appids": [WX1]}, access_token=theirs))["errcode"] == 40014
