"""The side door for other processes."""

from __future__ import annotations

from typing import Any

import pytest

from wxtcb.sandbox import ReadyPolicy

from .receiver import receiving
from .sandbox_harness import CREATE, ESTABLISH, LIST, PUSH, TOKEN, Rig


async def side(rig: Rig, method: str, path: str, **options: Any) -> tuple[int, Any]:
    """Knock at the side door."""
    async with rig.http.request(method, f"/_sandbox{path}", **options) as reply:
        return reply.status, await reply.json()


async def test_the_state_is_told(rig: Rig) -> None:
    """Credentials, counters and environments, without counting as a request to the platform."""
    await rig.call(CREATE, {"alias": "a"})
    status, state = await side(rig, "GET", "")
    assert status == 200
    assert state["component_appid"] == rig.box.component_appid
    assert state["component_appsecret"] == rig.box.component_appsecret
    assert (state["ticket"], state["mints"], state["kills"]) == (rig.box.ticket, 1, 0)
    assert state["counts"] == {CREATE: 1}
    assert [row["status"] for row in state["environments"]] == ["UNAVAILABLE"]


async def test_faults_come_and_go(rig: Rig) -> None:
    """A posted list is in force at once, until it is deleted."""
    assert await side(rig, "POST", "/faults", json=[{"trouble": "busy"}]) == (200, {"added": 1})
    assert (await rig.call(LIST, {}))["errcode"] == -1
    assert await side(rig, "DELETE", "/faults") == (200, {})
    assert (await rig.call(LIST, {}))["errcode"] == 0


@pytest.mark.parametrize(
    ("path", "raw"),
    [
        ("/faults", b'[{"trouble": "bsy"}]'),
        ("/faults", b"nonsense"),
        ("/kill-token", b"[]"),
        ("/kill-token", b'{"evry": 1}'),
        ("/kill-token", b'{"every": "1"}'),
        ("/kill-token", b'{"every": -1}'),
        ("/kill-token", b'{"every": 0}'),
        ("/kill-token", b'{"every": NaN}'),
        ("/kill-token", b'{"every": 1e999}'),
        ("/kill-token", b'{"every": true}'),
        ("/confirm", b""),
        ("/confirm", b"[]"),
        ("/confirm", b'{"env": "e"}'),
        ("/confirm", b'{"env": "e", "appid": 1}'),
        ("/confirm", b'{"env": "e", "appid": "wx1"}'),
        ("/operations", b""),
        ("/operations", b"[]"),
        ("/operations", b'{"second": 1}'),
        ("/operations", b'{"seconds": "1"}'),
        ("/operations", b'{"seconds": -1}'),
        ("/operations", b'{"seconds": 1e999}'),
        ("/operations", b'{"seconds": true}'),
        ("/operations", b'{"looks": 1.5}'),
        ("/operations", b'{"looks": -1}'),
        ("/operations", b'{"builds_fail": 1}'),
        ("/operations", b'{"release_fails": null}'),
        ("/functions", b"{}"),
        ("/functions", b'{"name": 1}'),
        ("/functions", b'{"name": "f", "fails": 1}'),
        ("/functions", b'{"name": "f", "answers": 1}'),
        ("/push", b""),
        ("/push", b"nonsense"),
        ("/push", b"[]"),
        ("/push", b'{"every": 1}'),
        ("/push", b'{"url": 1}'),
        ("/push", b'{"url": "http://example.com/"}'),
        ("/push", b'{"url": "http://127.0.0.1:1/", "every": "1"}'),
        ("/push", b'{"url": "http://127.0.0.1:1/", "late": "1"}'),
        ("/push", b'{"url": "http://127.0.0.1:1/", "evry": 1}'),
    ],
)
async def test_nonsense_is_refused(rig: Rig, path: str, raw: bytes) -> None:
    """A bad order is a 400 that says why, and changes nothing."""
    status, problem = await side(rig, "POST", path, data=raw)
    assert status == 400
    assert problem["error"]
    assert rig.box.faults.expire_token_every is None
    assert rig.box.world.operations_ready_after == ReadyPolicy()


async def test_tokens_are_killed_from_outside(rig: Rig) -> None:
    """Once, or at an interval that can be set and lifted."""
    assert await side(rig, "POST", "/kill-token") == (200, {"killed": False})
    rig.box.world.issue_token()
    assert await side(rig, "POST", "/kill-token") == (200, {"killed": True})
    assert await side(rig, "POST", "/kill-token", json={"every": 2}) == (200, {"every": 2.0})
    assert await side(rig, "POST", "/kill-token", json={"every": None}) == (200, {"every": None})


async def test_a_share_is_confirmed_from_outside(rig: Rig) -> None:
    """As the administrator of the mini program would, who opens the link."""
    rig.box.world.share("e", "wx1", None)
    assert await side(rig, "POST", "/confirm", json={"env": "e", "appid": "wx1"}) == (200, {"confirmed": True})
    assert rig.box.world.shares["e", "wx1"].confirmed


async def test_operations_are_slowed_down_and_fail_from_outside(rig: Rig) -> None:
    """What is not named stays as it was."""
    slow = {"seconds": 2.5, "looks": 1, "builds_fail": False, "release_fails": False}
    assert await side(rig, "POST", "/operations", json={"seconds": 2.5, "looks": 1}) == (200, slow)
    assert rig.box.world.operations_ready_after == ReadyPolicy(2.5, 1)
    failing = slow | {"builds_fail": True, "release_fails": True}
    order = {"builds_fail": True, "release_fails": True}
    assert await side(rig, "POST", "/operations", json=order) == (200, failing)
    assert (rig.box.world.containers.builds_fail, rig.box.world.cloudrun.release_fails) == (True, True)
    assert await side(rig, "POST", "/operations", json={}) == (200, failing)


async def test_functions_behave_as_they_are_told_from_outside(rig: Rig) -> None:
    """Those of a name return something else, or cannot be created until they are mended."""
    env, functions = rig.box.world.add("a"), rig.box.world.functions
    told = {"name": "f", "fails": True}
    assert await side(rig, "POST", "/functions", json=told) == (200, told)
    functions.create(env, "f", b"", {})
    assert [row.status for row in functions.list(env, "f")] == ["CreateFailed"]
    functions.delete(env, "f")
    order = {"name": "f", "answer": {"tea": "龙井"}}
    assert await side(rig, "POST", "/functions", json=order) == (200, {"name": "f", "fails": False})
    functions.create(env, "f", b"", {})
    assert [row.status for row in functions.list(env, "f")] == ["Active"]
    assert functions.invoke(env, "f", b"{}") == '{"tea":"龙井"}'


async def test_tickets_are_pushed_from_outside(rig: Rig) -> None:
    """Where to is said once; then one ticket for each request, and what the receiver answered is told."""
    async with receiving() as receiver:
        order = {"url": receiver.url, "every": None}
        assert await side(rig, "POST", "/push", json=order) == (200, order)
        assert await side(rig, "POST", "/push") == (200, {"accepted": True, "answer": "HTTP 200 'success'"})
        assert receiver.tickets(rig.box) == [rig.box.ticket]
    rig.clock.pass_(60)
    assert (await side(rig, "POST", "/push"))[1]["accepted"] is False
    _, state = await side(rig, "GET", "")
    assert state["push"] == {"sent": 2, "failed": 1, "stopped": False, "newest_ticket_age": 0}


async def test_the_key_is_changed_from_outside(rig: Rig) -> None:
    """The state tells the keys as it tells the other credentials."""
    old = rig.box.encoding_aes_key
    _, state = await side(rig, "GET", "")
    assert (state["message_token"], state["encoding_aes_key"]) == (rig.box.message_token, old)
    assert state["previous_encoding_aes_key"] is None
    _, keys = await side(rig, "POST", "/rotate-key")
    assert keys == {"encoding_aes_key": rig.box.encoding_aes_key, "previous_encoding_aes_key": old}
    assert keys.items() <= (await side(rig, "GET", ""))[1].items()


async def test_what_was_seen_is_told(rig: Rig) -> None:
    """Each request with its body and outcome, the token masked."""
    await rig.call(CREATE, {"alias": "a"})
    _, seen = await side(rig, "GET", "/seen")
    assert seen == [
        {
            "path": CREATE,
            "query": {"access_token": "***"},
            "body": {"alias": "a"},
            "at": rig.clock.now,
            "errcode": 0,
            "outcome": "answered",
            "acted": True,
        }
    ]


@pytest.mark.parametrize(
    ("path", "body", "told"),
    [
        (
            TOKEN,
            {"component_appid": "wx1", "component_appsecret": "s", "component_verify_ticket": "t"},
            {"component_appid": "wx1", "component_appsecret": "***", "component_verify_ticket": "***"},
        ),
        (PUSH, {"component_secret": "s"}, {"component_secret": "***"}),
        (
            ESTABLISH,
            {"env_id": "e", "es_info": {"account": "a", "password": "p"}},
            {"env_id": "e", "es_info": {"account": "a", "password": "***"}},
        ),
        (CREATE, {"alias": "a", "component_secret": 1}, {"alias": "a", "component_secret": "***"}),
        ("/nowhere", [{"access_token": "t"}, 1], [{"access_token": "***"}, 1]),
    ],
)
async def test_no_secret_is_told(rig: Rig, path: str, body: object, told: object) -> None:
    """What has the name of a secret is masked in what was seen, wherever it stands, and whatever was answered."""
    async with rig.http.post(path, json=body, params={"component_appsecret": "s", "x": "y"}):
        pass
    _, seen = await side(rig, "GET", "/seen")
    assert seen[0]["body"] == told == rig.box.seen[0].body
    assert seen[0]["query"] == {"component_appsecret": "***", "x": "y"}


async def test_a_secret_does_reach_the_world(rig: Rig) -> None:
    """Only what is remembered is masked: the service was established with the password that was sent."""
    body = {"env_id": rig.box.world.add("a"), "service_name": "s", "is_public": True, "es_info": {"password": "p"}}
    await rig.call(ESTABLISH, body)
    assert [service.body for service in rig.box.world.services.values()] == [body]


async def test_a_body_that_is_nested_deeply_is_told_in_part(rig: Rig) -> None:
    """What lies deeper than any call goes is left out, so that the rest can be told."""
    async with rig.http.post(LIST, data=b'{"a":' + b"[" * 1000 + b"]" * 1000 + b"}"):
        pass
    _, seen = await side(rig, "GET", "/seen")
    body = seen[0]["body"]["a"]
    for _ in range(31):
        [body] = body
    assert body == "***"


async def test_other_doors_do_not_exist(rig: Rig) -> None:
    """Unknown paths and wrong methods are a 404."""
    assert (await side(rig, "PUT", "/faults"))[0] == 404
