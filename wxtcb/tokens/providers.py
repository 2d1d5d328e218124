"""Token providers: fetch a new component_access_token with the ticket, or take one from an external service.

Also the two endpoints that need no token: `api_component_token` and `api_start_push_ticket`.
"""

from __future__ import annotations

import asyncio
import copy
import functools
from collections.abc import Awaitable, Callable
from typing import ClassVar, Final, Protocol, TypeVar

import attrs

from wxtcb import errors
from wxtcb._http.executor import RequestExecutor
from wxtcb._http.transport import Request, SendCancelled
from wxtcb._protocol.codec import RequestBody, encode_body
from wxtcb._protocol.endpoint import Credential, Done, Endpoint, Repeat, Reply
from wxtcb.secret import Secret
from wxtcb.tokens.state_repository import StateRepository
from wxtcb.tokens.token_state import TICKET_TTL
from wxtcb.tokens.user_code import UserCodeFailure, call_user_code
from wxtcb.validation import is_valid_unicode, to_secret, type_validator

R = TypeVar("R", bound=Reply)

# How long a permanent failure is raised again without a request. It also limits how often a ticket push is requested.
FAILURE_CACHE_SECONDS: Final = 60.0


@attrs.frozen
class ComponentToken(Reply):
    """A component_access_token, and the seconds for which it is valid from when the platform issued it."""

    # The raw reply would hold the token as a plain string.
    keeps_raw: ClassVar[bool] = False

    component_access_token: Secret = attrs.field(converter=to_secret, validator=type_validator(Secret, optional=False))
    expires_in: int


TicketSource = Callable[[], Awaitable[str | Secret | None]]
TokenSource = Callable[[], Awaitable[ComponentToken]]


@attrs.frozen
class ReadOnly:
    """A token source for processes that never fetch: they use the token that others write to the shared store."""


# Never repeated automatically: each request invalidates the token before, and a lost response may have issued one.
API_COMPONENT_TOKEN: Final = Endpoint(
    "/cgi-bin/component/api_component_token",
    ComponentToken,
    Repeat.ONCE,
    Credential.NONE,
    name="api_component_token",
    official="getComponentAccessToken",
)
API_START_PUSH_TICKET: Final = Endpoint(
    "/cgi-bin/component/api_start_push_ticket",
    Done,
    Repeat.SET,
    Credential.NONE,
    name="api_start_push_ticket",
    official="startPushTicket",
)

# Fetches a token. Its argument is called right before the request is sent; if it returns False, `SendVetoed` is raised.
FetchFunction = Callable[[Callable[[], bool]], Awaitable[ComponentToken]]


class TokenProvider(Protocol):
    """A source of new tokens; its exceptions are the failure of the refresh."""

    @property
    def invalidates_previous(self) -> bool:
        """Whether each new token invalidates the one before; only such fetches count towards the hourly limit."""
        ...

    async def prepare(self) -> FetchFunction:
        """Do what can be done before the lease is acquired, and return the function that fetches a token."""
        ...

    async def request_ticket_push(self, ticket_error: errors.TicketError) -> None:
        """Request a push of the ticket if that was not done yet; raise if waiting for it is useless."""


def unsent_error(reason: str) -> errors.TransportError:
    """Return the error of a fetch that sent no request to the platform."""
    return errors.TransportError(reason, endpoint=API_COMPONENT_TOKEN.path, sent=False)


def is_transient(error: errors.WxtcbError) -> bool:
    """Return whether a failed fetch may soon succeed with the same credentials and the same ticket."""
    if isinstance(error, errors.TicketError | errors.TokenFetchLimit | errors.TokenConflict):
        return isinstance(error, errors.TicketError) and error.transient
    if isinstance(error, errors.TokenStoreError | errors.TransportError):
        return not error.permanent
    # WeChat has answered "api unauthorized" to token calls that had worked before with the same arguments, and worked
    # again later (forum, 2023-05-30). For all other calls it means a missing permission.
    if isinstance(error, errors.PermissionDenied) and error.errcode == 48001:
        return error.endpoint == API_COMPONENT_TOKEN.path
    return not isinstance(error, errors.ApiError) or isinstance(
        error, errors.PlatformBusy | errors.CloudUnavailable | errors.RateLimited
    )


@attrs.frozen(eq=False)
class StoredTicketSource:
    """A ticket source that reads the store; while the store is down it returns the ticket that was read last."""

    state_repository: StateRepository

    async def __call__(self) -> Secret | None:
        try:
            snapshot = await self.state_repository.read()
        except errors.TokenStoreError:
            if self.state_repository.last_snapshot is None:
                raise
            snapshot = self.state_repository.last_snapshot
        ticket = snapshot.state.ticket
        if ticket is not None and (age := ticket.age(snapshot.store_time)) > TICKET_TTL:
            raise errors.TicketExpired(age)
        return None if ticket is None else ticket.value


@attrs.define(eq=False)
class TicketTokenProvider:
    """Provider that fetches tokens with the app secret and the newest component_verify_ticket (验证票据).

    A permanent rejection is remembered for 60 seconds. It is raised again without a request until the ticket changes.
    If there is no usable ticket, a push is requested, at most once a minute, and callers wait for it up to
    `ticket_timeout` seconds; None means that no push is requested. `timeout`, in seconds, limits each call of the
    ticket source.
    """

    executor: RequestExecutor
    component_appid: str
    component_appsecret: Secret
    ticket_source: TicketSource
    now: Callable[[], float]
    timeout: float = 35.0
    ticket_timeout: float | None = None
    invalidates_previous: bool = attrs.field(init=False, default=True)
    _rejection: errors.WxtcbError | None = attrs.field(init=False, default=None)
    _rejected_ticket: Secret | None = attrs.field(init=False, default=None)
    _rejected_until: float = attrs.field(init=False, default=0.0)
    _push_deadline: float = attrs.field(init=False, default=float("-inf"))
    _next_push_at: float = attrs.field(init=False, default=float("-inf"))
    _push_error: errors.WxtcbError | None = attrs.field(init=False, default=None)

    async def prepare(self) -> FetchFunction:
        ticket = await self._get_ticket()
        remaining = self._rejected_until - self.now()
        if self._rejection is not None and remaining > 0 and ticket == self._rejected_ticket:
            # A copy, because several callers may get it and each adds its own traceback.
            rejection = copy.copy(self._rejection)
            rejection.retry_after = remaining
            raise rejection
        return functools.partial(self._fetch, ticket)

    async def _get_ticket(self) -> Secret:
        ticket: object = await call_user_code(self.ticket_source, self.timeout)
        if isinstance(ticket, errors.WxtcbError):
            raise ticket
        if ticket is None or ticket == "":
            raise errors.TicketMissing
        if isinstance(ticket, str | Secret) and is_valid_unicode(ticket):
            return Secret.of(ticket)
        if isinstance(ticket, UserCodeFailure):
            reason = ticket.message
        elif isinstance(ticket, str | Secret):
            reason = "returned a string that is not valid Unicode"
        else:
            reason = f"returned a {type(ticket).__name__}; it must return a string"
        error = errors.TicketError(f"the ticket source {reason}; no token was requested")
        error.transient = True
        # The frame is part of the traceback, and error reporters print its variables.
        del ticket
        raise error

    async def _fetch(self, ticket: Secret, may_send: Callable[[], bool]) -> ComponentToken:
        fields = {"component_appid": self.component_appid, "component_appsecret": self.component_appsecret}
        body = encode_body({**fields, "component_verify_ticket": ticket}, endpoint=API_COMPONENT_TOKEN.path)
        result = await self._send(API_COMPONENT_TOKEN, body, may_send)
        if isinstance(result, ComponentToken):
            return result
        if not is_transient(result):
            self._rejection, self._rejected_ticket = result, ticket
            self._rejected_until = self.now() + FAILURE_CACHE_SECONDS
        raise result

    async def _send(
        self, endpoint: Endpoint[R], body: RequestBody, may_send: Callable[[], bool] | None = None
    ) -> R | errors.WxtcbError:
        result = await self.executor.send_once(endpoint, Request(endpoint.path, body, may_send=may_send))
        # The executor returns a cancellation as an error that says whether the request was sent. Here it ends the task.
        if isinstance(result, SendCancelled):
            raise asyncio.CancelledError(*result.args)
        return result

    async def request_ticket_push(self, ticket_error: errors.TicketError) -> None:
        # An `ApiError` here is a ticket that the platform rejected: a push brings the next one in 10 minutes anyway.
        if self.ticket_timeout is None or ticket_error.transient or isinstance(ticket_error, errors.ApiError):
            raise ticket_error
        now = self.now()
        if now >= self._next_push_at:
            self._push_deadline = now + self.ticket_timeout
            self._next_push_at = now + max(self.ticket_timeout, FAILURE_CACHE_SECONDS)
            # The platform names this field differently here: component_secret, not component_appsecret.
            fields = {"component_appid": self.component_appid, "component_secret": self.component_appsecret}
            body = encode_body(fields, endpoint=API_START_PUSH_TICKET.path)
            started = await self._send(API_START_PUSH_TICKET, body)
            self._push_error = started if isinstance(started, errors.WxtcbError) else None
        if self._push_error is not None:
            raise copy.copy(self._push_error)
        if self.now() >= self._push_deadline:
            ticket_error.add_hint(f"A push was requested, but no ticket arrived within {self.ticket_timeout:g} s.")
            raise ticket_error


@attrs.frozen(eq=False)
class ExternalTokenProvider:
    """Provider that takes tokens from the only program that fetches them; `timeout` limits each call, in seconds."""

    source: TokenSource
    timeout: float = 35.0
    invalidates_previous: bool = attrs.field(init=False, default=False)

    async def prepare(self) -> FetchFunction:
        return self._fetch

    async def request_ticket_push(self, ticket_error: errors.TicketError) -> None:
        raise ticket_error

    async def _fetch(self, _may_send: Callable[[], bool], /) -> ComponentToken:
        token = await call_user_code(self.source, self.timeout)
        if isinstance(token, UserCodeFailure):
            raise unsent_error(f"the token source {token.message}")
        if isinstance(token, errors.WxtcbError):
            raise token
        return _validate_token(token)


def _validate_token(token: object) -> ComponentToken:
    # The messages name types only: a value of the wrong type may still be the token.
    if not isinstance(token, ComponentToken):
        reason = f"the token source returned a {type(token).__name__}; it must return a wxtcb.tokens.ComponentToken"
    elif type(token.expires_in) not in (int, float):
        reason = f"expires_in of the token source's token must be a number, not {type(token.expires_in).__name__}"
    elif not token.component_access_token or not is_valid_unicode(token.component_access_token):
        reason = "component_access_token of the token source's token must be a non-empty string of valid Unicode"
    else:
        return token
    raise unsent_error(reason)
