"""The base of all errors, and those of what was not sent; their names for everybody are those of `wxtcb.errors`."""

from __future__ import annotations


class WxtcbError(Exception):
    """The base of all errors of wxtcb.

    `reason` says in short what went wrong; `endpoint` is the path of the call, if there was one. `maybe_acted` counts
    the attempts of a call that may have taken effect, the last one included; 0 means that it certainly did not.
    `retry_after`, where not None, is the number of seconds after which the next try makes sense. Errors can be copied
    and pickled.
    """

    reason: str
    endpoint: str | None
    maybe_acted: int
    retry_after: float | None

    def __init__(self, message: str, *, endpoint: str | None = None, reason: str | None = None) -> None:
        super().__init__(message)
        self.reason = reason or message
        self.endpoint = endpoint
        self.maybe_acted = 0
        self.retry_after = None

    def add_hint(self, hint: str) -> None:
        """Add a sentence to the message."""
        self.args = (f"{self} {hint}",)

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild_error, (type(self), self.args), self.__dict__


def _rebuild_error(error_class: type[WxtcbError], args: tuple[object, ...]) -> WxtcbError:
    error = error_class.__new__(error_class)
    error.args = args
    return error


class InvalidArgument(WxtcbError, ValueError):
    """An argument breaks a documented rule; nothing was sent."""


class SendVetoed(WxtcbError):
    """`may_send` of ``Session.with_options`` said no, so this attempt was not sent.

    Earlier attempts of the same call may have been: `maybe_acted` counts those that may have taken effect.
    """

    def __init__(self, *, endpoint: str) -> None:
        super().__init__(
            f"{endpoint}: withheld by may_send. This attempt was not sent.",
            endpoint=endpoint,
            reason="withheld by may_send",
        )


class SessionClosed(WxtcbError):
    """The session is not open: it was not entered yet, or it was closed while this call waited."""


class WrongLoop(WxtcbError):
    """The session was entered in another event loop or process; nothing was sent."""


class TicketError(WxtcbError):
    """There is no component_verify_ticket to buy a token with, or the platform refused the one there is.

    `transient`: the ticket source failed, which says nothing about the next try.
    """

    transient: bool = False


class TicketMissing(TicketError):
    """WeChat has not pushed a component_verify_ticket yet, or none was kept."""

    def __init__(self) -> None:
        super().__init__(
            "there is no component_verify_ticket yet, so no token can be bought; nothing was sent. WeChat pushes one "
            "every 10 minutes to the platform's authorisation-event URL; api.token.api_start_push_ticket (re)starts "
            "that."
        )


class TicketExpired(TicketError):
    """The newest component_verify_ticket is over 12 hours old: the push has stopped, or does not arrive.

    `age` is in seconds.
    """

    def __init__(self, age: float) -> None:
        super().__init__(
            f"the newest component_verify_ticket is {age / 3600:.1f} hours old, and one is good for 12; nothing was "
            "sent. See whether the receiver answers each push with exactly `success`, then restart the push with "
            "api.token.api_start_push_ticket."
        )
        self.age = age


class TokenFetchLimit(WxtcbError):
    """As many tokens as `max_fetches_per_hour` allows were minted in the last hour.

    Something voids the tokens: another program that fetches for the same platform, or a store that is not shared.
    `retry_after` says when the ceiling allows the next fetch.
    """

    def __init__(self, limit: int, retry_after: float) -> None:
        super().__init__(
            f"{limit} component_access_tokens were fetched within an hour, which is the ceiling, so no other is "
            f"fetched for {retry_after:.0f} s. Nothing was sent. Probably another program fetches tokens of this "
            "platform and voids ours: let all of them share one token_store, or raise max_fetches_per_hour."
        )
        self.retry_after = retry_after


class TokenConflict(WxtcbError):
    """Token after token was called "not latest": another program keeps fetching tokens of this platform.

    Each of its fetches voids our token, and each of ours the other's, so ours become rarer, up to a minute apart.
    `retry_after` says when the next one is due.
    """

    def __init__(self, conflicts: int, retry_after: float) -> None:
        super().__init__(
            f"{conflicts} component_access_tokens in a row were voided by somebody else, so another program seems to fetch "
            f"tokens of this platform; the next is fetched in {retry_after:.0f} s. Nothing was sent. Let all programs "
            "and processes share one token_store, or let one of them alone fetch."
        )
        self.retry_after = retry_after


class TokenStoreError(WxtcbError):
    """The token store did not answer in time, failed, or keeps what is no token record of this version.

    `permanent`: it would fail again until somebody mends it, so that no token is fetched without it either.
    """

    def __init__(self, reason: str, *, permanent: bool = False) -> None:
        super().__init__(f"the token store: {reason}. Nothing was sent. Look after the store.", reason=reason)
        self.permanent = permanent
