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

from wxtcb.cli.console import echo_err, escape_unprintable
from wxtcb.errors import InvalidArgument
from wxtcb.provision import Journal, Report
from wxtcb.provision.journal import HistoryEntry, JournalError
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
    """Paths of the report files to write; the suffix selects the format."""

    paths: tuple[Path, ...] = ()

    @classmethod
    def for_paths(cls, paths: Iterable[Path], *, protected: Iterable[Path | None] = ()) -> ReportFiles:
        """Return the files at *paths*, after a temporary file was created next to each of them.

        Raises `InvalidArgument` if one cannot be written, has an unsupported suffix, is duplicated, or is *protected*.
        """
        used = {os.path.realpath(path) for path in protected if path}
        for path in (checked := tuple(paths)):
            _check_path(path, used)
            used.add(os.path.realpath(path))
        return cls(checked)

    async def write(self, report: Report, journal: Journal) -> None:
        """Write all files in a thread; a failure is reported on standard error, and does not prevent the others."""
        histories = await self._read_histories(report, journal)
        for path in self.paths:
            try:
                await asyncio.to_thread(_write_report, path, report, histories)
            except OSError as error:
                echo_err(escape_unprintable(f"--report {path}: not written ({error.strerror})"))

    async def _read_histories(self, report: Report, journal: Journal) -> TenantHistories:
        """Return the history of each tenant, or none if no file shows it or if the journal cannot be read."""
        if not any(path.suffix.lower() == ".html" for path in self.paths):
            return {}
        try:
            return await journal.history(entry.tenant for entry in report.tenants)
        except JournalError as error:
            echo_err(escape_unprintable(f"--report: no timelines, because the journal could not be read ({error})"))
            return {}


def _check_path(path: Path, used: set[str]) -> None:
    if path.suffix.lower() not in _FORMATS:
        raise _invalid_path(path, "unsupported file type (supported: .html, .csv, .json)")
    if os.path.realpath(path) in used:
        raise _invalid_path(path, "the file is used already, and would be replaced")
    try:
        if path.exists() and not path.is_file():
            raise _invalid_path(path, "it exists and is not a regular file")
        # By writing there: permissions do not show a read-only file system, a full disk or a name that is too long.
        with _temporary_file(os.path.realpath(path)):
            pass
    except OSError as error:
        raise _invalid_path(path, f"cannot be written ({error.strerror})") from error


def _invalid_path(path: Path, reason: str) -> InvalidArgument:
    return InvalidArgument(f"--report {path}: {reason}; no request was sent")


def _write_report(path: Path, report: Report, histories: TenantHistories) -> None:
    document = _FORMATS[path.suffix.lower()](report, histories)
    # A symbolic link, such as latest.html, stays one: the file that it points to is replaced.
    target = os.path.realpath(path)
    with _temporary_file(target) as file:
        file.write(document)
        file.flush()
        # Otherwise a crash after the rename could leave an empty file in place of the previous report.
        os.fsync(file.fileno())
        Path(file.name).replace(target)


@contextlib.contextmanager
def _temporary_file(target: str) -> Iterator[IO[bytes]]:
    """Open a file next to *target*, with mode 600; remove it at the end unless it was renamed."""
    path = Path(target)
    # A prefix of 40 characters keeps the name below the limit of 255 bytes, also in Chinese.
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.stem[:40]}-", delete=False) as file:
        try:
            # The name of the temporary file is short, and `Path.exists` hides errors since Python 3.14.
            with contextlib.suppress(FileNotFoundError):
                path.lstat()
            yield file
        finally:
            Path(file.name).unlink(missing_ok=True)
