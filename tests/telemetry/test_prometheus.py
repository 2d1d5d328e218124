"""Prometheus hook: the same metrics as OpenTelemetry, in the registry of the caller."""

from __future__ import annotations

import asyncio

import prometheus_client
import pytest

from wxtcb import errors, events
from wxtcb.api import environment
from wxtcb.telemetry import PrometheusHook

CREATE = "/componenttcb/createenv"
LIST = "/componenttcb/describeenvs"
APPID = "wx0123456789abcdef"


@pytest.fixture
def registry():
    return prometheus_client.CollectorRegistry()


@pytest.fixture
def hook(registry):
    return PrometheusHook(registry=registry)


@pytest.fixture
def session(new_session, wechat, hook):
    wechat.usual[LIST] = {"info_list": []}
    wechat.usual[CREATE] = {"env": "env-1", "tranid": "t-1"}
    return new_session(hooks=[hook])


pytestmark = pytest.mark.virtual_time


async def test_calls_are_measured_by_path_and_outcome(session, registry, wechat):
    """One histogram has count and duration."""
    wechat.play(LIST, wechat.after(2, {"info_list": []}), 40097)
    async with session:
        await environment.describe_envs(session)
        with pytest.raises(errors.InvalidRequest):
            await environment.describe_envs(session)
    good = {"component_appid": APPID, "endpoint": LIST, "outcome": "ok"}
    assert registry.get_sample_value("wxtcb_call_duration_seconds_count", good) == 1
    assert registry.get_sample_value("wxtcb_call_duration_seconds_sum", good) == 2
    assert registry.get_sample_value("wxtcb_call_duration_seconds_bucket", {**good, "le": "1.0"}) == 0
    bad = {**good, "outcome": "InvalidRequest"}
    assert registry.get_sample_value("wxtcb_call_duration_seconds_count", bad) == 1


async def test_retries_and_refreshes_are_counted_by_reason(session, registry, wechat):
    """Resends after an invalid token count as retries."""
    wechat.play(LIST, -1, 42001)
    async with session:
        await environment.describe_envs(session)
    of_path = {"component_appid": APPID, "endpoint": LIST}
    assert registry.get_sample_value("wxtcb_retries_total", {**of_path, "reason": "busy"}) == 1
    assert registry.get_sample_value("wxtcb_retries_total", {**of_path, "reason": "invalid_token"}) == 1
    renewed = {"component_appid": APPID, "reason": "rejected", "outcome": "ok"}
    assert registry.get_sample_value("wxtcb_token_refreshes_total", renewed) == 1


async def test_gauges_are_read_from_the_open_sessions(new_session, session, registry, hook):
    """Closed sessions and missing tokens have no value."""
    async with session, new_session(hooks=[hook], component_appid="wx2"):
        await environment.describe_envs(session)
        await asyncio.sleep(50)
        assert registry.get_sample_value("wxtcb_token_age_seconds", {"component_appid": APPID}) == 50
        assert registry.get_sample_value("wxtcb_token_age_seconds", {"component_appid": "wx2"}) is None
        assert registry.get_sample_value("wxtcb_retry_quota", {"component_appid": "wx2"}) == 500
    assert registry.get_sample_value("wxtcb_token_age_seconds", {"component_appid": APPID}) is None


async def test_sessions_of_one_appid_share_their_gauges(new_session, session, registry, hook):
    """Prometheus rejects duplicate samples, so each gauge has one per appid."""
    async with session, new_session(hooks=[hook]):
        await environment.describe_envs(session)
        await asyncio.sleep(50)
        page = prometheus_client.generate_latest(registry).decode()
    gauges = [line for line in page.splitlines() if line.startswith(("wxtcb_token_age_seconds{", "wxtcb_retry_quota{"))]
    of_both = f'{{component_appid="{APPID}"}}'
    assert gauges == [f"wxtcb_token_age_seconds{of_both} 50.0", f"wxtcb_retry_quota{of_both} 500.0"]


async def test_hook_of_a_view_has_gauges_after_on_session_open(new_session, registry, hook):
    """A view is not registered automatically, but its session can be."""
    async with new_session() as session:
        session.with_options(hooks=[hook])
        assert registry.get_sample_value("wxtcb_retry_quota", {"component_appid": APPID}) is None
        hook.on_session_open(session)
        assert registry.get_sample_value("wxtcb_retry_quota", {"component_appid": APPID}) == 500


async def test_exposition_contains_no_alias_and_no_secret(session, registry, wechat):
    """This holds for successful and failed calls."""
    wechat.play(CREATE, -1, 42001, {"errcode": 40097, "errmsg": "T0KEN-2 is odd"})
    async with session:
        with pytest.raises(errors.InvalidRequest):
            await environment.create_env(session, alias="the-alias-of-a-tenant")
        page = prometheus_client.generate_latest(registry).decode()
    assert 'reason="busy"' in page
    assert not [each for each in ("the-alias", "T0KEN", "S3CRET", "T1CKET") if each in page]


def test_unbound_hook_counts(hook, registry):
    """It has no appid."""
    hook(events.TokenStoreWriteFailed(1, "OSError"))
    hook(events.TokenRejected(1, 42001))
    assert registry.get_sample_value("wxtcb_token_writes_failed_total", {"component_appid": ""}) == 1


def test_second_hook_in_one_registry_is_rejected(hook, registry):
    """Two hooks would count twice."""
    with pytest.raises(ValueError, match="Duplicated"):
        PrometheusHook(registry=registry)
