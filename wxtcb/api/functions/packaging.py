"""Code of functions: a zip, from a folder or from a file."""

from __future__ import annotations

import asyncio
import io
import os
import stat
from base64 import b64encode
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

import attrs

from wxtcb.errors import InvalidArgument
from wxtcb.validation import check_strings, is_valid_unicode, to_str_tuple

if TYPE_CHECKING:
    import zipfile

MAX_ZIP_BYTES: Final = 20 << 20
DEFAULT_EXCLUDES: Final = frozenset({".git", ".hg", ".svn", ".DS_Store", "Thumbs.db", "__pycache__"})

_SIZE_LIMIT: Final = f"the limit is 20 MB ({MAX_ZIP_BYTES:,} bytes)"
_ZIP_EPOCH: Final = (1980, 1, 1, 0, 0, 0)  # the earliest time a zip can contain
_CHUNK_SIZE: Final = 1 << 16


def _check_zip(_: Code, attribute: attrs.Attribute[bytes], data: bytes) -> None:
    """Raise `InvalidArgument` unless *data* is a zip of allowed size with a file at its root."""
    name = f"Code: {attribute.name}"
    if len(data) > MAX_ZIP_BYTES:
        sizes = f"{len(data):,} bytes, and {4 * ((len(data) + 2) // 3):,} as base64"
        raise InvalidArgument(f"{name} is too large: {sizes}; {_SIZE_LIMIT}")
    names = _zip_names(data)
    if names is None:
        raise InvalidArgument(f"{name} is not a zip ({len(data):,} bytes)")
    # Documented: the code must be at the root of the zip, not inside a folder.
    if not any("/" not in each for each in names):
        folders = ", ".join(sorted({each.split("/")[0] for each in names})[:3])
        found = f"only folders: {folders}" if names else "nothing"
        raise InvalidArgument(
            f"{name} must contain the code at the root of the zip, not inside a folder; it contains {found}"
        )


def _zip_names(data: bytes) -> list[str] | None:
    """Return the names in a zip, or None if *data* is not a zip."""
    import zipfile

    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return archive.namelist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError):
        return None


@attrs.frozen(repr=False)
class Code:
    """Code of a function: a zip of at most 20 MB with the code at its root, and its base64.

    The documentation does not say whether the 20 MB apply to the zip or to its base64; wxtcb checks the zip. The repr
    shows only the size. `pack` creates the code from a folder, `from_zip` from a zip, both in a worker thread; this
    constructor blocks for up to about 50 ms.
    """

    data: bytes = attrs.field(validator=_check_zip)
    base64: str = attrs.field(init=False, eq=False)

    def __attrs_post_init__(self) -> None:
        # Encoded once: the same code is usually uploaded to many environments.
        object.__setattr__(self, "base64", b64encode(self.data).decode())

    @classmethod
    async def from_zip(cls, source: bytes | str | os.PathLike[str]) -> Self:
        """Return the code of a zip in memory or of the file at a path.

        Raises `InvalidArgument` if it is not a zip, has no file at its root, is over 20 MB, or the file does not exist.
        """
        if isinstance(source, bytes):
            return await asyncio.to_thread(cls, source)
        path = Path(source)
        return await asyncio.to_thread(lambda: cls(_read_zip_file(path)))

    def __repr__(self) -> str:
        return f"<Code of {len(self.data):,} bytes>"


async def pack(folder: str | os.PathLike[str], *, exclude: Collection[str] = DEFAULT_EXCLUDES) -> Code:
    """Zip a *folder*, with its contents at the root of the zip; equal files give an equal zip.

    *exclude* are names of files and folders that are skipped at any depth. Links to files inside the folder are packed
    as these files. Dependencies are installed in the cloud, so ``node_modules`` may be excluded too.

    Raises `InvalidArgument` if the folder does not exist or has no file at its root, for a link to a folder or out of
    the folder, for a special file, for a name that is not UTF-8, and for more than 20 MB. Raises `OSError` for a file
    that cannot be read.
    """
    names = to_str_tuple(exclude)
    check_strings("exclude", names)
    return await asyncio.to_thread(_pack_folder, Path(folder), frozenset(names))


def _read_zip_file(path: Path) -> bytes:
    if not path.is_file():
        raise InvalidArgument(f"there is no zip file at {path}")
    if (size := path.stat().st_size) > MAX_ZIP_BYTES:
        raise InvalidArgument(f"{path} is too large: {size:,} bytes; {_SIZE_LIMIT}")
    return path.read_bytes()


def _pack_folder(folder: Path, exclude: frozenset[str]) -> Code:
    if not folder.is_dir():
        reason = "there is no folder at" if not folder.exists() else "not a folder:"
        raise InvalidArgument(f"{reason} {folder}")
    import zipfile

    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in _iter_files(folder, folder.resolve(), exclude):
            _add_file(archive, path, path.relative_to(folder).as_posix(), buffer)
    return Code(buffer.getvalue())


def _iter_files(folder: Path, root: Path, exclude: frozenset[str]) -> Iterator[Path]:
    """Yield the files of *folder* and its subfolders, sorted by name."""
    # Sorted, because the order of a directory differs between machines, and equal files must give an equal zip.
    for path in sorted(folder.iterdir()):
        if path.name in exclude:
            continue
        if path.is_dir() and not path.is_symlink():
            yield from _iter_files(path, root, exclude)
        # A link out of the folder could put a private file of this machine into the cloud.
        elif path.is_file() and path.resolve().is_relative_to(root):
            yield path
        else:
            kind = "a link to a folder, to nothing, or out of the folder" if path.is_symlink() else "not a regular file"
            raise InvalidArgument(f"{path} is {kind} and cannot be packed; add it to exclude if it is not needed")


def _add_file(archive: zipfile.ZipFile, path: Path, name: str, buffer: io.BytesIO) -> None:
    import zipfile

    if not is_valid_unicode(name):
        raise InvalidArgument(f"the name {name!r} is not valid UTF-8 and cannot be packed; add it to exclude")
    # A fixed time and fixed permissions: equal files give an equal zip on every machine.
    entry = zipfile.ZipInfo(name, _ZIP_EPOCH)
    status = path.stat()
    entry.file_size = status.st_size
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.create_system = 3  # Unix, also on Windows
    entry.external_attr = (stat.S_IFREG | (0o755 if status.st_mode & 0o111 else 0o644)) << 16
    with path.open("rb") as source, archive.open(entry, "w") as target:
        while chunk := source.read(_CHUNK_SIZE):
            target.write(chunk)
            # Checked while packing, so that a folder of many gigabytes does not fill the memory first.
            if buffer.tell() > MAX_ZIP_BYTES:
                raise InvalidArgument(f"the zip is too large at {name}; {_SIZE_LIMIT}: exclude some files")
