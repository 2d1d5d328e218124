"""The layer below the token, quotas and request ids (official groups: ticket-token, openapi)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final

import attrs

from wxtcb._protocol.endpoint import Credential, Done, Endpoint, Repeat, Reply
from wxtcb._protocol.fields import WireFormat, wire_format
from wxtcb.errors import InvalidArgument
from wxtcb.secret import Secret
from wxtcb.tokens.providers import API_COMPONENT_TOKEN, API_START_PUSH_TICKET, ComponentToken
from wxtcb.validation import check_secret, check_string

if TYPE_CHECKING:
    from wxtcb.session import Session


_EMPTY_IS_NONE: Final = WireFormat("text", lambda value: value, lambda value: None if value == "" else value)


@attrs.frozen(kw_only=True)
class Quota:
    """The calls of one path that the day allows, those made, and those left."""

    daily_limit: int | None = None
    used: int | None = None
    remain: int | None = None


@attrs.frozen(kw_only=True)
class RateLimit:
    """At most `call_count` calls within `refresh_second` seconds."""

    call_count: int | None = None
    refresh_second: int | None = None


@attrs.frozen(kw_only=True)
class ApiQuota(Reply):
    """The day's quota of one path and, where the platform tells them, its limits per time.

    `component_rate_limit` holds for calls on behalf of accounts.
    """

    quota: Quota | None = None
    rate_limit: RateLimit | None = None
    component_rate_limit: RateLimit | None = None


@attrs.frozen(kw_only=True)
class RidRequest:
    """A request that the platform answered with an error: its query, its body and the answer hold credentials.

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
    """What the platform still knows of the request behind a rid."""

    keeps_raw: ClassVar[bool] = False

    request: RidRequest | None = None


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
    """Mint a component_access_token with the session's app secret, outside of the session's cache.

    You rarely want this: the new token lives 7,200 seconds and may void the one that the session, or another program,
    goes on with. Calls renew the token by themselves. Minting is limited per day.

    Raises `InvalidTicket` (61005, 61006), `InvalidAppSecret` (40125), `IPNotAllowed` (61004), `OutcomeUnknown`.
    Official interface: getComponentAccessToken, page ticket-token/getComponentAccessToken.
    """
    check_secret("component_verify_ticket", component_verify_ticket)
    ticket = Secret.of(component_verify_ticket)
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
    """Start the push of component_verify_ticket, or make sure that it runs; needs neither ticket nor token.

    The ticket arrives a little later at the platform's authorisation-event URL, then every 10 minutes. `wxtcb.raw` of
    the reply tells in errmsg whether it was started ("ok") or ran already ("in a normal state").

    Raises `InvalidRequest` (40013), `InvalidAppSecret`. Official interface: startPushTicket, page
    ticket-token/startPushTicket.
    """
    return await session.call(
        API_START_PUSH_TICKET,
        {"component_appid": session.component_appid, "component_secret": _require_appsecret(session)},
    )


async def clear_component_quota_by_app_secret(session: Session, *, appid: str | None = None) -> Done:
    """Set the day's call counters of the platform, or of the authorised account *appid*, back to 0.

    Needs neither ticket nor token. Each effective reset costs one of the ten that an account has per month, which it
    shares with the platform's other ways to reset, so it is never sent twice: after `OutcomeUnknown` see with
    `get_api_quota` what was used.

    Raises `QuotaExceeded` (48006) when the ten are used up, `InvalidRequest` (40013), `InvalidAppSecret`.
    Official interface: clearComponentQuotaByAppSecret, page openapi/clearComponentQuotaByAppSecret.
    """
    if appid is not None:
        check_string("appid", appid)
    return await session.call(
        CLEAR_COMPONENT_QUOTA_BY_APP_SECRET,
        {"component_appid": session.component_appid, "appsecret": _require_appsecret(session), "appid": appid},
    )


async def get_api_quota(session: Session, cgi_path: str) -> ApiQuota:
    """Read the day's quota of one path, and what is used of it.

    *cgi_path* begins with a slash and names no host, for instance ``/componenttcb/describeenvs``.

    Raises `InvalidRequest` for a path that the platform does not know (76021) or that belongs to another kind of
    account (76022; also those under /sns/).

    Official interface: getApiQuota, page openapi/getApiQuota.
    """
    _check_path("cgi_path", cgi_path)
    return await session.call(GET_API_QUOTA, {"cgi_path": cgi_path})


async def clear_api_quota(session: Session, cgi_path: str) -> Done:
    """Set the day's call counter of one path back to 0; *cgi_path* as for `get_api_quota`.

    No page says how often that is allowed, so it is never sent twice: after `OutcomeUnknown` see with `get_api_quota`.

    Official interface: clearApiQuota, page openapi/clearApiQuota.
    """
    _check_path("cgi_path", cgi_path)
    return await session.call(CLEAR_API_QUOTA, {"cgi_path": cgi_path})


async def get_rid_info(session: Session, rid: str) -> RidInfo:
    """Look up the request behind a rid (``ApiError.rid``), which the platform keeps for 7 days, for its own account.

    Its query, body and answer are `Secret`, for a token or the app secret may stand in them.

    Raises `InvalidRequest` for a rid that is malformed (76002), unknown (76001) or too old (76004), `PermissionDenied` for
    that of another account (76003).

    Official interface: getRidInfo, page openapi/getRidInfo.
    """
    check_string("rid", rid)
    return await session.call(GET_RID_INFO, {"rid": rid})


def _check_path(name: str, value: object) -> None:
    if not isinstance(value, str) or not value.startswith("/") or value.startswith("//") or "://" in value:
        raise InvalidArgument(f"{name} must be a path that begins with '/', without a host, not {value!r}")


def _require_appsecret(session: Session) -> Secret:
    if not session.component_appsecret:
        raise InvalidArgument("the session has no component_appsecret, which this call sends; nothing was sent")
    return session.component_appsecret
