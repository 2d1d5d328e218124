"""The credentials of the platform: appid, secret, tickets, and the one component token that is alive at a time."""

from __future__ import annotations

import string
from random import Random
from typing import Final

from attrs import Factory, define, field

from wxtcb.sandbox.errors import refuse

__all__ = ["TICKET_LIFE", "TokenDesk"]

TICKET_LIFE: Final = 12 * 3600

_URLSAFE: Final = string.ascii_letters + string.digits + "-_"
_LOWER: Final = string.ascii_lowercase + string.digits


@define(eq=False)
class TokenDesk:
    """Mints tokens and judges them; every mint voids the token before it.

    `mints` counts the tokens handed out, `kills` those that `kill` ended before their time.
    """

    random: Random = field(repr=False)
    appid: str = field(init=False)
    secret: str = field(init=False, repr=False)
    mints: int = field(default=0, init=False)
    kills: int = field(default=0, init=False)
    pushing: bool = field(default=False, init=False)
    _tickets: dict[str, float] = field(init=False, repr=False, default=Factory(dict[str, float]))
    _voided: set[str] = field(init=False, repr=False, default=Factory(set[str]))
    _authorizers: set[str] = field(init=False, repr=False, default=Factory(set[str]))
    _token: str = field(default="", init=False, repr=False)
    _ends_at: float = field(default=0.0, init=False)

    def __attrs_post_init__(self) -> None:
        self.appid = "wx" + self._letters(_LOWER, 16)
        self.secret = self._letters("0123456789abcdef", 32)

    def issue_ticket(self, now: float) -> str:
        """Issue a new ticket; older ones stay good for twelve hours from their own issue."""
        ticket = "ticket@@@" + self._letters(_URLSAFE, 86)
        self._tickets[ticket] = now
        return ticket

    def issued_at(self, ticket: str) -> float:
        """Return when a ticket was issued, on the clock that told the time then."""
        return self._tickets[ticket]

    def check_account(self, appid: str, secret: str) -> None:
        """Refuse an appid or secret that is not this platform's."""
        if appid != self.appid:
            raise refuse(40013)
        if secret != self.secret:
            raise refuse(40125)

    def check_ticket(self, ticket: str, now: float) -> None:
        """Refuse a ticket that was never pushed, or that is past its life."""
        issued = self._tickets.get(ticket)
        if issued is None:
            raise refuse(61006)
        if now - issued >= TICKET_LIFE:
            raise refuse(61005)

    def mint(self, now: float, life: float) -> str:
        """Hand out a new token and void the older one."""
        if self._token:
            self._voided.add(self._token)
        self.mints += 1
        self._token = f"{self.mints}_" + self._letters(_URLSAFE, 100)
        self._ends_at = now + life
        return self._token

    def check_token(self, token: str | None, now: float) -> None:
        """Refuse every token but the living one: missing, replaced, ended and unknown have their own codes."""
        if not token:
            raise refuse(41001)
        if token in self._voided:
            raise refuse(40001)
        if token != self._token:
            raise refuse(40014)
        if now >= self._ends_at:
            raise refuse(42001)

    def authorize(self) -> str:
        """Hand out the access token of an authoriser, which lives as long as this world."""
        token = f"authorizer_{self._letters(_URLSAFE, 100)}"
        self._authorizers.add(token)
        return token

    def is_authorizers(self, token: str | None) -> bool:
        """Say whether this is the token of an authoriser."""
        return token in self._authorizers

    def lives(self, now: float) -> bool:
        """Say whether some token would be accepted now."""
        return bool(self._token) and now < self._ends_at

    def kill(self, now: float) -> bool:
        """End the living token before its time; False if there was none, and then nothing is counted."""
        alive = self.lives(now)
        if alive:
            self._ends_at = now
            self.kills += 1
        return alive

    def _letters(self, alphabet: str, length: int) -> str:
        return "".join(self.random.choices(alphabet, k=length))
