"""Who hears of events: the log, in a line each, and the hooks of a session.

A hook that raises is reported to the loop's exception handler and never changes a result.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
from collections.abc import Callable, Iterable
from logging import DEBUG, INFO, WARNING
from operator import attrgetter as _of
from typing import Any, Final, TypeGuard

import attrs

from wxtcb.errors import InvalidArgument
from wxtcb.events import (
    Abandoned,
    CallFinished,
    EndpointRateLimited,
    Event,
    Hook,
    NotificationDropped,
    PossibleDuplicate,
    PushMalformed,
    PushRefused,
    RequestResent,
    RetryScheduled,
    SessionHook,
    SessionInfo,
    TicketReceived,
    TicketWriteFailed,
    TokenConflictDetected,
    TokenRefreshed,
    TokenRefreshFailed,
    TokenRejected,
    TokenStoreWriteFailed,
)

logger: Final = logging.getLogger("wxtcb")


def event_fields(event: Event) -> dict[str, object]:
    """Return what an event tells, its error as the name of its class, `errcode` and `rid`; what is None is left out."""
    told = {field.name: getattr(event, field.name) for field in attrs.fields(type(event))}
    if (error := told.pop("error", None)) is not None:
        told |= {"error": type(error).__name__}
        told |= {name: getattr(error, name, None) for name in ("errcode", "rid")}
    return {name: value for name, value in told.items() if value is not None}


def _describe_ticket(event: TicketReceived) -> str:
    if not event.is_newest:
        return "known or older: nothing changed"
    return "the newest, in memory until the store takes it" if event.in_memory_only else "the newest"


def _describe_retry(seconds: float | None) -> str:
    return "and is lost" if seconds is None else f"next try in {seconds:.0f} s"


_HOOK_ERRORS: Final = (Exception, asyncio.CancelledError)  # nothing cancels a function that awaits nothing
_LOG_FORMATS: Final[dict[type[Any], tuple[int, str, Callable[[Any], tuple[object, ...]]]]] = {
    CallFinished: (
        DEBUG,
        "%s: %s; sent %d times in %.3f s",
        lambda event: (event.endpoint, event.error or event.outcome, event.attempts, event.elapsed),
    ),
    RetryScheduled: (
        WARNING,
        "%s: attempt %d failed, trying again in %.2f s: %s",
        _of("endpoint", "attempt", "delay", "error"),
    ),
    RequestResent: (DEBUG, "%s: sent again (%s): %s", _of("endpoint", "reason", "error")),
    Abandoned: (
        WARNING,
        "%s: cancelled when it may have acted (%d attempts): look",
        _of("endpoint", "maybe_acted"),
    ),
    PossibleDuplicate: (
        WARNING,
        "%s: succeeded, but %d earlier attempts may have acted too: look",
        _of("endpoint", "maybe_acted"),
    ),
    EndpointRateLimited: (
        WARNING,
        "%s: minute limit reached, nothing is sent there for %.0f s",
        _of("endpoint", "retry_after"),
    ),
    TokenRejected: (DEBUG, "token %d was called dead (%d)", _of("generation", "errcode")),
    TokenRefreshed: (
        INFO,
        "token %d %s (%s) in %.2f s, lives %.0f s",
        lambda event: (
            event.generation,
            "adopted" if event.from_store else "fetched",
            event.reason,
            event.elapsed,
            event.expires_in,
        ),
    ),
    TokenRefreshFailed: (
        WARNING,
        "token fetch (%s) failed, next in %.0f s at the earliest: %s",
        _of("reason", "retry_after", "error"),
    ),
    TokenStoreWriteFailed: (WARNING, "token %d could not be kept in the store: %s", _of("generation", "reason")),
    TokenConflictDetected: (
        WARNING,
        "%d tokens in a row were voided by somebody else; fetches are %.0f s apart from now on. %s",
        _of("conflicts", "min_fetch_interval", "hint"),
    ),
    TicketReceived: (
        INFO,
        "ticket of %d received, %s",
        lambda event: (event.create_time, _describe_ticket(event)),
    ),
    TicketWriteFailed: (
        WARNING,
        "ticket of %d could not be written to the store, %s: %s",
        lambda event: (event.create_time, _describe_retry(event.retry_after), event.reason),
    ),
    PushRefused: (WARNING, "push refused with %d: %s", _of("status", "reason")),
    PushMalformed: (
        WARNING,
        "push answered, but it cannot be read, and changed nothing: %s",
        lambda event: (event.reason,),
    ),
    NotificationDropped: (WARNING, "push of %r not handed on: %d are not done yet", _of("info_type", "in_progress")),
}


@attrs.frozen
class LoggingHook:
    """Writes events to a logger, one line each, with their fields (`event_fields`) and their `kind` as ``extra``.

    What needs a look is a WARNING, a retry among it; a new token is INFO; the end of each call is DEBUG.
    """

    logger: logging.Logger = logger

    def __call__(self, event: Event, /) -> None:
        line = _LOG_FORMATS.get(type(event))
        if line is not None and self.logger.isEnabledFor(line[0]):
            level, text, values = line
            self.logger.log(level, text, *values(event), extra={"kind": type(event).__name__, **event_fields(event)})


@attrs.define(repr=False, eq=False)
class HookDispatcher:
    """Hands events to the log and to the hooks; the end of a call in reverse, so that what they open for it nests."""

    hooks: tuple[Hook, ...] = ()
    logging_hook: Hook = LoggingHook()

    @classmethod
    def create(cls, session: SessionInfo, hooks: Iterable[Hook]) -> HookDispatcher:
        """Hand events to *hooks* alone, and to the log."""
        return cls().with_hooks(session, hooks)

    def with_hooks(self, session: SessionInfo, hooks: Iterable[Hook]) -> HookDispatcher:
        """Hand events to *hooks* as well, bound to *session* where they want that."""
        bound = (hook.bind(session) if _is_session_hook(hook) else hook for hook in hooks)
        return HookDispatcher((*self.hooks, *bound), self.logging_hook)

    def __bool__(self) -> bool:
        """Whether anybody listens to every call."""
        return bool(self.hooks) or logger.isEnabledFor(DEBUG)

    def emit(self, event: Event) -> None:
        hooks = (self.logging_hook, *self.hooks)
        for hook in reversed(hooks) if type(event) is CallFinished else hooks:
            try:
                hook(event)
            except _HOOK_ERRORS as error:
                _report_hook_error(hook, error)


def to_hooks(hooks: Iterable[Hook]) -> tuple[Hook, ...]:
    """Refuse what cannot be called, and what would have to be awaited."""
    if not isinstance(hooks, Iterable):
        raise InvalidArgument(f"hooks must be a list of callables, not {type(hooks).__name__}")
    kept = tuple(hooks)
    if not all(callable(hook) and not is_async_callable(hook) for hook in kept):
        raise InvalidArgument("hooks must be a list of callables, none of them a coroutine function")
    return kept


def notify_open(session: SessionInfo, hooks: Iterable[Hook]) -> None:
    """Tell those of *hooks* that want to know that *session* is open."""
    for hook in hooks:
        try:
            if _is_session_hook(hook):
                hook.on_session_open(session)
        except _HOOK_ERRORS as error:
            _report_hook_error(hook, error)


def _is_session_hook(hook: Hook) -> TypeGuard[SessionHook]:
    kind = type(hook)  # a Mock has every attribute, its type has not
    return hasattr(kind, "bind") and hasattr(
        kind, "on_session_open"
    )  # isinstance of a protocol takes longer than a call may


def is_async_callable(function: Callable[..., object]) -> bool:
    """Tell whether what *function* returns has to be awaited: it, what it is a part of, or its `__call__` is async."""
    while isinstance(function, functools.partial):
        function = function.func
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)


def _report_hook_error(hook: Hook, error: BaseException) -> None:
    name = getattr(hook, "__qualname__", type(hook).__qualname__)
    context = {"message": f"a wxtcb hook raised: {name}", "exception": error}
    asyncio.get_running_loop().call_exception_handler(context)
