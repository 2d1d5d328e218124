"""HTML reports for tests: renders them, and parses them more strictly than a browser."""

from __future__ import annotations

from datetime import UTC, datetime
from html.parser import HTMLParser
from typing import Any

from attrs import define, field

from wxtcb.api.environment import ShareLink
from wxtcb.provision import Outcome, Report, TenantReport
from wxtcb.provision.record import HistoryEntry
from wxtcb.provision.report import RunInfo
from wxtcb.provision.report_html import render_html

RUN_INFO = RunInfo(base_url="https://api.weixin.qq.com", component_appid="wx-component", namespace="shop")
CREATED_AT = datetime(2026, 7, 1, 10, 0, 5, tzinfo=UTC)

VOID = {"meta"}
PLAIN = {"style", "title"}


@define(eq=False)
class Node:
    """Element with its attributes, children and text."""

    name: str
    attributes: dict[str, str]
    parent: Node | None = None
    children: list[Node] = field(factory=list)
    texts: list[str] = field(factory=list)

    @property
    def text(self) -> str:
        """Text of the element and all its children."""
        return "".join(self.texts)

    def all(self, name: str, /, **attributes: str) -> list[Node]:
        """Return all descendants with this name and these attributes, in document order."""
        found = []
        for child in self.children:
            if child.name == name and attributes.items() <= child.attributes.items():
                found.append(child)
            found += child.all(name, **attributes)
        return found

    def one(self, name: str, /, **attributes: str) -> Node:
        """Return the only descendant with this name and these attributes."""
        (found,) = self.all(name, **attributes)
        return found

    def every(self) -> list[Node]:
        """Return all descendants."""
        return [each for child in self.children for each in (child, *child.every())]


class Page(HTMLParser):
    """Parser that fails if an element is not closed, or if an attribute is duplicated or has no value."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.root = self.at = Node("", {})
        self.feed(text)
        self.close()
        assert self.at is self.root, f"<{self.at.name}> is not closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(set(names)) == len(names), f"<{tag}> has an attribute twice"
        assert all(value is not None for _, value in attrs), f"<{tag}> has an attribute without a value"
        node = Node(tag, {name: value or "" for name, value in attrs}, self.at)
        self.at.children.append(node)
        if tag not in VOID:
            self.at = node

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        raise AssertionError(f"<{tag}/>")

    def handle_endtag(self, tag: str) -> None:
        assert tag == self.at.name, f"</{tag}> closes <{self.at.name}>"
        assert self.at.parent is not None
        self.at = self.at.parent

    def handle_data(self, data: str) -> None:
        node: Node | None = self.at
        while node is not None:
            node.texts.append(data)
            node = node.parent

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"a comment: {data}")


def link(name: str, url: str | None = None) -> ShareLink:
    """Return a link for a mini program."""
    return ShareLink(appid=name, url=f"https://mp.weixin.qq.com/confirm?a=1&ticket={name}" if url is None else url)


def entry(tenant: str = "商户", outcome: Outcome = Outcome.DONE, **fields: Any) -> TenantReport:
    """Return a tenant report."""
    return TenantReport(**{"tenant": tenant, "alias": "a1", "outcome": outcome, **fields})


def page(*tenants: TenantReport, histories: dict[str, tuple[HistoryEntry, ...]] | None = None, **fields: Any) -> Node:
    """Render a report of *tenants* and return the root of its page."""
    return Page(
        render_html(Report(tenants, **{"elapsed": 1.25, "created_at": CREATED_AT, **fields}), histories or {})
    ).root


def shown(text: str) -> str:
    """Return *text* as the page shows it: control and bidi characters are spelled out."""
    hidden = {*map(chr, (*range(9), *range(11, 32), *range(127, 160), *range(0x2028, 0x202F), *range(0x2066, 0x206A)))}
    hidden |= {"\u061c", "\u200e", "\u200f"}
    return "".join(repr(each)[1:-1] if each in hidden or "\ud800" <= each <= "\udfff" else each for each in text)
