"""Token, quota and request-id endpoints (official groups: ticket-token, openapi)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final

import attrs

from wxtcb._protocol.endpoint import Credential, Done, Endpoint, Repeat, Reply
from wxtcb._protocol.fields import WireFormat, wire_format
from wxtcb.errors import InvalidArgument
from wxtcb.secret import Secret
from wxtcb.tokens.providers import (
    API_COMPONENT_TOKEN as API_COMPONENT_TOKEN,
    API_START_PUSH_TICKET as API_START_PUSH_TICKET,
    ComponentToken as ComponentToken,
)
from wxtcb.validation import check_secret, check_string

if TYPE_CHECKING:
    from wxtcb.session import Session

__all__ = [
    "API_COMPONENT_TOKEN",
    "API_START_PUSH_TICKET",
    "CLEAR_API_QUOTA",
    "CLEAR_COMPONENT_QUOTA_BY_APP_SECRET",
    "ENDPOINTS",
    "GET_API_QUOTA",
    "GET_RID_INFO",
    "ApiQuota",
    "ComponentToken",
    "Quota",
    "RateLimit",
    "RidInfo",
    "RidRequest",
    "api_component_token",
    "api_start_push_ticket",
    "clear_api_quota",
    "clear_component_quota_by_app_secret",
    "get_api_quota",
    "get_rid_info",
]


# The platform writes "" for a request or reply it did not record; an empty `Secret` would look like one it did.
_EMPTY_IS_NONE: Final = WireFormat("string", lambda value: value, lambda value: None if value == "" else value)


@attrs.frozen(kw_only=True)
class Quota:
    """Daily quota of one path: calls allowed, calls made, calls remaining."""

    daily_limit: int | None = None
    used: int | None = None
    remain: int | None = None


@attrs.frozen(kw_only=True)
class RateLimit:
    """Rate limit: at most `call_count` calls within `refresh_second` seconds."""

    call_count: int | None = None
    refresh_second: int | None = None


@attrs.frozen(kw_only=True)
class ApiQuota(Reply):
    """Daily quota of one path and its rate limits, which the platform does not always return.

    `component_rate_limit` applies to calls on behalf of authorised accounts.
    """

    quota: Quota | None = None
    rate_limit: RateLimit | None = None
    component_rate_limit: RateLimit | None = None


@attrs.frozen(kw_only=True)
class RidRequest:
    """A request that the platform answered with an error; its query, body and reply may contain credentials.

    `invoke_time` is in Unix seconds.
    """

    invoke_time: int | None = None
    cost_in_ms: int | None = None
    request_url: Secret | None = attrs.field(default=None, metadata=wire_format(_EMPTY_IS_NONE))
    request_body: Secret | None = attrs.field(default=None, metadata=wire_format(_EMPTY_IS_NONE))
    response_body: Secret | None = attrs.field(default=None, metadata=wire_format(_EMPTY_IS_NONE))
    client_ip: str | None = None


@attrs.frozen(kw_only=True)
class RidInfo(Reply):
    """The platform's record of the request with a given rid."""

    keeps_raw: ClassVar[bool] = False

    request: RidRequest | None = None


# Resets are limited per month, so they are never repeated, not even if the platform is busy.
CLEAR_COMPONENT_QUOTA_BY_APP_SECRET: Final = Endpoint(
    "/cgi-bin/component/clear_quota/v2",
    Done,
    Repeat.NEVER,
    Credential.NONE,
    name="clear_component_quota_by_app_secret",
    official="clearComponentQuotaByAppSecret",
)
GET_API_QUOTA: Final = Endpoint(
    "/cgi-bin/openapi/quota/get", ApiQuota, Repeat.READ, name="get_api_quota", official="getApiQuota"
)
CLEAR_API_QUOTA: Final = Endpoint(
    "/cgi-bin/openapi/quota/clear", Done, Repeat.NEVER, name="clear_api_quota", official="clearApiQuota"
)
GET_RID_INFO: Final = Endpoint(
    "/cgi-bin/openapi/rid/get", RidInfo, Repeat.READ, name="get_rid_info", official="getRidInfo"
)

ENDPOINTS: Final = (
    API_COMPONENT_TOKEN,
    API_START_PUSH_TICKET,
    CLEAR_COMPONENT_QUOTA_BY_APP_SECRET,
    GET_API_QUOTA,
    CLEAR_API_QUOTA,
    GET_RID_INFO,
)


async def api_component_token(session: Session, *, component_verify_ticket: str | Secret) -> ComponentToken:
    """Fetch a component_access_token with the session's app secret, without storing it in the session's cache.

    You rarely need this, because the session refreshes its token automatically. The new token is valid for 7,200
    seconds. It may invalidate the token that the session, or another program, uses. The number of fetches per day is
    limited. Raises `InvalidTicket` (61005, 61006), `InvalidAppSecret` (40125), `IPNotAllowed` (61004),
    `OutcomeUnknown`.
    Official interface: getComponentAccessToken, page ticket-token/getComponentAccessToken.
    """
    check_secret("component_verify_ticket", component_verify_ticket)
    ticket = Secret.of(component_verify_ticket)
    # A traceback of the call shows the local variables of this frame: leave no plain ticket among them.
    del component_verify_ticket
    return await session.call(
        API_COMPONENT_TOKEN,
        {
            "component_appid": session.component_appid,
            "component_appsecret": _require_appsecret(session),
            "component_verify_ticket": ticket,
        },
    )


async def api_start_push_ticket(session: Session) -> Done:
    """Start the push of component_verify_ticket (验证票据), or confirm that it is running; needs no ticket or token.

    The ticket arrives a little later at the authorisation event URL (授权事件接收URL), then every 10 minutes.
    The errmsg of the reply (`wxtcb.raw`) is "ok" if the push was started, and "in a normal state" if it was running.
    Raises `InvalidRequest` (40013), `InvalidAppSecret`.
    Official interface: startPushTicket, page ticket-token/startPushTicket.
    """
    return await session.call(
        API_START_PUSH_TICKET,
        {"component_appid": session.component_appid, "component_secret": _require_appsecret(session)},
    )


async def clear_component_quota_by_app_secret(session: Session, *, appid: str | None = None) -> Done:
    """Reset the daily call counters of the third-party platform, or of the authorised account *appid*.

    Needs no ticket or token. Each reset that takes effect uses one of the account's 10 resets a month, which are shared
    with the platform's other ways to reset. So the request is never sent twice: after `OutcomeUnknown`, check with
    `get_api_quota` how many calls are used. Raises `QuotaExceeded` (48006) if the 10 resets are used up,
    `InvalidRequest` (40013), `InvalidAppSecret`.
    Official interface: clearComponentQuotaByAppSecret, page openapi/clearComponentQuotaByAppSecret.
    """
    # Without an appid the platform's own counters are reset, so an empty one must not be sent by accident.
    if appid is not None:
        check_string("appid", appid)
    return await session.call(
        CLEAR_COMPONENT_QUOTA_BY_APP_SECRET,
        {"component_appid": session.component_appid, "appsecret": _require_appsecret(session), "appid": appid},
    )


async def get_api_quota(session: Session, cgi_path: str) -> ApiQuota:
    """Return the daily quota of one path, and how much of it is used.

    *cgi_path* begins with a slash and contains no host, for instance ``/componenttcb/describeenvs``. Raises
    `InvalidRequest` for a path that the platform does not know (76021) or that belongs to another kind of account
    (76022; also every path under /sns/).
    Official interface: getApiQuota, page openapi/getApiQuota.
    """
    _check_path(cgi_path)
    return await session.call(GET_API_QUOTA, {"cgi_path": cgi_path})


async def clear_api_quota(session: Session, cgi_path: str) -> Done:
    """Reset the daily call counter of one path; *cgi_path* is as in `get_api_quota`.

    The documentation does not say how often this is allowed, so the request is never sent twice: after
    `OutcomeUnknown`, check with `get_api_quota`.
    Official interface: clearApiQuota, page openapi/clearApiQuota.
    """
    _check_path(cgi_path)
    return await session.call(CLEAR_API_QUOTA, {"cgi_path": cgi_path})


async def get_rid_info(session: Session, rid: str) -> RidInfo:
    """Return the request with a given rid (``ApiError.rid``); the platform keeps it for 7 days, for its own account.

    The query, body and reply are `Secret`, because they may contain a token or the app secret. Raises `InvalidRequest`
    for a rid that is malformed (76002), unknown (76001) or too old (76004), and `PermissionDenied` for a rid of another
    account (76003).
    Official interface: getRidInfo, page openapi/getRidInfo.
    """
    return await session.call(GET_RID_INFO, {"rid": rid})


def _check_path(cgi_path: str) -> None:
    if not cgi_path.startswith("/") or cgi_path.startswith("//") or "://" in cgi_path:
        raise InvalidArgument(f"cgi_path {cgi_path!r} is invalid: it must begin with '/' and contain no host")


def _require_appsecret(session: Session) -> Secret:
    if not session.component_appsecret:
        raise InvalidArgument("this call needs component_appsecret: give it to the Session; no request was sent")
    return session.component_appsecret
