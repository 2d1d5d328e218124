"""May it be tried again? Pure rules: no clock, no I/O.

A failed attempt has a `FailureKind`; `decide` turns the cause and the endpoint's `Repeat` into a `RetryDecision`; `RetryPolicy` says
how often and how soon; `RetryQuota` keeps a dead platform from being flooded.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Final

import attrs

from wxtcb._protocol.endpoint import Repeat
from wxtcb.errors import (
    ApiError,
    BadReply,
    CloudUnavailable,
    InvalidToken,
    PlatformBusy,
    RateLimited,
    TicketError,
    TransportError,
    WxtcbError,
)
from wxtcb.validation import check_positive_int, check_seconds, type_validator, validator

if TYPE_CHECKING:
    from collections.abc import Callable


class FailureKind(Enum):
    """What went wrong, as far as repeating is concerned."""

    NOT_SENT = "never connected"
    INVALID_TOKEN = "the token is dead"
    BUSY = "-1"
    CLOUD_UNAVAILABLE = "-1000 or a cloud code that passes"
    RATE_LIMITED = "45011"
    REPLY_LOST = "sent, and no usable answer came"
    INVALID_REPLY = "an answer of no use that would come again"
    REJECTED = "an answer that repeating does not change"

    @property
    def label(self) -> str:
        """The name that events give it."""
        return self.name.lower()


class RetryDecision(Enum):
    """What becomes of a failed attempt."""

    RETRY = "try again, within the budget"
    REFRESH_TOKEN = "send again with a newer token, outside the budget"
    WAIT_FOR_RATE_LIMIT = "send again when the path opens, outside the budget"
    RAISE = "raise the error"
    RAISE_OUTCOME_UNKNOWN = "raise OutcomeUnknown"


AMBIGUOUS_FAILURES: Final = frozenset(
    {FailureKind.BUSY, FailureKind.CLOUD_UNAVAILABLE, FailureKind.REPLY_LOST, FailureKind.INVALID_REPLY}
)
_API_FAILURE_KINDS: Final = (
    (InvalidToken, FailureKind.INVALID_TOKEN),
    (PlatformBusy, FailureKind.BUSY),
    (CloudUnavailable, FailureKind.CLOUD_UNAVAILABLE),
    (RateLimited, FailureKind.RATE_LIMITED),
)


def classify(error: WxtcbError) -> FailureKind:
    """Sort the error of one attempt."""
    match error:
        case TransportError():
            return FailureKind.REPLY_LOST if error.sent else FailureKind.NOT_SENT
        case BadReply():
            return _classify_bad_reply(error)
        case TicketError(transient=True):
            return FailureKind.NOT_SENT
        case ApiError():
            return next((cause for kind, cause in _API_FAILURE_KINDS if isinstance(error, kind)), FailureKind.REJECTED)
        case _:
            return FailureKind.REJECTED


def _classify_bad_reply(error: BadReply) -> FailureKind:
    if 400 <= error.status < 500:
        return FailureKind.REJECTED
    return FailureKind.INVALID_REPLY if error.permanent else FailureKind.REPLY_LOST


def decide(repeat: Repeat, failure: FailureKind, *, busy_creates: bool = True) -> RetryDecision:
    """Say what becomes of an attempt that ended for *cause*, on a call that behaves as *repeat* when repeated."""
    match failure:
        case FailureKind.INVALID_TOKEN:
            return RetryDecision.REFRESH_TOKEN
        case FailureKind.RATE_LIMITED:
            return RetryDecision.WAIT_FOR_RATE_LIMIT
        case FailureKind.NOT_SENT:
            return RetryDecision.RETRY
        case FailureKind.REJECTED:
            return RetryDecision.RAISE
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
    """How often a call is tried, and how soon again.

    A call that may be repeated is sent at most `attempts` times, one that adds something (a create) at most
    `once_attempts` times, and only while repeating it is safe. Before attempt n+1 it waits a random time between 0 and
    the smaller of `cap` and ``base * 2 ** (n - 1)`` seconds. No attempt starts later than `window` seconds after the
    first; waiting for admission, for the minute limit and for a token do not count. The platform asks for another try
    at -1 even of a create; with `busy_creates` False that raises `OutcomeUnknown` instead, as it always does for what
    is never to be repeated (`Repeat.NEVER`).

    `attempts=1` means one try. A dead token and the minute limit are outside this budget.
    """

    attempts: int = attrs.field(default=8, validator=validator(check_positive_int))
    once_attempts: int = attrs.field(default=5, validator=validator(check_positive_int))
    base: float = attrs.field(default=0.5, validator=validator(check_seconds))
    cap: float = attrs.field(default=8.0, validator=validator(check_seconds))
    window: float = attrs.field(default=60.0, validator=validator(check_seconds))
    busy_creates: bool = attrs.field(default=True, validator=type_validator(bool, optional=False))

    def max_attempts(self, repeat: Repeat) -> int:
        """Return how many attempts a call that behaves as *repeat* gets."""
        return self.once_attempts if repeat.is_unsafe_to_repeat else self.attempts

    def backoff(self, attempt: int, uniform: Callable[[float, float], float]) -> float:
        """Return the seconds to wait after attempt number *attempt* (from 1) failed; *uniform* draws the jitter."""
        return uniform(0.0, min(self.cap, self.base * 2.0 ** min(attempt - 1, 64)))


@attrs.define(repr=False, eq=False)
class RetryQuota:
    """What the retries of a whole session draw on, so that a dead platform gets few of them.

    A retry takes 5, after a timeout 10; every success gives 5 back, up to `capacity`.
    """

    capacity: int = 500
    available: int = attrs.field(init=False, default=attrs.Factory(lambda self: self.capacity, takes_self=True))

    def acquire(self, error: WxtcbError) -> bool:
        """Pay for a retry after *error*, or return False when the quota does not allow one."""
        price = 10 if isinstance(error, TransportError) and error.timeout else 5
        if self.available < price:
            return False
        self.available -= price
        return True

    def release(self) -> None:
        """Note a success."""
        self.available = min(self.capacity, self.available + 5)
