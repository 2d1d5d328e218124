"""Events: what a session and a ticket receiver report, and the protocols of hooks.

Events are frozen and contain no secret. A hook is called synchronously on the event loop, so it must return quickly.
An exception of a hook is reported to the loop's exception handler and never changes a result.
"""

from __future__ import annotations

from typing import Final, Protocol

import attrs

from wxtcb.errors import WxtcbError

__all__ = [
    "Abandoned",
    "CallFinished",
    "CallStarted",
    "EndpointRateLimited",
    "Event",
    "Hook",
    "NotificationDropped",
    "NotificationFailed",
    "PossibleDuplicate",
    "PushMalformed",
    "PushRefused",
    "RequestResent",
    "RetryScheduled",
    "SessionHook",
    "SessionInfo",
    "Stats",
    "TicketReceived",
    "TicketWriteFailed",
    "TokenConflictDetected",
    "TokenRefreshFailed",
    "TokenRefreshed",
    "TokenRejected",
    "TokenStoreRolledBack",
    "TokenStoreWriteFailed",
]


@attrs.frozen
class BaseEvent:
    """What all events have. They have no time: a hook is called at the moment of the event."""

    def to_dict(self) -> dict[str, object]:
        """Return the fields that are not None as values for JSON, with the name of the class as `kind`.

        An error is replaced by the name of its class, its `errcode` and its `rid`, because its message may be long.
        """
        fields = {field.name: getattr(self, field.name) for field in attrs.fields(type(self))}
        if (error := fields.pop("error", None)) is not None:
            fields |= {"error": type(error).__name__}
            fields |= {name: getattr(error, name, None) for name in ("errcode", "rid")}
        return {"kind": type(self).__name__, **{name: value for name, value in fields.items() if value is not None}}


@attrs.frozen
class CallStarted(BaseEvent):
    """A call that is about to wait for a slot of the request limiter; all its events have the same number `call`."""

    endpoint: str
    call: int


@attrs.frozen
class CallFinished(BaseEvent):
    """A call that ended, after `attempts` attempts and `elapsed` seconds, including all waiting.

    `error` is the error of wxtcb that the call raised, or None. `cancelled` is True if the call ended with any other
    exception, which is usually a cancellation.
    """

    endpoint: str
    call: int
    attempts: int
    elapsed: float
    error: WxtcbError | None
    cancelled: bool

    @property
    def outcome(self) -> str:
        """The outcome in one word: "ok", "cancelled", or the class name of the error."""
        if self.error is not None:
            return type(self.error).__name__
        return "cancelled" if self.cancelled else "ok"


@attrs.frozen
class RetryScheduled(BaseEvent):
    """A retry after `delay` seconds, because an attempt failed with `error`.

    `attempt` counts the failed attempts of the call, without those that were resent (`RequestResent`). `reason` is the
    kind of failure: "not_sent", "busy", "cloud_unavailable" or "reply_lost".
    """

    endpoint: str
    call: int
    attempt: int
    delay: float
    error: WxtcbError
    reason: str


@attrs.frozen
class RequestResent(BaseEvent):
    """A resend that does not count as a retry.

    `reason` is "invalid_token" (sent with a newer token) or "rate_limited" (sent when the path's rate limit is reset).
    """

    endpoint: str
    call: int
    error: WxtcbError
    reason: str


@attrs.frozen
class Abandoned(BaseEvent):
    """A call that is not idempotent, cancelled after its request may have been sent: check whether it took effect.

    `maybe_acted` counts its attempts that may have taken effect, including the cancelled one.
    """

    endpoint: str
    maybe_acted: int


@attrs.frozen
class PossibleDuplicate(BaseEvent):
    """A call that is not idempotent, successful after `maybe_acted` earlier attempts that may have taken effect."""

    endpoint: str
    maybe_acted: int


@attrs.frozen
class EndpointRateLimited(BaseEvent):
    """A path whose rate limit is reached: no request is sent to it for `retry_after` seconds."""

    endpoint: str
    retry_after: float


@attrs.frozen
class TokenRejected(BaseEvent):
    """A token, number `generation`, that the platform rejected with `errcode`."""

    generation: int
    errcode: int


@attrs.frozen
class TokenRefreshed(BaseEvent):
    """A new token in the cache.

    `reason` is "first", "advisory", "mandatory", "expired" or "rejected" (by the platform). `expires_in` and
    `elapsed` are in seconds. `from_store` is True if the token was not fetched but found in the token store: another
    process, or an earlier run, had fetched it.
    """

    generation: int
    reason: str
    expires_in: float
    elapsed: float
    from_store: bool = False


@attrs.frozen
class TokenRefreshFailed(BaseEvent):
    """A token fetch that failed; the next one starts after `retry_after` seconds at the earliest."""

    reason: str
    error: WxtcbError
    retry_after: float
    elapsed: float


@attrs.frozen
class TokenStoreWriteFailed(BaseEvent):
    """A new token that could not be written to the token store (`reason`); only this session uses it."""

    generation: int
    reason: str


@attrs.frozen
class TokenStoreRolledBack(BaseEvent):
    """A token store that went back to an older state, with token number `generation` (0: none).

    Before, its token had number `newest_generation`, which may be the same. A backup was restored, a replica without
    the last write took over, or a program wrote an old document. This process goes on with the newer state, and its
    next write stores that again. To begin anew on purpose, delete the stored document.
    """

    generation: int
    newest_generation: int


@attrs.frozen
class TokenConflictDetected(BaseEvent):
    """`conflicts` tokens in a row that were invalidated from outside this token store.

    Another program seems to fetch tokens of the same platform. From now on, fetches of this program are at least
    `min_fetch_interval` seconds apart. `hint` says what to do.
    """

    conflicts: int
    min_fetch_interval: float
    hint: str


@attrs.frozen
class TicketReceived(BaseEvent):
    """A component_verify_ticket (验证票据) that WeChat pushed; `create_time` is in Unix seconds of WeChat's clock.

    `is_newest` is False for a repeated or late push, which changes nothing. `in_memory_only` is True until the token
    store has accepted the ticket.
    """

    create_time: int
    is_newest: bool
    in_memory_only: bool = False


@attrs.frozen
class TicketWriteFailed(BaseEvent):
    """The newest ticket, which could not be written to the token store (`reason`) and is in memory only.

    The write is retried after `retry_after` seconds. None means that the receiver is closing and the ticket is lost.
    """

    create_time: int
    reason: str
    retry_after: float | None


WRONG_SIGNATURE: Final = "the signature does not match"
SIGNATURE_HINT: Final = (
    "Check the message token (WXTCB_MESSAGE_TOKEN). If `wxtcb sandbox` was restarted, restart the receiver with its "
    "new variables"
)


@attrs.frozen
class PushRefused(BaseEvent):
    """A push that was answered with the HTTP status `status`; `reason` quotes nothing of it.

    It changed nothing. The exception is a ticket that arrives while too many notifications are in progress: it is
    stored, and the answer is 503 like that of every push then.

    `peer` is the IP address that sent it, as the server reports it: that of a proxy, unless the server is configured to
    trust the proxy. It is "" if unknown.
    """

    reason: str
    status: int
    peer: str = ""

    # Not part of `reason`, because that is the answer to the sender.
    @property
    def hint(self) -> str:
        """What to do, or "" if there is nothing to check."""
        return SIGNATURE_HINT if self.reason == WRONG_SIGNATURE else ""


UNDECRYPTABLE_HINT: Final = (
    "Check EncodingAESKey and appid. If they are correct, someone else knows the message token: change it in WeChat's "
    "console and here"
)


@attrs.frozen
class PushUndecryptable(BaseEvent):
    """A push that is signed with the message token, but could not be decrypted for this platform; it changed nothing.

    Either EncodingAESKey or appid is wrong here, or someone else knows the message token: change it in WeChat's
    console. It was answered like any signed push, so that the sender learns nothing. `peer` is as in `PushRefused`.
    """

    peer: str = ""


@attrs.frozen
class PushMalformed(BaseEvent):
    """A signed push that could not be parsed and changed nothing; `reason` quotes nothing of it.

    `peer` is as in `PushRefused`.
    """

    reason: str
    peer: str = ""


@attrs.frozen
class NotificationDropped(BaseEvent):
    """A push other than a ticket that was not passed on, because `in_progress` earlier ones are still running.

    It was answered with 503, so that WeChat repeats it.
    """

    info_type: str
    in_progress: int


@attrs.frozen
class NotificationFailed(BaseEvent):
    """A push other than a ticket for which `on_notification` raised or was cancelled, so its work may be incomplete.

    `error` is the name of the exception's class: "CancelledError" if the receiver was closed meanwhile. WeChat had its
    answer before and need not repeat the push. If it does, the push is passed on again.
    """

    info_type: str
    error: str


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
    | TokenStoreRolledBack
    | TokenConflictDetected
    | TicketReceived
    | TicketWriteFailed
    | PushRefused
    | PushUndecryptable
    | PushMalformed
    | NotificationDropped
    | NotificationFailed
)


@attrs.frozen(kw_only=True)
class Stats:
    """Counters of a session at one moment.

    `calls_in_flight` calls have a slot of the request limiter, `calls_waiting` calls wait for one, `calls_paused` calls
    wait for the rate limit of their path. `token_age` and `token_expires_in` are in seconds, or None without a token.
    `token_waiters` calls wait for a token. `retry_quota` is the rest of the retry quota, which is 500 when full.
    """

    calls_in_flight: int
    calls_waiting: int
    calls_paused: int
    token_age: float | None
    token_expires_in: float | None
    token_waiters: int
    retry_quota: int


class Hook(Protocol):
    """A callable that receives every event."""

    def __call__(self, event: Event, /) -> None: ...


class SessionInfo(Protocol):
    """The attributes of a session that a hook may use."""

    @property
    def component_appid(self) -> str: ...

    @property
    def base_url(self) -> str: ...

    def stats(self) -> Stats: ...


class SessionHook(Hook, Protocol):
    """A hook that serves several sessions and distinguishes them."""

    def bind(self, session: SessionInfo, /) -> Hook:
        """Return the hook for the events of *session*; called when the session, or a view of it, is built."""
        ...

    def on_session_open(self, session: SessionInfo, /) -> None:
        """Handle the opening of *session*."""
        ...
