"""A download to a file: streamed, resumed after a break, and there as a whole or not at all."""

from __future__ import annotations

import os
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

import attrs

from wxtcb._http.retry import RetryPolicy
from wxtcb._http.transport import SendFailure
from wxtcb._object_storage.body import TransferAborted
from wxtcb._object_storage.client import StorageClient, StorageRequest
from wxtcb._object_storage.landing import DownloadProgress, DownloadStatus, PartialDownload, open_partial_download
from wxtcb._object_storage.response import StorageResponse
from wxtcb._object_storage.upload import transfer_error
from wxtcb._object_storage.urls import secrets_in_url
from wxtcb.errors import SessionClosed, TransferError
from wxtcb.secret import Secret

MAX_BREAKS_WITHOUT_PROGRESS: Final = 5

_NO_FILE_MESSAGE: Final = "No file was made of it; one that was there is as it was."


@attrs.frozen
class DownloadedFile:
    """A file that was downloaded; a path to it can be had from it as from a `Path`. `size` is in bytes."""

    path: Path
    size: int

    def __fspath__(self) -> str:
        return os.fspath(self.path)


async def download(
    client: StorageClient,
    path: str | os.PathLike[str],
    *,
    label: str,
    get_url: Callable[[], Awaitable[Secret]],
    retry_policy: RetryPolicy,
    progress: DownloadProgress | None = None,
) -> DownloadedFile:
    """Store what *ask* gives the URL of; it is asked anew after each break.

    Gives up after so many breaks in a row without another byte, and at once when the URL is refused.
    """
    async with client.slot(), open_partial_download(path, progress) as landing:
        await _fetch_with_resume(client, landing, label=label, get_url=get_url, retry_policy=retry_policy)
        with suppress(TransferAborted):
            await landing.finish()
        if landing.error is not None:
            raise _local_error(label, landing) from landing.error
        return DownloadedFile(landing.target, landing.size)


async def _fetch_with_resume(
    client: StorageClient,
    partial_download: PartialDownload,
    *,
    label: str,
    get_url: Callable[[], Awaitable[Secret]],
    retry_policy: RetryPolicy,
) -> None:
    furthest, breaks = 0, 0
    while True:
        url = await get_url()
        answer = await client.send(
            StorageRequest("GET", url, partial_download.range_headers()), partial_download.receive
        )
        if answer is DownloadStatus.COMPLETE or partial_download.error is not None:
            return
        breaks = breaks + 1 if partial_download.size <= furthest else 0
        furthest = max(furthest, partial_download.size)
        if breaks == MAX_BREAKS_WITHOUT_PROGRESS or _is_permanent(answer):
            raise _download_error(label, answer, partial_download, url)
        await client.limiter.sleep(retry_policy.backoff(breaks, random.uniform) if breaks else 0)


def _is_permanent(result: StorageResponse | SendFailure | DownloadStatus) -> bool:
    """Tell whether another try would end the same."""
    if isinstance(result, StorageResponse):
        return result.status < 500 and not result.signature_expired
    return isinstance(result, SendFailure) and result.closed


def _download_error(
    label: str, result: StorageResponse | SendFailure | DownloadStatus, partial_download: PartialDownload, url: Secret
) -> TransferError | SessionClosed:
    if isinstance(result, SendFailure) and result.closed:
        return SessionClosed(f"{label}: the session was closed")
    heard = result if isinstance(result, StorageResponse) else None
    reason = result.value if isinstance(result, DownloadStatus) else result.reason
    return transfer_error(
        label, heard, reason, secrets_in_url(url), _NO_FILE_MESSAGE, stored=None, sent=partial_download.size
    )


def _local_error(label: str, partial_download: PartialDownload) -> TransferError:
    error = partial_download.error
    reason = f"{type(error).__name__}: {error}"
    return transfer_error(label, None, reason, (), _NO_FILE_MESSAGE, stored=None, sent=partial_download.size)
