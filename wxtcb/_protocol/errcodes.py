"""What each errcode of the platform means: the class of its error, and what to do about it, in one table."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from wxtcb.errors import (
    AccountBlocked,
    ApiError,
    CloudError,
    CloudUnavailable,
    InvalidAppSecret,
    InvalidRequest,
    InvalidTicket,
    InvalidToken,
    IPNotAllowed,
    PermissionDenied,
    PlatformBusy,
    QuotaExceeded,
    RateLimited,
)

_INVALID_TOKEN = "The token is wrong, expired or no longer the latest."
_WAIT_FOR_TICKET = "Wait for the next push (every 10 minutes), or ask for one with api.token.api_start_push_ticket."
_ALLOWED_IPS = "Add the address in errmsg to the platform's list of allowed addresses on open.weixin.qq.com."
_GRANT_PERMISSION = "The mini program's administrator must grant the permission set to the platform."
_ACCOUNT_NOTICES = "See the account's notices on open.weixin.qq.com and mp.weixin.qq.com."
_RETRY_LATER = "Try again later; look first whether a call that adds something has acted."
_REAUTHORISE = "Let the mini program's administrator authorise the platform again."
_CHECK_ARGUMENTS = (
    "Check the arguments against errmsg; if they are right, look the code up in CloudBase's list of errors."
)
_CHECK_PERMISSIONS = "Check what the environment allows its callers to do."
_CHECK_EXISTENCE = "Check that what the call names exists in this environment, and that the environment is NORMAL."
_QUOTA_EXCEEDED = "The environment's own quota is used up; wait for its reset or raise its plan."
_FUNCTION_LOG = "See the function's log in the cloud console."
_REPORT_BUG = "wxtcb should not let this happen: please report it with the rid."

ERRCODES: Final[Mapping[int, tuple[type[ApiError], str]]] = MappingProxyType(
    {
        -1: (PlatformBusy, _RETRY_LATER),
        -1000: (CloudUnavailable, _RETRY_LATER),
        -501001: (CloudUnavailable, _RETRY_LATER),
        -501002: (CloudUnavailable, _RETRY_LATER),
        -502011: (CloudUnavailable, _RETRY_LATER),
        -601001: (CloudUnavailable, _RETRY_LATER),
        -601003: (CloudUnavailable, _RETRY_LATER),
        -501000: (CloudError, _CHECK_ARGUMENTS),
        -501005: (CloudError, "Check the environment id, and that the environment is NORMAL."),
        -501003: (CloudError, _QUOTA_EXCEEDED),
        -501004: (CloudError, "Too many calls at once; lower `connections` and try again."),
        -501006: (CloudError, _CHECK_ARGUMENTS),
        -501007: (CloudError, "Check the arguments against errmsg."),
        -501008: (CloudError, _CHECK_PERMISSIONS),
        -501009: (CloudError, _CHECK_EXISTENCE),
        -501015: (CloudError, _QUOTA_EXCEEDED),
        -501016: (CloudError, _QUOTA_EXCEEDED),
        -501017: (CloudError, _QUOTA_EXCEEDED),
        -501018: (CloudError, _CHECK_EXISTENCE),
        -501019: (CloudError, _CHECK_PERMISSIONS),
        -502001: (CloudError, _CHECK_ARGUMENTS),
        -502002: (CloudError, "Check the database statement."),
        -502003: (CloudError, _CHECK_PERMISSIONS),
        -502005: (CloudError, _CHECK_EXISTENCE),
        -503001: (CloudError, _CHECK_ARGUMENTS),
        -503002: (CloudError, _CHECK_PERMISSIONS),
        -503003: (CloudError, _CHECK_EXISTENCE),
        -504001: (CloudError, _FUNCTION_LOG),
        -504002: (CloudError, _FUNCTION_LOG),
        -601002: (CloudError, _CHECK_ARGUMENTS),
        40001: (InvalidToken, _INVALID_TOKEN),
        40014: (InvalidToken, _INVALID_TOKEN),
        40094: (InvalidToken, _INVALID_TOKEN),
        42001: (InvalidToken, _INVALID_TOKEN),
        40091: (InvalidTicket, _WAIT_FOR_TICKET),
        61005: (InvalidTicket, "The ticket is older than 12 hours. " + _WAIT_FOR_TICKET),
        61006: (InvalidTicket, "The ticket is not one of this platform. " + _WAIT_FOR_TICKET),
        40125: (InvalidAppSecret, "Check component_appsecret; it may have been reset on open.weixin.qq.com."),
        45011: (RateLimited, "The path opens again with the next minute."),
        45009: (QuotaExceeded, "Wait for the reset (midnight China time is presumed), or clear the quota."),
        48006: (QuotaExceeded, "The ten quota resets of this month are used up; wait for the next month."),
        61004: (IPNotAllowed, _ALLOWED_IPS),
        40164: (IPNotAllowed, _ALLOWED_IPS),
        45035: (IPNotAllowed, _ALLOWED_IPS),
        40090: (IPNotAllowed, _ALLOWED_IPS),
        48001: (PermissionDenied, "Ask for the right to this interface on open.weixin.qq.com."),
        61003: (PermissionDenied, _REAUTHORISE),
        61007: (PermissionDenied, _GRANT_PERMISSION),
        61016: (PermissionDenied, "The granted permission set still waits for its confirmation."),
        61017: (PermissionDenied, _GRANT_PERMISSION),
        61028: (PermissionDenied, "Publish the platform first."),
        50001: (PermissionDenied, _REAUTHORISE),
        76003: (PermissionDenied, "The rid or path belongs to another account."),
        85088: (PermissionDenied, "Switch on cloud development (batch mode) for the platform in its console first."),
        86000: (PermissionDenied, "The call must be made by a platform on behalf of a mini program."),
        89503: (PermissionDenied, "An administrator must confirm the address."),
        48004: (AccountBlocked, _ACCOUNT_NOTICES),
        50002: (AccountBlocked, _ACCOUNT_NOTICES),
        61011: (AccountBlocked, "Check component_appid, and that the platform is live. " + _ACCOUNT_NOTICES),
        40002: (InvalidRequest, "Check the grant type."),
        40013: (InvalidRequest, "Check the appid: it is malformed, unknown, or of another kind of account."),
        40029: (InvalidRequest, "The authorisation code is not valid; let the administrator authorise again."),
        40066: (InvalidRequest, "Check base_url: the platform does not know this path."),
        40097: (InvalidRequest, "Check the arguments against errmsg and the platform's page of this call."),
        40101: (InvalidRequest, "A field the platform requires is missing."),
        41001: (InvalidRequest, "The request arrived without its token: a proxy may strip the query. " + _REPORT_BUG),
        41002: (InvalidRequest, "The appid is missing."),
        41004: (InvalidRequest, "The component_appsecret is missing."),
        41018: (InvalidRequest, "The component_appid is missing."),
        42002: (InvalidRequest, _REAUTHORISE),
        42007: (InvalidRequest, _REAUTHORISE),
        43001: (InvalidRequest, "The call must be a GET: a proxy may change the method. " + _REPORT_BUG),
        43002: (InvalidRequest, "The call must be a POST: a proxy may change the method. " + _REPORT_BUG),
        43003: (InvalidRequest, "Use an https base_url."),
        44002: (InvalidRequest, "The request arrived without its body: a proxy may strip it. " + _REPORT_BUG),
        45002: (InvalidRequest, "The request is too large: send fewer entries at once."),
        47001: (InvalidRequest, "The platform cannot parse the request: a field has the wrong type or bad UTF-8."),
        61000: (InvalidRequest, "The account is not a third-party platform of the right type."),
        61001: (InvalidRequest, "The platform's type and appid do not match."),
        61009: (InvalidRequest, "The authorisation code is not valid; let the administrator authorise again."),
        61010: (InvalidRequest, "The authorisation code has expired; let the administrator authorise again."),
        61014: (InvalidRequest, "The call needs the component_access_token, not another kind of token."),
        61015: (InvalidRequest, "The call needs the account's own token, not the platform's."),
        61023: (InvalidRequest, _REAUTHORISE),
        61024: (InvalidRequest, "A platform buys its token with getComponentAccessToken."),
        76001: (InvalidRequest, "WeChat does not know this rid, or forgot it after 7 days."),
        76002: (InvalidRequest, "The rid is empty or malformed."),
        76004: (InvalidRequest, "WeChat keeps a rid for 7 days only."),
        76021: (InvalidRequest, "Check the path asked about."),
        76022: (InvalidRequest, "This kind of account does not own the path asked about."),
    }
)


def api_error(
    errcode: int, errmsg: str, *, endpoint: str, rid: str | None = None, without_token: bool = False
) -> ApiError:
    """Make the error of the class that *errcode* stands for, with the advice that goes with it.

    On a call that sends no token (*tokenless*) an invalid credential can only be the app secret.
    """
    default = CloudError if errcode <= -10000 else ApiError
    kind, advice = ERRCODES.get(
        errcode, (default, "Unknown to wxtcb: look errcode and rid up in WeChat's documentation.")
    )
    if without_token and kind is InvalidToken:
        kind, advice = ERRCODES[40125]
    return kind(errcode, errmsg, endpoint=endpoint, rid=rid, hint=advice)
