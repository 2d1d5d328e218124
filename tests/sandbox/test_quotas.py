"""Quotas, their resets, and failed requests by request id."""

from __future__ import annotations

import orjson
import pytest

from wxtcb.sandbox import request_log

from .sandbox_harness import CREATE, LIST, TOKEN, Clock, Harness

RESET = "/cgi-bin/component/clear_quota/v2"
QUOTA = "/cgi-bin/openapi/quota/get"
CLEAR = "/cgi-bin/openapi/quota/clear"
RID = "/cgi-bin/openapi/rid/get"
DAY = 86_400


def account(harness: Harness, **more: str) -> dict[str, str]:
    """Return the body of a reset."""
    return {
        "component_appid": harness.sandbox.component_appid,
        "appsecret": harness.sandbox.component_appsecret,
        **more,
    }


async def quota(harness: Harness, path: str) -> dict[str, int]:
    """Return the quota of a path."""
    found: dict[str, int] = (await harness.call(QUOTA, {"cgi_path": path}))["quota"]
    return found


async def test_quota_has_limit_and_usage_of_the_day(harness: Harness, clock: Clock) -> None:
    """Accepted calls are counted until the next day."""
    harness.sandbox.world.daily_limit = {LIST: 2}
    for _ in range(3):
        await harness.call(LIST, {})
    assert await quota(harness, LIST) == {"daily_limit": 2, "used": 2, "remain": 0}
    clock.advance(DAY)
    assert await quota(harness, LIST) == {"daily_limit": 2, "used": 0, "remain": 2}


async def test_path_without_limit_has_a_large_one(harness: Harness) -> None:
    """Calls of a path without a limit are counted too; the minute limit is reported where there is one."""
    harness.sandbox.world.minute_limit = {CREATE: 5}
    await harness.call(LIST, {})
    assert await quota(harness, LIST) == {"daily_limit": 10_000_000, "used": 1, "remain": 9_999_999}
    assert "rate_limit" not in await harness.call(QUOTA, {"cgi_path": LIST})
    limited = await harness.call(QUOTA, {"cgi_path": CREATE})
    assert limited["rate_limit"] == {"call_count": 5, "refresh_second": 60}


@pytest.mark.parametrize("path", [QUOTA, CLEAR])
@pytest.mark.parametrize(("unknown", "errcode"), [("/nothing", 76021), ("componenttcb", 76021), ("/sns/jscode", 76022)])
async def test_unknown_path_is_rejected(harness: Harness, path: str, unknown: str, errcode: int) -> None:
    """Paths of ordinary accounts have another errcode than unknown ones."""
    assert (await harness.call(path, {"cgi_path": unknown}))["errcode"] == errcode


async def test_quota_of_one_path_can_be_reset(harness: Harness) -> None:
    """A path that is reset can be called again on the same day, other paths cannot."""
    harness.sandbox.world.daily_limit = {LIST: 1, CREATE: 1}
    for path, body in ((LIST, {}), (CREATE, {"alias": "a"})):
        await harness.call(path, body)
    assert (await harness.call(CLEAR, {"cgi_path": LIST}))["errcode"] == 0
    assert (await harness.call(LIST, {}))["errcode"] == 0
    assert (await harness.call(CREATE, {"alias": "a"}))["errcode"] == 45009


async def test_all_quotas_can_be_reset_with_the_secret(harness: Harness) -> None:
    """The reset needs no token, covers the limit of tokens too, and works ten times a month."""
    world = harness.sandbox.world
    world.daily_limit, world.max_tokens_per_day = {LIST: 1}, 5
    for _ in range(5):
        await harness.post(TOKEN, harness.account())
    assert (await harness.post(TOKEN, harness.account()))["errcode"] == 45009
    assert [(await harness.post(RESET, account(harness)))["errcode"] for _ in range(11)] == [0] * 10 + [48006]
    assert (await harness.post(TOKEN, harness.account())).keys() == {"component_access_token", "expires_in"}


async def test_account_has_its_own_resets(harness: Harness, clock: Clock) -> None:
    """An authoriser's resets change nothing for the platform, and are available again next month."""
    appid = "wx5fe6bb43205e9e07"
    harness.sandbox.world.daily_limit = {LIST: 1}
    await harness.call(LIST, {})
    codes = [(await harness.post(RESET, account(harness, appid=appid)))["errcode"] for _ in range(11)]
    assert codes == [0] * 10 + [48006]
    assert (await harness.call(LIST, {}))["errcode"] == 45009
    assert (await harness.post(RESET, account(harness)))["errcode"] == 0
    clock.advance(31 * DAY)
    assert (await harness.post(RESET, account(harness, appid=appid)))["errcode"] == 0


@pytest.mark.parametrize(
    ("fields", "errcode"),
    [
        ({"appid": "wx0"}, 40013),
        ({"appsecret": "no"}, 40125),
        ({"appsecret": ""}, 41004),
        ({"component_appid": "x"}, 40013),
    ],
)
async def test_reset_with_wrong_credential_is_rejected(harness: Harness, fields: dict[str, str], errcode: int) -> None:
    """A reset with a wrong secret, platform or account does not use up any."""
    assert (await harness.post(RESET, account(harness) | fields))["errcode"] == errcode
    assert [(await harness.post(RESET, account(harness)))["errcode"] for _ in range(10)] == [0] * 10


async def fail_call(harness: Harness) -> str:
    """Make a call that is rejected and return its rid."""
    errmsg: str = (await harness.call(CREATE, {"alias": "1"}))["errmsg"]
    return errmsg.rpartition("rid: ")[2]


async def test_rid_returns_the_failed_request(harness: Harness) -> None:
    """Query, body and response are returned as sent, token included."""
    rid = await fail_call(harness)
    request = (await harness.call(RID, {"rid": rid}))["request"]
    assert orjson.loads(request["request_body"]) == {"alias": "1"}
    assert orjson.loads(request["response_body"])["errcode"] == 40097
    assert request["request_url"].startswith("access_token=1_")
    assert (request["invoke_time"], request["client_ip"]) == (1_600_000_000, "127.0.0.1")


@pytest.mark.parametrize(("rid", "errcode"), [("", 76002), ("no rid", 76002), ("6172598-6126f6f9-040f19c4", 76001)])
async def test_unknown_rid_is_rejected(harness: Harness, rid: str, errcode: int) -> None:
    """A malformed rid and one that was never issued have their own errcodes."""
    assert (await harness.call(RID, {"rid": rid}))["errcode"] == errcode


async def test_rid_expires_after_a_week(harness: Harness, clock: Clock) -> None:
    """A rid is valid for a week; one second later it has expired."""
    rid = await fail_call(harness)
    clock.advance(7 * DAY)
    assert (await harness.call(RID, {"rid": rid}))["errcode"] == 0
    clock.advance(1)
    assert (await harness.call(RID, {"rid": rid}))["errcode"] == 76004


async def test_number_of_rids_and_size_of_bodies_are_limited(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest request is dropped first, and a long body is truncated."""
    monkeypatch.setattr(request_log, "_MAX_FAILED_REQUESTS", 2)
    found = [await fail_call(harness) for _ in range(3)]
    assert [(await harness.call(RID, {"rid": rid}))["errcode"] for rid in reversed(found)] == [0, 0, 76001]
    errmsg = (await harness.call(CREATE, {"alias": "1" * 5000}))["errmsg"]
    request = (await harness.call(RID, {"rid": errmsg.rpartition("rid: ")[2]}))["request"]
    assert len(request["request_body"]) == 1024


async def test_error_without_rid_is_not_recorded(harness: Harness) -> None:
    """A response that a fault changed may have no rid; it is not recorded."""
    harness.sandbox.faults.missing("errmsg", times=1)
    assert await harness.call(CREATE, {"alias": "1"}) == {"errcode": 40097}
