"""What stands above: how it went, of what run this tells, and the counts, which lead to the sections."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from wxtcb.provision.page_text import escape, format_time, render_code
from wxtcb.provision.report import Outcome, Report
from wxtcb.validation import is_loopback


def render_title(report: Report) -> str:
    """Return the title, which a bookmark and a printout are named by."""
    return f"{_result_text(report)} · wxtcb provision · {report.created_at:%Y-%m-%d}"


def render_header(report: Report, outcomes: Sequence[Outcome]) -> str:
    """Return the header, with the counts of *outcomes* in their order."""
    facts = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in _run_facts(report))
    return (
        f'<header id="top">\n<p class="kind">wxtcb provision</p>\n<h1>{_result_text(report)}</h1>\n{_render_stop_reason(report)}'
        f'<p class="bar" aria-hidden="true">{"".join(_render_bar(report, outcomes))}</p>\n'
        f'<nav aria-label="Outcomes">{"".join(_render_count_links(report, outcomes))}</nav>\n<dl>{facts}</dl>\n</header>\n'
    )


def _result_text(report: Report) -> str:
    noun = "tenant" if len(report.tenants) == 1 else "tenants"
    return f"{report.done_count:,} of {len(report.tenants):,} {noun} done"


def _render_stop_reason(report: Report) -> str:
    if not report.stop_reason:
        return ""
    later = f"\n<b>Come back at</b> {format_time(report.retry_after)}" if report.retry_after else ""
    return f'<p class="stopped"><b>Stopped early</b> {escape(report.stop_reason)}{later}</p>\n'


def _render_bar(report: Report, outcomes: Sequence[Outcome]) -> Iterator[str]:
    for outcome in outcomes:
        if count := report.counts[outcome]:
            yield f'<span class="{outcome.name.lower()}" style="flex-grow:{count}"></span>'


def _render_count_links(report: Report, outcomes: Sequence[Outcome]) -> Iterator[str]:
    for outcome in outcomes:
        if count := report.counts[outcome]:
            yield _render_count_link(outcome.name.lower(), count, outcome.value)
    if report.link_count:
        yield _render_count_link(
            "links", report.link_count, "links to open" if report.link_count > 1 else "link to open"
        )


def _render_count_link(name: str, number: int, noun: str) -> str:
    return f'<a class="{name}" href="#{name}"><b>{number:,}</b> {noun}</a>'


def _run_facts(report: Report) -> Iterator[tuple[str, str]]:
    yield "Made", format_time(report.created_at)
    yield "Took", _format_duration(report.elapsed)
    if origin := report.run_info:
        where = " on this machine" if is_loopback(origin.base_url) else ""
        yield "Platform", f"{render_code([origin.base_url])}{where}"
        yield "Component", render_code([origin.component_appid])
        yield "Namespace", render_code([origin.namespace])


def _format_duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02} min"
    return f"{minutes} min {rest:02} s" if minutes else f"{seconds:.1f} s"
