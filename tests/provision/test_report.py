"""The report as a value and as JSON."""

from __future__ import annotations

import json
from datetime import datetime

from wxtcb.api.environment import ShareLink
from wxtcb.errcodes import api_error
from wxtcb.errors import TransportError
from wxtcb.provision import ADVICE, Outcome, Problem, Report, TenantReport
from wxtcb.provision.stopping import CHINA

LINK = ShareLink(appid="wx1", url="https://mp.weixin.qq.com/x")


def entry(outcome: Outcome, **fields: object) -> TenantReport:
    """Return a tenant's part that ended in *outcome*."""
    return TenantReport(tenant="商户", alias="a", outcome=outcome, **fields)


def test_every_outcome_is_counted() -> None:
    """Also those that nobody had, and done includes what only awaits a confirmation."""
    report = Report((entry(Outcome.DONE), entry(Outcome.AWAITING, links=(LINK,)), entry(Outcome.FAILED)), 1.0)
    assert report.counts == dict.fromkeys(Outcome, 0) | {Outcome.DONE: 1, Outcome.AWAITING: 1, Outcome.FAILED: 1}
    assert (report.done, report.all_done, report.links) == (2, False, 1)


def test_the_json_holds_all_of_it() -> None:
    """Tenants with links, existing environments and problems; the platform's code and request id with them."""
    refused = api_error(40097, "bad rid: abc", endpoint="/x", rid="abc")
    lost = TransportError("lost", endpoint="/x", sent=True)
    problems = (
        Problem(step="share", message="no", appid="wx1", error=refused),
        Problem(step="services", message="lost", service="api", unknown=True, error=lost),
    )
    told = entry(Outcome.UNKNOWN, env="e", step="services", done=("environment",), links=(LINK,), problems=problems)
    document = json.loads(Report((told,), 1.23456, "why", datetime(2026, 11, 23, tzinfo=CHINA)).to_json())
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
        }
    ]
    assert document["counts"]["unknown"] == document["total"] == document["links"] == 1
    assert (document["done"], document["elapsed"], document["stopped"]) == (0, 1.235, "why")
    assert document["come_back_at"] == "2026-11-23T00:00:00+08:00"


def test_unconfirmed_services_are_counted() -> None:
    """Their tenant is done, and says which they are."""
    told = entry(Outcome.UNCONFIRMED, services=("api", "web"), unconfirmed=("web",))
    report = Report((told,), 1.0)
    assert (report.done, report.all_done, report.unconfirmed) == (1, True, 1)
    assert told.story == "web there after a send in doubt"
    assert json.loads(report.to_json())["unconfirmed"] == 1


def test_a_done_tenant_has_no_story() -> None:
    """There is nothing to tell."""
    assert entry(Outcome.DONE).story == ""


def test_every_outcome_but_done_has_advice() -> None:
    """Nobody is left alone with a word."""
    assert set(ADVICE) == set(Outcome) - {Outcome.DONE}
