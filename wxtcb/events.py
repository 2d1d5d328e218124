"""What can be observed from outside: frozen events, and the hooks that are called with them.

No event holds a secret. A hook is called synchronously on the event loop, so it must be quick; one that raises is
reported to the loop's exception handler and never changes a result.
"""

from __future__ import annotations

from typing import Protocol

import attrs

from wxtcb.errors import WxtcbError


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


@attrs.frozen
class TicketReceived:
    """WeChat pushed a component_verify_ticket, made at `create_time` (Unix seconds, by its clock).

    `kept`: it is newer than all before; else it was a repeat, or came late, and changed nothing. `in_memory`: it is
    kept there alone until the token store takes it.
    """

    create_time: int
    kept: bool
    in_memory: bool = False


@attrs.frozen
class TicketUnsaved:
    """The newest ticket could not be written to the token store (`reason`); memory holds it meanwhile.

    It is tried again after `retry_after` seconds; None: never, for the receiver closes, and the ticket is lost.
    """

    create_time: int
    reason: str
    retry_after: float | None


@attrs.frozen
class PushRefused:
    """A push was answered with the HTTP `status` of a refusal, and changed nothing; `reason` quotes nothing of it."""

    reason: str
    status: int


@attrs.frozen
class PushUnreadable:
    """A push that is WeChat's was answered, but cannot be read, and changed nothing; `reason` quotes nothing of it."""

    reason: str


@attrs.frozen
class NoticeDropped:
    """A push that was no ticket was answered, but not handed on: `under_way` earlier ones are not done yet."""

    info_type: str
    under_way: int


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
    | TicketReceived
    | TicketUnsaved
    | PushRefused
    | PushUnreadable
    | NoticeDropped
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
