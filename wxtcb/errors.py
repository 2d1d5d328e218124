"""Everything wxtcb raises.

    WxtcbError
    ├── InvalidArgument         refused before anything was sent (also a ValueError)
    ├── SendVetoed              `may_send` kept a call, or its next attempt, from being sent
    ├── SessionClosed           the session is not open, or no longer
    ├── WrongLoop               the session belongs to another event loop or process
    ├── TicketError             no usable component_verify_ticket
    │   ├── TicketMissing           none was received yet
    │   └── TicketExpired            the newest one is over 12 hours old
    ├── TokenFetchLimit            the hourly ceiling of minted tokens stopped another fetch
    ├── TokenConflict          another program keeps fetching tokens of this platform
    ├── TokenStoreError         the token store failed, or keeps something else
    ├── TransportError          no reply came; nothing was sent, or repeating is harmless
    ├── BadReply                a reply came that is not what the platform documents
    ├── OutcomeUnknown          a call that adds something was sent, and nobody knows how it ended
    ├── PartialFailure          errcode 0, but part of the batch failed
    ├── TransferError           a file did not get to, or out of, the object storage
    ├── OperationNotReady       waiting for what the platform does in its own time ended without it
    │   ├── OperationTimeout        in time (also a TimeoutError)
    │   ├── OperationFailed         the platform says that it failed
    │   ├── OperationNotFound           what was awaited is no longer, or never was, listed
    │   └── EnvironmentNotReady     waiting for NORMAL ended without it; each of these is one of the above too
    │       ├── EnvironmentTimeout
    │       ├── EnvironmentFailed       the platform stopped the environment
    │       └── EnvironmentNotFound
    └── ApiError                the platform answered with an errcode
        ├── PlatformBusy                    -1
        ├── CloudUnavailable              -1000 and the cloud codes that pass
        ├── InvalidToken               40001 40014 40094 42001
        ├── InvalidTicket           61005 61006 40091 (also a TicketError)
        ├── InvalidAppSecret           40125, and 40001 of the token call
        ├── RateLimited             45011
        ├── QuotaExceeded          45009 48006
        ├── IPNotAllowed       61004 40164 45035 40090
        ├── PermissionDenied            48001 85088 and the permission sets
        ├── AccountBlocked          48004 50002 61011
        ├── InvalidRequest          40097 40101 41001 44002 47001 and the like
        └── CloudError              other codes of cloud development

The codes and what to do about each stand in `wxtcb._protocol.errcodes`.
"""

from __future__ import annotations

import contextlib
import ipaddress
import re
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "AccountBlocked",
    "ApiError",
    "BadReply",
    "CloudError",
    "CloudUnavailable",
    "EnvironmentFailed",
    "EnvironmentNotFound",
    "EnvironmentNotReady",
    "EnvironmentTimeout",
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
    "SendVetoed",
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


class WxtcbError(Exception):
    """The base of all errors of wxtcb.

    `reason` says in short what went wrong; `endpoint` is the path of the call, if there was one. `maybe_acted` counts
    the attempts of a call that may have taken effect, the last one included; 0 means that it certainly did not.
    `retry_after`, where not None, is the number of seconds after which the next try makes sense. Errors can be copied
    and pickled.
    """

    reason: str
    endpoint: str | None
    maybe_acted: int
    retry_after: float | None

    def __init__(self, message: str, *, endpoint: str | None = None, reason: str | None = None) -> None:
        super().__init__(message)
        self.reason = reason or message
        self.endpoint = endpoint
        self.maybe_acted = 0
        self.retry_after = None

    def add_hint(self, hint: str) -> None:
        """Add a sentence to the message."""
        self.args = (f"{self} {hint}",)

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild_error, (type(self), self.args), self.__dict__


def _rebuild_error(error_class: type[WxtcbError], args: tuple[object, ...]) -> WxtcbError:
    error = error_class.__new__(error_class)
    error.args = args
    return error


class InvalidArgument(WxtcbError, ValueError):
    """An argument breaks a documented rule; nothing was sent."""


class SendVetoed(WxtcbError):
    """`may_send` of ``Session.with_options`` said no, so this attempt was not sent.

    Earlier attempts of the same call may have been: `maybe_acted` counts those that may have taken effect.
    """

    def __init__(self, *, endpoint: str) -> None:
        super().__init__(
            f"{endpoint}: withheld by may_send. This attempt was not sent.",
            endpoint=endpoint,
            reason="withheld by may_send",
        )


class SessionClosed(WxtcbError):
    """The session is not open: it was not entered yet, or it was closed while this call waited."""


class WrongLoop(WxtcbError):
    """The session was entered in another event loop or process; nothing was sent."""


class TicketError(WxtcbError):
    """There is no component_verify_ticket to buy a token with, or the platform refused the one there is.

    `transient`: the ticket source failed, which says nothing about the next try.
    """

    transient: bool = False


class TicketMissing(TicketError):
    """WeChat has not pushed a component_verify_ticket yet, or none was kept."""

    def __init__(self) -> None:
        super().__init__(
            "there is no component_verify_ticket yet, so no token can be bought; nothing was sent. WeChat pushes one "
            "every 10 minutes to the platform's authorisation-event URL; api.token.api_start_push_ticket (re)starts "
            "that."
        )


class TicketExpired(TicketError):
    """The newest component_verify_ticket is over 12 hours old: the push has stopped, or does not arrive.

    `age` is in seconds.
    """

    def __init__(self, age: float) -> None:
        super().__init__(
            f"the newest component_verify_ticket is {age / 3600:.1f} hours old, and one is good for 12; nothing was "
            "sent. See whether the receiver answers each push with exactly `success`, then restart the push with "
            "api.token.api_start_push_ticket."
        )
        self.age = age


class TokenFetchLimit(WxtcbError):
    """As many tokens as `max_fetches_per_hour` allows were minted in the last hour.

    Something voids the tokens: another program that fetches for the same platform, or a store that is not shared.
    `retry_after` says when the ceiling allows the next fetch.
    """

    def __init__(self, limit: int, retry_after: float) -> None:
        super().__init__(
            f"{limit} component_access_tokens were fetched within an hour, which is the ceiling, so no other is "
            f"fetched for {retry_after:.0f} s. Nothing was sent. Probably another program fetches tokens of this "
            "platform and voids ours: let all of them share one token_store, or raise max_fetches_per_hour."
        )
        self.retry_after = retry_after


class TokenConflict(WxtcbError):
    """Token after token was called "not latest": another program keeps fetching tokens of this platform.

    Each of its fetches voids our token, and each of ours the other's, so ours become rarer, up to a minute apart.
    `retry_after` says when the next one is due.
    """

    def __init__(self, conflicts: int, retry_after: float) -> None:
        super().__init__(
            f"{conflicts} component_access_tokens in a row were voided by somebody else, so another program seems to fetch "
            f"tokens of this platform; the next is fetched in {retry_after:.0f} s. Nothing was sent. Let all programs "
            "and processes share one token_store, or let one of them alone fetch."
        )
        self.retry_after = retry_after


class TokenStoreError(WxtcbError):
    """The token store did not answer in time, failed, or keeps what is no token record of this version.

    `permanent`: it would fail again until somebody mends it, so that no token is fetched without it either.
    """

    def __init__(self, reason: str, *, permanent: bool = False) -> None:
        super().__init__(f"the token store: {reason}. Nothing was sent. Look after the store.", reason=reason)
        self.permanent = permanent


class TransportError(WxtcbError):
    """No reply came.

    `bytes_sent` is False when the request cannot have reached the platform (DNS, refused, TLS), True when it may have;
    `timeout` tells whether a deadline of ours ended it.
    """

    def __init__(self, reason: str, *, endpoint: str, sent: bool, timeout: bool = False) -> None:
        effect = "It may have reached the platform." if sent else "Nothing was sent."
        super().__init__(f"{endpoint}: {reason}. {effect}", endpoint=endpoint, reason=reason)
        self.sent = sent
        self.timeout = timeout


class BadReply(WxtcbError):
    """The platform, or something between, answered with what is not a documented reply.

    `status` is the HTTP status; `permanent` is True where another try would give the same: a redirect (never followed),
    a reply over the size limit (not read to its end), a reply of another shape.
    """

    def __init__(self, reason: str, *, endpoint: str, status: int, permanent: bool = False) -> None:
        super().__init__(f"{endpoint}: HTTP {status}, {reason}.", endpoint=endpoint, reason=f"HTTP {status}, {reason}")
        self.status = status
        self.permanent = permanent


class OutcomeUnknown(WxtcbError):
    """A call that adds something each time left for the platform, and no answer says whether it acted.

    Look (for instance with `environment.describe_envs`) before you send it again. `cause` is the error that hid the
    answer.
    """

    def __init__(self, cause: WxtcbError, *, endpoint: str) -> None:
        super().__init__(
            f"{endpoint}: sent, but its outcome is unknown: {cause.reason}. Look whether it acted before sending it "
            "again.",
            endpoint=endpoint,
        )
        self.cause = cause


class PartialFailure(WxtcbError):
    """The platform answered errcode 0, but some parts of the batch failed.

    `reply` is the whole typed reply with the part that succeeded, `failed` the entries that did not. With
    ``partial="return"`` the reply is returned instead. `maybe_acted` counts the earlier attempts that may have acted
    too: an entry may have failed because one of them did it already. `cause`: a batch that went out in several calls
    was ended by this error in one of them, after others had been answered; it is raised in any case.
    """

    reply: Any  # of the class that the call would have returned, which a caller knows
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
        first = "; ".join(map(str, failed[:3]))
        more = f"; and {len(failed) - 3} more in .failed" if len(failed) > 3 else ""
        ended = f"; a later call ended with: {cause.reason}" if cause else ""
        earlier = f"; {maybe_acted} earlier attempts may have acted too: look" if maybe_acted else ""
        super().__init__(
            f"{endpoint}: errcode 0, but {len(failed)} failed, and all others took effect: "
            f"{first}{more}{ended}{earlier}",
            endpoint=endpoint,
        )
        self.reply = reply
        self.failed = tuple(failed)
        self.cause = cause
        self.maybe_acted = maybe_acted
        if cause is not None:
            self.retry_after, self.maybe_acted = cause.retry_after, cause.maybe_acted


class OperationNotReady(WxtcbError):
    """Waiting ended without what was awaited. `resource` names it, `status` is the last one seen, or None."""

    def __init__(self, message: str, *, resource: str, status: str | None) -> None:
        super().__init__(f"{resource}: {message}")
        self.resource = resource
        self.status = status


class OperationTimeout(OperationNotReady, TimeoutError):
    """It is still not ready when the time is up; it may become so later, so waiting again is fine."""


class OperationFailed(OperationNotReady):
    """It has a status that waiting does not change; the message says what the platform tells of it."""


class OperationNotFound(OperationNotReady):
    """It is missing from look after look: it was removed, or never existed."""


class EnvironmentNotReady(OperationNotReady):
    """An environment did not become NORMAL. `env` is its id, `status` the last one seen, or None."""

    def __init__(self, message: str, *, env: str, status: str | None) -> None:
        super().__init__(message, resource=f"environment {env}", status=status)
        self.env = env


class EnvironmentTimeout(EnvironmentNotReady, OperationTimeout):
    """The environment is still not NORMAL when the time is up; it may become so later, so waiting again is fine."""


class EnvironmentFailed(EnvironmentNotReady, OperationFailed):
    """The platform has stopped the environment (over quota or blocked); waiting will not help."""


class EnvironmentNotFound(EnvironmentNotReady, OperationNotFound):
    """The environment is missing from look after look: it was removed, or never existed."""


class TransferError(WxtcbError):
    """A file did not get to the object storage, or not out of it.

    `status` is the HTTP status of its answer, None where there was none; `code` and `request_id` are the object
    storage's own, out of the XML of its refusal, or None. `stored` tells whether the object of an upload exists: False,
    it does not, for some of it never left or it was refused (an older one of that name is as it was); True, a look
    right after found one with exactly its bytes; None, nobody knows, for all had left and the look did not find it yet,
    or it was a download. `bytes_sent` is how many bytes of the file went over. What your source, callback or disk raised is
    the ``__cause__``.
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
        self.status = status
        self.code = code
        self.request_id = request_id
        self.stored = stored
        self.bytes_sent = bytes_sent


class ApiError(WxtcbError):
    """The platform answered with an errcode other than 0.

    `errcode` and `errmsg` are the platform's, `rid` is the request id out of errmsg (kept by WeChat for 7 days), or
    None.
    """

    effect: ClassVar[str] = "It had no effect."
    errcode: int
    errmsg: str
    rid: str | None

    def __init__(self, errcode: int, errmsg: str, *, endpoint: str, rid: str | None = None, hint: str = "") -> None:
        reason = f"{errcode} {errmsg}"
        super().__init__(f"{endpoint}: {reason}. {self.effect} {hint}".rstrip(), endpoint=endpoint, reason=reason)
        self.errcode = errcode
        self.errmsg = errmsg
        self.rid = rid


class PlatformBusy(ApiError):
    """The platform is busy and asks to try again; whether this attempt acted is not known."""

    effect = "It may have taken effect."


class CloudUnavailable(ApiError):
    """The cloud behind the platform failed; whether this attempt acted is not known."""

    effect = "It may have taken effect."


class InvalidToken(ApiError):
    """The component_access_token of the call is wrong, expired or no longer the latest."""


class InvalidTicket(ApiError, TicketError):
    """The platform refuses the component_verify_ticket."""


class InvalidAppSecret(ApiError):
    """The platform refuses the component_appsecret."""


class RateLimited(ApiError):
    """The per-minute limit of this call is reached."""


class QuotaExceeded(ApiError):
    """A daily or monthly quota is used up."""


class IPNotAllowed(ApiError):
    """The address this machine calls from is not on the platform's list of allowed addresses.

    `ip` is the one that the platform saw, if its message names it.
    """

    @property
    def ip(self) -> str | None:
        """The address that the platform saw, or None."""
        return _find_ip_address(self.errmsg)


class PermissionDenied(ApiError):
    """The platform or the mini program lacks a permission."""


class AccountBlocked(ApiError):
    """The account or the platform is blocked, frozen or not live."""


class InvalidRequest(ApiError):
    """The platform refuses the request as it is; sent again it fails again."""


class CloudError(ApiError):
    """A code of cloud development (negative, five or six digits) that repeating does not mend."""


def _find_ip_address(text: str) -> str | None:
    """Return the first word of *text* that is an IP address."""
    for word in re.split(r"[^0-9A-Fa-f.:]+", text):
        with contextlib.suppress(ValueError):
            return str(ipaddress.ip_address(word.strip(".:") if "::" not in word else word))
    return None
