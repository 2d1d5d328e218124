"""Report files of `wxtcb provision --report PATH`, written atomically and readable by their owner only."""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Final

import attrs

from wxtcb._files.access import resolve_links
from wxtcb.cli.console import echo_err, escape_unprintable
from wxtcb.errors import InvalidArgument
from wxtcb.provision import Journal, Report
from wxtcb.provision.journal import JournalError
from wxtcb.provision.record import HistoryEntry
from wxtcb.provision.report_csv import render_csv
from wxtcb.provision.report_html import render_html

TenantHistories = Mapping[str, tuple[HistoryEntry, ...]]
_FORMATS: Final[Mapping[str, Callable[[Report, TenantHistories], bytes]]] = {
    ".json": lambda report, _: report.to_json(),
    ".csv": lambda report, _: render_csv(report).encode("utf-8-sig", "backslashreplace"),
    ".html": lambda report, histories: render_html(report, histories).encode(),
}


@attrs.frozen
class ReportFiles:
    """Paths of the report files to write; the suffix selects the format. A symbolic link is replaced, not followed."""

    paths: tuple[Path, ...] = ()

    @classmethod
    def for_paths(cls, paths: Iterable[Path], *, protected: Iterable[Path | None] = ()) -> ReportFiles:
        """Return the files at *paths*, after a temporary file was created next to each of them.

        Raises `InvalidArgument` if one cannot be written, has an unsupported suffix, is duplicated, or is *protected*.
        """
        # A protected file that is given by a link must not lose the link either.
        used = {name for path in protected if path for name in (Path(os.path.realpath(path)), _without_links(path))}
        for path in (checked := tuple(paths)):
            _check_path(path, used)
            used.add(_without_links(path))
        return cls(checked)

    async def write(self, report: Report, journal: Journal) -> None:
        """Write all files in a thread; a failure is reported on standard error, and does not prevent the others."""
        histories = await self._read_histories(report, journal)
        for path in self.paths:
            try:
                await asyncio.to_thread(_write_report, path, report, histories)
            except (OSError, InvalidArgument) as error:
                reason = error.strerror if isinstance(error, OSError) else error
                echo_err(escape_unprintable(f"--report {path}: not written ({reason})"))

    async def _read_histories(self, report: Report, journal: Journal) -> TenantHistories:
        """Return the history of each tenant, or none if no file shows it or if the journal cannot be read."""
        if not any(path.suffix.lower() == ".html" for path in self.paths):
            return {}
        try:
            return await journal.history(entry.tenant for entry in report.tenants)
        except JournalError as error:
            echo_err(escape_unprintable(f"--report: no timelines, because the journal could not be read ({error})"))
            return {}


def _without_links(path: Path) -> Path:
    """Return *path* with the links in its directory resolved; the file itself may be a link, and would be replaced."""
    # A link to the file is never followed: in a shared directory, another user could have created it, and an
    # administrator would overwrite a file of the system. `resolve_links` checks the links in the directory.
    return resolve_links(path.parent) / path.name


def _check_path(path: Path, used: set[Path]) -> None:
    if path.suffix.lower() not in _FORMATS:
        raise _invalid_path(path, "unsupported file type (supported: .html, .csv, .json)")
    try:
        target = _without_links(path)
    except InvalidArgument as error:
        raise _invalid_path(path, str(error)) from error
    if target in used:
        raise _invalid_path(path, "the file is used already, and would be replaced")
    try:
        if target.exists() and not (target.is_file() or target.is_symlink()):
            raise _invalid_path(path, "it exists and is not a regular file")
        # By writing there: permissions do not show a read-only file system, a full disk or a name that is too long.
        with _temporary_file(target):
            pass
    except OSError as error:
        raise _invalid_path(path, f"cannot be written ({error.strerror})") from error


def _invalid_path(path: Path, reason: str) -> InvalidArgument:
    return InvalidArgument(f"--report {path}: {reason}; no request was sent")


def _write_report(path: Path, report: Report, histories: TenantHistories) -> None:
    document = _FORMATS[path.suffix.lower()](report, histories)
    target = _without_links(path)
    with _temporary_file(target) as file:
        file.write(document)
        file.flush()
        # Otherwise a crash after the rename could leave an empty file in place of the previous report.
        os.fsync(file.fileno())
        Path(file.name).replace(target)


@contextlib.contextmanager
def _temporary_file(path: Path) -> Iterator[IO[bytes]]:
    """Open a file next to *path*, with mode 600; remove it at the end unless it was renamed."""
    # A prefix of 40 characters keeps the name below the limit of 255 bytes, also in Chinese.
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.stem[:40]}-", delete=False) as file:
        try:
            # The name of the temporary file is short, and `Path.exists` hides errors since Python 3.14.
            with contextlib.suppress(FileNotFoundError):
                path.lstat()
            yield file
        finally:
            Path(file.name).unlink(missing_ok=True)
