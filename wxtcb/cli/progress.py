"""How a run is shown while it works: bars on a terminal, elsewhere a line per tenant, or nothing beside JSON."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from typing import Final, Protocol

import attrs
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from wxtcb.cli.console import echo_err, escape_unprintable
from wxtcb.provision import STEPS, Outcome, Plan, TenantReport
from wxtcb.provision.events import RunEvent, StepDone, StepOutcomeUnknown, TenantFinished

_STEP_TITLES: Final = {step.name: step.title for step in STEPS}


class ProgressView(Protocol):
    """Shows the events of a run."""

    def open(self) -> contextlib.AbstractContextManager[object]:
        """Be on the screen as long as the context lasts."""
        ...

    def handle_event(self, event: RunEvent) -> None: ...

    def print_message(self, text: str) -> None: ...


def create_progress_view(console: Console, plan: Plan, *, quiet: bool) -> ProgressView:
    """Return bars for a terminal, else lines, or silence if *quiet*."""
    if console.is_terminal:
        return ProgressBars(console, plan)
    return NoProgress() if quiet else ProgressLines(console, len(plan.tenants))


@attrs.frozen
class NoProgress:
    """Shows nothing."""

    def open(self) -> contextlib.AbstractContextManager[object]:
        return contextlib.nullcontext()

    def handle_event(self, event: RunEvent) -> None:
        """Leave it to the report."""

    def print_message(self, text: str) -> None:
        echo_err(text)


@attrs.define
class ProgressLines:
    """A line for every tenant that is finished, and one for each that has to wait until looks have cleared a doubt."""

    console: Console
    total: int
    _finished: int = attrs.field(init=False, default=0)

    def open(self) -> contextlib.AbstractContextManager[object]:
        return contextlib.nullcontext()

    def handle_event(self, event: RunEvent) -> None:
        match event:
            case StepOutcomeUnknown(tenant, problem):
                self._print(
                    escape_unprintable(f"{tenant}: unclear, looks will show - {problem.subject}: {problem.message}")
                )
            case TenantFinished(report):
                self._finished += 1
                self._print(f"[{self._finished:>{len(str(self.total))}}/{self.total}] {format_tenant(report)}")
            case _:
                pass

    def _print(self, line: str) -> None:
        self.console.print(line, soft_wrap=True)

    def print_message(self, text: str) -> None:
        echo_err(text)


def format_tenant(report: TenantReport) -> str:
    """Say in a line how a tenant ended; with the order where it is not done, for the journal may have kept neither."""
    order = f", order {report.tranid}" if report.tranid and not report.outcome.is_done else ""
    parts = [f"{report.tenant}: {report.outcome.value}"]
    parts += [f"({report.env}{order})"] if report.env else []
    parts += [f"- {report.summary}"] if report.summary else []
    return escape_unprintable(" ".join(parts))


@attrs.define
class ProgressBars:
    """A bar for every step, and one for the tenants, beside which stands how many are not done and how many unclear."""

    console: Console
    plan: Plan
    _progress: Progress = attrs.field(init=False)
    _bars: dict[str, TaskID] = attrs.field(init=False, factory=dict[str, TaskID])
    _total_bar: TaskID = attrs.field(init=False)
    _not_done: int = attrs.field(init=False, default=0)
    _ambiguous: set[str] = attrs.field(init=False, factory=set[str])

    def __attrs_post_init__(self) -> None:
        count = MofNCompleteColumn()
        columns = (TextColumn("{task.description:<20}"), BarColumn(30), count, TextColumn("{task.fields[note]}"))
        self._progress = Progress(*columns, TimeElapsedColumn(), console=self.console)
        totals = Counter(step for planned in self.plan.tenants for step in planned.steps)
        for step, title in _STEP_TITLES.items():
            if totals[step]:
                self._bars[step] = self._progress.add_task(title, total=totals[step], note="")
        self._total_bar = self._progress.add_task("tenants", total=len(self.plan.tenants), note="")

    @contextlib.contextmanager
    def open(self) -> Iterator[None]:
        with self._progress:
            yield

    def handle_event(self, event: RunEvent) -> None:
        match event:
            case StepOutcomeUnknown(tenant):
                self._ambiguous.add(tenant)
            case StepDone(tenant, step):
                self._ambiguous.discard(tenant)
                self._progress.advance(self._bars[step])
            case TenantFinished(report):
                self._ambiguous.discard(report.tenant)
                self._not_done += _is_not_done(report.outcome)
                self._progress.advance(self._total_bar)
            case _:
                return
        self._progress.update(self._total_bar, note=", ".join(self._status_notes()))

    def _status_notes(self) -> Iterator[str]:
        if self._not_done:
            yield f"{self._not_done} not done"
        if self._ambiguous:
            yield f"{len(self._ambiguous)} unclear"

    def print_message(self, text: str) -> None:
        self._progress.console.print(text)


def _is_not_done(outcome: Outcome) -> bool:
    return not outcome.is_done and outcome is not Outcome.UNFINISHED
