"""Exceptions: every error that wxtcb raises.

    WxtcbError
    ├── InvalidArgument         an argument breaks a documented rule; no request was sent (also a ValueError)
    ├── SendVetoed              internal: provisioning prevented a call, or its next attempt, from being sent
    ├── SessionClosed           the session is not open yet, or closed
    ├── WrongLoop               the session belongs to another event loop or process
    ├── TicketError             no usable component_verify_ticket (验证票据)
    │   ├── TicketMissing           none was received yet
    │   └── TicketExpired           the newest one is over 12 hours old
    ├── TokenFetchLimit         the hourly limit of fetched tokens prevented another fetch
    ├── TokenConflict           another program keeps fetching tokens of this platform
    ├── TokenStoreError         the token store failed, or contains data that cannot be read
    ├── TransportError          no response; no request was sent, or repeating it is harmless
    ├── BadReply                a response that is not what the platform documents
    ├── OutcomeUnknown          a call that is not idempotent was sent, and its outcome is unknown
    ├── PartialFailure          errcode 0, but part of the batch failed
    ├── TransferError           an upload to, or a download from, the object storage failed
    ├── OperationNotReady       waiting for a slow operation of the platform failed
    │   ├── OperationTimeout        it did not become ready in time (also a TimeoutError)
    │   ├── OperationFailed         the platform reports a failure
    │   └── OperationNotFound       it is no longer listed, or never was
    └── ApiError                the platform answered with an errcode
        ├── PlatformBusy            -1
        ├── CloudUnavailable        -1000 and the transient cloud codes
        ├── InvalidToken            40001 40014 40094 42001 42006
        ├── InvalidTicket           61005 61006 40091 (also a TicketError)
        ├── InvalidAppSecret        40125, and 40001 of the token call
        ├── RateLimited             45011
        ├── QuotaExceeded           45009 45040 48006
        ├── IPNotAllowed            61004 40164 45035 40090
        ├── PermissionDenied        48001 85088 and the permission sets
        ├── AccountBlocked          48004 50002 61011
        ├── InvalidRequest          40097 40101 41001 44002 47001 and similar codes
        └── CloudError              other codes of cloud development

The class of each errcode, and the advice for it: `wxtcb._protocol.errcodes`.
"""

from __future__ import annotations

import contextlib
import ipaddress
import re
from typing import TYPE_CHECKING, Any, Final

from wxtcb.secret import escape_unprintable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = [
    "AccountBlocked",
    "ApiError",
    "BadReply",
    "CloudError",
    "CloudUnavailable",
    "IPNotAllowed",
    "InvalidAppSecret",
    "InvalidArgument",
    "InvalidRequest",
    "InvalidTicket",
    "InvalidToken",
    "OperationFailed",
    "OperationNotFound",
    "OperationNotReady",
    "OperationTimeout",
    "OutcomeUnknown",
    "PartialFailure",
    "PermissionDenied",
    "PlatformBusy",
    "QuotaExceeded",
    "RateLimited",
    "SessionClosed",
    "TicketError",
    "TicketExpired",
    "TicketMissing",
    "TokenConflict",
    "TokenFetchLimit",
    "TokenStoreError",
    "TransferError",
    "TransportError",
    "WrongLoop",
    "WxtcbError",
]

# Characters of an errmsg, or of a reason in a batch, that an error keeps. `wxtcb.LIMITS` lists all limits.
MAX_ERRMSG_LENGTH: Final = 2048


class WxtcbError(Exception):
    """Base class of all errors of wxtcb.

    `reason` is a short description of the failure. `endpoint` is the path of the call, or None. `maybe_acted` counts
    the attempts of the call that may have taken effect, including the last one; 0 means that none did.
    `retry_after` is the number of seconds to wait before the next attempt, or None if no such time is known. Errors
    can be copied and pickled.
    """

    reason: str
    endpoint: str | None
    maybe_acted: int
    retry_after: float | None

    def __init__(self, message: str, *, endpoint: str | None = None, reason: str | None = None) -> None:
        super().__init__(message)
        self.reason, self.endpoint = reason or message, endpoint
        self.maybe_acted, self.retry_after = 0, None

    def add_hint(self, hint: str) -> None:
        """Append a sentence to the message."""
        self.args = (f"{self} {hint}",)

    # `BaseException.__reduce__` calls the class with `args`, which is the message alone. The classes below take other
    # arguments, so an error is rebuilt without calling `__init__`.
    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild_error, (type(self), self.args), self.__dict__


def _rebuild_error(error_class: type[WxtcbError], args: tuple[object, ...]) -> WxtcbError:
    error = error_class.__new__(error_class)
    error.args = args
    return error


class InvalidArgument(WxtcbError, ValueError):
    """An argument that breaks a documented rule; no request was sent."""


class SendVetoed(WxtcbError):
    """An attempt that was not sent, because the `may_send` function of its call did not return True; internal.

    Earlier attempts of the same call may have been sent: `maybe_acted` counts those that may have taken effect.
    """

    def __init__(self, *, endpoint: str) -> None:
        super().__init__(
            f"{endpoint}: vetoed by may_send. This attempt was not sent.",
            endpoint=endpoint,
            reason="vetoed by may_send",
        )


class SessionClosed(WxtcbError):
    """A session that is not open: not entered yet, already closed, or closed while this call was waiting."""


class WrongLoop(WxtcbError):
    """A session that was entered in another event loop or process; no request was sent."""


class TicketError(WxtcbError):
    """No usable component_verify_ticket (验证票据), so no token can be fetched.

    `transient` is True if the ticket source failed in a way that may succeed at the next attempt.
    """

    transient: bool = False


class TicketMissing(TicketError):
    """No component_verify_ticket was received from WeChat yet, or none was stored."""

    def __init__(self) -> None:
        super().__init__(
            "there is no component_verify_ticket yet, so no token can be fetched; no request was sent. WeChat pushes "
            "one every 10 minutes to the platform's authorisation event URL (授权事件接收URL); "
            "api.token.api_start_push_ticket starts or restarts the push."
        )


class TicketExpired(TicketError):
    """A newest component_verify_ticket over 12 hours old: the push has stopped, or does not arrive.

    `age` is in seconds.
    """

    def __init__(self, age: float) -> None:
        super().__init__(
            f"the newest component_verify_ticket is {age / 3600:.1f} hours old, but a ticket is valid for 12 hours; no "
            "request was sent. Check that the receiver answers each push with exactly `success`, then restart the push "
            "with api.token.api_start_push_ticket."
        )
        self.age = age


class TokenFetchLimit(WxtcbError):
    """The limit `max_fetches_per_hour` is reached.

    Something invalidates the tokens: another program that fetches tokens of the same platform, or a token store that
    is not shared. `retry_after` is the number of seconds until the limit allows the next fetch.
    """

    def __init__(self, limit: int, retry_after: float) -> None:
        super().__init__(
            f"{limit} component_access_tokens were fetched within an hour, which is the limit; the next fetch is "
            f"allowed in {retry_after:.0f} s. No request was sent. Another program probably fetches tokens of this "
            "platform, and each of its fetches invalidates the current token: let all programs share one token_store, "
            "or raise max_fetches_per_hour."
        )
        self.retry_after = retry_after


class TokenConflict(WxtcbError):
    """Several tokens in a row rejected as "not latest": another program keeps fetching tokens of this platform.

    A fetch by either program invalidates the token of the other. Fetches of this program are therefore delayed, by up
    to a minute. `retry_after` is the number of seconds until the next one.
    """

    def __init__(self, conflicts: int, retry_after: float) -> None:
        super().__init__(
            f"{conflicts} component_access_tokens in a row were invalidated from outside, so another program seems to "
            f"fetch tokens of this platform; the next fetch is in {retry_after:.0f} s. No request was sent. Let all "
            "programs and processes share one token_store, or let only one of them fetch tokens."
        )
        self.retry_after = retry_after


class TokenStoreError(WxtcbError):
    """A token store that did not answer in time, failed, or contains data that this version cannot read.

    `permanent` is True if every retry would fail until the store is fixed. Then no token is fetched without it.
    """

    def __init__(self, reason: str, *, permanent: bool = False) -> None:
        super().__init__(f"token store: {reason}. No request was sent. Check the store.", reason=reason)
        self.permanent = permanent


class TransportError(WxtcbError):
    """No response was received.

    `sent` is False if the request cannot have reached the platform (DNS, connection refused, TLS), and True if it may
    have. `timeout` is True if `Timeout` of the session ended the attempt. `permanent` is True if a retry would fail in
    the same way: a tracing callback, a connector or a mock that was passed to aiohttp has raised a programming error
    such as KeyError, or any exception after the request was sent.
    """

    def __init__(
        self, reason: str, *, endpoint: str, sent: bool, timeout: bool = False, permanent: bool = False
    ) -> None:
        effect = "It may have reached the platform." if sent else "No request was sent."
        advice = " A retry would fail in the same way." if permanent else ""
        super().__init__(f"{endpoint}: {reason}. {effect}{advice}", endpoint=endpoint, reason=reason)
        self.sent, self.timeout, self.permanent = sent, timeout, permanent


class BadReply(WxtcbError):
    """A response, of the platform or of a proxy, that the platform does not document.

    `status` is the HTTP status. `permanent` is True if a retry would give the same response: a redirect (never
    followed), a response over the size limit (not read to its end), a reply with missing or mistyped fields.

    `reply` is the JSON object of a success that cannot be read, for a call that adds something: it may be the only
    proof of what was added. Secrets in it are redacted, and of a large one only the short fields are kept. Otherwise
    None.
    """

    def __init__(
        self,
        reason: str,
        *,
        endpoint: str,
        status: int,
        permanent: bool = False,
        reply: Mapping[str, object] | None = None,
    ) -> None:
        hint = " The JSON of the reply is in .reply." if reply else ""
        # The platform answers errors with status 200 as well.
        hint += "" if status == 200 else " Is base_url right?"
        reason = f"HTTP {status}, {reason}"
        super().__init__(f"{endpoint}: {reason}.{hint}", endpoint=endpoint, reason=reason)
        self.status, self.permanent, self.reply = status, permanent, reply


class OutcomeUnknown(WxtcbError):
    """A call that is not idempotent was sent, and no response says whether it took effect.

    Check whether it took effect, for instance with `environment.describe_envs`, before retrying. `cause` is the error
    that replaced the response. `rid` is that of the cause, or None. `reply` is the JSON of a success that cannot be
    read, as in `BadReply`, or None.
    """

    # `cause` is an attribute because pickle drops `__cause__`.
    def __init__(self, cause: WxtcbError, *, endpoint: str) -> None:
        advice = "Check whether it took effect before retrying."
        reply: Mapping[str, object] | None = getattr(cause, "reply", None)
        if reply and reply.get("errcode") == 0:
            advice = "The platform reported a success; what it replied is in .reply. Do not retry."
        super().__init__(
            f"{endpoint}: sent, but its outcome is unknown: {cause.reason}. {advice}",
            endpoint=endpoint,
        )
        self.cause = cause
        self.rid: str | None = getattr(cause, "rid", None)
        self.reply = reply


class PartialFailure(WxtcbError):
    """A reply with errcode 0 whose batch failed in part.

    `reply` is the typed reply, including the entries that succeeded. `failed` contains the entries that did not. With
    ``partial="return"`` the reply is returned instead. `maybe_acted` counts the earlier attempts that may have taken
    effect: an entry may have failed because an earlier attempt had already done the work. `cause` is the error that
    ended a batch which is sent in several calls; such a failure is raised with every value of `partial`.
    """

    # The class of the reply is that of the call, which the caller knows and a type checker cannot.
    reply: Any
    failed: tuple[Any, ...]
    cause: WxtcbError | None

    def __init__(
        self,
        reply: object,
        failed: Sequence[object],
        *,
        endpoint: str,
        cause: WxtcbError | None = None,
        maybe_acted: int = 0,
    ) -> None:
        # A batch may have thousands of entries; the message quotes three of them.
        first = "; ".join(str(each)[:MAX_ERRMSG_LENGTH] for each in failed[:3])
        more = f"; and {len(failed) - 3} more in .failed" if len(failed) > 3 else ""
        ended = f"; a later call failed: {cause.reason}" if cause else ""
        attempts = "1 earlier attempt" if maybe_acted == 1 else f"{maybe_acted} earlier attempts"
        earlier = f"; {attempts} may have taken effect too: check" if maybe_acted else ""
        super().__init__(
            f"{endpoint}: errcode 0, but {len(failed)} failed, and all others took effect: "
            f"{first}{more}{ended}{earlier}",
            endpoint=endpoint,
        )
        self.reply, self.failed, self.cause, self.maybe_acted = reply, tuple(failed), cause, maybe_acted
        if cause is not None:
            self.retry_after, self.maybe_acted = cause.retry_after, cause.maybe_acted


class TransferError(WxtcbError):
    """A failed upload to, or download from, the object storage.

    `status` is the HTTP status of the response, or None without a response. `code` and `request_id` are those of the
    object storage's XML error, or None. `bytes_sent` is the number of bytes of the file that were transferred. An
    exception of your source, of your callback or of the disk is the ``__cause__``.

    `stored` reports whether an upload created its object:

    - False: it did not. The upload was incomplete or rejected; an older object of that name is unchanged.
    - True: a check right after the upload found an object with exactly these bytes.
    - None: unknown. All bytes were sent and the check did not find the object yet; or this is a download.
    """

    def __init__(
        self,
        message: str,
        *,
        reason: str | None = None,
        status: int | None = None,
        code: str | None = None,
        request_id: str | None = None,
        stored: bool | None = False,
        bytes_sent: int = 0,
    ) -> None:
        super().__init__(message, reason=reason)
        self.status, self.code, self.request_id = status, code, request_id
        self.stored, self.bytes_sent = stored, bytes_sent


class OperationNotReady(WxtcbError):
    """An operation of the platform that did not become ready.

    `resource` names what was waited for, for instance "environment e-1" or "import job 7". `status` is its last known
    status, or None. `env` is the id of the environment if the wait was for an environment itself, else None.
    """

    def __init__(self, message: str, *, resource: str, status: str | None, env: str | None = None) -> None:
        # The message may contain a reason of the platform, of any length.
        super().__init__(escape_unprintable(f"{resource}: {message}"[:MAX_ERRMSG_LENGTH]))
        self.resource, self.status, self.env = resource, status, env


class OperationTimeout(OperationNotReady, TimeoutError):
    """An operation that is not ready after the timeout; it may become ready later, so you may wait again."""


class OperationFailed(OperationNotReady):
    """An operation whose status is final and not the expected one; the message contains the platform's reason."""


class OperationNotFound(OperationNotReady):
    """A resource missing from several polls in a row: it was removed, or never existed."""


class ApiError(WxtcbError):
    """A response with an errcode other than 0.

    `errcode` and `errmsg` are the platform's. `rid` is the request id out of errmsg, or None; WeChat's console finds
    a failed request by it for 7 days. `ambiguous` is True if this attempt may have taken effect: the code says so, or
    nothing is known about it.
    """

    ambiguous: bool = False
    errcode: int
    errmsg: str
    rid: str | None

    def __init__(
        self,
        errcode: int,
        errmsg: str,
        *,
        endpoint: str,
        rid: str | None = None,
        hint: str = "",
        ambiguous: bool = False,
    ) -> None:
        if ambiguous:
            self.ambiguous = True
        effect = "It may have taken effect." if self.ambiguous else "It had no effect."
        reason = f"{errcode} {errmsg}"
        super().__init__(f"{endpoint}: {reason}. {effect} {hint}".rstrip(), endpoint=endpoint, reason=reason)
        self.errcode, self.errmsg, self.rid = errcode, errmsg, rid


class PlatformBusy(ApiError):
    """The platform is busy and asks for a retry; this attempt may have taken effect."""

    # The platform documents -1 as "try again later"; it does not promise that the attempt had no effect.
    ambiguous = True


class CloudUnavailable(ApiError):
    """The cloud behind the platform failed; this attempt may have taken effect."""

    ambiguous = True


class InvalidToken(ApiError):
    """The component_access_token of the call is wrong, expired or no longer the latest."""


class InvalidTicket(ApiError, TicketError):
    """The platform rejected the component_verify_ticket."""


class InvalidAppSecret(ApiError):
    """The platform rejected the component_appsecret."""


class RateLimited(ApiError):
    """The per-minute limit of this call is reached."""


class QuotaExceeded(ApiError):
    """A daily or monthly quota is exceeded."""


class IPNotAllowed(ApiError):
    """The IP address of this machine is not on the platform's list of allowed addresses."""

    @property
    def ip(self) -> str | None:
        """The address that the platform saw, or None if its message does not contain one."""
        for word in re.split(r"[^0-9A-Fa-f.:]+", self.errmsg):
            with contextlib.suppress(ValueError):
                # Punctuation may surround the address ("ip 1.2.3.4: not in whitelist"), but "::" begins and ends
                # valid IPv6 addresses.
                return str(ipaddress.ip_address(word if "::" in word else word.strip(".:")))
        return None


class PermissionDenied(ApiError):
    """The platform or the mini program lacks a permission."""


class AccountBlocked(ApiError):
    """The account or the platform is blocked, frozen or not live."""


class InvalidRequest(ApiError):
    """The platform rejected the request; an unchanged retry fails again."""


class CloudError(ApiError):
    """A cloud development code (negative, five or six digits) that a retry does not fix."""
