"""Error codes: the exception class and the advice for each errcode of the platform.

Sources: the error code lists of WeChat's pages of the calls, the global return codes of the Open Platform, and the
error list of CloudBase for negative codes of six digits.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from wxtcb import errors
from wxtcb._protocol.endpoint import Repeat

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

# The class decides what happens next: whether a call is retried (`wxtcb._http.retry`), whether a token is fetched again
# (`is_transient` in `wxtcb.tokens.providers`), and whether a provisioning run ends (`wxtcb.provision.error_policy`).
ERRCODES: Final[Mapping[int, tuple[type[errors.ApiError], str]]] = MappingProxyType(
    {
        # Open Platform: busy, internal error
        -1: (errors.PlatformBusy, _RETRY_LATER),
        -1000: (errors.CloudUnavailable, _RETRY_LATER),
        # Cloud development: transient codes, which CloudBase lists as internal errors or timeouts
        -501001: (errors.CloudUnavailable, _RETRY_LATER),
        -501002: (errors.CloudUnavailable, _RETRY_LATER),
        -502011: (errors.CloudUnavailable, _RETRY_LATER),
        -601001: (errors.CloudUnavailable, _RETRY_LATER),
        -601003: (errors.CloudUnavailable, _RETRY_LATER),
        # Cloud development: codes that a retry does not fix
        -501000: (errors.CloudError, _CHECK_ARGUMENTS),
        -501005: (errors.CloudError, "Check the environment id, and that the environment is NORMAL."),
        -501003: (errors.CloudError, _QUOTA_EXCEEDED),
        -501004: (errors.CloudError, "Too many concurrent calls; lower `connections` and try again."),
        -501006: (errors.CloudError, _CHECK_ARGUMENTS),
        -501007: (errors.CloudError, "Check the arguments against errmsg."),
        -501008: (errors.CloudError, _CHECK_PERMISSIONS),
        -501009: (errors.CloudError, _CHECK_EXISTENCE),
        -501015: (errors.CloudError, _QUOTA_EXCEEDED),
        -501016: (errors.CloudError, _QUOTA_EXCEEDED),
        -501017: (errors.CloudError, _QUOTA_EXCEEDED),
        -501018: (errors.CloudError, _CHECK_EXISTENCE),
        -501019: (errors.CloudError, _CHECK_PERMISSIONS),
        -502001: (errors.CloudError, _CHECK_ARGUMENTS),
        -502002: (errors.CloudError, "Check the database statement."),
        -502003: (errors.CloudError, _CHECK_PERMISSIONS),
        -502005: (errors.CloudError, _CHECK_EXISTENCE),
        -503001: (errors.CloudError, _CHECK_ARGUMENTS),
        -503002: (errors.CloudError, _CHECK_PERMISSIONS),
        -503003: (errors.CloudError, _CHECK_EXISTENCE),
        -504001: (errors.CloudError, _FUNCTION_LOG),
        -504002: (errors.CloudError, _FUNCTION_LOG),
        -601002: (errors.CloudError, _CHECK_ARGUMENTS),
        # Credentials: token, ticket, app secret
        40001: (errors.InvalidToken, _CREDENTIAL_REJECTED),
        40014: (errors.InvalidToken, _CREDENTIAL_REJECTED),
        40094: (errors.InvalidToken, _CREDENTIAL_REJECTED),
        42001: (errors.InvalidToken, _CREDENTIAL_REJECTED),
        42006: (errors.InvalidToken, _CREDENTIAL_REJECTED),
        40091: (errors.InvalidTicket, _WAIT_FOR_TICKET),
        61005: (errors.InvalidTicket, "The ticket is older than 12 hours. " + _WAIT_FOR_TICKET),
        61006: (errors.InvalidTicket, "The ticket does not belong to this platform. " + _WAIT_FOR_TICKET),
        40125: (errors.InvalidAppSecret, "Check component_appsecret; it may have been reset on open.weixin.qq.com."),
        # Limits and quotas
        45011: (errors.RateLimited, "The limit of this path is reset with the next minute."),
        45009: (errors.QuotaExceeded, "Wait for the reset (presumably midnight, China time), or clear the quota."),
        45040: (errors.QuotaExceeded, "The monthly quota of this call is used up; wait for the next month."),
        48006: (errors.QuotaExceeded, "The ten quota resets of this month are used up; wait for the next month."),
        # Allowed addresses, permissions, blocked accounts
        61004: (errors.IPNotAllowed, _ALLOWED_IPS),
        40164: (errors.IPNotAllowed, _ALLOWED_IPS),
        45035: (errors.IPNotAllowed, _ALLOWED_IPS),
        40090: (errors.IPNotAllowed, _ALLOWED_IPS),
        48001: (errors.PermissionDenied, "Request the permission for this interface on open.weixin.qq.com."),
        61003: (errors.PermissionDenied, _REAUTHORISE),
        61007: (errors.PermissionDenied, _GRANT_PERMISSION),
        61016: (errors.PermissionDenied, "The granted permission set is not confirmed yet."),
        61017: (errors.PermissionDenied, _GRANT_PERMISSION),
        61028: (errors.PermissionDenied, "Publish the platform first."),
        50001: (errors.PermissionDenied, _REAUTHORISE),
        76003: (errors.PermissionDenied, "The rid or path belongs to another account."),
        85088: (
            errors.PermissionDenied,
            "Enable batch cloud development (批量云开发) for the platform in its console first.",
        ),
        86000: (errors.PermissionDenied, "A platform must make this call on behalf of a mini program."),
        89503: (errors.PermissionDenied, "An administrator must confirm the address."),
        48004: (errors.AccountBlocked, _ACCOUNT_NOTICES),
        50002: (errors.AccountBlocked, _ACCOUNT_NOTICES),
        61011: (errors.AccountBlocked, "Check component_appid, and that the platform is live. " + _ACCOUNT_NOTICES),
        # Requests that fail again unchanged
        40002: (errors.InvalidRequest, "Check the grant type."),
        40013: (errors.InvalidRequest, "Check the appid: it is malformed, unknown, or of another kind of account."),
        40029: (errors.InvalidRequest, "The authorisation code is invalid; ask the administrator to authorise again."),
        40066: (errors.InvalidRequest, "Check base_url: the platform does not know this path."),
        40097: (errors.InvalidRequest, "Check the arguments against errmsg and the platform's page of this call."),
        40101: (errors.InvalidRequest, "A field the platform requires is missing."),
        41001: (
            errors.InvalidRequest,
            "The request arrived without its token: a proxy may strip the query. " + _REPORT_BUG,
        ),
        41002: (errors.InvalidRequest, "The appid is missing."),
        41004: (errors.InvalidRequest, "The component_appsecret is missing."),
        41018: (errors.InvalidRequest, "The component_appid is missing."),
        41021: (
            errors.InvalidRequest,
            "The request arrived without its component_access_token: a proxy may strip the query. " + _REPORT_BUG,
        ),
        42002: (errors.InvalidRequest, _REAUTHORISE),
        42007: (errors.InvalidRequest, _REAUTHORISE),
        43001: (errors.InvalidRequest, "The call must be a GET: a proxy may change the method. " + _REPORT_BUG),
        43002: (errors.InvalidRequest, "The call must be a POST: a proxy may change the method. " + _REPORT_BUG),
        43003: (errors.InvalidRequest, "Use an https base_url."),
        44002: (errors.InvalidRequest, "The request arrived without its body: a proxy may strip it. " + _REPORT_BUG),
        45002: (errors.InvalidRequest, "The request is too large: send fewer entries at once."),
        47001: (
            errors.InvalidRequest,
            "The platform cannot parse the request: a field has the wrong type or bad UTF-8.",
        ),
        61000: (errors.InvalidRequest, "The account is not a third-party platform of the right type."),
        61001: (errors.InvalidRequest, "The platform's type and appid do not match."),
        61009: (errors.InvalidRequest, "The authorisation code is invalid; ask the administrator to authorise again."),
        61010: (errors.InvalidRequest, "The authorisation code has expired; ask the administrator to authorise again."),
        61014: (errors.InvalidRequest, "The call needs the component_access_token, not another kind of token."),
        61015: (errors.InvalidRequest, "The call needs the account's own token, not the platform's."),
        61023: (errors.InvalidRequest, _REAUTHORISE),
        61024: (errors.InvalidRequest, "A platform fetches its token with getComponentAccessToken."),
        76001: (errors.InvalidRequest, "WeChat does not know this rid, or has deleted it after 7 days."),
        76002: (errors.InvalidRequest, "The rid is empty or malformed."),
        76004: (errors.InvalidRequest, "WeChat stores a rid for 7 days only."),
        76021: (errors.InvalidRequest, "Check the path in the query."),
        76022: (errors.InvalidRequest, "This kind of account has no quota for the path in the query."),
    }
)


# Codes that follow after the call has begun to act: -504001 and -504002 are failures of a function that was invoked.
AMBIGUOUS_ERRCODES: Final = frozenset({-501000, -504001, -504002})


def api_error(
    errcode: int,
    errmsg: str,
    *,
    endpoint: str,
    repeat: Repeat = Repeat.READ,
    rid: str | None = None,
    without_token: bool = False,
) -> errors.ApiError:
    """Return the error for *errcode*, with its advice in the message.

    *repeat* is that of the endpoint: a code that wxtcb does not know, or that may follow an effect, is ambiguous unless
    the call changes nothing. With *without_token* the call sent no token, so an invalid credential is the app secret.
    """
    # Codes of five or more digits below zero are those of cloud development; a code of that range that is missing here
    # is still an error of the cloud, not of the Open Platform.
    default = errors.CloudError if errcode <= -10000 else errors.ApiError
    ambiguous = errcode not in ERRCODES or errcode in AMBIGUOUS_ERRCODES
    error_class, advice = ERRCODES.get(
        errcode, (default, "Unknown to wxtcb: look up errcode and rid in WeChat's documentation.")
    )
    if without_token and error_class is errors.InvalidToken:
        error_class, advice = ERRCODES[40125]  # invalid app secret
    return error_class(
        errcode,
        errmsg,
        endpoint=endpoint,
        rid=rid,
        hint=advice,
        ambiguous=ambiguous and repeat is not Repeat.READ,
    )
