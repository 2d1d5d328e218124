"""Handlers of api_component_token, api_start_push_ticket, and the calls for quotas and request ids."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import orjson
from attrs import asdict

from wxtcb.sandbox.errors import platform_error
from wxtcb.sandbox.limits import MINUTE
from wxtcb.sandbox.request import Body
from wxtcb.sandbox.schema import ENDPOINT_SCHEMAS
from wxtcb.sandbox.world import Handler, World

# The reply must have a number also where the world has no limit.
_UNLIMITED: Final = 10_000_000


def _issue_token(world: World, body: Body) -> bytes:
    """Issue a component token for appid, secret and ticket."""
    world.credentials.check_app_credentials(body.string("component_appid"), body.string("component_appsecret"))
    world.credentials.check_ticket(body.string("component_verify_ticket"), world.clock())
    # Unlike all other calls, this one reports success without an errcode.
    return orjson.dumps({"component_access_token": world.issue_token(), "expires_in": world.token_ttl})


def _start_push(world: World, body: Body) -> Mapping[str, object]:
    """Start pushing tickets; errmsg is "ok" only if pushing was stopped or never started."""
    world.credentials.check_app_credentials(body.string("component_appid"), body.string("component_secret"))
    was_pushing, world.credentials.push_enabled = world.credentials.push_enabled, True
    return {"errmsg": "in a normal state" if was_pushing else "ok"}


def _clear_quota(world: World, body: Body) -> None:
    """Use one of an account's monthly resets; the platform's own resets its calls of the day.

    The reset of an authoriser's account changes nothing here, because its calls are not simulated.
    """
    world.credentials.check_app_credentials(body.string("component_appid"), body.string("appsecret"))
    appid = body.optional_string("appid")
    if appid is not None and not world.is_authorised(appid):
        raise platform_error(40013)
    world.reset_quota.consume(appid or "the platform", world.current_month())
    if appid is None:
        world.reset_calls_today()


def _get_quota(world: World, body: Body) -> Mapping[str, object]:
    """Return daily limit and usage of a path; the limit is ten million if the world has none."""
    path = _require_known_path(body)
    limit, used = world.daily_limit.get(path, _UNLIMITED), world.calls_today(path)
    quota = {"daily_limit": limit, "used": used, "remain": max(0, limit - used)}
    per_minute = world.minute_limit.get(path)
    if per_minute is None:
        return {"quota": quota}
    return {"quota": quota, "rate_limit": {"call_count": per_minute, "refresh_second": MINUTE}}


def _get_request_info(world: World, body: Body) -> Mapping[str, object]:
    """Return the failed request with this rid, including its token."""
    failed = world.failed_requests.get(body.string("rid"), world.unix_time())
    fields = {**asdict(failed), "invoke_time": int(failed.invoke_time), "cost_in_ms": 1, "client_ip": "127.0.0.1"}
    return {"request": fields}


def _require_known_path(body: Body) -> str:
    path = body.string("cgi_path")
    # Calls of ordinary accounts have a code of their own.
    if path.startswith("/sns/"):
        raise platform_error(76022, "cgi_path")
    if path not in ENDPOINT_SCHEMAS:
        raise platform_error(76021, "cgi_path not found")
    return path


HANDLERS: Final[dict[str, Handler]] = {
    "/cgi-bin/component/api_component_token": _issue_token,
    "/cgi-bin/component/api_start_push_ticket": _start_push,
    "/cgi-bin/component/clear_quota/v2": _clear_quota,
    "/cgi-bin/openapi/quota/get": _get_quota,
    "/cgi-bin/openapi/quota/clear": lambda world, body: world.reset_calls_today(_require_known_path(body)),
    "/cgi-bin/openapi/rid/get": _get_request_info,
}
