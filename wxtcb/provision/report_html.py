"""HTML report: one self-contained page, which loads nothing and runs no script; tenants that need action first."""

from __future__ import annotations

import contextlib
import html
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from importlib import resources
from string import Template
from types import MappingProxyType
from typing import Final

from wxtcb.provision.error_policy import CHINA_TIMEZONE
from wxtcb.provision.record import HistoryEntry, to_utc
from wxtcb.provision.report import OUTCOME_ADVICE, Outcome, Report, TenantReport
from wxtcb.validation import is_loopback

__all__ = ["render_html"]

Histories = Mapping[str, tuple[HistoryEntry, ...]]

_ACTION_REQUIRED: Final = (Outcome.UNKNOWN, Outcome.DUPLICATE, Outcome.CONFLICT, Outcome.FAILED, Outcome.UNFINISHED)
_COMPLETED: Final = (Outcome.UNCONFIRMED, Outcome.AWAITING, Outcome.DONE)
_LINKS_ADVICE: Final = "Send each link to its mini program's administrator only, who must open it and confirm."

# Tab and line break stay. Half of a surrogate pair cannot be encoded as UTF-8.
_CONTROL_CHARACTERS: Final = r"\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff"
# Marks that are invisible and change the order of the text after them, and Unicode line separators.
_BIDI_CHARACTERS: Final = r"\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069"
_UNSAFE_CHARACTERS: Final = re.compile(f"[{_CONTROL_CHARACTERS}{_BIDI_CHARACTERS}]")
_WEB_URL: Final = re.compile(r"https?://[^\s\x00-\x20\x7f-\x9f]+", re.IGNORECASE)


def render_html(report: Report, histories: Histories = MappingProxyType({})) -> str:
    """Return *report* as one HTML page: failures first, and all links to open in a section of their own.

    *histories* has the history of tenants by name, as `Journal.history` returns it.

    A page of 10,000 tenants takes up to a second: call it in a thread if an event loop runs. The links grant access:
    protect the page like the journal.
    """
    main = (
        *_render_outcome_sections(report, _ACTION_REQUIRED, histories),
        _render_links_section(report),
        *_render_outcome_sections(report, _COMPLETED, histories),
    )
    folder, names = resources.files("wxtcb.provision"), ("report_page.html", "report_style.css")
    page, style = (folder.joinpath(name).read_text(encoding="utf-8") for name in names)
    noun = "tenant" if len(report.tenants) == 1 else "tenants"
    result = f"{report.done_count:,} of {len(report.tenants):,} {noun} done"
    return Template(page).substitute(
        title=f"{result} · wxtcb provision · {report.created_at.astimezone(CHINA_TIMEZONE):%Y-%m-%d}",
        style=style,
        header=_render_header(report, result),
        main="".join(main),
    )


def _render_header(report: Report, result: str) -> str:
    """Return the header: result, reason of an early stop, counts of outcomes with links, and run details."""
    stopped = ""
    if report.stop_message:
        later = f"\n<b>Retry after</b> {format_time(report.retry_after)}" if report.retry_after else ""
        stopped = f'<p class="stopped"><b>Stopped early</b> {escape(report.stop_message)}{later}</p>\n'
    counts = [(each.name.lower(), report.counts[each], each.value) for each in (*_ACTION_REQUIRED, *_COMPLETED)]
    bar = "".join(f'<span class="{name}" style="flex-grow:{count}"></span>' for name, count, _ in counts if count)
    counts.append(("links", report.link_count, "links to open" if report.link_count > 1 else "link to open"))
    links = (f'<a class="{name}" href="#{name}"><b>{count:,}</b> {noun}</a>' for name, count, noun in counts if count)
    details = {"Created": format_time(report.created_at), "Duration": _format_duration(report.elapsed)}
    if info := report.run_info:
        where = " on this machine" if is_loopback(info.base_url) else ""
        details |= {
            "Platform": f"{render_code([info.base_url])}{where}",
            "Component": render_code([info.component_appid]),
            "Namespace": render_code([info.namespace]),
        }
    terms = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in details.items())
    return (
        f'<header id="top">\n<p class="kind">wxtcb provision</p>\n<h1>{result}</h1>\n{stopped}'
        f'<p class="bar" aria-hidden="true">{bar}</p>\n'
        f'<nav aria-label="Outcomes">{"".join(links)}</nav>\n<dl>{terms}</dl>\n</header>\n'
    )


def _format_duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02} min"
    return f"{minutes} min {rest:02} s" if minutes else f"{seconds:.1f} s"


def _render_outcome_sections(report: Report, outcomes: Iterable[Outcome], histories: Histories) -> Iterator[str]:
    for outcome in outcomes:
        if report.counts[outcome]:
            cards = "".join(
                _render_tenant(index, entry, histories.get(entry.tenant, ()))
                for index, entry in enumerate(report.tenants)
                if entry.outcome is outcome
            )
            advice = OUTCOME_ADVICE.get(outcome, "Nothing is left to do.")
            yield _render_section(outcome.name.lower(), outcome.value, report.counts[outcome], advice, cards)


def _render_links_section(report: Report) -> str:
    """Return the section of links to open, grouped by tenant; empty if there are none."""
    if not report.link_count:
        return ""
    groups = ""
    for index, entry in enumerate(report.tenants):
        if entry.links:
            lines = "".join(f"<li>{render_code([link.appid])} {render_link(link.url)}</li>" for link in entry.links)
            heading = f'<h3><a href="#t{index}">{escape(entry.tenant)}</a></h3>'
            groups += f'<div id="l{index}">{heading}<ul>{lines}</ul></div>\n'
    return _render_section("links", "links to open", report.link_count, _LINKS_ADVICE, groups)


def _render_section(name: str, heading: str, count: int, advice: str, content: str) -> str:
    top = '<a href="#top">Top</a>'
    return (
        f'<section id="{name}" class="{name}">\n<h2>{heading.capitalize()} <span>{count:,}</span> {top}</h2>\n'
        f'<p class="advice">{escape(advice)}</p>\n<div class="cards">\n{content}</div>\n</section>\n'
    )


def _render_tenant(index: int, entry: TenantReport, history: tuple[HistoryEntry, ...]) -> str:
    reason, timeline = "", ""
    if entry.problems:
        for problem in entry.problems:
            unknown = " <em>may have taken effect</em>" if problem.outcome_unknown else ""
            reason += f"<li><b>{escape(problem.subject)}</b>{unknown} {escape(problem.message)}</li>"
        reason = f'<ul class="why">{reason}</ul>'
    elif entry.summary and entry.outcome is not Outcome.AWAITING:
        reason = f'<p class="why">{escape(entry.summary)}</p>'
    if history:
        lines = "".join(f"<li>{format_unix_time(each.timestamp)} {escape(each.change)}</li>" for each in history)
        timeline = f"<details><summary>Timeline ({len(history)})</summary><ol>{lines}</ol></details>"
    # Anchors use the position in the report: a tenant's name may contain any character.
    heading, details = f"<h3>{escape(entry.tenant)}</h3>", _render_details(index, entry)
    return f'<article id="t{index}">{heading}{reason}{details}{timeline}</article>\n'


def _render_details(index: int, entry: TenantReport) -> str:
    # Identifiers come first: these are what a reader searches for in the console.
    details = (
        ("environment", render_code(filter(None, [entry.env]))),
        ("alias", render_code([entry.alias])),
        ("order", render_code(filter(None, [entry.tranid]))),
        ("existing", render_code(entry.existing)),
        ("services", render_code(entry.services)),
        ("unconfirmed", render_code(entry.unconfirmed)),
        ("steps", escape(", ".join(entry.done))),
        *((escape(name), render_code([value])) for name, value in entry.metadata.items()),
    )
    spans = "".join(f"<span>{name} {values}</span> " for name, values in details if values)
    if count := len(entry.links):
        spans += f'<a href="#l{index}">{count:,} {"link" if count == 1 else "links"} to open</a>'
    return f'<p class="facts">{spans.rstrip()}</p>'


def escape(text: str) -> str:
    """Return *text* escaped for an element or a quoted attribute; control and bidi characters are spelled out."""
    # `isprintable` is False for every unsafe character, and much faster than the substitution.
    return html.escape(text if text.isprintable() else _UNSAFE_CHARACTERS.sub(lambda match: repr(match[0])[1:-1], text))


def render_code(values: Iterable[str]) -> str:
    """Return *values*, each in a ``code`` element, separated by commas."""
    return ", ".join(f"<code>{escape(value)}</code>" for value in values)


def render_link(url: str) -> str:
    """Return a link to *url*, or its text in a ``code`` element if it is not a plain http or https URL."""
    text = escape(url)
    # The URL comes from the platform. `javascript:` and `data:` URLs, and spoofed ones, must not be clickable.
    if _WEB_URL.fullmatch(url) is None or _UNSAFE_CHARACTERS.search(url):
        return f"<code>{text}</code>"
    # No referrer: the other site must not learn the path of the page.
    return f'<a rel="noreferrer" href="{text}">{text}</a>'


def format_time(time: datetime) -> str:
    """Return a ``time`` element in China time, as in the audit and in the platform's replies, with its offset."""
    # The last hours of the year 9999 have no China time.
    with contextlib.suppress(OverflowError):
        time = time.astimezone(CHINA_TIMEZONE)
    return f'<time datetime="{time.isoformat(timespec="milliseconds")}">{time.isoformat(" ", "seconds")}</time>'


def format_unix_time(timestamp: float) -> str:
    """Return a ``time`` element in China time, or the plain number if it is outside the calendar."""
    time = to_utc(timestamp)
    return format_time(time) if time else f"{timestamp:.0f} s (Unix time)"
