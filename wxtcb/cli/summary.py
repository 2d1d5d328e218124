"""The end of a run in words: how many are done, how the others ended, and what to do about them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from rich.box import ROUNDED
from rich.console import Console
from rich.table import Table

from wxtcb.cli.console import align_columns, escape_unprintable
from wxtcb.cli.progress import format_tenant
from wxtcb.provision import Outcome, Report, TenantReport
from wxtcb.provision.report import OUTCOME_ADVICE

_MAX_TENANT_LINES: Final = 50
_INDENT: Final = "  "
_LISTED_OUTCOMES: Final = (
    Outcome.UNKNOWN,
    Outcome.DUPLICATE,
    Outcome.CONFLICT,
    Outcome.FAILED,
    Outcome.UNFINISHED,
    Outcome.UNCONFIRMED,
)


def print_summary(console: Console, report: Report, suggestions: Iterable[str] = ()) -> None:
    """Print the summary of a run that has ended, with what to type where a person has to decide.

    A terminal, where the bars have named nobody, gets every tenant that is not done: nothing else keeps their ids.
    """
    on_terminal = console.is_terminal
    console.print(_outcome_table(report, framed=on_terminal))
    for line in (
        *_detail_lines(report, limit=None if on_terminal else _MAX_TENANT_LINES),
        *suggestions,
        _total_line(report),
    ):
        for part in _wrap_indented(line, console.width) if on_terminal else (line,):
            console.print(part, soft_wrap=True)


def _wrap_indented(line: str, width: int) -> Iterator[str]:
    """Let what is too wide go on below, as far from the edge as it began."""
    text = line.removeprefix(_INDENT)
    return align_columns([(text,) if text == line else ("", text)], width)


def _outcome_table(report: Report, *, framed: bool) -> Table:
    table = Table("outcome", header_style="bold", box=ROUNDED if framed else None, pad_edge=framed)
    table.add_column("tenants", justify="right")
    for outcome, count in report.counts.items():
        if count:
            table.add_row(outcome.value, str(count))
    return table


def _detail_lines(report: Report, *, limit: int | None) -> Iterator[str]:
    for outcome in _LISTED_OUTCOMES:
        if entries := [entry for entry in report.tenants if entry.outcome is outcome]:
            yield f"{outcome.value}: {OUTCOME_ADVICE[outcome]}"
            yield from _tenant_lines(entries, limit)
    if report.stop_reason:
        yield f"Stopped early: {escape_unprintable(report.stop_reason)}"
    if at := report.retry_after:
        yield f"Come back at {at:%Y-%m-%d %H:%M} ({at.tzname()})"
    if report.link_count:
        yield f"{_pending_links(report.link_count)} a mini program's administrator; --json lists them."


def _total_line(report: Report) -> str:
    return f"{report.done_count} of {len(report.tenants)} done in {report.elapsed:.1f} s"


def _tenant_lines(entries: list[TenantReport], limit: int | None) -> Iterator[str]:
    touched = [entry for entry in entries if not entry.not_started]
    for entry in touched[:limit]:
        yield f"{_INDENT}{format_tenant(entry)}"
    if limit is not None and len(touched) > limit:
        yield f"{_INDENT}and {len(touched) - limit} more, in the lines above"
    if len(entries) > len(touched):
        yield f"{_INDENT}{len(entries) - len(touched)} not started"


def _pending_links(count: int) -> str:
    return "1 link awaits" if count == 1 else f"{count} links await"
