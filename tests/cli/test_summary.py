"""The end of a run in words."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from rich.console import Console

from wxtcb.api.environment import ShareLink
from wxtcb.cli.summary import print_summary
from wxtcb.provision import Outcome, Problem, Report, TenantReport
from wxtcb.provision.report import OUTCOME_ADVICE

from .test_console import width_of

UNCLEAR = Problem(step="environment", message="sent, but its outcome is unknown", outcome_unknown=True)
LINK = ShareLink(appid="wx1", url="https://mp.weixin.qq.com/confirm")


def entry(outcome: Outcome, **facts: Any) -> TenantReport:
    """Return what came of 商户."""
    return TenantReport(**{"tenant": "商户", "alias": "x", "outcome": outcome, **facts})


def summary(*tenants: TenantReport, terminal: bool = False, **facts: Any) -> str:
    """Return the summary of a run of 1.25 seconds, as a pipe or a terminal of 80 columns gets it."""
    screen = Console(file=io.StringIO(), width=80 if terminal else 1000, force_terminal=terminal, markup=False)
    print_summary(screen, Report(tenants, 1.25, **facts))
    return screen.file.getvalue()


@pytest.mark.parametrize(
    ("told", "line"),
    [
        (entry(Outcome.UNKNOWN, problems=(UNCLEAR,)), "商户: unknown - environment: sent, but its outcome is unknown"),
        (
            entry(Outcome.FAILED, env="x-1", problems=(Problem(step="share", appid="wx1", message="85088: no"),)),
            "商户: failed (x-1) - share wx1: 85088: no",
        ),
        (entry(Outcome.CONFLICT, reason="alias x is in use by x-1"), "商户: conflict - alias x is in use by x-1"),
        (
            entry(Outcome.DUPLICATE, reason="alias x is in use by x-1, x-2"),
            "商户: duplicate - alias x is in use by x-1, x-2",
        ),
        (entry(Outcome.UNFINISHED, env="x-1", step="ready"), "商户: unfinished (x-1) - stopped at ready"),
        (entry(Outcome.UNFINISHED), "1 not started"),
        (
            entry(Outcome.UNCONFIRMED, env="x-1", unconfirmed=("api",)),
            "商户: done (unconfirmed) (x-1) - api existed after an ambiguous request",
        ),
    ],
)
def test_who_is_not_simply_done_is_named_with_what_to_do(told: TenantReport, line: str) -> None:
    """Under the outcome, by name, with the environment that is billed and the reason."""
    lines = summary(told).splitlines()
    assert f"{told.outcome.value}: {OUTCOME_ADVICE[told.outcome]}" in lines
    assert f"  {line}" in lines
    assert lines[-1] == f"{int(told.outcome.is_done)} of 1 done in 1.2 s"


def test_those_who_are_done_are_only_counted() -> None:
    """And the links that administrators must open."""
    lines = summary(entry(Outcome.DONE), entry(Outcome.AWAITING, links=(LINK, LINK))).splitlines()
    assert [line.split() for line in lines[:3]] == [
        ["outcome", "tenants"],
        ["done", "1"],
        ["awaiting", "confirmation", "1"],
    ]
    assert lines[3:] == [
        "2 links await a mini program's administrator; --json lists them.",
        "2 of 2 done in 1.2 s",
    ]


@pytest.mark.parametrize(
    ("at", "told"),
    [
        (datetime(2026, 11, 23, tzinfo=timezone(timedelta(hours=8))), "2026-11-23 00:00 (UTC+08:00)"),
        (datetime(2026, 11, 30, 16, 0, tzinfo=UTC), "2026-11-30 16:00 (UTC)"),
    ],
)
def test_a_run_that_may_go_on_later_says_when(at: datetime, told: str) -> None:
    """Below why it was stopped, where what could steer the terminal is written out."""
    text = summary(entry(Outcome.UNFINISHED), stop_reason="45009: a\x1b[2Jb", retry_after=at)
    assert f"\nStopped early: 45009: a\\x1b[2Jb\nCome back at {told}\n" in text


def test_a_run_of_which_nobody_knows_when_it_may_go_on_says_nothing() -> None:
    """Only why it was stopped."""
    text = summary(entry(Outcome.UNFINISHED), stop_reason="cancelled")
    assert "\nStopped early: cancelled\n0 of 1 done" in text


@pytest.mark.parametrize(("terminal", "shown"), [(False, 50), (True, 60)])
def test_a_long_list_is_cut_only_where_the_lines_above_have_it(*, terminal: bool, shown: int) -> None:
    """In a pipe; at a terminal the bars have named nobody."""
    text = summary(*(entry(Outcome.CONFLICT, reason="taken") for _ in range(60)), terminal=terminal)
    assert text.count("  商户: conflict - taken") == shown
    assert ("  and 10 more, in the lines above" in text) == (not terminal)


def test_a_terminal_gets_lines_that_fit() -> None:
    """A long reason with Chinese in it goes on below; in a pipe it is one line."""
    told = entry(Outcome.FAILED, problems=(Problem(step="share", message="微信说不行" * 20),))
    lines = summary(told, terminal=True).splitlines()
    assert max(map(width_of, lines)) <= 80
    start = lines.index("  商户: failed - share:")
    assert [line[:2] for line in lines[start : start + 4]] == ["  ", "  ", "  ", "  "]
    assert "".join(lines[start + 1 : start + 4]).replace(" ", "") == "微信说不行" * 20
    assert f"  商户: failed - share: {'微信说不行' * 20}" in summary(told).splitlines()


def test_a_single_link_is_one() -> None:
    """It awaits, and others await."""
    told = entry(Outcome.AWAITING, links=(LINK,))
    assert "1 link awaits a mini program's administrator" in summary(told)
    assert "2 links await a mini program's administrator" in summary(told, told)
