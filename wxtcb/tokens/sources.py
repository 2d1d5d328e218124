"""Where a new component_access_token comes from, and the two calls of the layer below the token."""

from __future__ import annotations

import asyncio
import copy
import traceback
from collections.abc import Awaitable, Callable
from typing import ClassVar, Final, Protocol

import attrs

from wxtcb.arguments import is_sendable
from wxtcb.endpoint import Credential, Done, Endpoint, Repeat, Reply
from wxtcb.errors import ApiError, Busy, CloudFault, MinuteLimit, TicketError, TokenCeiling, WxtcbError
from wxtcb.exchange import Exchange
from wxtcb.secret import Secret
from wxtcb.transport import Cancelled, Request
from wxtcb.wire import encode

TicketSource = Callable[[], Awaitable[str | Secret | None]]

REMEMBERED: Final = 60.0


@attrs.frozen
class ComponentToken(Reply):
    """A component_access_token and the seconds it lives, counted from when the platform made it."""

    keeps_raw: ClassVar[bool] = False

    component_access_token: Secret
    expires_in: int


API_COMPONENT_TOKEN: Final = Endpoint(
    "/cgi-bin/component/api_component_token",
    ComponentToken,
    Repeat.ONCE,
    Credential.NONE,
    name="api_component_token",
)
API_START_PUSH_TICKET: Final = Endpoint(
    "/cgi-bin/component/api_start_push_ticket", Done, Repeat.SET, Credential.NONE, name="api_start_push_ticket"
)


class TokenSource(Protocol):
    """Gives a new token; what it raises is the failure of the renewal."""

    async def fetch(self) -> ComponentToken: ...


def is_transient(error: WxtcbError) -> bool:
    """Tell whether a failed fetch may succeed soon, with the same credentials and the same ticket."""
    if isinstance(error, TicketError | TokenCeiling):
        return isinstance(error, TicketError) and error.passing
    return not isinstance(error, ApiError) or isinstance(error, Busy | CloudFault | MinuteLimit)


@attrs.define(eq=False)
class ComponentTicket:
    """Buys tokens with the app secret and the newest component_verify_ticket.

    A refusal that the same ticket would meet again is remembered for 60 seconds and raised without a request, until the
    ticket changes.
    """

    exchange: Exchange
    component_appid: str
    component_appsecret: Secret
    newest_ticket: TicketSource
    now: Callable[[], float]
    patience: float = 35.0
    _refusal: WxtcbError | None = attrs.field(init=False, default=None)
    _refused_ticket: Secret | None = attrs.field(init=False, default=None)
    _refused_until: float = attrs.field(init=False, default=0.0)

    async def fetch(self) -> ComponentToken:
        ticket = await self._ticket()
        self._raise_if_refused(ticket)
        fields = {
            "component_appid": self.component_appid,
            "component_appsecret": self.component_appsecret,
            "component_verify_ticket": ticket,
        }
        endpoint = API_COMPONENT_TOKEN
        result = await self.exchange.attempt(endpoint, Request(endpoint.path, encode(fields, endpoint=endpoint.path)))
        if isinstance(result, Cancelled):
            raise asyncio.CancelledError(*result.args)
        if isinstance(result, ComponentToken):
            return result
        if not is_transient(result):
            self._refusal, self._refused_ticket, self._refused_until = result, ticket, self.now() + REMEMBERED
        raise result

    async def _ticket(self) -> Secret:
        ticket = await self._ask_for_ticket()
        if isinstance(ticket, WxtcbError):
            raise ticket
        return ticket

    async def _ask_for_ticket(self) -> Secret | WxtcbError:
        """Return the ticket, or what is wrong: what the source raises ends here, for its frames hold tickets."""
        deadline = asyncio.timeout(self.patience)
        try:
            async with deadline:
                ticket = await self.newest_ticket()
        except WxtcbError as error:
            return copy.copy(error)
        except asyncio.CancelledError:
            if _being_cancelled():
                raise
            return _no_ticket("the ticket source was cancelled from within")
        except Exception as error:
            if deadline.expired():
                return _no_ticket(f"the ticket source gave none within {self.patience:g} s")
            return _no_ticket(f"the ticket source failed ({type(error).__name__} {place_of(error)})")
        return _as_secret(ticket)

    def _raise_if_refused(self, ticket: Secret) -> None:
        left = self._refused_until - self.now()
        if self._refusal is not None and left > 0 and ticket == self._refused_ticket:
            again = copy.copy(self._refusal)
            again.retry_after = left
            raise again


def _being_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _no_ticket(reason: str) -> TicketError:
    error = TicketError(f"{reason}; no token was asked for")
    error.passing = True
    return error


def place_of(error: Exception) -> str:
    """Say where *error* was raised, for a message in place of its traceback."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"in {frame.filename}, line {frame.lineno}"


def _as_secret(ticket: object) -> Secret | TicketError:
    if ticket is None or ticket == "":
        return TicketError(
            "there is no component_verify_ticket yet, so no token can be bought; nothing was sent. WeChat pushes one "
            "every 10 minutes to the platform's authorisation-event URL; api.token.api_start_push_ticket (re)starts "
            "that."
        )
    if not isinstance(ticket, str | Secret):
        return _no_ticket(f"the ticket source gave a {type(ticket).__name__}, not a text")
    if not is_sendable(ticket):
        return _no_ticket("the ticket is no proper Unicode text")
    return Secret.of(ticket)
