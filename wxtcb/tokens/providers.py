"""How a new token is got: bought with the ticket, or taken from a central service."""

from __future__ import annotations

import asyncio
import copy
import functools
from collections.abc import Awaitable, Callable
from typing import Final, Protocol, TypeVar

import attrs

from wxtcb._http.executor import RequestExecutor
from wxtcb._http.transport import Request, SendCancelled
from wxtcb._protocol.codec import RequestBody, encode_body
from wxtcb._protocol.endpoint import Endpoint, Reply
from wxtcb.errors import (
    ApiError,
    CloudUnavailable,
    PlatformBusy,
    RateLimited,
    TicketError,
    TicketExpired,
    TicketMissing,
    TokenConflict,
    TokenFetchLimit,
    TokenStoreError,
    TransportError,
    WxtcbError,
)
from wxtcb.secret import Secret
from wxtcb.tokens.callbacks import UserCodeFailure, call_user_code
from wxtcb.tokens.shared_state import SharedState
from wxtcb.tokens.sources import API_COMPONENT_TOKEN, API_START_PUSH_TICKET, ComponentToken, TicketSource, TokenSource
from wxtcb.tokens.state import TICKET_TTL
from wxtcb.validation import is_valid_unicode

R = TypeVar("R", bound=Reply)

FAILURE_CACHE_SECONDS: Final = 60.0

FetchFunction = Callable[[Callable[[], bool]], Awaitable[ComponentToken]]


class TokenProvider(Protocol):
    """Gives new tokens. What it raises is the failure of the renewal."""

    @property
    def invalidates_previous(self) -> bool:
        """Whether each token voids the one before: such are counted."""
        ...

    async def prepare(self) -> FetchFunction:
        """Return what fetches a token once the question that it is given says yes, right before a request leaves."""
        ...

    async def request_ticket_push(self, ticket_error: TicketError) -> None:
        """Ask for a push, if that was not done; return while what it brings may be waited for, else raise."""
        ...


def is_transient(error: WxtcbError) -> bool:
    """Tell whether a failed fetch may succeed soon, with the same credentials and the same ticket."""
    if isinstance(error, TicketError | TokenFetchLimit | TokenConflict):
        return isinstance(error, TicketError) and error.transient
    if isinstance(error, TokenStoreError):
        return not error.permanent
    return not isinstance(error, ApiError) or isinstance(error, PlatformBusy | CloudUnavailable | RateLimited)


@attrs.frozen(eq=False)
class StoredTicketSource:
    """Gives the ticket that the receiver keeps in the store; while the store is down, the one that was seen last."""

    shared_state: SharedState

    async def __call__(self) -> Secret | None:
        try:
            seen = await self.shared_state.read()
        except TokenStoreError:
            if self.shared_state.last_snapshot is None:
                raise
            seen = self.shared_state.last_snapshot
        ticket = seen.state.ticket
        if ticket is not None and (age := ticket.age(seen.store_time)) > TICKET_TTL:
            raise TicketExpired(age)
        return None if ticket is None else ticket.value


@attrs.define(eq=False)
class TicketTokenProvider:
    """Buys tokens with the app secret and the newest component_verify_ticket.

    A refusal that the same ticket would meet again is remembered for 60 seconds and raised without a request, until the
    ticket changes. Where there is no usable ticket and `push_timeout` is above 0, the push is asked for, at most once a
    minute, and what it brings is worth waiting for so many seconds.
    """

    executor: RequestExecutor
    component_appid: str
    component_appsecret: Secret
    ticket_source: TicketSource
    now: Callable[[], float]
    timeout: float = 35.0
    push_timeout: float = 0.0
    invalidates_previous: bool = attrs.field(init=False, default=True)
    _rejection: WxtcbError | None = attrs.field(init=False, default=None)
    _rejected_ticket: Secret | None = attrs.field(init=False, default=None)
    _rejected_until: float = attrs.field(init=False, default=0.0)
    _push_deadline: float = attrs.field(init=False, default=float("-inf"))
    _next_push_at: float = attrs.field(init=False, default=float("-inf"))
    _push_error: WxtcbError | None = attrs.field(init=False, default=None)

    async def prepare(self) -> FetchFunction:
        ticket = await self._get_ticket()
        if isinstance(ticket, WxtcbError):
            raise ticket
        self._raise_if_rejected(ticket)
        return functools.partial(self._fetch, ticket)

    async def _fetch(self, ticket: Secret, may_send: Callable[[], bool]) -> ComponentToken:
        fields = {
            "component_appid": self.component_appid,
            "component_appsecret": self.component_appsecret,
            "component_verify_ticket": ticket,
        }
        body = encode_body(fields, endpoint=API_COMPONENT_TOKEN.path)
        result = await self._send(API_COMPONENT_TOKEN, body, may_send)
        if isinstance(result, ComponentToken):
            return result
        if not is_transient(result):
            self._rejection, self._rejected_ticket, self._rejected_until = (
                result,
                ticket,
                self.now() + FAILURE_CACHE_SECONDS,
            )
        raise result

    async def _send(
        self, endpoint: Endpoint[R], body: RequestBody, may_send: Callable[[], bool] | None = None
    ) -> R | WxtcbError:
        result = await self.executor.send_once(endpoint, Request(endpoint.path, body, may_send=may_send))
        if isinstance(result, SendCancelled):
            raise asyncio.CancelledError(*result.args)
        return result

    async def _get_ticket(self) -> Secret | WxtcbError:
        """Return the ticket, or what is wrong with it."""
        ticket = await call_user_code(self.ticket_source, self.timeout)
        if isinstance(ticket, UserCodeFailure):
            return _ticket_source_error(f"the ticket source {ticket.message}")
        return ticket if isinstance(ticket, WxtcbError) else _validate_ticket(ticket)

    async def request_ticket_push(self, ticket_error: TicketError) -> None:
        if not self.push_timeout or ticket_error.transient or isinstance(ticket_error, ApiError):
            raise ticket_error
        if self.now() >= self._next_push_at:
            await self._start_push()
        if self._push_error is not None:
            raise copy.copy(self._push_error)
        if self.now() >= self._push_deadline:
            ticket_error.add_hint(f"The push was asked for, but brought no ticket within {self.push_timeout:g} s.")
            raise ticket_error

    async def _start_push(self) -> None:
        self._push_deadline = self.now() + self.push_timeout
        self._next_push_at = self.now() + max(self.push_timeout, FAILURE_CACHE_SECONDS)
        fields = {"component_appid": self.component_appid, "component_secret": self.component_appsecret}
        started = await self._send(API_START_PUSH_TICKET, encode_body(fields, endpoint=API_START_PUSH_TICKET.path))
        self._push_error = started if isinstance(started, WxtcbError) else None

    def _raise_if_rejected(self, ticket: Secret) -> None:
        left = self._rejected_until - self.now()
        if self._rejection is not None and left > 0 and ticket == self._rejected_ticket:
            again = copy.copy(self._rejection)
            again.retry_after = left
            raise again


@attrs.frozen(eq=False)
class ExternalTokenProvider:
    """Takes tokens from a program that alone fetches them; asking it voids nothing."""

    source: TokenSource
    timeout: float = 35.0
    invalidates_previous: bool = attrs.field(init=False, default=False)

    async def prepare(self) -> FetchFunction:
        return self._fetch

    async def request_ticket_push(self, ticket_error: TicketError) -> None:
        raise ticket_error

    async def _fetch(self, _may_send: Callable[[], bool], /) -> ComponentToken:
        token = await call_user_code(self.source, self.timeout)
        if isinstance(token, UserCodeFailure):
            raise TransportError(f"the token source {token.message}", endpoint=API_COMPONENT_TOKEN.path, sent=False)
        if isinstance(token, WxtcbError):
            raise token
        return _validate_token(token)


def _validate_token(token: object) -> ComponentToken:
    if not isinstance(token, ComponentToken):
        reason = f"the token source gave a {type(token).__name__}, not a wxtcb.tokens.ComponentToken"
    elif type(token.expires_in) not in (int, float):
        reason = f"the token source gave a token whose expires_in is a {type(token.expires_in).__name__}, not a number"
    elif not token.component_access_token or not is_valid_unicode(token.component_access_token):
        reason = "the token source gave a token that is empty, or no proper Unicode text"
    else:
        return token
    raise TransportError(reason, endpoint=API_COMPONENT_TOKEN.path, sent=False)


def _ticket_source_error(reason: str) -> TicketError:
    error = TicketError(f"{reason}; no token was asked for")
    error.transient = True
    return error


def _validate_ticket(ticket: object) -> Secret | TicketError:
    if ticket is None or ticket == "":
        return TicketMissing()
    if not isinstance(ticket, str | Secret):
        return _ticket_source_error(f"the ticket source gave a {type(ticket).__name__}, not a text")
    if not is_valid_unicode(ticket):
        return _ticket_source_error("the ticket is no proper Unicode text")
    return Secret.of(ticket)
