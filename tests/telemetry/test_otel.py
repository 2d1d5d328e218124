"""OpenTelemetry hook: one span per call, and metrics with few labels."""

from __future__ import annotations

import asyncio
import gc

import pytest
from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from wxtcb import errors, events
from wxtcb._http.transport import SendFailure
from wxtcb.api import environment
from wxtcb.telemetry import OpenTelemetryHook

CREATE = "/componenttcb/createenv"
LIST = "/componenttcb/describeenvs"
TOKEN = "/cgi-bin/component/api_component_token"
LOST = SendFailure("the connection was lost", sent=True)
APPID = "wx0123456789abcdef"
TOKEN_GAUGES = {"wxtcb.token.age", "wxtcb.token.expires_in", "wxtcb.token.waiters"}


class Telemetry:
    """Hook with an SDK that records everything in memory."""

    def __init__(self):
        self.exporter = InMemorySpanExporter()
        self.tracers = TracerProvider()
        self.tracers.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.reader = InMemoryMetricReader()
        self.meters = MeterProvider([self.reader])
        self.hook = OpenTelemetryHook(tracer_provider=self.tracers, meter_provider=self.meters)
        self.tracer = self.tracers.get_tracer("caller")

    @property
    def spans(self):
        return self.exporter.get_finished_spans()

    @property
    def calls(self):
        return [span for span in self.spans if span.name.startswith("/")]

    def data_points(self):
        """Return every data point by the name of its metric."""
        data = self.reader.get_metrics_data()
        if data is None:
            return {}
        return {
            metric.name: [*metric.data.data_points]
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }

    def counter_values(self, name):
        """Return the values of a counter by its labels without the appid."""
        return {
            tuple(value for key, value in point.attributes.items() if key != "wxtcb.component_appid"): point.value
            for point in self.data_points().get(name, [])
        }


@pytest.fixture
def telemetry():
    telemetry = Telemetry()
    yield telemetry
    telemetry.tracers.shutdown()
    telemetry.meters.shutdown()


@pytest.fixture
def session(new_session, wechat, telemetry):
    wechat.usual[LIST] = {"info_list": []}
    wechat.usual[CREATE] = {"env": "env-1", "tranid": "t-1"}
    return new_session(hooks=[telemetry.hook])


pytestmark = pytest.mark.virtual_time


async def test_call_is_a_client_span_below_that_of_its_caller(session, telemetry):
    """It is named after the path and has destination and outcome."""
    async with session:
        with telemetry.tracer.start_as_current_span("request") as request:
            await environment.create_env(session, alias="abc")
    [span] = telemetry.calls
    assert (span.name, span.kind, span.status.status_code) == (CREATE, SpanKind.CLIENT, StatusCode.UNSET)
    assert span.parent.span_id == request.get_span_context().span_id
    assert dict(span.attributes) == {
        "rpc.system.name": "wechat",
        "rpc.method": CREATE,
        "server.address": "api.weixin.qq.com",
        "server.port": 443,
        "wxtcb.component_appid": APPID,
        "wxtcb.call": 0,
        "wxtcb.outcome": "ok",
        "wxtcb.sends": 1,
    }


async def test_span_of_a_call_is_current_until_its_end(session, telemetry, wechat):
    """Spans created meanwhile are its children."""
    seen = []

    def read_span(_request):
        seen.append(trace.get_current_span())
        return {"info_list": []}

    async with session:
        wechat.usual[LIST] = read_span
        with telemetry.tracer.start_as_current_span("request") as request:
            await environment.describe_envs(session)
            assert trace.get_current_span() is request
    assert [span.get_span_context().span_id for span in seen] == [telemetry.calls[0].context.span_id]


async def test_concurrent_calls_have_separate_spans(session, telemetry, wechat):
    """Each is a child of its own caller, in any order of completion."""
    wechat.play(LIST, *[wechat.after(seconds, {"info_list": []}) for seconds in (3, 1, 2)])
    parents = []

    async def request(number):
        with telemetry.tracer.start_as_current_span(f"request {number}") as span:
            parents.append(span.get_span_context().span_id)
            await environment.describe_envs(session)

    async with session, asyncio.TaskGroup() as group:
        for number in range(3):
            group.create_task(request(number))
    assert sorted(span.parent.span_id for span in telemetry.calls) == sorted(parents)
    assert len(set(parents)) == 3


async def test_failed_call_has_error_status_and_errcode(session, telemetry, wechat):
    """The span has errcode, rid, class and reason."""
    wechat.play(CREATE, 40097)
    async with session:
        with pytest.raises(errors.InvalidRequest):
            await environment.create_env(session, alias="abc")
    [span] = telemetry.calls
    assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, "40097 as scripted rid: 5f-77")
    attributes = {name: span.attributes[name] for name in ("error.type", "rpc.response.status_code", "wxtcb.rid")}
    assert attributes == {"error.type": "InvalidRequest", "rpc.response.status_code": "40097", "wxtcb.rid": "5f-77"}


async def test_call_without_reply_has_error_status_without_errcode(session, telemetry, wechat):
    """The span has the number of attempts that may have taken effect."""
    wechat.play(CREATE, LOST)
    async with session:
        with pytest.raises(errors.OutcomeUnknown):
            await environment.create_env(session, alias="abc")
    [span] = telemetry.calls
    assert (span.attributes["error.type"], span.attributes["wxtcb.maybe_acted"]) == ("OutcomeUnknown", 1)
    assert "rpc.response.status_code" not in span.attributes


async def test_cancelled_call_ends_its_span(session, telemetry, wechat):
    """Its status is not an error, and the context is restored."""
    wechat.play(CREATE, wechat.after(60, 0))
    async with session:
        with telemetry.tracer.start_as_current_span("request") as request:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(1):
                    await environment.create_env(session, alias="abc")
            assert trace.get_current_span() is request
    [span] = telemetry.calls
    assert (span.attributes["wxtcb.outcome"], span.status.status_code) == ("cancelled", StatusCode.UNSET)
    assert [event.name for event in span.events] == ["Abandoned"]


async def test_span_has_events_for_retries_pauses_and_resends(session, telemetry, wechat):
    """They have reason and errcode."""
    wechat.play(LIST, -1, 42001, 45011)
    async with session:
        await environment.describe_envs(session)
    [span] = telemetry.calls
    assert [event.name for event in span.events] == [
        "RetryScheduled",
        "TokenRejected",
        "RequestResent",
        "EndpointRateLimited",
        "RequestResent",
    ]
    retry = dict(span.events[0].attributes)
    assert retry.pop("wxtcb.delay") >= 0
    assert retry == {
        "wxtcb.endpoint": LIST,
        "wxtcb.call": 0,
        "wxtcb.attempt": 1,
        "wxtcb.reason": "busy",
        "wxtcb.error": "PlatformBusy",
        "wxtcb.errcode": -1,
        "wxtcb.rid": "5f-77",
    }
    assert span.attributes["wxtcb.sends"] == 4


async def test_token_refresh_is_a_separate_trace(session, telemetry, wechat):
    """Its span has no parent and has the duration of the refresh."""
    wechat.play(TOKEN, wechat.after(2, 61004), wechat.after(3, wechat.mint))
    async with session:
        with telemetry.tracer.start_as_current_span("request"):
            with pytest.raises(errors.IPNotAllowed):
                await environment.describe_envs(session)
            await asyncio.sleep(61)
            await environment.describe_envs(session)
    failed, renewed = [span for span in telemetry.spans if span.name == "token refresh"]
    assert (failed.parent, renewed.parent) == (None, None)
    assert (failed.attributes["error.type"], failed.status.status_code) == ("IPNotAllowed", StatusCode.ERROR)
    assert [round((span.end_time - span.start_time) / 1e9, 3) for span in (failed, renewed)] == [2, 3]
    assert renewed.attributes["wxtcb.reason"] == "first"


async def test_calls_are_measured_by_path_and_outcome(session, telemetry, wechat):
    """The time of a token refresh is part of the first call."""
    wechat.play(TOKEN, wechat.after(2, wechat.mint))
    wechat.play(CREATE, 40097)
    async with session:
        await environment.describe_envs(session)
        with pytest.raises(errors.InvalidRequest):
            await environment.create_env(session, alias="abc")
    points = telemetry.data_points()["wxtcb.call.duration"]
    assert [(dict(point.attributes), point.count, point.sum) for point in points] == [
        ({"wxtcb.component_appid": APPID, "wxtcb.endpoint": LIST, "wxtcb.outcome": "ok"}, 1, 2),
        ({"wxtcb.component_appid": APPID, "wxtcb.endpoint": CREATE, "wxtcb.outcome": "InvalidRequest"}, 1, 0),
    ]


async def test_retries_and_refreshes_are_counted_by_reason(session, telemetry, wechat):
    """Resends after an invalid token and the minute limit count as retries."""
    wechat.play(LIST, -1, -1, 42001, 45011)
    async with session:
        await environment.describe_envs(session)
    assert telemetry.counter_values("wxtcb.retries") == {
        (LIST, "busy"): 2,
        (LIST, "invalid_token"): 1,
        (LIST, "rate_limited"): 1,
    }
    assert telemetry.counter_values("wxtcb.token.refreshes") == {("first", "ok"): 1, ("rejected", "ok"): 1}
    assert telemetry.counter_values("wxtcb.rate_limit.pauses") == {(LIST,): 1}


async def test_gauges_are_read_from_the_open_session(session, telemetry):
    """A closed session has no gauges."""
    async with session:
        await environment.describe_envs(session)
        await asyncio.sleep(50)
        read = {name: points[0].value for name, points in telemetry.data_points().items() if name in TOKEN_GAUGES}
        assert read == {"wxtcb.token.age": 50, "wxtcb.token.expires_in": 7150, "wxtcb.token.waiters": 0}
    assert "wxtcb.token.age" not in telemetry.data_points()


async def test_gauge_without_a_value_is_omitted(session, telemetry):
    """Before the first token there is no age."""
    async with session:
        data_points = telemetry.data_points()
        assert "wxtcb.token.age" not in data_points
        assert data_points["wxtcb.retry_quota"][0].value == 500


async def test_sessions_are_distinguished_by_appid(new_session, telemetry, wechat):
    """Spans and metrics of one hook carry the appid of their session."""
    wechat.usual[LIST] = {"info_list": []}
    async with (
        new_session(hooks=[telemetry.hook], component_appid="wx1") as one,
        new_session(hooks=[telemetry.hook], component_appid="wx2", base_url="http://127.0.0.1:8080") as two,
    ):
        await environment.describe_envs(one)
        await environment.describe_envs(two)
        data_points = telemetry.data_points()
    for name in ("wxtcb.call.duration", "wxtcb.token.refreshes", "wxtcb.token.age"):
        assert [point.attributes["wxtcb.component_appid"] for point in data_points[name]] == ["wx1", "wx2"]
    assert [span.attributes["wxtcb.component_appid"] for span in telemetry.calls] == ["wx1", "wx2"]
    assert [(span.attributes["server.address"], span.attributes["server.port"]) for span in telemetry.calls] == [
        ("api.weixin.qq.com", 443),
        ("127.0.0.1", 8080),
    ]


async def test_sessions_of_one_appid_share_their_gauges(new_session, telemetry, wechat):
    """Each gauge has one value, combined from both sessions."""
    wechat.usual[LIST] = wechat.after(5, {"info_list": []})
    async with (
        new_session(hooks=[telemetry.hook]) as one,
        new_session(hooks=[telemetry.hook]) as two,
        asyncio.TaskGroup() as group,
    ):
        for each in (one, two):
            group.create_task(environment.describe_envs(each))
        await asyncio.sleep(1)
        data_points = telemetry.data_points()
        assert [point.value for point in data_points["wxtcb.calls.in_flight"]] == [2]
        assert [point.value for point in data_points["wxtcb.retry_quota"]] == [500]


async def test_hook_keeps_no_session_alive(new_session, telemetry):
    """A session without other references is collected."""
    async with new_session(hooks=[telemetry.hook]):
        pass
    gc.collect()
    telemetry.hook.on_session_open(new_session())
    assert len(telemetry.hook._sessions._sessions) == 1


async def test_spans_and_metrics_contain_no_alias_and_no_secret(session, telemetry, wechat):
    """This holds for successful and failed calls."""
    wechat.play(CREATE, -1, 42001, {"errcode": 40097, "errmsg": "T0KEN-2 is odd"})
    async with session:
        with pytest.raises(errors.InvalidRequest):
            await environment.create_env(session, alias="the-alias-of-a-tenant")
        everything = repr(telemetry.data_points()) + "".join(span.to_json() for span in telemetry.spans)
    assert CREATE in everything
    assert not [each for each in ("the-alias", "T0KEN", "S3CRET", "T1CKET") if each in everything]


async def test_view_with_the_same_hook_restores_the_context(session, telemetry):
    """Two hooks that each open a span for a call close them inside out."""
    async with session:
        view = session.with_options(hooks=[telemetry.hook])
        with telemetry.tracer.start_as_current_span("request") as request:
            await environment.describe_envs(view)
            assert trace.get_current_span() is request
    assert len(telemetry.calls) == 2


async def test_unbound_hook_counts(telemetry):
    """It has no appid, and a call whose start it did not see has no span."""
    telemetry.hook(events.CallFinished(CREATE, 1, 1, 0.5, None, cancelled=False))
    telemetry.hook(events.TokenRejected(1, 42001))
    [point] = telemetry.data_points()["wxtcb.call.duration"]
    assert dict(point.attributes) == {"wxtcb.endpoint": CREATE, "wxtcb.outcome": "ok"}
    assert telemetry.spans == ()


async def test_hook_without_an_sdk_records_nothing(new_session, wechat):
    """opentelemetry-api alone is sufficient."""
    wechat.usual[LIST] = {"info_list": []}
    wechat.play(LIST, -1)
    async with new_session(hooks=[OpenTelemetryHook()]) as session:
        assert (await environment.describe_envs(session)).info_list == ()
        assert not trace.get_current_span().is_recording()
