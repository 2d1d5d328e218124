"""What does a hook cost?

The two events of every call are made and handed to it; nothing is sent, and the log is at WARNING. The floor is a hook
that does nothing. Without any hook, and with the log above DEBUG, a call makes no events at all.
"""

from __future__ import annotations

import argparse
import statistics
from typing import Final

import prometheus_client
from figures import Figure, Interval
from harness import interleave, main, working
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider

import wxtcb
from wxtcb.events import CallFinished, CallStarted, Event, Hook
from wxtcb.telemetry import OpenTelemetryHook, PrometheusHook
from wxtcb.telemetry.dispatch import HookDispatcher

PATH: Final = "/componenttcb/createenv"


def nothing(event: Event) -> None:
    """Stand for the quickest hook there is."""


def hooks() -> dict[str, Hook]:
    """Return what is compared; with an SDK the spans are made and dropped, and the figures kept in memory."""
    return {
        "floor": nothing,
        "PrometheusHook": PrometheusHook(registry=prometheus_client.CollectorRegistry()),
        "OpenTelemetryHook, no SDK": OpenTelemetryHook(),
        "OpenTelemetryHook, SDK": OpenTelemetryHook(
            tracer_provider=TracerProvider(), meter_provider=MeterProvider([InMemoryMetricReader()])
        ),
        "control": nothing,
    }


async def measure(chosen: argparse.Namespace) -> list[Figure]:
    """Take turns."""
    rounds, times = (2, 10) if chosen.quick else (40, 2_000)
    session = wxtcb.Session(component_appid="wx0123456789abcdef", component_appsecret="bench", ticket="bench")
    observed = {name: HookDispatcher.create(session, [hook]) for name, hook in hooks().items()}

    def tell(observers: HookDispatcher) -> None:
        observers.emit(CallStarted(PATH, 1))
        observers.emit(CallFinished(PATH, 1, 1, 0.1, None, cancelled=False))

    blocks = {name: working(lambda each=each: tell(each), times) for name, each in observed.items()}
    costs = await interleave(blocks, rounds)
    return [_figure(costs, name) for name in costs if name not in ("floor", "control")]


def _figure(costs: dict[str, list[float]], name: str) -> Figure:
    return Figure(
        f"{name}, per call",
        Interval.ratio(costs[name], costs["floor"]),
        ours=statistics.median(costs[name]),
        floor=statistics.median(costs["floor"]),
        measure="us CPU",
        beside="a hook that does nothing",
        control=Interval.ratio(costs["control"], costs["floor"]),
    )


if __name__ == "__main__":
    raise SystemExit(main(__doc__, measure, packages=["opentelemetry-sdk", "prometheus-client"]))
