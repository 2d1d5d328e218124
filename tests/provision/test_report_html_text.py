"""Whatever a text holds, on the page it is text."""

from __future__ import annotations

import html

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wxtcb.provision import Outcome, Problem, Report
from wxtcb.provision.journal import HistoryEntry
from wxtcb.provision.report import RunInfo
from wxtcb.provision.report_html import render_html

from .html_report_parser import entry, link, page, shown

NASTY = st.text(st.sampled_from("<>&'\"/=;-! ]ab商\n\t\x00\x1b\u200e\u2029\u202e\u2067\ud800"), max_size=30) | st.text(
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
        metadata={message: value},
        problems=(Problem(step=value, message=message),),
    )
    origin = RunInfo(base_url=message, component_appid=value, namespace=name)
    root = page(told, histories={name: (HistoryEntry(0, message),)}, stop_reason=message or None, run_info=origin)
    allowed = {"html", "head", "meta", "title", "style", "body", "header", "main", "nav", "section", "article", "div"}
    allowed |= {"h1", "h2", "h3", "p", "a", "b", "span", "dl", "dt", "dd", "ul", "ol", "li", "code", "time"}
    assert {node.name for node in root.every()} <= allowed | {"details", "summary"}
    card = root.one("article")
    assert card.one("h3").text == shown(name)
    assert card.one("ul").one("li").text == f"{shown(value)} {shown(message)}"
    assert card.one("ol").one("li").text == f"1970-01-01 00:00:00+00:00 {shown(message)}"
    assert shown(value) in [code.text for code in card.all("code")]


@pytest.mark.parametrize("mark", ["\u061c", "\u200e", "\u200f", "\u2028", "\u2029", "\u202e", "\u2069"])
def test_what_is_not_seen_and_turns_the_rest_is_written_out(mark: str) -> None:
    """Nobody sees a name that is another."""
    told = render_html(Report((entry(f"a{mark}b"),), 1.0))
    assert mark not in told
    assert f"a\\u{ord(mark):04x}b" in told


def test_the_page_can_be_kept_whatever_is_in_it() -> None:
    """Half a letter that no encoding has is written out as well."""
    told = entry("a\udcffb\x00")
    assert "a\\udcffb\\x00" in render_html(Report((told,), 1.0)).encode().decode()


def test_quotes_are_escaped_where_an_attribute_ends_with_one() -> None:
    """As the standard library does it."""
    url = "https://x/\"'<>&"
    assert f'href="{html.escape(url)}"' in render_html(Report((entry(links=(link("a", url),)),), 1.0))
