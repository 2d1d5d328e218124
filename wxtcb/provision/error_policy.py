"""Which errors end more than one tenant's step, and when the platform's quota is there again. Pure."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Final

from wxtcb.errors import (
    AccountBlocked,
    AddressNotAllowed,
    NotPermitted,
    OutcomeUnknown,
    QuotaExhausted,
    SecretRefused,
    SessionClosed,
    TicketError,
    TokenCeiling,
    WrongLoop,
    WxtcbError,
)
from wxtcb.provision.journal import JournalConflict, JournalError, RecordUnfit

CHINA: Final = timezone(timedelta(hours=8))
_DAY_QUOTA: Final = 45009
_PLATFORM_LACKS: Final = (48001, 85088)
_FOR_EVERYBODY: Final = (
    AccountBlocked,
    AddressNotAllowed,
    SecretRefused,
    SessionClosed,
    TicketError,
    TokenCeiling,
    WrongLoop,
)


class ListIncomplete(WxtcbError):
    """The platform's list goes on lacking an environment that the journal knows: nothing can be told from it."""

    def __init__(self, gap: str) -> None:
        super().__init__(
            f"the list {gap}, for 30 s: it is not whole, or that was removed. Nothing more is opened; look at the "
            "platform, and if it was removed, forget it"
        )


def hits_everybody(error: WxtcbError) -> bool:
    """Tell whether every other tenant would meet the same error; a journal that keeps nothing is everybody's."""
    if isinstance(error, NotPermitted):
        return error.errcode in _PLATFORM_LACKS
    if isinstance(error, TicketError) and error.passing:
        return False
    if isinstance(error, JournalError):
        return not isinstance(error, JournalConflict | RecordUnfit)
    return isinstance(error, _FOR_EVERYBODY)


def lighten(error: BaseException) -> None:
    """Let go of the frames that *error* went through: ten thousand of them would be kept in the report."""
    error.__traceback__ = error.__context__ = None
    if isinstance(error, OutcomeUnknown):
        lighten(error.cause)


def back_at(error: QuotaExhausted, now: datetime) -> datetime:
    """Return when the quota that is used up is presumed to be there again: China's next midnight, or next month."""
    midnight = now.astimezone(CHINA).replace(hour=0, minute=0, second=0, microsecond=0)
    if error.errcode == _DAY_QUOTA:
        return midnight + timedelta(days=1)
    return (midnight.replace(day=1) + timedelta(days=32)).replace(day=1)
