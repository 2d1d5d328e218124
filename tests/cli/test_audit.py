"""`wxtcb audit`: what is printed, and how it ends."""

from __future__ import annotations

import io
import json
import signal
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from pathlib import Path

import pytest
from rich.console import Console

from wxtcb.cli.audit import print_audit
from wxtcb.cli.signals import Interrupted
from wxtcb.provision import Audit, Finding, FindingKind
from wxtcb.provision.audit import BoundEnvironment, Classification

from .children import start
from .conftest import Cli, Platform, kept_secret
from .test_console import width_of
from .test_runner import wait_for

LIST = "/componenttcb/describeenvs"
TOKEN = "/cgi-bin/component/api_component_token"
RELATIONS = "/componenttcb/batchgetenvid"
WX1 = "wx0000000000000001"
Tenants = Callable[..., Path]


@pytest.fixture
def done(swift: None, cli: Cli, tenants: Tenants, platform: Platform) -> Path:
    """Provision two tenants, and give their file."""
    file = tenants(f"商户,x,{WX1},api", "b,y,,")
    assert cli("provision", file, "--yes").exit_code == 0
    return file


def test_a_finished_run_is_proven(cli: Cli, platform: Platform, done: Path) -> None:
    """Exit 0; each environment is told with its order number and its times, and who is awaited."""
    result = cli("audit", done)
    assert (result.exit_code, result.stderr) == (0, "")
    header, first, second, *ending = result.stdout.splitlines()
    [row] = [each for each in platform.box.world.environments.values() if each.alias == "x"]
    assert header.split() == ["tenant", "environment", "opened", "(times", "are", "China's)"]
    assert first.startswith(f"商户    {row.env}  order 2")
    assert first.endswith(f"; NORMAL, created {row.create_time}")
    assert second.startswith("b ")
    assert ending == [
        "1 share awaits a mini program's administrator; --json lists the links.",
        "2 tenants, 2 environments listed: 1 awaiting confirmation.",
        "Passed: tenants, journal and platform agree.",
    ]


def test_an_audit_asks_the_platform_and_changes_nothing(cli: Cli, platform: Platform, done: Path) -> None:
    """A token, the list, and who has agreed."""
    before = dict(platform.box.counts)
    [env] = [env for env, appid in platform.box.world.shares if appid == WX1]
    platform.box.world.confirm(env, WX1)
    assert "no findings" in cli("audit", done).stdout
    asked = {path for path, count in platform.box.counts.items() if count > before.get(path, 0)}
    assert asked == {TOKEN, LIST, RELATIONS}


def test_what_is_found_is_told_and_ends_with_three(cli: Cli, platform: Platform, done: Path) -> None:
    """The worst first, each with what to do."""
    platform.box.world.add("y")
    platform.box.world.halt(next(iter(platform.box.world.environments)))
    result = cli("audit", done)
    assert (result.exit_code, result.stderr) == (3, "")
    lines = result.stdout.splitlines()
    assert lines[0].split()[:2] == ["finding", "tenant"]
    assert [line.split()[0] for line in lines[1:3]] == ["duplicate", "drift"]
    assert lines[-1] == "Failed: 2 findings to resolve."


def test_an_audit_is_json_on_request(cli: Cli, platform: Platform, done: Path) -> None:
    """One document, and the same exit code."""
    result = cli("audit", done, "--json")
    document = json.loads(result.stdout)
    assert (result.exit_code, result.stderr, document["passed"]) == (0, "", True)
    assert [each["tenant"] for each in document["bound"]] == ["商户", "b"]
    platform.box.world.add("y")
    assert cli("audit", done, "--json").exit_code == 3


def test_the_journal_may_be_elsewhere(cli: Cli, done: Path, tmp_path: Path) -> None:
    """It is the one beside the file, unless another is named."""
    moved = done.with_name("tenants.csv.wxtcb.db").rename(tmp_path / "moved.db")
    assert cli("audit", done, "--journal", moved).exit_code == 0


def test_an_audit_needs_the_journal(cli: Cli, platform: Platform, tenants: Tenants, tmp_path: Path) -> None:
    """Exit 2, nothing is sent, and none is made."""
    result = cli("audit", tenants("a,x,,"))
    assert (result.exit_code, result.stdout) == (2, "")
    assert "there is no journal at" in result.stderr
    assert (len(platform.box.seen), list(tmp_path.glob("*.db"))) == (0, [])


@pytest.mark.parametrize("reason", ["WXTCB_COMPONENT_APPID", "1 problem"])
def test_what_is_refused_is_told(cli: Cli, request: pytest.FixtureRequest, tmp_path: Path, reason: str) -> None:
    """No credentials, or a file that cannot be used: exit 2."""
    if reason == "1 problem":
        request.getfixturevalue("platform")
    result = cli("audit", tmp_path / "nowhere.csv")
    assert (result.exit_code, result.stdout) == (2, "")
    assert reason in result.stderr


def test_a_token_of_its_own_needs_leave(cli: Cli, done: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the platform is not on this machine."""
    monkeypatch.setattr("wxtcb.cli.config.is_loopback", lambda _: False)
    refused = cli("audit", done)
    assert refused.exit_code == 2
    assert "audit: a new token of" in refused.stderr
    assert cli("audit", done, "--own-token").exit_code == 0


def test_a_look_that_fails_is_told(cli: Cli, platform: Platform, done: Path) -> None:
    """Exit 3: it proves nothing."""
    platform.box.faults.errcode(48001, path=LIST)
    result = cli("audit", done)
    assert (result.exit_code, result.stdout) == (3, "")
    assert "wxtcb: /componenttcb/describeenvs: 48001" in result.stderr
    assert kept_secret(platform, result.stderr)


def test_a_signal_cuts_an_audit_off(platform: Platform, done: Path) -> None:
    """143, and one line."""
    platform.box.faults.hang(path=LIST)
    platform.box.counts.clear()
    process = start("audit", done)
    wait_for(platform, LIST)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (143, "", "SIGTERM cut the audit off; nothing was changed.\n")


def test_nothing_follows_an_audit_that_was_cut_off(cli: Cli, done: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command ends there."""

    def cut_off(work: Coroutine[object, object, object]) -> Interrupted:
        work.close()
        return Interrupted(signal.SIGINT)

    monkeypatch.setattr("wxtcb.cli.audit.run_until_signal", cut_off)
    result = cli("audit", done)
    assert (result.exit_code, result.stdout) == (130, "")
    assert result.stderr == "Ctrl-C cut the audit off; nothing was changed.\n"


def printed(audit: Audit, width: int | None = None) -> list[str]:
    """Return the lines of an audit, as a pipe or a terminal of *width* columns gets them."""
    screen = Console(
        file=io.StringIO(),
        width=width or 1000,
        force_terminal=width is not None,
        markup=False,
        highlight=False,
        color_system=None,
    )
    print_audit(screen, audit)
    return screen.file.getvalue().splitlines()


def many(count: int) -> Audit:
    """Return an audit with so many findings of a kind, and so many environments."""
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


def test_an_audit_fits_a_terminal() -> None:
    """80 columns, Chinese names and all; what could steer the terminal is written out."""
    lines = printed(many(3), width=80)
    assert max(map(width_of, lines)) <= 80
    assert "\x1b[2J" not in "".join(lines)
    assert "杭州西湖书店1" in "".join(lines)


def test_a_long_audit_is_cut_and_says_so() -> None:
    """50 findings of a kind, 20 environments, and what is awaited as a number alone."""
    lines = printed(many(60))
    assert sum(line.startswith("drift ") for line in lines) == 51
    assert [line.split(None, 1)[-1].strip() for line in lines if "--json" in line] == [
        "and 10 more; --json lists them all",
        "and 10 more; --json lists them all",
        "40 more; --json lists them all",
        "shares await a mini program's administrator; --json lists the links.",
    ]
    assert not any("杭州西湖书店" in line for line in lines if line.startswith("awaiting"))


def test_times_and_orders_are_told_as_far_as_they_are_known() -> None:
    """An environment that was adopted has no order, and one that is not listed no time of the platform."""
    known, unknown = printed(many(2))[6:8]
    assert known.endswith("adopted, 2026-11-22 18:00:00; NORMAL, created 2026-11-22 18:00:01")
    assert unknown.endswith("adopted, at an unknown time; not listed")


def test_what_belongs_to_a_removed_tenant_is_marked() -> None:
    """It is billed, and nobody in the file has it."""
    opened = BoundEnvironment(
        tenant="b", alias="x", env="x-1", status="NORMAL", create_time="now", wanted=False, retired=True
    )
    lines = printed(Audit("wx", 0, (), (opened,), (), {Classification.RETIRED: 1}, ("Note: it rains.",)))
    assert lines[1].endswith("; NORMAL, created now; removed from the tenants")
    assert lines[-2] == "Note: it rains."


def test_where_nothing_was_opened_there_is_no_table_of_it() -> None:
    """Nor one of findings where there are none: the sum and the verdict are left."""
    lines = printed(Audit("wx", 0, (), (), (), {}))
    assert lines == [
        "0 tenants, 0 environments listed: no findings.",
        "Passed: tenants, journal and platform agree.",
    ]
