"""The report as a table for spreadsheets."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wxtcb.api.environment import ShareLink
from wxtcb.provision import Outcome, Problem, Report, TenantReport
from wxtcb.provision.report import RunInfo
from wxtcb.provision.report_csv import render_csv

ORIGIN = RunInfo(base_url="https://api.weixin.qq.com", component_appid="wx1", namespace="shop")
MADE = datetime(2026, 7, 1, 10, 0, 5, tzinfo=UTC)
LINKS = tuple(ShareLink(appid=f"wx{number}", url=f"https://mp.weixin.qq.com/{number}") for number in (1, 2))
CHANGED = ("123456789012", "007", "1e5", "12.5E+3", "3/4", "1.50", "12:30", "2026-11-22", "TRUE", "false")
CHANGED += ("MAR1", "1-Mar", "sept 2026", "March 5, 2026", "22 nov 26")
UNCHANGED = ("12345678901", "1234567890123a", "a=b", "一=二", "'=1")
UNCHANGED += ("0", "7", "007a", "1e5x", "e5", "mary", "market 3a", "t1")
FORMULAS = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20", "\t", "\r", "\n")


def entry(**facts: Any) -> TenantReport:
    """Return what came of a tenant."""
    return TenantReport(**{"tenant": "商户", "alias": "a", "outcome": Outcome.DONE, **facts})


def read(*tenants: TenantReport, **facts: Any) -> list[dict[str, str]]:
    """Write a report of *tenants* and read it again, as a program would."""
    text = render_csv(Report(tenants, 1.0, **facts))
    return list(csv.DictReader(io.StringIO(text, newline=""), strict=True))


def test_a_row_says_what_came_of_a_tenant_and_where() -> None:
    """Names are parted by `;`, and each link has a line of its own."""
    done = entry(
        outcome=Outcome.UNCONFIRMED,
        env="a-1",
        tranid="77",
        done=("environment", "ready"),
        services=("api", "web"),
        unconfirmed=("web",),
        links=LINKS,
    )
    assert read(done, run_info=ORIGIN, created_at=MADE) == [
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
            "story": "web there after a send in doubt",
            "made_at": "2026-07-01T10:00:05+00:00",
            "base_url": "https://api.weixin.qq.com",
            "component_appid": "wx1",
            "namespace": "shop",
        }
    ]


def test_what_keeps_a_tenant_from_being_done_is_told() -> None:
    """The environments in the way, and the story; without an origin its columns are empty."""
    blocked = entry(outcome=Outcome.CONFLICT, existing=("x-1", "x-2"), reason="taken")
    failed = entry(outcome=Outcome.FAILED, problems=(Problem(step="share", appid="wx1", message="no"),))
    first, second = read(blocked, failed)
    assert (first["existing"], first["story"], second["story"]) == ("x-1;x-2", "taken", "share wx1: no")
    assert {first[name] for name in ("env", "tranid", "base_url", "component_appid", "namespace")} == {""}


def test_every_mark_of_a_step_of_your_own_has_a_column() -> None:
    """Whoever has none has an empty cell."""
    first, second = read(entry(metadata={"dns": "a.example"}), entry(metadata={"mail": "on"}))
    assert (first["mark dns"], first["mark mail"]) == ("a.example", "")
    assert (second["mark dns"], second["mark mail"]) == ("", "on")


def test_a_report_of_nobody_is_a_header() -> None:
    """The columns are there all the same."""
    assert render_csv(Report((), 0.0)).startswith('"tenant","alias",')
    assert read() == []


@pytest.mark.parametrize("name", [f"{sign}cmd()" for sign in FORMULAS] + [" =1", "\u3000+1", *CHANGED])
def test_what_a_spreadsheet_would_carry_out_or_change_is_text(name: str) -> None:
    """An apostrophe stands before it, in whatever column."""
    told = entry(tenant=name, alias=name, env=name, services=(name,), metadata={"m": name})
    assert [read(told)[0][column] for column in ("tenant", "alias", "env", "services", "mark m")] == [f"'{name}"] * 5


@pytest.mark.parametrize("name", UNCHANGED)
def test_what_is_text_anyway_stays_as_it_is(name: str) -> None:
    """Only the beginning of a cell makes a formula of it."""
    assert read(entry(tenant=name))[0]["tenant"] == name


def test_a_cell_is_no_longer_than_a_spreadsheet_takes() -> None:
    """Its end is cut, and says so."""
    told = entry(outcome=Outcome.CONFLICT, reason="x" * 32_768)
    assert read(told)[0]["story"] == "x" * 32_766 + "…"
    assert read(entry(outcome=Outcome.CONFLICT, reason="x" * 32_767))[0]["story"] == "x" * 32_767


@given(st.text(max_size=40), st.text(max_size=40))
def test_whatever_a_text_holds_it_comes_back(name: str, reason: str) -> None:
    """Quotes, separators and line breaks included; no cell begins as a formula does."""
    told = entry(tenant=name, outcome=Outcome.CONFLICT, reason=reason)
    (row,) = read(told)
    for value, cell in ((name, row["tenant"]), (reason, row["story"])):
        assert cell in (value, f"'{value}")
        assert not cell.lstrip().startswith(FORMULAS)
