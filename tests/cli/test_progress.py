"""Progress of a run: bars on a terminal, and lines elsewhere."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta

from rich.console import Console

from wxtcb.cli.progress import create_progress_view
from wxtcb.provision import Outcome, Problem, Progress, RunProgress, TenantReport
from wxtcb.provision.events import RunEvent, StepDone, StepOutcomeUnknown, TenantFinished, TenantStarted, Waiting

AMBIGUOUS = Problem(step="environment", message="-1", outcome_unknown=True)
NAMES = ("商户", "b")
NOW = datetime(2026, 11, 30, tzinfo=UTC)


def printed(*events: RunEvent, terminal: bool, opened: int = 0, finished: int = 0, total: int = 2) -> str:
    """Return what is printed for a run of two tenants with this progress."""
    console = Console(file=io.StringIO(), width=100, force_terminal=terminal, no_color=True)
    view = create_progress_view(console, len(NAMES), quiet=False)
    progress = RunProgress(
        Progress(finished, len(NAMES)), {"environment": Progress(opened, total), "own": Progress(1, 1)}
    )
    with view.open():
        for event in events:
            view.handle_event(event, progress)
    return console.file.getvalue()


def bars_after(*events: RunEvent, opened: int = 0, finished: int = 0, total: int = 2) -> str:
    """Return the last bars of a run of two tenants."""
    text = printed(*events, terminal=True, opened=opened, finished=finished, total=total)
    return text.rpartition("environments opened")[2]


def finished(name: str, outcome: Outcome) -> TenantFinished:
    """Return the event of a finished tenant."""
    return TenantFinished(TenantReport(tenant=name, alias="x", outcome=outcome))


def waiting(reason: str, seconds: float, *, tenants: int = 2) -> Waiting:
    """Return the event of a wait so many seconds after the start of the run, which ends 150 seconds after it."""
    return Waiting(reason, tenants, NOW + timedelta(seconds=150), at=NOW + timedelta(seconds=seconds))


def test_tenants_with_unknown_outcome_are_counted() -> None:
    """The number decreases when the outcome of a step is known."""
    unknown = [StepOutcomeUnknown(name, AMBIGUOUS) for name in NAMES]
    assert " 0/2 2 unknown " in bars_after(*unknown)
    bars = bars_after(*unknown, StepDone("商户", "environment", "x-1"), opened=1)
    assert " 1/2 " in bars
    assert " 0/2 1 unknown " in bars


def test_tenants_that_are_not_done_are_counted() -> None:
    """A finished tenant is not counted as unknown, and an unfinished one not as failed."""
    bars = bars_after(StepOutcomeUnknown("b", AMBIGUOUS), finished("b", Outcome.UNKNOWN), finished=1)
    assert " 1/2 1 not done " in bars
    assert "unknown" not in bars
    bars = bars_after(finished("b", Outcome.UNFINISHED), finished("商户", Outcome.DONE), finished=2)
    assert " 2/2 " in bars
    assert "not done" not in bars


def test_bars_follow_a_plan_that_was_renewed() -> None:
    """Steps that the plan of the command did not contain are counted, and steps without a bar are left out."""
    bars = bars_after(StepDone("b", "environment", "x-1"), StepDone("b", "own", "x-1"), opened=1, total=5)
    assert " 1/5 " in bars
    assert "own" not in bars


def test_bars_show_what_the_run_waits_for() -> None:
    """All reasons of one moment are below the bars, with the remaining seconds, until the next event."""
    waits = [waiting("listings", 10), waiting("requests", 20), waiting("NORMAL", 20.1, tenants=1)]
    bars = bars_after(*waits)
    assert "2 tenants wait for requests, at most 130 s" in bars
    assert "1 tenant waits for NORMAL, at most 130 s" in bars
    assert "listings" not in bars
    assert "wait" not in bars_after(*waits, TenantStarted("b", "b"))


def test_line_of_a_wait_is_repeated_after_30_seconds() -> None:
    """A line for each reason is printed after 4 seconds; a wait without an end has none in its line."""
    waits = [waiting(reason, seconds) for seconds in range(0, 66, 2) for reason in ("listings", "NORMAL")]
    requests = [Waiting("requests", 1, at=NOW + timedelta(seconds=seconds)) for seconds in (0, 3, 5)]
    lines = printed(*waits, *requests, terminal=False).splitlines()
    remaining = [(seconds, reason) for seconds in (146, 116, 86) for reason in ("listings", "NORMAL")]
    assert lines == [
        *(f"2 tenants wait for {reason}, at most {seconds} s" for seconds, reason in remaining),
        "1 tenant waits for requests",
    ]
