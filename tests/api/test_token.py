"""The two calls below the token."""

from __future__ import annotations

import pytest

import wxtcb
from wxtcb._http.transport import SendFailure
from wxtcb.api import token

MINTED = {"component_access_token": "another-token", "expires_in": 7200}


@pytest.fixture
def below(platform):
    """Let the platform show the calls that buy tokens as calls of the test."""
    platform.keeps_token_calls = True
    return platform


@pytest.mark.parametrize("ticket", ["ticket@@@two", wxtcb.Secret("ticket@@@two")], ids=["text", "secret"])
async def test_a_token_is_bought_with_the_given_ticket(session, below, ticket):
    """The session's appid and secret go out with the ticket of the caller, not with the session's."""
    below.replies = [MINTED]
    made = await token.api_component_token(session, component_verify_ticket=ticket)
    assert (made.component_access_token.reveal(), made.expires_in) == ("another-token", 7200)
    assert below.bodies == [
        {
            "component_appid": "wx-app",
            "component_appsecret": "app-secret",
            "component_verify_ticket": "ticket@@@two",
        }
    ]


async def test_a_token_shows_in_no_repr(session, below):
    """The reply's repr has stars where the token is."""
    below.replies = [MINTED]
    made = await token.api_component_token(session, component_verify_ticket="t")
    assert repr(made) == "ComponentToken(component_access_token=***, expires_in=7200)"


@pytest.mark.parametrize("ticket", [None, "", wxtcb.Secret(""), 5, b"ticket", ["ticket"], print], ids=repr)
async def test_what_is_no_ticket_is_refused_by_name(session, below, ticket):
    """A ticket is a text or a Secret that is not empty; nothing is sent otherwise."""
    with pytest.raises(wxtcb.InvalidArgument, match=r"^component_verify_ticket must be"):
        await token.api_component_token(session, component_verify_ticket=ticket)
    assert below.sent == []


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
async def test_a_refused_token_is_an_error_of_its_class(session, below, code, kind):
    """Ticket, secret and address are told apart, each after one send, and no secret is in the message."""
    below.replies = [{"errcode": code, "errmsg": "refused app-secret ticket@@@two ticket%40%40%40two"}]
    with pytest.raises(kind) as refused:
        await token.api_component_token(session, component_verify_ticket="ticket@@@two")
    assert len(below.sent) == 1
    assert "refused *** *** ***" in str(refused.value)


async def test_the_push_is_started_with_the_other_name_of_the_secret(session, platform):
    """The call names the secret component_secret, not component_appsecret; neither ticket nor token is needed."""
    platform.replies = [{"errcode": 0, "errmsg": "in a normal state"}]
    done = await token.api_start_push_ticket(session)
    assert platform.bodies == [{"component_appid": "wx-app", "component_secret": "app-secret"}]
    assert wxtcb.raw(done)["errmsg"] == "in a normal state"
    assert platform.bought == []


async def test_the_push_can_be_started_before_there_is_a_ticket(make_session, platform):
    """A session without a ticket can ask for the first one."""
    platform.replies = [{"errcode": 0, "errmsg": "ok"}]
    async with make_session(ticket=None) as session:
        assert await token.api_start_push_ticket(session) == wxtcb.Done()


async def test_a_wrong_appid_is_refused(session, platform):
    """40013 is a refusal that says what to check."""
    platform.replies = [{"errcode": 40013, "errmsg": "invalid appid"}]
    with pytest.raises(wxtcb.InvalidRequest, match="Check the appid"):
        await token.api_start_push_ticket(session)


async def test_a_quota_comes_back_typed(session, platform):
    """With the limits per time where the platform tells them."""
    limit = {"call_count": 5, "refresh_second": 60}
    quota = {"daily_limit": 10, "used": 4, "remain": 6}
    platform.replies = [{"errcode": 0, "quota": quota, "rate_limit": limit, "component_rate_limit": None}]
    found = await token.get_api_quota(session, "/componenttcb/describeenvs")
    assert found == token.ApiQuota(quota=token.Quota(**quota), rate_limit=token.RateLimit(**limit))


@pytest.mark.parametrize("call", [token.get_api_quota, token.clear_api_quota], ids=lambda call: call.__name__)
@pytest.mark.parametrize("path", [None, "", 5, b"/x", "componenttcb/x", "//host/x", "https://host/x", "/https://x"])
async def test_what_is_no_path_is_refused(session, platform, call, path):
    """It begins with a slash and has no host."""
    with pytest.raises(wxtcb.InvalidArgument, match=r"^cgi_path must be a path"):
        await call(session, path)
    assert (platform.sent, platform.bought) == ([], [])


@pytest.mark.parametrize(
    ("call", "name", "values"),
    [
        (token.get_rid_info, "rid", [None, "", " ", 5]),
        (lambda session, value: token.clear_component_quota_by_app_secret(session, appid=value), "appid", ["", " ", 5]),
    ],
    ids=["rid", "appid"],
)
async def test_what_names_nothing_is_refused(session, platform, call, name, values):
    """Both are texts that are not empty."""
    for value in values:
        with pytest.raises(wxtcb.InvalidArgument, match=rf"^{name} must be a text"):
            await call(session, value)
    assert (platform.sent, platform.bought) == ([], [])


async def test_a_reset_needs_the_secret(make_session, platform):
    """A session without one sends nothing."""

    async def central():
        return wxtcb.tokens.ComponentToken(component_access_token=wxtcb.Secret("t"), expires_in=7200)

    async with make_session(ticket=None, component_appsecret=None, token_source=central) as session:
        with pytest.raises(wxtcb.InvalidArgument, match="no component_appsecret"):
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
async def test_a_reset_is_never_sent_twice(new_session, wechat, endpoint, call, step):
    """There are ten a month, so not even a busy platform is asked again."""
    wechat.play(endpoint.path, step)
    async with new_session() as session:
        with pytest.raises(wxtcb.OutcomeUnknown):
            await call(session)
    assert len(wechat.sent_to(endpoint.path)) == 1


async def test_used_up_resets_have_their_class(session, platform):
    """48006 says to wait for the next month."""
    platform.replies = [{"errcode": 48006, "errmsg": "forbid to clear quota because of reaching the limit"}]
    with pytest.raises(wxtcb.QuotaExceeded, match="next month"):
        await token.clear_component_quota_by_app_secret(session)


async def test_what_a_rid_leads_to_shows_no_secret(session, platform):
    """Query, body and answer may hold some: no repr has them, and no raw reply is kept."""
    request = {"request_url": "access_token=T0KEN", "request_body": '{"s":"S3CRET"}', "response_body": "T0KEN"}
    platform.replies = [{"errcode": 0, "request": {**request, "cost_in_ms": 30}}]
    found = await token.get_rid_info(session, "61725984-6126f6f9-040f19c4")
    assert repr(found.request).count("***") == 3
    assert "T0KEN" not in repr(found)
    assert {name: getattr(found.request, name).reveal() for name in request} == request
    with pytest.raises(wxtcb.InvalidArgument):
        wxtcb.raw(found)


@pytest.mark.parametrize("request_body", ["", None])
async def test_a_rid_may_lead_to_little(session, platform, request_body):
    """An empty body is none, and every field may be missing."""
    platform.replies = [{"errcode": 0, "request": {"request_body": request_body}}, {"errcode": 0}]
    assert (await token.get_rid_info(session, "6-1-1")).request == token.RidRequest()
    assert (await token.get_rid_info(session, "6-1-1")).request is None


async def test_a_rid_that_leads_to_no_text_is_refused(session, platform):
    """The place of the wrong value is named, and the value is not."""
    platform.replies = [{"errcode": 0, "request": {"request_url": 5}}]
    with pytest.raises(wxtcb.BadReply, match=r"\$\.request\.request_url"):
        await token.get_rid_info(session.with_options(retry=wxtcb.RetryPolicy(attempts=1)), "6-1-1")
