"""What can be observed from outside: frozen events, and the hooks that are called with them.

No event holds a secret. A hook is called synchronously on the event loop, so it must be quick; one that raises is
reported to the loop's exception handler and never changes a result.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from logging import DEBUG, INFO, WARNING
from operator import attrgetter as _of
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeGuard

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

    A call that was cancelled, or ended by anything but a reply and an error of wxtcb's, has no error either, but
    `cancelled` set.
    """

    endpoint: str
    call: int
    attempts: int
    elapsed: float
    error: WxtcbError | None
    cancelled: bool

    @property
    def outcome(self) -> str:
        """How it ended in one word: "ok", "cancelled", or the class of the error."""
        if self.error is not None:
            return type(self.error).__name__
        return "cancelled" if self.cancelled else "ok"


@attrs.frozen
class Retrying:
    """Attempt number `attempt` failed with `error`, and the call is tried again after `wait` seconds.

    `cause` sorts the error: "not_sent", "busy", "fault", "lost".
    """

    endpoint: str
    call: int
    attempt: int
    wait: float
    error: WxtcbError
    cause: str


@attrs.frozen
class Resending:
    """The call is sent again outside its budget.

    `cause`: "token_dead" (a newer token is there) or "minute_limit" (as soon as its path opens).
    """

    endpoint: str
    call: int
    error: WxtcbError
    cause: str


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
    """A new token is in the cache, because of `cause`: "first", "advisory", "mandatory", "expired", "dead".

    `adopted`: another process had fetched it, or an earlier run; it was found in the token store.
    """

    generation: int
    cause: str
    expires_in: float
    elapsed: float
    adopted: bool = False


@attrs.frozen
class RenewalFailed:
    """A token fetch failed; the next one is tried after `retry_after` seconds at the earliest."""

    cause: str
    error: WxtcbError
    retry_after: float
    elapsed: float


@attrs.frozen
class StoreFailed:
    """A new token could not be kept in the token store (`reason`); this session goes on with it alone."""

    generation: int
    reason: str


@attrs.frozen
class OtherFetcherSuspected:
    """Tokens were voided `times` in a row: a program outside of this token store seems to fetch them, too.

    Each of its fetches voids our token. Ours are at least `pause` seconds apart from now on. `advice` says what to do.
    """

    times: int
    pause: float
    advice: str


Event = (
    CallStarted
    | CallFinished
    | Retrying
    | Resending
    | Abandoned
    | MayHaveActed
    | PathPaused
    | TokenExpired
    | TokenRenewed
    | RenewalFailed
    | StoreFailed
    | OtherFetcherSuspected
)


@attrs.frozen(kw_only=True)
class Stats:
    """A session at one moment.

    `calls_under_way` hold a slot, `calls_waiting` wait for one, `calls_paused` wait for a path that met its minute
    limit. `token_age` and `token_left` are the seconds since the token was made and until it expires, None without a
    token; `token_waiters` wait for one. `retry_quota` is what retries may still draw, 500 when all is well.
    """

    calls_under_way: int
    calls_waiting: int
    calls_paused: int
    token_age: float | None
    token_left: float | None
    token_waiters: int
    retry_quota: int


class Hook(Protocol):
    """Called with every event."""

    def __call__(self, event: Event, /) -> None: ...


class Observed(Protocol):
    """What a hook may know of a session."""

    @property
    def component_appid(self) -> str: ...

    @property
    def base_url(self) -> str: ...

    def stats(self) -> Stats: ...


class SessionHook(Hook, Protocol):
    """A hook that serves several sessions and tells them apart."""

    def bind(self, session: Observed, /) -> Hook:
        """Return what is called with the events of *session*; asked when it, or a view of it, is built."""
        ...

    def watch(self, session: Observed, /) -> None:
        """Hear that *session* is open from now on."""
        ...


def facts(event: Event) -> dict[str, object]:
    """Return what an event tells, its error as the name of its class, `errcode` and `rid`; what is None is left out."""
    told = {field.name: getattr(event, field.name) for field in attrs.fields(type(event))}
    if (error := told.pop("error", None)) is not None:
        told |= {"error": type(error).__name__}
        told |= {name: getattr(error, name, None) for name in ("errcode", "rid")}
    return {name: value for name, value in told.items() if value is not None}


_LINES: Final[dict[type[Any], tuple[int, str, Callable[[Any], tuple[object, ...]]]]] = {
    CallFinished: (
        DEBUG,
        "%s: %s; sent %d times in %.3f s",
        lambda event: (event.endpoint, event.error or event.outcome, event.attempts, event.elapsed),
    ),
    Retrying: (
        WARNING,
        "%s: attempt %d failed, trying again in %.2f s: %s",
        _of("endpoint", "attempt", "wait", "error"),
    ),
    Resending: (DEBUG, "%s: sent again (%s): %s", _of("endpoint", "cause", "error")),
    Abandoned: (WARNING, "%s: cancelled when it may have acted (%d attempts): look", _of("endpoint", "maybe_acted")),
    MayHaveActed: (
        WARNING,
        "%s: succeeded, but %d earlier attempts may have acted too: look",
        _of("endpoint", "attempts"),
    ),
    PathPaused: (WARNING, "%s: minute limit reached, nothing is sent there for %.0f s", _of("endpoint", "seconds")),
    TokenExpired: (DEBUG, "token %d was called dead (%d)", _of("generation", "errcode")),
    TokenRenewed: (
        INFO,
        "token %d %s (%s) in %.2f s, lives %.0f s",
        lambda event: (
            event.generation,
            "adopted" if event.adopted else "fetched",
            event.cause,
            event.elapsed,
            event.expires_in,
        ),
    ),
    RenewalFailed: (
        WARNING,
        "token fetch (%s) failed, next in %.0f s at the earliest: %s",
        _of("cause", "retry_after", "error"),
    ),
    StoreFailed: (WARNING, "token %d could not be kept in the store: it %s", _of("generation", "reason")),
    OtherFetcherSuspected: (
        WARNING,
        "%d tokens in a row were voided by somebody else; fetches are %.0f s apart from now on. %s",
        _of("times", "pause", "advice"),
    ),
}


@attrs.frozen
class LoggingHook:
    """Writes events to a logger, one line each, with their fields (`facts`) and their `kind` as ``extra``.

    What needs a look is a WARNING, a retry among it; a new token is INFO; the end of each call is DEBUG.
    """

    logger: logging.Logger = logger

    def __call__(self, event: Event, /) -> None:
        line = _LINES.get(type(event))
        if line is not None and self.logger.isEnabledFor(line[0]):
            level, text, values = line
            self.logger.log(level, text, *values(event), extra={"kind": type(event).__name__, **facts(event)})


@attrs.define(eq=False)
class Observers:
    """Hands events to the log and to the hooks; the end of a call in reverse, so that what they open for it nests."""

    hooks: tuple[Hook, ...] = ()
    log: Hook = LoggingHook()

    @classmethod
    def of(cls, session: Observed, hooks: Iterable[Hook]) -> Observers:
        """Hand events to *hooks* alone, and to the log."""
        return cls().with_hooks(session, hooks)

    def with_hooks(self, session: Observed, hooks: Iterable[Hook]) -> Observers:
        """Hand events to *hooks* as well, bound to *session* where they want that."""
        bound = (hook.bind(session) if _serves_sessions(hook) else hook for hook in hooks)
        return Observers((*self.hooks, *bound), self.log)

    def __bool__(self) -> bool:
        """Whether anybody listens to every call."""
        return bool(self.hooks) or logger.isEnabledFor(DEBUG)

    def emit(self, event: Event) -> None:
        hooks = (self.log, *self.hooks)
        for hook in reversed(hooks) if type(event) is CallFinished else hooks:
            try:
                hook(event)
            except Exception as error:
                _report(hook, error)


def introduce(session: Observed, hooks: Iterable[Hook]) -> None:
    """Tell those of *hooks* that want to know that *session* is open."""
    for hook in hooks:
        try:
            if _serves_sessions(hook):
                hook.watch(session)
        except Exception as error:
            _report(hook, error)


def _serves_sessions(hook: Hook) -> TypeGuard[SessionHook]:
    kind = type(hook)  # a Mock has every attribute, its type has not
    return hasattr(kind, "bind") and hasattr(kind, "watch")  # isinstance of a protocol takes longer than a call may


def _report(hook: Hook, error: Exception) -> None:
    name = getattr(hook, "__qualname__", type(hook).__qualname__)
    context = {"message": f"a wxtcb hook raised: {name}", "exception": error}
    asyncio.get_running_loop().call_exception_handler(context)
