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
    """A call ended, well or not (`error`), after `maybe_acted` sends and `elapsed` seconds, all waiting included.

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
class RetryScheduled:
    """Attempt number `attempt` failed with `error`, and the call is tried again after `delay` seconds.

    `reason` sorts the error: "not_sent", "busy", "fault", "lost".
    """

    endpoint: str
    call: int
    attempt: int
    delay: float
    error: WxtcbError
    reason: str


@attrs.frozen
class RequestResent:
    """The call is sent again outside its budget.

    `reason`: "token_dead" (a newer token is there) or "minute_limit" (as soon as its path opens).
    """

    endpoint: str
    call: int
    error: WxtcbError
    reason: str


@attrs.frozen
class Abandoned:
    """A call that adds something was cancelled when its body may have left: look whether it acted.

    `maybe_acted` counts its attempts that may have acted, this one included.
    """

    endpoint: str
    maybe_acted: int


@attrs.frozen
class PossibleDuplicate:
    """A call that adds something succeeded after `maybe_acted` earlier attempts that may have acted too."""

    endpoint: str
    maybe_acted: int


@attrs.frozen
class EndpointRateLimited:
    """The platform's minute limit for a path is reached: nobody sends to it for `retry_after`."""

    endpoint: str
    retry_after: float


@attrs.frozen
class TokenRejected:
    """The platform called the token of `generation` dead with `errcode`."""

    generation: int
    errcode: int


@attrs.frozen
class TokenRefreshed:
    """A new token is in the cache, because of `reason`: "first", "advisory", "mandatory", "expired", "dead".

    `from_store`: another process had fetched it, or an earlier run; it was found in the token store.
    """

    generation: int
    reason: str
    expires_in: float
    elapsed: float
    from_store: bool = False


@attrs.frozen
class TokenRefreshFailed:
    """A token fetch failed; the next one is tried after `retry_after` seconds at the earliest."""

    reason: str
    error: WxtcbError
    retry_after: float
    elapsed: float


@attrs.frozen
class TokenStoreWriteFailed:
    """A new token could not be kept in the token store (`reason`); this session goes on with it alone."""

    generation: int
    reason: str


@attrs.frozen
class TokenConflictDetected:
    """Tokens were voided `conflicts` in a row: a program outside of this token store seems to fetch them, too.

    Each of its fetches voids our token. Ours are at least `min_fetch_interval` seconds apart from now on. `hint` says what to do.
    """

    conflicts: int
    min_fetch_interval: float
    hint: str


@attrs.frozen
class TicketReceived:
    """WeChat pushed a component_verify_ticket, made at `create_time` (Unix seconds, by its clock).

    `is_newest`: it is newer than all before; else it was a repeat, or came late, and changed nothing. `in_memory_only`: it is
    kept there alone until the token store takes it.
    """

    create_time: int
    is_newest: bool
    in_memory_only: bool = False


@attrs.frozen
class TicketWriteFailed:
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
class PushMalformed:
    """A push that is WeChat's was answered, but cannot be read, and changed nothing; `reason` quotes nothing of it."""

    reason: str


@attrs.frozen
class NotificationDropped:
    """A push that was no ticket was answered, but not handed on: `in_progress` earlier ones are not done yet."""

    info_type: str
    in_progress: int


Event = (
    CallStarted
    | CallFinished
    | RetryScheduled
    | RequestResent
    | Abandoned
    | PossibleDuplicate
    | EndpointRateLimited
    | TokenRejected
    | TokenRefreshed
    | TokenRefreshFailed
    | TokenStoreWriteFailed
    | TokenConflictDetected
    | TicketReceived
    | TicketWriteFailed
    | PushRefused
    | PushMalformed
    | NotificationDropped
)


@attrs.frozen(kw_only=True)
class Stats:
    """A session at one moment.

    `calls_in_flight` hold a slot, `calls_waiting` wait for one, `calls_paused` wait for a path that met its minute
    limit. `token_age` and `token_expires_in` are the seconds since the token was made and until it expires, None without a
    token; `token_waiters` wait for one. `retry_quota` is what retries may still draw, 500 when all is well.
    """

    calls_in_flight: int
    calls_waiting: int
    calls_paused: int
    token_age: float | None
    token_expires_in: float | None
    token_waiters: int
    retry_quota: int


class Hook(Protocol):
    """Called with every event."""

    def __call__(self, event: Event, /) -> None: ...


class SessionInfo(Protocol):
    """What a hook may know of a session."""

    @property
    def component_appid(self) -> str: ...

    @property
    def base_url(self) -> str: ...

    def stats(self) -> Stats: ...


class SessionHook(Hook, Protocol):
    """A hook that serves several sessions and tells them apart."""

    def bind(self, session: SessionInfo, /) -> Hook:
        """Return what is called with the events of *session*; asked when it, or a view of it, is built."""
        ...

    def on_session_open(self, session: SessionInfo, /) -> None:
        """Hear that *session* is open from now on."""
        ...
