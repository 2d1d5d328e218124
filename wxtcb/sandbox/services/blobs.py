"""The bytes of the simulated object storage, on disk, so that large files cost no memory."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import weakref
from pathlib import Path
from typing import IO, Final

from attrs import define, field, frozen

__all__ = ["Blob", "BlobStore", "BlobWriter"]


@frozen
class Blob:
    """One object's bytes: the file they are in, how many there are, and their MD5."""

    file: Path
    size: int
    md5: str


@define(eq=False)
class BlobWriter:
    """Bytes that are still coming in; they become a blob with `finish`."""

    _path: Path
    _file: IO[bytes] = field(init=False)
    _hash: Final = field(init=False, factory=lambda: hashlib.md5(usedforsecurity=False))
    size: int = field(init=False, default=0)

    def __attrs_post_init__(self) -> None:
        self._file = self._path.open("xb")

    def write(self, data: bytes) -> None:
        """Take some more."""
        self._file.write(data)
        self._hash.update(data)
        self.size += len(data)

    def finish(self) -> Blob:
        """Return what has come as a blob."""
        self._file.close()
        return Blob(self._path, self.size, self._hash.hexdigest())

    def discard(self) -> None:
        """Forget what has come; what has become a blob is kept."""
        if not self._file.closed:
            self._file.close()
            self._path.unlink()


@define(eq=False)
class BlobStore:
    """A folder of blobs, made when the first one comes, and removed by `clear` or with its owner."""

    _folder: Path | None = field(init=False, default=None)
    _finalizer: weakref.finalize[..., BlobStore] | None = field(init=False, default=None)
    _blob_count: int = field(init=False, default=0)

    def open_writer(self) -> BlobWriter:
        """Begin to take in another blob."""
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="wxtcb-sandbox-"))
            self._finalizer = weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        self._blob_count += 1
        return BlobWriter(self._folder / str(self._blob_count))

    def clear(self) -> None:
        """Remove all blobs there are."""
        if self._finalizer is not None:
            self._finalizer()
        self._folder = self._finalizer = None
