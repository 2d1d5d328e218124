"""What is sent: bytes, a file or an asynchronous iterator, of a size that is known before the first byte leaves."""

from __future__ import annotations

import os
import stat
from collections.abc import AsyncIterable, AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import IO, Final, TypeAlias

import attrs

from wxtcb._concurrency.tasks import run_in_thread
from wxtcb.errors import InvalidArgument

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
