"""api_component_token, api_start_push_ticket."""

from __future__ import annotations

from typing import Final

import orjson

from wxtcb.sandbox.asked import Body, ok
from wxtcb.sandbox.world import World

__all__ = ["HANDLERS", "mint_token", "start_push"]


def mint_token(world: World, body: Body) -> bytes:
    """Sell a token for appid, secret and ticket; this success carries no errcode."""
    world.tokens.check_account(body.text("component_appid"), body.text("component_appsecret"))
    world.tokens.check_ticket(body.text("component_verify_ticket"), world.clock())
    return orjson.dumps({"component_access_token": world.mint(), "expires_in": world.token_life})


def start_push(world: World, body: Body) -> bytes:
    """Start the ticket push; the message says "ok" only if it was stopped, or never started."""
    world.tokens.check_account(body.text("component_appid"), body.text("component_secret"))
    was_pushing, world.tokens.pushing = world.tokens.pushing, True
    return ok(errmsg="in a normal state") if was_pushing else ok()


HANDLERS: Final = {
    "/cgi-bin/component/api_component_token": mint_token,
    "/cgi-bin/component/api_start_push_ticket": start_push,
}
