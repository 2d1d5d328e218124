"""The whole page: its header, and a section for each way to end, those to be mended first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from importlib import resources
from string import Template
from typing import Final

from wxtcb.provision.journal import HistoryEntry
from wxtcb.provision.page_header import render_header, render_title
from wxtcb.provision.page_tenants import render_tenant
from wxtcb.provision.page_text import escape, render_code, render_link
from wxtcb.provision.report import OUTCOME_ADVICE, Outcome, Report, TenantReport

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
