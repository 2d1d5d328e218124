"""How a run is shown while it works: bars on a terminal, elsewhere a line per tenant, or nothing beside JSON."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from typing import Final, Protocol

import attrs
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from wxtcb.cli.console import printable, say
from wxtcb.provision import STEPS, Outcome, Plan, RunEvent, StepDone, StepInDoubt, TenantFinished, TenantReport

_TITLES: Final = {step.name: step.title for step in STEPS}


class View(Protocol):
    """Shows the events of a run."""

    def open(self) -> contextlib.AbstractContextManager[object]:
        """Be on the screen as long as the context lasts."""
        ...

    def show(self, event: RunEvent) -> None: ...

    def tell(self, text: str) -> None: ...


def choose_view(console: Console, plan: Plan, *, quiet: bool) -> View:
    """Return bars for a terminal, else lines, or silence if *quiet*."""
    if console.is_terminal:
        return Bars(console, plan)
    return Silence() if quiet else Lines(console, len(plan.tenants))


@attrs.frozen
class Silence:
    """Shows nothing."""

    def open(self) -> contextlib.AbstractContextManager[object]:
        return contextlib.nullcontext()

    def show(self, event: RunEvent) -> None:
        """Leave it to the report."""

    def tell(self, text: str) -> None:
        say(text)


@attrs.define
class Lines:
    """A line for every tenant that is finished, and one for each that has to wait until looks have cleared a doubt."""

    console: Console
    total: int
    _finished: int = attrs.field(init=False, default=0)

    def open(self) -> contextlib.AbstractContextManager[object]:
        return contextlib.nullcontext()

    def show(self, event: RunEvent) -> None:
        match event:
            case StepInDoubt(tenant, problem):
                self._print(printable(f"{tenant}: unclear, looks will show - {problem.subject}: {problem.message}"))
            case TenantFinished(report):
                self._finished += 1
                self._print(f"[{self._finished:>{len(str(self.total))}}/{self.total}] {sentence(report)}")
            case _:
                pass

    def _print(self, line: str) -> None:
        self.console.print(line, soft_wrap=True)

    def tell(self, text: str) -> None:
        say(text)


def sentence(report: TenantReport) -> str:
    """Say in a line how a tenant ended; with the order where it is not done, for the journal may have kept neither."""
    order = f", order {report.tranid}" if report.tranid and not report.outcome.is_done else ""
    parts = [f"{report.tenant}: {report.outcome.value}"]
    parts += [f"({report.env}{order})"] if report.env else []
    parts += [f"- {report.story}"] if report.story else []
    return printable(" ".join(parts))


@attrs.define
class Bars:
    """A bar for every step, and one for the tenants, beside which stands how many are not done and how many unclear."""

    console: Console
    plan: Plan
    _progress: Progress = attrs.field(init=False)
    _bars: dict[str, TaskID] = attrs.field(init=False, factory=dict[str, TaskID])
    _whole: TaskID = attrs.field(init=False)
    _bad: int = attrs.field(init=False, default=0)
    _unclear: set[str] = attrs.field(init=False, factory=set[str])

    def __attrs_post_init__(self) -> None:
        count = MofNCompleteColumn()
        columns = (TextColumn("{task.description:<20}"), BarColumn(30), count, TextColumn("{task.fields[note]}"))
        self._progress = Progress(*columns, TimeElapsedColumn(), console=self.console)
        totals = Counter(step for planned in self.plan.tenants for step in planned.steps)
        for step, title in _TITLES.items():
            if totals[step]:
                self._bars[step] = self._progress.add_task(title, total=totals[step], note="")
        self._whole = self._progress.add_task("tenants", total=len(self.plan.tenants), note="")

    @contextlib.contextmanager
    def open(self) -> Iterator[None]:
        with self._progress:
            yield

    def show(self, event: RunEvent) -> None:
        match event:
            case StepInDoubt(tenant):
                self._unclear.add(tenant)
            case StepDone(tenant, step):
                self._unclear.discard(tenant)
                self._progress.advance(self._bars[step])
            case TenantFinished(report):
                self._unclear.discard(report.tenant)
                self._bad += _is_bad(report.outcome)
                self._progress.advance(self._whole)
            case _:
                return
        self._progress.update(self._whole, note=", ".join(self._notes()))

    def _notes(self) -> Iterator[str]:
        if self._bad:
            yield f"{self._bad} not done"
        if self._unclear:
            yield f"{len(self._unclear)} unclear"

    def tell(self, text: str) -> None:
        self._progress.console.print(text)


def _is_bad(outcome: Outcome) -> bool:
    return not outcome.is_done and outcome is not Outcome.UNFINISHED
