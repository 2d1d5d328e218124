"""The whole page: its header, and a section for each way to end, those to be mended first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from importlib import resources
from string import Template
from typing import Final

from wxtcb.provision.journal import Moment
from wxtcb.provision.page_header import header, title
from wxtcb.provision.page_tenants import card
from wxtcb.provision.page_text import coded, link_to, shown
from wxtcb.provision.report import ADVICE, Outcome, Report, TenantReport

_TO_MEND: Final = (Outcome.UNKNOWN, Outcome.DUPLICATE, Outcome.CONFLICT, Outcome.FAILED, Outcome.UNFINISHED)
_DONE: Final = (Outcome.UNCONFIRMED, Outcome.AWAITING, Outcome.DONE)
_OPENING: Final = (
    "Send each to the administrator of its mini program, and to nobody else: the share takes effect when they open it "
    "and agree."
)
Placed = tuple[int, TenantReport]
Histories = Mapping[str, tuple[Moment, ...]]


def make_page(report: Report, histories: Histories) -> str:
    """Return the page; see `Report.to_html`."""
    main = (*_sections(report, _TO_MEND, histories), _links(report), *_sections(report, _DONE, histories))
    return Template(_read("frame.html")).substitute(
        title=title(report), style=_read("page.css"), header=header(report, (*_TO_MEND, *_DONE)), main="".join(main)
    )


def _read(name: str) -> str:
    return resources.files("wxtcb.provision").joinpath(name).read_text(encoding="utf-8")


def _sections(report: Report, outcomes: Iterable[Outcome], histories: Histories) -> Iterator[str]:
    for outcome in outcomes:
        if report.counts[outcome]:
            entries = (placed for placed in enumerate(report.tenants) if placed[1].outcome is outcome)
            cards = "".join(card(place, entry, histories.get(entry.tenant, ())) for place, entry in entries)
            advice = ADVICE.get(outcome, "Nothing is left to be done.")
            yield _section(outcome.name.lower(), outcome.value, report.counts[outcome], advice, cards)


def _section(name: str, heading: str, count: int, advice: str, content: str) -> str:
    top = '<a href="#top">Top</a>'
    return (
        f'<section id="{name}" class="{name}">\n<h2>{heading.capitalize()} <span>{count:,}</span> {top}</h2>\n'
        f'<p class="advice">{shown(advice)}</p>\n<div class="cards">\n{content}</div>\n</section>\n'
    )


def _links(report: Report) -> str:
    """Return the section of what administrators must still open: every link once, by tenant."""
    if not report.links:
        return ""
    groups = "".join(_group(place, entry) for place, entry in enumerate(report.tenants) if entry.links)
    return _section("links", "links to open", report.links, _OPENING, groups)


def _group(place: int, entry: TenantReport) -> str:
    lines = "".join(f"<li>{coded([link.appid])} {link_to(link.url)}</li>" for link in entry.links)
    return f'<div id="l{place}"><h3><a href="#t{place}">{shown(entry.tenant)}</a></h3><ul>{lines}</ul></div>\n'
