"""The side door for other processes."""

from __future__ import annotations

from typing import Any

import pytest

from .rig import CREATE, LIST, Rig


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
    ],
)
async def test_nonsense_is_refused(rig: Rig, path: str, raw: bytes) -> None:
    """A bad order is a 400 that says why, and changes nothing."""
    status, problem = await side(rig, "POST", path, data=raw)
    assert status == 400
    assert problem["error"]
    assert rig.box.faults.kill_token_every is None


async def test_tokens_are_killed_from_outside(rig: Rig) -> None:
    """Once, or at an interval that can be set and lifted."""
    assert await side(rig, "POST", "/kill-token") == (200, {"killed": False})
    rig.box.world.mint()
    assert await side(rig, "POST", "/kill-token") == (200, {"killed": True})
    assert await side(rig, "POST", "/kill-token", json={"every": 2}) == (200, {"every": 2.0})
    assert await side(rig, "POST", "/kill-token", json={"every": None}) == (200, {"every": None})


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


async def test_other_doors_do_not_exist(rig: Rig) -> None:
    """Unknown paths and wrong methods are a 404."""
    assert (await side(rig, "PUT", "/faults"))[0] == 404
