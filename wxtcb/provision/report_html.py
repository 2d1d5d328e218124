"""The whole page: its header, and a section for each way to end, those to be mended first."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from importlib import resources
from string import Template
from typing import Final

from wxtcb.provision.journal import HistoryEntry, to_utc
from wxtcb.provision.report import OUTCOME_ADVICE, Outcome, Problem, Report, TenantReport
from wxtcb.validation import is_loopback

_ACTION_REQUIRED: Final = (Outcome.UNKNOWN, Outcome.DUPLICATE, Outcome.CONFLICT, Outcome.FAILED, Outcome.UNFINISHED)
_COMPLETED: Final = (Outcome.UNCONFIRMED, Outcome.AWAITING, Outcome.DONE)
_LINKS_ADVICE: Final = (
    "Send each to the administrator of its mini program, and to nobody else: the share takes effect when they open it "
    "and agree."
)
IndexedReport = tuple[int, TenantReport]
Histories = Mapping[str, tuple[HistoryEntry, ...]]


def render_html(report: Report, histories: Histories) -> str:
    """Return the page; see `Report.to_html`."""
    main = (
        *_render_outcome_sections(report, _ACTION_REQUIRED, histories),
        _render_links(report),
        *_render_outcome_sections(report, _COMPLETED, histories),
    )
    return Template(_read_resource("frame.html")).substitute(
        title=render_title(report),
        style=_read_resource("page.css"),
        header=render_header(report, (*_ACTION_REQUIRED, *_COMPLETED)),
        main="".join(main),
    )


def _read_resource(name: str) -> str:
    return resources.files("wxtcb.provision").joinpath(name).read_text(encoding="utf-8")


def _render_outcome_sections(report: Report, outcomes: Iterable[Outcome], histories: Histories) -> Iterator[str]:
    for outcome in outcomes:
        if report.counts[outcome]:
            entries = (placed for placed in enumerate(report.tenants) if placed[1].outcome is outcome)
            cards = "".join(render_tenant(place, entry, histories.get(entry.tenant, ())) for place, entry in entries)
            advice = OUTCOME_ADVICE.get(outcome, "Nothing is left to be done.")
            yield _render_section(outcome.name.lower(), outcome.value, report.counts[outcome], advice, cards)


def _render_section(name: str, heading: str, count: int, advice: str, content: str) -> str:
    top = '<a href="#top">Top</a>'
    return (
        f'<section id="{name}" class="{name}">\n<h2>{heading.capitalize()} <span>{count:,}</span> {top}</h2>\n'
        f'<p class="advice">{escape(advice)}</p>\n<div class="cards">\n{content}</div>\n</section>\n'
    )


def _render_links(report: Report) -> str:
    """Return the section of what administrators must still open: every link once, by tenant."""
    if not report.link_count:
        return ""
    groups = "".join(_render_link_group(place, entry) for place, entry in enumerate(report.tenants) if entry.links)
    return _render_section("links", "links to open", report.link_count, _LINKS_ADVICE, groups)


def _render_link_group(index: int, entry: TenantReport) -> str:
    lines = "".join(f"<li>{render_code([link.appid])} {render_link(link.url)}</li>" for link in entry.links)
    return f'<div id="l{index}"><h3><a href="#t{index}">{escape(entry.tenant)}</a></h3><ul>{lines}</ul></div>\n'


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


_CONTROL_CHARACTERS: Final = r"\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff"
_BIDI_CHARACTERS: Final = r"\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069"
_UNSAFE_CHARACTERS: Final = re.compile(f"[{_CONTROL_CHARACTERS}{_BIDI_CHARACTERS}]")
_WEB_URL: Final = re.compile(r"https?://[^\s\x00-\x20\x7f-\x9f]+", re.IGNORECASE)


def escape(text: str) -> str:
    """Return *text* for an element or a quoted attribute; what is not seen, but would turn the rest, is written out."""
    return html.escape(text if text.isprintable() else _UNSAFE_CHARACTERS.sub(_escape_character, text))


def _escape_character(match: re.Match[str]) -> str:
    return repr(match[0])[1:-1]


def render_code(values: Iterable[str]) -> str:
    """Return ids, each to be copied as it is."""
    return ", ".join(f"<code>{escape(value)}</code>" for value in values)


def render_link(url: str) -> str:
    """Return a link that tells the other side nothing of this page; what is no address of the web is only text."""
    text = escape(url)
    if _WEB_URL.fullmatch(url) is None or _UNSAFE_CHARACTERS.search(url):
        return f"<code>{text}</code>"
    return f'<a rel="noreferrer" href="{text}">{text}</a>'


def format_time(time: datetime) -> str:
    """Return a point in time with its offset, so that it means the same wherever it is read."""
    return f'<time datetime="{time.isoformat(timespec="milliseconds")}">{time.isoformat(" ", "seconds")}</time>'


def format_unix_time(time: float) -> str:
    """Return a point in Unix time, in UTC."""
    known = to_utc(time)
    return format_time(known) if known else f"{time:.0f} s of Unix time"


def format_count(number: int, noun: str) -> str:
    """Return a number and what it counts."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
