"""An upload: one try with each link, and an end that says whether the object is there."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, Generic, TypeVar

import attrs

from wxtcb._http.retry import RetryPolicy
from wxtcb._http.transport import Failure
from wxtcb._object_storage.body import Outflow, Progress
from wxtcb._object_storage.client import Order, Transfers, hear
from wxtcb._object_storage.response import Heard
from wxtcb._object_storage.source import Source
from wxtcb._object_storage.urls import secrets_of
from wxtcb.errors import SessionClosed, TransferError
from wxtcb.secret import Secret, redact_cut

T = TypeVar("T")

MOST_UNBEGUN: Final = 4

_EFFECTS: Final = {
    False: "Nothing of it was stored; an older file of that name is as it was.",
    True: "The file was stored all the same.",
    None: "Nobody knows whether the file was stored: look before sending it again.",
}
_SILENCE: Final = Heard(0)


@attrs.frozen
class Aim:
    """Where a link points: its method, its signed URL, and what proves the right to write there."""

    method: str
    url: Secret
    headers: Mapping[str, Secret] = attrs.field(factory=dict[str, Secret])
    form: Mapping[str, str | Secret] | None = None

    def order(self, outflow: Outflow) -> Order:
        form = None if self.form is None else _revealed(self.form)
        return Order(self.method, self.url, _revealed(self.headers), form, outflow)

    @property
    def secrets(self) -> tuple[Secret, ...]:
        fields = (*self.headers.values(), *(self.form or {}).values())
        return (*secrets_of(self.url), *(each for each in fields if isinstance(each, Secret)))


def _revealed(fields: Mapping[str, str | Secret]) -> dict[str, str]:
    return {name: Secret.of(value).reveal() for name, value in fields.items()}


@attrs.frozen(kw_only=True)
class Sending(Generic[T]):
    """One file to be stored.

    `what` names it in errors, `ask` gets a fresh link, `aim` reads it. `look` tells, by size and MD5, whether the
    file is there: None when that cannot be said.
    """

    what: str
    content_type: str
    ask: Callable[[], Awaitable[T]]
    aim: Callable[[T], Aim]
    look: Callable[[int, str], Awaitable[bool | None]]
    policy: RetryPolicy
    progress: Progress | None = None


async def upload(transfers: Transfers, source: Source, sending: Sending[T]) -> T:
    """Store a file and return the link that served for it.

    A link is used once. Another is asked for while nothing of the file has left (so often), and once if the signature
    came too late and the file can be read again. Raises `TransferError`, which says whether the object is there.
    """
    attempt, renewed = 1, False
    while True:
        link = await sending.ask()
        aim = sending.aim(link)
        outflow = Outflow(source, sending.content_type, transfers.timeout.reply, sending.progress)
        answer = await transfers.send(aim.order(outflow), hear)
        if isinstance(answer, Heard) and answer.accepted and outflow.whole and outflow.trouble is None:
            return link
        if isinstance(answer, Heard) and answer.expired and not renewed and (source.lasting or not outflow.begun):
            renewed = True
        elif isinstance(answer, Failure) and not answer.closed and not outflow.begun and attempt < MOST_UNBEGUN:
            await transfers.gate.rest(sending.policy.backoff(attempt, random.uniform))
            attempt += 1
        else:
            raise await _failed(sending, outflow, answer, aim.secrets) from outflow.trouble


async def _failed(
    sending: Sending[T], outflow: Outflow, answer: Heard | Failure, secrets: tuple[Secret, ...]
) -> TransferError | SessionClosed:
    if isinstance(answer, Failure) and answer.closed:
        return SessionClosed(f"{sending.what}: the session was closed; nothing was sent")
    heard = answer if isinstance(answer, Heard) else None
    stored = await _stored(sending, outflow, answer)
    reason, effect = _reason(outflow, answer), _EFFECTS[stored]
    return refused(sending.what, heard, reason, secrets, effect, stored=stored, sent=outflow.sent)


async def _stored(sending: Sending[T], outflow: Outflow, answer: Heard | Failure) -> bool | None:
    """Tell whether the object is there: certainly not if some of it never left, or it was refused.

    What left whole, without a word of object storage's own, and is not there yet, may still become one.
    """
    if not outflow.whole:
        return False
    if isinstance(answer, Heard) and answer.status < 500:
        return answer.accepted
    return await sending.look(outflow.size, outflow.md5.hexdigest()) or None


def _reason(outflow: Outflow, answer: Heard | Failure) -> str:
    if outflow.trouble is not None:
        return f"{type(outflow.trouble).__name__}: {outflow.trouble}"
    if outflow.stalled:
        return "the object storage took no more bytes in time"
    if isinstance(answer, Heard) and answer.accepted:
        return f"{answer.reason} before all had been sent"
    return answer.reason


def refused(
    what: str,
    answer: Heard | None,
    reason: str,
    secrets: Sequence[Secret],
    effect: str,
    *,
    stored: bool | None,
    sent: int,
) -> TransferError:
    """Make the error of a transfer; what object storage says of itself may repeat the signature, so that is masked."""
    heard = answer or _SILENCE

    def hide(text: str) -> str:
        return redact_cut(text, *secrets)

    told = f" ({hide(heard.message)})" if heard.message else ""
    return TransferError(
        f"{what}: {hide(reason)}{told}. {effect}",
        reason=hide(reason),
        status=heard.status or None,
        code=heard.code and hide(heard.code),
        request_id=heard.request_id and hide(heard.request_id),
        stored=stored,
        sent=sent,
    )
