"""Error codes: the exception class and the advice for each errcode of the platform.

Sources: the error code lists of WeChat's pages of the calls, the global return codes of the Open Platform, and the
error list of CloudBase for negative codes of six digits.
"""

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

_CREDENTIAL_REJECTED = "The token is wrong, expired or no longer the latest."
_WAIT_FOR_TICKET = "Wait for the next push (every 10 minutes), or request one with api.token.api_start_push_ticket."
_ALLOWED_IPS = "Add the address in errmsg to the platform's list of allowed addresses on open.weixin.qq.com."
_GRANT_PERMISSION = "The mini program's administrator must grant the permission set to the platform."
_ACCOUNT_NOTICES = "See the account's notices on open.weixin.qq.com and mp.weixin.qq.com."
_RETRY_LATER = "Try again later; check first whether a call that is not idempotent took effect."
_REAUTHORISE = "Ask the mini program's administrator to authorise the platform again."
_CHECK_ARGUMENTS = (
    "Check the arguments against errmsg; if they are correct, look up the code in CloudBase's error list."
)
_CHECK_PERMISSIONS = "Check the permissions that the environment grants to its callers."
_CHECK_EXISTENCE = "Check that the named resource exists in this environment, and that the environment is NORMAL."
_QUOTA_EXCEEDED = "The environment's own quota is exceeded; wait for its reset or upgrade its plan."
_FUNCTION_LOG = "See the function's log in the cloud console."
_REPORT_BUG = "If there is no such proxy, this is a bug in wxtcb: report it with the rid."

ERRCODES: Final[Mapping[int, tuple[type[ApiError], str]]] = MappingProxyType(
    {
        # Open Platform: busy, internal error
        -1: (PlatformBusy, _RETRY_LATER),
        -1000: (CloudUnavailable, _RETRY_LATER),
        # Cloud development: transient codes, which CloudBase lists as internal errors or timeouts
        -501001: (CloudUnavailable, _RETRY_LATER),
        -501002: (CloudUnavailable, _RETRY_LATER),
        -502011: (CloudUnavailable, _RETRY_LATER),
        -601001: (CloudUnavailable, _RETRY_LATER),
        -601003: (CloudUnavailable, _RETRY_LATER),
        # Cloud development: codes that a retry does not fix
        -501000: (CloudError, _CHECK_ARGUMENTS),
        -501005: (CloudError, "Check the environment id, and that the environment is NORMAL."),
        -501003: (CloudError, _QUOTA_EXCEEDED),
        -501004: (CloudError, "Too many concurrent calls; lower `connections` and try again."),
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
        # Credentials: token, ticket, app secret
        40001: (InvalidToken, _CREDENTIAL_REJECTED),
        40014: (InvalidToken, _CREDENTIAL_REJECTED),
        40094: (InvalidToken, _CREDENTIAL_REJECTED),
        42001: (InvalidToken, _CREDENTIAL_REJECTED),
        40091: (InvalidTicket, _WAIT_FOR_TICKET),
        61005: (InvalidTicket, "The ticket is older than 12 hours. " + _WAIT_FOR_TICKET),
        61006: (InvalidTicket, "The ticket does not belong to this platform. " + _WAIT_FOR_TICKET),
        40125: (InvalidAppSecret, "Check component_appsecret; it may have been reset on open.weixin.qq.com."),
        # Limits and quotas
        45011: (RateLimited, "The limit of this path is reset with the next minute."),
        45009: (QuotaExceeded, "Wait for the reset (presumably midnight, China time), or clear the quota."),
        48006: (QuotaExceeded, "The ten quota resets of this month are used up; wait for the next month."),
        # Allowed addresses, permissions, blocked accounts
        61004: (IPNotAllowed, _ALLOWED_IPS),
        40164: (IPNotAllowed, _ALLOWED_IPS),
        45035: (IPNotAllowed, _ALLOWED_IPS),
        40090: (IPNotAllowed, _ALLOWED_IPS),
        48001: (PermissionDenied, "Request the permission for this interface on open.weixin.qq.com."),
        61003: (PermissionDenied, _REAUTHORISE),
        61007: (PermissionDenied, _GRANT_PERMISSION),
        61016: (PermissionDenied, "The granted permission set is not confirmed yet."),
        61017: (PermissionDenied, _GRANT_PERMISSION),
        61028: (PermissionDenied, "Publish the platform first."),
        50001: (PermissionDenied, _REAUTHORISE),
        76003: (PermissionDenied, "The rid or path belongs to another account."),
        85088: (PermissionDenied, "Enable batch cloud development (批量云开发) for the platform in its console first."),
        86000: (PermissionDenied, "A platform must make this call on behalf of a mini program."),
        89503: (PermissionDenied, "An administrator must confirm the address."),
        48004: (AccountBlocked, _ACCOUNT_NOTICES),
        50002: (AccountBlocked, _ACCOUNT_NOTICES),
        61011: (AccountBlocked, "Check component_appid, and that the platform is live. " + _ACCOUNT_NOTICES),
        # Requests that fail again unchanged
        40002: (InvalidRequest, "Check the grant type."),
        40013: (InvalidRequest, "Check the appid: it is malformed, unknown, or of another kind of account."),
        40029: (InvalidRequest, "The authorisation code is invalid; ask the administrator to authorise again."),
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
        61009: (InvalidRequest, "The authorisation code is invalid; ask the administrator to authorise again."),
        61010: (InvalidRequest, "The authorisation code has expired; ask the administrator to authorise again."),
        61014: (InvalidRequest, "The call needs the component_access_token, not another kind of token."),
        61015: (InvalidRequest, "The call needs the account's own token, not the platform's."),
        61023: (InvalidRequest, _REAUTHORISE),
        61024: (InvalidRequest, "A platform fetches its token with getComponentAccessToken."),
        76001: (InvalidRequest, "WeChat does not know this rid, or has deleted it after 7 days."),
        76002: (InvalidRequest, "The rid is empty or malformed."),
        76004: (InvalidRequest, "WeChat stores a rid for 7 days only."),
        76021: (InvalidRequest, "Check the path in the query."),
        76022: (InvalidRequest, "This kind of account has no quota for the path in the query."),
    }
)


def api_error(
    errcode: int, errmsg: str, *, endpoint: str, rid: str | None = None, without_token: bool = False
) -> ApiError:
    """Return the error for *errcode*, with its advice in the message.

    With *without_token* the call sent no token, so an invalid credential is the app secret.
    """
    # Codes of five or more digits below zero are those of cloud development; a code of that range that is missing here
    # is still an error of the cloud, not of the Open Platform.
    default = CloudError if errcode <= -10000 else ApiError
    error_class, advice = ERRCODES.get(
        errcode, (default, "Unknown to wxtcb: look up errcode and rid in WeChat's documentation.")
    )
    if without_token and error_class is InvalidToken:
        error_class, advice = ERRCODES[40125]  # invalid app secret
    return error_class(errcode, errmsg, endpoint=endpoint, rid=rid, hint=advice)
