"""A file on its way out, as the body of a request."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from aiohttp.payload import Payload

from wxtcb._concurrency.tasks import end
from wxtcb._object_storage.source import PIECE, Source

if TYPE_CHECKING:
    from aiohttp.abc import AbstractStreamWriter

Progress = Callable[[int, int], object]


class Stopped(Exception):
    """Ends a request from within its body; the reason is in `Outflow.trouble`."""


class Outflow(Payload):
    """Writes a source, and knows how far it got.

    Its last bytes are written only once the source has ended with exactly the size that was announced: without them
    there is no object. `begun`: something was taken from the source; `whole`: the last bytes may have left. `trouble`
    is what the source or the progress callback raised, or what was wrong with them; `stalled`: the other side took
    nothing for `patience` seconds. `md5` is that of all that may have left.
    """

    _autoclose = True

    def __init__(self, source: Source, content_type: str, patience: float, progress: Progress | None) -> None:
        super().__init__(None, content_type=content_type)
        self._source = source
        self._patience = patience
        self._progress = progress
        self._given = 0
        self.sent = 0
        self.begun = False
        self.whole = False
        self.stalled = False
        self.trouble: Exception | None = None
        self._writing: asyncio.Task[None] | None = None
        self.md5 = hashlib.md5(usedforsecurity=False)

    @property
    def size(self) -> int:
        return self._source.size

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """Refuse what aiohttp asks of small bodies."""
        raise TypeError(f"a file is not held in memory, neither as {encoding} nor otherwise ({errors})")

    async def aclose(self) -> None:
        """End the task of aiohttp's that writes: a refused request leaves it alone with the source."""
        if self._writing is not None and not self._writing.done():
            await end(self._writing)

    async def write(self, writer: AbstractStreamWriter) -> None:
        if self.begun:  # aiohttp would repeat a PUT on another connection, of which our caller is to decide
            raise Stopped
        self.begun = True
        self._writing = asyncio.current_task()
        self.whole = not self.size
        try:
            await self._pour(writer)
        except Stopped:
            raise
        except Exception as error:
            self.trouble = error
        else:
            return
        raise Stopped

    async def _pour(self, writer: AbstractStreamWriter) -> None:
        held = b""
        async with _closing(self._source.chunks()) as chunks:
            async for chunk in chunks:
                if self._count(chunk):
                    await self._put(writer, held)
                    held = bytes(chunk)
        if self._given < self.size:
            raise ValueError(f"the source ended after {self._given} of {self.size} bytes")
        await self._put(writer, held)

    def _count(self, chunk: object) -> int:
        if not isinstance(chunk, bytes | bytearray | memoryview):
            raise TypeError(f"the source gave {type(chunk).__name__}, not bytes")
        length = memoryview(chunk).nbytes
        self._given += length
        if self._given > self.size:
            raise ValueError(f"the source gave more than the {self.size} bytes announced")
        return length

    async def _put(self, writer: AbstractStreamWriter, data: bytes) -> None:
        for start in range(0, len(data), PIECE):
            piece = data[start : start + PIECE]
            self.whole = self.sent + len(piece) == self.size
            self.md5.update(piece)
            if not await self._written(writer, piece):
                raise Stopped
            self.sent += len(piece)
            if self._progress is not None:
                self._tell(self._progress)

    def _tell(self, progress: Progress) -> None:
        """Tell how far it is. After the last bytes the callback stops nothing: what came of them is still heard."""
        try:
            progress(self.sent, self.size)
        except Exception as error:
            self.trouble = error
        if self.trouble is not None and not self.whole:
            raise Stopped

    async def _written(self, writer: AbstractStreamWriter, piece: bytes) -> bool:
        try:
            async with asyncio.timeout(self._patience):
                await writer.write(piece)
        except TimeoutError:
            self.stalled = True
        except ConnectionError:
            return False
        return not self.stalled


@asynccontextmanager
async def _closing(chunks: AsyncIterable[bytes]) -> AsyncIterator[AsyncIterator[bytes]]:
    """Give an iterator, and close it if it is a generator: one that is left in the middle would stay open."""
    iterator = aiter(chunks)
    try:
        yield iterator
    finally:
        if isinstance(iterator, AsyncGenerator):
            await iterator.aclose()
