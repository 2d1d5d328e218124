"""Upload sources, and the request body that streams one to object storage."""

from __future__ import annotations

import asyncio
import hashlib
import os
import stat
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final, TypeAlias

import attrs
from aiohttp.payload import Payload

from wxtcb._concurrency.tasks import cancel_and_wait, run_in_thread
from wxtcb.errors import InvalidArgument

if TYPE_CHECKING:
    from aiohttp.abc import AbstractStreamWriter

UploadData: TypeAlias = "bytes | str | os.PathLike[str] | AsyncIterable[bytes]"
UploadProgress = Callable[[int, int], object]

PIECE_SIZE: Final = 256 * 1024


@attrs.frozen
class UploadSource:
    """Data to upload: its size in bytes, its chunks, and whether it can be read more than once."""

    size: int
    chunks: Callable[[], AsyncIterable[bytes]] = attrs.field(repr=False)
    repeatable: bool = True


@asynccontextmanager
async def open_source(data: UploadData, size: int | None) -> AsyncIterator[UploadSource]:
    """Open *data*: bytes, the path of a file, or an asynchronous iterator with its *size* in bytes.

    Raises `InvalidArgument` if the file cannot be read, or if *size* does not match the data.
    """
    if size is not None and (type(size) is not int or size < 0):
        raise InvalidArgument(f"size must be a non-negative integer (bytes), not {size!r}")
    if isinstance(data, bytes):
        yield _source_of_size(len(data), size, partial(_iter_bytes, data))
    elif isinstance(data, str | os.PathLike):
        # The file is opened in a thread. The stack closes it even if this task is cancelled while the thread opens it.
        open_files = ExitStack()
        try:
            file = await run_in_thread(lambda: open_files.enter_context(_open_file(os.fspath(data))))
            yield _source_of_size(os.fstat(file.fileno()).st_size, size, partial(_iter_file, file))
        finally:
            await run_in_thread(open_files.close)
    elif isinstance(data, AsyncIterable):
        if size is None:
            raise InvalidArgument("size is required for an async iterator: pass its total number of bytes")
        yield UploadSource(size, lambda: data, repeatable=False)
    else:
        raise InvalidArgument(f"source must be a path, bytes or an async iterator of bytes, not {type(data).__name__}")


def _source_of_size(actual: int, declared: int | None, chunks: Callable[[], AsyncIterable[bytes]]) -> UploadSource:
    if declared not in (None, actual):
        raise InvalidArgument(f"size is {declared}, but the source has {actual} bytes")
    return UploadSource(actual, chunks)


def _open_file(path: object) -> IO[bytes]:
    if not isinstance(path, str):
        raise InvalidArgument(f"source must be a path of type str, not {type(path).__name__}")
    try:
        # Checked before opening: opening a named pipe would block, and neither pipes nor devices have a size.
        if stat.S_ISREG(Path(path).stat().st_mode):
            return Path(path).open("rb")
    except (OSError, ValueError) as error:
        # `open` raises ValueError for a path with a null byte.
        reason = getattr(error, "strerror", None) or str(error)
        raise InvalidArgument(f"source {path!r} cannot be read: {reason}") from error
    raise InvalidArgument(f"source {path!r} cannot be read: not a regular file")


async def _iter_bytes(data: bytes) -> AsyncIterator[bytes]:
    yield data


async def _iter_file(file: IO[bytes]) -> AsyncIterator[bytes]:
    # An earlier attempt may have read a part of the file.
    await run_in_thread(partial(file.seek, 0))
    while chunk := await run_in_thread(partial(file.read, PIECE_SIZE)):
        yield chunk


class TransferAborted(Exception):
    """Exception that aborts a transfer; the reason is the `error` of its `UploadBody` or `PartialDownload`."""


class UploadBody(Payload):
    """Request body that streams an `UploadSource` and records its progress.

    The last chunk is held back until the source has ended with exactly the announced size. Without it, object storage
    creates no object.

    - `sent`: number of bytes written.
    - `started`: whether the source was read from.
    - `fully_sent`: whether the last bytes may have been sent.
    - `error`: exception of the source or of the progress callback.
    - `stalled`: whether the server accepted no data for `write_timeout` seconds.
    - `md5`: hash of all bytes that may have been sent.
    """

    # Nothing to close for aiohttp: `open_source` owns the file.
    _autoclose = True

    def __init__(
        self, source: UploadSource, content_type: str, write_timeout: float, progress: UploadProgress | None
    ) -> None:
        super().__init__(None, content_type=content_type)
        self._source = source
        self._write_timeout = write_timeout
        self._progress = progress
        self._bytes_read = 0
        self.sent = 0
        self.started = False
        self.fully_sent = False
        self.stalled = False
        self.error: Exception | None = None
        self._writer_task: asyncio.Task[None] | None = None
        self.md5 = hashlib.md5(usedforsecurity=False)

    @property
    def size(self) -> int:
        return self._source.size

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """Raise TypeError: the method is abstract in `Payload`, but only meant for small bodies."""
        raise TypeError(f"an upload body cannot be decoded (encoding={encoding!r}, errors={errors!r})")

    async def aclose(self) -> None:
        """End aiohttp's writer task, which keeps reading the source if the server responds before the body is sent."""
        if self._writer_task is not None and not self._writer_task.done():
            await cancel_and_wait(self._writer_task)

    async def write(self, writer: AbstractStreamWriter) -> None:
        # aiohttp repeats a PUT on another connection when a reused one turns out to be closed. Whether an upload is
        # repeated is decided in `upload`.
        if self.started:
            raise TransferAborted
        self.started = True
        self._writer_task = asyncio.current_task()
        self.fully_sent = not self.size
        try:
            await self._write_source(writer)
        except TransferAborted:
            raise
        except Exception as error:
            self.error = error
        else:
            return
        # Raised outside of the `except`, so that aiohttp's chain of exceptions does not refer to frames of the source.
        raise TransferAborted

    async def _write_source(self, writer: AbstractStreamWriter) -> None:
        held_back = b""
        async with _closing_iterator(self._source.chunks()) as chunks:
            async for chunk in chunks:
                if not isinstance(chunk, bytes | bytearray | memoryview):
                    raise TypeError(f"the source must yield bytes, not {type(chunk).__name__}")
                length = memoryview(chunk).nbytes
                self._bytes_read += length
                if self._bytes_read > self.size:
                    raise ValueError(f"the source has more than the {self.size} bytes announced")
                # An empty chunk must not release the one that is held back.
                if length:
                    await self._write_pieces(writer, held_back)
                    # Copied, because the source may reuse its buffer for the next chunk.
                    held_back = bytes(chunk)
        if self._bytes_read < self.size:
            raise ValueError(f"the source ended after {self._bytes_read} of {self.size} bytes")
        await self._write_pieces(writer, held_back)

    async def _write_pieces(self, writer: AbstractStreamWriter, data: bytes) -> None:
        """Write *data* in pieces, so that the timeout and the progress callback apply to parts of a large chunk."""
        for start in range(0, len(data), PIECE_SIZE):
            piece = data[start : start + PIECE_SIZE]
            # Set before writing: a write that fails may have sent its bytes.
            self.fully_sent = self.sent + len(piece) == self.size
            self.md5.update(piece)
            connection_lost = False
            try:
                async with asyncio.timeout(self._write_timeout):
                    await writer.write(piece)
            except TimeoutError:
                self.stalled = True
            except ConnectionError:
                # Not recorded as `error`: the result of the request, perhaps a response, says more.
                connection_lost = True
            if self.stalled or connection_lost:
                raise TransferAborted
            self.sent += len(piece)
            if self._progress is not None:
                self._report_progress(self._progress)

    def _report_progress(self, progress: UploadProgress) -> None:
        """Call *progress*; if it raises, abort the upload, unless everything is sent already."""
        try:
            progress(self.sent, self.size)
        except Exception as error:
            self.error = error
        # After the last bytes the response is still read, because the object may have been created.
        if self.error is not None and not self.fully_sent:
            raise TransferAborted


@asynccontextmanager
async def _closing_iterator(chunks: AsyncIterable[bytes]) -> AsyncIterator[AsyncIterator[bytes]]:
    """Iterate over *chunks*; close an async generator at the end, which would otherwise keep its resources open."""
    iterator = aiter(chunks)
    try:
        yield iterator
    finally:
        if isinstance(iterator, AsyncGenerator):
            await iterator.aclose()
