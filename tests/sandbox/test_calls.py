"""Calls over HTTP: tokens, environments, shares, services, and rejected requests."""

from __future__ import annotations

import io
import re

import pytest

from .sandbox_harness import CREATE, ESTABLISH, LIST, PUSH, RELATIONS, SERVICES, SHARE, TOKEN, Harness

WX1 = "wx5fe6bb43205e9e07"
WX2 = "wx075cf85bf347b6df"
RID = re.compile(r" rid: 6[0-9a-f]{7}-[0-9a-f]{8}-[0-9a-f]{8}$")


async def test_token_is_issued(harness: Harness) -> None:
    """A successful token reply has the token and its lifetime, and no errcode."""
    reply = await harness.post(TOKEN, harness.account())
    assert sorted(reply) == ["component_access_token", "expires_in"]
    assert reply["expires_in"] == 7200
    token = reply["component_access_token"]
    assert (await harness.post(LIST, {}, access_token=token))["info_list"] == []


@pytest.mark.parametrize(
    ("name", "value", "errcode"),
    [
        ("component_appid", "wx0", 40013),
        ("component_appsecret", "no", 40125),
        ("component_appsecret", "", 41004),
        ("component_verify_ticket", "no", 61006),
    ],
)
async def test_token_request_with_wrong_credential_is_rejected(
    harness: Harness, name: str, value: str, errcode: int
) -> None:
    """Each wrong credential has its errcode, and the message ends with a request id."""
    reply = await harness.post(TOKEN, harness.account() | {name: value})
    assert reply["errcode"] == errcode
    assert RID.search(reply["errmsg"])
    assert harness.sandbox.world.tokens_issued == 0


async def test_start_push_says_ok_only_once(harness: Harness) -> None:
    """The first call starts the push; later calls report that it is running."""
    body = {"component_appid": harness.sandbox.component_appid, "component_secret": harness.sandbox.component_appsecret}
    assert [(await harness.post(PUSH, body))["errmsg"] for _ in range(3)] == ["ok"] + ["in a normal state"] * 2


async def test_every_create_makes_another_environment(harness: Harness) -> None:
    """Aliases are not unique: the ids differ, and both environments are listed."""
    first, second = [await harness.call(CREATE, {"alias": "mytestenv", "EnvType": "run"}) for _ in range(2)]
    assert re.fullmatch(r"mytestenv-[0-9a-z]{16}", first["env"])
    assert (first["tranid"], second["tranid"]) == ("20200913000001", "20200913000002")
    listed = await harness.call(LIST, {})
    assert [row["env"] for row in listed["info_list"]] == [first["env"], second["env"]]
    assert listed["info_list"][0]["package_id"] == "basic"


@pytest.mark.parametrize("alias", ["A", "1a", "-a", "a_b", "a b", "ä", "a\n"])
async def test_invalid_alias_is_rejected(harness: Harness, alias: str) -> None:
    """An alias starts with a-z and contains only a-zA-Z0-9-; otherwise nothing is created."""
    assert (await harness.call(CREATE, {"alias": alias}))["errcode"] == 40097
    assert not harness.sandbox.world.environments


async def test_sharing_fails_for_each_pair_alone(harness: Harness) -> None:
    """With errcode 0, valid pairs get links and invalid ones are listed in err_list."""
    env = harness.sandbox.world.add("a")
    items = [{"env": env, "appids": ["wx5fe6bb43205e9e07", "wx5"]}, {"env": "e", "appids": ["wx075cf85bf347b6df"]}]
    reply = await harness.call(SHARE, {"data": items, "source_type": 1})
    assert reply["errcode"] == 0
    assert [link["appid"] for link in reply["msg_info_list"]] == ["wx5fe6bb43205e9e07"]
    assert [(error["appid"], error["errmsg"]) for error in reply["err_list"]] == [
        ("wx5", "invalid appid"),
        ("wx075cf85bf347b6df", "invalid env"),
    ]
    share = harness.sandbox.world.shares[env, "wx5fe6bb43205e9e07"]
    assert (share.url, share.source_type) == (reply["msg_info_list"][0]["url"], 1)


async def test_second_service_of_a_name_is_rejected(harness: Harness) -> None:
    """A second service with the same name in the same environment is rejected."""
    body = {"env_id": harness.sandbox.world.add("a"), "service_name": "ss1", "is_public": True}
    assert await harness.call(ESTABLISH, body) == {"errcode": 0, "errmsg": "ok"}
    assert (await harness.call(ESTABLISH, body))["errcode"] == 40097
    assert [(seen.errcode, seen.acted) for seen in harness.sandbox.seen] == [(0, True), (40097, False)]


async def test_share_takes_effect_when_it_is_confirmed(harness: Harness) -> None:
    """A share is listed once it is confirmed; an unauthorised mini program is listed in err_list."""
    world, body = harness.sandbox.world, {"appids": [WX1, WX2, "wx5", WX1]}
    envs = [world.add(alias) for alias in "abc"]
    for env in envs:
        world.share(env, WX1, None)
    assert (await harness.call(RELATIONS, body))["relation_data"] == [
        {"appid": WX1, "env_list": []},
        {"appid": WX2, "env_list": []},
    ]
    for env in envs:
        world.confirm(env, WX1)
    world.remove(envs[2])
    reply = await harness.call(RELATIONS, body)
    assert reply["relation_data"][0] == {"appid": WX1, "env_list": envs[:2]}
    assert reply["err_list"] == [{"appid": "wx5", "errmsg": "invalid appid"}]


async def test_shares_are_filtered_by_source_type(harness: Harness) -> None:
    """A lookup without a source type returns all shares."""
    world = harness.sandbox.world
    plain, hosted = world.add("a"), world.add("b")
    for env, source_type in ((plain, None), (hosted, 1)):
        world.share(env, WX1, source_type)
        world.confirm(env, WX1)
    found = [
        (await harness.call(RELATIONS, {"appids": [WX1]} | more))["relation_data"][0]["env_list"]
        for more in ({}, {"source_type": 1}, {"source_type": 0})
    ]
    assert found == [[plain, hosted], [hosted], []]


async def test_services_are_paged(harness: Harness) -> None:
    """A page has 20 services by default and 100 at most, oldest first, and the total counts all."""
    env = harness.sandbox.world.add("a")
    harness.sandbox.world.establish(harness.sandbox.world.add("b"), "other", {})
    for number in range(130):
        harness.sandbox.world.establish(env, f"s{number}", {"image_repo": "r"})

    async def names(**page: int) -> list[str]:
        reply = await harness.call(SERVICES, {"env": env} | page)
        assert reply["total"] == 130
        return [row["server_name"] for row in reply["cslist"]]

    assert await names() == [f"s{number}" for number in range(20)]
    assert await names(limit=2, offset=3) == ["s3", "s4"]
    assert await names(limit=120) == [f"s{number}" for number in range(100)]
    assert await names(offset=130) == []
    row = (await harness.call(SERVICES, {"env": env, "limit": 1}))["cslist"][0]
    assert row == {
        "server_name": "s0",
        "created_time": "2020-09-13 20:26:40",
        "updated_time": "2020-09-13 20:26:40",
        "status": "succ",
        "vpcid": "",
        "image_repo": "r",
    }


@pytest.mark.parametrize(("page", "errcode"), [({"limit": 0}, 40097), ({"offset": -1}, 40097), ({}, -501005)])
async def test_invalid_page_is_rejected(harness: Harness, page: dict[str, int], errcode: int) -> None:
    """A limit below 1, a negative offset and an unknown environment are rejected."""
    assert (await harness.call(SERVICES, {"env": "nowhere"} | page))["errcode"] == errcode


async def test_getcslist_can_exclude_cloudrun_services(harness: Harness) -> None:
    """With `getcslist_includes_cloudrun` False the list has no cloud-run service."""
    world = harness.sandbox.world
    env = world.add("a")
    world.establish(env, "s", {})
    world.getcslist_includes_cloudrun = False
    reply = await harness.call(SERVICES, {"env": env})
    assert (reply["cslist"], reply["total"]) == ([], 0)


@pytest.mark.parametrize(
    ("raw", "errcode"),
    [(b"", 44002), (b"{", 47001), (b"[]", 47001), (b"null", 47001), (b'"' + b"x" * (1 << 20) + b'"', 45002)],
)
async def test_body_must_be_a_json_object(harness: Harness, raw: bytes, errcode: int) -> None:
    """Empty, unreadable, other JSON and oversized bodies have their own errcodes."""
    query = {"access_token": harness.sandbox.world.issue_token()}
    async with harness.http.post(LIST, data=io.BytesIO(raw), params=query) as reply:
        assert (await reply.json(content_type=None))["errcode"] == errcode
        assert reply.headers["Content-Type"] == "application/json; encoding=utf-8"


async def test_get_is_rejected(harness: Harness) -> None:
    """Every call is a POST."""
    async with harness.http.get(LIST) as reply:
        assert (await reply.json(content_type=None))["errcode"] == 43002


async def test_query_is_validated(harness: Harness) -> None:
    """A missing token is 41001; an unknown parameter, or a token where none belongs, is 40097."""
    assert (await harness.post(LIST, {}))["errcode"] == 41001
    assert (await harness.post(LIST, {}, accesstoken="x"))["errcode"] == 40097
    assert (await harness.post(TOKEN, harness.account(), access_token="x"))["errcode"] == 40097
    assert [dict(seen.query) for seen in harness.sandbox.seen] == [{}, {"accesstoken": "x"}, {"access_token": "***"}]


@pytest.mark.parametrize("names", [("component_access_token",), ("access_token", "component_access_token")])
async def test_token_may_have_the_name_of_the_component(harness: Harness, names: tuple[str, ...]) -> None:
    """Other clients send `component_access_token` instead of `access_token`, or next to it; neither is recorded."""
    token = harness.sandbox.world.issue_token()
    assert (await harness.post(LIST, {}, **dict.fromkeys(names, token)))["errcode"] == 0
    assert dict(harness.sandbox.seen[-1].query) == dict.fromkeys(names, "***")


async def test_two_different_tokens_are_rejected(harness: Harness) -> None:
    """If the token has two names, both must have the same value."""
    token = harness.sandbox.world.issue_token()
    reply = await harness.post(LIST, {}, access_token=token, component_access_token="x")
    assert reply["errcode"] == 40097
    assert "differs" in reply["errmsg"]


async def test_duplicated_query_parameter_is_rejected(harness: Harness) -> None:
    """A duplicated token is rejected with the name of the parameter, even if one of them is valid."""
    url = f"{LIST}?access_token={harness.sandbox.world.issue_token()}&access_token=x"
    async with harness.http.post(url, json={}) as reply:
        content = await reply.json(content_type=None)
    assert content["errcode"] == 40097
    assert content["errmsg"].startswith("invalid args: ?access_token is duplicated rid:")


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        (b'{"alias": "a", "alias": "b"}', "alias"),
        (b'{"alias": "a", "ali\\u0061s": "b"}', "alias"),
        (b'{"alias": "a", "EnvType": {"x": 1, "x": 1}}', "x"),
        (b'{"alias": "a", "EnvType": [{"n": 1e300}, {"y": [], "y": 1}]}', "y"),
    ],
)
async def test_duplicated_body_key_is_rejected(harness: Harness, raw: bytes, name: str) -> None:
    """A duplicated key is rejected by name, in any notation and at any depth, and nothing is created."""
    async with harness.http.post(
        CREATE, data=raw, params={"access_token": harness.sandbox.world.issue_token()}
    ) as reply:
        content = await reply.json(content_type=None)
    assert content["errcode"] == 40097
    assert content["errmsg"].startswith(f"invalid args: {name} is duplicated rid:")
    assert not harness.sandbox.world.environments


async def test_call_above_the_minute_limit_is_45011(harness: Harness) -> None:
    """The call above the minute limit gets 45011."""
    harness.sandbox.world.minute_limit = {LIST: 1}
    assert [(await harness.call(LIST, {}))["errcode"] for _ in range(2)] == [0, 45011]
