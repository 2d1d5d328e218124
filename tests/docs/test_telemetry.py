"""docs/telemetry.md keeps its promises: its code runs, and its tables miss no figure."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import sys
from pathlib import Path
from typing import get_args

import attrs
import prometheus_client
import pytest

from wxtcb import errors, events
from wxtcb._http.retry import FailureKind
from wxtcb.sandbox import Sandbox
from wxtcb.telemetry import PrometheusHook
from wxtcb.telemetry.metrics import COUNTERS, GAUGES

ROOT = Path(__file__).parents[2]
DOCS = (ROOT / "docs" / "telemetry.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```$", DOCS, re.MULTILINE | re.DOTALL)
SESSION, LOG, OTEL, PROMETHEUS, URLS, SENTRY, OWN = BLOCKS

MAKE_A_CALL = """
import asyncio

import prometheus_client
from wxtcb.api import environment

async def main():
    async with session:
        await environment.describe_envs(session)
        return prometheus_client.generate_latest().decode()

page = asyncio.run(main())
"""


async def output_of(*blocks):
    """Run blocks as one program, warnings being errors, against a sandbox; return what it prints."""
    async with Sandbox() as box:
        seen = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "WXTCB_BASE_URL": box.url,
            "WXTCB_COMPONENT_APPID": box.component_appid,
            "WXTCB_COMPONENT_APPSECRET": box.component_appsecret,
            "WXTCB_TICKET": box.ticket,
        }
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-W", "error", "-c", "\n".join(blocks), stdout=asyncio.subprocess.PIPE, env=seen
        )
        output, _ = await process.communicate()
    assert process.returncode == 0
    return output.decode()


async def test_the_log_can_be_had_elsewhere():
    """The printed hook writes to the logger it names."""
    seen = await output_of(
        "import logging, sys; logging.basicConfig(stream=sys.stdout, level=10)", SESSION, LOG, MAKE_A_CALL
    )
    assert "DEBUG:shop.wechat:/componenttcb/describeenvs: ok (sent 1 times" in seen


async def test_the_opentelemetry_hook_runs():
    """The printed session makes its call, without an SDK."""
    assert await output_of(SESSION, OTEL, MAKE_A_CALL, "print('made')") == "made\n"


async def test_the_prometheus_hook_runs():
    """The printed session fills the registry of the process."""
    page = await output_of(SESSION, PROMETHEUS, MAKE_A_CALL, "print(page)")
    assert "wxtcb_call_duration_seconds_count{" in page
    assert "wxtcb_token_age_seconds{" in page


async def test_the_filters_are_taken():
    """Both tools accept the filters as printed."""
    check = "print(sentry_sdk.get_client().options['before_send'] is sentry_filter)"
    assert await output_of(SESSION, OTEL, URLS, SENTRY, MAKE_A_CALL, check) == "True\n"


async def test_a_hook_of_ones_own_is_called():
    """The printed hook tells of a call that took long."""
    block = OWN.replace("> 30", "> 0")
    told = await output_of(SESSION, block, MAKE_A_CALL)
    assert re.match(r"/componenttcb/describeenvs took \d+ s, outcome: ok", told)


@pytest.mark.parametrize("measure", ["call.duration", *(each.name for each in (*COUNTERS, *GAUGES))])
def test_every_figure_stands_in_the_table(measure):
    """Under its name for OpenTelemetry and for Prometheus; the latter is what is exported."""
    [row] = re.findall(rf"^\| `wxtcb\.{re.escape(measure)}`[^|]*\| `(\w+)` \|", DOCS, re.MULTILINE)
    registry = prometheus_client.CollectorRegistry()
    PrometheusHook(registry=registry)
    assert row in registry._names_to_collectors


@pytest.mark.parametrize("counter", COUNTERS)
def test_every_label_stands_in_the_table(counter):
    """The labels of each counter are those of its row."""
    [row] = re.findall(rf"^\| `wxtcb\.{re.escape(counter.name)}`.*", DOCS, re.MULTILINE)
    assert tuple(re.findall(r"`(\w+)`", row.rsplit("|", 2)[1])) == counter.labels


def test_every_cause_of_a_retry_is_told():
    """What cannot be retried has no place there."""
    [row] = re.findall(r"^\| `reason` of a retry \| (.*) \|$", DOCS, re.MULTILINE)
    assert set(re.findall(r"`(\w+)`", row)) == {each.label for each in FailureKind} - {"invalid_reply", "rejected"}


def test_every_event_and_error_that_is_named_exists():
    """A name in capitals is an event, an error or a class of ours."""
    known = {kind.__name__ for kind in get_args(events.Event)} | {*vars(errors)} | {*vars(events)} | {"LoggingHook"}
    named = set(re.findall(r"`([A-Z][a-z]+(?:[A-Z][a-z]+)+)`", DOCS))
    assert named - known == set()


def test_an_event_has_no_field_that_no_log_record_can_carry():
    """A field named like one of a log record's own would make the log raise."""
    own = {*vars(logging.makeLogRecord({})), "message", "asctime", "kind"}
    fields = {field.name for kind in get_args(events.Event) for field in attrs.fields(kind)}
    assert fields & own == set()
