"""Summary of a finished run: number of tenants by outcome, tenants that are not done, and what to do about them."""

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
# In order of urgency. Tenants that are simply done, or that await an administrator, are only counted.
_LISTED_OUTCOMES: Final = (
    Outcome.UNKNOWN,
    Outcome.DUPLICATE,
    Outcome.CONFLICT,
    Outcome.FAILED,
    Outcome.UNFINISHED,
    Outcome.UNCONFIRMED,
)


def print_summary(console: Console, report: Report, suggestions: Iterable[str] = ()) -> None:
    """Print the summary of *report*, followed by *suggestions* of options to add."""
    on_terminal = console.is_terminal
    table = Table("outcome", header_style="bold", box=ROUNDED if on_terminal else None, pad_edge=on_terminal)
    table.add_column("tenants", justify="right")
    for outcome, count in report.counts.items():
        if count:
            table.add_row(outcome.value, str(count))
    console.print(table)
    lines = (
        # Progress lines in a pipe already name every tenant. The bars of a terminal do not, so no list is cut there.
        *_detail_lines(report, limit=None if on_terminal else _MAX_TENANT_LINES),
        *suggestions,
        f"{report.done_count} of {len(report.tenants)} done in {report.elapsed:.1f} s",
    )
    for line in lines:
        for part in _wrap_indented(line, console.width) if on_terminal else (line,):
            console.print(part, soft_wrap=True)


def _wrap_indented(line: str, width: int) -> Iterator[str]:
    """Wrap a line that is too wide; the continuation has the same indentation."""
    text = line.removeprefix(_INDENT)
    return align_columns([(text,) if text == line else ("", text)], width)


def _detail_lines(report: Report, *, limit: int | None) -> Iterator[str]:
    for outcome in _LISTED_OUTCOMES:
        if entries := [entry for entry in report.tenants if entry.outcome is outcome]:
            yield f"{outcome.value}: {OUTCOME_ADVICE[outcome]}"
            yield from _tenant_lines(entries, limit)
    if report.stop_reason:
        yield f"Stopped early: {escape_unprintable(report.stop_reason)}"
    if retry_after := report.retry_after:
        yield f"Retry after {retry_after:%Y-%m-%d %H:%M} ({retry_after.tzname()})"
    if report.link_count:
        subject = "1 link awaits" if report.link_count == 1 else f"{report.link_count} links await"
        yield f"{subject} confirmation by a mini program's administrator; --json lists the links."


def _tenant_lines(entries: list[TenantReport], limit: int | None) -> Iterator[str]:
    started = [entry for entry in entries if not entry.not_started]
    for entry in started[:limit]:
        yield f"{_INDENT}{format_tenant(entry)}"
    if limit is not None and len(started) > limit:
        yield f"{_INDENT}and {len(started) - limit} more, listed above"
    if len(entries) > len(started):
        yield f"{_INDENT}{len(entries) - len(started)} not started"
