"""Event dispatch: passes the events of a session to the log and to its hooks.

A hook that raises is reported to the event loop's exception handler and never changes a result.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
import math
import time
from collections.abc import Callable, Iterable
from logging import DEBUG, INFO, WARNING
from operator import attrgetter as _of
from typing import Any, Final, TypeGuard

import attrs

from wxtcb import events
from wxtcb.errors import InvalidArgument
from wxtcb.events import CallFinished, Event, Hook, SessionHook, SessionInfo

logger: Final = logging.getLogger("wxtcb")

REPEAT_INTERVAL: Final = 60.0
MAX_REMEMBERED_EVENTS: Final = 100

_REFRESH_REASONS: Final = {
    "first": "there was none",
    "advisory": "the previous one was to expire within minutes",
    "mandatory": "the previous one was about to expire",
    "expired": "the previous one had expired",
    "rejected": "the platform rejected the previous one",
}


def describe_refresh_reason(reason: str) -> str:
    """Return the `reason` of `events.TokenRefreshed` as a clause: "rejected" alone could be said of the new token."""
    return _REFRESH_REASONS.get(reason, reason)


def _describe_ticket(event: events.TicketReceived) -> str:
    if not event.is_newest:
        return "ignored: it is not newer than the current one"
    return "newest, in memory until the store accepts it" if event.in_memory_only else "newest"


def _describe_retry(seconds: float | None) -> str:
    return "the ticket is lost" if seconds is None else f"retrying in {seconds:.0f} s"


def _describe_peer(event: events.PushRefused | events.PushUndecryptable | events.PushMalformed) -> str:
    return event.peer or "an unknown address"


# A CancelledError, too: a hook awaits nothing, so one that it raises is no cancellation, but a failure of the hook.
_HOOK_ERRORS: Final = (Exception, asyncio.CancelledError)
# Level, format and arguments by type of event. The types of the arguments differ from event to event, hence `Any`.
_LOG_FORMATS: Final[dict[type[Any], tuple[int, str, Callable[[Any], tuple[object, ...]]]]] = {
    CallFinished: (
        DEBUG,
        "%s: %s (%d attempt(s) in %.3f s)",
        lambda event: (event.endpoint, event.error or event.outcome, event.attempts, event.elapsed),
    ),
    events.RetryScheduled: (
        WARNING,
        "%s failed (attempt %d), retrying in %.2f s: %s",
        # Not the whole message: its advice is for a person, and here the library itself acts.
        _of("endpoint", "attempt", "delay", "error.reason"),
    ),
    events.RequestResent: (DEBUG, "%s is resent (%s): %s", _of("endpoint", "reason", "error.reason")),
    events.Abandoned: (
        WARNING,
        "%s was cancelled after %d attempt(s) that may have taken effect; check whether it did",
        _of("endpoint", "maybe_acted"),
    ),
    events.PossibleDuplicate: (
        WARNING,
        "%s succeeded, but %d earlier attempt(s) may have taken effect too; check for duplicates",
        _of("endpoint", "maybe_acted"),
    ),
    events.EndpointRateLimited: (
        WARNING,
        "%s reached its minute limit; its calls are paused for %.0f s",
        _of("endpoint", "retry_after"),
    ),
    events.TokenRejected: (DEBUG, "token %d was rejected (%d)", _of("generation", "errcode")),
    events.TokenRefreshed: (
        INFO,
        "token %d %s in %.2f s, because %s; it expires in %.0f s",
        lambda event: (
            event.generation,
            "loaded from the store" if event.from_store else "fetched",
            event.elapsed,
            describe_refresh_reason(event.reason),
            event.expires_in,
        ),
    ),
    events.TokenRefreshFailed: (
        WARNING,
        "token refresh failed, needed because %s, next attempt in %.0f s at the earliest: %s",
        lambda event: (describe_refresh_reason(event.reason), event.retry_after, event.error),
    ),
    events.TokenStoreWriteFailed: (
        WARNING,
        "token %d could not be written to the token store: %s",
        _of("generation", "reason"),
    ),
    events.TokenStoreRolledBack: (
        WARNING,
        "the token store went back to an older state (its token is %d; the newest was %d). Was a backup restored?",
        _of("generation", "newest_generation"),
    ),
    events.TokenConflictDetected: (
        WARNING,
        "%d tokens in a row were invalidated, probably by another program; fetching at most every %.0f s. %s",
        _of("conflicts", "min_fetch_interval", "hint"),
    ),
    events.TicketReceived: (
        INFO,
        "ticket created at %d received, %s",
        lambda event: (event.create_time, _describe_ticket(event)),
    ),
    events.TicketWriteFailed: (
        WARNING,
        "ticket created at %d could not be written to the token store, %s: %s",
        lambda event: (event.create_time, _describe_retry(event.retry_after), event.reason),
    ),
    events.PushRefused: (
        WARNING,
        "push from %s rejected with HTTP %d: %s%s",
        lambda event: (_describe_peer(event), event.status, event.reason, event.hint and f". {event.hint}"),
    ),
    events.PushUndecryptable: (
        WARNING,
        "push from %s acknowledged but ignored: it is signed, but cannot be decrypted. " + events.UNDECRYPTABLE_HINT,
        lambda event: (_describe_peer(event),),
    ),
    events.PushMalformed: (
        WARNING,
        "push from %s acknowledged but ignored, because it is malformed: %s",
        lambda event: (_describe_peer(event), event.reason),
    ),
    events.NotificationDropped: (
        WARNING,
        "notification %r not accepted, WeChat has to repeat it: %d earlier ones are still being processed",
        _of("info_type", "in_progress"),
    ),
    events.NotificationFailed: (
        WARNING,
        "on_notification failed for notification %r, which WeChat need not repeat: %s",
        _of("info_type", "error"),
    ),
}


@attrs.define(eq=False)
class RepeatFilter:
    """Filter of repeated events: an equal one is admitted once a minute. `now` is a monotonic clock."""

    now: Callable[[], float] = time.monotonic
    # When each event was admitted last, the oldest first.
    _admitted_at: dict[Event, float] = attrs.field(init=False, factory=dict["Event", float])

    def admits(self, event: Event) -> bool:
        """Return whether no equal event was admitted in the last minute."""
        now = self.now()
        if now - self._admitted_at.get(event, -math.inf) < REPEAT_INTERVAL:
            return False
        self._admitted_at.pop(event, None)
        self._admitted_at[event] = now
        if len(self._admitted_at) > MAX_REMEMBERED_EVENTS:
            del self._admitted_at[next(iter(self._admitted_at))]
        return True


@attrs.frozen
class LoggingHook:
    """Hook that logs each event in one line; the record has the event's fields and its `kind` as ``extra``.

    A record also has the `component_appid` if it is given: one process may have sessions of two platforms.

    Failures and retries are logged as WARNING, new tokens and tickets as INFO, and the end of each call as DEBUG. An
    equal `PushRefused` is logged once a minute.
    """

    logger: logging.Logger = logger
    component_appid: str | None = None
    # A sender with a wrong token repeats its push, the sandbox every second.
    _refusals: RepeatFilter = attrs.field(init=False, eq=False, repr=False, factory=RepeatFilter)

    def __call__(self, event: Event, /) -> None:
        log_format = _LOG_FORMATS.get(type(event))
        if log_format is not None and self.logger.isEnabledFor(log_format[0]):
            if type(event) is events.PushRefused and not self._refusals.admits(event):
                return
            level, message, arguments = log_format
            extra = event.to_dict()
            if self.component_appid is not None:
                extra["component_appid"] = self.component_appid
            self.logger.log(level, message, *arguments(event), extra=extra)


@attrs.define(repr=False, eq=False)
class HookDispatcher:
    """Dispatcher of events to the log and to the hooks of a session."""

    hooks: tuple[Hook, ...] = ()
    logging_hook: Hook = attrs.field(factory=LoggingHook)

    @classmethod
    def create(cls, session: SessionInfo, hooks: Iterable[Hook]) -> HookDispatcher:
        """Create a dispatcher to the log and to *hooks*, bound to *session*."""
        return cls(logging_hook=LoggingHook(component_appid=session.component_appid)).with_hooks(session, hooks)

    def with_hooks(self, session: SessionInfo, hooks: Iterable[Hook]) -> HookDispatcher:
        """Return a dispatcher that also serves *hooks*; those that support it are bound to *session*."""
        bound = (hook.bind(session) if _is_session_hook(hook) else hook for hook in hooks)
        return HookDispatcher((*self.hooks, *bound), self.logging_hook)

    @property
    def is_observed(self) -> bool:
        """Whether anything observes the events of every call; if not, they need not be created."""
        return bool(self.hooks) or logger.isEnabledFor(DEBUG)

    def emit(self, event: Event) -> None:
        """Call the log and all hooks with *event*."""
        # The end of a call goes to the hooks in reverse order, so that what they opened at its start (spans) is closed
        # inside out.
        hooks = (self.logging_hook, *self.hooks)
        for hook in reversed(hooks) if type(event) is CallFinished else hooks:
            try:
                hook(event)
            except _HOOK_ERRORS as error:
                _report_hook_error(hook, error)


def to_hooks(hooks: Iterable[Hook]) -> tuple[Hook, ...]:
    """Return *hooks* as a tuple; raise `InvalidArgument` unless all are callables that need no await."""
    if not isinstance(hooks, Iterable):
        raise InvalidArgument(f"hooks must be a list of callables, not {type(hooks).__name__}")
    result = tuple(hooks)
    if not all(callable(hook) and not is_async_callable(hook) for hook in result):
        raise InvalidArgument("hooks must be a list of callables, none of them a coroutine function")
    return result


def notify_open(session: SessionInfo, hooks: Iterable[Hook]) -> None:
    """Call `on_session_open` of each of *hooks* that is a `SessionHook`: it has this method and `bind`."""
    for hook in hooks:
        try:
            if _is_session_hook(hook):
                hook.on_session_open(session)
        except _HOOK_ERRORS as error:
            _report_hook_error(hook, error)


def _is_session_hook(hook: Hook) -> TypeGuard[SessionHook]:
    # The type is checked, because a Mock has every attribute, but its type has not. `isinstance` with a runtime
    # protocol is much slower, and a server may call `with_options(hooks=)` for each of its requests.
    hook_type = type(hook)
    return hasattr(hook_type, "bind") and hasattr(hook_type, "on_session_open")


def is_async_callable(function: Callable[..., object]) -> bool:
    """Return whether *function*, the function of its partial, or its `__call__` is a coroutine function."""
    while isinstance(function, functools.partial):
        function = function.func
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)


def _report_hook_error(hook: Hook, error: BaseException) -> None:
    name = getattr(hook, "__qualname__", type(hook).__qualname__)
    context = {"message": f"a wxtcb hook raised: {name}", "exception": error}
    asyncio.get_running_loop().call_exception_handler(context)
