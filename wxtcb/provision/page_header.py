"""What stands above: how it went, of what run this tells, and the counts, which lead to the sections."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from wxtcb.provision.page_text import coded, moment, shown
from wxtcb.provision.report import Outcome, Report
from wxtcb.validation import is_loopback


def title(report: Report) -> str:
    """Return the title, which a bookmark and a printout are named by."""
    return f"{_result(report)} · wxtcb provision · {report.made_at:%Y-%m-%d}"


def header(report: Report, outcomes: Sequence[Outcome]) -> str:
    """Return the header, with the counts of *outcomes* in their order."""
    facts = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in _facts(report))
    return (
        f'<header id="top">\n<p class="kind">wxtcb provision</p>\n<h1>{_result(report)}</h1>\n{_stopped(report)}'
        f'<p class="bar" aria-hidden="true">{"".join(_bar(report, outcomes))}</p>\n'
        f'<nav aria-label="Outcomes">{"".join(_counts(report, outcomes))}</nav>\n<dl>{facts}</dl>\n</header>\n'
    )


def _result(report: Report) -> str:
    noun = "tenant" if len(report.tenants) == 1 else "tenants"
    return f"{report.done:,} of {len(report.tenants):,} {noun} done"


def _stopped(report: Report) -> str:
    if not report.stopped:
        return ""
    later = f"\n<b>Come back at</b> {moment(report.come_back_at)}" if report.come_back_at else ""
    return f'<p class="stopped"><b>Stopped early</b> {shown(report.stopped)}{later}</p>\n'


def _bar(report: Report, outcomes: Sequence[Outcome]) -> Iterator[str]:
    for outcome in outcomes:
        if count := report.counts[outcome]:
            yield f'<span class="{outcome.name.lower()}" style="flex-grow:{count}"></span>'


def _counts(report: Report, outcomes: Sequence[Outcome]) -> Iterator[str]:
    for outcome in outcomes:
        if count := report.counts[outcome]:
            yield _count(outcome.name.lower(), count, outcome.value)
    if report.links:
        yield _count("links", report.links, "links to open" if report.links > 1 else "link to open")


def _count(name: str, number: int, noun: str) -> str:
    return f'<a class="{name}" href="#{name}"><b>{number:,}</b> {noun}</a>'


def _facts(report: Report) -> Iterator[tuple[str, str]]:
    yield "Made", moment(report.made_at)
    yield "Took", _duration(report.elapsed)
    if origin := report.origin:
        where = " on this machine" if is_loopback(origin.base_url) else ""
        yield "Platform", f"{coded([origin.base_url])}{where}"
        yield "Component", coded([origin.component_appid])
        yield "Namespace", coded([origin.namespace])


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02} min"
    return f"{minutes} min {rest:02} s" if minutes else f"{seconds:.1f} s"
