"""Progress of a run: bars on a terminal, a line for each tenant elsewhere, nothing next to JSON."""

from __future__ import annotations

import contextlib
from collections import Counter
from typing import Protocol

import attrs
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from wxtcb.cli.console import echo_err, escape_unprintable
from wxtcb.provision import STEPS, Outcome, Plan, TenantReport
from wxtcb.provision.events import RunEvent, StepDone, StepOutcomeUnknown, TenantFinished


class ProgressView(Protocol):
    """Display of the events of a run."""

    def open(self) -> contextlib.AbstractContextManager[object]: ...

    def handle_event(self, event: RunEvent) -> None: ...

    def print_message(self, text: str) -> None:
        """Print a message to the operator without damaging the display."""


def create_progress_view(console: Console, plan: Plan, *, quiet: bool) -> ProgressView:
    """Return bars if *console* is a terminal, otherwise lines, or nothing if *quiet*."""
    if console.is_terminal:
        return ProgressBars(console, plan)
    return NoProgress() if quiet else ProgressLines(console, len(plan.tenants))


class NoProgress:
    """Display that shows messages only."""

    def open(self) -> contextlib.AbstractContextManager[object]:
        return contextlib.nullcontext()

    def handle_event(self, event: RunEvent) -> None:
        pass

    def print_message(self, text: str) -> None:
        echo_err(text)


@attrs.define
class ProgressLines(NoProgress):
    """Display of a line for each finished tenant, and for each step whose outcome is unknown for now."""

    console: Console
    total: int
    _finished: int = attrs.field(init=False, default=0)

    def handle_event(self, event: RunEvent) -> None:
        match event:
            case StepOutcomeUnknown(tenant, problem):
                line = f"{tenant}: outcome unknown, checking - {problem.subject}: {problem.message}"
                self.console.print(escape_unprintable(line), soft_wrap=True)
            case TenantFinished(report):
                self._finished += 1
                number = f"{self._finished:>{len(str(self.total))}}"
                self.console.print(f"[{number}/{self.total}] {format_tenant(report)}", soft_wrap=True)
            case _:
                pass


def format_tenant(report: TenantReport) -> str:
    """Return one line with the outcome of a tenant."""
    # After a failed write the journal may contain neither: then environment and order exist only in this line.
    order = f", order {report.tranid}" if report.tranid and not report.outcome.is_done else ""
    parts = [f"{report.tenant}: {report.outcome.value}"]
    parts += [f"({report.env}{order})"] if report.env else []
    parts += [f"- {report.summary}"] if report.summary else []
    return escape_unprintable(" ".join(parts))


@attrs.define
class ProgressBars:
    """Display of a bar for each step, and of one for the tenants with the numbers of not done and unknown ones."""

    console: Console
    plan: Plan
    _progress: Progress = attrs.field(init=False)
    _bars: dict[str, TaskID] = attrs.field(init=False, factory=dict[str, TaskID])
    _total_bar: TaskID = attrs.field(init=False)
    _not_done: int = attrs.field(init=False, default=0)
    _ambiguous: set[str] = attrs.field(init=False, factory=set[str])

    def __attrs_post_init__(self) -> None:
        title, note = TextColumn("{task.description:<20}"), TextColumn("{task.fields[note]}")
        columns = (title, BarColumn(30), MofNCompleteColumn(), note, TimeElapsedColumn())
        self._progress = Progress(*columns, console=self.console)
        totals = Counter(step for tenant_plan in self.plan.tenants for step in tenant_plan.steps)
        for step in STEPS:
            if total := totals[step.name]:
                self._bars[step.name] = self._progress.add_task(step.title, total=total, note="")
        self._total_bar = self._progress.add_task("tenants", total=len(self.plan.tenants), note="")

    def open(self) -> contextlib.AbstractContextManager[object]:
        return self._progress

    def handle_event(self, event: RunEvent) -> None:
        match event:
            case StepOutcomeUnknown(tenant):
                self._ambiguous.add(tenant)
            case StepDone(tenant, step):
                self._ambiguous.discard(tenant)
                self._progress.advance(self._bars[step])
            case TenantFinished(report):
                self._ambiguous.discard(report.tenant)
                # An unfinished tenant did not fail: the run was stopped, and the next one continues it.
                self._not_done += not report.outcome.is_done and report.outcome is not Outcome.UNFINISHED
                self._progress.advance(self._total_bar)
            case _:
                return
        notes = [f"{self._not_done} not done"] if self._not_done else []
        # No bar moves while the outcome of a create is checked: the number shows what the run waits for.
        notes += [f"{len(self._ambiguous)} unknown"] if self._ambiguous else []
        self._progress.update(self._total_bar, note=", ".join(notes))

    def print_message(self, text: str) -> None:
        self._progress.console.print(text)
