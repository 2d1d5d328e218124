"""What is pushed to the platform's owner, when, and what the answers lead to. Pure; delivery is elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from typing import Final, cast

from attrs import Attribute, define, field, frozen
from attrs.validators import optional

from wxtcb.sandbox.credentials import MessageSettings
from wxtcb.sandbox.faults import validate_positive_seconds
from wxtcb.sandbox.push.crypto import RANDOM_PREFIX_LENGTH, EncryptedMessage, encrypt_and_sign, write_xml
from wxtcb.sandbox.world import World

__all__ = [
    "FIRST_CONTACT_INTERVAL",
    "MAX_CONSECUTIVE_FAILURES",
    "Push",
    "PushResult",
    "PushSchedule",
    "PushSettings",
    "PushTargetNotSet",
]

MAX_CONSECUTIVE_FAILURES: Final = 5  # failures in a row; the platform has such a number too, but does not tell it
FIRST_CONTACT_INTERVAL: Final = 1.0
_TICKET_INFO_TYPE: Final = "component_verify_ticket"
_SUCCESS_BODY: Final = b"success"


class PushTargetNotSet(RuntimeError):
    """Something was to be pushed before `push_to` said where to."""

    def __init__(self) -> None:
        super().__init__("nobody is there to push to: push_to(url) comes first")


def _validate_fraction(_settings: object, attribute: Attribute[float], value: object) -> None:
    if type(value) not in (int, float) or not 0 <= cast("float", value) <= 1:
        raise ValueError(f"{attribute.name} must be a fraction from 0 to 1")


@frozen(kw_only=True)
class PushSettings:
    """How often tickets are pushed, and what befalls them; see `Sandbox.push_to`."""

    every: float | None = field(validator=optional(validate_positive_seconds))
    repeated: float = field(default=0.0, validator=_validate_fraction)
    late: float = field(default=0.0, validator=_validate_fraction)


@frozen
class Push:
    """A message on its way: POST `body` with `query` behind the receiver's address, as `text/xml`.

    `create_time` is its CreateTime, in Unix seconds.
    """

    info_type: str
    create_time: int
    query: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)


@frozen
class PushResult:
    """What came of a push: the HTTP status and the start of the answer, or, without an answer, the `error`."""

    status: int | None = None
    response_body: bytes = b""
    error: str = ""

    @property
    def accepted(self) -> bool:
        """Whether the answer was what the platform wants: HTTP 200, and `success` with nothing around it."""
        return self.status == 200 and self.response_body == _SUCCESS_BODY

    def __str__(self) -> str:
        if self.status is None:
            return self.error
        return f"HTTP {self.status} {self.response_body.decode(errors='replace')!r}"


@define(eq=False)
class PushSchedule:
    """The platform's side of pushing: `make_ticket_push`, `make_notification` and `make_forged_push` make pushes for whoever delivers them himself.

    `sent` and `failed` count deliveries. After `MAX_CONSECUTIVE_FAILURES` failures in a row pushing is `stopped`, until
    api_start_push_ticket starts it again. What nobody hears before the receiver has ever answered counts as nothing,
    and is delivered again every second: a receiver may be started after the platform.
    """

    world: World = field(repr=False)
    settings: PushSettings = PushSettings(every=None)
    sent: int = field(default=0, init=False)
    failed: int = field(default=0, init=False)
    consecutive_failures: int = field(default=0, init=False)
    receiver_responded: bool = field(default=False, init=False)
    _random: Random = field(init=False, repr=False)
    _last_ticket_push: Push | None = field(default=None, init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        self._random = Random(f"pushes {self.world.seed}")

    @property
    def stopped(self) -> bool:
        """Whether nothing is pushed by itself: it was not started, or has failed too often."""
        return not self.world.credentials.push_enabled

    @property
    def next_delay(self) -> float | None:
        """The seconds until the next round; None if none comes by itself."""
        every = self.settings.every
        return every if self.receiver_responded or every is None else min(every, FIRST_CONTACT_INTERVAL)

    def start(self) -> None:
        """Let pushing begin, or begin again."""
        self.world.credentials.push_enabled = True
        self.consecutive_failures = 0

    def configure(self, settings: PushSettings) -> None:
        """Begin at this pace with a receiver that has not answered yet."""
        self.settings, self.receiver_responded = settings, False
        self.start()

    def due_pushes(self) -> list[Push]:
        """Return what is due, in the order of delivery: a new ticket, and what is repeated."""
        before = self._last_ticket_push
        if before is not None and not self.receiver_responded:
            return [before]
        push = self.make_ticket_push()
        again, late = self._random_chance(self.settings.repeated), self._random_chance(self.settings.late)
        return [push, *([push] if again else ()), *([before] if late and before is not None else ())]

    def make_ticket_push(self) -> Push:
        """Issue a new ticket and return the push that brings it; no two have the same CreateTime."""
        ticket = self.world.issue_ticket()
        created = (
            self._unix_now()
            if self._last_ticket_push is None
            else max(self._unix_now(), self._last_ticket_push.create_time + 1)
        )
        self._last_ticket_push = self._build_push(
            self.world.message_settings, _TICKET_INFO_TYPE, created, {"ComponentVerifyTicket": ticket}
        )
        return self._last_ticket_push

    def make_notification(self, info_type: str, fields: Mapping[str, str | int]) -> Push:
        """Return a push of another kind; `fields` are its own, beside AppId, CreateTime and InfoType."""
        return self._build_push(self.world.message_settings, info_type, self._unix_now(), fields)

    def make_forged_push(self) -> Push:
        """Return the push of a ticket by somebody who knows the appid, but neither token nor key."""
        ticket = {"ComponentVerifyTicket": f"ticket@@@{self._random_digits(9)}"}
        return self._build_push(MessageSettings(self._random), _TICKET_INFO_TYPE, self._unix_now(), ticket)

    def record_result(self, result: PushResult) -> None:
        """Take note of what came of a push."""
        self.receiver_responded = self.receiver_responded or result.status is not None
        if not self.receiver_responded:
            return
        self.sent += 1
        self.failed += not result.accepted
        self.consecutive_failures = 0 if result.accepted else self.consecutive_failures + 1
        if self.consecutive_failures >= MAX_CONSECUTIVE_FAILURES:
            self.world.credentials.push_enabled = False

    def _build_push(
        self, message_settings: MessageSettings, info_type: str, create_time: int, fields: Mapping[str, str | int]
    ) -> Push:
        appid = self.world.credentials.appid
        head: dict[str, str | int] = {"AppId": appid, "CreateTime": create_time, "InfoType": info_type}
        sealed = self._encrypt(message_settings, write_xml({**head, **fields}))
        return Push(info_type, create_time, sealed.query, sealed.body)

    def _encrypt(self, message_settings: MessageSettings, message: bytes) -> EncryptedMessage:
        return encrypt_and_sign(
            message,
            appid=self.world.credentials.appid,
            message_token=message_settings.message_token,
            encoding_aes_key=message_settings.encoding_aes_key,
            timestamp=self._unix_now(),
            nonce=self._random_digits(10),
            random_prefix=self._random_digits(RANDOM_PREFIX_LENGTH).encode(),
        )

    def _unix_now(self) -> int:
        return int(self.world.unix_time())

    def _random_chance(self, fraction: float) -> bool:
        return self._random.random() < fraction

    def _random_digits(self, length: int) -> str:
        return "".join(self._random.choices("0123456789", k=length))
