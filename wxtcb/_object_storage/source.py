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

from wxtcb._concurrency.tasks import in_thread
from wxtcb.errors import InvalidArgument

Data: TypeAlias = "bytes | str | os.PathLike[str] | AsyncIterable[bytes]"

PIECE: Final = 256 * 1024


@attrs.frozen
class Source:
    """Bytes to be sent: how many, where they come from, and whether they can be had a second time."""

    size: int
    chunks: Callable[[], AsyncIterable[bytes]] = attrs.field(repr=False)
    lasting: bool = True


@asynccontextmanager
async def open_source(data: Data, size: int | None) -> AsyncIterator[Source]:
    """Open what is to be sent; `InvalidArgument` for a file that cannot be read, and for a size that it has not."""
    if size is not None and (type(size) is not int or size < 0):
        raise InvalidArgument(f"size must be a whole number of bytes, not {size!r}")
    if isinstance(data, bytes):
        yield _sized(len(data), size, partial(_once, data))
    elif isinstance(data, str | os.PathLike):
        with_file = ExitStack()
        try:
            file = await in_thread(lambda: with_file.enter_context(_open(os.fspath(data))))
            yield _sized(os.fstat(file.fileno()).st_size, size, partial(_read, file))
        finally:
            await in_thread(with_file.close)
    elif isinstance(data, AsyncIterable):
        if size is None:
            raise InvalidArgument("size: how many bytes an iterator gives has to be said before the first is sent")
        yield Source(size, lambda: data, lasting=False)
    else:
        raise InvalidArgument(f"source must be a path, bytes or an async iterator of bytes, not {type(data).__name__}")


def _sized(found: int, stated: int | None, chunks: Callable[[], AsyncIterable[bytes]]) -> Source:
    if stated not in (None, found):
        raise InvalidArgument(f"size: the source has {found} bytes, not {stated}")
    return Source(found, chunks)


def _open(path: object) -> IO[bytes]:
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


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data


async def _read(file: IO[bytes]) -> AsyncIterator[bytes]:
    await in_thread(partial(file.seek, 0))
    while chunk := await in_thread(partial(file.read, PIECE)):
        yield chunk
