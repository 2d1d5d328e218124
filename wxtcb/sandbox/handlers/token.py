"""api_component_token, api_start_push_ticket, and the calls of quotas and request ids."""

from __future__ import annotations

from typing import Final

import orjson

from wxtcb.sandbox.errors import platform_error
from wxtcb.sandbox.limits import MINUTE
from wxtcb.sandbox.request import Body, success
from wxtcb.sandbox.schema import ENDPOINT_SCHEMAS
from wxtcb.sandbox.world import World

__all__ = ["HANDLERS"]

_UNLIMITED: Final = 10_000_000


def issue_token(world: World, body: Body) -> bytes:
    """Sell a token for appid, secret and ticket; this success carries no errcode."""
    world.credentials.check_app_credentials(body.string("component_appid"), body.string("component_appsecret"))
    world.credentials.check_ticket(body.string("component_verify_ticket"), world.clock())
    return orjson.dumps({"component_access_token": world.issue_token(), "expires_in": world.token_ttl})


def start_push(world: World, body: Body) -> bytes:
    """Start the ticket push; the message says "ok" only if it was stopped, or never started."""
    world.credentials.check_app_credentials(body.string("component_appid"), body.string("component_secret"))
    was_pushing, world.credentials.push_enabled = world.credentials.push_enabled, True
    return success(errmsg="in a normal state") if was_pushing else success()


def clear_quota(world: World, body: Body) -> bytes:
    """Spend one of the month's resets of an account; the platform's own sets all counters of the day back."""
    world.credentials.check_app_credentials(body.string("component_appid"), body.string("appsecret"))
    appid = body.optional_string("appid")
    if appid is not None and not world.is_authorised(appid):
        raise platform_error(40013)
    world.reset_quota.consume(appid or "the platform", world.current_month())
    if appid is None:
        world.reset_calls_today()
    return success()


def get_quota(world: World, body: Body) -> bytes:
    """Tell the day's limit of a path and what is used of it; ten million where the world sets none."""
    path = _require_known_path(body)
    limit, used = world.daily_limit.get(path, _UNLIMITED), world.calls_today(path)
    quota = {"daily_limit": limit, "used": used, "remain": max(0, limit - used)}
    a_minute = world.minute_limit.get(path)
    more = {} if a_minute is None else {"rate_limit": {"call_count": a_minute, "refresh_second": MINUTE}}
    return success(quota=quota, **more)


def clear_path_quota(world: World, body: Body) -> bytes:
    """Set the counter of the day of one path back."""
    world.reset_calls_today(_require_known_path(body))
    return success()


def get_request_info(world: World, body: Body) -> bytes:
    """Tell what is known of the request behind a rid, its token included."""
    return success(request=world.failed_requests.get(body.string("rid"), world.unix_time()).to_reply())


def _require_known_path(body: Body) -> str:
    path = body.string("cgi_path")
    if path.startswith("/sns/"):
        raise platform_error(76022, "cgi_path")
    if path not in ENDPOINT_SCHEMAS:
        raise platform_error(76021, "cgi_path not found")
    return path


HANDLERS: Final = {
    "/cgi-bin/component/api_component_token": issue_token,
    "/cgi-bin/component/api_start_push_ticket": start_push,
    "/cgi-bin/component/clear_quota/v2": clear_quota,
    "/cgi-bin/openapi/quota/get": get_quota,
    "/cgi-bin/openapi/quota/clear": clear_path_quota,
    "/cgi-bin/openapi/rid/get": get_request_info,
}
