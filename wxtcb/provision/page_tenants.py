"""A tenant on the page: what it has, what keeps it from being done, and what became of it."""

from __future__ import annotations

from collections.abc import Iterator

from wxtcb.provision.journal import HistoryEntry
from wxtcb.provision.page_text import escape, format_count, format_unix_time, render_code
from wxtcb.provision.report import Outcome, Problem, TenantReport


def render_tenant(index: int, entry: TenantReport, history: tuple[HistoryEntry, ...]) -> str:
    """Return a tenant; it is found by its *place* in the report, for a name may be anything."""
    parts = (
        f"<h3>{escape(entry.tenant)}</h3>",
        _render_reason(entry),
        _render_tenant_facts(index, entry),
        _render_history(history),
    )
    return f'<article id="t{index}">{"".join(parts)}</article>\n'


def _render_reason(entry: TenantReport) -> str:
    if entry.problems:
        return f'<ul class="why">{"".join(map(_render_problem, entry.problems))}</ul>'
    if entry.outcome is Outcome.AWAITING or not entry.summary:
        return ""
    return f'<p class="why">{escape(entry.summary)}</p>'


def _render_problem(problem: Problem) -> str:
    doubt = " <em>may have taken effect</em>" if problem.outcome_unknown else ""
    return f"<li><b>{escape(problem.subject)}</b>{doubt} {escape(problem.message)}</li>"


def _render_tenant_facts(index: int, entry: TenantReport) -> str:
    facts = "".join(f"<span>{name} {values}</span> " for name, values in _tenant_facts(entry) if values)
    if entry.links:
        facts += f'<a href="#l{index}">{format_count(len(entry.links), "link")} to open</a>'
    return f'<p class="facts">{facts.rstrip()}</p>'


def _tenant_facts(entry: TenantReport) -> Iterator[tuple[str, str]]:
    """Return what is known of it; ids come first, for they are what a console asks for."""
    yield "environment", render_code(filter(None, [entry.env]))
    yield "alias", render_code([entry.alias])
    yield "order", render_code(filter(None, [entry.tranid]))
    yield "in the way", render_code(entry.existing)
    yield "services", render_code(entry.services)
    yield "unconfirmed", render_code(entry.unconfirmed)
    yield "steps", escape(", ".join(entry.done))
    for name, mark in entry.metadata.items():
        yield escape(name), render_code([mark])


def _render_history(history: tuple[HistoryEntry, ...]) -> str:
    if not history:
        return ""
    lines = "".join(f"<li>{format_unix_time(each.timestamp)} {escape(each.change)}</li>" for each in history)
    return f"<details><summary>Timeline ({len(history)})</summary><ol>{lines}</ol></details>"
