"""OpenTelemetry gets one span per call, in its place, and figures with few labels."""

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


class Rig:
    """A hook with an SDK that keeps everything in memory."""

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

    def figures(self):
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

    def counted(self, name):
        """Return what a counter holds, by its labels without the appid."""
        return {
            tuple(value for key, value in point.attributes.items() if key != "wxtcb.component_appid"): point.value
            for point in self.figures().get(name, [])
        }


@pytest.fixture
def rig():
    rig = Rig()
    yield rig
    rig.tracers.shutdown()
    rig.meters.shutdown()


@pytest.fixture
def session(new_session, wechat, rig):
    wechat.usual[LIST] = {"info_list": []}
    wechat.usual[CREATE] = {"env": "env-1", "tranid": "t-1"}
    return new_session(hooks=[rig.hook])


pytestmark = pytest.mark.virtual_time


async def test_a_call_is_a_client_span_under_the_span_of_its_caller(session, rig):
    """It is named for the path, and tells where it went and how it ended."""
    async with session:
        with rig.tracer.start_as_current_span("request") as request:
            await environment.create_env(session, alias="abc")
    [span] = rig.calls
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


async def test_the_span_of_a_call_is_current_until_the_call_ends(session, rig, wechat):
    """What is traced inside becomes its child; afterwards the caller's own span is current again."""
    seen = []

    def look(_request):
        seen.append(trace.get_current_span())
        return {"info_list": []}

    async with session:
        wechat.usual[LIST] = look
        with rig.tracer.start_as_current_span("request") as request:
            await environment.describe_envs(session)
            assert trace.get_current_span() is request
    assert [span.get_span_context().span_id for span in seen] == [rig.calls[0].context.span_id]


async def test_calls_made_at_once_have_spans_of_their_own(session, rig, wechat):
    """Each is a child of its own caller, whatever the order in which they end."""
    wechat.play(LIST, *[wechat.after(seconds, {"info_list": []}) for seconds in (3, 1, 2)])
    parents = []

    async def request(number):
        with rig.tracer.start_as_current_span(f"request {number}") as span:
            parents.append(span.get_span_context().span_id)
            await environment.describe_envs(session)

    async with session, asyncio.TaskGroup() as group:
        for number in range(3):
            group.create_task(request(number))
    assert sorted(span.parent.span_id for span in rig.calls) == sorted(parents)
    assert len(set(parents)) == 3


async def test_a_failed_call_is_an_error_with_its_code(session, rig, wechat):
    """errcode, rid, class and reason stand on the span."""
    wechat.play(CREATE, 40097)
    async with session:
        with pytest.raises(errors.InvalidRequest):
            await environment.create_env(session, alias="abc")
    [span] = rig.calls
    assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, "40097 as scripted rid: 5f-77")
    told = {name: span.attributes[name] for name in ("error.type", "rpc.response.status_code", "wxtcb.rid")}
    assert told == {"error.type": "InvalidRequest", "rpc.response.status_code": "40097", "wxtcb.rid": "5f-77"}


async def test_a_call_without_an_answer_is_an_error_without_a_code(session, rig, wechat):
    """There is no errcode to tell, but how many attempts may have acted."""
    wechat.play(CREATE, LOST)
    async with session:
        with pytest.raises(errors.OutcomeUnknown):
            await environment.create_env(session, alias="abc")
    [span] = rig.calls
    assert (span.attributes["error.type"], span.attributes["wxtcb.maybe_acted"]) == ("OutcomeUnknown", 1)
    assert "rpc.response.status_code" not in span.attributes


async def test_a_cancelled_call_ends_its_span(session, rig, wechat):
    """It is no error, and says that it was cancelled; the context is as before."""
    wechat.play(CREATE, wechat.after(60, 0))
    async with session:
        with rig.tracer.start_as_current_span("request") as request:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(1):
                    await environment.create_env(session, alias="abc")
            assert trace.get_current_span() is request
    [span] = rig.calls
    assert (span.attributes["wxtcb.outcome"], span.status.status_code) == ("cancelled", StatusCode.UNSET)
    assert [event.name for event in span.events] == ["Abandoned"]


async def test_a_span_tells_what_the_call_went_through(session, rig, wechat):
    """Retries, pauses and resends are events on it, with cause and code."""
    wechat.play(LIST, -1, 42001, 45011)
    async with session:
        await environment.describe_envs(session)
    [span] = rig.calls
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


async def test_a_renewal_is_a_trace_of_its_own(session, rig, wechat):
    """It belongs to none of the calls that wait for it, and has the length that it took."""
    wechat.play(TOKEN, wechat.after(2, 61004), wechat.after(3, wechat.mint))
    async with session:
        with rig.tracer.start_as_current_span("request"):
            with pytest.raises(errors.IPNotAllowed):
                await environment.describe_envs(session)
            await asyncio.sleep(61)
            await environment.describe_envs(session)
    failed, renewed = [span for span in rig.spans if span.name == "token refresh"]
    assert (failed.parent, renewed.parent) == (None, None)
    assert (failed.attributes["error.type"], failed.status.status_code) == ("IPNotAllowed", StatusCode.ERROR)
    assert [round((span.end_time - span.start_time) / 1e9, 3) for span in (failed, renewed)] == [2, 3]
    assert renewed.attributes["wxtcb.reason"] == "first"


async def test_calls_are_counted_and_timed_by_path_and_outcome(session, rig, wechat):
    """One histogram holds both; a renewal of the token is part of the first call's time."""
    wechat.play(TOKEN, wechat.after(2, wechat.mint))
    wechat.play(CREATE, 40097)
    async with session:
        await environment.describe_envs(session)
        with pytest.raises(errors.InvalidRequest):
            await environment.create_env(session, alias="abc")
    points = rig.figures()["wxtcb.call.duration"]
    assert [(dict(point.attributes), point.count, point.sum) for point in points] == [
        ({"wxtcb.component_appid": APPID, "wxtcb.endpoint": LIST, "wxtcb.outcome": "ok"}, 1, 2),
        ({"wxtcb.component_appid": APPID, "wxtcb.endpoint": CREATE, "wxtcb.outcome": "InvalidRequest"}, 1, 0),
    ]


async def test_retries_and_renewals_are_counted_by_cause(session, rig, wechat):
    """Resends after a dead token and the minute limit are among the retries."""
    wechat.play(LIST, -1, -1, 42001, 45011)
    async with session:
        await environment.describe_envs(session)
    assert rig.counted("wxtcb.retries") == {(LIST, "busy"): 2, (LIST, "invalid_token"): 1, (LIST, "rate_limited"): 1}
    assert rig.counted("wxtcb.token.refreshes") == {("first", "ok"): 1, ("dead", "ok"): 1}
    assert rig.counted("wxtcb.rate_limit.pauses") == {(LIST,): 1}


async def test_gauges_are_read_off_the_open_session(session, rig):
    """Each has the value of the stats at the moment of reading, and is gone when the session is closed."""
    async with session:
        await environment.describe_envs(session)
        await asyncio.sleep(50)
        read = {name: points[0].value for name, points in rig.figures().items() if name in TOKEN_GAUGES}
        assert read == {"wxtcb.token.age": 50, "wxtcb.token.expires_in": 7150, "wxtcb.token.waiters": 0}
    assert "wxtcb.token.age" not in rig.figures()


async def test_a_gauge_without_a_value_is_left_out(session, rig):
    """Before the first token there is no age."""
    async with session:
        figures = rig.figures()
        assert "wxtcb.token.age" not in figures
        assert figures["wxtcb.retry_quota"][0].value == 500


async def test_sessions_are_told_apart_by_their_appid(new_session, rig, wechat):
    """One hook serves several sessions, and each figure and span carries the appid of its own."""
    wechat.usual[LIST] = {"info_list": []}
    async with (
        new_session(hooks=[rig.hook], component_appid="wx1") as one,
        new_session(hooks=[rig.hook], component_appid="wx2", base_url="http://127.0.0.1:8080") as two,
    ):
        await environment.describe_envs(one)
        await environment.describe_envs(two)
        figures = rig.figures()
    for name in ("wxtcb.call.duration", "wxtcb.token.refreshes", "wxtcb.token.age"):
        assert [point.attributes["wxtcb.component_appid"] for point in figures[name]] == ["wx1", "wx2"]
    assert [span.attributes["wxtcb.component_appid"] for span in rig.calls] == ["wx1", "wx2"]
    assert [(span.attributes["server.address"], span.attributes["server.port"]) for span in rig.calls] == [
        ("api.weixin.qq.com", 443),
        ("127.0.0.1", 8080),
    ]


async def test_sessions_of_one_appid_share_their_gauges(new_session, rig, wechat):
    """No session hides another: each gauge has one value, made of both."""
    wechat.usual[LIST] = wechat.after(5, {"info_list": []})
    async with (
        new_session(hooks=[rig.hook]) as one,
        new_session(hooks=[rig.hook]) as two,
        asyncio.TaskGroup() as group,
    ):
        for each in (one, two):
            group.create_task(environment.describe_envs(each))
        await asyncio.sleep(1)
        figures = rig.figures()
        assert [point.value for point in figures["wxtcb.calls.in_flight"]] == [2]
        assert [point.value for point in figures["wxtcb.retry_quota"]] == [500]


async def test_the_hook_keeps_no_session_alive(new_session, rig):
    """A session that was dropped is collected, though its hook lives on."""
    async with new_session(hooks=[rig.hook]):
        pass
    gc.collect()
    rig.hook.on_session_open(new_session())
    assert len(rig.hook._sessions._sessions) == 1


async def test_nothing_of_the_caller_or_the_credentials_is_in_spans_and_figures(session, rig, wechat):
    """No alias, no token, no secret and no ticket, whatever happens."""
    wechat.play(CREATE, -1, 42001, {"errcode": 40097, "errmsg": "T0KEN-2 is odd"})
    async with session:
        with pytest.raises(errors.InvalidRequest):
            await environment.create_env(session, alias="the-alias-of-a-tenant")
        everything = repr(rig.figures()) + "".join(span.to_json() for span in rig.spans)
    assert CREATE in everything
    assert not [each for each in ("the-alias", "T0KEN", "S3CRET", "T1CKET") if each in everything]


async def test_a_view_with_the_same_hook_leaves_the_context_as_it_was(session, rig):
    """Two hooks that each open a span for a call close them inside out."""
    async with session:
        view = session.with_options(hooks=[rig.hook])
        with rig.tracer.start_as_current_span("request") as request:
            await environment.describe_envs(view)
            assert trace.get_current_span() is request
    assert len(rig.calls) == 2


async def test_an_unbound_hook_counts_too(rig):
    """Called by hand, it has no appid to tell, and a call that it did not see begin has no span."""
    rig.hook(events.CallFinished(CREATE, 1, 1, 0.5, None, cancelled=False))
    rig.hook(events.TokenRejected(1, 42001))
    [point] = rig.figures()["wxtcb.call.duration"]
    assert dict(point.attributes) == {"wxtcb.endpoint": CREATE, "wxtcb.outcome": "ok"}
    assert rig.spans == ()


async def test_without_an_sdk_the_hook_does_nothing(new_session, wechat):
    """opentelemetry-api alone is enough, and keeps nothing."""
    wechat.usual[LIST] = {"info_list": []}
    wechat.play(LIST, -1)
    async with new_session(hooks=[OpenTelemetryHook()]) as session:
        assert (await environment.describe_envs(session)).info_list == ()
        assert not trace.get_current_span().is_recording()
