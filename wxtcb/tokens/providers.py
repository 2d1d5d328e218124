"""How a new token is got: bought with the ticket, or taken from a central service."""

from __future__ import annotations

import asyncio
import copy
import functools
from collections.abc import Awaitable, Callable
from typing import Final, Protocol, TypeVar

import attrs

from wxtcb._http.executor import Exchange
from wxtcb._http.transport import Cancelled, Request
from wxtcb._protocol.codec import Body, encode
from wxtcb._protocol.endpoint import Endpoint, Reply
from wxtcb.errors import (
    ApiError,
    Busy,
    CloudFault,
    MinuteLimit,
    TicketError,
    TicketMissing,
    TicketTooOld,
    TokenCeiling,
    TokenContested,
    TokenStoreError,
    TransportError,
    WxtcbError,
)
from wxtcb.secret import Secret
from wxtcb.tokens.callbacks import Told, ask_foreign
from wxtcb.tokens.shared_state import SharedRecord
from wxtcb.tokens.sources import API_COMPONENT_TOKEN, API_START_PUSH_TICKET, ComponentToken, TicketSource, TokenSource
from wxtcb.tokens.state import TICKET_LIFE
from wxtcb.validation import is_sendable

R = TypeVar("R", bound=Reply)

REMEMBERED: Final = 60.0

Order = Callable[[Callable[[], bool]], Awaitable[ComponentToken]]


class Origin(Protocol):
    """Gives new tokens. What it raises is the failure of the renewal."""

    @property
    def voids(self) -> bool:
        """Whether each token voids the one before: such are counted."""
        ...

    async def prepare(self) -> Order:
        """Return what fetches a token once the question that it is given says yes, right before a request leaves."""
        ...

    async def ask_for_push(self, lacking: TicketError) -> None:
        """Ask for a push, if that was not done; return while what it brings may be waited for, else raise."""
        ...


def is_transient(error: WxtcbError) -> bool:
    """Tell whether a failed fetch may succeed soon, with the same credentials and the same ticket."""
    if isinstance(error, TicketError | TokenCeiling | TokenContested):
        return isinstance(error, TicketError) and error.passing
    if isinstance(error, TokenStoreError):
        return not error.lasting
    return not isinstance(error, ApiError) or isinstance(error, Busy | CloudFault | MinuteLimit)


@attrs.frozen(eq=False)
class KeptTicketSource:
    """Gives the ticket that the receiver keeps in the store; while the store is down, the one that was seen last."""

    shared: SharedRecord

    async def __call__(self) -> Secret | None:
        try:
            seen = await self.shared.read()
        except TokenStoreError:
            if self.shared.last is None:
                raise
            seen = self.shared.last
        ticket = seen.record.ticket
        if ticket is not None and (age := ticket.age(seen.now)) > TICKET_LIFE:
            raise TicketTooOld(age)
        return None if ticket is None else ticket.value


@attrs.define(eq=False)
class ComponentTicket:
    """Buys tokens with the app secret and the newest component_verify_ticket.

    A refusal that the same ticket would meet again is remembered for 60 seconds and raised without a request, until the
    ticket changes. Where there is no usable ticket and `push_within` is above 0, the push is asked for, at most once a
    minute, and what it brings is worth waiting for so many seconds.
    """

    exchange: Exchange
    component_appid: str
    component_appsecret: Secret
    newest_ticket: TicketSource
    now: Callable[[], float]
    patience: float = 35.0
    push_within: float = 0.0
    voids: bool = attrs.field(init=False, default=True)
    _refusal: WxtcbError | None = attrs.field(init=False, default=None)
    _refused_ticket: Secret | None = attrs.field(init=False, default=None)
    _refused_until: float = attrs.field(init=False, default=0.0)
    _push_until: float = attrs.field(init=False, default=float("-inf"))
    _push_again_at: float = attrs.field(init=False, default=float("-inf"))
    _push_failure: WxtcbError | None = attrs.field(init=False, default=None)

    async def prepare(self) -> Order:
        ticket = await self._ticket()
        if isinstance(ticket, WxtcbError):
            raise ticket
        self._raise_if_refused(ticket)
        return functools.partial(self._buy, ticket)

    async def _buy(self, ticket: Secret, may_send: Callable[[], bool]) -> ComponentToken:
        fields = {
            "component_appid": self.component_appid,
            "component_appsecret": self.component_appsecret,
            "component_verify_ticket": ticket,
        }
        body = encode(fields, endpoint=API_COMPONENT_TOKEN.path)
        result = await self._send(API_COMPONENT_TOKEN, body, may_send)
        if isinstance(result, ComponentToken):
            return result
        if not is_transient(result):
            self._refusal, self._refused_ticket, self._refused_until = result, ticket, self.now() + REMEMBERED
        raise result

    async def _send(
        self, endpoint: Endpoint[R], body: Body, may_send: Callable[[], bool] | None = None
    ) -> R | WxtcbError:
        result = await self.exchange.attempt(endpoint, Request(endpoint.path, body, may_send=may_send))
        if isinstance(result, Cancelled):
            raise asyncio.CancelledError(*result.args)
        return result

    async def _ticket(self) -> Secret | WxtcbError:
        """Return the ticket, or what is wrong with it."""
        ticket = await ask_foreign(self.newest_ticket, self.patience)
        if isinstance(ticket, Told):
            return _no_ticket(f"the ticket source {ticket.words}")
        return ticket if isinstance(ticket, WxtcbError) else _as_secret(ticket)

    async def ask_for_push(self, lacking: TicketError) -> None:
        if not self.push_within or lacking.passing or isinstance(lacking, ApiError):
            raise lacking
        if self.now() >= self._push_again_at:
            await self._start_push()
        if self._push_failure is not None:
            raise copy.copy(self._push_failure)
        if self.now() >= self._push_until:
            lacking.advise(f"The push was asked for, but brought no ticket within {self.push_within:g} s.")
            raise lacking

    async def _start_push(self) -> None:
        self._push_until = self.now() + self.push_within
        self._push_again_at = self.now() + max(self.push_within, REMEMBERED)
        fields = {"component_appid": self.component_appid, "component_secret": self.component_appsecret}
        started = await self._send(API_START_PUSH_TICKET, encode(fields, endpoint=API_START_PUSH_TICKET.path))
        self._push_failure = started if isinstance(started, WxtcbError) else None

    def _raise_if_refused(self, ticket: Secret) -> None:
        left = self._refused_until - self.now()
        if self._refusal is not None and left > 0 and ticket == self._refused_ticket:
            again = copy.copy(self._refusal)
            again.retry_after = left
            raise again


@attrs.frozen(eq=False)
class CentralService:
    """Takes tokens from a program that alone fetches them; asking it voids nothing."""

    source: TokenSource
    patience: float = 35.0
    voids: bool = attrs.field(init=False, default=False)

    async def prepare(self) -> Order:
        return self._ask

    async def ask_for_push(self, lacking: TicketError) -> None:
        raise lacking

    async def _ask(self, _may_send: Callable[[], bool], /) -> ComponentToken:
        token = await ask_foreign(self.source, self.patience)
        if isinstance(token, Told):
            raise TransportError(f"the token source {token.words}", endpoint=API_COMPONENT_TOKEN.path, sent=False)
        if isinstance(token, WxtcbError):
            raise token
        return _as_token(token)


def _as_token(token: object) -> ComponentToken:
    if not isinstance(token, ComponentToken):
        reason = f"the token source gave a {type(token).__name__}, not a wxtcb.tokens.ComponentToken"
    elif type(token.expires_in) not in (int, float):
        reason = f"the token source gave a token whose expires_in is a {type(token.expires_in).__name__}, not a number"
    elif not token.component_access_token or not is_sendable(token.component_access_token):
        reason = "the token source gave a token that is empty, or no proper Unicode text"
    else:
        return token
    raise TransportError(reason, endpoint=API_COMPONENT_TOKEN.path, sent=False)


def _no_ticket(reason: str) -> TicketError:
    error = TicketError(f"{reason}; no token was asked for")
    error.passing = True
    return error


def _as_secret(ticket: object) -> Secret | TicketError:
    if ticket is None or ticket == "":
        return TicketMissing()
    if not isinstance(ticket, str | Secret):
        return _no_ticket(f"the ticket source gave a {type(ticket).__name__}, not a text")
    if not is_sendable(ticket):
        return _no_ticket("the ticket is no proper Unicode text")
    return Secret.of(ticket)
