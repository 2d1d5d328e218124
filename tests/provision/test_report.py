"""The report as a value and as JSON."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

from wxtcb._protocol.errcodes import api_error
from wxtcb.api.environment import ShareLink
from wxtcb.errors import TransportError
from wxtcb.provision import Outcome, Problem, Report, TenantReport
from wxtcb.provision.error_policy import CHINA_TIMEZONE
from wxtcb.provision.report import OUTCOME_ADVICE, RunInfo

LINK = ShareLink(appid="wx1", url="https://mp.weixin.qq.com/x")


def entry(outcome: Outcome, **fields: object) -> TenantReport:
    """Return a tenant's part that ended in *outcome*."""
    return TenantReport(tenant="商户", alias="a", outcome=outcome, **fields)


def test_every_outcome_is_counted() -> None:
    """Also those that nobody had, and done includes what only awaits a confirmation."""
    report = Report((entry(Outcome.DONE), entry(Outcome.AWAITING, links=(LINK,)), entry(Outcome.FAILED)), 1.0)
    assert report.counts == dict.fromkeys(Outcome, 0) | {Outcome.DONE: 1, Outcome.AWAITING: 1, Outcome.FAILED: 1}
    assert (report.done_count, report.all_done, report.link_count) == (2, False, 1)


def test_the_json_holds_all_of_it() -> None:
    """Tenants with links, existing environments and problems; the platform's code and request id with them."""
    refused = api_error(40097, "bad rid: abc", endpoint="/x", rid="abc")
    lost = TransportError("lost", endpoint="/x", sent=True)
    problems = (
        Problem(step="share", message="no", appid="wx1", error=refused),
        Problem(step="services", message="lost", service="api", outcome_unknown=True, error=lost),
    )
    facts = {
        "env": "e",
        "step": "services",
        "done": ("environment",),
        "links": (LINK,),
        "metadata": {"dns": "a.example"},
    }
    told = entry(Outcome.UNKNOWN, problems=problems, **facts)
    document = json.loads(Report((told,), 1.23456, "why", datetime(2026, 11, 23, tzinfo=CHINA_TIMEZONE)).to_json())
    assert document["tenants"] == [
        {
            "tenant": "商户",
            "alias": "a",
            "outcome": "unknown",
            "env": "e",
            "tranid": None,
            "step": "services",
            "done": ["environment"],
            "services": [],
            "unconfirmed": [],
            "links": [{"appid": "wx1", "url": "https://mp.weixin.qq.com/x"}],
            "existing": [],
            "reason": "",
            "problems": [
                {"step": "share", "message": "no", "unknown": False, "appid": "wx1", "errcode": 40097, "rid": "abc"},
                {"step": "services", "message": "lost", "unknown": True, "service": "api"},
            ],
            "marks": {"dns": "a.example"},
        }
    ]
    assert document["counts"]["unknown"] == document["total"] == document["links"] == 1
    assert (document["done"], document["elapsed"], document["stopped"]) == (0, 1.235, "why")
    assert document["come_back_at"] == "2026-11-23T00:00:00+08:00"


def test_the_json_says_where_and_when_it_was_made() -> None:
    """The time to the second, in UTC; no platform where nobody told which."""
    origin = RunInfo(base_url="https://api.weixin.qq.com", component_appid="wx1", namespace="shop")
    before = datetime.now(UTC)
    document = json.loads(Report((), 1.0, run_info=origin).to_json())
    made, after = datetime.fromisoformat(document["made_at"]), datetime.now(UTC)
    assert (made.microsecond, made.utcoffset()) == (0, timedelta(0))
    assert before - timedelta(seconds=1) < made <= after
    assert document["origin"] == {
        "base_url": "https://api.weixin.qq.com",
        "component_appid": "wx1",
        "namespace": "shop",
    }
    assert json.loads(Report((), 1.0).to_json())["origin"] is None


def test_two_reports_of_the_same_are_equal() -> None:
    """Whenever they were made; and what came of a tenant may stand in a set, marks or not."""
    first, second = (Report((), 1.0, created_at=datetime(2026, month, 1, tzinfo=UTC)) for month in (1, 2))
    assert first == second
    assert len({entry(Outcome.DONE, metadata={"dns": "x"}), entry(Outcome.DONE)}) == 2


def test_unconfirmed_services_are_counted() -> None:
    """Their tenant is done, and says which they are."""
    told = entry(Outcome.UNCONFIRMED, services=("api", "web"), unconfirmed=("web",))
    report = Report((told,), 1.0)
    assert (report.done_count, report.all_done, report.unconfirmed_count) == (1, True, 1)
    assert told.summary == "web there after a send in doubt"
    assert json.loads(report.to_json())["unconfirmed"] == 1


def test_a_done_tenant_has_no_story() -> None:
    """There is nothing to tell."""
    assert entry(Outcome.DONE).summary == ""


def test_every_outcome_but_done_has_advice() -> None:
    """Nobody is left alone with a word."""
    assert set(OUTCOME_ADVICE) == set(Outcome) - {Outcome.DONE}
