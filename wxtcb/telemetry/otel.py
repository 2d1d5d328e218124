"""Spans and metrics for OpenTelemetry; needs only opentelemetry-api."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from contextvars import ContextVar, Token
from typing import Final, TypeAlias

import attrs
from opentelemetry import context, metrics, trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, Status, StatusCode
from yarl import URL

from wxtcb.events import CallFinished, CallStarted, Event, Hook, SessionInfo, TokenRefreshed, TokenRefreshFailed
from wxtcb.telemetry.metrics import (
    COUNTERS,
    DURATION_BUCKETS,
    DURATION_HELP,
    GAUGES,
    Counter,
    Gauge,
    SessionRegistry,
    increment_for,
)

Attributes: TypeAlias = dict[str, str | int | float | bool]

APPID_ATTRIBUTE: Final = "wxtcb.component_appid"


@attrs.frozen(eq=False)
class _CurrentCall:
    """Span of the call that the current task makes, and what is needed to leave it."""

    span: Span
    context_token: Token[Context]
    parent: _CurrentCall | None


@attrs.frozen(eq=False)
class _Instruments:
    """Instruments shared by all sessions of a hook."""

    tracer: trace.Tracer
    durations: metrics.Histogram
    counters: Mapping[Counter, metrics.Counter]
    current_call: ContextVar[_CurrentCall | None] = attrs.field(
        init=False, factory=lambda: ContextVar("wxtcb current call", default=None)
    )


@attrs.frozen(eq=False)
class _EventRecorder:
    """Hook that records the events of one session."""

    instruments: _Instruments
    span_attributes: Attributes
    metric_attributes: Attributes

    def __call__(self, event: Event, /) -> None:
        match event:
            case CallStarted():
                self._start_call_span(event)
            case CallFinished():
                self._end_call_span(event)
            case TokenRefreshed() | TokenRefreshFailed():
                self._record_refresh_span(event)
                self._increment_counter(event)
            case _:
                if (call := self.instruments.current_call.get()) is not None:
                    call.span.add_event(type(event).__name__, _event_attributes(event))
                self._increment_counter(event)

    def _start_call_span(self, event: CallStarted) -> None:
        instruments = self.instruments
        attributes = {**self.span_attributes, "rpc.method": event.endpoint, "wxtcb.call": event.call}
        span = instruments.tracer.start_span(event.endpoint, kind=SpanKind.CLIENT, attributes=attributes)
        context_token = context.attach(trace.set_span_in_context(span))
        # The events of a call can nest: a view of the session may have the same hook a second time.
        instruments.current_call.set(_CurrentCall(span, context_token, instruments.current_call.get()))

    def _end_call_span(self, event: CallFinished) -> None:
        instruments = self.instruments
        outcome = event.outcome
        labels = {**self.metric_attributes, "wxtcb.endpoint": event.endpoint, "wxtcb.outcome": outcome}
        instruments.durations.record(event.elapsed, labels)
        # A hook that was called by hand, without the start of the call, has no span for it.
        if (call := instruments.current_call.get()) is None:
            return
        if call.span.is_recording():
            _set_call_result(call.span, event)
        call.span.end()
        context.detach(call.context_token)
        instruments.current_call.set(call.parent)

    def _record_refresh_span(self, event: TokenRefreshed | TokenRefreshFailed) -> None:
        """Record a span for a refresh that has ended, in a trace of its own: many calls wait for one refresh."""
        now = time.time_ns()
        span = self.instruments.tracer.start_span(
            "token refresh",
            attributes={**self.span_attributes, **_event_attributes(event)},
            start_time=now - int(event.elapsed * 1e9),
        )
        if isinstance(event, TokenRefreshFailed):
            span.set_attribute("error.type", type(event.error).__name__)
            span.set_status(Status(StatusCode.ERROR, event.error.reason))
        span.end(now)

    def _increment_counter(self, event: Event) -> None:
        if (increment := increment_for(event)) is not None:
            counter, values = increment
            labels = {f"wxtcb.{name}": value for name, value in zip(counter.labels, values, strict=True)}
            self.instruments.counters[counter].add(1, {**self.metric_attributes, **labels})


def _event_attributes(event: Event) -> Attributes:
    fields = event.to_dict()
    del fields["kind"]
    return {f"wxtcb.{name}": value for name, value in fields.items() if isinstance(value, str | int | float)}


def _set_call_result(span: Span, event: CallFinished) -> None:
    span.set_attributes({"wxtcb.outcome": event.outcome, "wxtcb.sends": event.attempts})
    if event.error is None:
        return
    fields = event.to_dict()
    span.set_attribute("error.type", event.outcome)
    span.set_attribute("wxtcb.maybe_acted", event.error.maybe_acted)
    if "errcode" in fields:
        span.set_attribute("rpc.response.status_code", str(fields["errcode"]))
    if "rid" in fields:
        span.set_attribute("wxtcb.rid", str(fields["rid"]))
    span.set_status(Status(StatusCode.ERROR, event.error.reason))


class OpenTelemetryHook:
    """Hook that creates a span for every call and every token refresh, and the metrics listed in docs/telemetry.md.

    The span of a call is a child of the current span. It is itself current until the call ends, so that the spans of an
    instrumented aiohttp session become its children. Use one hook for all sessions of a process: spans and metrics
    carry the attribute ``wxtcb.component_appid``. Gauges are read from the open sessions, and combined for sessions of
    one appid. The hook keeps no session alive. *tracer_provider* and *meter_provider* default to the global providers.
    Without an SDK nothing is recorded.
    """

    def __init__(
        self,
        *,
        tracer_provider: trace.TracerProvider | None = None,
        meter_provider: metrics.MeterProvider | None = None,
    ) -> None:
        meter = metrics.get_meter("wxtcb", meter_provider=meter_provider)
        self._sessions = SessionRegistry()
        self._instruments = _Instruments(
            trace.get_tracer("wxtcb", tracer_provider=tracer_provider),
            meter.create_histogram(
                "wxtcb.call.duration", "s", DURATION_HELP, explicit_bucket_boundaries_advisory=list(DURATION_BUCKETS)
            ),
            {each: meter.create_counter(f"wxtcb.{each.name}", each.unit, each.help) for each in COUNTERS},
        )
        for gauge in GAUGES:
            meter.create_observable_gauge(
                f"wxtcb.{gauge.name}", [_gauge_callback(self._sessions, gauge)], gauge.unit, gauge.help
            )
        self._unbound_recorder = _EventRecorder(self._instruments, {"rpc.system.name": "wechat"}, {})

    def __call__(self, event: Event, /) -> None:
        self._unbound_recorder(event)

    def bind(self, session: SessionInfo, /) -> Hook:
        metric_attributes: Attributes = {APPID_ATTRIBUTE: session.component_appid}
        url = URL(session.base_url)
        span_attributes = {
            **self._unbound_recorder.span_attributes,
            **metric_attributes,
            "server.address": url.host or "",
            "server.port": url.port or 0,
        }
        return _EventRecorder(self._instruments, span_attributes, metric_attributes)

    def on_session_open(self, session: SessionInfo, /) -> None:
        self._sessions.add(session)


def _gauge_callback(
    sessions: SessionRegistry, gauge: Gauge
) -> Callable[[metrics.CallbackOptions], Iterable[metrics.Observation]]:
    """Return the callback that observes *gauge* for all *sessions*."""

    def observe(_: metrics.CallbackOptions) -> Iterable[metrics.Observation]:
        for appid, stats in sessions.stats_by_appid().items():
            if (value := gauge.value(stats)) is not None:
                yield metrics.Observation(value, {APPID_ATTRIBUTE: appid})

    return observe
