"""Spans and metrics for OpenTelemetry; stands on opentelemetry-api alone."""

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

from wxtcb.events import CallFinished, CallStarted, Event, Hook, Observed, RenewalFailed, TokenRenewed
from wxtcb.telemetry.dispatch import facts
from wxtcb.telemetry.metrics import BUCKETS, COUNTERS, DURATION, GAUGES, Counter, Gauge, Watched, count

Attributes: TypeAlias = dict[str, str | int | float | bool]

APPID: Final = "wxtcb.component_appid"


@attrs.frozen(eq=False)
class _UnderWay:
    """The span of the call that the present task makes, and how to leave it."""

    span: Span
    entered: Token[Context]
    outer: _UnderWay | None


@attrs.frozen(eq=False)
class _Instruments:
    """What all sessions share."""

    tracer: trace.Tracer
    durations: metrics.Histogram
    counters: Mapping[Counter, metrics.Counter]
    under_way: ContextVar[_UnderWay | None] = attrs.field(
        init=False, factory=lambda: ContextVar("wxtcb call under way", default=None)
    )


@attrs.frozen(eq=False)
class _Listener:
    """Writes down the events of one session."""

    instruments: _Instruments
    of_spans: Attributes
    of_figures: Attributes

    def __call__(self, event: Event, /) -> None:
        match event:
            case CallStarted():
                self._begin(event)
            case CallFinished():
                self._end(event)
            case TokenRenewed() | RenewalFailed():
                self._renewal(event)
                self._count(event)
            case _:
                self._note(event)
                self._count(event)

    def _begin(self, event: CallStarted) -> None:
        instruments = self.instruments
        attributes = {**self.of_spans, "rpc.method": event.endpoint, "wxtcb.call": event.call}
        span = instruments.tracer.start_span(event.endpoint, kind=SpanKind.CLIENT, attributes=attributes)
        entered = context.attach(trace.set_span_in_context(span))
        instruments.under_way.set(_UnderWay(span, entered, instruments.under_way.get()))

    def _end(self, event: CallFinished) -> None:
        instruments = self.instruments
        outcome = event.outcome
        labels = {**self.of_figures, "wxtcb.endpoint": event.endpoint, "wxtcb.outcome": outcome}
        instruments.durations.record(event.elapsed, labels)
        if (call := instruments.under_way.get()) is None:
            return
        if call.span.is_recording():
            _conclude(call.span, event)
        call.span.end()
        context.detach(call.entered)
        instruments.under_way.set(call.outer)

    def _note(self, event: Event) -> None:
        if (call := self.instruments.under_way.get()) is not None:
            call.span.add_event(type(event).__name__, _attributes(event))

    def _renewal(self, event: TokenRenewed | RenewalFailed) -> None:
        """Write a span afterwards; a renewal belongs to none of those who wait for it, and runs in no context."""
        now = time.time_ns()
        span = self.instruments.tracer.start_span(
            "token renewal",
            attributes={**self.of_spans, **_attributes(event)},
            start_time=now - int(event.elapsed * 1e9),
        )
        if isinstance(event, RenewalFailed):
            span.set_attribute("error.type", type(event.error).__name__)
            span.set_status(Status(StatusCode.ERROR, event.error.reason))
        span.end(now)

    def _count(self, event: Event) -> None:
        if (counted := count(event)) is not None:
            counter, values = counted
            labels = {f"wxtcb.{name}": value for name, value in zip(counter.labels, values, strict=True)}
            self.instruments.counters[counter].add(1, {**self.of_figures, **labels})


def _attributes(event: Event) -> Attributes:
    told = facts(event).items()
    return {f"wxtcb.{name}": value for name, value in told if isinstance(value, str | int | float)}


def _conclude(span: Span, event: CallFinished) -> None:
    span.set_attributes({"wxtcb.outcome": event.outcome, "wxtcb.sends": event.attempts})
    if event.error is None:
        return
    told = facts(event)
    span.set_attribute("error.type", event.outcome)
    span.set_attribute("wxtcb.maybe_acted", event.error.maybe_acted)
    if "errcode" in told:
        span.set_attribute("rpc.response.status_code", str(told["errcode"]))
    if "rid" in told:
        span.set_attribute("wxtcb.rid", str(told["rid"]))
    span.set_status(Status(StatusCode.ERROR, event.error.reason))


class OpenTelemetryHook:
    """A span for every call and every renewal of the token, and the metrics listed in docs/telemetry.md.

    A call's span is a child of the span that is current where the call is made, and is itself current until the call
    ends, so that spans of an instrumented aiohttp session become its children. Give one hook to all sessions of a
    process: their spans and figures carry the ``wxtcb.component_appid``. The gauges are read off the sessions that are
    open, together where they share an appid; the hook keeps none alive. The providers default to the global ones;
    without an SDK nothing is kept.
    """

    def __init__(
        self,
        *,
        tracer_provider: trace.TracerProvider | None = None,
        meter_provider: metrics.MeterProvider | None = None,
    ) -> None:
        meter = metrics.get_meter("wxtcb", meter_provider=meter_provider)
        self._watched = Watched()
        self._instruments = _Instruments(
            trace.get_tracer("wxtcb", tracer_provider=tracer_provider),
            meter.create_histogram(
                "wxtcb.call.duration", "s", DURATION, explicit_bucket_boundaries_advisory=list(BUCKETS)
            ),
            {each: meter.create_counter(f"wxtcb.{each.name}", each.unit, each.help) for each in COUNTERS},
        )
        for gauge in GAUGES:
            meter.create_observable_gauge(
                f"wxtcb.{gauge.name}", [_reader(self._watched, gauge)], gauge.unit, gauge.help
            )
        self._unbound = _Listener(self._instruments, {"rpc.system.name": "wechat"}, {})

    def __call__(self, event: Event, /) -> None:
        self._unbound(event)

    def bind(self, session: Observed, /) -> Hook:
        of_figures: Attributes = {APPID: session.component_appid}
        of_spans = {**self._unbound.of_spans, **of_figures, **_server(session.base_url)}
        return _Listener(self._instruments, of_spans, of_figures)

    def watch(self, session: Observed, /) -> None:
        self._watched.add(session)


def _server(base_url: str) -> Attributes:
    url = URL(base_url)
    return {"server.address": url.host or "", "server.port": url.port or 0}


def _reader(watched: Watched, gauge: Gauge) -> Callable[[metrics.CallbackOptions], Iterable[metrics.Observation]]:
    """Return what OpenTelemetry calls for the values of one gauge."""

    def observe(_: metrics.CallbackOptions) -> Iterable[metrics.Observation]:
        for appid, stats in watched.read().items():
            if (value := gauge.value(stats)) is not None:
                yield metrics.Observation(value, {APPID: appid})

    return observe
