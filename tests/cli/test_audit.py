"""Command `wxtcb audit`: its output and its exit codes."""

from __future__ import annotations

import io
import json
import signal
from collections.abc import Coroutine
from datetime import UTC, datetime
from pathlib import Path

import pytest
from rich.console import Console

from wxtcb.cli.audit import print_audit
from wxtcb.cli.runner import Interrupted
from wxtcb.provision import Audit, Finding, FindingKind
from wxtcb.provision.audit import BoundEnvironment, Classification

from .children import start
from .conftest import LIST, TOKEN, Cli, Platform, Tenants, contains_no_secret, wait_for_request, width_of

RELATIONS = "/componenttcb/batchgetenvid"
APPID = "wx0000000000000001"


@pytest.fixture
def provisioned(fast: None, cli: Cli, tenants: Tenants, platform: Platform) -> Path:
    """Provision two tenants, and return the path of their file."""
    file = tenants(f"商户,x,{APPID},api", "b,y,,")
    assert cli("provision", file, "--yes").exit_code == 0
    return file


def test_finished_run_passes(cli: Cli, platform: Platform, provisioned: Path) -> None:
    """The output lists each environment with order and times, and the number of shares that await confirmation."""
    result = cli("audit", provisioned)
    assert (result.exit_code, result.stderr) == (0, "")
    header, first, second, awaiting, *_, conclusion = result.stdout.splitlines()
    [environment] = [each for each in platform.sandbox.world.environments.values() if each.alias == "x"]
    assert header.split()[:3] == ["tenant", "environment", "opened"]
    assert first.startswith(f"商户    {environment.env}  order 2")
    assert first.endswith(f"; NORMAL, created {environment.create_time}")
    assert second.startswith("b ")
    assert awaiting.startswith("1 share awaits")
    assert conclusion


def test_audit_only_reads(cli: Cli, platform: Platform, provisioned: Path) -> None:
    """It requests a token, the list of environments, and the confirmed shares."""
    before = dict(platform.sandbox.counts)
    [env] = [env for env, appid in platform.sandbox.world.shares if appid == APPID]
    platform.sandbox.world.confirm(env, APPID)
    assert cli("audit", provisioned).exit_code == 0
    requested = {path for path, count in platform.sandbox.counts.items() if count > before.get(path, 0)}
    assert requested == {TOKEN, LIST, RELATIONS}


def test_findings_exit_with_3(cli: Cli, platform: Platform, provisioned: Path) -> None:
    """The findings are listed in order of severity."""
    platform.sandbox.world.add("y")
    platform.sandbox.world.halt(next(iter(platform.sandbox.world.environments)))
    result = cli("audit", provisioned)
    assert (result.exit_code, result.stderr) == (3, "")
    lines = result.stdout.splitlines()
    assert lines[0].split()[:2] == ["finding", "tenant"]
    assert [line.split()[0] for line in lines[1:3]] == ["duplicate", "drift"]


def test_audit_prints_json(cli: Cli, platform: Platform, provisioned: Path) -> None:
    """--json prints one document, and keeps the exit code."""
    result = cli("audit", provisioned, "--json")
    document = json.loads(result.stdout)
    assert (result.exit_code, result.stderr, document["passed"]) == (0, "", True)
    assert [each["tenant"] for each in document["bound"]] == ["商户", "b"]
    platform.sandbox.world.add("y")
    assert cli("audit", provisioned, "--json").exit_code == 3


def test_journal_option_selects_another_journal(cli: Cli, provisioned: Path, tmp_path: Path) -> None:
    """The default is the journal next to the tenants file."""
    moved = provisioned.with_name("tenants.csv.wxtcb.db").rename(tmp_path / "moved.db")
    assert cli("audit", provisioned, "--journal", moved).exit_code == 0


def test_missing_journal_is_rejected(cli: Cli, platform: Platform, tenants: Tenants, tmp_path: Path) -> None:
    """The exit code is 2, no request is sent, and no journal is created."""
    result = cli("audit", tenants("a,x,,"))
    assert (result.exit_code, result.stdout) == (2, "")
    assert "there is no journal at" in result.stderr
    assert (len(platform.sandbox.seen), list(tmp_path.glob("*.db"))) == (0, [])


@pytest.mark.parametrize("reason", ["WXTCB_COMPONENT_APPID", "nowhere.csv"])
def test_missing_input_is_rejected(cli: Cli, request: pytest.FixtureRequest, tmp_path: Path, reason: str) -> None:
    """Without credentials or without the tenants file, the exit code is 2."""
    if reason == "nowhere.csv":
        request.getfixturevalue("platform")
    result = cli("audit", tmp_path / "nowhere.csv")
    assert (result.exit_code, result.stdout) == (2, "")
    assert reason in result.stderr


def test_remote_platform_requires_own_token(cli: Cli, provisioned: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A token of a platform that is not on this machine is fetched only with --own-token."""
    monkeypatch.setattr("wxtcb.cli.config.is_loopback", lambda _: False)
    rejected = cli("audit", provisioned)
    assert rejected.exit_code == 2
    assert rejected.stderr.startswith("wxtcb: audit: ")
    assert "--own-token" in rejected.stderr
    assert cli("audit", provisioned, "--own-token").exit_code == 0


def test_failed_listing_exits_with_3(cli: Cli, platform: Platform, provisioned: Path) -> None:
    """The error of the platform is printed, without a secret."""
    platform.sandbox.faults.errcode(48001, path=LIST)
    result = cli("audit", provisioned)
    assert (result.exit_code, result.stdout) == (3, "")
    assert "48001" in result.stderr
    assert contains_no_secret(platform, result.stderr)


def test_signal_interrupts_the_audit(platform: Platform, provisioned: Path) -> None:
    """SIGTERM ends the process with exit code 143 and one line."""
    platform.sandbox.faults.hang(path=LIST)
    platform.sandbox.counts.clear()
    process = start("audit", provisioned)
    wait_for_request(platform, LIST)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate()
    assert (process.returncode, out, err) == (143, "", "SIGTERM interrupted the audit. Nothing was changed.\n")


def test_interrupted_audit_prints_no_result(cli: Cli, provisioned: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message names the signal."""

    def interrupt(work: Coroutine[object, object, object], **_: object) -> Interrupted:
        work.close()
        return Interrupted(signal.SIGINT)

    monkeypatch.setattr("wxtcb.cli.audit.run_until_signal", interrupt)
    result = cli("audit", provisioned)
    assert (result.exit_code, result.stdout) == (130, "")
    assert result.stderr.startswith("Ctrl-C interrupted the audit")


def printed_lines(audit: Audit, width: int | None = None) -> list[str]:
    """Return the output for an audit, in a pipe or on a terminal of *width* columns."""
    console = Console(
        file=io.StringIO(),
        width=width or 1000,
        force_terminal=width is not None,
        markup=False,
        highlight=False,
        color_system=None,
    )
    print_audit(console, audit)
    return console.file.getvalue().splitlines()


def make_audit(count: int) -> Audit:
    """Return an audit with *count* findings of each of three kinds, and *count* environments."""
    at = datetime(2026, 11, 22, 10, tzinfo=UTC)
    text = "service 书店的后台接口 was not established\x1b[2J. Provision again, and look at https://mp.weixin.qq.com/."
    findings = [
        Finding(kind=kind, tenant=f"杭州西湖书店{number}", alias="x", message=text)
        for kind in (FindingKind.ORPHAN, FindingKind.DRIFT, FindingKind.AWAITING)
        for number in range(count)
    ]
    findings[0] = Finding(kind=FindingKind.ORPHAN, tenant="y", alias="x", message=text)
    opened = [BoundEnvironment(tenant=f"b{number}", alias="x", env=f"x-{number:016}") for number in range(count)]
    opened[0] = BoundEnvironment(
        tenant="b", alias="x", env="x-1", opened_at=at, create_time="2026-11-22 18:00:01", status="NORMAL"
    )
    return Audit("wx", count, tuple(findings), tuple(opened), (), {Classification.WANTED: count})


def test_audit_fits_a_terminal() -> None:
    """With Chinese names no line is wider than 80 columns, and control characters are escaped."""
    lines = printed_lines(make_audit(3), width=80)
    assert max(map(width_of, lines)) <= 80
    assert "\x1b[2J" not in "".join(lines)
    assert "杭州西湖书店1" in "".join(lines)


def test_long_audit_is_truncated() -> None:
    """Printed are 50 findings of each kind and 20 environments; the others are counted."""
    lines = printed_lines(make_audit(60))
    assert sum(line.startswith("drift ") for line in lines) == 51
    truncated = [line.split("and ")[1] for line in lines if " more; --json" in line]
    assert [text.split()[0] for text in truncated] == ["10", "10", "40"]
    assert [line for line in lines if line.startswith("60 shares await")]
    assert not any("杭州西湖书店" in line for line in lines if line.startswith("awaiting"))


def test_environment_row_shows_what_is_known() -> None:
    """An adopted environment has no order, and one that is not listed has no time of the platform."""
    known, unknown = printed_lines(make_audit(2))[6:8]
    assert known.endswith("adopted, 2026-11-22 18:00:00; NORMAL, created 2026-11-22 18:00:01")
    assert unknown.endswith("adopted, at an unknown time; not listed")


def test_environment_of_a_removed_tenant_is_marked() -> None:
    """It is billed, although the file does not contain the tenant."""
    opened = BoundEnvironment(
        tenant="b", alias="x", env="x-1", status="NORMAL", create_time="now", wanted=False, retired=True
    )
    lines = printed_lines(Audit("wx", 0, (), (opened,), (), {Classification.RETIRED: 1}, ("Note: it rains.",)))
    assert lines[1].endswith("; NORMAL, created now; removed from the tenants")
    assert lines[-2] == "Note: it rains."


def test_audit_without_environments_has_no_table() -> None:
    """Only the summary and the conclusion are printed."""
    audit = Audit("wx", 0, (), (), (), {})
    assert printed_lines(audit) == [audit.summary, audit.conclusion]
