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
from wxtcb.validation import check_strings, check_type, is_valid_unicode, to_str_tuple, validator

if TYPE_CHECKING:
    import zipfile

MAX_ZIP_BYTES: Final = 20 << 20
DEFAULT_EXCLUDES: Final = frozenset({".git", ".hg", ".svn", ".DS_Store", "Thumbs.db", "__pycache__"})

_SIZE_LIMIT: Final = f"20 MB ({MAX_ZIP_BYTES:,} bytes) are allowed"
_ZIP_EPOCH: Final = (1980, 1, 1, 0, 0, 0)  # the first moment that a zip can name
_CHUNK_SIZE: Final = 1 << 16


def _check_zip(name: str, value: object) -> None:
    """Refuse what is no zip, one without a file at its root, and one that is certainly too large."""
    check_type(name, value, bytes)
    data = cast("bytes", value)
    if len(data) > MAX_ZIP_BYTES:
        sizes = f"{len(data):,} bytes, and {4 * ((len(data) + 2) // 3):,} as base64"
        raise InvalidArgument(f"{name} is too large: {sizes}; {_SIZE_LIMIT}")
    names = _zip_names(data)
    if names is None:
        raise InvalidArgument(f"{name} must be a zip; these {len(data):,} bytes are none")
    if not any("/" not in each for each in names):
        folders = ", ".join(sorted({each.split("/")[0] for each in names})[:3])
        found = f"only folders: {folders}" if names else "nothing"
        raise InvalidArgument(
            f"{name} must hold the code at the root of the zip, not inside a folder; there is {found}"
        )


def _zip_names(data: bytes) -> list[str] | None:
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

    data: bytes = attrs.field(validator=validator(_check_zip))
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
        return await asyncio.to_thread(lambda: cls(_read_zip_file(path)))

    def __repr__(self) -> str:
        return f"<Code of {len(self.data):,} bytes>"


async def pack(folder: str | os.PathLike[str], *, exclude: Collection[str] = DEFAULT_EXCLUDES) -> Code:
    """Zip a *folder*, with what is in it at the root of the zip; equal files make an equal zip.

    *leave_out* are names of files and folders, at any depth, that stay out. Links to files of the folder are packed as
    these files. Dependencies are installed in the cloud, so ``node_modules`` may be left out as well.

    Raises `InvalidArgument` for a folder that is missing or has no file at its root, for a link out of it or to a
    folder, for what is no file, a name that is not UTF-8, and more than 20 MB; `OSError` for what cannot be read.
    """
    names = to_str_tuple(exclude)
    check_strings("leave_out", names)
    return await asyncio.to_thread(_pack_folder, _as_path("folder", folder), frozenset(names))


def _as_path(name: str, value: object) -> Path:
    if not isinstance(value, str | os.PathLike):
        raise InvalidArgument(f"{name} must be a path, not {type(value).__name__}")
    return Path(value)


def _read_zip_file(path: Path) -> bytes:
    if not path.is_file():
        raise InvalidArgument(f"there is no zip file at {path}")
    if (size := path.stat().st_size) > MAX_ZIP_BYTES:
        raise InvalidArgument(f"{path} is too large: {size:,} bytes; {_SIZE_LIMIT}")
    return path.read_bytes()


def _pack_folder(folder: Path, exclude: frozenset[str]) -> Code:
    if not folder.is_dir():
        raise InvalidArgument(f"there is no folder at {folder}" if not folder.exists() else f"{folder} is no folder")
    import zipfile

    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as packed:
        for path in _iter_files(folder, folder.resolve(), exclude):
            _add_file(packed, path, path.relative_to(folder).as_posix(), buffer)
    return Code(buffer.getvalue())


def _iter_files(folder: Path, root: Path, exclude: frozenset[str]) -> Iterator[Path]:
    """Yield the files of *folder*, those in its folders too, in the order of their names."""
    for path in sorted(folder.iterdir()):
        if path.name in exclude:
            continue
        if path.is_dir() and not path.is_symlink():
            yield from _iter_files(path, root, exclude)
        elif path.is_file() and path.resolve().is_relative_to(root):
            yield path
        else:
            kind = "a link to a folder, to nothing, or out of the folder" if path.is_symlink() else "no file"
            raise InvalidArgument(f"{path} is {kind}, and cannot be packed; name it in leave_out if it is not needed")


def _add_file(archive: zipfile.ZipFile, path: Path, name: str, buffer: io.BytesIO) -> None:
    import zipfile

    if not is_valid_unicode(name):
        raise InvalidArgument(f"{name!r} is no name in UTF-8, and cannot be packed; name it in leave_out")
    entry = zipfile.ZipInfo(name, _ZIP_EPOCH)
    status = path.stat()
    entry.file_size = status.st_size
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.create_system = 3
    entry.external_attr = (stat.S_IFREG | (0o755 if status.st_mode & 0o111 else 0o644)) << 16
    with path.open("rb") as source, archive.open(entry, "w") as written:
        while chunk := source.read(_CHUNK_SIZE):
            written.write(chunk)
            if buffer.tell() > MAX_ZIP_BYTES:
                raise InvalidArgument(f"the zip is too large with {name} already; {_SIZE_LIMIT}: leave something out")
