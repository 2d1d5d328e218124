"""Report: counts, summaries and JSON."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

from wxtcb._protocol.errcodes import api_error
from wxtcb.api.environment import ShareLink
from wxtcb.errors import TransportError
from wxtcb.provision import Outcome, Problem, Report, StopReason, TenantReport
from wxtcb.provision.error_policy import CHINA_TIMEZONE
from wxtcb.provision.report import OUTCOME_ADVICE, RunInfo

LINK = ShareLink(appid="wx1", url="https://mp.weixin.qq.com/x")


def entry(outcome: Outcome, **fields: object) -> TenantReport:
    """Return a tenant report with *outcome*."""
    return TenantReport(tenant="商户", alias="a", outcome=outcome, **fields)


def test_counts_include_every_outcome() -> None:
    """Outcomes with 0 are included, and awaiting a confirmation counts as done."""
    report = Report((entry(Outcome.DONE), entry(Outcome.AWAITING, links=(LINK,)), entry(Outcome.FAILED)), 1.0)
    assert report.counts == dict.fromkeys(Outcome, 0) | {Outcome.DONE: 1, Outcome.AWAITING: 1, Outcome.FAILED: 1}
    assert (report.done_count, report.all_done, report.link_count) == (2, False, 1)


def test_report_json_has_all_fields() -> None:
    """Tenants have links and problems, and problems the error code and request id."""
    refused = api_error(40097, "bad rid: abc", endpoint="/x", rid="abc")
    lost = TransportError("lost", endpoint="/x", sent=True)
    problems = (
        Problem(step="share", message="no", appid="wx1", error=refused),
        Problem(step="services", message="lost", service="api", outcome_unknown=True, error=lost),
    )
    fields = {
        "env": "e",
        "step": "services",
        "done": ("environment",),
        "links": (LINK,),
        "metadata": {"dns": "a.example"},
    }
    unknown = entry(Outcome.UNKNOWN, problems=problems, **fields)
    retry_after = datetime(2026, 11, 23, tzinfo=CHINA_TIMEZONE)
    report = Report((unknown,), 1.23456, StopReason.QUOTA_EXCEEDED, "why", retry_after)
    document = json.loads(report.to_json())
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
            "metadata": {"dns": "a.example"},
        }
    ]
    assert document["counts"]["unknown"] == document["total"] == document["links"] == 1
    assert (document["done"], document["elapsed"], document["stopped"]) == (0, 1.235, "why")
    assert document["stop_reason"] == "quota_exceeded"
    assert document["retry_after"] == "2026-11-23T00:00:00+08:00"


def test_report_json_has_time_and_run_info() -> None:
    """The time is in UTC, in whole seconds; without run information the field is null."""
    info = RunInfo(base_url="https://api.weixin.qq.com", component_appid="wx1", namespace="shop")
    before = datetime.now(UTC)
    document = json.loads(Report((), 1.0, run_info=info).to_json())
    created, after = datetime.fromisoformat(document["created_at"]), datetime.now(UTC)
    assert (created.microsecond, created.utcoffset()) == (0, timedelta(0))
    assert before - timedelta(seconds=1) < created <= after
    assert document["run_info"] == {
        "base_url": "https://api.weixin.qq.com",
        "component_appid": "wx1",
        "namespace": "shop",
    }
    assert json.loads(Report((), 1.0).to_json())["run_info"] is None


def test_equality_ignores_the_creation_time() -> None:
    """A tenant report is hashable, with or without metadata."""
    first, second = (Report((), 1.0, created_at=datetime(2026, month, 1, tzinfo=UTC)) for month in (1, 2))
    assert first == second
    assert len({entry(Outcome.DONE, metadata={"dns": "x"}), entry(Outcome.DONE)}) == 2


def test_unconfirmed_services_are_counted() -> None:
    """Their tenant is done, and its summary names them."""
    tenant = entry(Outcome.UNCONFIRMED, services=("api", "web"), unconfirmed=("web",))
    report = Report((tenant,), 1.0)
    assert (report.done_count, report.all_done, report.unconfirmed_count) == (1, True, 1)
    assert tenant.summary == "web existed after an ambiguous request"
    assert json.loads(report.to_json())["unconfirmed"] == 1


def test_summary_of_a_done_tenant_is_empty() -> None:
    """There is no reason to give."""
    assert entry(Outcome.DONE).summary == ""


def test_every_outcome_but_done_has_advice() -> None:
    """A done tenant needs none."""
    assert set(OUTCOME_ADVICE) == set(Outcome) - {Outcome.DONE}


def test_summary_of_an_awaiting_tenant_counts_its_links() -> None:
    """The links themselves are in the report."""
    assert entry(Outcome.AWAITING, links=(LINK,)).summary == "1 to confirm"


def test_tenant_without_a_step_is_not_started() -> None:
    """An unfinished tenant with a step was started."""
    assert entry(Outcome.UNFINISHED).not_started
    assert not entry(Outcome.UNFINISHED, step="ready").not_started


def test_lone_surrogate_is_escaped() -> None:
    """It is no valid Unicode, but its JSON escape can be read back; times stay ISO 8601."""
    report = Report((TenantReport(tenant="a", alias="a", outcome=Outcome.CONFLICT, reason="\ud800 商户"),), 1.0)
    document = json.loads(report.to_json())
    assert document["tenants"][0]["reason"] == "\ud800 商户"
    assert document["created_at"] == report.created_at.isoformat()
    assert b"\\ud800" in report.to_json()
