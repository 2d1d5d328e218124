"""The report as a page: read with a parser, without a browser."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from wxtcb.provision import Outcome, Problem, Report, TenantReport
from wxtcb.provision.journal import HistoryEntry
from wxtcb.provision.report import OUTCOME_ADVICE
from wxtcb.provision.report_html import render_html

from .html_report_parser import ORIGIN, Page, entry, link, page

ORDER = ["unknown", "duplicate", "conflict", "failed", "unfinished", "links", "unconfirmed", "awaiting", "done"]
UNCLEAR = Problem(step="environment", message="sent, but its outcome is unknown", outcome_unknown=True)


def of_every_kind() -> tuple[TenantReport, ...]:
    """Return two tenants of every outcome, mixed, with links in some of them."""
    kinds = [outcome for _ in range(2) for outcome in Outcome]
    return tuple(
        entry(
            f"商户{number}",
            outcome,
            links=(link(f"wx{number}a"), link(f"wx{number}b")) if outcome in LINKED else (),
            problems=(UNCLEAR,) if outcome is Outcome.UNKNOWN else (),
        )
        for number, outcome in enumerate(kinds)
    )


LINKED = (Outcome.FAILED, Outcome.AWAITING)


def test_the_page_loads_nothing_and_runs_nothing() -> None:
    """No element that would, no address but those of the links, and a policy that forbids it all the same."""
    root = page(*of_every_kind(), run_info=ORIGIN)
    names = {node.name for node in root.every()}
    assert names & {"script", "img", "link", "iframe", "object", "form", "base", "svg", "video"} == set()
    attributes = {name for node in root.every() for name in node.attributes}
    assert attributes & {"src", "srcset", "action", "background", "poster"} == set()
    assert not any(name.startswith("on") for name in attributes)
    assert not any(word in root.one("style").text for word in ("url(", "@import", "</"))
    policy = root.one("meta", **{"http-equiv": "Content-Security-Policy"}).attributes["content"]
    assert policy == "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
    assert root.one("meta", name="referrer").attributes["content"] == "no-referrer"


def test_what_a_person_must_mend_stands_first() -> None:
    """The sections follow each other in one order, the links between what failed and what is done."""
    sections = page(*of_every_kind()).all("section")
    assert [section.attributes["id"] for section in sections] == ORDER


def test_each_section_says_what_to_do_next() -> None:
    """In the words of the advice, below the outcome and how many met it."""
    root = page(*of_every_kind())
    for outcome, advice in OUTCOME_ADVICE.items():
        section = root.one("section", id=outcome.name.lower())
        assert section.one("p", **{"class": "advice"}).text == advice
        assert section.one("h2").text == f"{outcome.value.capitalize()} 2 Top"


def test_the_counts_lead_to_the_sections() -> None:
    """One for every outcome that somebody had, and one for the links."""
    root = page(*of_every_kind())
    counts = root.one("nav").all("a")
    assert {each.attributes["href"] for each in counts} == {f"#{name}" for name in ORDER}
    assert {each.text for each in counts} >= {"2 failed", "2 awaiting confirmation", "8 links to open"}
    one, two = entry(links=(link("wx1"),)), entry(links=(link("wx1"), link("wx2")))
    assert [each.text for each in page(one).one("nav").all("a")] == ["1 done", "1 link to open"]
    assert [each.text for each in page(two).one("nav").all("a")] == ["1 done", "2 links to open"]


def test_every_way_within_the_page_leads_somewhere() -> None:
    """Each id is there once, and each link that begins with # has its id."""
    nodes = page(*of_every_kind()).every()
    ids = [node.attributes["id"] for node in nodes if "id" in node.attributes]
    ways = {node.attributes["href"][1:] for node in nodes if node.attributes.get("href", "").startswith("#")}
    assert len(set(ids)) == len(ids)
    assert ways <= {*ids}


def test_every_tenant_stands_once_in_the_section_of_its_outcome() -> None:
    """In the order in which they were given."""
    tenants = of_every_kind()
    root = page(*tenants)
    assert len(root.all("article")) == len(tenants)
    for outcome in Outcome:
        cards = root.one("section", id=outcome.name.lower()).all("article")
        names = [told.tenant for told in tenants if told.outcome is outcome]
        assert [card.one("h3").text for card in cards] == names


def test_every_link_stands_once_in_the_section_of_the_links() -> None:
    """By tenant, with its mini program; the other side is told nothing of this page."""
    tenants = of_every_kind()
    root = page(*tenants)
    for place, told in enumerate(tenants):
        if told.links:
            group = root.one("section", id="links").one("div", id=f"l{place}")
            assert group.one("h3").text == told.tenant
            assert [code.text for code in group.all("code")] == [each.appid for each in told.links]
            found = [each.attributes for each in group.one("ul").all("a")]
            assert found == [{"rel": "noreferrer", "href": each.url} for each in told.links]
            assert root.one("article", id=f"t{place}").one("a").attributes["href"] == f"#l{place}"
    outside = [each for each in root.all("a") if not each.attributes["href"].startswith("#")]
    assert len(outside) == sum(len(told.links) for told in tenants)


def test_without_links_there_is_no_section_for_them() -> None:
    """Nor a count."""
    assert page(entry()).all("section", id="links") == []


def test_a_tenant_shows_what_it_has() -> None:
    """Its environment, alias, order, services, steps, and what steps of your own have noted."""
    facts = {"env": "a1-x", "tranid": "77", "done": ("environment", "dns"), "services": ("api", "web")}
    card = page(entry(**facts, unconfirmed=("web",), metadata={"dns": "a.example"})).one("article")
    assert [fact.text for fact in card.all("span")] == [
        "environment a1-x",
        "alias a1",
        "order 77",
        "services api, web",
        "unconfirmed web",
        "steps environment, dns",
        "dns a.example",
    ]
    assert card.all("p", **{"class": "why"}) == []


def test_a_tenant_that_awaits_a_confirmation_leads_to_its_links() -> None:
    """In place of a story, which would say the same."""
    card = page(entry(outcome=Outcome.AWAITING, links=(link("wx1"), link("wx2")))).one("article")
    assert (card.one("a").text, card.all("p", **{"class": "why"})) == ("2 links to open", [])


@pytest.mark.parametrize(
    ("told", "why"),
    [
        (entry(outcome=Outcome.UNKNOWN, problems=(UNCLEAR,)), "environment may have taken effect " + UNCLEAR.message),
        (entry(outcome=Outcome.CONFLICT, existing=("x-1",), reason="taken by x-1"), "taken by x-1"),
        (entry(outcome=Outcome.UNFINISHED, step="ready"), "stopped at ready"),
        (entry(outcome=Outcome.UNFINISHED), "not started"),
        (entry(outcome=Outcome.UNCONFIRMED, unconfirmed=("api",)), "api there after a send in doubt"),
    ],
)
def test_a_tenant_says_what_keeps_it_from_being_done(told: TenantReport, why: str) -> None:
    """Right below its name; a problem says whether it may have taken effect."""
    name, found, *_ = page(told).one("article").children
    assert (name.name, found.attributes["class"], found.text) == ("h3", "why", why)


def test_every_problem_has_a_line() -> None:
    """With the step, and the mini program or service it is about."""
    problems = (Problem(step="share", appid="wx1", message="no"), Problem(step="services", service="api", message="-1"))
    lines = page(entry(outcome=Outcome.FAILED, problems=problems)).one("article").one("ul").all("li")
    assert [line.text for line in lines] == ["share wx1 no", "services api -1"]


def test_the_timeline_is_folded_and_in_utc() -> None:
    """The oldest first, to the millisecond for a machine; who has no history has no timeline."""
    moments = (HistoryEntry(1782900000.25, "create 1 intended"), HistoryEntry(1782900002.0, "environment a-1 opened"))
    root = page(entry("a"), entry("b"), histories={"a": moments, "somebody else": moments})
    assert root.one("article", id="t1").all("details") == []
    timeline = root.one("article", id="t0").one("details")
    assert timeline.attributes == {}
    assert timeline.one("summary").text == "Timeline (2)"
    assert [line.text for line in timeline.all("li")] == [
        "2026-07-01 10:00:00+00:00 create 1 intended",
        "2026-07-01 10:00:02+00:00 environment a-1 opened",
    ]
    assert timeline.all("time")[0].attributes["datetime"] == "2026-07-01T10:00:00.250+00:00"


def test_a_report_of_nobody_has_no_section() -> None:
    """It is a page all the same."""
    root = page()
    assert root.one("h1").text == "0 of 0 tenants done"
    assert root.all("section") == []
    assert page(entry()).one("h1").text == "1 of 1 tenant done"


def test_a_tenant_that_is_done_takes_few_bytes() -> None:
    """Ten thousand of them are a page that opens at once: none is laid out before it is looked at."""
    facts = {"env": "t" * 28, "tranid": "7" * 14, "done": ("environment", "ready", "share", "services")}
    many = Report(tuple(entry(f"商户{number}", services=("api", "web"), **facts) for number in range(1000)), 1.0)
    text = render_html(many)
    assert len(text.encode()) / 1000 < 450
    assert "content-visibility: auto" in Page(text).root.one("style").text


def test_pages_and_tables_are_loaded_by_who_wants_one() -> None:
    """A program that provisions and reads the report as values loads neither."""
    code = "import json, sys, wxtcb.provision; print(json.dumps([*sys.modules]))"
    loaded = json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)
    assert {"wxtcb.provision.report_html", "wxtcb.provision.report_csv"} & {*loaded} == set()
    assert "wxtcb.provision.report" in loaded
