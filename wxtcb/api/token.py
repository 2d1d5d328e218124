"""The layer below the token (official group: ticket-token)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from wxtcb.arguments import check_secret
from wxtcb.errors import InvalidArgument
from wxtcb.secret import Secret
from wxtcb.tokens.sources import API_COMPONENT_TOKEN, API_START_PUSH_TICKET, ComponentToken

if TYPE_CHECKING:
    from wxtcb.endpoint import Done
    from wxtcb.session import Session

ENDPOINTS: Final = (API_COMPONENT_TOKEN, API_START_PUSH_TICKET)


async def api_component_token(session: Session, *, component_verify_ticket: str | Secret) -> ComponentToken:
    """Mint a component_access_token with the session's app secret, outside of the session's cache.

    You rarely want this: the new token lives 7,200 seconds and may void the one that the session, or another program,
    goes on with. Calls renew the token by themselves. Minting is limited per day.

    Raises `TicketRefused` (61005, 61006), `SecretRefused` (40125), `AddressNotAllowed` (61004), `OutcomeUnknown`.
    Official interface: getComponentAccessToken, page ticket-token/getComponentAccessToken.
    """
    check_secret("component_verify_ticket", component_verify_ticket)
    ticket = Secret.of(component_verify_ticket)
    del component_verify_ticket
    return await session.call(
        API_COMPONENT_TOKEN,
        {
            "component_appid": session.component_appid,
            "component_appsecret": _secret_of(session),
            "component_verify_ticket": ticket,
        },
    )


async def api_start_push_ticket(session: Session) -> Done:
    """Start the push of component_verify_ticket, or make sure that it runs; needs neither ticket nor token.

    The ticket arrives a little later at the platform's authorisation-event URL, then every 10 minutes. `wxtcb.raw` of
    the reply tells in errmsg whether it was started ("ok") or ran already ("in a normal state").

    Raises `RequestRefused` (40013), `SecretRefused`. Official interface: startPushTicket, page
    ticket-token/startPushTicket.
    """
    return await session.call(
        API_START_PUSH_TICKET,
        {"component_appid": session.component_appid, "component_secret": _secret_of(session)},
    )


def _secret_of(session: Session) -> Secret:
    if not session.component_appsecret:
        raise InvalidArgument("the session has no component_appsecret, which this call sends; nothing was sent")
    return session.component_appsecret
