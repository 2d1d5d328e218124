"""`--report PATH`: the report in files, written whole or not at all, and for nobody else's eyes."""

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
_HTML_SUFFIX: Final = ".html"
_FORMATS: Final[Mapping[str, Callable[[Report, TenantHistories], bytes]]] = {
    ".json": lambda report, _: report.to_json(),
    ".csv": lambda report, _: render_csv(report).encode("utf-8-sig", "backslashreplace"),
    _HTML_SUFFIX: lambda report, histories: render_html(report, histories).encode(),
}


@attrs.frozen
class ReportFiles:
    """The files that a report is to be written to."""

    paths: tuple[Path, ...] = ()

    @classmethod
    def for_paths(cls, paths: Iterable[Path], *, protected: Iterable[Path | None] = ()) -> ReportFiles:
        """Check that each of *paths* can be written, by doing so beside it.

        Raises `InvalidArgument` for one that cannot, has another ending than .html, .csv and .json, is named twice, or
        is one of those that must be spared.
        """
        spared = {os.path.realpath(path) for path in protected if path}
        given = tuple(paths)
        for path in given:
            _check_path(path, spared)
            spared.add(os.path.realpath(path))
        return cls(given)

    async def write(self, report: Report, journal: Journal) -> None:
        """Write them all, in a thread; what cannot be written is told, and is no failure of the run."""
        histories = await self._read_histories(report, journal)
        for path in self.paths:
            try:
                await asyncio.to_thread(_write_report, path, report, histories)
            except OSError as error:
                echo_err(escape_unprintable(f"--report {path}: not written ({error.strerror})"))

    async def _read_histories(self, report: Report, journal: Journal) -> TenantHistories:
        """Return what became of each tenant, if a page is wanted, and as far as the journal can be read."""
        if not any(_report_format(path) == _HTML_SUFFIX for path in self.paths):
            return {}
        try:
            return await journal.history(entry.tenant for entry in report.tenants)
        except JournalError as error:
            echo_err(escape_unprintable(f"--report: without timelines, for the journal could not be read ({error})"))
            return {}


def _report_format(path: Path) -> str:
    return path.suffix.lower()


def _check_path(path: Path, protected: set[str]) -> None:
    if _report_format(path) not in _FORMATS:
        raise _invalid_path(path, "must end in .html, .csv or .json")
    if os.path.realpath(path) in protected:
        raise _invalid_path(path, "is named already, and would be replaced")
    try:
        if path.exists() and not path.is_file():
            raise _invalid_path(path, "is there, and is no file")
        with _temporary_file(os.path.realpath(path)):
            pass
    except OSError as error:
        raise _invalid_path(path, f"cannot be written ({error.strerror})") from error


def _invalid_path(path: Path, reason: str) -> InvalidArgument:
    return InvalidArgument(f"--report {path}: it {reason}; nothing was sent")


def _write_report(path: Path, report: Report, histories: TenantHistories) -> None:
    document = _FORMATS[_report_format(path)](report, histories)
    place = os.path.realpath(path)
    with _temporary_file(place) as file:
        file.write(document)
        file.flush()
        os.fsync(file.fileno())
        Path(file.name).replace(place)


@contextlib.contextmanager
def _temporary_file(target: str) -> Iterator[IO[bytes]]:
    """Open a file beside *place* that only its owner may read; in the end it is gone, unless it took another name."""
    path = Path(target)
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.stem[:40]}-", delete=False) as file:
        try:
            yield file
        finally:
            Path(file.name).unlink(missing_ok=True)
