"""Credentials of the simulated platform: appid, secret, tickets, tokens, and the keys of pushed messages."""

from __future__ import annotations

import string
from collections.abc import Mapping
from random import Random
from typing import Final

from attrs import Factory, define, field

from wxtcb.sandbox.errors import platform_error

TICKET_TTL: Final = 12 * 3600

_ALPHANUMERIC: Final = string.ascii_letters + string.digits
_URLSAFE: Final = _ALPHANUMERIC + "-_"


def _random_string(random: Random, alphabet: str, length: int) -> str:
    return "".join(random.choices(alphabet, k=length))


@define(eq=False)
class CredentialStore:
    """The credentials of the platform, of which one component token is valid at a time, except for an overlap.

    `forced_expirations` counts the tokens that `expire_token` ended early.
    """

    random: Random = field(repr=False)
    appid: str = field(init=False)
    secret: str = field(init=False, repr=False)
    tokens_issued: int = field(default=0, init=False)
    forced_expirations: int = field(default=0, init=False)
    push_enabled: bool = field(default=False, init=False)
    _tickets: dict[str, float] = field(init=False, repr=False, default=Factory(dict[str, float]))
    # Earlier tokens, and the time until which each of them is accepted.
    _earlier_tokens: dict[str, float] = field(init=False, repr=False, default=Factory(dict[str, float]))
    _authorizer_tokens: set[str] = field(init=False, repr=False, default=Factory(set[str]))
    token: str = field(default="", init=False, repr=False)
    token_expires_at: float = field(default=0.0, init=False)

    def __attrs_post_init__(self) -> None:
        self.appid = "wx" + _random_string(self.random, string.ascii_lowercase + string.digits, 16)
        self.secret = _random_string(self.random, "0123456789abcdef", 32)

    def issue_ticket(self, now: float) -> str:
        """Issue a ticket; older tickets stay valid for 12 hours after their own issue."""
        ticket = "ticket@@@" + _random_string(self.random, _URLSAFE, 86)
        self._tickets[ticket] = now
        return ticket

    def valid_tickets(self, now: float) -> dict[str, float]:
        """Return the valid tickets, each with the time of its issue."""
        return {ticket: issued_at for ticket, issued_at in self._tickets.items() if now - issued_at < TICKET_TTL}

    def restore_tickets(self, tickets: Mapping[str, float]) -> None:
        """Replace all tickets by those of an earlier run, each with the time of its issue."""
        self._tickets = dict(tickets)

    def ticket_issued_at(self, ticket: str) -> float:
        return self._tickets[ticket]

    def check_app_credentials(self, appid: str, secret: str) -> None:
        if appid != self.appid:
            raise platform_error(40013)
        if secret != self.secret:
            raise platform_error(40125)

    def check_ticket(self, ticket: str, now: float) -> None:
        issued_at = self._tickets.get(ticket)
        if issued_at is None:
            raise platform_error(61006)
        if now - issued_at >= TICKET_TTL:
            raise platform_error(61005)

    def issue_token(self, now: float, ttl: float, overlap: float = 0.0) -> str:
        """Issue a component token, valid for `ttl` seconds; the previous one is valid for `overlap` seconds more."""
        if self.token:
            self._earlier_tokens[self.token] = min(now + overlap, self.token_expires_at)
        self.tokens_issued += 1
        # The number makes tokens distinct even under equal random draws, and shows in a log which one was used.
        self.token = f"{self.tokens_issued}_" + _random_string(self.random, _URLSAFE, 100)
        self.token_expires_at = now + ttl
        return self.token

    def check_token(self, token: str | None, now: float) -> None:
        """Raise `PlatformError` unless this is the valid component token."""
        if not token:
            raise platform_error(41001)
        if token in self._earlier_tokens:
            if now >= self._earlier_tokens[token]:
                raise platform_error(40001)
            return
        if token != self.token:
            raise platform_error(40014)
        if now >= self.token_expires_at:
            raise platform_error(42001)

    def issue_authorizer_token(self) -> str:
        """Issue the access token of an authorizer; it does not expire."""
        token = f"authorizer_{_random_string(self.random, _URLSAFE, 100)}"
        self._authorizer_tokens.add(token)
        return token

    def is_authorizer_token(self, token: str | None) -> bool:
        return token in self._authorizer_tokens

    def has_valid_token(self, now: float) -> bool:
        return bool(self.token) and now < self.token_expires_at

    def expire_token(self, now: float) -> bool:
        """Expire all component tokens early; return False, counting nothing, if the newest is not valid."""
        was_valid = self.has_valid_token(now)
        if was_valid:
            self.token_expires_at = now
            self._earlier_tokens = dict.fromkeys(self._earlier_tokens, now)
            self.forced_expirations += 1
        return was_valid


@define(eq=False)
class MessageSettings:
    """Token and key of pushed messages, which the platform's console shows next to appid and secret."""

    _random: Random = field(repr=False)
    message_token: str = field(init=False, repr=False)
    encoding_aes_key: str = field(init=False, repr=False)
    previous_encoding_aes_key: str | None = field(init=False, repr=False, default=None)

    def __attrs_post_init__(self) -> None:
        self.message_token = _random_string(self._random, _ALPHANUMERIC, 32)
        # 43 characters are the base64 of 32 bytes without its "=", as in the console.
        self.encoding_aes_key = _random_string(self._random, _ALPHANUMERIC, 43)

    def rotate_key(self) -> str:
        """Replace the key and return the new one, with which all later messages are encrypted."""
        self.previous_encoding_aes_key = self.encoding_aes_key
        self.encoding_aes_key = _random_string(self._random, _ALPHANUMERIC, 43)
        return self.encoding_aes_key
