"""The code of a function: a zip, made of a folder or given."""

from __future__ import annotations

import asyncio
import io
import os
import stat
from base64 import b64encode
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self, cast

import attrs

from wxtcb.errors import InvalidArgument
from wxtcb.validation import as_texts, check_kind, check_texts, field_is, is_sendable

if TYPE_CHECKING:
    import zipfile

MOST_BYTES: Final = 20 << 20
LEFT_OUT: Final = frozenset({".git", ".hg", ".svn", ".DS_Store", "Thumbs.db", "__pycache__"})

_ALLOWED: Final = f"20 MB ({MOST_BYTES:,} bytes) are allowed"
_EPOCH: Final = (1980, 1, 1, 0, 0, 0)  # the first moment that a zip can name
_CHUNK: Final = 1 << 16


def _check_zip(name: str, value: object) -> None:
    """Refuse what is no zip, one without a file at its root, and one that is certainly too large."""
    check_kind(name, value, bytes)
    data = cast("bytes", value)
    if len(data) > MOST_BYTES:
        sizes = f"{len(data):,} bytes, and {4 * ((len(data) + 2) // 3):,} as base64"
        raise InvalidArgument(f"{name} is too large: {sizes}; {_ALLOWED}")
    names = _names_in(data)
    if names is None:
        raise InvalidArgument(f"{name} must be a zip; these {len(data):,} bytes are none")
    if not any("/" not in each for each in names):
        folders = ", ".join(sorted({each.split("/")[0] for each in names})[:3])
        found = f"only folders: {folders}" if names else "nothing"
        raise InvalidArgument(
            f"{name} must hold the code at the root of the zip, not inside a folder; there is {found}"
        )


def _names_in(data: bytes) -> list[str] | None:
    """Return the names in a zip, or None if it is none."""
    import zipfile

    try:
        with zipfile.ZipFile(io.BytesIO(data)) as opened:
            return opened.namelist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError):
        return None


@attrs.frozen(repr=False)
class Code:
    """The code of a function: a zip of at most 20 MB with the code at its root, and its base64.

    Whether the 20 MB are those of the zip or of its base64 is not documented: what the first reading allows is sent.
    The repr shows the size alone. `pack` makes one of a folder, `from_zip` of a zip, neither on the event loop; this
    constructor takes up to some 50 ms.
    """

    data: bytes = attrs.field(validator=field_is(_check_zip))
    base64: str = attrs.field(init=False, eq=False)

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "base64", b64encode(self.data).decode())

    @classmethod
    async def from_zip(cls, source: bytes | str | os.PathLike[str]) -> Self:
        """Take a zip from memory or from the file at a path.

        Raises `InvalidArgument` for what is no zip, has nothing at its root, or is over 20 MB, and for what is no file.
        """
        if isinstance(source, bytes):
            return await asyncio.to_thread(cls, source)
        path = _as_path("source", source)
        return await asyncio.to_thread(lambda: cls(_read(path)))

    def __repr__(self) -> str:
        return f"<Code of {len(self.data):,} bytes>"


async def pack(folder: str | os.PathLike[str], *, leave_out: Collection[str] = LEFT_OUT) -> Code:
    """Zip a *folder*, with what is in it at the root of the zip; equal files make an equal zip.

    *leave_out* are names of files and folders, at any depth, that stay out. Links to files of the folder are packed as
    these files. Dependencies are installed in the cloud, so ``node_modules`` may be left out as well.

    Raises `InvalidArgument` for a folder that is missing or has no file at its root, for a link out of it or to a
    folder, for what is no file, a name that is not UTF-8, and more than 20 MB; `OSError` for what cannot be read.
    """
    names = as_texts(leave_out)
    check_texts("leave_out", names)
    return await asyncio.to_thread(_pack, _as_path("folder", folder), frozenset(names))


def _as_path(name: str, value: object) -> Path:
    if not isinstance(value, str | os.PathLike):
        raise InvalidArgument(f"{name} must be a path, not {type(value).__name__}")
    return Path(value)


def _read(path: Path) -> bytes:
    if not path.is_file():
        raise InvalidArgument(f"there is no zip file at {path}")
    if (size := path.stat().st_size) > MOST_BYTES:
        raise InvalidArgument(f"{path} is too large: {size:,} bytes; {_ALLOWED}")
    return path.read_bytes()


def _pack(folder: Path, leave_out: frozenset[str]) -> Code:
    if not folder.is_dir():
        raise InvalidArgument(f"there is no folder at {folder}" if not folder.exists() else f"{folder} is no folder")
    import zipfile

    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as packed:
        for path in _files_in(folder, folder.resolve(), leave_out):
            _add(packed, path, path.relative_to(folder).as_posix(), buffer)
    return Code(buffer.getvalue())


def _files_in(folder: Path, root: Path, leave_out: frozenset[str]) -> Iterator[Path]:
    """Yield the files of *folder*, those in its folders too, in the order of their names."""
    for path in sorted(folder.iterdir()):
        if path.name in leave_out:
            continue
        if path.is_dir() and not path.is_symlink():
            yield from _files_in(path, root, leave_out)
        elif path.is_file() and path.resolve().is_relative_to(root):
            yield path
        else:
            kind = "a link to a folder, to nothing, or out of the folder" if path.is_symlink() else "no file"
            raise InvalidArgument(f"{path} is {kind}, and cannot be packed; name it in leave_out if it is not needed")


def _add(packed: zipfile.ZipFile, path: Path, name: str, buffer: io.BytesIO) -> None:
    import zipfile

    if not is_sendable(name):
        raise InvalidArgument(f"{name!r} is no name in UTF-8, and cannot be packed; name it in leave_out")
    entry = zipfile.ZipInfo(name, _EPOCH)
    status = path.stat()
    entry.file_size = status.st_size
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.create_system = 3
    entry.external_attr = (stat.S_IFREG | (0o755 if status.st_mode & 0o111 else 0o644)) << 16
    with path.open("rb") as source, packed.open(entry, "w") as written:
        while chunk := source.read(_CHUNK):
            written.write(chunk)
            if buffer.tell() > MOST_BYTES:
                raise InvalidArgument(f"the zip is too large with {name} already; {_ALLOWED}: leave something out")
