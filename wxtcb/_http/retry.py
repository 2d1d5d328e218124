"""Retry policy: decides whether a failed request may be sent again. Pure rules without clock or I/O.

`classify` sorts the error of an attempt into a `FailureKind`. `decide` combines it with the endpoint's `Repeat` into a
`RetryDecision`. `RetryPolicy` limits the attempts of one call and sets the delay between them. `RetryQuota` limits the
retries of a whole session, so that an unavailable platform is not flooded.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Final

import attrs

from wxtcb import errors
from wxtcb._protocol.endpoint import Repeat
from wxtcb.validation import check_positive_int, check_seconds, type_validator, validator

if TYPE_CHECKING:
    from collections.abc import Callable


class FailureKind(Enum):
    """Kind of a failed attempt, as far as a retry is concerned."""

    NOT_SENT = "never connected"
    INVALID_TOKEN = "the platform rejected the token"
    BUSY = "-1: system busy"
    CLOUD_UNAVAILABLE = "-1000 or a transient errcode of the cloud services"
    RATE_LIMITED = "45011: minute limit of the path"
    REPLY_LOST = "sent, but no usable reply arrived"
    INVALID_REPLY = "sent, but no usable reply; a retry would end in the same way"
    REJECTED = "rejected; a retry would be rejected again"
    UNCERTAIN = "an errcode that does not rule out an effect, and that a retry would not fix"

    @property
    def label(self) -> str:
        """The `reason` of events and metrics."""
        return self.name.lower()


class RetryDecision(Enum):
    """Consequence of a failed attempt."""

    RETRY = "retry after a backoff, within the retry limits"
    REFRESH_TOKEN = "resend with a newer token, outside of the retry limits"
    WAIT_FOR_RATE_LIMIT = "resend when the rate limit allows it, outside of the retry limits"
    RAISE = "raise the error"
    RAISE_OUTCOME_UNKNOWN = "raise OutcomeUnknown"


# The request was sent and may have taken effect. -1 is one of them: the platform asks for a retry, but that does not
# rule out an effect.
AMBIGUOUS_FAILURES: Final = frozenset(
    {
        FailureKind.BUSY,
        FailureKind.CLOUD_UNAVAILABLE,
        FailureKind.REPLY_LOST,
        FailureKind.INVALID_REPLY,
        FailureKind.UNCERTAIN,
    }
)
_API_FAILURE_KINDS: Final = (
    (errors.InvalidToken, FailureKind.INVALID_TOKEN),
    (errors.PlatformBusy, FailureKind.BUSY),
    (errors.CloudUnavailable, FailureKind.CLOUD_UNAVAILABLE),
    (errors.RateLimited, FailureKind.RATE_LIMITED),
)


def classify(error: errors.WxtcbError) -> FailureKind:
    """Return the kind of failure that *error*, raised by one attempt, stands for."""
    match error:
        # A programming error of the caller.
        case errors.TransportError(permanent=True):
            return FailureKind.INVALID_REPLY if error.sent else FailureKind.REJECTED
        case errors.TransportError():
            return FailureKind.REPLY_LOST if error.sent else FailureKind.NOT_SENT
        case errors.BadReply():
            if 400 <= error.status < 500:
                return FailureKind.REJECTED
            return FailureKind.INVALID_REPLY if error.permanent else FailureKind.REPLY_LOST
        case errors.TicketError(transient=True):
            # The call itself was not sent: it failed while a token was fetched for it.
            return FailureKind.NOT_SENT
        case errors.ApiError():
            other = FailureKind.UNCERTAIN if error.ambiguous else FailureKind.REJECTED
            return next((kind for cls, kind in _API_FAILURE_KINDS if isinstance(error, cls)), other)
        # Such as SendVetoed and SessionClosed: no request was sent, and a retry would fail in the same way.
        case _:
            return FailureKind.REJECTED


def decide(repeat: Repeat, failure: FailureKind, *, busy_creates: bool = True) -> RetryDecision:
    """Return what to do after *failure* of a call whose endpoint has the repeat rule *repeat*.

    With *busy_creates* False, -1 is not retried for `Repeat.ONCE`; its outcome counts as unknown.
    """
    match failure:
        case FailureKind.INVALID_TOKEN:
            return RetryDecision.REFRESH_TOKEN
        case FailureKind.RATE_LIMITED:
            return RetryDecision.WAIT_FOR_RATE_LIMIT
        case FailureKind.NOT_SENT:
            return RetryDecision.RETRY
        # An uncertain one is raised as it is: its errcode says more than `OutcomeUnknown`, and `maybe_acted` counts it.
        case FailureKind.REJECTED | FailureKind.UNCERTAIN:
            return RetryDecision.RAISE
        # The platform documents a retry at -1 even for calls that add something. `Repeat.NEVER` is excluded: only the
        # caller can judge whether such a call may be repeated.
        case FailureKind.BUSY if not repeat.is_unsafe_to_repeat or (busy_creates and repeat is Repeat.ONCE):
            return RetryDecision.RETRY
        case _ if repeat.is_unsafe_to_repeat:
            return RetryDecision.RAISE_OUTCOME_UNKNOWN
        case FailureKind.INVALID_REPLY:
            return RetryDecision.RAISE
        case _:
            return RetryDecision.RETRY


@attrs.frozen(kw_only=True)
class RetryPolicy:
    """Limits for the retries of one call.

    - `attempts`: maximum number of attempts of a call that is safe to repeat; 1 disables retries.
    - `once_attempts`: the same for a call that adds something, such as a create. It is retried only after failures that
      had no effect, and after -1.
    - `base`, `cap`: the delay after attempt n is drawn between 0 and ``min(cap, base * 2 ** (n - 1))`` seconds.
    - `window`: no attempt starts later than this many seconds after the first one. Time spent waiting for a slot, for
      the minute limit (45011) and for a token does not count.
    - `busy_creates`: whether a call that adds something is retried after -1, as the platform documents. If False,
      it raises `OutcomeUnknown`. Calls with `Repeat.NEVER` always do.

    `attempts` and `once_attempts` do not count attempts that are resent after an invalid token or the minute limit.
    """

    attempts: int = attrs.field(default=8, validator=validator(check_positive_int))
    once_attempts: int = attrs.field(default=5, validator=validator(check_positive_int))
    base: float = attrs.field(default=0.5, validator=validator(check_seconds))
    cap: float = attrs.field(default=8.0, validator=validator(check_seconds))
    window: float = attrs.field(default=60.0, validator=validator(check_seconds))
    busy_creates: bool = attrs.field(default=True, validator=type_validator(bool, optional=False))

    def max_attempts(self, repeat: Repeat) -> int:
        """Return the maximum number of attempts of a call with the repeat rule *repeat*."""
        return self.once_attempts if repeat.is_unsafe_to_repeat else self.attempts

    def backoff(self, attempt: int, uniform: Callable[[float, float], float]) -> float:
        """Return the seconds to wait after counted attempt number *attempt* (from 1); *uniform* draws the jitter."""
        # The exponent is bounded because `attempts` is not: 2.0 ** 1024 raises OverflowError.
        return uniform(0.0, min(self.cap, self.base * 2.0 ** min(attempt - 1, 64)))


@attrs.define(repr=False, eq=False)
class RetryQuota:
    """Quota for the retries of a whole session, so that an unavailable platform receives few of them.

    A retry takes 5 units, or 10 after a timeout. Every success returns 5, up to `capacity`.
    """

    capacity: int = 500
    available: int = attrs.field(init=False, default=attrs.Factory(lambda self: self.capacity, takes_self=True))

    def acquire_retry(self, error: errors.WxtcbError) -> bool:
        """Take the units for a retry after *error*; return False if too few are available."""
        cost = 10 if isinstance(error, errors.TransportError) and error.timeout else 5
        if self.available < cost:
            return False
        self.available -= cost
        return True

    def record_success(self) -> None:
        """Return units after a success, also of a call that spent none."""
        self.available = min(self.capacity, self.available + 5)
