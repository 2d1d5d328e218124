"""Metrics for Prometheus; stands on prometheus_client."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import attrs
import prometheus_client
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import REGISTRY, Collector, CollectorRegistry

from wxtcb.events import CallFinished, Event, Hook, Observed
from wxtcb.telemetry.metrics import BUCKETS, COUNTERS, DURATION, GAUGES, Counter, Gauge, Watched, count

APPID: Final = "component_appid"


@attrs.frozen(eq=False)
class _Listener:
    """Counts the events of one session."""

    durations: prometheus_client.Histogram
    counters: Mapping[Counter, prometheus_client.Counter]
    component_appid: str

    def __call__(self, event: Event, /) -> None:
        if isinstance(event, CallFinished):
            self.durations.labels(self.component_appid, event.endpoint, event.outcome).observe(event.elapsed)
        elif (counted := count(event)) is not None:
            counter, values = counted
            self.counters[counter].labels(self.component_appid, *values).inc()


@attrs.frozen(eq=False)
class _Gauges(Collector):
    """Reads the open sessions when Prometheus asks."""

    watched: Watched

    def describe(self) -> Iterable[GaugeMetricFamily]:
        return [_family(gauge) for gauge in GAUGES]

    def collect(self) -> Iterable[GaugeMetricFamily]:
        readings = self.watched.read().items()
        for gauge in GAUGES:
            family = _family(gauge)
            for appid, stats in readings:
                if (value := gauge.value(stats)) is not None:
                    family.add_metric([appid], value)
            yield family


class PrometheusHook:
    """The metrics listed in docs/telemetry.md, in *registry*.

    Give one hook to all sessions of a process: their figures carry the label ``component_appid``. The gauges are read
    off the sessions that are open, together where they share an appid; the hook keeps none alive. A second hook in one
    registry is a ValueError.
    """

    def __init__(self, *, registry: CollectorRegistry = REGISTRY) -> None:
        self._watched = Watched()
        self._durations = prometheus_client.Histogram(
            "wxtcb_call_duration_seconds", DURATION, [APPID, "endpoint", "outcome"], buckets=BUCKETS, registry=registry
        )
        self._counters = {
            each: prometheus_client.Counter(_name(each), each.help, [APPID, *each.labels], registry=registry)
            for each in COUNTERS
        }
        registry.register(_Gauges(self._watched))

    def __call__(self, event: Event, /) -> None:
        _Listener(self._durations, self._counters, "")(event)

    def bind(self, session: Observed, /) -> Hook:
        return _Listener(self._durations, self._counters, session.component_appid)

    def watch(self, session: Observed, /) -> None:
        self._watched.add(session)


def _name(measure: Counter | Gauge) -> str:
    unit = "_seconds" if measure.unit == "s" else ""
    return f"wxtcb_{measure.name.replace('.', '_')}{unit}"


def _family(gauge: Gauge) -> GaugeMetricFamily:
    return GaugeMetricFamily(_name(gauge), gauge.help, labels=[APPID])
