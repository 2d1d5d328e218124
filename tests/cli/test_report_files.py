"""Option --report: rejected paths, and the files after a run."""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import signal
import stat
from pathlib import Path
from typing import NoReturn

import pytest

from wxtcb.cli.report_files import ReportFiles
from wxtcb.errors import InvalidArgument
from wxtcb.provision import Outcome, Report, TenantReport
from wxtcb.provision.journal import JournalError
from wxtcb.provision.memory import MemoryJournal
from wxtcb.provision.record import HistoryEntry, TenantRecord
from wxtcb.provision.report_csv import render_csv
from wxtcb.sandbox import ReadyPolicy

from .conftest import CREATE, Cli, Platform, Tenants, contains_no_secret, signal_at_request

REPORT = Report((TenantReport(tenant="商户", alias="a", outcome=Outcome.DONE),), 1.0)
NAMES = ("r.html", "r.csv", "R.JSON")


class UnreadableJournal(MemoryJournal):
    """Journal whose history cannot be read."""

    async def history(self, tenants: object) -> NoReturn:
        raise JournalError("the disk\nis gone")


def names(folder: Path) -> list[str]:
    """Return the names of the files in a folder."""
    return sorted(path.name for path in folder.iterdir())


def modes(folder: Path) -> set[int]:
    """Return the permissions of the files in a folder."""
    return {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}


async def journal_with_history() -> MemoryJournal:
    """Return a journal with one history entry."""
    journal = MemoryJournal()
    assert await journal.commit(TenantRecord(tenant="商户", alias="a", version=1), HistoryEntry(0.0, "noted"))
    return journal


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("r.txt", "unsupported file type"),
        ("html", "unsupported file type"),
        ("nowhere/r.html", "cannot be written (No such file or directory)"),
        ("tenants.csv/r.html", "cannot be written (Not a directory)"),
        (f"{'r' * 300}.html", "cannot be written (File name too long)"),
        ("dir.html", "not a regular file"),
        ("tenants.csv", "the file is used already"),
        ("dir.html/../tenants.csv", "the file is used already"),
        ("j.json", "the file is used already"),
        ("fine.csv", "the file is used already"),
    ],
)
def test_unusable_path_is_rejected(
    cli: Cli, tenants: Tenants, platform: Platform, tmp_path: Path, *, path: str, reason: str
) -> None:
    """The exit code is 2, no request is sent, and no file is left."""
    file = tenants("a,x,,")
    (tmp_path / "dir.html").mkdir()
    words = ["--journal", tmp_path / "j.json", "--report", tmp_path / "fine.csv", "--report", tmp_path / path]
    result = cli("provision", file, "--yes", *words)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"wxtcb: --report {tmp_path / path}: ")
    assert reason in result.stderr
    assert len(platform.sandbox.seen) == 0
    assert names(tmp_path) == ["dir.html", "tenants.csv"]


def test_read_only_file_system_is_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is found by creating a file, because permissions do not show it."""

    def fail(**_: object) -> NoReturn:
        raise PermissionError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr("tempfile.NamedTemporaryFile", fail)
    with pytest.raises(InvalidArgument, match="Read-only file system"):
        ReportFiles.for_paths([tmp_path / "r.html"])


async def test_suffix_selects_the_format(tmp_path: Path) -> None:
    """HTML has timelines, CSV has a byte order mark for Excel, and only the owner may read the files."""
    files = ReportFiles.for_paths([tmp_path / name for name in NAMES])
    assert names(tmp_path) == []
    await files.write(REPORT, await journal_with_history())
    page, table, document = (tmp_path / name for name in NAMES)
    assert "1970-01-01 08:00:00+08:00</time> noted" in page.read_text("utf-8")
    assert table.read_bytes() == b"\xef\xbb\xbf" + render_csv(REPORT).encode()
    assert document.read_bytes() == REPORT.to_json()
    assert modes(tmp_path) == {0o600}
    assert len(names(tmp_path)) == 3


async def test_existing_file_is_replaced(tmp_path: Path) -> None:
    """The new file is private, even if the old one was not."""
    path = tmp_path / "a.json"
    path.write_text("old")
    path.chmod(0o644)
    await ReportFiles.for_paths([path]).write(REPORT, MemoryJournal())
    assert path.read_bytes() == REPORT.to_json()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("content", ["old", None])
@pytest.mark.parametrize("when", ["before", "during"])
async def test_symbolic_link_is_replaced(tmp_path: Path, content: str | None, when: str) -> None:
    """The file that it points to is unchanged: another user may have created the link in a shared directory."""
    link, target = tmp_path / "latest.json", tmp_path / "private" / "authorized_keys"
    target.parent.mkdir()
    if content:
        target.write_text(content)
    if when == "before":
        link.symlink_to(target)
    files = ReportFiles.for_paths([link])
    if when == "during":
        link.symlink_to(target)
    await files.write(REPORT, MemoryJournal())
    assert (link.is_symlink(), link.read_bytes()) == (False, REPORT.to_json())
    assert (target.read_text() if target.exists() else None) == content
    assert names(tmp_path) == ["latest.json", "private"]


async def test_own_link_to_a_directory_is_followed(tmp_path: Path) -> None:
    """The file is created in the directory that it points to."""
    (tmp_path / "runs").mkdir()
    (tmp_path / "latest").symlink_to("runs")
    await ReportFiles.for_paths([tmp_path / "latest" / "r.json"]).write(REPORT, MemoryJournal())
    assert names(tmp_path / "runs") == ["r.json"]


@pytest.mark.parametrize("when", ["before", "during"])
async def test_link_to_a_directory_of_another_user_is_rejected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], when: str
) -> None:
    """It could lead the report into a directory of the system."""

    def plant() -> None:
        (tmp_path / "cron.d").mkdir()
        (tmp_path / "reports").symlink_to("cron.d")
        if os.geteuid() == 0:
            os.chown(tmp_path / "reports", 12345, -1, follow_symlinks=False)
        else:
            own = os.geteuid()
            monkeypatch.setattr(os, "geteuid", lambda: own + 1)

    if when == "before":
        plant()
        with pytest.raises(InvalidArgument, match="belongs to another user"):
            ReportFiles.for_paths([tmp_path / "reports" / "r.json"])
        return
    (tmp_path / "reports").mkdir()
    files = ReportFiles.for_paths([tmp_path / "reports" / "r.json"])
    (tmp_path / "reports").rmdir()
    plant()
    await files.write(REPORT, MemoryJournal())
    assert "not written" in (stderr := capsys.readouterr().err)
    assert "belongs to another user" in stderr
    assert names(tmp_path / "cron.d") == []


def test_link_of_the_tenants_file_is_not_replaced(tmp_path: Path) -> None:
    """Neither the file nor a link through which it was given may be lost."""
    (tmp_path / "real.csv").write_text("tenant\n")
    (tmp_path / "tenants.csv").symlink_to("real.csv")
    for name in ("real.csv", "tenants.csv"):
        with pytest.raises(InvalidArgument, match="used already"):
            ReportFiles.for_paths([tmp_path / name], protected=[tmp_path / "tenants.csv", None])


async def test_relative_path_is_in_the_current_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name alone is enough."""
    monkeypatch.chdir(tmp_path)
    await ReportFiles.for_paths([Path("r.json")]).write(REPORT, MemoryJournal())
    assert names(tmp_path) == ["r.json"]


async def test_full_disk_does_not_prevent_other_reports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The previous report is unchanged, and no temporary file is left."""
    first, second = tmp_path / "a.json", tmp_path / "b\n.json"
    second.write_text("old")
    failures = iter([None, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))])

    def sync(_: int) -> None:
        if failure := next(failures):
            raise failure

    monkeypatch.setattr("os.fsync", sync)
    await ReportFiles.for_paths([first, second]).write(REPORT, MemoryJournal())
    assert capsys.readouterr().err == f"--report {tmp_path}/b\\n.json: not written (No space left on device)\n"
    assert (first.read_bytes(), second.read_text()) == (REPORT.to_json(), "old")
    assert len(names(tmp_path)) == 2


async def test_removed_folder_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It existed before the run, and does not at its end."""
    folder = tmp_path / "folder"
    folder.mkdir()
    files = ReportFiles.for_paths([folder / "r.csv"])
    folder.rmdir()
    await files.write(REPORT, MemoryJournal())
    assert capsys.readouterr().err == f"--report {folder}/r.csv: not written (No such file or directory)\n"


async def test_unreadable_journal_leaves_out_the_timelines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The rest of the page is written, and the error is reported."""
    await ReportFiles.for_paths([tmp_path / "r.html"]).write(REPORT, UnreadableJournal())
    assert "商户" in (tmp_path / "r.html").read_text("utf-8")
    assert "(the disk\\nis gone)" in capsys.readouterr().err


async def test_journal_is_read_for_html_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """CSV and JSON have no timelines."""
    await ReportFiles.for_paths([tmp_path / "r.csv", tmp_path / "r.json"]).write(REPORT, UnreadableJournal())
    assert capsys.readouterr().err == ""
    assert len(names(tmp_path)) == 2


async def test_surrogates_are_escaped_in_csv(tmp_path: Path) -> None:
    """A message may quote the name of a file that is not UTF-8."""
    report = Report((TenantReport(tenant="a", alias="a", outcome=Outcome.CONFLICT, reason="\udcff"),), 1.0)
    await ReportFiles.for_paths([tmp_path / "r.csv"]).write(report, MemoryJournal())
    assert '"\\udcff"' in (tmp_path / "r.csv").read_text("utf-8-sig")


def test_run_writes_its_reports(fast: None, cli: Cli, tenants: Tenants, tmp_path: Path) -> None:
    """All name the platform; the page has the links and the history of each tenant."""
    words = [word for name in NAMES for word in ("--report", tmp_path / name)]
    result = cli("provision", tenants("商户,x,wx0000000000000001;wx0000000000000002,api"), "--sandbox", *words)
    assert (result.exit_code, result.stderr) == (0, ""), result.output
    page, table, document = ((tmp_path / name).read_text("utf-8-sig") for name in NAMES)
    (row,) = csv.DictReader(io.StringIO(table, newline=""))
    report = json.loads(document)
    assert row["tenant"] == report["tenants"][0]["tenant"] == "商户"
    assert row["base_url"] == report["run_info"]["base_url"]
    assert report["run_info"]["base_url"].startswith("http://127.0.0.1:")
    assert report["run_info"]["component_appid"] == report["run_info"]["namespace"]
    assert page.count(' rel="noreferrer" ') == 2
    assert row["env"] in page


def test_failed_run_writes_its_report(
    fast: None, cli: Cli, tenants: Tenants, platform: Platform, tmp_path: Path
) -> None:
    """The report contains no credential."""
    platform.sandbox.faults.errcode(40097, path=CREATE)
    result = cli("provision", tenants("a,x,,"), "--yes", "--report", tmp_path / "r.html")
    assert result.exit_code == 3
    text = (tmp_path / "r.html").read_text("utf-8")
    assert '<section id="failed"' in text
    assert contains_no_secret(platform, text)


def test_report_is_written_after_an_internal_error(
    fast: None, cli: Cli, tenants: Tenants, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It contains the environment that was created before."""

    async def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("wxtcb.provision.steps.sharing.batch_share_env", fail)
    result = cli("provision", tenants("a,x,wx0000000000000001,"), "--sandbox", "--report", tmp_path / "r.json")
    assert result.exit_code == 1
    (tenant,) = json.loads((tmp_path / "r.json").read_bytes())["tenants"]
    assert (tenant["outcome"], tenant["env"] is None) == ("failed", False)


def test_report_is_written_after_a_signal(cli: Cli, tenants: Tenants, platform: Platform, tmp_path: Path) -> None:
    """It contains the tenants that were not started, and the one whose environment was not ready."""
    platform.sandbox.world.ready_after = ReadyPolicy.after_seconds(3600)
    file = tenants(*(f"t{number},,," for number in range(3)))
    with signal_at_request(platform, CREATE, signal.SIGTERM):
        result = cli("provision", file, "--yes", "--concurrency", 1, "--report", tmp_path / "r.csv")
    assert result.exit_code == 128 + signal.SIGTERM
    table = (tmp_path / "r.csv").read_text("utf-8-sig")
    assert [row["outcome"] for row in csv.DictReader(io.StringIO(table, newline=""))] == ["unfinished"] * 3
