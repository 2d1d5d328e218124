"""What can be observed from outside: frozen events, and the hooks that are called with them.

No event holds a secret. A hook is called synchronously on the event loop, so it must be quick; one that raises is
reported to the loop's exception handler and never changes a result.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final, Protocol

import attrs

if TYPE_CHECKING:
    from wxtcb.errors import WxtcbError

logger: Final = logging.getLogger("wxtcb")


@attrs.frozen
class CallStarted:
    """A call is about to wait for admission. `call` is a number shared by all events of this call."""

    endpoint: str
    call: int


@attrs.frozen
class CallFinished:
    """A call ended, well or not (`error`), after `attempts` sends and `elapsed` seconds, all waiting included.

    A call that was cancelled has no error either, but `cancelled` set.
    """

    endpoint: str
    call: int
    attempts: int
    elapsed: float
    error: WxtcbError | None
    cancelled: bool


@attrs.frozen
class Retrying:
    """Attempt number `attempt` failed with `error`, and the call is tried again after `wait` seconds."""

    endpoint: str
    attempt: int
    wait: float
    error: WxtcbError


@attrs.frozen
class Abandoned:
    """A call that adds something was cancelled when its body may have left: look whether it acted.

    `maybe_acted` counts its attempts that may have acted, this one included.
    """

    endpoint: str
    maybe_acted: int


@attrs.frozen
class MayHaveActed:
    """A call that adds something succeeded after `attempts` earlier attempts that may have acted too."""

    endpoint: str
    attempts: int


@attrs.frozen
class PathPaused:
    """The platform's minute limit for a path is reached: nobody sends to it for `seconds`."""

    endpoint: str
    seconds: float


@attrs.frozen
class TokenExpired:
    """The platform called the token of `generation` dead with `errcode`."""

    generation: int
    errcode: int


@attrs.frozen
class TokenRenewed:
    """A new token is in the cache, fetched because of `cause`: "first", "advisory", "mandatory", "expired", "dead"."""

    generation: int
    cause: str
    expires_in: float
    elapsed: float


@attrs.frozen
class RenewalFailed:
    """A token fetch failed; the next one is tried after `retry_after` seconds at the earliest."""

    cause: str
    error: WxtcbError
    retry_after: float


@attrs.frozen
class StoreFailed:
    """A new token could not be kept in the token store (`reason`); this session goes on with it alone."""

    generation: int
    reason: str


Event = (
    CallStarted
    | CallFinished
    | Retrying
    | Abandoned
    | MayHaveActed
    | PathPaused
    | TokenExpired
    | TokenRenewed
    | RenewalFailed
    | StoreFailed
)


class Hook(Protocol):
    """Called with every event."""

    def __call__(self, event: Event, /) -> None: ...


def _log(event: Event) -> None:
    match event:
        case Retrying(endpoint, attempt, wait, error):
            logger.warning("%s: attempt %d failed, trying again in %.2f s: %s", endpoint, attempt, wait, error)
        case Abandoned(endpoint, maybe_acted):
            logger.warning("%s: cancelled when it may have acted (%d attempts): look", endpoint, maybe_acted)
        case MayHaveActed(endpoint, attempts):
            logger.warning("%s: succeeded, but %d earlier attempts may have acted too: look", endpoint, attempts)
        case PathPaused(endpoint, seconds):
            logger.warning("%s: minute limit reached, nothing is sent there for %.0f s", endpoint, seconds)
        case RenewalFailed(cause, error, retry_after):
            logger.warning("token fetch (%s) failed, next in %.0f s at the earliest: %s", cause, retry_after, error)
        case StoreFailed(generation, reason):
            logger.warning("token %d could not be kept in the store: %s", generation, reason)
        case TokenRenewed(generation, cause, expires_in, elapsed):
            logger.info("token %d fetched (%s) in %.2f s, lives %.0f s", generation, cause, elapsed, expires_in)
        case _:
            logger.debug("%s", event)


@attrs.define(eq=False)
class Observers:
    """Hands events to the log and to the hooks."""

    hooks: tuple[Hook, ...] = ()

    def __bool__(self) -> bool:
        """Whether anybody listens to every call."""
        return bool(self.hooks) or logger.isEnabledFor(logging.DEBUG)

    def emit(self, event: Event) -> None:
        for hook in (_log, *self.hooks):
            try:
                hook(event)
            except Exception as error:
                _report(hook, error)


def _report(hook: Hook, error: Exception) -> None:
    name = getattr(hook, "__qualname__", type(hook).__qualname__)
    context = {"message": f"a wxtcb hook raised: {name}", "exception": error}
    asyncio.get_running_loop().call_exception_handler(context)
