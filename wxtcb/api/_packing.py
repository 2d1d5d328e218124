"""Zips of folders: credentials are left out, and no file outside of the folder is read."""

from __future__ import annotations

import errno
import io
import os
import stat
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack
from fnmatch import fnmatchcase
from pathlib import Path
from typing import IO, Final

import attrs

from wxtcb import validation
from wxtcb._protocol.limits import LIMITS
from wxtcb.errors import InvalidArgument

# Far more than what compresses to 20 MB in practice. A sparse file of many gigabytes would keep a thread busy.
MAX_UNPACKED_BYTES: Final = LIMITS.unpacked_bytes

_ZIP_EPOCH: Final = (1980, 1, 1, 0, 0, 0)  # the earliest time a zip can contain
_CHUNK_SIZE: Final = 1 << 16
# A component of the path is a link (ELOOP, or EMLINK on FreeBSD), or missing, although it was a file or directory.
_CHANGED_ERRNOS: Final = (errno.ELOOP, errno.EMLINK, errno.ENOTDIR, errno.ENOENT)


@attrs.frozen
class _File:
    """File to pack: its name in the zip, its location below the folder without links, and its checked status."""

    name: str
    location: tuple[str, ...]
    status: os.stat_result

    def changed(self) -> InvalidArgument:
        return InvalidArgument(f"{self.name} changed while it was packed; no code was packed, try again")


@attrs.define
class FolderZip:
    """Zip of the folder at `root`, a path without links.

    Names in `exclude` are skipped. Names that match a pattern in `credentials`, and none in `include`, are skipped too,
    and their paths are collected in `left_out`.
    """

    root: Path
    exclude: frozenset[str]
    credentials: frozenset[str]
    include: frozenset[str]
    max_zip_bytes: int
    left_out: list[str] = attrs.field(factory=list[str])

    def build(self) -> bytes:
        """Return the zip; raise `InvalidArgument` if it is too large, or if a file cannot be packed."""
        # All files are checked before the first one is read.
        files = list(self._iter_files(self.root))
        if (size := sum(file.status.st_size for file in files)) > MAX_UNPACKED_BYTES:
            largest = max(files, key=lambda file: file.status.st_size)
            raise InvalidArgument(
                f"the folder is too large: {size:,} bytes, of which {largest.name} has {largest.status.st_size:,}; the "
                f"limit is {MAX_UNPACKED_BYTES:,} bytes before compression: exclude some files"
            )
        buffer = io.BytesIO()
        with ExitStack() as stack:
            # The directory is opened once: a path could lead to another one later. Windows cannot open directories.
            root_fd = None
            if os.open in os.supports_dir_fd:
                root_fd = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
                stack.callback(os.close, root_fd)
            archive = stack.enter_context(zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED))
            for file in files:
                self._add_file(archive, file, root_fd, buffer)
        return buffer.getvalue()

    def _iter_files(self, folder: Path) -> Iterator[_File]:
        """Yield the files of *folder* and its subfolders, sorted by name."""
        # Sorted, because the order of a directory differs between machines, and equal files must give an equal zip.
        for path in sorted(folder.iterdir()):
            if path.name in self.exclude:
                continue
            name = path.relative_to(self.root).as_posix()
            if self._is_credential(path.name):
                self.left_out.append(name)
                continue
            if path.is_dir() and not path.is_symlink():
                yield from self._iter_files(path)
                continue
            # A link out of the folder could put a private file of this machine into the cloud.
            target = path.resolve()
            if not target.is_relative_to(self.root) or not target.is_file():
                kind = (
                    "a link to a folder, to nothing, or out of the folder"
                    if path.is_symlink()
                    else "not a regular file"
                )
                raise InvalidArgument(f"{path} is {kind} and cannot be packed; add it to exclude if it is not needed")
            if not validation.is_valid_unicode(name):
                raise InvalidArgument(f"the name {name!r} is not valid UTF-8 and cannot be packed; add it to exclude")
            location = target.relative_to(self.root).parts
            # A link with a harmless name may lead to a credential.
            if any(map(self._is_credential, location)):
                self.left_out.append(name)
                continue
            yield _File(name, location, target.lstat())

    def _is_credential(self, name: str) -> bool:
        return _matches(name.lower(), self.credentials) and not _matches(name, self.include)

    def _add_file(self, archive: zipfile.ZipFile, file: _File, root_fd: int | None, buffer: io.BytesIO) -> None:
        # A fixed time and fixed permissions: equal files give an equal zip on every machine.
        entry = zipfile.ZipInfo(file.name, _ZIP_EPOCH)
        entry.file_size = file.status.st_size
        entry.compress_type = zipfile.ZIP_DEFLATED
        entry.create_system = 3  # Unix, also on Windows
        entry.external_attr = (stat.S_IFREG | (0o755 if file.status.st_mode & 0o111 else 0o644)) << 16
        with self._open(file, root_fd) as source, archive.open(entry, "w") as target:
            size = 0
            while chunk := source.read(_CHUNK_SIZE):
                size += len(chunk)
                # Also a bound: a file that another program keeps writing to could have no end.
                if size > file.status.st_size:
                    raise file.changed()
                target.write(chunk)
                # Checked while packing, so that a large folder does not fill the memory first.
                if buffer.tell() > self.max_zip_bytes:
                    raise InvalidArgument(
                        f"the zip is too large at {file.name}; the limit is {self.max_zip_bytes:,} bytes (20 MB): "
                        "exclude some files"
                    )

    def _open(self, file: _File, root_fd: int | None) -> IO[bytes]:
        """Open *file*, without following a link: another program may have put one there since the check."""
        try:
            opened = self._open_by_path(file) if root_fd is None else _open_beneath(root_fd, file.location)
        except OSError as error:
            if error.errno in _CHANGED_ERRNOS:
                raise file.changed() from error
            raise
        status = os.fstat(opened.fileno())
        if not os.path.samestat(status, file.status) or status.st_size != file.status.st_size:
            opened.close()
            raise file.changed()
        return opened

    def _open_by_path(self, file: _File) -> IO[bytes]:
        return self.root.joinpath(*file.location).open("rb")


def _matches(name: str, patterns: frozenset[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _open_beneath(root_fd: int, location: tuple[str, ...]) -> IO[bytes]:
    """Open a file by its *location* below an open directory; raise OSError if any part of it is a link."""
    opened: list[int] = []
    try:
        directory = root_fd
        for name in location[:-1]:
            directory = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=directory)
            opened.append(directory)
        # Without O_NONBLOCK, opening a named pipe would wait for a writer.
        flags = os.O_NOFOLLOW | os.O_NONBLOCK
        return open(location[-1], "rb", opener=lambda name, mode: os.open(name, mode | flags, dir_fd=directory))
    finally:
        for each in opened:
            os.close(each)
