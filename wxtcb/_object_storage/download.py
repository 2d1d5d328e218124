"""Downloads to a file: streamed, resumed after a lost connection, and put in place only when complete."""

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
from operator import methodcaller
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

import attrs

from wxtcb._concurrency.tasks import run_in_thread
from wxtcb._files.access import is_own
from wxtcb._http.retry import RetryPolicy
from wxtcb._http.transport import SendFailure
from wxtcb._object_storage.body import TransferAborted
from wxtcb._object_storage.client import StorageClient, StorageRequest, read_response
from wxtcb._object_storage.response import StorageResponse
from wxtcb._object_storage.upload import transfer_error
from wxtcb._object_storage.urls import secrets_in_url
from wxtcb._protocol.limits import LIMITS
from wxtcb.errors import InvalidArgument, SessionClosed, TransferError
from wxtcb.secret import Secret
from wxtcb.validation import check_positive_int

if TYPE_CHECKING:
    import aiohttp

DownloadProgress = Callable[[int, int | None], object]

MAX_BREAKS_WITHOUT_PROGRESS: Final = 5
# The largest object that one upload to COS can create; an endless response must not fill the disk.
MAX_DOWNLOAD_BYTES: Final = LIMITS.download_bytes

_NO_FILE_MESSAGE: Final = "No file was created; an existing one is unchanged."
_CONTENT_RANGE: Final = re.compile(r"bytes (\d+)-\d+/(\d+)")


@attrs.frozen
class DownloadedFile:
    """Downloaded file of `size` bytes; it can be used in place of its path (``os.PathLike``)."""

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
    max_bytes: int | None = MAX_DOWNLOAD_BYTES,
) -> DownloadedFile:
    """Download to the file *path*; *label* names the download in error messages.

    *get_url* is called again after each lost connection, because signed URLs expire. The download is then resumed. It
    fails after `MAX_BREAKS_WITHOUT_PROGRESS` lost connections in a row that brought no data. It fails at once if the
    URL is rejected, or if the file has more than *max_bytes* bytes (None: no limit). Raises `TransferError`,
    `SessionClosed`, or `InvalidArgument` if no file can be created at *path*.
    """
    if max_bytes is not None:
        check_positive_int("max_bytes", max_bytes)
    async with client.slot(), open_partial_download(path, progress, max_bytes) as partial_download:
        furthest, breaks = 0, 0
        while True:
            url = await get_url()
            request = StorageRequest("GET", url, partial_download.range_headers())
            result = await client.send(request, partial_download.receive)
            if result is DownloadStatus.COMPLETE or partial_download.error is not None:
                break
            # Compared with the furthest position, not the last one: a file that changes starts again from 0 each time,
            # and would otherwise count as progress without end.
            breaks = breaks + 1 if partial_download.size <= furthest else 0
            furthest = max(furthest, partial_download.size)
            if breaks == MAX_BREAKS_WITHOUT_PROGRESS or _is_permanent(result):
                raise _download_error(label, result, partial_download, url)
            # Also without a delay, `sleep` raises `SessionClosed` once the session is closed.
            await client.limiter.sleep(retry_policy.backoff(breaks, random.uniform) if breaks else 0)
        with suppress(TransferAborted):
            await partial_download.finish()
        if (error := partial_download.error) is not None:
            reason, sent = f"{type(error).__name__}: {error}", partial_download.size
            raise transfer_error(label, None, reason, (), _NO_FILE_MESSAGE, stored=None, sent=sent) from error
        return DownloadedFile(partial_download.target, partial_download.size)


def _is_permanent(result: StorageResponse | SendFailure | DownloadStatus) -> bool:
    """Return whether another attempt would fail in the same way."""
    if isinstance(result, StorageResponse):
        return result.status < 500 and not result.signature_expired
    if isinstance(result, SendFailure):
        return result.closed or result.permanent
    return result is DownloadStatus.TOO_LARGE


def _download_error(
    label: str, result: StorageResponse | SendFailure | DownloadStatus, partial_download: PartialDownload, url: Secret
) -> TransferError | SessionClosed:
    if isinstance(result, SendFailure) and result.closed:
        return SessionClosed(f"{label}: the session was closed")
    response = result if isinstance(result, StorageResponse) else None
    reason = result.value if isinstance(result, DownloadStatus) else result.reason
    if result is DownloadStatus.TOO_LARGE:
        reason = f"{reason} ({partial_download.max_bytes:,} bytes); pass a larger max_bytes if this is expected"
    return transfer_error(
        label, response, reason, secrets_in_url(url), _NO_FILE_MESSAGE, stored=None, sent=partial_download.size
    )


class DownloadStatus(Enum):
    """Status of a download after a response with file content; values other than COMPLETE are reasons of failure."""

    COMPLETE = "complete"
    TRUNCATED = "the response ended before the announced length"
    UNKNOWN_LENGTH = "the response does not announce its length"
    CHANGED = "the file changed during the download"
    TOO_LARGE = "the file is larger than max_bytes"


@attrs.define(repr=False, eq=False)
class PartialDownload:
    """Download in progress: the first `size` of `total` bytes of the object version `etag`.

    The data is written to a temporary file next to the target. `error` is an exception of the disk or of the progress
    callback.
    """

    target: Path
    progress: DownloadProgress | None
    max_bytes: int | None = None
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
        """Create the temporary file; raise OSError if the target cannot become a regular file."""
        with suppress(FileNotFoundError):
            if not stat.S_ISREG(self.target.stat().st_mode):
                raise OSError(None, "not a regular file")
        # Mode 600 from the start: the file may be the export of a whole database.
        self._file = open(self._part_path, "xb", opener=lambda name, flags: os.open(name, flags, 0o600))  # noqa: SIM115
        # Callbacks run in reverse order: the file is closed before it is removed, as Windows requires.
        self._cleanup.callback(self._part_path.unlink, missing_ok=True)
        self._cleanup.enter_context(self._file)

    def range_headers(self) -> dict[str, str]:
        """Return headers that request the remaining bytes, or the whole object if it has changed."""
        if not self.size or self.etag is None:
            return {}
        return {"Range": f"bytes={self.size}-", "If-Range": self.etag}

    async def receive(self, response: aiohttp.ClientResponse) -> StorageResponse | DownloadStatus:
        """Write the content of *response* and return the status; return other responses parsed."""
        # 416: the object is now shorter than the part that was received.
        if response.status == 416 or (response.status == 206 and not self._is_continuation(response)):
            return self._mark_changed()
        if response.status not in (200, 206):
            return await read_response(response)
        # Without a length the end of the file looks the same as a lost connection.
        if response.content_length is None and response.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return DownloadStatus.UNKNOWN_LENGTH
        if response.status == 200:
            await self._start_over(response)
        max_bytes = float("inf") if self.max_bytes is None else self.max_bytes
        if (self.total or 0) > max_bytes:
            return DownloadStatus.TOO_LARGE
        while chunk := await response.content.readany():
            # A chunked response announces no length, and may never end.
            if self.size + len(chunk) > max_bytes:
                return DownloadStatus.TOO_LARGE
            await self._run_on_file(methodcaller("write", chunk))
            self.size += len(chunk)
            if self.progress is not None:
                self._report_progress(self.progress)
        if self.total is None or self.size == self.total:
            return DownloadStatus.COMPLETE
        return DownloadStatus.TRUNCATED if self.size < self.total else self._mark_changed()

    async def finish(self) -> None:
        """Flush the file to the disk and move it to the target path in one step."""
        await self._run_on_file(self._sync_and_replace)

    def discard(self) -> None:
        """Remove the temporary file, if it did not become the target."""
        # Closing flushes buffered data, which fails on a full disk. The data is not needed any more.
        with suppress(OSError):
            self._cleanup.close()

    def _is_continuation(self, response: aiohttp.ClientResponse) -> bool:
        content_range = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
        same_version = response.headers.get("ETag", self.etag) == self.etag
        return (
            same_version
            and content_range is not None
            and (int(content_range[1]), int(content_range[2])) == (self.size, self.total)
        )

    def _mark_changed(self) -> DownloadStatus:
        # Without an ETag the next request has no Range header and starts over.
        self.etag = None
        return DownloadStatus.CHANGED

    async def _start_over(self, response: aiohttp.ClientResponse) -> None:
        etag = response.headers.get("ETag", "")
        self.size, self.total = 0, response.content_length
        # A weak ETag (W/"...") does not guarantee identical bytes, so a download must not be resumed with it.
        self.etag = etag if etag.startswith('"') and self.total is not None else None
        await self._run_on_file(lambda file: (file.seek(0), file.truncate()))

    def _final_mode(self) -> int:
        """Return the permissions of the file to replace, or 600 if there is none, or if another user owns it."""
        with suppress(FileNotFoundError):
            found = self.target.lstat()
            # In a shared directory another user could have put a file there that everyone may read. A link has mode
            # 777, and is replaced.
            if stat.S_ISREG(found.st_mode) and is_own(found):
                return stat.S_IMODE(found.st_mode) & 0o777
        return 0o600

    def _report_progress(self, progress: DownloadProgress) -> None:
        try:
            progress(self.size, self.total)
        except Exception as error:
            self.error = error
        self._abort_on_error()

    async def _run_on_file(self, operation: Callable[[IO[bytes]], object]) -> None:
        """Run *operation* on the file in a thread; record an OSError and abort the transfer."""
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
        # The order makes the file survive a crash of the machine: first its content, then its name, then the directory
        # that contains the name.
        file.flush()
        # Some file systems, such as FAT, have no permissions to set. The file then stays as private as it can be.
        with suppress(OSError):
            os.chmod(file.fileno() if os.chmod in os.supports_fd else self._part_path, self._final_mode())  # noqa: PTH101
        os.fsync(file.fileno())
        file.close()
        self._part_path.replace(self.target)
        # Windows cannot open directories.
        with suppress(OSError):
            directory = os.open(self.target.parent, os.O_RDONLY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)


@asynccontextmanager
async def open_partial_download(
    path: object, progress: DownloadProgress | None, max_bytes: int | None
) -> AsyncIterator[PartialDownload]:
    """Open a partial download to *path* and remove its temporary file at the end.

    Raises `InvalidArgument` if no file can be created there.
    """
    if (
        not isinstance(path, str | os.PathLike)
        or not isinstance(target := os.fspath(path), str)
        or not target
        or "\0" in target
    ):
        raise InvalidArgument(f"path must be the path of a file, not {path!r}")
    partial_download = PartialDownload(Path(target), progress, max_bytes)
    try:
        try:
            await run_in_thread(partial_download.open)
        # UnicodeError: a path with a lone surrogate that the file system cannot encode.
        except (OSError, UnicodeError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise InvalidArgument(f"path {target!r} cannot be written: {reason}") from error
        yield partial_download
    finally:
        await run_in_thread(partial_download.discard)
