"""Progress of a run: bars on a terminal, a line for each tenant elsewhere, nothing next to JSON."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final, Protocol

import attrs
from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from wxtcb.cli.console import echo_err, escape_unprintable
from wxtcb.provision import STEPS, Outcome, RunProgress, TenantReport
from wxtcb.provision.events import RunEvent, StepDone, StepOutcomeUnknown, TenantFinished, Waiting

_FIRST_WAIT_LINE_AFTER: Final = timedelta(seconds=4)
_NEXT_WAIT_LINE_AFTER: Final = timedelta(seconds=30)


class ProgressView(Protocol):
    """Display of the events of a run."""

    def open(self) -> contextlib.AbstractContextManager[object]: ...

    def handle_event(self, event: RunEvent, progress: RunProgress, /) -> None: ...

    def print_message(self, text: str) -> None:
        """Print a message to the operator without damaging the display."""


def create_progress_view(console: Console, total: int, *, quiet: bool) -> ProgressView:
    """Return bars for *total* tenants if *console* is a terminal, otherwise lines, or nothing if *quiet*."""
    if console.is_terminal:
        return ProgressBars(console, total)
    return NoProgress() if quiet else ProgressLines(console, total)


class NoProgress:
    """Display that shows messages only."""

    def open(self) -> contextlib.AbstractContextManager[object]:
        return contextlib.nullcontext()

    def handle_event(self, event: RunEvent, progress: RunProgress, /) -> None:
        pass

    def print_message(self, text: str) -> None:
        echo_err(text)


@attrs.define
class ProgressLines(NoProgress):
    """Display of a line for each finished tenant, for each step whose outcome is unknown for now, and for waits.

    A wait of a few seconds has no line, and the line of a longer one is repeated after 30 seconds.
    """

    console: Console
    total: int
    _finished: int = attrs.field(init=False, default=0)
    _next_wait_lines: dict[str, datetime] = attrs.field(init=False, factory=dict[str, datetime])

    def handle_event(self, event: RunEvent, _progress: RunProgress, /) -> None:
        # Not numbered by the progress, which may be ahead of the event.
        match event:
            case StepOutcomeUnknown(tenant, problem):
                line = f"{tenant}: outcome unknown, checking - {problem}"
                self.console.print(escape_unprintable(line), soft_wrap=True)
            case Waiting(reason):
                if event.at >= self._next_wait_lines.setdefault(reason, event.at + _FIRST_WAIT_LINE_AFTER):
                    self._next_wait_lines[reason] = event.at + _NEXT_WAIT_LINE_AFTER
                    self.console.print(format_wait(event), soft_wrap=True)
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


def format_wait(event: Waiting) -> str:
    """Return one line with what a run waits for."""
    limit = f", at most {(event.until - event.at).total_seconds():.0f} s" if event.until else ""
    subject = "1 tenant waits" if event.tenants == 1 else f"{event.tenants} tenants wait"
    return escape_unprintable(f"{subject} for {event.reason}{limit}")


class _BarsWithLines(Progress):
    """Progress bars with lines of text below."""

    lines: tuple[str, ...] = ()

    def get_renderables(self) -> Iterable[RenderableType]:
        yield from super().get_renderables()
        yield from map(Text, self.lines)


@attrs.define
class ProgressBars:
    """Display of a bar for each step, and of one for the tenants with the numbers of not done and unknown ones.

    What the run waits for is printed below, until another event follows.
    """

    console: Console
    total: int
    _progress: _BarsWithLines = attrs.field(init=False)
    _bars: dict[str, TaskID] = attrs.field(init=False, factory=dict[str, TaskID])
    _total_bar: TaskID = attrs.field(init=False)
    _not_done: int = attrs.field(init=False, default=0)
    _ambiguous: set[str] = attrs.field(init=False, factory=set[str])
    _waits: list[Waiting] = attrs.field(init=False, factory=list[Waiting])

    def __attrs_post_init__(self) -> None:
        title, note = TextColumn("{task.description:<20}"), TextColumn("{task.fields[note]}")
        columns = (title, BarColumn(30), MofNCompleteColumn(), note, TimeElapsedColumn())
        self._progress = _BarsWithLines(*columns, console=self.console)
        for step in STEPS:
            self._bars[step.name] = self._progress.add_task(step.title, visible=False, note="")
        self._total_bar = self._progress.add_task("tenants", total=self.total, note="")

    def open(self) -> contextlib.AbstractContextManager[object]:
        return self._progress

    def handle_event(self, event: RunEvent, progress: RunProgress, /) -> None:
        self._show_waits(event)
        for name, bar in self._bars.items():
            if count := progress.steps.get(name):
                self._progress.update(bar, total=count.total, completed=count.done, visible=True)
        match event:
            case StepOutcomeUnknown(tenant):
                self._ambiguous.add(tenant)
            case StepDone(tenant):
                self._ambiguous.discard(tenant)
            case TenantFinished(report):
                self._ambiguous.discard(report.tenant)
                # An unfinished tenant did not fail: the run was stopped, and the next one continues it.
                self._not_done += not report.outcome.is_done and report.outcome is not Outcome.UNFINISHED
            case _:
                pass
        notes = [f"{self._not_done} not done"] if self._not_done else []
        # No bar moves while the outcome of a create is checked: the number shows what the run waits for.
        notes += [f"{len(self._ambiguous)} unknown"] if self._ambiguous else []
        self._progress.update(self._total_bar, completed=progress.tenants.done, note=", ".join(notes))

    def _show_waits(self, event: RunEvent) -> None:
        # The waits for different reasons are reported at the same moment, one event each.
        simultaneous = [each for each in self._waits if event.at - each.at < timedelta(seconds=1)]
        self._waits = [*simultaneous, event] if isinstance(event, Waiting) else []
        self._progress.lines = tuple(map(format_wait, self._waits))

    def print_message(self, text: str) -> None:
        self._progress.console.print(text)
