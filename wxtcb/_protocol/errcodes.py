"""What each errcode of the platform means: the class of its error, and what to do about it, in one table."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from wxtcb.errors import (
    AccountBlocked,
    AddressNotAllowed,
    ApiError,
    Busy,
    CloudError,
    CloudFault,
    MinuteLimit,
    NotPermitted,
    QuotaExhausted,
    RequestRefused,
    SecretRefused,
    TicketRefused,
    TokenDead,
)

_RENEW = "The token is wrong, expired or no longer the latest."
_TICKET = "Wait for the next push (every 10 minutes), or ask for one with api.token.api_start_push_ticket."
_ADDRESS = "Add the address in errmsg to the platform's list of allowed addresses on open.weixin.qq.com."
_GRANT = "The mini program's administrator must grant the permission set to the platform."
_ACCOUNT = "See the account's notices on open.weixin.qq.com and mp.weixin.qq.com."
_AGAIN = "Try again later; look first whether a call that adds something has acted."
_AUTHORISE = "Let the mini program's administrator authorise the platform again."
_CLOUD = "Check the arguments against errmsg; if they are right, look the code up in CloudBase's list of errors."
_RIGHTS = "Check what the environment allows its callers to do."
_MISSING = "Check that what the call names exists in this environment, and that the environment is NORMAL."
_PLAN = "The environment's own quota is used up; wait for its reset or raise its plan."
_FUNCTION = "See the function's log in the cloud console."
_REPORT = "wxtcb should not let this happen: please report it with the rid."

CODES: Final[Mapping[int, tuple[type[ApiError], str]]] = MappingProxyType(
    {
        -1: (Busy, _AGAIN),
        -1000: (CloudFault, _AGAIN),
        -501001: (CloudFault, _AGAIN),
        -501002: (CloudFault, _AGAIN),
        -502011: (CloudFault, _AGAIN),
        -601001: (CloudFault, _AGAIN),
        -601003: (CloudFault, _AGAIN),
        -501000: (CloudError, _CLOUD),
        -501005: (CloudError, "Check the environment id, and that the environment is NORMAL."),
        -501003: (CloudError, _PLAN),
        -501004: (CloudError, "Too many calls at once; lower `connections` and try again."),
        -501006: (CloudError, _CLOUD),
        -501007: (CloudError, "Check the arguments against errmsg."),
        -501008: (CloudError, _RIGHTS),
        -501009: (CloudError, _MISSING),
        -501015: (CloudError, _PLAN),
        -501016: (CloudError, _PLAN),
        -501017: (CloudError, _PLAN),
        -501018: (CloudError, _MISSING),
        -501019: (CloudError, _RIGHTS),
        -502001: (CloudError, _CLOUD),
        -502002: (CloudError, "Check the database statement."),
        -502003: (CloudError, _RIGHTS),
        -502005: (CloudError, _MISSING),
        -503001: (CloudError, _CLOUD),
        -503002: (CloudError, _RIGHTS),
        -503003: (CloudError, _MISSING),
        -504001: (CloudError, _FUNCTION),
        -504002: (CloudError, _FUNCTION),
        -601002: (CloudError, _CLOUD),
        40001: (TokenDead, _RENEW),
        40014: (TokenDead, _RENEW),
        40094: (TokenDead, _RENEW),
        42001: (TokenDead, _RENEW),
        40091: (TicketRefused, _TICKET),
        61005: (TicketRefused, "The ticket is older than 12 hours. " + _TICKET),
        61006: (TicketRefused, "The ticket is not one of this platform. " + _TICKET),
        40125: (SecretRefused, "Check component_appsecret; it may have been reset on open.weixin.qq.com."),
        45011: (MinuteLimit, "The path opens again with the next minute."),
        45009: (QuotaExhausted, "Wait for the reset (midnight China time is presumed), or clear the quota."),
        48006: (QuotaExhausted, "The ten quota resets of this month are used up; wait for the next month."),
        61004: (AddressNotAllowed, _ADDRESS),
        40164: (AddressNotAllowed, _ADDRESS),
        45035: (AddressNotAllowed, _ADDRESS),
        40090: (AddressNotAllowed, _ADDRESS),
        48001: (NotPermitted, "Ask for the right to this interface on open.weixin.qq.com."),
        61003: (NotPermitted, _AUTHORISE),
        61007: (NotPermitted, _GRANT),
        61016: (NotPermitted, "The granted permission set still waits for its confirmation."),
        61017: (NotPermitted, _GRANT),
        61028: (NotPermitted, "Publish the platform first."),
        50001: (NotPermitted, _AUTHORISE),
        76003: (NotPermitted, "The rid or path belongs to another account."),
        85088: (NotPermitted, "Switch on cloud development (batch mode) for the platform in its console first."),
        86000: (NotPermitted, "The call must be made by a platform on behalf of a mini program."),
        89503: (NotPermitted, "An administrator must confirm the address."),
        48004: (AccountBlocked, _ACCOUNT),
        50002: (AccountBlocked, _ACCOUNT),
        61011: (AccountBlocked, "Check component_appid, and that the platform is live. " + _ACCOUNT),
        40002: (RequestRefused, "Check the grant type."),
        40013: (RequestRefused, "Check the appid: it is malformed, unknown, or of another kind of account."),
        40029: (RequestRefused, "The authorisation code is not valid; let the administrator authorise again."),
        40066: (RequestRefused, "Check base_url: the platform does not know this path."),
        40097: (RequestRefused, "Check the arguments against errmsg and the platform's page of this call."),
        40101: (RequestRefused, "A field the platform requires is missing."),
        41001: (RequestRefused, "The request arrived without its token: a proxy may strip the query. " + _REPORT),
        41002: (RequestRefused, "The appid is missing."),
        41004: (RequestRefused, "The component_appsecret is missing."),
        41018: (RequestRefused, "The component_appid is missing."),
        42002: (RequestRefused, _AUTHORISE),
        42007: (RequestRefused, _AUTHORISE),
        43001: (RequestRefused, "The call must be a GET: a proxy may change the method. " + _REPORT),
        43002: (RequestRefused, "The call must be a POST: a proxy may change the method. " + _REPORT),
        43003: (RequestRefused, "Use an https base_url."),
        44002: (RequestRefused, "The request arrived without its body: a proxy may strip it. " + _REPORT),
        45002: (RequestRefused, "The request is too large: send fewer entries at once."),
        47001: (RequestRefused, "The platform cannot parse the request: a field has the wrong type or bad UTF-8."),
        61000: (RequestRefused, "The account is not a third-party platform of the right type."),
        61001: (RequestRefused, "The platform's type and appid do not match."),
        61009: (RequestRefused, "The authorisation code is not valid; let the administrator authorise again."),
        61010: (RequestRefused, "The authorisation code has expired; let the administrator authorise again."),
        61014: (RequestRefused, "The call needs the component_access_token, not another kind of token."),
        61015: (RequestRefused, "The call needs the account's own token, not the platform's."),
        61023: (RequestRefused, _AUTHORISE),
        61024: (RequestRefused, "A platform buys its token with getComponentAccessToken."),
        76001: (RequestRefused, "WeChat does not know this rid, or forgot it after 7 days."),
        76002: (RequestRefused, "The rid is empty or malformed."),
        76004: (RequestRefused, "WeChat keeps a rid for 7 days only."),
        76021: (RequestRefused, "Check the path asked about."),
        76022: (RequestRefused, "This kind of account does not own the path asked about."),
    }
)


def api_error(errcode: int, errmsg: str, *, endpoint: str, rid: str | None = None, tokenless: bool = False) -> ApiError:
    """Make the error of the class that *errcode* stands for, with the advice that goes with it.

    On a call that sends no token (*tokenless*) an invalid credential can only be the app secret.
    """
    default = CloudError if errcode <= -10000 else ApiError
    kind, advice = CODES.get(errcode, (default, "Unknown to wxtcb: look errcode and rid up in WeChat's documentation."))
    if tokenless and kind is TokenDead:
        kind, advice = CODES[40125]
    return kind(errcode, errmsg, endpoint=endpoint, rid=rid, advice=advice)
