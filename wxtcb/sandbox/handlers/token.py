"""api_component_token, api_start_push_ticket, and the calls of quotas and request ids."""

from __future__ import annotations

from typing import Final

import orjson

from wxtcb.sandbox.errors import refuse
from wxtcb.sandbox.limits import MINUTE
from wxtcb.sandbox.request import Body, ok
from wxtcb.sandbox.schema import CALLS
from wxtcb.sandbox.world import World

__all__ = ["HANDLERS"]

_UNLIMITED: Final = 10_000_000


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


def clear_quota(world: World, body: Body) -> bytes:
    """Spend one of the month's resets of an account; the platform's own sets all counters of the day back."""
    world.tokens.check_account(body.text("component_appid"), body.text("appsecret"))
    appid = body.maybe_text("appid")
    if appid is not None and not world.authorised(appid):
        raise refuse(40013)
    world.resets.spend(appid or "the platform", world.month())
    if appid is None:
        world.clear_today()
    return ok()


def tell_quota(world: World, body: Body) -> bytes:
    """Tell the day's limit of a path and what is used of it; ten million where the world sets none."""
    path = _known_path(body)
    limit, used = world.daily_limit.get(path, _UNLIMITED), world.used_today(path)
    quota = {"daily_limit": limit, "used": used, "remain": max(0, limit - used)}
    a_minute = world.minute_limit.get(path)
    more = {} if a_minute is None else {"rate_limit": {"call_count": a_minute, "refresh_second": MINUTE}}
    return ok(quota=quota, **more)


def clear_path(world: World, body: Body) -> bytes:
    """Set the counter of the day of one path back."""
    world.clear_today(_known_path(body))
    return ok()


def tell_request(world: World, body: Body) -> bytes:
    """Tell what is known of the request behind a rid, its token included."""
    return ok(request=world.rids.find(body.text("rid"), world.unix_time()).shown())


def _known_path(body: Body) -> str:
    path = body.text("cgi_path")
    if path.startswith("/sns/"):
        raise refuse(76022, "cgi_path")
    if path not in CALLS:
        raise refuse(76021, "cgi_path not found")
    return path


HANDLERS: Final = {
    "/cgi-bin/component/api_component_token": mint_token,
    "/cgi-bin/component/api_start_push_ticket": start_push,
    "/cgi-bin/component/clear_quota/v2": clear_quota,
    "/cgi-bin/openapi/quota/get": tell_quota,
    "/cgi-bin/openapi/quota/clear": clear_path,
    "/cgi-bin/openapi/rid/get": tell_request,
}
