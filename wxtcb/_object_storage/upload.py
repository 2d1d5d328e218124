"""An upload: one try with each link, and an end that says whether the object is there."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, Generic, TypeVar

import attrs

from wxtcb._http.retry import RetryPolicy
from wxtcb._http.transport import SendFailure
from wxtcb._object_storage.body import UploadBody, UploadProgress, UploadSource
from wxtcb._object_storage.client import StorageClient, StorageRequest, read_response
from wxtcb._object_storage.response import StorageResponse
from wxtcb._object_storage.urls import secrets_in_url
from wxtcb.errors import SessionClosed, TransferError
from wxtcb.secret import Secret, redact_truncated

T = TypeVar("T")

MAX_UNSENT_ATTEMPTS: Final = 4

_EFFECT_MESSAGES: Final = {
    False: "Nothing of it was stored; an older file of that name is as it was.",
    True: "The file was stored all the same.",
    None: "Nobody knows whether the file was stored: look before sending it again.",
}
_NO_RESPONSE: Final = StorageResponse(0)


@attrs.frozen
class UploadTarget:
    """Where a link points: its method, its signed URL, and what proves the right to write there."""

    method: str
    url: Secret
    headers: Mapping[str, Secret] = attrs.field(factory=dict[str, Secret])
    form: Mapping[str, str | Secret] | None = None

    def build_request(self, upload_body: UploadBody) -> StorageRequest:
        form = None if self.form is None else _reveal_values(self.form)
        return StorageRequest(self.method, self.url, _reveal_values(self.headers), form, upload_body)

    @property
    def secrets(self) -> tuple[Secret, ...]:
        fields = (*self.headers.values(), *(self.form or {}).values())
        return (*secrets_in_url(self.url), *(each for each in fields if isinstance(each, Secret)))


def _reveal_values(fields: Mapping[str, str | Secret]) -> dict[str, str]:
    return {name: Secret.of(value).reveal() for name, value in fields.items()}


@attrs.frozen(kw_only=True)
class UploadRequest(Generic[T]):
    """One file to be stored.

    `label` names it in errors, `get_link` gets a fresh link, `target_of` reads it. `check_stored` tells, by size and MD5, whether the
    file is there: None when that cannot be said.
    """

    label: str
    content_type: str
    get_link: Callable[[], Awaitable[T]]
    target_of: Callable[[T], UploadTarget]
    check_stored: Callable[[int, str], Awaitable[bool | None]]
    retry_policy: RetryPolicy
    progress: UploadProgress | None = None


async def upload(client: StorageClient, source: UploadSource, request: UploadRequest[T]) -> T:
    """Store a file and return the link that served for it.

    A link is used once. Another is asked for while nothing of the file has left (so often), and once if the signature
    came too late and the file can be read again. Raises `TransferError`, which says whether the object is there.
    """
    attempt, renewed = 1, False
    while True:
        link = await request.get_link()
        aim = request.target_of(link)
        outflow = UploadBody(source, request.content_type, client.timeout.reply, request.progress)
        answer = await client.send(aim.build_request(outflow), read_response)
        if isinstance(answer, StorageResponse) and answer.accepted and outflow.fully_sent and outflow.error is None:
            return link
        if (
            isinstance(answer, StorageResponse)
            and answer.signature_expired
            and not renewed
            and (source.repeatable or not outflow.started)
        ):
            renewed = True
        elif (
            isinstance(answer, SendFailure)
            and not answer.closed
            and not outflow.started
            and attempt < MAX_UNSENT_ATTEMPTS
        ):
            await client.limiter.sleep(request.retry_policy.backoff(attempt, random.uniform))
            attempt += 1
        else:
            raise await _upload_error(request, outflow, answer, aim.secrets) from outflow.error


async def _upload_error(
    request: UploadRequest[T],
    upload_body: UploadBody,
    response: StorageResponse | SendFailure,
    secrets: tuple[Secret, ...],
) -> TransferError | SessionClosed:
    if isinstance(response, SendFailure) and response.closed:
        return SessionClosed(f"{request.label}: the session was closed; nothing was sent")
    heard = response if isinstance(response, StorageResponse) else None
    stored = await _is_stored(request, upload_body, response)
    reason, effect = _failure_reason(upload_body, response), _EFFECT_MESSAGES[stored]
    return transfer_error(request.label, heard, reason, secrets, effect, stored=stored, sent=upload_body.sent)


async def _is_stored(
    request: UploadRequest[T], upload_body: UploadBody, response: StorageResponse | SendFailure
) -> bool | None:
    """Tell whether the object is there: certainly not if some of it never left, or it was refused.

    What left whole, without a word of object storage's own, and is not there yet, may still become one.
    """
    if not upload_body.fully_sent:
        return False
    if isinstance(response, StorageResponse) and response.status < 500:
        return response.accepted
    return await request.check_stored(upload_body.size, upload_body.md5.hexdigest()) or None


def _failure_reason(upload_body: UploadBody, response: StorageResponse | SendFailure) -> str:
    if upload_body.error is not None:
        return f"{type(upload_body.error).__name__}: {upload_body.error}"
    if upload_body.stalled:
        return "the object storage took no more bytes in time"
    if isinstance(response, StorageResponse) and response.accepted:
        return f"{response.reason} before all had been sent"
    return response.reason


def transfer_error(
    label: str,
    response: StorageResponse | None,
    reason: str,
    secrets: Sequence[Secret],
    effect: str,
    *,
    stored: bool | None,
    sent: int,
) -> TransferError:
    """Make the error of a transfer; what object storage says of itself may repeat the signature, so that is masked."""
    heard = response or _NO_RESPONSE

    def hide(text: str) -> str:
        return redact_truncated(text, *secrets)

    told = f" ({hide(heard.message)})" if heard.message else ""
    return TransferError(
        f"{label}: {hide(reason)}{told}. {effect}",
        reason=hide(reason),
        status=heard.status or None,
        code=heard.code and hide(heard.code),
        request_id=heard.request_id and hide(heard.request_id),
        stored=stored,
        bytes_sent=sent,
    )
