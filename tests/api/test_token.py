"""The two calls below the token."""

from __future__ import annotations

import pytest

import wxtcb
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
        (61005, wxtcb.TicketRefused),
        (61006, wxtcb.TicketRefused),
        (40125, wxtcb.SecretRefused),
        (40001, wxtcb.SecretRefused),
        (61004, wxtcb.AddressNotAllowed),
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
    with pytest.raises(wxtcb.RequestRefused, match="Check the appid"):
        await token.api_start_push_ticket(session)
