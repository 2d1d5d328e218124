"""Command `wxtcb worker`: what it requires, its log, and its take-over in processes of their own."""

from __future__ import annotations

import signal
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from wxtcb.cli.worker import log_event
from wxtcb.provision import Outcome, StopReason, TenantReport
from wxtcb.provision.events import (
    ElectionUnavailable,
    RunEvent,
    RunStopped,
    StepOutcomeUnknown,
    TenantFinished,
    TenantStarted,
    TermEnded,
    TermStarted,
)
from wxtcb.provision.report import Problem

from .children import start
from .conftest import CREATE, Cli, Platform, Tenants, contains_no_secret, wait_for_request

SHARE = "/componenttcb/batchshareenv"
APPID = "wx0000000000000001"


@pytest.fixture(autouse=True)
def journal(cli: Cli, platform: Platform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Create a journal for the platform, select it by the variable, and return its path."""
    path = tmp_path / "journal.db"
    monkeypatch.setenv("WXTCB_JOURNAL", str(path))
    assert cli("init").exit_code == 0
    return path


def start_worker(*words: object) -> subprocess.Popen[str]:
    """Start a worker that waits for outcomes for a short time only."""
    return start("worker", "--settle", 0.001, *words, fast=True)


def read_until(process: subprocess.Popen[str], text: str) -> str:
    """Return the lines of the log up to one that contains *text*."""
    assert process.stderr is not None
    lines = ""
    while text not in lines:
        line = process.stderr.readline()
        assert line, f"the worker has ended: {lines}"
        lines += line
    return lines


def wait_until_done(*names: str) -> None:
    """Return when the tenants are done."""
    process = start("status", "--watch", *names)
    out, err = process.communicate()
    assert (process.returncode, err) == (0, ""), out


@pytest.mark.usefixtures("measured")
def test_worker_provisions_what_is_submitted(cli: Cli, tenants: Tenants, platform: Platform) -> None:
    """Before and after its start; the log has a line for each tenant, and no credential."""
    assert cli("submit", tenants("a,a,,")).exit_code == 0
    worker = start_worker()
    log = read_until(worker, " a: done (")
    appid = platform.sandbox.component_appid
    assert f" worker of {appid}: waiting to be elected\n" in log
    assert " elected (term 1)\n" in log
    assert cli("submit", tenants("b,b,,")).stderr == ""
    read_until(worker, " b: done (")
    wait_until_done("a", "b")
    worker.send_signal(signal.SIGINT)
    out, err = worker.communicate()
    assert (worker.returncode, out) == (130, "")
    assert " Ctrl-C: handing over; " in err
    assert " no longer elected (term 1): cancelled\n" in err
    assert contains_no_secret(platform, log, err)
    assert len(platform.sandbox.world.environments) == 2


def test_other_worker_takes_over(cli: Cli, tenants: Tenants, platform: Platform) -> None:
    """It does so after SIGTERM, while a reply is awaited, and after kill -9; no tenant has two environments."""
    first = start_worker()
    read_until(first, " elected (term 1)")
    second, third = start_worker(), start_worker()
    for waiting in (second, third):
        assert ": another process (" in read_until(waiting, ") is elected; waiting\n")
    platform.sandbox.faults.hang(path=SHARE, times=1)
    assert cli("submit", tenants(*(f"t{number},a{number},{APPID}," for number in range(4)))).exit_code == 0
    wait_for_request(platform, SHARE)
    first.send_signal(signal.SIGTERM)
    wait_until_done(*(f"t{number}" for number in range(4)))
    # The reply never arrives.
    first.send_signal(signal.SIGTERM)
    assert first.wait() == 143
    platform.sandbox.faults.hang(path=SHARE, times=1)
    platform.sandbox.counts.clear()
    assert cli("submit", tenants(f"last,b1,{APPID},")).exit_code == 0
    wait_for_request(platform, SHARE)
    elected, candidate = (second, third) if f":{second.pid}:" in cli("status").stdout else (third, second)
    elected.kill()
    wait_until_done("last")
    candidate.kill()
    assert len(platform.sandbox.world.environments) == 5


def test_journal_of_another_platform_is_rejected(cli: Cli, platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    """No request is sent to either."""
    monkeypatch.setenv("WXTCB_COMPONENT_APPID", "wx2222222222222222")
    result = cli("worker")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "the journal belongs to component" in result.stderr
    assert platform.sandbox.count(CREATE) == 0


def test_billing_must_be_confirmed(cli: Cli, platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    """A service cannot ask; on loopback nothing is billed. Without a token store, --own-token is required as well."""
    monkeypatch.setattr("wxtcb.cli.worker.is_loopback", lambda _: False)
    monkeypatch.setattr("wxtcb.cli.config.is_loopback", lambda _: False)
    assert "--own-token" in cli("worker", "--yes").stderr
    result = cli("worker", "--own-token")
    assert (result.exit_code, result.stdout) == (2, "")
    assert f"is billed, is created at {platform.sandbox.url}" in result.stderr
    assert "add --yes" in result.stderr
    assert len(platform.sandbox.seen) == 0


def test_simulated_worker_requires_a_journal(cli: Cli) -> None:
    """The journal of the variable belongs to a real platform, and tenants cannot be submitted to one in memory."""
    result = cli("worker", "--sandbox")
    assert (result.exit_code, "pass --journal" in result.stderr) == (2, True)


def test_simulated_worker_provisions(
    cli: Cli, tenants: Tenants, platform: Platform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It creates the journal, and needs no credentials."""
    path = tmp_path / "simulated.db"
    worker = start_worker("--sandbox", "--journal", path)
    assert f"{path} does not exist: starting with a new journal.\n" in read_until(worker, " elected (term 1)")
    for name in platform.env:
        # The simulated platform has an appid of its own.
        monkeypatch.delenv(name)
    assert cli("submit", tenants("a,a,,"), "--journal", path).exit_code == 0
    read_until(worker, " a: done (")
    worker.terminate()
    assert worker.wait() == 143


AT = datetime(2026, 12, 1, 16, 0, tzinfo=UTC)
REPORT = TenantReport(tenant="a", alias="x", outcome=Outcome.FAILED, problems=(Problem(step="share", message="no"),))


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (TermStarted(3), "elected (term 3)"),
        (TermEnded(3, "another process was elected"), "no longer elected (term 3): another process was elected"),
        (
            RunStopped(StopReason.QUOTA_EXCEEDED, "quota", AT),
            f"paused until {AT.astimezone():%Y-%m-%d %H:%M:%S}: quota",
        ),
        (RunStopped(StopReason.FATAL_ERROR, "no\x1b permission"), "paused: no\\x1b permission"),
        (ElectionUnavailable("the storage is away"), "not electable at the moment: the storage is away"),
        (StepOutcomeUnknown("a", Problem(step="environment", message="-1")), "a: outcome unknown, checking - "),
        (TenantFinished(REPORT), "a: failed - "),
    ],
)
def test_event_is_logged(capsys: pytest.CaptureFixture[str], event: RunEvent, line: str) -> None:
    """Each line has the time, and control characters are escaped."""
    log_event(event)
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err[20:].startswith(line)


@pytest.mark.parametrize(
    "event", [RunStopped(StopReason.DEPOSED, "x"), RunStopped(StopReason.CANCELLED, "x"), TenantStarted("a", "x")]
)
def test_other_event_is_not_logged(capsys: pytest.CaptureFixture[str], event: RunEvent) -> None:
    """The end of a term is logged with its reason, once."""
    log_event(event)
    assert capsys.readouterr().err == ""
