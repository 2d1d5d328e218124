"""May it be tried again? Pure rules: no clock, no I/O.

A failed attempt has a `Cause`; `judge` turns the cause and the endpoint's `Repeat` into a `Verdict`; `RetryPolicy` says
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
    Busy,
    CloudFault,
    MinuteLimit,
    TicketError,
    TokenDead,
    TransportError,
    WxtcbError,
)
from wxtcb.validation import check_count, check_seconds, field_is, kind_is

if TYPE_CHECKING:
    from collections.abc import Callable


class Cause(Enum):
    """What went wrong, as far as repeating is concerned."""

    NOT_SENT = "never connected"
    TOKEN_DEAD = "the token is dead"
    BUSY = "-1"
    FAULT = "-1000 or a cloud code that passes"
    MINUTE_LIMIT = "45011"
    LOST = "sent, and no usable answer came"
    UNUSABLE = "an answer of no use that would come again"
    REFUSED = "an answer that repeating does not change"

    @property
    def word(self) -> str:
        """The name that events give it."""
        return self.name.lower()


class Verdict(Enum):
    """What becomes of a failed attempt."""

    RETRY = "try again, within the budget"
    RENEW = "send again with a newer token, outside the budget"
    PAUSE = "send again when the path opens, outside the budget"
    RAISE = "raise the error"
    UNKNOWN = "raise OutcomeUnknown"


MAY_HAVE_ACTED: Final = frozenset({Cause.BUSY, Cause.FAULT, Cause.LOST, Cause.UNUSABLE})
_API_CAUSES: Final = (
    (TokenDead, Cause.TOKEN_DEAD),
    (Busy, Cause.BUSY),
    (CloudFault, Cause.FAULT),
    (MinuteLimit, Cause.MINUTE_LIMIT),
)


def cause_of(error: WxtcbError) -> Cause:
    """Sort the error of one attempt."""
    match error:
        case TransportError():
            return Cause.LOST if error.sent else Cause.NOT_SENT
        case BadReply():
            return _cause_of_page(error)
        case TicketError(passing=True):
            return Cause.NOT_SENT
        case ApiError():
            return next((cause for kind, cause in _API_CAUSES if isinstance(error, kind)), Cause.REFUSED)
        case _:
            return Cause.REFUSED


def _cause_of_page(page: BadReply) -> Cause:
    if 400 <= page.status < 500:
        return Cause.REFUSED
    return Cause.UNUSABLE if page.lasting else Cause.LOST


def judge(repeat: Repeat, cause: Cause, *, busy_creates: bool = True) -> Verdict:
    """Say what becomes of an attempt that ended for *cause*, on a call that behaves as *repeat* when repeated."""
    match cause:
        case Cause.TOKEN_DEAD:
            return Verdict.RENEW
        case Cause.MINUTE_LIMIT:
            return Verdict.PAUSE
        case Cause.NOT_SENT:
            return Verdict.RETRY
        case Cause.REFUSED:
            return Verdict.RAISE
        case Cause.BUSY if not repeat.is_once or (busy_creates and repeat is Repeat.ONCE):
            return Verdict.RETRY
        case _ if repeat.is_once:
            return Verdict.UNKNOWN
        case Cause.UNUSABLE:
            return Verdict.RAISE
        case _:
            return Verdict.RETRY


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

    attempts: int = attrs.field(default=8, validator=field_is(check_count))
    once_attempts: int = attrs.field(default=5, validator=field_is(check_count))
    base: float = attrs.field(default=0.5, validator=field_is(check_seconds))
    cap: float = attrs.field(default=8.0, validator=field_is(check_seconds))
    window: float = attrs.field(default=60.0, validator=field_is(check_seconds))
    busy_creates: bool = attrs.field(default=True, validator=kind_is(bool, optional=False))

    def most_attempts(self, repeat: Repeat) -> int:
        """Return how many attempts a call that behaves as *repeat* gets."""
        return self.once_attempts if repeat.is_once else self.attempts

    def backoff(self, attempt: int, uniform: Callable[[float, float], float]) -> float:
        """Return the seconds to wait after attempt number *attempt* (from 1) failed; *uniform* draws the jitter."""
        return uniform(0.0, min(self.cap, self.base * 2.0 ** min(attempt - 1, 64)))


@attrs.define(repr=False, eq=False)
class RetryQuota:
    """What the retries of a whole session draw on, so that a dead platform gets few of them.

    A retry takes 5, after a timeout 10; every success gives 5 back, up to `full`.
    """

    full: int = 500
    level: int = attrs.field(init=False, default=attrs.Factory(lambda self: self.full, takes_self=True))

    def take(self, error: WxtcbError) -> bool:
        """Pay for a retry after *error*, or return False when the quota does not allow one."""
        price = 10 if isinstance(error, TransportError) and error.timeout else 5
        if self.level < price:
            return False
        self.level -= price
        return True

    def give_back(self) -> None:
        """Note a success."""
        self.level = min(self.full, self.level + 5)
