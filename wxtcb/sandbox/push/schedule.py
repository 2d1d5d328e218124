"""Schedule of pushes: which messages are due when, and when pushing stops. Pure, `delivery` sends them."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from typing import Final, cast

from attrs import Attribute, define, field, frozen
from attrs.validators import optional

from wxtcb.sandbox.credentials import TICKET_TTL, MessageSettings
from wxtcb.sandbox.faults import validate_positive_seconds
from wxtcb.sandbox.push.crypto import RANDOM_PREFIX_LENGTH, encrypt_and_sign, write_xml
from wxtcb.sandbox.world import World

# The platform stops after failures too, but does not document after how many.
MAX_CONSECUTIVE_FAILURES: Final = 5
FIRST_CONTACT_INTERVAL: Final = 1.0
# Seconds. wxtcb's receiver accepts a signature for ten minutes.
MAX_SIGNATURE_AGE: Final = 300
# Seconds. A receiver that has accepted nothing yet gets a new ticket after that, long before the first one expires.
_MAX_FIRST_TICKET_AGE: Final = TICKET_TTL / 2
_TICKET_INFO_TYPE: Final = "component_verify_ticket"
_SUCCESS_BODY: Final = b"success"


class PushTargetNotSet(RuntimeError):
    """A push was requested before `push_to` set the URL."""

    def __init__(self) -> None:
        super().__init__("no push URL is set: call push_to(url) first")


def _validate_fraction(_settings: object, attribute: Attribute[float], value: object) -> None:
    if type(value) not in (int, float) or not 0 <= cast("float", value) <= 1:
        raise ValueError(f"{attribute.name} must be a fraction from 0 to 1")


@frozen(kw_only=True)
class PushSettings:
    """Interval of the tickets, and fractions of repeated and late pushes; see `Sandbox.push_to`."""

    every: float | None = field(validator=optional(validate_positive_seconds))
    repeated: float = field(default=0.0, validator=_validate_fraction)
    late: float = field(default=0.0, validator=_validate_fraction)


@frozen
class Push:
    """A message to deliver: POST `body` as `text/xml`, with `query` added to the receiver's URL.

    `create_time` is the CreateTime in the message, in Unix seconds.
    """

    info_type: str
    create_time: int
    query: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)


@frozen
class PushResult:
    """Result of a delivery: HTTP status and start of the body, or `error` if there was no response."""

    status: int | None = None
    response_body: bytes = b""
    error: str = ""

    @property
    def accepted(self) -> bool:
        """Whether the response was HTTP 200 with exactly `success`, which the platform requires."""
        return self.status == 200 and self.response_body == _SUCCESS_BODY

    def __str__(self) -> str:
        if self.status is None:
            return self.error
        return f"HTTP {self.status} {self.response_body.decode(errors='replace')!r}"


@define(eq=False)
class PushSchedule:
    """The platform's side of pushing.

    `due_pushes` and `next_delay` drive a delivery task. `make_ticket_push`, `make_notification` and `make_forged_push`
    make single pushes. `sent` and `failed` count deliveries.

    After `MAX_CONSECUTIVE_FAILURES` failures in a row pushing is `stopped` until api_start_push_ticket is called. Until
    the receiver has accepted a push, the first one is repeated every second, and failures do not stop that.
    """

    world: World = field(repr=False)
    settings: PushSettings = PushSettings(every=None)
    sent: int = field(default=0, init=False)
    failed: int = field(default=0, init=False)
    consecutive_failures: int = field(default=0, init=False)
    receiver_accepted: bool = field(default=False, init=False)
    _random: Random = field(init=False, repr=False)
    _last_ticket: str = field(default="", init=False, repr=False)
    _last_ticket_push: Push | None = field(default=None, init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        self._random = Random(f"pushes {self.world.seed}")

    @property
    def stopped(self) -> bool:
        """Whether no periodic pushes are made: pushing was never started, or failed too often."""
        # The flag is in the world because api_start_push_ticket sets it.
        return not self.world.credentials.push_enabled

    @property
    def next_delay(self) -> float | None:
        """Seconds until the next round; None if there is none."""
        every = self.settings.every
        # Until the receiver accepts, retry quickly: it is often started after the sandbox, or still has the credentials
        # of an earlier one.
        return every if self.receiver_accepted or every is None else min(every, FIRST_CONTACT_INTERVAL)

    def start(self) -> None:
        """Start pushing, or start again after it stopped."""
        self.world.credentials.push_enabled = True
        self.consecutive_failures = 0

    def configure(self, settings: PushSettings) -> None:
        """Start with these settings and a receiver that has not accepted a push yet."""
        self.settings, self.receiver_accepted = settings, False
        self.start()

    def due_pushes(self) -> list[Push]:
        """Return the pushes of this round in order of delivery: a new ticket, then repeated and late pushes."""
        previous = self._renew_last_push()
        if previous is not None and not self.receiver_accepted and self.world.ticket_age < _MAX_FIRST_TICKET_AGE:
            return [previous]
        push = self.make_ticket_push()
        pushes = [push]
        # Both numbers are drawn in each round, so that changing one fraction does not shift the draws of the other.
        repeat, late = self._random.random(), self._random.random()
        if repeat < self.settings.repeated:
            pushes.append(push)
        if late < self.settings.late and previous is not None:
            pushes.append(previous)
        return pushes

    def make_ticket_push(self) -> Push:
        """Issue a new ticket and return the push that contains it."""
        ticket = self._last_ticket = self.world.issue_ticket()
        create_time = self._unix_now()
        if self._last_ticket_push is not None:
            # A receiver orders tickets by CreateTime, so two of the same second must differ.
            create_time = max(create_time, self._last_ticket_push.create_time + 1)
        self._last_ticket_push = self._make_push(
            self.world.message_settings, _TICKET_INFO_TYPE, create_time, {"ComponentVerifyTicket": ticket}
        )
        return self._last_ticket_push

    def _renew_last_push(self) -> Push | None:
        """Return the last ticket push, signed anew if its signature is old: receivers may refuse it as a replay."""
        last = self._last_ticket_push
        if last is not None and self._unix_now() - int(last.query["timestamp"]) > MAX_SIGNATURE_AGE:
            fields = {"ComponentVerifyTicket": self._last_ticket}
            last = self._make_push(self.world.message_settings, last.info_type, last.create_time, fields)
            self._last_ticket_push = last
        return last

    def make_notification(self, info_type: str, fields: Mapping[str, str | int]) -> Push:
        """Return a push of another type; *fields* follow AppId, CreateTime and InfoType."""
        return self._make_push(self.world.message_settings, info_type, self._unix_now(), fields)

    def make_forged_push(self) -> Push:
        """Return a ticket push as an attacker makes it, who knows the appid but neither token nor key."""
        ticket = {"ComponentVerifyTicket": f"ticket@@@{self._random_digits(9)}"}
        return self._make_push(MessageSettings(self._random), _TICKET_INFO_TYPE, self._unix_now(), ticket)

    def record_result(self, result: PushResult) -> None:
        """Count a delivery, and stop after too many failures in a row."""
        self.receiver_accepted = self.receiver_accepted or result.accepted
        if result.status is None and not self.receiver_accepted:
            return
        self.sent += 1
        self.failed += not result.accepted
        if not self.receiver_accepted:
            return
        self.consecutive_failures = 0 if result.accepted else self.consecutive_failures + 1
        if self.consecutive_failures >= MAX_CONSECUTIVE_FAILURES:
            self.world.credentials.push_enabled = False

    def _make_push(
        self, message_settings: MessageSettings, info_type: str, create_time: int, fields: Mapping[str, str | int]
    ) -> Push:
        appid = self.world.credentials.appid
        header: dict[str, str | int] = {"AppId": appid, "CreateTime": create_time, "InfoType": info_type}
        encrypted = encrypt_and_sign(
            write_xml({**header, **fields}),
            appid=appid,
            message_token=message_settings.message_token,
            encoding_aes_key=message_settings.encoding_aes_key,
            timestamp=self._unix_now(),
            nonce=self._random_digits(10),
            random_prefix=self._random_digits(RANDOM_PREFIX_LENGTH).encode(),
        )
        return Push(info_type, create_time, encrypted.query, encrypted.body)

    def _unix_now(self) -> int:
        return int(self.world.unix_time())

    def _random_digits(self, length: int) -> str:
        return "".join(self._random.choices("0123456789", k=length))
