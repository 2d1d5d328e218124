"""Measure what a hook adds to a call: the events are made and the hook is called, and nothing is sent.

`python benchmarks/hook_overhead.py` prints microseconds of processor time per call, with the log at WARNING. The floor
is a hook that does nothing, and a second one is the control.
"""

from __future__ import annotations

import statistics
import time
from typing import Final

import prometheus_client
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider

import wxtcb
from wxtcb.events import CallFinished, CallStarted, Event, Hook, Observers
from wxtcb.telemetry import OpenTelemetryHook, PrometheusHook

PATH: Final = "/componenttcb/createenv"
CALLS: Final = 5_000
ROUNDS: Final = 40


def nothing(event: Event) -> None:
    """Stand for the quickest hook there is."""


def hooks() -> dict[str, Hook]:
    """Return what is compared; with an SDK the spans are made and dropped, and the figures kept in memory."""
    return {
        "empty hook": nothing,
        "empty hook (control)": lambda _: None,
        "PrometheusHook": PrometheusHook(registry=prometheus_client.CollectorRegistry()),
        "OpenTelemetryHook, no SDK": OpenTelemetryHook(),
        "OpenTelemetryHook, SDK": OpenTelemetryHook(
            tracer_provider=TracerProvider(), meter_provider=MeterProvider([InMemoryMetricReader()])
        ),
    }


def cost(observers: Observers) -> float:
    """Return the microseconds per call."""
    started = time.process_time()
    for number in range(CALLS):
        observers.emit(CallStarted(PATH, number))
        observers.emit(CallFinished(PATH, number, 1, 0.1, None, cancelled=False))
    return (time.process_time() - started) / CALLS * 1e6


def main() -> None:
    """Measure in turns, and print the medians."""
    session = wxtcb.Session(component_appid="wx0123456789abcdef", component_appsecret="bench", ticket="bench")
    observed = {name: Observers.of(session, [hook]) for name, hook in hooks().items()}
    costs: dict[str, list[float]] = {name: [] for name in observed}
    for _ in range(ROUNDS):
        for name, observers in observed.items():
            costs[name].append(cost(observers))
    for name, each in costs.items():
        print(f"{name:26} {statistics.median(each):6.1f} us per call")


if __name__ == "__main__":
    main()
