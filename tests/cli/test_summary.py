"""Summary of a finished run."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from rich.console import Console

from wxtcb.api.environment import ShareLink
from wxtcb.cli.provision import print_summary
from wxtcb.provision import Outcome, Problem, Report, TenantReport
from wxtcb.provision.report import OUTCOME_ADVICE

from .conftest import width_of

AMBIGUOUS = Problem(step="environment", message="sent, no reply", outcome_unknown=True)
LINK = ShareLink(appid="wx1", url="https://mp.weixin.qq.com/confirm")


def entry(outcome: Outcome, **fields: Any) -> TenantReport:
    """Return the report of a tenant with a Chinese name."""
    return TenantReport(**{"tenant": "商户", "alias": "x", "outcome": outcome, **fields})


def printed_summary(*tenants: TenantReport, terminal: bool = False, **fields: Any) -> str:
    """Return the summary of a run of 1.25 seconds, in a pipe or on a terminal of 80 columns."""
    console = Console(file=io.StringIO(), width=80 if terminal else 1000, force_terminal=terminal, markup=False)
    print_summary(console, Report(tenants, 1.25, **fields))
    return console.file.getvalue()


@pytest.mark.parametrize(
    ("report", "line"),
    [
        (
            entry(Outcome.UNKNOWN, problems=(AMBIGUOUS,)),
            "商户: unknown - environment: sent, no reply",
        ),
        (
            entry(Outcome.FAILED, env="x-1", problems=(Problem(step="share", appid="wx1", message="85088: no"),)),
            "商户: failed (x-1) - share wx1: 85088: no",
        ),
        (entry(Outcome.CONFLICT, reason="alias x is in use by x-1"), "商户: conflict - alias x is in use by x-1"),
        (
            entry(Outcome.DUPLICATE, reason="alias x is in use by x-1, x-2"),
            "商户: duplicate - alias x is in use by x-1, x-2",
        ),
        (entry(Outcome.UNFINISHED, env="x-1", step="ready"), "商户: unfinished (x-1) - "),
        (entry(Outcome.UNFINISHED), "1 not started"),
        (entry(Outcome.UNCONFIRMED, env="x-1", unconfirmed=("api",)), "商户: done (unconfirmed) (x-1) - api "),
    ],
)
def test_tenant_that_is_not_done_is_listed(report: TenantReport, line: str) -> None:
    """The line follows the outcome and the advice, and contains the environment and the reason."""
    lines = printed_summary(report).splitlines()
    index = lines.index(f"{report.outcome.value}: {OUTCOME_ADVICE[report.outcome]}")
    assert lines[index + 1].startswith(f"  {line}")
    assert lines[-1] == f"{int(report.outcome.is_done)} of 1 done in 1.2 s"


def test_tenants_that_are_done_are_only_counted() -> None:
    """So are the links that administrators must open."""
    done, awaiting = entry(Outcome.DONE), entry(Outcome.AWAITING, links=(LINK, LINK))
    lines = printed_summary(done, awaiting).splitlines()
    assert [line.split() for line in lines[:3]] == [
        ["outcome", "tenants"],
        [*Outcome.DONE.value.split(), "1"],
        [*Outcome.AWAITING.value.split(), "1"],
    ]
    assert lines[3].startswith("2 links await ")
    assert lines[4:] == ["2 of 2 done in 1.2 s"]


@pytest.mark.parametrize(
    ("at", "printed"),
    [
        (datetime(2026, 11, 23, tzinfo=timezone(timedelta(hours=8))), "2026-11-23 00:00 (UTC+08:00)"),
        (datetime(2026, 11, 30, 16, 0, tzinfo=UTC), "2026-11-30 16:00 (UTC)"),
    ],
)
def test_stopped_run_shows_when_to_retry(at: datetime, printed: str) -> None:
    """The reason is printed above, with escaped control characters."""
    text = printed_summary(entry(Outcome.UNFINISHED), stop_message="45009: a\x1b[2Jb", retry_after=at)
    assert f"\nStopped early: 45009: a\\x1b[2Jb\nRetry after {printed}\n" in text


def test_stopped_run_without_a_time_shows_the_reason() -> None:
    """Nothing is printed about a retry."""
    text = printed_summary(entry(Outcome.UNFINISHED), stop_message="cancelled")
    assert "\nStopped early: cancelled\n0 of 1 done" in text


@pytest.mark.parametrize(("terminal", "listed"), [(False, 50), (True, 60)])
def test_long_list_is_truncated_in_a_pipe(*, terminal: bool, listed: int) -> None:
    """The progress lines of a pipe have named every tenant; the bars of a terminal have not."""
    text = printed_summary(*(entry(Outcome.CONFLICT, reason="in use") for _ in range(60)), terminal=terminal)
    assert text.count("  商户: conflict - in use") == listed
    assert ("  and 10 more" in text) == (not terminal)


def test_long_line_is_wrapped_on_a_terminal() -> None:
    """No line is wider than the terminal; in a pipe the line stays whole."""
    report = entry(Outcome.FAILED, problems=(Problem(step="share", message="微信说不行" * 20),))
    lines = printed_summary(report, terminal=True).splitlines()
    assert max(map(width_of, lines)) <= 80
    first = lines.index("  商户: failed - share:")
    assert [line[:2] for line in lines[first : first + 4]] == ["  ", "  ", "  ", "  "]
    assert "".join(lines[first + 1 : first + 4]).replace(" ", "") == "微信说不行" * 20
    assert f"  商户: failed - share: {'微信说不行' * 20}" in printed_summary(report).splitlines()


def test_single_link_is_in_the_singular() -> None:
    """Two links are in the plural."""
    report = entry(Outcome.AWAITING, links=(LINK,))
    assert "1 link awaits " in printed_summary(report)
    assert "2 links await " in printed_summary(report, report)
