"""docs/telemetry.md: its code runs, and its tables are complete."""

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
    """Run blocks as one program against a sandbox, with warnings as errors, and return its output."""
    async with Sandbox() as sandbox:
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "WXTCB_BASE_URL": sandbox.url,
            "WXTCB_COMPONENT_APPID": sandbox.component_appid,
            "WXTCB_COMPONENT_APPSECRET": sandbox.component_appsecret,
            "WXTCB_TICKET": sandbox.ticket,
        }
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-W", "error", "-c", "\n".join(blocks), stdout=asyncio.subprocess.PIPE, env=environment
        )
        output, _ = await process.communicate()
    assert process.returncode == 0
    return output.decode()


async def test_log_example_runs():
    """The hook writes to the logger that it names."""
    output = await output_of(
        "import logging, sys; logging.basicConfig(stream=sys.stdout, level=10)", SESSION, LOG, MAKE_A_CALL
    )
    assert "DEBUG:shop.wechat:/componenttcb/describeenvs: ok (1 attempt(s)" in output


async def test_opentelemetry_example_runs():
    """The session makes its call without an SDK."""
    assert await output_of(SESSION, OTEL, MAKE_A_CALL, "print('made')") == "made\n"


async def test_prometheus_example_runs():
    """The session fills the registry of the process."""
    page = await output_of(SESSION, PROMETHEUS, MAKE_A_CALL, "print(page)")
    assert "wxtcb_call_duration_seconds_count{" in page
    assert "wxtcb_token_age_seconds{" in page


async def test_filter_examples_run():
    """Both tools accept the filters."""
    check = "print(sentry_sdk.get_client().options['before_send'] is sentry_filter)"
    assert await output_of(SESSION, OTEL, URLS, SENTRY, MAKE_A_CALL, check) == "True\n"


async def test_custom_hook_example_runs():
    """The hook reports a slow call."""
    block = OWN.replace("> 30", "> 0")
    output = await output_of(SESSION, block, MAKE_A_CALL)
    assert re.match(r"/componenttcb/describeenvs took \d+ s, outcome: ok", output)


@pytest.mark.parametrize("measure", ["call.duration", *(each.name for each in (*COUNTERS, *GAUGES))])
def test_every_metric_is_in_the_table(measure):
    """The row has its OpenTelemetry name and its exported Prometheus name."""
    [row] = re.findall(rf"^\| `wxtcb\.{re.escape(measure)}`[^|]*\| `(\w+)` \|", DOCS, re.MULTILINE)
    registry = prometheus_client.CollectorRegistry()
    PrometheusHook(registry=registry)
    assert row in registry._names_to_collectors


@pytest.mark.parametrize("counter", COUNTERS)
def test_every_label_is_in_the_table(counter):
    """The labels of each counter are those of its row."""
    [row] = re.findall(rf"^\| `wxtcb\.{re.escape(counter.name)}`.*", DOCS, re.MULTILINE)
    assert tuple(re.findall(r"`(\w+)`", row.rsplit("|", 2)[1])) == counter.labels


def test_every_reason_of_a_retry_is_listed():
    """Kinds of failure that are not retried are not listed."""
    [row] = re.findall(r"^\| `reason` of a retry \| (.*) \|$", DOCS, re.MULTILINE)
    assert set(re.findall(r"`(\w+)`", row)) == {each.label for each in FailureKind} - {
        "invalid_reply",
        "rejected",
        "uncertain",
    }


def test_every_class_named_exists():
    """A name in CamelCase is an event, an error or a class of wxtcb."""
    known = {kind.__name__ for kind in get_args(events.Event)} | {*vars(errors)} | {*vars(events)} | {"LoggingHook"}
    named = set(re.findall(r"`([A-Z][a-z]+(?:[A-Z][a-z]+)+)`", DOCS))
    assert named - known == set()


def test_event_fields_do_not_clash_with_log_records():
    """Such a field would make the logging module raise."""
    own = {*vars(logging.makeLogRecord({})), "message", "asctime", "kind"}
    fields = {field.name for kind in get_args(events.Event) for field in attrs.fields(kind)}
    assert fields & own == set()
