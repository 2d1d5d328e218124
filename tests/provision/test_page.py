"""The report as a page: read with a parser, without a browser."""

from __future__ import annotations

import html
import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wxtcb.api.environment import ShareLink
from wxtcb.provision import ADVICE, Origin, Outcome, Problem, Report, TenantReport
from wxtcb.provision.journal import Moment
from wxtcb.provision.stopping import CHINA

from .page import Node, Page

ORIGIN = Origin(base_url="https://api.weixin.qq.com", component_appid="wx-component", namespace="shop")
MADE = datetime(2026, 7, 1, 10, 0, 5, tzinfo=UTC)
ORDER = ["unknown", "duplicate", "conflict", "failed", "unfinished", "links", "unconfirmed", "awaiting", "done"]
UNCLEAR = Problem(step="environment", message="sent, but its outcome is unknown", unknown=True)
NASTY = st.text(st.sampled_from("<>&'\"/=;-! ]ab商\n\t\x00\x1b\u202e\u2067\ud800"), max_size=30) | st.text(max_size=30)


def link(name: str, url: str | None = None) -> ShareLink:
    """Return a link for a mini program."""
    return ShareLink(appid=name, url=f"https://mp.weixin.qq.com/confirm?a=1&ticket={name}" if url is None else url)


def entry(tenant: str = "商户", outcome: Outcome = Outcome.DONE, **facts: Any) -> TenantReport:
    """Return what came of a tenant."""
    return TenantReport(**{"tenant": tenant, "alias": "a1", "outcome": outcome, **facts})


def page(*tenants: TenantReport, histories: dict[str, tuple[Moment, ...]] | None = None, **facts: Any) -> Node:
    """Return the page of a report, read."""
    return Page(Report(tenants, **{"elapsed": 1.25, "made_at": MADE, **facts}).to_html(histories or {})).root


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


def shown(text: str) -> str:
    """Return *text* as it is to be read: what turns or hides the rest is written out."""
    hidden = {*map(chr, (*range(9), *range(11, 32), *range(127, 160), *range(0x202A, 0x202F), *range(0x2066, 0x206A)))}
    return "".join(repr(each)[1:-1] if each in hidden or "\ud800" <= each <= "\udfff" else each for each in text)


def test_the_page_loads_nothing_and_runs_nothing() -> None:
    """No element that would, no address but those of the links, and a policy that forbids it all the same."""
    root = page(*of_every_kind(), origin=ORIGIN)
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
    for outcome, advice in ADVICE.items():
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


@pytest.mark.parametrize(
    "url",
    [
        "javascript:alert(1)",
        "JavaScript:alert(1)",
        "data:text/html,<script>",
        "java\nscript:alert(1)",
        " https://x",
        "https://x y",
        "https://x/\u202e",
        "//x",
        "/x",
        "https://",
        "ftp://x",
        "x",
    ],
)
def test_what_is_no_address_of_the_web_is_text(url: str) -> None:
    """It is shown, but leads nowhere."""
    group = page(entry(links=(link("wx1", url),))).one("div", id="l0")
    assert group.one("ul").all("a") == []
    assert group.one("li").text == f"wx1 {shown(url)}"


@pytest.mark.parametrize("url", ["HTTPS://x/?a=1&b='2'\"<", "http://127.0.0.1:80/x#y", "https://例子.中国/路"])
def test_an_address_of_the_web_is_a_link_whatever_else_is_in_it(url: str) -> None:
    """Quotes and ampersands come through."""
    found = page(entry(links=(link("wx1", url),))).one("div", id="l0").one("ul").one("a")
    assert (found.attributes["href"], found.text) == (url, url)


@given(NASTY, NASTY, NASTY)
def test_whatever_a_text_holds_is_only_text(name: str, message: str, value: str) -> None:
    """Names, messages, ids, marks, changes and reasons are shown in full, and make no element."""
    told = entry(
        name,
        Outcome.FAILED,
        alias=value,
        env=value or None,
        tranid=value or None,
        done=(value,),
        links=(link(value, message),),
        services=(value,),
        unconfirmed=(value,),
        existing=(value,),
        marks={message: value},
        problems=(Problem(step=value, message=message),),
    )
    origin = Origin(base_url=message, component_appid=value, namespace=name)
    root = page(told, histories={name: (Moment(0, message),)}, stopped=message or None, origin=origin)
    allowed = {"html", "head", "meta", "title", "style", "body", "header", "main", "nav", "section", "article", "div"}
    allowed |= {"h1", "h2", "h3", "p", "a", "b", "span", "dl", "dt", "dd", "ul", "ol", "li", "code", "time"}
    assert {node.name for node in root.every()} <= allowed | {"details", "summary"}
    card = root.one("article")
    assert card.one("h3").text == shown(name)
    assert card.one("ul").one("li").text == f"{shown(value)} {shown(message)}"
    assert card.one("ol").one("li").text == f"1970-01-01 00:00:00+00:00 {shown(message)}"
    assert shown(value) in [code.text for code in card.all("code")]


def test_the_page_can_be_kept_whatever_is_in_it() -> None:
    """Half a letter that no encoding has is written out as well."""
    told = entry("a\udcffb\x00")
    assert "a\\udcffb\\x00" in Report((told,), 1.0).to_html().encode().decode()


def test_a_tenant_shows_what_it_has() -> None:
    """Its environment, alias, order, services, steps, and what steps of your own have noted."""
    facts = {"env": "a1-x", "tranid": "77", "done": ("environment", "dns"), "services": ("api", "web")}
    card = page(entry(**facts, unconfirmed=("web",), marks={"dns": "a.example"})).one("article")
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
    moments = (Moment(1782900000.25, "create 1 intended"), Moment(1782900002.0, "environment a-1 opened"))
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


def test_the_header_says_of_what_run_it_tells() -> None:
    """When it was made, how long the run took, at which platform, for which component and namespace."""
    root = page(entry(), entry("b", Outcome.FAILED), origin=ORIGIN)
    assert root.one("h1").text == "1 of 2 tenants done"
    assert root.one("title").text == "1 of 2 tenants done · wxtcb provision · 2026-07-01"
    facts = dict(zip((node.text for node in root.all("dt")), (node.text for node in root.all("dd")), strict=True))
    assert facts == {
        "Made": "2026-07-01 10:00:05+00:00",
        "Took": "1.2 s",
        "Platform": "https://api.weixin.qq.com",
        "Component": "wx-component",
        "Namespace": "shop",
    }


def test_a_platform_of_this_machine_is_called_so() -> None:
    """Nobody takes a rehearsal for the real thing."""
    here = Origin(base_url="http://127.0.0.1:8080", component_appid="wx1", namespace="wx1")
    assert page(origin=here).all("dd")[2].text == "http://127.0.0.1:8080 on this machine"


@pytest.mark.parametrize(
    ("seconds", "told"), [(59.4, "59.4 s"), (60.0, "1 min 00 s"), (3599.0, "59 min 59 s"), (3723.0, "1 h 02 min")]
)
def test_how_long_it_took_is_told_as_people_do(seconds: float, told: str) -> None:
    """No finer than matters."""
    assert page(elapsed=seconds).all("dd")[1].text == told


def test_a_run_that_was_stopped_says_why_and_until_when() -> None:
    """With the time of the place whose midnight it is."""
    back = datetime(2026, 8, 1, tzinfo=CHINA) + timedelta(hours=1)
    told = page(stopped="45009: <quota>", come_back_at=back).one("p", **{"class": "stopped"})
    assert told.text == "Stopped early 45009: <quota>\nCome back at 2026-08-01 01:00:00+08:00"
    assert page(stopped="cancelled").one("p", **{"class": "stopped"}).text == "Stopped early cancelled"
    assert page().all("p", **{"class": "stopped"}) == []


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
    text = many.to_html()
    assert len(text.encode()) / 1000 < 450
    assert "content-visibility: auto" in Page(text).root.one("style").text


def test_pages_and_tables_are_loaded_by_who_wants_one() -> None:
    """A program that provisions and reads the report as values loads neither."""
    code = "import json, sys, wxtcb.provision; print(json.dumps([*sys.modules]))"
    loaded = json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)
    assert {"wxtcb.provision.page", "wxtcb.provision.sheet"} & {*loaded} == set()
    assert "wxtcb.provision.report" in loaded


def test_quotes_are_escaped_where_an_attribute_ends_with_one() -> None:
    """As the standard library does it."""
    url = "https://x/\"'<>&"
    assert f'href="{html.escape(url)}"' in Report((entry(links=(link("a", url),)),), 1.0).to_html()
