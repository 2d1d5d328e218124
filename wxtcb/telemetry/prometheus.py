"""Metrics for Prometheus; needs prometheus_client."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import attrs
import prometheus_client
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import REGISTRY, Collector, CollectorRegistry

from wxtcb.events import CallFinished, Event, Hook, SessionInfo
from wxtcb.telemetry import metrics

APPID_LABEL: Final = "component_appid"


@attrs.frozen(eq=False)
class _EventCounter:
    """Hook that counts the events of one session."""

    durations: prometheus_client.Histogram
    counters: Mapping[metrics.Counter, prometheus_client.Counter]
    component_appid: str

    def __call__(self, event: Event, /) -> None:
        if isinstance(event, CallFinished):
            self.durations.labels(self.component_appid, event.endpoint, event.outcome).observe(event.elapsed)
        elif (increment := metrics.increment_for(event)) is not None:
            counter, values = increment
            self.counters[counter].labels(self.component_appid, *values).inc()


@attrs.frozen(eq=False)
class _GaugeCollector(Collector):
    """Collector that reads the gauges of the open sessions at every scrape."""

    sessions: metrics.SessionRegistry

    def describe(self) -> Iterable[GaugeMetricFamily]:
        # Without this method the registry calls `collect` at registration to learn the names.
        return [_gauge_family(gauge) for gauge in metrics.GAUGES]

    def collect(self) -> Iterable[GaugeMetricFamily]:
        stats_by_appid = self.sessions.stats_by_appid().items()
        for gauge in metrics.GAUGES:
            family = _gauge_family(gauge)
            for appid, stats in stats_by_appid:
                if (value := gauge.value(stats)) is not None:
                    family.add_metric([appid], value)
            yield family


class PrometheusHook:
    """Hook that maintains the metrics listed in docs/telemetry.md in *registry*.

    Use one hook for all sessions of a process: the metrics carry the label ``component_appid``. Gauges are read from
    the open sessions, and combined for sessions of one appid. The hook keeps no session alive. Raises ValueError if
    *registry* already has such a hook.
    """

    def __init__(self, *, registry: CollectorRegistry = REGISTRY) -> None:
        self._sessions = metrics.SessionRegistry()
        self._durations = prometheus_client.Histogram(
            "wxtcb_call_duration_seconds",
            metrics.DURATION_HELP,
            [APPID_LABEL, "endpoint", "outcome"],
            buckets=metrics.DURATION_BUCKETS,
            registry=registry,
        )
        self._counters = {
            each: prometheus_client.Counter(
                _metric_name(each), each.help, [APPID_LABEL, *each.labels], registry=registry
            )
            for each in metrics.COUNTERS
        }
        registry.register(_GaugeCollector(self._sessions))

    def __call__(self, event: Event, /) -> None:
        _EventCounter(self._durations, self._counters, "")(event)

    def bind(self, session: SessionInfo, /) -> Hook:
        return _EventCounter(self._durations, self._counters, session.component_appid)

    def on_session_open(self, session: SessionInfo, /) -> None:
        self._sessions.add(session)


def _metric_name(metric: metrics.Counter | metrics.Gauge) -> str:
    unit = "_seconds" if metric.unit == "s" else ""
    return f"wxtcb_{metric.name.replace('.', '_')}{unit}"


def _gauge_family(gauge: metrics.Gauge) -> GaugeMetricFamily:
    return GaugeMetricFamily(_metric_name(gauge), gauge.help, labels=[APPID_LABEL])
