"""Where a download lands: a file beside the target, which becomes the target once it is whole."""

from __future__ import annotations

import os
import re
import secrets
import stat
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager, suppress
from enum import Enum
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

import attrs

from wxtcb._concurrency.tasks import in_thread
from wxtcb._object_storage.body import Stopped
from wxtcb._object_storage.client import hear
from wxtcb._object_storage.response import Heard
from wxtcb.errors import InvalidArgument

if TYPE_CHECKING:
    import aiohttp

Reached = Callable[[int, int | None], object]

_RANGE: Final = re.compile(r"bytes (\d+)-\d+/(\d+)")


class Landed(Enum):
    """What an answer with a file comes to: all of it is there, or why it is not, or not certainly."""

    WHOLE = "whole"
    SHORT = "less came than was announced"
    ENDLESS = "the reply does not tell where the file ends"
    CHANGED = "the file changes again and again"


@attrs.define(repr=False, eq=False)
class Landing:
    """A download so far: `size` bytes of `total`, of the object that has this `etag`.

    `trouble` is what the disk or the progress callback raised.
    """

    target: Path
    progress: Reached | None
    size: int = 0
    total: int | None = None
    etag: str | None = None
    trouble: Exception | None = None
    _part: Path = attrs.field(
        init=False,
        default=attrs.Factory(lambda self: self.target.parent / f".{secrets.token_hex(8)}.part", takes_self=True),
    )
    _file: IO[bytes] = attrs.field(init=False)
    _leaving: ExitStack = attrs.field(init=False, factory=ExitStack)

    def open(self) -> None:
        """Make the file beside the target, and thereby sure that there can be one."""
        with suppress(FileNotFoundError):
            if not stat.S_ISREG(self.target.stat().st_mode):
                raise OSError(None, "it is no regular file")
        self._file = self._part.open("xb")
        self._leaving.callback(self._part.unlink, missing_ok=True)
        self._leaving.enter_context(self._file)

    def wish(self) -> dict[str, str]:
        """Return the headers that ask for the rest if the object is still the same, else for the whole."""
        if not self.size or self.etag is None:
            return {}
        return {"Range": f"bytes={self.size}-", "If-Range": self.etag}

    async def take(self, response: aiohttp.ClientResponse) -> Heard | Landed:
        """Write what comes, and tell what came of it; or what was answered in its place."""
        if response.status == 416 or (response.status == 206 and not self._continued_by(response)):
            return self._changed()
        if response.status not in (200, 206):
            return await hear(response)
        if response.content_length is None and response.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return Landed.ENDLESS  # a lost connection would look like its end
        if response.status == 200:
            await self._begin(response)
        while chunk := await response.content.readany():
            await self._write(chunk)
        if self.total is None or self.size == self.total:
            return Landed.WHOLE
        return Landed.SHORT if self.size < self.total else self._changed()

    async def finish(self) -> None:
        """Put the file in the target's place, on the disk and at once."""
        await self._do(self._settle)

    def discard(self) -> None:
        """Remove what is not whole; of what became the target, nothing."""
        with suppress(OSError):  # of a disk that is full
            self._leaving.close()

    def _continued_by(self, response: aiohttp.ClientResponse) -> bool:
        found = _RANGE.fullmatch(response.headers.get("Content-Range", ""))
        same = response.headers.get("ETag", self.etag) == self.etag
        return same and found is not None and (int(found[1]), int(found[2])) == (self.size, self.total)

    def _changed(self) -> Landed:
        self.etag = None
        return Landed.CHANGED

    async def _begin(self, response: aiohttp.ClientResponse) -> None:
        etag = response.headers.get("ETag", "")
        self.size, self.total = 0, response.content_length
        self.etag = etag if etag.startswith('"') and self.total is not None else None
        await self._do(lambda file: (file.seek(0), file.truncate()))

    async def _write(self, chunk: bytes) -> None:
        await self._do(lambda file: file.write(chunk))
        self.size += len(chunk)
        if self.progress is not None:
            self._tell(self.progress)

    def _tell(self, progress: Reached) -> None:
        try:
            progress(self.size, self.total)
        except Exception as error:
            self.trouble = error
        self._stop_if_troubled()

    async def _do(self, work: Callable[[IO[bytes]], object]) -> None:
        """Let a thread do something with the file."""
        self._stop_if_troubled()
        try:
            await in_thread(partial(work, self._file))
        except OSError as error:
            self.trouble = error
        self._stop_if_troubled()

    def _stop_if_troubled(self) -> None:
        if self.trouble is not None:
            raise Stopped

    def _settle(self, file: IO[bytes]) -> None:
        file.flush()
        os.fsync(file.fileno())
        file.close()
        self._part.replace(self.target)
        with suppress(OSError):  # not every system lets a folder be opened
            folder = os.open(self.target.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)


@asynccontextmanager
async def landing_at(path: object, progress: Reached | None) -> AsyncIterator[Landing]:
    """Give a landing for the file at *path*, and leave nothing else behind; `InvalidArgument` where none can be."""
    if (
        not isinstance(path, str | os.PathLike)
        or not isinstance(text := os.fspath(path), str)
        or not text
        or "\0" in text
    ):
        raise InvalidArgument(f"path must be that of a file, not {path!r}")
    landing = Landing(Path(text), progress)
    reason = ""
    try:
        try:
            await in_thread(landing.open)
        except (OSError, UnicodeError) as error:
            reason = getattr(error, "strerror", None) or str(error)
        if reason:
            raise InvalidArgument(f"path: no file can be made at {text!r}: {reason}")
        yield landing
    finally:
        await in_thread(landing.discard)
