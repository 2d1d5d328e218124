"""A file on its way out, as the body of a request."""

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

PIECE_SIZE: Final = 256 * 1024


@attrs.frozen
class UploadSource:
    """Bytes to be sent: how many, where they come from, and whether they can be had a second time."""

    size: int
    chunks: Callable[[], AsyncIterable[bytes]] = attrs.field(repr=False)
    repeatable: bool = True


@asynccontextmanager
async def open_source(data: UploadData, size: int | None) -> AsyncIterator[UploadSource]:
    """Open what is to be sent; `InvalidArgument` for a file that cannot be read, and for a size that it has not."""
    if size is not None and (type(size) is not int or size < 0):
        raise InvalidArgument(f"size must be a whole number of bytes, not {size!r}")
    if isinstance(data, bytes):
        yield _source_of_size(len(data), size, partial(_iter_bytes, data))
    elif isinstance(data, str | os.PathLike):
        with_file = ExitStack()
        try:
            file = await run_in_thread(lambda: with_file.enter_context(_open_file(os.fspath(data))))
            yield _source_of_size(os.fstat(file.fileno()).st_size, size, partial(_iter_file, file))
        finally:
            await run_in_thread(with_file.close)
    elif isinstance(data, AsyncIterable):
        if size is None:
            raise InvalidArgument("size: how many bytes an iterator gives has to be said before the first is sent")
        yield UploadSource(size, lambda: data, repeatable=False)
    else:
        raise InvalidArgument(f"source must be a path, bytes or an async iterator of bytes, not {type(data).__name__}")


def _source_of_size(actual: int, declared: int | None, chunks: Callable[[], AsyncIterable[bytes]]) -> UploadSource:
    if declared not in (None, actual):
        raise InvalidArgument(f"size: the source has {actual} bytes, not {declared}")
    return UploadSource(actual, chunks)


def _open_file(path: object) -> IO[bytes]:
    """Open a regular file: of anything else nobody knows the size."""
    if not isinstance(path, str):
        raise InvalidArgument(f"source must be a path of text, not of {type(path).__name__}")
    try:
        if stat.S_ISREG(Path(path).stat().st_mode):
            return Path(path).open("rb")
        reason = "it is no regular file"
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
    raise InvalidArgument(f"source: {path!r} cannot be sent: {reason}")


async def _iter_bytes(data: bytes) -> AsyncIterator[bytes]:
    yield data


async def _iter_file(file: IO[bytes]) -> AsyncIterator[bytes]:
    await run_in_thread(partial(file.seek, 0))
    while chunk := await run_in_thread(partial(file.read, PIECE_SIZE)):
        yield chunk


UploadProgress = Callable[[int, int], object]


class TransferAborted(Exception):
    """Ends a request from within its body; the reason is in `UploadBody.error`."""


class UploadBody(Payload):
    """Writes a source, and knows how far it got.

    Its last bytes are written only once the source has ended with exactly the size that was announced: without them
    there is no object. `started`: something was taken from the source; `fully_sent`: the last bytes may have left. `error`
    is what the source or the progress callback raised, or what was wrong with them; `stalled`: the other side took
    nothing for `write_timeout` seconds. `md5` is that of all that may have left.
    """

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
        """Refuse what aiohttp asks of small bodies."""
        raise TypeError(f"a file is not held in memory, neither as {encoding} nor otherwise ({errors})")

    async def aclose(self) -> None:
        """End the task of aiohttp's that writes: a refused request leaves it alone with the source."""
        if self._writer_task is not None and not self._writer_task.done():
            await cancel_and_wait(self._writer_task)

    async def write(self, writer: AbstractStreamWriter) -> None:
        if self.started:  # aiohttp would repeat a PUT on another connection, of which our caller is to decide
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
        raise TransferAborted

    async def _write_source(self, writer: AbstractStreamWriter) -> None:
        held = b""
        async with _closing_iterator(self._source.chunks()) as chunks:
            async for chunk in chunks:
                if self._check_chunk(chunk):
                    await self._write_pieces(writer, held)
                    held = bytes(chunk)
        if self._bytes_read < self.size:
            raise ValueError(f"the source ended after {self._bytes_read} of {self.size} bytes")
        await self._write_pieces(writer, held)

    def _check_chunk(self, chunk: object) -> int:
        if not isinstance(chunk, bytes | bytearray | memoryview):
            raise TypeError(f"the source gave {type(chunk).__name__}, not bytes")
        length = memoryview(chunk).nbytes
        self._bytes_read += length
        if self._bytes_read > self.size:
            raise ValueError(f"the source gave more than the {self.size} bytes announced")
        return length

    async def _write_pieces(self, writer: AbstractStreamWriter, data: bytes) -> None:
        for start in range(0, len(data), PIECE_SIZE):
            piece = data[start : start + PIECE_SIZE]
            self.fully_sent = self.sent + len(piece) == self.size
            self.md5.update(piece)
            if not await self._write_piece(writer, piece):
                raise TransferAborted
            self.sent += len(piece)
            if self._progress is not None:
                self._report_progress(self._progress)

    def _report_progress(self, progress: UploadProgress) -> None:
        """Tell how far it is. After the last bytes the callback stops nothing: what came of them is still heard."""
        try:
            progress(self.sent, self.size)
        except Exception as error:
            self.error = error
        if self.error is not None and not self.fully_sent:
            raise TransferAborted

    async def _write_piece(self, writer: AbstractStreamWriter, piece: bytes) -> bool:
        try:
            async with asyncio.timeout(self._write_timeout):
                await writer.write(piece)
        except TimeoutError:
            self.stalled = True
        except ConnectionError:
            return False
        return not self.stalled


@asynccontextmanager
async def _closing_iterator(chunks: AsyncIterable[bytes]) -> AsyncIterator[AsyncIterator[bytes]]:
    """Give an iterator, and close it if it is a generator: one that is left in the middle would stay open."""
    iterator = aiter(chunks)
    try:
        yield iterator
    finally:
        if isinstance(iterator, AsyncGenerator):
            await iterator.aclose()
