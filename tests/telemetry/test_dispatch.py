"""Parts shared by all telemetry: lazy imports, the stats of a session, and the metrics."""

from __future__ import annotations

import asyncio
import gc
import importlib
import logging
import os
import subprocess
import sys
import threading
from pathlib import Path
from unittest import mock

import attrs
import pytest

import wxtcb
from wxtcb import errors, events, telemetry
from wxtcb._protocol.errcodes import api_error
from wxtcb.api import environment
from wxtcb.telemetry.dispatch import LoggingHook, to_hooks
from wxtcb.telemetry.metrics import COUNTERS, GAUGES, SessionRegistry, increment_for

CREATE = "/componenttcb/createenv"
LIST = "/componenttcb/describeenvs"
BUSY = errors.PlatformBusy(-1, "system error", endpoint=CREATE)
FRESH = {"calls_in_flight": 0, "calls_waiting": 0, "calls_paused": 0, "token_waiters": 0, "retry_quota": 500}


def output_of(program):
    """Run *program* in a fresh interpreter and return its output."""
    environment = {**os.environ, "PYTHONPATH": str(Path(wxtcb.__file__).parent.parent)}
    command = [sys.executable, "-W", "error", "-c", program]
    return subprocess.run(
        command, env=environment, check=True, capture_output=True, text=True, timeout=60
    ).stdout.strip()


def test_import_loads_no_optional_package():
    """`wxtcb.telemetry`, its filters and its log need neither OpenTelemetry nor Prometheus nor Sentry."""
    program = "import sys, wxtcb; wxtcb.telemetry.url_filter; print([name.split('.')[0] for name in sys.modules])"
    assert {"opentelemetry", "prometheus_client", "sentry_sdk"} & set(eval(output_of(program))) == set()


@pytest.mark.parametrize(
    ("name", "package", "extra"),
    [
        ("OpenTelemetryHook", "opentelemetry", r"wxtcb\[otel\]"),
        ("PrometheusHook", "prometheus_client", r"wxtcb\[prometheus\]"),
    ],
)
def test_missing_package_is_reported_with_its_extra(monkeypatch, name, package, extra):
    """The error says what to install."""
    for loaded in [*sys.modules]:
        if loaded.startswith(("wxtcb.telemetry.otel", "wxtcb.telemetry.prometheus", package)):
            monkeypatch.delitem(sys.modules, loaded)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=extra) as caught:
        getattr(telemetry, name)
    assert isinstance(caught.value.__cause__, ModuleNotFoundError)


def test_other_import_errors_are_raised_unchanged(monkeypatch):
    """Only the absence of the package itself is translated."""

    def broken(name):
        raise ModuleNotFoundError("No module named 'what_it_stands_on'", name="what_it_stands_on")

    monkeypatch.setattr(importlib, "import_module", broken)
    with pytest.raises(ModuleNotFoundError, match="what_it_stands_on"):
        _ = telemetry.PrometheusHook


def test_unknown_name_raises_attribute_error():
    """The message names the module and the attribute."""
    with pytest.raises(AttributeError, match=r"module 'wxtcb.telemetry' has no attribute 'NewRelic'"):
        _ = telemetry.NewRelic


def test_public_names_are_listed_and_importable():
    """`dir` and `__all__` agree."""
    assert dir(telemetry) == sorted(telemetry.__all__)
    assert all(getattr(telemetry, name) for name in telemetry.__all__)


@pytest.mark.virtual_time
async def test_stats_of_a_new_session(new_session):
    """No call waits, there is no token, and the quota is full."""
    async with new_session() as session:
        assert session.stats() == wxtcb.Stats(**FRESH, token_age=None, token_expires_in=None)


@pytest.mark.virtual_time
async def test_stats_count_calls_in_flight_and_waiting(new_session, wechat, settle):
    """With one connection and three calls, one is in flight and two wait."""
    wechat.usual[LIST] = wechat.after(5, {"info_list": []})
    async with new_session(connections=1) as session, asyncio.TaskGroup() as group:
        await fetch_token(session)
        for _ in range(3):
            group.create_task(environment.describe_envs(session))
        await settle()
        stats = session.stats()
        assert (stats.calls_in_flight, stats.calls_waiting, stats.calls_paused) == (1, 2, 0)


@pytest.mark.virtual_time
async def test_stats_count_calls_of_a_paused_path(new_session, wechat):
    """After 45011 the calls of the path wait without a slot."""
    wechat.play(LIST, 45011)
    wechat.usual[LIST] = {"info_list": []}
    async with new_session() as session, asyncio.TaskGroup() as group:
        group.create_task(environment.describe_envs(session))
        await asyncio.sleep(0.01)
        group.create_task(environment.describe_envs(session))
        await asyncio.sleep(0)
        stats = session.stats()
        assert (stats.calls_in_flight, stats.calls_waiting, stats.calls_paused) == (0, 0, 2)


@pytest.mark.virtual_time
async def test_stats_count_token_waiters(new_session, wechat, settle):
    """All calls wait while the first token is fetched, and none afterwards."""
    wechat.usual[LIST] = {"info_list": []}
    wechat.usual["/cgi-bin/component/api_component_token"] = wechat.after(1, wechat.mint)
    async with new_session() as session:
        async with asyncio.TaskGroup() as group:
            for _ in range(5):
                group.create_task(environment.describe_envs(session))
            await settle()
            assert session.stats().token_waiters == 5
        assert session.stats().token_waiters == 0


@pytest.mark.virtual_time
async def test_stats_contain_the_age_of_the_token(new_session, wechat):
    """The age counts from before the fetch, and an invalid token has none."""
    wechat.usual[LIST] = {"info_list": []}
    wechat.play("/cgi-bin/component/api_component_token", wechat.after(2, wechat.mint))
    async with new_session() as session:
        await fetch_token(session)
        await asyncio.sleep(100)
        stats = session.stats()
        assert (stats.token_age, stats.token_expires_in) == (102, 7098)
        wechat.usual["/cgi-bin/component/api_component_token"] = 61004
        wechat.play(LIST, 42001)
        with pytest.raises(errors.IPNotAllowed):
            await environment.describe_envs(session)
        assert session.stats().token_age is None


@pytest.mark.virtual_time
async def test_stats_contain_the_retry_quota(new_session, wechat):
    """A retry takes 5."""
    wechat.play(LIST, -1, 40097)
    async with new_session() as session:
        with pytest.raises(errors.InvalidRequest):
            await environment.describe_envs(session)
        assert session.stats().retry_quota == 495


async def test_stats_of_a_session_that_is_not_open_raise(new_session):
    """This holds before and after `async with`."""
    session = new_session()
    with pytest.raises(errors.SessionClosed, match="not open yet"):
        session.stats()
    async with session:
        pass
    with pytest.raises(errors.SessionClosed, match="is closed"):
        session.stats()


async def test_stats_can_be_read_in_any_thread(new_session):
    """Metric exporters run in threads without an event loop."""
    async with new_session() as session:
        read = []
        reader = threading.Thread(target=lambda: read.append(session.stats()))
        reader.start()
        await asyncio.to_thread(reader.join)
        assert read == [session.stats()]


async def _async_hook(_event):
    """Do nothing, when awaited."""


@pytest.mark.parametrize("hooks", [5, [5], [_async_hook]])
def test_invalid_hooks_are_rejected(hooks):
    """Hooks are callables that need no await."""
    with pytest.raises(errors.InvalidArgument, match="hooks must be a list"):
        to_hooks(hooks)


EVENTS = [
    (events.CallStarted(CREATE, 1), None, ()),
    (events.CallFinished(CREATE, 1, 1, 0.5, None, cancelled=False), None, ()),
    (events.RetryScheduled(CREATE, 1, 1, 0.5, BUSY, "busy"), "retries", (CREATE, "busy")),
    (events.RequestResent(CREATE, 1, BUSY, "invalid_token"), "retries", (CREATE, "invalid_token")),
    (events.Abandoned(CREATE, 1), "ambiguous_calls", (CREATE, "cancelled")),
    (events.PossibleDuplicate(CREATE, 1), "ambiguous_calls", (CREATE, "ok")),
    (events.EndpointRateLimited(CREATE, 30.0), "rate_limit.pauses", (CREATE,)),
    (events.TokenRejected(1, 42001), None, ()),
    (events.TokenRefreshed(1, "first", 7200.0, 0.5), "token.refreshes", ("first", "ok")),
    (events.TokenRefreshFailed("rejected", BUSY, 1.0, 0.5), "token.refreshes", ("rejected", "PlatformBusy")),
    (events.TokenRefreshed(1, "rejected", 7200.0, 0.5, from_store=True), "token.refreshes", ("rejected", "from_store")),
    (events.TokenStoreWriteFailed(1, "OSError"), "token.writes.failed", ()),
    (events.TokenStoreRolledBack(5, 7), "token.rollbacks", ()),
    (events.TokenConflictDetected(3, 1.0, "share"), "token.conflicts", ()),
    (events.TicketReceived(1413192605, is_newest=True), "tickets", ("stored",)),
    (events.TicketReceived(1413192605, is_newest=False), "tickets", ("ignored",)),
    (events.TicketReceived(1413192605, is_newest=True, in_memory_only=True), "tickets", ("in_memory",)),
    (events.TicketWriteFailed(1413192605, "OSError", 1.0), "ticket.writes.failed", ()),
    (events.PushRefused("the signature does not match", 403), "pushes.refused", ("403",)),
    (events.PushUndecryptable("192.0.2.1"), "pushes.undecryptable", ()),
    (events.PushMalformed("there must be one CreateTime"), "pushes.malformed", ()),
    (events.NotificationDropped("authorized", 100), "notifications.dropped", ()),
    (events.NotificationFailed("authorized", "OSError"), "notifications.failed", ()),
]


@pytest.mark.parametrize(("event", "name", "labels"), EVENTS)
def test_each_event_increments_at_most_one_counter(event, name, labels):
    """The labels are the path and words defined by wxtcb."""
    counted = increment_for(event)
    assert (counted and counted[0].name, counted[1] if counted else ()) == (name, labels)
    assert counted is None or (counted[0] in COUNTERS and len(counted[0].labels) == len(labels))


def test_examples_contain_every_event_and_every_counter():
    """No event and no counter is missing from the examples of this file."""
    assert {type(event) for event, _, _ in EVENTS} == set(events.Event.__args__)
    assert {name for _, name, _ in EVENTS if name} == {counter.name for counter in COUNTERS}


def test_every_field_of_the_stats_has_a_gauge():
    """Each gauge reads one field."""
    stats = wxtcb.Stats(**{field.name: object() for field in attrs.fields(wxtcb.Stats)})
    assert [gauge.read(stats) for gauge in GAUGES] == list(attrs.astuple(stats, recurse=False))


async def test_registry_keeps_no_session_alive(new_session):
    """A session without other references is collected."""
    registry = SessionRegistry()
    session = new_session()
    registry.add(session)
    async with session:
        assert [*registry.stats_by_appid()] == [session.component_appid]
    assert registry.stats_by_appid() == {}
    del session
    gc.collect()
    assert registry.stats_by_appid() == {}
    registry.add(new_session())
    assert len(registry._sessions) == 1


def test_gauge_combines_several_sessions():
    """Calls are summed; the oldest token, the first expiry and the lowest quota count."""
    calls = {"calls_in_flight": 1, "calls_waiting": 2, "calls_paused": 3, "token_waiters": 4}
    one = wxtcb.Stats(**calls, token_age=50, token_expires_in=7150, retry_quota=500)
    two = wxtcb.Stats(**calls, token_age=80, token_expires_in=7120, retry_quota=5)
    none = wxtcb.Stats(**calls, token_age=None, token_expires_in=None, retry_quota=500)
    assert [gauge.value([one, two, none]) for gauge in GAUGES] == [3, 6, 9, 80, 7120, 12, 5]
    assert [gauge.value([none]) for gauge in GAUGES] == [1, 2, 3, None, None, 4, 500]


async def test_session_registered_twice_is_read_once(new_session):
    """A hook may be passed twice, or be registered manually as well."""
    registry = SessionRegistry()
    async with new_session() as session, new_session() as other:
        for each in (session, other, session):
            registry.add(each)
        assert registry.stats_by_appid() == {session.component_appid: [other.stats(), session.stats()]}


@pytest.mark.virtual_time
async def test_mock_is_a_plain_hook(new_session, wechat):
    """It has every attribute, but it must not be bound."""
    wechat.usual[LIST] = {"info_list": []}
    hook = mock.Mock()
    async with new_session(hooks=[hook]) as session:
        await environment.describe_envs(session)
    received = [type(call.args[0]).__name__ for call in hook.call_args_list]
    assert received == ["CallStarted", "TokenRefreshed", "CallFinished"]
    assert hook.mock_calls == hook.call_args_list


@pytest.mark.virtual_time
async def test_session_hook_is_bound_and_notified_of_the_opening(new_session, wechat):
    """The bound hook gets the events of session and views, and the opening is notified once."""
    received = []

    class Listener:
        def __call__(self, event):
            raise AssertionError("not bound")

        def bind(self, session):
            return lambda event: received.append((session.component_appid, type(event).__name__))

        def on_session_open(self, session):
            received.append(("open", session.stats().calls_in_flight))

    wechat.usual[LIST] = {"info_list": []}
    async with new_session(hooks=[Listener()], component_appid="wx1") as session:
        await environment.describe_envs(session.with_options(partial="return"))
    assert received == [("open", 0), ("wx1", "CallStarted"), ("wx1", "TokenRefreshed"), ("wx1", "CallFinished")]


@pytest.mark.virtual_time
async def test_exception_of_on_session_open_is_reported(new_session):
    """The session opens nevertheless."""

    class Broken(list):
        __call__ = list.append

        def bind(self, session):
            return self

        def on_session_open(self, session):
            raise LookupError("broken watch")

    async with new_session(hooks=[Broken()]) as session:
        assert session.stats().retry_quota == 500
    loop = asyncio.get_running_loop()
    [context], loop.reported = loop.reported, []
    assert str(context["exception"]) == "broken watch"


@pytest.mark.virtual_time
async def test_resend_emits_an_event(new_session, wechat, caplog):
    """An invalid token and the minute limit cause resends, which are logged only at DEBUG."""
    received = []
    wechat.usual[LIST] = {"info_list": []}
    wechat.play(LIST, 42001, 45011)
    caplog.set_level(logging.INFO, "wxtcb")
    async with new_session(hooks=[received.append]) as session:
        await environment.describe_envs(session)
    resends = [event for event in received if isinstance(event, events.RequestResent)]
    assert [(event.call, event.reason, event.error.errcode) for event in resends] == [
        (0, "invalid_token", 42001),
        (0, "rate_limited", 45011),
    ]
    assert "resent" not in caplog.text


@pytest.mark.virtual_time
async def test_resend_without_hooks_builds_no_event(new_session, wechat, monkeypatch):
    """One invalid token can cause ten thousand resends at once."""
    made = []
    monkeypatch.setattr(events, "RequestResent", lambda *facts: made.append(facts))
    wechat.usual[LIST] = {"info_list": []}
    wechat.play(LIST, 42001)
    async with new_session() as session:
        await environment.describe_envs(session)
    assert made == []


@pytest.mark.virtual_time
async def test_retry_event_has_call_number_and_reason(new_session, wechat):
    """The reason is the label of the kind of failure."""
    received = []
    wechat.usual[LIST] = {"info_list": []}
    async with new_session(hooks=[received.append]) as session:
        await environment.describe_envs(session)
        wechat.play(LIST, -1, -1000)
        await environment.describe_envs(session)
    retries = [event for event in received if isinstance(event, events.RetryScheduled)]
    assert [(event.call, event.reason) for event in retries] == [(1, "busy"), (1, "cloud_unavailable")]


async def fetch_token(session):
    """Make the session fetch its token."""
    await session.call(wxtcb.Endpoint("/tcb/any", wxtcb.Done, wxtcb.Repeat.READ), {})


def test_log_of_a_retry_advises_nobody(caplog):
    """The library itself tries again, so the advice for a person would mislead."""
    error = api_error(-1, "system error rid: 5f-a", endpoint=CREATE, repeat=wxtcb.Repeat.ONCE)
    LoggingHook()(events.RetryScheduled(CREATE, 1, 1, 0.5, error, "busy"))
    assert caplog.messages == [f"{CREATE} failed (attempt 1), retrying in 0.50 s: -1 system error rid: 5f-a"]


@pytest.mark.virtual_time
async def test_log_record_names_the_platform(new_session, wechat, caplog):
    """One process may have sessions of two platforms."""
    wechat.play(LIST, -1)
    wechat.usual[LIST] = {"info_list": []}
    async with new_session() as session:
        await environment.describe_envs(session)
    (record,) = [each for each in caplog.records if each.levelno == logging.WARNING]
    assert record.component_appid == session.component_appid
