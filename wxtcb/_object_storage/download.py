"""A download to a file: streamed, resumed after a break, and there as a whole or not at all."""

from __future__ import annotations

import os
import random
import re
import secrets
import stat
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager, suppress
from enum import Enum
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

import attrs

from wxtcb._concurrency.tasks import run_in_thread
from wxtcb._http.retry import RetryPolicy
from wxtcb._http.transport import SendFailure
from wxtcb._object_storage.body import TransferAborted
from wxtcb._object_storage.client import StorageClient, StorageRequest, read_response
from wxtcb._object_storage.response import StorageResponse
from wxtcb._object_storage.upload import transfer_error
from wxtcb._object_storage.urls import secrets_in_url
from wxtcb.errors import InvalidArgument, SessionClosed, TransferError
from wxtcb.secret import Secret

if TYPE_CHECKING:
    import aiohttp

DownloadProgress = Callable[[int, int | None], object]

_CONTENT_RANGE: Final = re.compile(r"bytes (\d+)-\d+/(\d+)")


class DownloadStatus(Enum):
    """What an answer with a file comes to: all of it is there, or why it is not, or not certainly."""

    COMPLETE = "whole"
    TRUNCATED = "less came than was announced"
    UNKNOWN_LENGTH = "the reply does not tell where the file ends"
    CHANGED = "the file changes again and again"


@attrs.define(repr=False, eq=False)
class PartialDownload:
    """A download so far: `size` bytes of `total`, of the object that has this `etag`.

    `error` is what the disk or the progress callback raised.
    """

    target: Path
    progress: DownloadProgress | None
    size: int = 0
    total: int | None = None
    etag: str | None = None
    error: Exception | None = None
    _part_path: Path = attrs.field(
        init=False,
        default=attrs.Factory(lambda self: self.target.parent / f".{secrets.token_hex(8)}.part", takes_self=True),
    )
    _file: IO[bytes] = attrs.field(init=False)
    _cleanup: ExitStack = attrs.field(init=False, factory=ExitStack)

    def open(self) -> None:
        """Make the file beside the target, and thereby sure that there can be one."""
        with suppress(FileNotFoundError):
            if not stat.S_ISREG(self.target.stat().st_mode):
                raise OSError(None, "it is no regular file")
        self._file = self._part_path.open("xb")
        self._cleanup.callback(self._part_path.unlink, missing_ok=True)
        self._cleanup.enter_context(self._file)

    def range_headers(self) -> dict[str, str]:
        """Return the headers that ask for the rest if the object is still the same, else for the whole."""
        if not self.size or self.etag is None:
            return {}
        return {"Range": f"bytes={self.size}-", "If-Range": self.etag}

    async def receive(self, response: aiohttp.ClientResponse) -> StorageResponse | DownloadStatus:
        """Write what comes, and tell what came of it; or what was answered in its place."""
        if response.status == 416 or (response.status == 206 and not self._is_continuation(response)):
            return self._mark_changed()
        if response.status not in (200, 206):
            return await read_response(response)
        if response.content_length is None and response.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return DownloadStatus.UNKNOWN_LENGTH  # a lost connection would look like its end
        if response.status == 200:
            await self._start_over(response)
        while chunk := await response.content.readany():
            await self._write_chunk(chunk)
        if self.total is None or self.size == self.total:
            return DownloadStatus.COMPLETE
        return DownloadStatus.TRUNCATED if self.size < self.total else self._mark_changed()

    async def finish(self) -> None:
        """Put the file in the target's place, on the disk and at once."""
        await self._run_on_file(self._sync_and_replace)

    def discard(self) -> None:
        """Remove what is not whole; of what became the target, nothing."""
        with suppress(OSError):  # of a disk that is full
            self._cleanup.close()

    def _is_continuation(self, response: aiohttp.ClientResponse) -> bool:
        found = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
        same = response.headers.get("ETag", self.etag) == self.etag
        return same and found is not None and (int(found[1]), int(found[2])) == (self.size, self.total)

    def _mark_changed(self) -> DownloadStatus:
        self.etag = None
        return DownloadStatus.CHANGED

    async def _start_over(self, response: aiohttp.ClientResponse) -> None:
        etag = response.headers.get("ETag", "")
        self.size, self.total = 0, response.content_length
        self.etag = etag if etag.startswith('"') and self.total is not None else None
        await self._run_on_file(lambda file: (file.seek(0), file.truncate()))

    async def _write_chunk(self, chunk: bytes) -> None:
        await self._run_on_file(lambda file: file.write(chunk))
        self.size += len(chunk)
        if self.progress is not None:
            self._report_progress(self.progress)

    def _report_progress(self, progress: DownloadProgress) -> None:
        try:
            progress(self.size, self.total)
        except Exception as error:
            self.error = error
        self._abort_on_error()

    async def _run_on_file(self, operation: Callable[[IO[bytes]], object]) -> None:
        """Let a thread do something with the file."""
        self._abort_on_error()
        try:
            await run_in_thread(partial(operation, self._file))
        except OSError as error:
            self.error = error
        self._abort_on_error()

    def _abort_on_error(self) -> None:
        if self.error is not None:
            raise TransferAborted

    def _sync_and_replace(self, file: IO[bytes]) -> None:
        file.flush()
        os.fsync(file.fileno())
        file.close()
        self._part_path.replace(self.target)
        with suppress(OSError):  # not every system lets a folder be opened
            folder = os.open(self.target.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)


@asynccontextmanager
async def open_partial_download(path: object, progress: DownloadProgress | None) -> AsyncIterator[PartialDownload]:
    """Give a landing for the file at *path*, and leave nothing else behind; `InvalidArgument` where none can be."""
    if (
        not isinstance(path, str | os.PathLike)
        or not isinstance(text := os.fspath(path), str)
        or not text
        or "\0" in text
    ):
        raise InvalidArgument(f"path must be that of a file, not {path!r}")
    landing = PartialDownload(Path(text), progress)
    reason = ""
    try:
        try:
            await run_in_thread(landing.open)
        except (OSError, UnicodeError) as error:
            reason = getattr(error, "strerror", None) or str(error)
        if reason:
            raise InvalidArgument(f"path: no file can be made at {text!r}: {reason}")
        yield landing
    finally:
        await run_in_thread(landing.discard)


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
