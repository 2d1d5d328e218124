"""Token, quota and request-id endpoints."""

from __future__ import annotations

import pytest

import wxtcb
from wxtcb._http.transport import SendFailure
from wxtcb.api import token

NEW_TOKEN = {"component_access_token": "another-token", "expires_in": 7200}


@pytest.fixture
def token_platform(platform):
    """Return the platform, which also records token requests as calls of the test."""
    platform.keeps_token_calls = True
    return platform


@pytest.mark.parametrize("ticket", ["ticket@@@two", wxtcb.Secret("ticket@@@two")], ids=["text", "secret"])
async def test_token_is_fetched_with_the_given_ticket(session, token_platform, ticket):
    """The session's appid and secret are sent with the ticket of the caller."""
    token_platform.replies = [NEW_TOKEN]
    made = await token.api_component_token(session, component_verify_ticket=ticket)
    assert (made.component_access_token.reveal(), made.expires_in) == ("another-token", 7200)
    assert token_platform.bodies == [
        {
            "component_appid": "wx-app",
            "component_appsecret": "app-secret",
            "component_verify_ticket": "ticket@@@two",
        }
    ]


async def test_token_is_in_no_repr(session, token_platform):
    """The reply's repr has asterisks in place of the token."""
    token_platform.replies = [NEW_TOKEN]
    made = await token.api_component_token(session, component_verify_ticket="t")
    assert repr(made) == "ComponentToken(component_access_token=***, expires_in=7200)"


@pytest.mark.parametrize("ticket", [None, "", wxtcb.Secret(""), 5, b"ticket", ["ticket"], print], ids=repr)
async def test_invalid_ticket_is_rejected_by_name(session, token_platform, ticket):
    """A ticket is a non-empty string or `Secret`."""
    with pytest.raises(wxtcb.InvalidArgument, match=r"^component_verify_ticket\b"):
        await token.api_component_token(session, component_verify_ticket=ticket)
    assert token_platform.sent == []


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (61005, wxtcb.InvalidTicket),
        (61006, wxtcb.InvalidTicket),
        (40125, wxtcb.InvalidAppSecret),
        (40001, wxtcb.InvalidAppSecret),
        (61004, wxtcb.IPNotAllowed),
        (-1000, wxtcb.OutcomeUnknown),
    ],
)
async def test_rejected_token_request_has_its_error_class(session, token_platform, code, kind):
    """Ticket, secret and IP address have their own classes, after one request, without a secret in the message."""
    token_platform.replies = [{"errcode": code, "errmsg": "refused app-secret ticket@@@two ticket%40%40%40two"}]
    with pytest.raises(kind) as caught:
        await token.api_component_token(session, component_verify_ticket="ticket@@@two")
    assert len(token_platform.sent) == 1
    assert "refused *** *** ***" in str(caught.value)


async def test_push_sends_component_secret(session, platform):
    """The call names the secret component_secret, and needs neither ticket nor token."""
    platform.replies = [{"errcode": 0, "errmsg": "in a normal state"}]
    done = await token.api_start_push_ticket(session)
    assert platform.bodies == [{"component_appid": "wx-app", "component_secret": "app-secret"}]
    assert wxtcb.raw(done)["errmsg"] == "in a normal state"
    assert platform.token_requests == []


async def test_push_can_be_started_without_a_ticket(make_session, platform):
    """A session without a ticket can request the first one."""
    platform.replies = [{"errcode": 0, "errmsg": "ok"}]
    async with make_session(ticket=None) as session:
        assert await token.api_start_push_ticket(session) == wxtcb.Done()


async def test_wrong_appid_is_an_invalid_request(session, platform):
    """The message of 40013 says what to check."""
    platform.replies = [{"errcode": 40013, "errmsg": "invalid appid"}]
    with pytest.raises(wxtcb.InvalidRequest, match="Check the appid"):
        await token.api_start_push_ticket(session)


async def test_quota_is_typed(session, platform):
    """It has the rate limits that the platform returns."""
    limit = {"call_count": 5, "refresh_second": 60}
    quota = {"daily_limit": 10, "used": 4, "remain": 6}
    platform.replies = [{"errcode": 0, "quota": quota, "rate_limit": limit, "component_rate_limit": None}]
    found = await token.get_api_quota(session, "/componenttcb/describeenvs")
    assert found == token.ApiQuota(quota=token.Quota(**quota), rate_limit=token.RateLimit(**limit))


@pytest.mark.parametrize("call", [token.get_api_quota, token.clear_api_quota], ids=lambda call: call.__name__)
@pytest.mark.parametrize("path", ["", "componenttcb/x", "//host/x", "https://host/x", "/https://x"])
async def test_invalid_path_is_rejected(session, platform, call, path):
    """A path begins with a slash and has no host."""
    with pytest.raises(wxtcb.InvalidArgument, match=r"^cgi_path\b"):
        await call(session, path)
    assert (platform.sent, platform.token_requests) == ([], [])


@pytest.mark.parametrize("appid", ["", " "], ids=repr)
async def test_empty_appid_is_rejected(session, platform, appid):
    """Without an appid the platform's own counters would be reset."""
    with pytest.raises(wxtcb.InvalidArgument, match=r"^appid\b"):
        await token.clear_component_quota_by_app_secret(session, appid=appid)
    assert (platform.sent, platform.token_requests) == ([], [])


async def test_reset_needs_the_app_secret(make_session, platform):
    """A session without one sends nothing."""

    async def central():
        return wxtcb.tokens.ComponentToken(component_access_token=wxtcb.Secret("t"), expires_in=7200)

    async with make_session(ticket=None, component_appsecret=None, token_source=central) as session:
        with pytest.raises(wxtcb.InvalidArgument, match="component_appsecret"):
            await token.clear_component_quota_by_app_secret(session)
    assert platform.sent == []


@pytest.mark.virtual_time
@pytest.mark.parametrize(
    ("endpoint", "call"),
    [
        (token.CLEAR_COMPONENT_QUOTA_BY_APP_SECRET, token.clear_component_quota_by_app_secret),
        (token.CLEAR_API_QUOTA, lambda session: token.clear_api_quota(session, "/x")),
    ],
    ids=["secret", "path"],
)
@pytest.mark.parametrize("step", [-1, -1000, SendFailure("lost", sent=True)])
async def test_reset_is_never_sent_twice(new_session, wechat, endpoint, call, step):
    """There are ten a month, so not even a busy reply is repeated."""
    wechat.play(endpoint.path, step)
    async with new_session() as session:
        with pytest.raises(wxtcb.OutcomeUnknown):
            await call(session)
    assert len(wechat.sent_to(endpoint.path)) == 1


async def test_used_up_resets_raise_quota_exceeded(session, platform):
    """The message of 48006 says to wait for the next month."""
    platform.replies = [{"errcode": 48006, "errmsg": "forbid to clear quota because of reaching the limit"}]
    with pytest.raises(wxtcb.QuotaExceeded, match="next month"):
        await token.clear_component_quota_by_app_secret(session)


async def test_request_of_a_rid_shows_no_secret(session, platform):
    """Query, body and reply are in no repr, and no raw reply is kept."""
    request = {"request_url": "access_token=T0KEN", "request_body": '{"s":"S3CRET"}', "response_body": "T0KEN"}
    platform.replies = [{"errcode": 0, "request": {**request, "cost_in_ms": 30}}]
    found = await token.get_rid_info(session, "61725984-6126f6f9-040f19c4")
    assert repr(found.request).count("***") == 3
    assert "T0KEN" not in repr(found)
    assert {name: getattr(found.request, name).reveal() for name in request} == request
    with pytest.raises(wxtcb.InvalidArgument):
        wxtcb.raw(found)


@pytest.mark.parametrize("request_body", ["", None])
async def test_every_field_of_a_rid_is_optional(session, platform, request_body):
    """An empty body is None."""
    platform.replies = [{"errcode": 0, "request": {"request_body": request_body}}, {"errcode": 0}]
    assert (await token.get_rid_info(session, "6-1-1")).request == token.RidRequest()
    assert (await token.get_rid_info(session, "6-1-1")).request is None


async def test_invalid_request_of_a_rid_is_a_bad_reply(session, platform):
    """The error names the path of the wrong value, not the value."""
    platform.replies = [{"errcode": 0, "request": {"request_url": 5}}]
    with pytest.raises(wxtcb.BadReply, match=r"\$\.request\.request_url"):
        await token.get_rid_info(session.with_options(retry=wxtcb.RetryPolicy(attempts=1)), "6-1-1")
