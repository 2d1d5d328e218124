"""HTML report: sections, tenants, links, header and escaping, read with a strict parser."""

from __future__ import annotations

import html
import json
import subprocess
import sys
from datetime import datetime, timedelta

import pytest
from hypothesis import given, strategies as st

from wxtcb.provision import Outcome, Problem, Report, TenantReport
from wxtcb.provision.error_policy import CHINA_TIMEZONE
from wxtcb.provision.record import HistoryEntry
from wxtcb.provision.report import OUTCOME_ADVICE, RunInfo
from wxtcb.provision.report_html import render_html

from .html_report_parser import RUN_INFO, Page, entry, link, page, shown

ORDER = ["unknown", "duplicate", "conflict", "failed", "unfinished", "links", "unconfirmed", "awaiting", "done"]
OUTCOME_UNKNOWN = Problem(step="environment", message="sent, but its outcome is unknown", outcome_unknown=True)


def two_of_each_outcome() -> tuple[TenantReport, ...]:
    """Return two tenants of every outcome, mixed; some have links."""
    outcomes = [outcome for _ in range(2) for outcome in Outcome]
    return tuple(
        entry(
            f"商户{number}",
            outcome,
            links=(link(f"wx{number}a"), link(f"wx{number}b")) if outcome in LINKED else (),
            problems=(OUTCOME_UNKNOWN,) if outcome is Outcome.UNKNOWN else (),
        )
        for number, outcome in enumerate(outcomes)
    )


LINKED = (Outcome.FAILED, Outcome.AWAITING)


def test_page_loads_and_runs_nothing() -> None:
    """It has no such element and no URL except links, and a content security policy forbids the rest."""
    root = page(*two_of_each_outcome(), run_info=RUN_INFO)
    names = {node.name for node in root.every()}
    assert names & {"script", "img", "link", "iframe", "object", "form", "base", "svg", "video"} == set()
    attributes = {name for node in root.every() for name in node.attributes}
    assert attributes & {"src", "srcset", "action", "background", "poster"} == set()
    assert not any(name.startswith("on") for name in attributes)
    assert not any(word in root.one("style").text for word in ("url(", "@import", "</"))
    policy = root.one("meta", **{"http-equiv": "Content-Security-Policy"}).attributes["content"]
    assert policy == "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
    assert root.one("meta", name="referrer").attributes["content"] == "no-referrer"


def test_sections_are_sorted_by_need_of_action() -> None:
    """The links are between the failed and the completed outcomes."""
    sections = page(*two_of_each_outcome()).all("section")
    assert [section.attributes["id"] for section in sections] == ORDER


def test_section_has_advice_and_count() -> None:
    """The advice is that of the outcome."""
    root = page(*two_of_each_outcome())
    for outcome, advice in OUTCOME_ADVICE.items():
        section = root.one("section", id=outcome.name.lower())
        assert section.one("p", **{"class": "advice"}).text == advice
        assert section.one("h2").text == f"{outcome.value.capitalize()} 2 Top"


def test_counts_link_to_the_sections() -> None:
    """There is one for every outcome that occurred, and one for the links."""
    root = page(*two_of_each_outcome())
    counts = root.one("nav").all("a")
    assert {each.attributes["href"] for each in counts} == {f"#{name}" for name in ORDER}
    assert {each.text for each in counts} >= {"2 failed", "2 awaiting confirmation", "8 links to open"}
    one, two = entry(links=(link("wx1"),)), entry(links=(link("wx1"), link("wx2")))
    assert [each.text for each in page(one).one("nav").all("a")] == ["1 done", "1 link to open"]
    assert [each.text for each in page(two).one("nav").all("a")] == ["1 done", "2 links to open"]


def test_every_anchor_exists_once() -> None:
    """Ids are unique, and each internal link has its target."""
    nodes = page(*two_of_each_outcome()).every()
    ids = [node.attributes["id"] for node in nodes if "id" in node.attributes]
    targets = {node.attributes["href"][1:] for node in nodes if node.attributes.get("href", "").startswith("#")}
    assert len(set(ids)) == len(ids)
    assert targets <= {*ids}


def test_tenant_is_once_in_the_section_of_its_outcome() -> None:
    """Tenants have the order of the report."""
    tenants = two_of_each_outcome()
    root = page(*tenants)
    assert len(root.all("article")) == len(tenants)
    for outcome in Outcome:
        cards = root.one("section", id=outcome.name.lower()).all("article")
        names = [tenant.tenant for tenant in tenants if tenant.outcome is outcome]
        assert [card.one("h3").text for card in cards] == names


def test_link_is_once_in_the_links_section() -> None:
    """Links are grouped by tenant, name the mini program, and send no referrer."""
    tenants = two_of_each_outcome()
    root = page(*tenants)
    for index, tenant in enumerate(tenants):
        if tenant.links:
            group = root.one("section", id="links").one("div", id=f"l{index}")
            assert group.one("h3").text == tenant.tenant
            assert [code.text for code in group.all("code")] == [each.appid for each in tenant.links]
            found = [each.attributes for each in group.one("ul").all("a")]
            assert found == [{"rel": "noreferrer", "href": each.url} for each in tenant.links]
            assert root.one("article", id=f"t{index}").one("a").attributes["href"] == f"#l{index}"
    outside = [each for each in root.all("a") if not each.attributes["href"].startswith("#")]
    assert len(outside) == sum(len(tenant.links) for tenant in tenants)


def test_page_without_links_has_no_links_section() -> None:
    """The counts have no link to it either."""
    assert page(entry()).all("section", id="links") == []


def test_tenant_has_its_details() -> None:
    """These are environment, alias, order, services, steps and metadata."""
    details = {"env": "a1-x", "tranid": "77", "done": ("environment", "dns"), "services": ("api", "web")}
    card = page(entry(**details, unconfirmed=("web",), metadata={"dns": "a.example"})).one("article")
    assert [each.text for each in card.all("span")] == [
        "environment a1-x",
        "alias a1",
        "order 77",
        "services api, web",
        "unconfirmed web",
        "steps environment, dns",
        "dns a.example",
    ]
    assert card.all("p", **{"class": "why"}) == []


def test_awaiting_tenant_links_to_its_links() -> None:
    """It has no summary, which would say the same."""
    card = page(entry(outcome=Outcome.AWAITING, links=(link("wx1"), link("wx2")))).one("article")
    assert (card.one("a").text, card.all("p", **{"class": "why"})) == ("2 links to open", [])


@pytest.mark.parametrize(
    ("tenant", "reason"),
    [
        (
            entry(outcome=Outcome.UNKNOWN, problems=(OUTCOME_UNKNOWN,)),
            "environment may have taken effect " + OUTCOME_UNKNOWN.message,
        ),
        (entry(outcome=Outcome.CONFLICT, existing=("x-1",), reason="taken by x-1"), "taken by x-1"),
        (entry(outcome=Outcome.UNFINISHED, step="ready"), "stopped at ready"),
        (entry(outcome=Outcome.UNFINISHED), "not started"),
        (entry(outcome=Outcome.UNCONFIRMED, unconfirmed=("api",)), "api existed after an ambiguous request"),
    ],
)
def test_tenant_has_the_reason_below_its_name(tenant: TenantReport, reason: str) -> None:
    """A problem says whether it may have taken effect."""
    name, found, *_ = page(tenant).one("article").children
    assert (name.name, found.attributes["class"], found.text) == ("h3", "why", reason)


def test_problem_has_a_line_of_its_own() -> None:
    """It names the step, and the mini program or service."""
    problems = (Problem(step="share", appid="wx1", message="no"), Problem(step="services", service="api", message="-1"))
    lines = page(entry(outcome=Outcome.FAILED, problems=problems)).one("article").one("ul").all("li")
    assert [line.text for line in lines] == ["share wx1 no", "services api -1"]


def test_timeline_is_folded_and_in_china_time() -> None:
    """The oldest entry is first; a tenant without history has no timeline."""
    entries = (HistoryEntry(1782900000.25, "create 1 intended"), HistoryEntry(1782900002.0, "environment a-1 created"))
    root = page(entry("a"), entry("b"), histories={"a": entries, "another tenant": entries})
    assert root.one("article", id="t1").all("details") == []
    timeline = root.one("article", id="t0").one("details")
    assert timeline.attributes == {}
    assert timeline.one("summary").text == "Timeline (2)"
    assert [line.text for line in timeline.all("li")] == [
        "2026-07-01 18:00:00+08:00 create 1 intended",
        "2026-07-01 18:00:02+08:00 environment a-1 created",
    ]
    assert timeline.all("time")[0].attributes["datetime"] == "2026-07-01T18:00:00.250+08:00"


def test_time_that_has_no_china_time_is_shown() -> None:
    """The last hours of the year 9999 stay in UTC."""
    root = page(entry(), histories={entry().tenant: (HistoryEntry(253402300799.0, "noted"),)})
    assert root.one("details").one("li").text == "9999-12-31 23:59:59+00:00 noted"


def test_report_without_tenants_has_no_section() -> None:
    """It is a valid page."""
    root = page()
    assert root.one("h1").text == "0 of 0 tenants done"
    assert root.all("section") == []
    assert page(entry()).one("h1").text == "1 of 1 tenant done"


def test_done_tenant_takes_few_bytes() -> None:
    """A page of ten thousand opens at once, because cards are laid out only when visible."""
    details = {"env": "t" * 28, "tranid": "7" * 14, "done": ("environment", "ready", "share", "services")}
    many = Report(tuple(entry(f"商户{number}", services=("api", "web"), **details) for number in range(1000)), 1.0)
    text = render_html(many)
    assert len(text.encode()) / 1000 < 450
    assert "content-visibility: auto" in Page(text).root.one("style").text


def test_renderers_are_imported_at_first_use() -> None:
    """`import wxtcb.provision` loads neither of them."""
    code = "import json, sys, wxtcb.provision; print(json.dumps([*sys.modules]))"
    loaded = json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)
    assert {"wxtcb.provision.report_html", "wxtcb.provision.report_csv"} & {*loaded} == set()
    assert "wxtcb.provision.report" in loaded


def test_header_has_run_details() -> None:
    """These are time, duration, platform, component and namespace."""
    root = page(entry(), entry("b", Outcome.FAILED), run_info=RUN_INFO)
    assert root.one("h1").text == "1 of 2 tenants done"
    assert root.one("title").text == "1 of 2 tenants done · wxtcb provision · 2026-07-01"
    details = dict(zip((node.text for node in root.all("dt")), (node.text for node in root.all("dd")), strict=True))
    assert details == {
        "Created": "2026-07-01 18:00:05+08:00",
        "Duration": "1.2 s",
        "Platform": "https://api.weixin.qq.com",
        "Component": "wx-component",
        "Namespace": "shop",
    }


def test_loopback_platform_is_marked() -> None:
    """A report of a sandbox cannot be taken for one of the real platform."""
    here = RunInfo(base_url="http://127.0.0.1:8080", component_appid="wx1", namespace="wx1")
    assert page(run_info=here).all("dd")[2].text == "http://127.0.0.1:8080 on this machine"


@pytest.mark.parametrize(
    ("seconds", "shown"), [(59.4, "59.4 s"), (60.0, "1 min 00 s"), (3599.0, "59 min 59 s"), (3723.0, "1 h 02 min")]
)
def test_duration_has_readable_units(seconds: float, shown: str) -> None:
    """It has the two largest units."""
    assert page(elapsed=seconds).all("dd")[1].text == shown


def test_early_stop_has_reason_and_retry_time() -> None:
    """The time has the offset of China, where the quota resets."""
    back = datetime(2026, 8, 1, tzinfo=CHINA_TIMEZONE) + timedelta(hours=1)
    stopped = page(stop_message="45009: <quota>", retry_after=back).one("p", **{"class": "stopped"})
    assert stopped.text == "Stopped early 45009: <quota>\nRetry after 2026-08-01 01:00:00+08:00"
    assert page(stop_message="cancelled").one("p", **{"class": "stopped"}).text == "Stopped early cancelled"
    assert page().all("p", **{"class": "stopped"}) == []


TEXT = st.text(st.sampled_from("<>&'\"/=;-! ]ab商\n\t\x00\x1b\u200e\u2029\u202e\u2067\ud800"), max_size=30) | st.text(
    max_size=30
)


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
        "https://x/\u200f",
        "//x",
        "/x",
        "https://",
        "ftp://x",
        "x",
    ],
)
def test_url_that_is_not_a_plain_web_url_is_text(url: str) -> None:
    """It is shown, but is not a link."""
    group = page(entry(links=(link("wx1", url),))).one("div", id="l0")
    assert group.one("ul").all("a") == []
    assert group.one("li").text == f"wx1 {shown(url)}"


@pytest.mark.parametrize("url", ["HTTPS://x/?a=1&b='2'\"<", "http://127.0.0.1:80/x#y", "https://例子.中国/路"])
def test_web_url_is_a_link(url: str) -> None:
    """Quotes and ampersands survive."""
    found = page(entry(links=(link("wx1", url),))).one("div", id="l0").one("ul").one("a")
    assert (found.attributes["href"], found.text) == (url, url)


@given(TEXT, TEXT, TEXT)
def test_any_text_creates_no_element(name: str, message: str, value: str) -> None:
    """Names, messages, ids, metadata and history are shown in full."""
    tenant = entry(
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
        metadata={message: value},
        problems=(Problem(step=value, message=message),),
    )
    info = RunInfo(base_url=message, component_appid=value, namespace=name)
    root = page(tenant, histories={name: (HistoryEntry(0, message),)}, stop_message=message, run_info=info)
    allowed = {"html", "head", "meta", "title", "style", "body", "header", "main", "nav", "section", "article", "div"}
    allowed |= {"h1", "h2", "h3", "p", "a", "b", "span", "dl", "dt", "dd", "ul", "ol", "li", "code", "time"}
    assert {node.name for node in root.every()} <= allowed | {"details", "summary"}
    card = root.one("article")
    assert card.one("h3").text == shown(name)
    assert card.one("ul").one("li").text == f"{shown(value)} {shown(message)}"
    assert card.one("ol").one("li").text == f"1970-01-01 08:00:00+08:00 {shown(message)}"
    assert shown(value) in [code.text for code in card.all("code")]


@pytest.mark.parametrize("mark", ["\u061c", "\u200e", "\u200f", "\u2028", "\u2029", "\u202e", "\u2069"])
def test_bidi_character_is_spelled_out(mark: str) -> None:
    """No name can look like another."""
    text = render_html(Report((entry(f"a{mark}b"),), 1.0))
    assert mark not in text
    assert f"a\\u{ord(mark):04x}b" in text


def test_unencodable_text_is_spelled_out() -> None:
    """Half a surrogate pair does not break encoding the page."""
    tenant = entry("a\udcffb\x00")
    assert "a\\udcffb\\x00" in render_html(Report((tenant,), 1.0)).encode().decode()


def test_quotes_in_an_attribute_are_escaped() -> None:
    """The result equals that of the standard library."""
    url = "https://x/\"'<>&"
    assert f'href="{html.escape(url)}"' in render_html(Report((entry(links=(link("a", url),)),), 1.0))
