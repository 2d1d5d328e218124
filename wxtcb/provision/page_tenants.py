"""A tenant on the page: what it has, what keeps it from being done, and what became of it."""

from __future__ import annotations

from collections.abc import Iterator

from wxtcb.provision.journal import Moment
from wxtcb.provision.page_text import coded, count, shown, unix_moment
from wxtcb.provision.report import Outcome, Problem, TenantReport


def card(place: int, entry: TenantReport, history: tuple[Moment, ...]) -> str:
    """Return a tenant; it is found by its *place* in the report, for a name may be anything."""
    parts = (f"<h3>{shown(entry.tenant)}</h3>", _why(entry), _facts(place, entry), _timeline(history))
    return f'<article id="t{place}">{"".join(parts)}</article>\n'


def _why(entry: TenantReport) -> str:
    if entry.problems:
        return f'<ul class="why">{"".join(map(_problem, entry.problems))}</ul>'
    if entry.outcome is Outcome.AWAITING or not entry.story:
        return ""
    return f'<p class="why">{shown(entry.story)}</p>'


def _problem(problem: Problem) -> str:
    doubt = " <em>may have taken effect</em>" if problem.unknown else ""
    return f"<li><b>{shown(problem.subject)}</b>{doubt} {shown(problem.message)}</li>"


def _facts(place: int, entry: TenantReport) -> str:
    facts = "".join(f"<span>{name} {values}</span> " for name, values in _named(entry) if values)
    if entry.links:
        facts += f'<a href="#l{place}">{count(len(entry.links), "link")} to open</a>'
    return f'<p class="facts">{facts.rstrip()}</p>'


def _named(entry: TenantReport) -> Iterator[tuple[str, str]]:
    """Return what is known of it; ids come first, for they are what a console asks for."""
    yield "environment", coded(filter(None, [entry.env]))
    yield "alias", coded([entry.alias])
    yield "order", coded(filter(None, [entry.tranid]))
    yield "in the way", coded(entry.existing)
    yield "services", coded(entry.services)
    yield "unconfirmed", coded(entry.unconfirmed)
    yield "steps", shown(", ".join(entry.done))
    for name, mark in entry.marks.items():
        yield shown(name), coded([mark])


def _timeline(history: tuple[Moment, ...]) -> str:
    if not history:
        return ""
    lines = "".join(f"<li>{unix_moment(each.at)} {shown(each.change)}</li>" for each in history)
    return f"<details><summary>Timeline ({len(history)})</summary><ol>{lines}</ol></details>"
