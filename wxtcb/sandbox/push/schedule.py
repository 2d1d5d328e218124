"""What is pushed to the platform's owner, when, and what the answers lead to. Pure; delivery is elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from typing import Final, cast

from attrs import Attribute, define, field, frozen
from attrs.validators import optional

from wxtcb.sandbox.console import Console
from wxtcb.sandbox.faults import positive
from wxtcb.sandbox.push.crypto import FILLER, Envelope, seal, write_xml
from wxtcb.sandbox.world import World

__all__ = ["GIVES_UP_AFTER", "KNOCKS_EVERY", "NoReceiver", "Pace", "Push", "Pushes", "Receipt"]

GIVES_UP_AFTER: Final = 5  # failures in a row; the platform has such a number too, but does not tell it
KNOCKS_EVERY: Final = 1.0
_TICKET: Final = "component_verify_ticket"
_SUCCESS: Final = b"success"


class NoReceiver(RuntimeError):
    """Something was to be pushed before `push_to` said where to."""

    def __init__(self) -> None:
        super().__init__("nobody is there to push to: push_to(url) comes first")


def _fraction(_pace: object, attribute: Attribute[float], value: object) -> None:
    if type(value) not in (int, float) or not 0 <= cast("float", value) <= 1:
        raise ValueError(f"{attribute.name} must be a fraction from 0 to 1")


@frozen(kw_only=True)
class Pace:
    """How often tickets are pushed, and what befalls them; see `Sandbox.push_to`."""

    every: float | None = field(validator=optional(positive))
    repeated: float = field(default=0.0, validator=_fraction)
    late: float = field(default=0.0, validator=_fraction)


@frozen
class Push:
    """A message on its way: POST `body` with `query` behind the receiver's address, as `text/xml`.

    `created` is its CreateTime, in Unix seconds.
    """

    info_type: str
    created: int
    query: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)


@frozen
class Receipt:
    """What came of a push: the HTTP status and the start of the answer, or, without an answer, the `trouble`."""

    status: int | None = None
    answer: bytes = b""
    trouble: str = ""

    @property
    def accepted(self) -> bool:
        """Whether the answer was what the platform wants: HTTP 200, and `success` with nothing around it."""
        return self.status == 200 and self.answer == _SUCCESS

    def __str__(self) -> str:
        if self.status is None:
            return self.trouble
        return f"HTTP {self.status} {self.answer.decode(errors='replace')!r}"


@define(eq=False)
class Pushes:
    """The platform's side of pushing: `ticket`, `notice` and `forgery` make pushes for whoever delivers them himself.

    `sent` and `failed` count deliveries. After `GIVES_UP_AFTER` failures in a row pushing is `stopped`, until
    api_start_push_ticket starts it again. What nobody hears before the receiver has ever answered counts as nothing,
    and is delivered again every second: a receiver may be started after the platform.
    """

    world: World = field(repr=False)
    pace: Pace = Pace(every=None)
    sent: int = field(default=0, init=False)
    failed: int = field(default=0, init=False)
    failed_in_a_row: int = field(default=0, init=False)
    answered: bool = field(default=False, init=False)
    _random: Random = field(init=False, repr=False)
    _last: Push | None = field(default=None, init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        self._random = Random(f"pushes {self.world.seed}")

    @property
    def stopped(self) -> bool:
        """Whether nothing is pushed by itself: it was not started, or has failed too often."""
        return not self.world.tokens.pushing

    @property
    def pause(self) -> float | None:
        """The seconds until the next round; None if none comes by itself."""
        every = self.pace.every
        return every if self.answered or every is None else min(every, KNOCKS_EVERY)

    def start(self) -> None:
        """Let pushing begin, or begin again."""
        self.world.tokens.pushing = True
        self.failed_in_a_row = 0

    def aim(self, pace: Pace) -> None:
        """Begin at this pace with a receiver that has not answered yet."""
        self.pace, self.answered = pace, False
        self.start()

    def round(self) -> list[Push]:
        """Return what is due, in the order of delivery: a new ticket, and what is repeated."""
        before = self._last
        if before is not None and not self.answered:
            return [before]
        push = self.ticket()
        again, late = self._toss(self.pace.repeated), self._toss(self.pace.late)
        return [push, *([push] if again else ()), *([before] if late and before is not None else ())]

    def ticket(self) -> Push:
        """Issue a new ticket and return the push that brings it; no two have the same CreateTime."""
        ticket = self.world.new_ticket()
        created = self._now() if self._last is None else max(self._now(), self._last.created + 1)
        self._last = self._write(self.world.console, _TICKET, created, {"ComponentVerifyTicket": ticket})
        return self._last

    def notice(self, info_type: str, fields: Mapping[str, str | int]) -> Push:
        """Return a push of another kind; `fields` are its own, beside AppId, CreateTime and InfoType."""
        return self._write(self.world.console, info_type, self._now(), fields)

    def forgery(self) -> Push:
        """Return the push of a ticket by somebody who knows the appid, but neither token nor key."""
        ticket = {"ComponentVerifyTicket": f"ticket@@@{self._digits(9)}"}
        return self._write(Console(self._random), _TICKET, self._now(), ticket)

    def judge(self, receipt: Receipt) -> None:
        """Take note of what came of a push."""
        self.answered = self.answered or receipt.status is not None
        if not self.answered:
            return
        self.sent += 1
        self.failed += not receipt.accepted
        self.failed_in_a_row = 0 if receipt.accepted else self.failed_in_a_row + 1
        if self.failed_in_a_row >= GIVES_UP_AFTER:
            self.world.tokens.pushing = False

    def _write(self, console: Console, info_type: str, created: int, fields: Mapping[str, str | int]) -> Push:
        appid = self.world.tokens.appid
        head: dict[str, str | int] = {"AppId": appid, "CreateTime": created, "InfoType": info_type}
        sealed = self._seal(console, write_xml({**head, **fields}))
        return Push(info_type, created, sealed.query, sealed.body)

    def _seal(self, console: Console, message: bytes) -> Envelope:
        return seal(
            message,
            appid=self.world.tokens.appid,
            message_token=console.message_token,
            encoding_aes_key=console.encoding_aes_key,
            timestamp=self._now(),
            nonce=self._digits(10),
            filler=self._digits(FILLER).encode(),
        )

    def _now(self) -> int:
        return int(self.world.unix_time())

    def _toss(self, fraction: float) -> bool:
        return self._random.random() < fraction

    def _digits(self, length: int) -> str:
        return "".join(self._random.choices("0123456789", k=length))
