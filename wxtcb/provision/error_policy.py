"""Error policy of a run: errors that end it for all tenants, and the time at which a quota resets. Pure."""

from __future__ import annotations

import traceback
from datetime import datetime, timedelta, timezone
from typing import Final

from wxtcb import errors
from wxtcb.errors import WxtcbError
from wxtcb.provision.journal import JournalConflict, JournalError, UnserializableRecord

CHINA_TIMEZONE: Final = timezone(timedelta(hours=8))
_FATAL_ERRORS: Final = (
    errors.AccountBlocked,
    errors.IPNotAllowed,
    errors.InvalidAppSecret,
    errors.SessionClosed,
    errors.TicketError,
    errors.TokenFetchLimit,
    errors.WrongLoop,
)


class IncompleteListing(WxtcbError):
    """The platform's list lacks an environment that the journal has, so that a missing alias proves nothing."""

    def __init__(self, missing_message: str) -> None:
        super().__init__(
            f"the list {missing_message}, for 30 s: the list is incomplete, or the environment was deleted; no further "
            "environment is created. Check the console; if the environment was deleted, forget it"
        )


def is_fatal(error: WxtcbError) -> bool:
    """Return whether every other tenant would fail with the same error."""
    # 48001: api unauthorized. 85088: no qbase privilege. Other error codes concern one mini program.
    if isinstance(error, errors.PermissionDenied):
        return error.errcode in (48001, 85088)
    if isinstance(error, errors.TicketError) and error.transient:
        return False
    # A journal that cannot store one record cannot store any. A conflict, or an invalid value, concerns one tenant.
    if isinstance(error, JournalError):
        return not isinstance(error, JournalConflict | UnserializableRecord)
    return isinstance(error, _FATAL_ERRORS)


def describe_unexpected(error: Exception) -> str:
    """Return the type of *error* and the line that raised it, without its message, which may hold a secret."""
    *_, (frame, line) = traceback.walk_tb(error.__traceback__)
    return f"{type(error).__name__} in {frame.f_code.co_filename}, line {line}"


def drop_traceback(error: BaseException) -> None:
    """Remove the traceback of *error* and of its cause: a report of 10,000 errors would hold the run's objects."""
    error.__traceback__ = error.__context__ = None
    if isinstance(error, errors.OutcomeUnknown):
        drop_traceback(error.cause)


def quota_reset_at(error: errors.QuotaExceeded, now: datetime) -> datetime:
    """Return the presumed reset time of the quota: the next midnight in China, or the first of the next month."""
    # 45009 is a daily quota; 45040 and 48006 are monthly. The documentation gives no time zone: China's is presumed.
    midnight = now.astimezone(CHINA_TIMEZONE).replace(hour=0, minute=0, second=0, microsecond=0)
    if error.errcode == 45009:
        return midnight + timedelta(days=1)
    return (midnight.replace(day=1) + timedelta(days=32)).replace(day=1)
