"""Quotas, their resets, and what is known of a request id."""

from __future__ import annotations

import orjson
import pytest

from wxtcb.sandbox import request_ids

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
    """Ask for the quota of a path."""
    found: dict[str, int] = (await harness.call(QUOTA, {"cgi_path": path}))["quota"]
    return found


async def test_a_quota_is_that_of_the_world(harness: Harness, clock: Clock) -> None:
    """Calls that were let through are counted, till the next day."""
    harness.sandbox.world.daily_limit = {LIST: 2}
    for _ in range(3):
        await harness.call(LIST, {})
    assert await quota(harness, LIST) == {"daily_limit": 2, "used": 2, "remain": 0}
    clock.advance(DAY)
    assert await quota(harness, LIST) == {"daily_limit": 2, "used": 0, "remain": 2}


async def test_a_path_without_a_limit_has_a_large_one(harness: Harness) -> None:
    """Its calls are counted as well, and what a minute allows is told where it is limited."""
    harness.sandbox.world.minute_limit = {CREATE: 5}
    await harness.call(LIST, {})
    assert await quota(harness, LIST) == {"daily_limit": 10_000_000, "used": 1, "remain": 9_999_999}
    assert "rate_limit" not in await harness.call(QUOTA, {"cgi_path": LIST})
    limited = await harness.call(QUOTA, {"cgi_path": CREATE})
    assert limited["rate_limit"] == {"call_count": 5, "refresh_second": 60}


@pytest.mark.parametrize("path", [QUOTA, CLEAR])
@pytest.mark.parametrize(("asked", "errcode"), [("/nothing", 76021), ("componenttcb", 76021), ("/sns/jscode", 76022)])
async def test_a_path_must_be_known(harness: Harness, path: str, asked: str, errcode: int) -> None:
    """Those of ordinary accounts are told apart."""
    assert (await harness.call(path, {"cgi_path": asked}))["errcode"] == errcode


async def test_one_path_is_cleared(harness: Harness) -> None:
    """It can be called again on the same day; others are as they were."""
    harness.sandbox.world.daily_limit = {LIST: 1, CREATE: 1}
    for path, body in ((LIST, {}), (CREATE, {"alias": "a"})):
        await harness.call(path, body)
    assert (await harness.call(CLEAR, {"cgi_path": LIST}))["errcode"] == 0
    assert (await harness.call(LIST, {}))["errcode"] == 0
    assert (await harness.call(CREATE, {"alias": "a"}))["errcode"] == 45009


async def test_all_paths_are_cleared_with_the_secret(harness: Harness) -> None:
    """Tokens too; none is needed, and ten times a month is the most."""
    world = harness.sandbox.world
    world.daily_limit, world.max_tokens_per_day = {LIST: 1}, 5
    for _ in range(5):
        await harness.post(TOKEN, harness.account())
    assert (await harness.post(TOKEN, harness.account()))["errcode"] == 45009
    assert [(await harness.post(RESET, account(harness)))["errcode"] for _ in range(11)] == [0] * 10 + [48006]
    assert (await harness.post(TOKEN, harness.account())).keys() == {"component_access_token", "expires_in"}


async def test_an_account_has_resets_of_its_own(harness: Harness, clock: Clock) -> None:
    """They clear nothing of the platform's, and begin anew with the month."""
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
async def test_a_reset_needs_the_right_names(harness: Harness, fields: dict[str, str], errcode: int) -> None:
    """A wrong secret, platform or account costs none."""
    assert (await harness.post(RESET, account(harness) | fields))["errcode"] == errcode
    assert [(await harness.post(RESET, account(harness)))["errcode"] for _ in range(10)] == [0] * 10


async def failed(harness: Harness) -> str:
    """Make a call that is refused and return its rid."""
    errmsg: str = (await harness.call(CREATE, {"alias": "1"}))["errmsg"]
    return errmsg.rpartition("rid: ")[2]


async def test_a_rid_leads_to_its_request(harness: Harness) -> None:
    """Query, body and answer are told as they went over the wire, the token included."""
    rid = await failed(harness)
    request = (await harness.call(RID, {"rid": rid}))["request"]
    assert orjson.loads(request["request_body"]) == {"alias": "1"}
    assert orjson.loads(request["response_body"])["errcode"] == 40097
    assert request["request_url"].startswith("access_token=1_")
    assert (request["invoke_time"], request["client_ip"]) == (1_600_000_000, "127.0.0.1")


@pytest.mark.parametrize(("rid", "errcode"), [("", 76002), ("no rid", 76002), ("6172598-6126f6f9-040f19c4", 76001)])
async def test_what_is_no_rid_is_refused(harness: Harness, rid: str, errcode: int) -> None:
    """One that is malformed, and one that nobody was given."""
    assert (await harness.call(RID, {"rid": rid}))["errcode"] == errcode


async def test_a_rid_is_kept_for_a_week(harness: Harness, clock: Clock) -> None:
    """One second more, and it has expired."""
    rid = await failed(harness)
    clock.advance(7 * DAY)
    assert (await harness.call(RID, {"rid": rid}))["errcode"] == 0
    clock.advance(1)
    assert (await harness.call(RID, {"rid": rid}))["errcode"] == 76004


async def test_rids_are_bounded(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest is forgotten first, and of a long body the beginning is kept."""
    monkeypatch.setattr(request_ids, "_MAX_REQUESTS", 2)
    found = [await failed(harness) for _ in range(3)]
    assert [(await harness.call(RID, {"rid": rid}))["errcode"] for rid in reversed(found)] == [0, 0, 76001]
    errmsg = (await harness.call(CREATE, {"alias": "1" * 5000}))["errmsg"]
    request = (await harness.call(RID, {"rid": errmsg.rpartition("rid: ")[2]}))["request"]
    assert len(request["request_body"]) == 1024


async def test_an_error_without_a_rid_is_not_kept(harness: Harness) -> None:
    """A reply that a fault has bent may hold none."""
    harness.sandbox.world.failed_requests.record(0, "", b"", b'{"errcode":-1}')
    assert not harness.sandbox.world.failed_requests._requests
