"""What a terminal shows of a run while it works."""

from __future__ import annotations

import io

from rich.console import Console

from wxtcb.api.environment import EnvList
from wxtcb.cli.progress import create_progress_view
from wxtcb.provision import Action, MemoryJournal, Outcome, Plan, Problem, Tenant, TenantPlan, TenantReport
from wxtcb.provision.events import RunEvent, StepDone, StepOutcomeUnknown, TenantFinished
from wxtcb.provision.plan import AliasIndex

UNCLEAR = Problem(step="environment", message="-1", outcome_unknown=True)
NAMES = ("商户", "b")


def bars(*events: RunEvent) -> str:
    """Return the bars of two tenants as they stand after *events*."""
    screen = Console(file=io.StringIO(), width=80, force_terminal=True, no_color=True)
    tenants = (
        TenantPlan(tenant=Tenant(name), alias="x", action=Action.CREATE, steps=("environment",)) for name in NAMES
    )
    view = create_progress_view(
        screen,
        Plan("wx", tuple(tenants), AliasIndex.from_list(EnvList(info_list=())), 0.0, MemoryJournal()),
        quiet=False,
    )
    with view.open():
        for event in events:
            view.handle_event(event)
    return screen.file.getvalue().rpartition("environments opened")[2]


def finished(name: str, outcome: Outcome) -> TenantFinished:
    """Return the event of a tenant that has ended."""
    return TenantFinished(TenantReport(tenant=name, alias="x", outcome=outcome))


def test_those_whose_create_is_unclear_are_counted() -> None:
    """As long as looks have not shown what it did: nothing else moves meanwhile."""
    assert " 0/2 2 unclear " in bars(*(StepOutcomeUnknown(name, UNCLEAR) for name in NAMES))
    cleared = bars(*(StepOutcomeUnknown(name, UNCLEAR) for name in NAMES), StepDone("商户", "environment", "x-1"))
    assert " 1/2 " in cleared
    assert " 0/2 1 unclear " in cleared


def test_those_who_end_badly_are_counted() -> None:
    """A tenant that has ended is unclear no more; one that was only not ended is not bad."""
    shown = bars(StepOutcomeUnknown("b", UNCLEAR), finished("b", Outcome.UNKNOWN))
    assert " 1/2 1 not done " in shown
    assert "unclear" not in shown
    shown = bars(finished("b", Outcome.UNFINISHED), finished("商户", Outcome.DONE))
    assert " 2/2 " in shown
    assert "not done" not in shown
