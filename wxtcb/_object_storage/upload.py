"""Uploads: one attempt with each signed link, and an error that says whether the object was stored."""

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
    False: "The file was not stored; an existing file of that name is unchanged.",
    True: "The file was stored nevertheless.",
    None: "It is unknown whether the file was stored; check before uploading it again.",
}
# Stands for "no response": no HTTP response has the status 0.
_NO_RESPONSE: Final = StorageResponse(0)


@attrs.frozen
class UploadTarget:
    """Target of a signed link: method, URL, and the headers or form fields that authorise the upload."""

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
    """Upload of one file.

    - `label`: name of the file in error messages.
    - `get_link`: requests a new link from the platform.
    - `target_of`: returns the target of a link.
    - `check_stored`: returns whether a file with this size and MD5 is stored, or None if that is unknown.
    """

    label: str
    content_type: str
    get_link: Callable[[], Awaitable[T]]
    target_of: Callable[[T], UploadTarget]
    check_stored: Callable[[int, str], Awaitable[bool | None]]
    retry_policy: RetryPolicy
    progress: UploadProgress | None = None


async def upload(client: StorageClient, source: UploadSource, request: UploadRequest[T]) -> T:
    """Upload *source* and return the link that was used.

    Each link is used once. A new one is requested in two cases:

    - no part of the file was sent: up to `MAX_UNSENT_ATTEMPTS` attempts, with a backoff between them;
    - the link had expired and the source can be read again: once.

    Raises `TransferError`, which says whether the object was stored, or `SessionClosed`.
    """
    attempt, link_renewed = 1, False
    while True:
        link = await request.get_link()
        target = request.target_of(link)
        body = UploadBody(source, request.content_type, client.timeout.reply, request.progress)
        result = await client.send(target.build_request(body), read_response)
        # A status of 2xx alone is no success: the server may have responded before it had read the whole file.
        if isinstance(result, StorageResponse) and result.accepted and body.fully_sent and body.error is None:
            return link
        if (
            isinstance(result, StorageResponse)
            and result.signature_expired
            and not link_renewed
            and (source.repeatable or not body.started)
        ):
            link_renewed = True
        elif (
            isinstance(result, SendFailure)
            and not (result.closed or result.permanent or body.started)
            and attempt < MAX_UNSENT_ATTEMPTS
        ):
            await client.limiter.sleep(request.retry_policy.backoff(attempt, random.uniform))
            attempt += 1
        else:
            raise await _upload_error(request, body, result, target.secrets) from body.error


async def _upload_error(
    request: UploadRequest[T],
    upload_body: UploadBody,
    response: StorageResponse | SendFailure,
    secrets: tuple[Secret, ...],
) -> TransferError | SessionClosed:
    if isinstance(response, SendFailure) and response.closed:
        return SessionClosed(f"{request.label}: the session was closed; no request was sent")
    stored: bool | None
    if not upload_body.fully_sent:
        stored = False
    elif isinstance(response, StorageResponse) and response.status < 500:
        stored = response.accepted
    else:
        # "Not stored" cannot be concluded from the check: object storage may still be processing the file.
        stored = await request.check_stored(upload_body.size, upload_body.md5.hexdigest()) or None
    # The error of the source or the callback comes first: it caused the others.
    if upload_body.error is not None:
        reason = f"{type(upload_body.error).__name__}: {upload_body.error}"
    elif upload_body.stalled:
        reason = "object storage accepted no data within the timeout"
    elif isinstance(response, StorageResponse) and response.accepted:
        reason = f"{response.reason} before the whole file was sent"
    else:
        reason = response.reason
    return transfer_error(
        request.label,
        response if isinstance(response, StorageResponse) else None,
        reason,
        secrets,
        _EFFECT_MESSAGES[stored],
        stored=stored,
        sent=upload_body.sent,
    )


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
    """Return the error of a transfer, with *secrets* redacted: an error of object storage may echo the signature."""
    response = response or _NO_RESPONSE

    def redact(text: str) -> str:
        return redact_truncated(text, *secrets)

    message = f" ({redact(response.message)})" if response.message else ""
    return TransferError(
        f"{label}: {redact(reason)}{message}. {effect}",
        reason=redact(reason),
        status=response.status or None,
        code=response.code and redact(response.code),
        request_id=response.request_id and redact(response.request_id),
        stored=stored,
        bytes_sent=sent,
    )
