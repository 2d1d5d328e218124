"""What stands above on the page of a report."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from wxtcb.provision import Outcome
from wxtcb.provision.error_policy import CHINA_TIMEZONE
from wxtcb.provision.report import RunInfo

from .html_report_parser import ORIGIN, entry, page


def test_the_header_says_of_what_run_it_tells() -> None:
    """When it was made, how long the run took, at which platform, for which component and namespace."""
    root = page(entry(), entry("b", Outcome.FAILED), run_info=ORIGIN)
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
    here = RunInfo(base_url="http://127.0.0.1:8080", component_appid="wx1", namespace="wx1")
    assert page(run_info=here).all("dd")[2].text == "http://127.0.0.1:8080 on this machine"


@pytest.mark.parametrize(
    ("seconds", "told"), [(59.4, "59.4 s"), (60.0, "1 min 00 s"), (3599.0, "59 min 59 s"), (3723.0, "1 h 02 min")]
)
def test_how_long_it_took_is_told_as_people_do(seconds: float, told: str) -> None:
    """No finer than matters."""
    assert page(elapsed=seconds).all("dd")[1].text == told


def test_a_run_that_was_stopped_says_why_and_until_when() -> None:
    """With the time of the place whose midnight it is."""
    back = datetime(2026, 8, 1, tzinfo=CHINA_TIMEZONE) + timedelta(hours=1)
    told = page(stop_reason="45009: <quota>", retry_after=back).one("p", **{"class": "stopped"})
    assert told.text == "Stopped early 45009: <quota>\nCome back at 2026-08-01 01:00:00+08:00"
    assert page(stop_reason="cancelled").one("p", **{"class": "stopped"}).text == "Stopped early cancelled"
    assert page().all("p", **{"class": "stopped"}) == []
