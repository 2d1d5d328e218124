"""Progress bars of a run on a terminal."""

from __future__ import annotations

import io

import attrs
from rich.console import Console

from wxtcb.cli.progress import create_progress_view
from wxtcb.provision import Action, Outcome, Problem, Tenant, TenantPlan, TenantReport
from wxtcb.provision.events import RunEvent, StepDone, StepOutcomeUnknown, TenantFinished

from .test_plan_table import EMPTY_PLAN

AMBIGUOUS = Problem(step="environment", message="-1", outcome_unknown=True)
NAMES = ("商户", "b")


def bars_after(*events: RunEvent) -> str:
    """Return the last bars of a run of two tenants."""
    console = Console(file=io.StringIO(), width=80, force_terminal=True, no_color=True)
    tenants = tuple(
        TenantPlan(tenant=Tenant(name), alias="x", action=Action.CREATE, steps=("environment",)) for name in NAMES
    )
    view = create_progress_view(console, attrs.evolve(EMPTY_PLAN, tenants=tenants), quiet=False)
    with view.open():
        for event in events:
            view.handle_event(event)
    return console.file.getvalue().rpartition("environments opened")[2]


def finished(name: str, outcome: Outcome) -> TenantFinished:
    """Return the event of a finished tenant."""
    return TenantFinished(TenantReport(tenant=name, alias="x", outcome=outcome))


def test_tenants_with_unknown_outcome_are_counted() -> None:
    """The number decreases when the outcome of a step is known."""
    unknown = [StepOutcomeUnknown(name, AMBIGUOUS) for name in NAMES]
    assert " 0/2 2 unknown " in bars_after(*unknown)
    bars = bars_after(*unknown, StepDone("商户", "environment", "x-1"))
    assert " 1/2 " in bars
    assert " 0/2 1 unknown " in bars


def test_tenants_that_are_not_done_are_counted() -> None:
    """A finished tenant is not counted as unknown, and an unfinished one not as failed."""
    bars = bars_after(StepOutcomeUnknown("b", AMBIGUOUS), finished("b", Outcome.UNKNOWN))
    assert " 1/2 1 not done " in bars
    assert "unknown" not in bars
    bars = bars_after(finished("b", Outcome.UNFINISHED), finished("商户", Outcome.DONE))
    assert " 2/2 " in bars
    assert "not done" not in bars
