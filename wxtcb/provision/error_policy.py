"""Which errors end more than one tenant's step, and when the platform's quota is there again. Pure."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Final

from wxtcb.errors import (
    AccountBlocked,
    InvalidAppSecret,
    IPNotAllowed,
    OutcomeUnknown,
    PermissionDenied,
    QuotaExceeded,
    SessionClosed,
    TicketError,
    TokenFetchLimit,
    WrongLoop,
    WxtcbError,
)
from wxtcb.provision.journal import JournalConflict, JournalError, UnserializableRecord

CHINA_TIMEZONE: Final = timezone(timedelta(hours=8))
_DAILY_QUOTA_EXCEEDED: Final = 45009
_PLATFORM_NOT_PERMITTED: Final = (48001, 85088)
_FATAL_ERRORS: Final = (
    AccountBlocked,
    IPNotAllowed,
    InvalidAppSecret,
    SessionClosed,
    TicketError,
    TokenFetchLimit,
    WrongLoop,
)


class IncompleteListing(WxtcbError):
    """The platform's list goes on lacking an environment that the journal knows: nothing can be told from it."""

    def __init__(self, missing_message: str) -> None:
        super().__init__(
            f"the list {missing_message}, for 30 s: it is not whole, or that was removed. Nothing more is opened; look at the "
            "platform, and if it was removed, forget it"
        )


def is_fatal(error: WxtcbError) -> bool:
    """Tell whether every other tenant would meet the same error; a journal that keeps nothing is everybody's."""
    if isinstance(error, PermissionDenied):
        return error.errcode in _PLATFORM_NOT_PERMITTED
    if isinstance(error, TicketError) and error.transient:
        return False
    if isinstance(error, JournalError):
        return not isinstance(error, JournalConflict | UnserializableRecord)
    return isinstance(error, _FATAL_ERRORS)


def drop_traceback(error: BaseException) -> None:
    """Let go of the frames that *error* went through: ten thousand of them would be kept in the report."""
    error.__traceback__ = error.__context__ = None
    if isinstance(error, OutcomeUnknown):
        drop_traceback(error.cause)


def quota_reset_at(error: QuotaExceeded, now: datetime) -> datetime:
    """Return when the quota that is used up is presumed to be there again: China's next midnight, or next month."""
    midnight = now.astimezone(CHINA_TIMEZONE).replace(hour=0, minute=0, second=0, microsecond=0)
    if error.errcode == _DAILY_QUOTA_EXCEEDED:
        return midnight + timedelta(days=1)
    return (midnight.replace(day=1) + timedelta(days=32)).replace(day=1)
