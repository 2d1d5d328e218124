"""How a run is shown while it works: bars on a terminal, elsewhere a line per tenant, or nothing beside JSON."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final, Protocol

import attrs
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from wxtcb.cli.output import printable, say
from wxtcb.provision import Outcome, RunEvent, Step, StepDone, Tenant, TenantFinished, TenantReport

_STEPS: Final = {
    Step.CREATE: "environments opened",
    Step.NORMAL: "environments NORMAL",
    Step.SHARE: "shared",
    Step.SERVICES: "services established",
}


class View(Protocol):
    """Shows the events of a run."""

    def open(self) -> contextlib.AbstractContextManager[object]:
        """Be on the screen as long as the context lasts."""
        ...

    def show(self, event: RunEvent) -> None: ...

    def tell(self, text: str) -> None: ...


def choose_view(console: Console, tenants: Sequence[Tenant], *, quiet: bool) -> View:
    """Return bars for a terminal, else lines, or silence if *quiet*."""
    if console.is_terminal:
        return Bars(console, tenants)
    return Silence() if quiet else Lines(console, len(tenants))


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
    """A line for every tenant that is finished."""

    console: Console
    total: int
    _finished: int = attrs.field(init=False, default=0)

    def open(self) -> contextlib.AbstractContextManager[object]:
        return contextlib.nullcontext()

    def show(self, event: RunEvent) -> None:
        if isinstance(event, TenantFinished):
            self._finished += 1
            place = f"[{self._finished:>{len(str(self.total))}}/{self.total}]"
            self.console.print(f"{place} {sentence(event.report)}", soft_wrap=True)

    def tell(self, text: str) -> None:
        say(text)


def sentence(report: TenantReport) -> str:
    """Say in a line how a tenant ended."""
    parts = [f"{report.tenant}: {report.outcome.value}"]
    parts += [f"({report.env})"] if report.env else []
    parts += [f"- {report.story}"] if report.story else []
    return printable(" ".join(parts))


@attrs.define
class Bars:
    """A bar for every step, and one for the tenants."""

    console: Console
    tenants: Sequence[Tenant]
    _progress: Progress = attrs.field(init=False)
    _bars: dict[Step, TaskID] = attrs.field(init=False, factory=dict[Step, TaskID])
    _whole: TaskID = attrs.field(init=False)
    _ended: Counter[Outcome] = attrs.field(init=False, factory=Counter[Outcome])

    def __attrs_post_init__(self) -> None:
        count = MofNCompleteColumn()
        columns = (TextColumn("{task.description:<20}"), BarColumn(30), count, TextColumn("{task.fields[note]}"))
        self._progress = Progress(*columns, TimeElapsedColumn(), console=self.console)
        for step, total in _totals(self.tenants).items():
            if total:
                self._bars[step] = self._progress.add_task(_STEPS[step], total=total, note="")
        self._whole = self._progress.add_task("tenants", total=len(self.tenants), note="")

    @contextlib.contextmanager
    def open(self) -> Iterator[None]:
        with self._progress:
            yield

    def show(self, event: RunEvent) -> None:
        match event:
            case StepDone(step=step):
                self._progress.advance(self._bars[step])
            case TenantFinished(report):
                self._ended[report.outcome] += 1
                bad = sum(count for outcome, count in self._ended.items() if _is_bad(outcome))
                self._progress.update(self._whole, advance=1, note=f"{bad} not done" if bad else "")
            case _:
                pass

    def tell(self, text: str) -> None:
        self._progress.console.print(text)


def _is_bad(outcome: Outcome) -> bool:
    return not outcome.is_done and outcome is not Outcome.UNFINISHED


def _totals(tenants: Sequence[Tenant]) -> dict[Step, int]:
    return {
        Step.CREATE: len(tenants),
        Step.NORMAL: len(tenants),
        Step.SHARE: sum(bool(tenant.appids) for tenant in tenants),
        Step.SERVICES: sum(bool(tenant.services) for tenant in tenants),
    }
