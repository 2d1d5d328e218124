"""Admin API for other processes."""

from __future__ import annotations

from typing import Any

import pytest

from wxtcb.sandbox import FaultKind, ReadyPolicy
from wxtcb.sandbox.admin import handle_admin_request

from .receiver import serve_receiver
from .sandbox_harness import CREATE, ESTABLISH, LIST, PUSH, TOKEN, Harness
from .test_functions import DELETE, create, invoke, statuses

JSON = {"Content-Type": "application/json"}


async def admin(harness: Harness, method: str, path: str, **options: Any) -> tuple[int, Any]:
    """Send a request to the admin API and return status and JSON."""
    options = {"headers": JSON if method == "POST" else {}} | options
    async with harness.http.request(method, f"/_sandbox{path}", **options) as reply:
        return reply.status, await reply.json()


async def test_state_has_credentials_counts_and_environments(harness: Harness) -> None:
    """The state has credentials, counts and environments, and reading it is not counted as a request."""
    await harness.call(CREATE, {"alias": "a"})
    status, state = await admin(harness, "GET", "")
    assert status == 200
    assert state["component_appid"] == harness.sandbox.component_appid
    assert state["component_appsecret"] == harness.sandbox.component_appsecret
    assert (state["ticket"], state["tokens_issued"], state["forced_expirations"]) == (harness.sandbox.ticket, 1, 0)
    assert state["counts"] == {CREATE: 1}
    assert [row["status"] for row in state["environments"]] == ["UNAVAILABLE"]


async def test_faults_can_be_added_and_cleared(harness: Harness) -> None:
    """Posted faults apply at once, until they are deleted."""
    assert await admin(harness, "POST", "/faults", json=[{"kind": "busy"}]) == (200, {"added": 1})
    assert (await harness.call(LIST, {}))["errcode"] == -1
    assert await admin(harness, "DELETE", "/faults") == (200, {})
    assert (await harness.call(LIST, {}))["errcode"] == 0


async def test_faults_are_listed(harness: Harness) -> None:
    """The list has every kind, and the active faults in the form in which they can be added."""
    faults = [{"kind": "slow", "path": LIST, "seconds": 0.5}, {"kind": "incomplete-list", "envs": ["e"], "times": 2}]
    assert await admin(harness, "POST", "/faults", json=faults) == (200, {"added": 2})
    status, content = await admin(harness, "GET", "/faults")
    assert (status, content["active"], content["expire_token_every"]) == (200, faults, None)
    assert [row["kind"] for row in content["kinds"]] == [kind.value for kind in FaultKind]
    assert {"kind": "drop", "takes_effect": False} in content["kinds"]
    assert {"kind": "drop-after", "takes_effect": True} in content["kinds"]


@pytest.mark.parametrize(
    ("path", "raw"),
    [
        ("/faults", b'[{"kind": "bsy"}]'),
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
        ("/operations", b'{"polls": 1.5}'),
        ("/operations", b'{"polls": -1}'),
        ("/operations", b'{"builds_fail": 1}'),
        ("/operations", b'{"release_fails": null}'),
        ("/functions", b"{}"),
        ("/functions", b'{"name": 1}'),
        ("/functions", b'{"name": "f", "fails": 1}'),
        ("/functions", b'{"name": "f", "results": 1}'),
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
async def test_invalid_request_gets_400_and_changes_nothing(harness: Harness, path: str, raw: bytes) -> None:
    """An invalid request gets 400 with a message, and changes nothing."""
    status, content = await admin(harness, "POST", path, data=raw)
    assert status == 400
    assert content["error"]
    assert harness.sandbox.faults.expire_token_every is None
    assert harness.sandbox.world.operations_ready_after == ReadyPolicy()


async def test_token_can_be_expired(harness: Harness) -> None:
    """The token can be expired once, or at an interval that can be set and removed."""
    assert await admin(harness, "POST", "/kill-token") == (200, {"expired": False})
    harness.sandbox.world.issue_token()
    assert await admin(harness, "POST", "/kill-token") == (200, {"expired": True})
    assert await admin(harness, "POST", "/kill-token", json={"every": 2}) == (200, {"every": 2.0})
    assert await admin(harness, "POST", "/kill-token", json={"every": None}) == (200, {"every": None})


async def test_share_can_be_confirmed(harness: Harness) -> None:
    """A share can be confirmed, as the administrator of the mini program does with the link."""
    harness.sandbox.world.share("e", "wx1", None)
    assert await admin(harness, "POST", "/confirm", json={"env": "e", "appid": "wx1"}) == (200, {"confirmed": True})
    assert harness.sandbox.world.shares["e", "wx1"].confirmed


async def test_operations_can_be_delayed_and_fail(harness: Harness) -> None:
    """Operations can be delayed and made to fail; options that are not given keep their value."""
    slow = {"seconds": 2.5, "polls": 1, "builds_fail": False, "release_fails": False}
    assert await admin(harness, "POST", "/operations", json={"seconds": 2.5, "polls": 1}) == (200, slow)
    assert harness.sandbox.world.operations_ready_after == ReadyPolicy(2.5, 1)
    failing = slow | {"builds_fail": True, "release_fails": True}
    options = {"builds_fail": True, "release_fails": True}
    assert await admin(harness, "POST", "/operations", json=options) == (200, failing)
    assert (harness.sandbox.world.containers.builds_fail, harness.sandbox.world.cloudrun.release_fails) == (True, True)
    assert await admin(harness, "POST", "/operations", json={}) == (200, failing)


async def test_result_and_failure_of_functions_can_be_set(harness: Harness) -> None:
    """Functions of a name return the given result, or cannot be created until the failure is removed."""
    env = harness.sandbox.world.add("a")
    failing = {"name": "f", "fails": True}
    assert await admin(harness, "POST", "/functions", json=failing) == (200, failing)
    await create(harness, [env])
    assert await statuses(harness, env) == {"f": "CreateFailed"}
    await harness.call(DELETE, {"env": env, "functionname": "f"})
    options = {"name": "f", "result": {"tea": "龙井"}}
    assert await admin(harness, "POST", "/functions", json=options) == (200, {"name": "f", "fails": False})
    await create(harness, [env])
    assert await statuses(harness, env) == {"f": "Active"}
    assert (await invoke(harness, env, "f", b"{}"))["resp_data"] == '{"tea":"龙井"}'


async def test_tickets_can_be_pushed(harness: Harness) -> None:
    """The push URL is set once; then each request pushes a ticket and returns the response of the receiver."""
    async with serve_receiver() as receiver:
        options = {"url": receiver.url, "every": None}
        assert await admin(harness, "POST", "/push", json=options) == (200, options)
        assert await admin(harness, "POST", "/push") == (200, {"accepted": True, "result": "HTTP 200 'success'"})
        assert receiver.tickets(harness.sandbox) == [harness.sandbox.ticket]
    harness.clock.advance(60)
    assert (await admin(harness, "POST", "/push"))[1]["accepted"] is False
    _, state = await admin(harness, "GET", "")
    assert state["push"] == {"sent": 2, "failed": 1, "stopped": False, "newest_ticket_age": 0}


async def test_key_can_be_rotated(harness: Harness) -> None:
    """Rotating the key returns the new and the previous key, and the state has both."""
    old = harness.sandbox.encoding_aes_key
    _, state = await admin(harness, "GET", "")
    assert (state["message_token"], state["encoding_aes_key"]) == (harness.sandbox.message_token, old)
    assert state["previous_encoding_aes_key"] is None
    _, keys = await admin(harness, "POST", "/rotate-key")
    assert keys == {"encoding_aes_key": harness.sandbox.encoding_aes_key, "previous_encoding_aes_key": old}
    assert keys.items() <= (await admin(harness, "GET", ""))[1].items()


async def test_seen_requests_are_listed(harness: Harness) -> None:
    """Each seen request has its body and outcome, and a redacted token."""
    await harness.call(CREATE, {"alias": "a"})
    _, seen = await admin(harness, "GET", "/seen")
    assert seen == [
        {
            "path": CREATE,
            "query": {"access_token": "***"},
            "body": {"alias": "a"},
            "at": harness.clock.now,
            "errcode": 0,
            "outcome": "answered",
            "acted": True,
        }
    ]


@pytest.mark.parametrize(
    ("path", "body", "recorded"),
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
async def test_secrets_in_seen_requests_are_redacted(
    harness: Harness, path: str, body: object, recorded: object
) -> None:
    """Every field with the name of a secret is redacted, at any depth and for any response."""
    async with harness.http.post(path, json=body, params={"component_appsecret": "s", "x": "y"}):
        pass
    _, seen = await admin(harness, "GET", "/seen")
    assert seen[0]["body"] == recorded == harness.sandbox.seen[0].body
    assert seen[0]["query"] == {"component_appsecret": "***", "x": "y"}


async def test_handlers_get_secrets_unredacted(harness: Harness) -> None:
    """Only the record of a request is redacted: the service gets the password that was sent."""
    body = {
        "env_id": harness.sandbox.world.add("a"),
        "service_name": "s",
        "is_public": True,
        "es_info": {"password": "p"},
    }
    await harness.call(ESTABLISH, body)
    assert [service.body for service in harness.sandbox.world.services.values()] == [body]


async def test_deeply_nested_body_is_truncated(harness: Harness) -> None:
    """A body is recorded down to 32 levels, so that the list of seen requests can be encoded."""
    async with harness.http.post(LIST, data=b'{"a":' + b"[" * 1000 + b"]" * 1000 + b"}"):
        pass
    _, seen = await admin(harness, "GET", "/seen")
    body = seen[0]["body"]["a"]
    for _ in range(31):
        [body] = body
    assert body == "***"


async def test_unknown_route_gets_404(harness: Harness) -> None:
    """An unknown path or method gets 404."""
    assert (await admin(harness, "PUT", "/faults"))[0] == 404


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "evil.example:{port}"},
        {"Host": "127.0.0.1"},
        {"Host": "127.0.0.1:1"},
        {"Host": "127.0.0.1:{port}.evil.example"},
        {"Host": ""},
        {"Origin": "http://evil.example"},
        {"Origin": "https://127.0.0.1:{port}"},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": "null"},
        {"Origin": ""},
        {"Host": "evil.example:{port}", "Origin": "http://evil.example:{port}"},
    ],
)
@pytest.mark.parametrize(("method", "path"), [("GET", ""), ("GET", "/seen"), ("POST", "/push"), ("DELETE", "/faults")])
async def test_request_of_a_web_page_is_rejected(
    harness: Harness, headers: dict[str, str], method: str, path: str
) -> None:
    """A request for another host, or from a page of another origin, gets 403 and no credentials."""
    harness.sandbox.faults.busy()
    sent = {name: value.format(port=harness.sandbox.port) for name, value in headers.items()}
    status, content = await admin(harness, method, path, headers=sent | JSON)
    assert (status, list(content)) == (403, ["error"])
    assert harness.sandbox.faults.next_fault(LIST) is not None


@pytest.mark.parametrize("host", ["127.0.0.1:{port}", "localhost:{port}", "LOCALHOST:{port}", "[::1]:{port}"])
@pytest.mark.parametrize("has_origin", [False, True])
async def test_own_names_are_accepted(harness: Harness, host: str, *, has_origin: bool) -> None:
    """The names of the loopback interface are accepted with the sandbox's port, and as the origin of a page."""
    host = host.format(port=harness.sandbox.port)
    origin = {"Origin": f"http://{host.lower()}"} if has_origin else {}
    assert (await admin(harness, "GET", "", headers={"Host": host, **origin}))[0] == 200


async def test_port_80_may_be_omitted(harness: Harness) -> None:
    """A client does not name port 80 in the header."""
    headers = {"Host": "127.0.0.1", "Content-Type": "application/json"}
    real_port, harness.sandbox.port = harness.sandbox.port, 80
    status, _ = await handle_admin_request(harness.sandbox, "GET", "/_sandbox", headers, b"")
    harness.sandbox.port = real_port
    assert status == 200


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
async def test_order_that_is_not_json_is_rejected(harness: Harness, content_type: str) -> None:
    """A page can send these content types without asking first; such an order gets 415 and changes nothing."""
    harness.sandbox.world.issue_token()
    status, content = await admin(harness, "POST", "/kill-token", data=b"", headers={"Content-Type": content_type})
    assert (status, harness.sandbox.world.forced_expirations) == (415, 0)
    assert "Content-Type: application/json" in content["error"]


async def test_parameters_of_the_content_type_are_ignored(harness: Harness) -> None:
    """A content type may name the charset."""
    headers = {"Content-Type": "Application/JSON; charset=utf-8"}
    assert (await admin(harness, "POST", "/kill-token", data=b"", headers=headers))[0] == 200
