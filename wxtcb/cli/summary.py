"""The end of a run in words: how many are done, how the others ended, and what to do about them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from rich.box import ROUNDED
from rich.console import Console
from rich.table import Table

from wxtcb.cli.console import columns, printable
from wxtcb.cli.progress import sentence
from wxtcb.provision import ADVICE, Outcome, Report, TenantReport

_SHOWN: Final = 50
_INDENT: Final = "  "
_LISTED: Final = (
    Outcome.UNKNOWN,
    Outcome.DUPLICATE,
    Outcome.CONFLICT,
    Outcome.FAILED,
    Outcome.UNFINISHED,
    Outcome.UNCONFIRMED,
)


def print_summary(console: Console, report: Report, remedies: Iterable[str] = ()) -> None:
    """Print the summary of a run that has ended, with what to type where a person has to decide.

    A terminal, where the bars have named nobody, gets every tenant that is not done: nothing else keeps their ids.
    """
    on_terminal = console.is_terminal
    console.print(_table(report, framed=on_terminal))
    for line in (*_lines(report, most=None if on_terminal else _SHOWN), *remedies, _sum(report)):
        for part in _fold(line, console.width) if on_terminal else (line,):
            console.print(part, soft_wrap=True)


def _fold(line: str, width: int) -> Iterator[str]:
    """Let what is too wide go on below, as far from the edge as it began."""
    text = line.removeprefix(_INDENT)
    return columns([(text,) if text == line else ("", text)], width)


def _table(report: Report, *, framed: bool) -> Table:
    table = Table("outcome", header_style="bold", box=ROUNDED if framed else None, pad_edge=framed)
    table.add_column("tenants", justify="right")
    for outcome, count in report.counts.items():
        if count:
            table.add_row(outcome.value, str(count))
    return table


def _lines(report: Report, *, most: int | None) -> Iterator[str]:
    for outcome in _LISTED:
        if entries := [entry for entry in report.tenants if entry.outcome is outcome]:
            yield f"{outcome.value}: {ADVICE[outcome]}"
            yield from _listed(entries, most)
    if report.stopped:
        yield f"Stopped early: {printable(report.stopped)}"
    if at := report.come_back_at:
        yield f"Come back at {at:%Y-%m-%d %H:%M} ({at.tzname()})"
    if report.links:
        yield f"{_links(report.links)} a mini program's administrator; --json lists them."


def _sum(report: Report) -> str:
    return f"{report.done} of {len(report.tenants)} done in {report.elapsed:.1f} s"


def _listed(entries: list[TenantReport], most: int | None) -> Iterator[str]:
    touched = [entry for entry in entries if not entry.untouched]
    for entry in touched[:most]:
        yield f"{_INDENT}{sentence(entry)}"
    if most is not None and len(touched) > most:
        yield f"{_INDENT}and {len(touched) - most} more, in the lines above"
    if len(entries) > len(touched):
        yield f"{_INDENT}{len(entries) - len(touched)} not started"


def _links(count: int) -> str:
    return "1 link awaits" if count == 1 else f"{count} links await"
