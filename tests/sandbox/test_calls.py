"""The calls, over the wire."""

from __future__ import annotations

import io
import re

import pytest

from wxtcb.sandbox import Sandbox

from .sandbox_harness import CREATE, ESTABLISH, LIST, PUSH, RELATIONS, SERVICES, SHARE, TOKEN, Rig

WX1 = "wx5fe6bb43205e9e07"
WX2 = "wx075cf85bf347b6df"
RID = re.compile(r" rid: 6[0-9a-f]{7}-[0-9a-f]{8}-[0-9a-f]{8}$")


async def test_a_token_is_bought(rig: Rig) -> None:
    """The success holds the token and its life, and no errcode."""
    reply = await rig.post(TOKEN, rig.account())
    assert sorted(reply) == ["component_access_token", "expires_in"]
    assert reply["expires_in"] == 7200
    token = reply["component_access_token"]
    assert (await rig.post(LIST, {}, access_token=token))["info_list"] == []


@pytest.mark.parametrize(
    ("name", "value", "errcode"),
    [
        ("component_appid", "wx0", 40013),
        ("component_appsecret", "no", 40125),
        ("component_appsecret", "", 41004),
        ("component_verify_ticket", "no", 61006),
    ],
)
async def test_a_token_is_refused(rig: Rig, name: str, value: str, errcode: int) -> None:
    """Each wrong credential has its errcode, and the message ends with a request id."""
    reply = await rig.post(TOKEN, rig.account() | {name: value})
    assert reply["errcode"] == errcode
    assert RID.search(reply["errmsg"])
    assert rig.box.world.tokens_issued == 0


async def test_the_push_says_ok_only_once(rig: Rig) -> None:
    """The first call starts the push, later ones find it running."""
    body = {"component_appid": rig.box.component_appid, "component_secret": rig.box.component_appsecret}
    assert [(await rig.post(PUSH, body))["errmsg"] for _ in range(3)] == ["ok"] + ["in a normal state"] * 2


async def test_every_create_opens_another_environment(rig: Rig) -> None:
    """Aliases are not unique: the ids differ, and both are listed."""
    first, second = [await rig.call(CREATE, {"alias": "mytestenv", "EnvType": "run"}) for _ in range(2)]
    assert re.fullmatch(r"mytestenv-[0-9a-z]{16}", first["env"])
    assert (first["tranid"], second["tranid"]) == ("20200913000001", "20200913000002")
    listed = await rig.call(LIST, {})
    assert [row["env"] for row in listed["info_list"]] == [first["env"], second["env"]]
    assert listed["info_list"][0]["package_id"] == "basic"


@pytest.mark.parametrize("alias", ["A", "1a", "-a", "a_b", "a b", "ä", "a\n"])
async def test_an_alias_has_a_rule(rig: Rig, alias: str) -> None:
    """It starts with a-z and holds only a-zA-Z0-9-; nothing is opened otherwise."""
    assert (await rig.call(CREATE, {"alias": alias}))["errcode"] == 40097
    assert not rig.box.world.environments


async def test_sharing_fails_pair_by_pair(rig: Rig) -> None:
    """Under errcode 0 the good pairs get links and the bad ones stand in err_list."""
    env = rig.box.world.add("a")
    jobs = [{"env": env, "appids": ["wx5fe6bb43205e9e07", "wx5"]}, {"env": "e", "appids": ["wx075cf85bf347b6df"]}]
    reply = await rig.call(SHARE, {"data": jobs, "source_type": 1})
    assert reply["errcode"] == 0
    assert [link["appid"] for link in reply["msg_info_list"]] == ["wx5fe6bb43205e9e07"]
    assert [(flaw["appid"], flaw["errmsg"]) for flaw in reply["err_list"]] == [
        ("wx5", "invalid appid"),
        ("wx075cf85bf347b6df", "invalid env"),
    ]
    share = rig.box.world.shares[env, "wx5fe6bb43205e9e07"]
    assert (share.url, share.source_type) == (reply["msg_info_list"][0]["url"], 1)


async def test_a_service_is_established_once(rig: Rig) -> None:
    """The same name in the same environment is refused the second time."""
    body = {"env_id": rig.box.world.add("a"), "service_name": "ss1", "is_public": True}
    assert await rig.call(ESTABLISH, body) == {"errcode": 0, "errmsg": "ok"}
    assert (await rig.call(ESTABLISH, body))["errcode"] == 40097
    assert [(seen.errcode, seen.acted) for seen in rig.box.seen] == [(0, True), (40097, False)]


async def test_a_share_takes_effect_when_it_is_confirmed(rig: Rig) -> None:
    """Until then the look-up shows none; a mini program that is not authorised stands in err_list."""
    world, ask = rig.box.world, {"appids": [WX1, WX2, "wx5", WX1]}
    envs = [world.add(alias) for alias in "abc"]
    for env in envs:
        world.share(env, WX1, None)
    assert (await rig.call(RELATIONS, ask))["relation_data"] == [
        {"appid": WX1, "env_list": []},
        {"appid": WX2, "env_list": []},
    ]
    for env in envs:
        world.confirm(env, WX1)
    world.remove(envs[2])
    reply = await rig.call(RELATIONS, ask)
    assert reply["relation_data"][0] == {"appid": WX1, "env_list": envs[:2]}
    assert reply["err_list"] == [{"appid": "wx5", "errmsg": "invalid appid"}]


async def test_a_share_is_found_under_its_own_source_type(rig: Rig) -> None:
    """Who asks for none in particular gets all."""
    world = rig.box.world
    plain, hosted = world.add("a"), world.add("b")
    for env, source_type in ((plain, None), (hosted, 1)):
        world.share(env, WX1, source_type)
        world.confirm(env, WX1)
    found = [
        (await rig.call(RELATIONS, {"appids": [WX1]} | more))["relation_data"][0]["env_list"]
        for more in ({}, {"source_type": 1}, {"source_type": 0})
    ]
    assert found == [[plain, hosted], [hosted], []]


async def test_services_are_listed_page_by_page(rig: Rig) -> None:
    """Twenty unless more is asked for, a hundred at most, oldest first, and all are counted."""
    env = rig.box.world.add("a")
    rig.box.world.establish(rig.box.world.add("b"), "other", {})
    for number in range(130):
        rig.box.world.establish(env, f"s{number}", {"image_repo": "r"})

    async def names(**page: int) -> list[str]:
        reply = await rig.call(SERVICES, {"env": env} | page)
        assert reply["total"] == 130
        return [row["server_name"] for row in reply["cslist"]]

    assert await names() == [f"s{number}" for number in range(20)]
    assert await names(limit=2, offset=3) == ["s3", "s4"]
    assert await names(limit=120) == [f"s{number}" for number in range(100)]
    assert await names(offset=130) == []
    row = (await rig.call(SERVICES, {"env": env, "limit": 1}))["cslist"][0]
    assert row == {
        "server_name": "s0",
        "created_time": "2020-09-13 20:26:40",
        "updated_time": "2020-09-13 20:26:40",
        "status": "succ",
        "vpcid": "",
        "image_repo": "r",
    }


@pytest.mark.parametrize(("page", "errcode"), [({"limit": 0}, 40097), ({"offset": -1}, 40097), ({}, -501005)])
async def test_a_page_that_cannot_be_is_refused(rig: Rig, page: dict[str, int], errcode: int) -> None:
    """One without entries, one before the first, and one of an environment that is not there."""
    assert (await rig.call(SERVICES, {"env": "nowhere"} | page))["errcode"] == errcode


async def test_a_list_may_know_the_older_family_alone(rig: Rig) -> None:
    """Under `lists_services` False the list shows no service, though each is there."""
    world = rig.box.world
    env = world.add("a")
    world.establish(env, "s", {})
    world.getcslist_includes_cloudrun = False
    reply = await rig.call(SERVICES, {"env": env})
    assert (reply["cslist"], reply["total"]) == ([], 0)


@pytest.mark.parametrize(
    ("raw", "errcode"),
    [(b"", 44002), (b"{", 47001), (b"[]", 47001), (b"null", 47001), (b'"' + b"x" * (1 << 20) + b'"', 45002)],
)
async def test_a_body_must_be_a_json_object(rig: Rig, raw: bytes, errcode: int) -> None:
    """Empty, unreadable, other JSON and oversized bodies have their own errcodes."""
    query = {"access_token": rig.box.world.issue_token()}
    async with rig.http.post(LIST, data=io.BytesIO(raw), params=query) as reply:
        assert (await reply.json(content_type=None))["errcode"] == errcode
        assert reply.headers["Content-Type"] == "application/json; encoding=utf-8"


async def test_a_get_is_refused(rig: Rig) -> None:
    """Every call is a POST."""
    async with rig.http.get(LIST) as reply:
        assert (await reply.json(content_type=None))["errcode"] == 43002


async def test_the_query_is_judged_too(rig: Rig) -> None:
    """A missing token is 41001; a stray parameter, or a token where none belongs, is 40097."""
    assert (await rig.post(LIST, {}))["errcode"] == 41001
    assert (await rig.post(LIST, {}, accesstoken="x"))["errcode"] == 40097
    assert (await rig.post(TOKEN, rig.account(), access_token="x"))["errcode"] == 40097
    assert [dict(seen.query) for seen in rig.box.seen] == [{}, {"accesstoken": "x"}, {"access_token": "***"}]


async def test_a_query_names_nothing_twice(rig: Rig) -> None:
    """Two tokens, of which one is the living one, are refused with the name of the parameter."""
    url = f"{LIST}?access_token={rig.box.world.issue_token()}&access_token=x"
    async with rig.http.post(url, json={}) as reply:
        answer = await reply.json(content_type=None)
    assert answer["errcode"] == 40097
    assert answer["errmsg"].startswith("invalid args: ?access_token is there twice rid:")


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        (b'{"alias": "a", "alias": "b"}', "alias"),
        (b'{"alias": "a", "ali\\u0061s": "b"}', "alias"),
        (b'{"alias": "a", "EnvType": {"x": 1, "x": 1}}', "x"),
        (b'{"alias": "a", "EnvType": [{"n": 1e300}, {"y": [], "y": 1}]}', "y"),
    ],
)
async def test_a_body_names_nothing_twice(rig: Rig, raw: bytes, name: str) -> None:
    """A key that an object has twice, however it is written, is refused by its name, and nothing is opened."""
    async with rig.http.post(CREATE, data=raw, params={"access_token": rig.box.world.issue_token()}) as reply:
        answer = await reply.json(content_type=None)
    assert answer["errcode"] == 40097
    assert answer["errmsg"].startswith(f"invalid args: {name} is there twice rid:")
    assert not rig.box.world.environments


async def test_an_unknown_path_is_an_html_404(rig: Rig) -> None:
    """It is seen, and counted, as not found."""
    async with rig.http.post("/componenttcb/nothing", json={}) as reply:
        assert (reply.status, reply.content_type) == (404, "text/html")
    assert (rig.box.seen[0].outcome, rig.box.count("/componenttcb/nothing")) == ("not found", 1)


async def test_limits_answer_over_the_wire(rig: Rig) -> None:
    """The call beyond the minute limit is 45011."""
    rig.box.world.minute_limit = {LIST: 1}
    assert [(await rig.call(LIST, {}))["errcode"] for _ in range(2)] == [0, 45011]


async def test_nothing_secret_is_printed(rig: Rig) -> None:
    """Neither the sandbox nor what it has seen shows a credential."""
    await rig.post(TOKEN, rig.account())
    shown = repr(rig.box) + repr(list(rig.box.seen))
    assert rig.box.component_appsecret not in shown
    assert rig.box.ticket not in shown


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.1", "::"])
def test_only_loopback_is_served(host: str) -> None:
    """A host that others could reach is refused at once."""
    with pytest.raises(ValueError, match="loopback"):
        Sandbox(host=host)


@pytest.mark.parametrize(("host", "url"), [("localhost", "http://localhost:1"), ("::1", "http://[::1]:1")])
def test_other_names_of_loopback_will_do(host: str, url: str) -> None:
    """IPv6 and the name localhost are loopback too."""
    assert Sandbox(host=host, port=1).url == url


async def test_a_taken_port_is_an_oserror(rig: Rig) -> None:
    """Entering fails, and leaves nothing open."""
    box = Sandbox(port=rig.box.port)
    with pytest.raises(OSError, match="address"):
        await box.__aenter__()
    await box.__aexit__(None, None, None)
