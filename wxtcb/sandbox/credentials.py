"""The credentials of the platform: appid, secret, tickets, and the one component token that is alive at a time."""

from __future__ import annotations

import string
from random import Random
from typing import Final

from attrs import Factory, define, field

from wxtcb.sandbox.errors import platform_error

__all__ = ["TICKET_TTL", "CredentialStore", "MessageSettings"]

TICKET_TTL: Final = 12 * 3600

_URLSAFE: Final = string.ascii_letters + string.digits + "-_"
_LOWER: Final = string.ascii_lowercase + string.digits
_ALPHABET: Final = string.ascii_letters + string.digits


@define(eq=False)
class CredentialStore:
    """Mints tokens and judges them; every mint voids the token before it.

    `tokens_issued` counts the tokens handed out, `forced_expirations` those that `expire_token` ended before their time.
    """

    random: Random = field(repr=False)
    appid: str = field(init=False)
    secret: str = field(init=False, repr=False)
    tokens_issued: int = field(default=0, init=False)
    forced_expirations: int = field(default=0, init=False)
    push_enabled: bool = field(default=False, init=False)
    _tickets: dict[str, float] = field(init=False, repr=False, default=Factory(dict[str, float]))
    _invalidated: set[str] = field(init=False, repr=False, default=Factory(set[str]))
    _authorizer_tokens: set[str] = field(init=False, repr=False, default=Factory(set[str]))
    _token: str = field(default="", init=False, repr=False)
    _expires_at: float = field(default=0.0, init=False)

    def __attrs_post_init__(self) -> None:
        self.appid = "wx" + self._random_string(_LOWER, 16)
        self.secret = self._random_string("0123456789abcdef", 32)

    def issue_ticket(self, now: float) -> str:
        """Issue a new ticket; older ones stay good for twelve hours from their own issue."""
        ticket = "ticket@@@" + self._random_string(_URLSAFE, 86)
        self._tickets[ticket] = now
        return ticket

    def ticket_issued_at(self, ticket: str) -> float:
        """Return when a ticket was issued, on the clock that told the time then."""
        return self._tickets[ticket]

    def check_app_credentials(self, appid: str, secret: str) -> None:
        """Refuse an appid or secret that is not this platform's."""
        if appid != self.appid:
            raise platform_error(40013)
        if secret != self.secret:
            raise platform_error(40125)

    def check_ticket(self, ticket: str, now: float) -> None:
        """Refuse a ticket that was never pushed, or that is past its life."""
        issued = self._tickets.get(ticket)
        if issued is None:
            raise platform_error(61006)
        if now - issued >= TICKET_TTL:
            raise platform_error(61005)

    def issue_token(self, now: float, ttl: float) -> str:
        """Hand out a new token and void the older one."""
        if self._token:
            self._invalidated.add(self._token)
        self.tokens_issued += 1
        self._token = f"{self.tokens_issued}_" + self._random_string(_URLSAFE, 100)
        self._expires_at = now + ttl
        return self._token

    def check_token(self, token: str | None, now: float) -> None:
        """Refuse every token but the living one: missing, replaced, ended and unknown have their own codes."""
        if not token:
            raise platform_error(41001)
        if token in self._invalidated:
            raise platform_error(40001)
        if token != self._token:
            raise platform_error(40014)
        if now >= self._expires_at:
            raise platform_error(42001)

    def issue_authorizer_token(self) -> str:
        """Hand out the access token of an authoriser, which lives as long as this world."""
        token = f"authorizer_{self._random_string(_URLSAFE, 100)}"
        self._authorizer_tokens.add(token)
        return token

    def is_authorizer_token(self, token: str | None) -> bool:
        """Say whether this is the token of an authoriser."""
        return token in self._authorizer_tokens

    def has_valid_token(self, now: float) -> bool:
        """Say whether some token would be accepted now."""
        return bool(self._token) and now < self._expires_at

    def expire_token(self, now: float) -> bool:
        """End the living token before its time; False if there was none, and then nothing is counted."""
        alive = self.has_valid_token(now)
        if alive:
            self._expires_at = now
            self.forced_expirations += 1
        return alive

    def _random_string(self, alphabet: str, length: int) -> str:
        return "".join(self.random.choices(alphabet, k=length))


@define(eq=False)
class MessageSettings:
    """The settings of message encryption, made up; the names are the console's.

    `previous_encoding_aes_key` is the key before the last change, None before there was one.
    """

    _random: Random = field(repr=False)
    message_token: str = field(init=False, repr=False)
    encoding_aes_key: str = field(init=False, repr=False)
    previous_encoding_aes_key: str | None = field(init=False, repr=False, default=None)

    def __attrs_post_init__(self) -> None:
        self.message_token = self._random_string(32)
        self.encoding_aes_key = self._random_string(43)

    def rotate_key(self) -> str:
        """Change the key; what is pushed from now on is encrypted with the new one."""
        self.previous_encoding_aes_key, self.encoding_aes_key = self.encoding_aes_key, self._random_string(43)
        return self.encoding_aes_key

    def _random_string(self, length: int) -> str:
        return "".join(self._random.choices(_ALPHABET, k=length))
