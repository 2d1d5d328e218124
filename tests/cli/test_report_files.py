"""`--report PATH`: what is refused beforehand, and what stands on the disk afterwards."""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import signal
import stat
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

from wxtcb.cli.report_files import ReportFiles
from wxtcb.errors import InvalidArgument
from wxtcb.provision import Outcome, Report, TenantReport
from wxtcb.provision.journal import HistoryEntry, JournalError, MemoryJournal, TenantRecord
from wxtcb.provision.report_csv import render_csv
from wxtcb.sandbox import ReadyPolicy

from .conftest import Cli, Platform, kept_secret, signal_when_asked

CREATE = "/componenttcb/createenv"
TOLD = Report((TenantReport(tenant="商户", alias="a", outcome=Outcome.DONE),), 1.0)
NAMES = ("r.html", "r.csv", "R.JSON")
Tenants = Callable[..., Path]


class Unreadable(MemoryJournal):
    """A journal whose histories cannot be read."""

    async def history(self, tenants: object) -> NoReturn:
        """Fail."""
        raise JournalError("the disk\nis gone")


def names(place: Path) -> list[str]:
    """Return what stands in a directory."""
    return sorted(path.name for path in place.iterdir())


def rights(place: Path) -> set[int]:
    """Return who may do what with what stands there."""
    return {stat.S_IMODE(path.stat().st_mode) for path in place.iterdir()}


async def remembered() -> MemoryJournal:
    """Return a journal that knows of one moment."""
    journal = MemoryJournal()
    assert await journal.commit(TenantRecord(tenant="商户", alias="a", version=1), HistoryEntry(0.0, "noted"))
    return journal


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("r.txt", "must end in .html, .csv or .json"),
        ("html", "must end in .html, .csv or .json"),
        ("nowhere/r.html", "cannot be written (No such file or directory)"),
        ("tenants.csv/r.html", "cannot be written (Not a directory)"),
        (f"{'r' * 300}.html", "cannot be written (File name too long)"),
        ("dir.html", "is there, and is no file"),
        ("tenants.csv", "is named already, and would be replaced"),
        ("dir.html/../tenants.csv", "is named already, and would be replaced"),
        ("j.json", "is named already, and would be replaced"),
        ("fine.csv", "is named already, and would be replaced"),
    ],
)
def test_what_cannot_be_written_is_refused_before_anything_is_sent(
    cli: Cli, tenants: Tenants, platform: Platform, tmp_path: Path, *, path: str, why: str
) -> None:
    """With exit code 2, and nothing is left behind."""
    file = tenants("a,x,,")
    (tmp_path / "dir.html").mkdir()
    words = ["--journal", tmp_path / "j.json", "--report", tmp_path / "fine.csv", "--report", tmp_path / path]
    result = cli("provision", file, "--yes", *words)
    assert result.exit_code == 2
    assert result.stderr == f"wxtcb: --report {tmp_path / path}: it {why}; nothing was sent\n"
    assert len(platform.box.seen) == 0
    assert names(tmp_path) == ["dir.html", "tenants.csv"]


def test_a_place_that_is_not_ours_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is found by writing there: what rights say of it is not the whole truth."""

    def refuse(**_: object) -> NoReturn:
        raise PermissionError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr("tempfile.NamedTemporaryFile", refuse)
    with pytest.raises(InvalidArgument, match=r"cannot be written \(Read-only file system\)"):
        ReportFiles.for_paths([tmp_path / "r.html"])


async def test_each_ending_has_its_format(tmp_path: Path) -> None:
    """A page with timelines, a table that Excel reads as UTF-8, and JSON; only the owner may read them."""
    reports = ReportFiles.for_paths([tmp_path / name for name in NAMES])
    assert names(tmp_path) == []
    await reports.write(TOLD, await remembered())
    page, table, document = (tmp_path / name for name in NAMES)
    assert "1970-01-01 00:00:00+00:00</time> noted" in page.read_text("utf-8")
    assert table.read_bytes() == b"\xef\xbb\xbf" + render_csv(TOLD).encode()
    assert document.read_bytes() == TOLD.to_json()
    assert rights(tmp_path) == {0o600}
    assert len(names(tmp_path)) == 3


async def test_what_was_there_is_replaced(tmp_path: Path) -> None:
    """Also what others could read; then they can no more."""
    place = tmp_path / "a.json"
    place.write_text("old")
    place.chmod(0o644)
    await ReportFiles.for_paths([place]).write(TOLD, MemoryJournal())
    assert place.read_bytes() == TOLD.to_json()
    assert stat.S_IMODE(place.stat().st_mode) == 0o600


@pytest.mark.parametrize("content", ["old", None])
async def test_a_link_stays_one(tmp_path: Path, content: str | None) -> None:
    """What it leads to is written, be it there or not, and nothing is left beside either."""
    link, place = tmp_path / "latest.json", tmp_path / "kept" / "run"
    place.parent.mkdir()
    if content:
        place.write_text(content)
    link.symlink_to(place)
    await ReportFiles.for_paths([link]).write(TOLD, MemoryJournal())
    assert link.is_symlink()
    assert place.read_bytes() == TOLD.to_json()
    assert (names(tmp_path), names(place.parent)) == (["kept", "latest.json"], ["run"])


async def test_a_name_without_a_directory_is_in_this_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As everywhere."""
    monkeypatch.chdir(tmp_path)
    await ReportFiles.for_paths([Path("r.json")]).write(TOLD, MemoryJournal())
    assert names(tmp_path) == ["r.json"]


async def test_a_full_disk_is_told_and_costs_no_other_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What was there stays as it was, and nothing half written lies beside it."""
    first, second = tmp_path / "a.json", tmp_path / "b\n.json"
    second.write_text("old")
    failures = iter([None, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))])

    def sync(_: int) -> None:
        if failure := next(failures):
            raise failure

    monkeypatch.setattr("os.fsync", sync)
    await ReportFiles.for_paths([first, second]).write(TOLD, MemoryJournal())
    assert capsys.readouterr().err == f"--report {tmp_path}/b\\n.json: not written (No space left on device)\n"
    assert (first.read_bytes(), second.read_text()) == (TOLD.to_json(), "old")
    assert len(names(tmp_path)) == 2


async def test_a_directory_that_is_gone_by_then_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As any other failure to write."""
    place = tmp_path / "place"
    place.mkdir()
    reports = ReportFiles.for_paths([place / "r.csv"])
    place.rmdir()
    await reports.write(TOLD, MemoryJournal())
    assert capsys.readouterr().err == f"--report {place}/r.csv: not written (No such file or directory)\n"


async def test_a_journal_that_cannot_be_read_costs_the_timelines_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is told."""
    await ReportFiles.for_paths([tmp_path / "r.html"]).write(TOLD, Unreadable())
    assert "商户" in (tmp_path / "r.html").read_text("utf-8")
    told = "--report: without timelines, for the journal could not be read (the disk\\nis gone)\n"
    assert capsys.readouterr().err == told


async def test_the_journal_is_read_for_a_page_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Table and JSON have no timelines."""
    await ReportFiles.for_paths([tmp_path / "r.csv", tmp_path / "r.json"]).write(TOLD, Unreadable())
    assert capsys.readouterr().err == ""
    assert len(names(tmp_path)) == 2


async def test_half_a_letter_does_not_keep_a_table_from_being_written(tmp_path: Path) -> None:
    """A message may quote the name of a file that is no text."""
    told = Report((TenantReport(tenant="a", alias="a", outcome=Outcome.CONFLICT, reason="\udcff"),), 1.0)
    await ReportFiles.for_paths([tmp_path / "r.csv"]).write(told, MemoryJournal())
    assert '"\\udcff"' in (tmp_path / "r.csv").read_text("utf-8-sig")


def test_a_run_leaves_its_reports(swift: None, cli: Cli, tenants: Tenants, tmp_path: Path) -> None:
    """All say where the run worked; the page has every link, and what became of each tenant."""
    words = [word for name in NAMES for word in ("--report", tmp_path / name)]
    result = cli("provision", tenants("商户,x,wx0000000000000001;wx0000000000000002,api"), "--sandbox", *words)
    assert (result.exit_code, result.stderr) == (0, ""), result.output
    page, table, document = ((tmp_path / name).read_text("utf-8-sig") for name in NAMES)
    (row,) = csv.DictReader(io.StringIO(table, newline=""))
    told = json.loads(document)
    assert row["tenant"] == told["tenants"][0]["tenant"] == "商户"
    assert row["base_url"] == told["run_info"]["base_url"]
    assert told["run_info"]["base_url"].startswith("http://127.0.0.1:")
    assert told["run_info"]["component_appid"] == told["run_info"]["namespace"]
    assert page.count(' rel="noreferrer" ') == 2
    assert f"environment {row['env']} created" in page


def test_the_reports_are_written_also_when_the_run_failed(
    swift: None, cli: Cli, tenants: Tenants, platform: Platform, tmp_path: Path
) -> None:
    """The exit code is that of the run, also when a report could not be written."""
    platform.box.faults.errcode(40097, path=CREATE)
    result = cli("provision", tenants("a,x,,"), "--yes", "--report", tmp_path / "r.html")
    assert result.exit_code == 3
    text = (tmp_path / "r.html").read_text("utf-8")
    assert '<section id="failed"' in text
    assert kept_secret(platform, text)


def test_the_reports_are_written_after_a_bug_of_ours(
    swift: None, cli: Cli, tenants: Tenants, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What was opened before is in them."""

    async def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("wxtcb.provision.steps.sharing.batch_share_env", broken)
    result = cli("provision", tenants("a,x,wx1,"), "--sandbox", "--report", tmp_path / "r.json")
    assert result.exit_code == 1
    (told,) = json.loads((tmp_path / "r.json").read_bytes())["tenants"]
    assert (told["outcome"], told["env"] is None) == ("failed", False)


def test_the_reports_are_written_when_a_signal_has_ended_the_run(
    cli: Cli, tenants: Tenants, platform: Platform, tmp_path: Path
) -> None:
    """With the tenants that were not started, and one whose environment is never ready."""
    platform.box.world.ready_after = ReadyPolicy.after_seconds(3600)
    rows = [f"t{number},,," for number in range(3)]
    with signal_when_asked(platform, CREATE, signal.SIGTERM):
        words = ("--yes", "--concurrency", 1, "--report", tmp_path / "r.csv")
        result = cli("provision", tenants(*rows), *words)
    assert result.exit_code == 128 + signal.SIGTERM
    table = (tmp_path / "r.csv").read_text("utf-8-sig")
    assert [row["outcome"] for row in csv.DictReader(io.StringIO(table, newline=""))] == ["unfinished"] * 3
