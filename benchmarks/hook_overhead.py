"""CPU time of the hooks of `wxtcb.telemetry`, compared with a hook that does nothing.

Measured are the creation of the two events of a call and their dispatch to the hook. No request is sent; the log level
is WARNING. Without a hook, and with a log level above DEBUG, a call creates no events.
"""

from __future__ import annotations

import argparse
import statistics
from typing import Final

import prometheus_client
from figures import Figure, Interval
from harness import interleave, main, work_block
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider

import wxtcb
from wxtcb.events import CallFinished, CallStarted, Event, Hook
from wxtcb.telemetry import OpenTelemetryHook, PrometheusHook
from wxtcb.telemetry.dispatch import HookDispatcher

PATH: Final = "/componenttcb/createenv"


def do_nothing(event: Event) -> None:
    """Ignore the event."""


def create_hooks() -> dict[str, Hook]:
    """Return the hooks; the SDK of OpenTelemetry discards spans and keeps metrics in memory."""
    return {
        "baseline": do_nothing,
        "PrometheusHook": PrometheusHook(registry=prometheus_client.CollectorRegistry()),
        "OpenTelemetryHook, no SDK": OpenTelemetryHook(),
        "OpenTelemetryHook, SDK": OpenTelemetryHook(
            tracer_provider=TracerProvider(), meter_provider=MeterProvider([InMemoryMetricReader()])
        ),
        "control": do_nothing,
    }


async def measure(options: argparse.Namespace) -> list[Figure]:
    """Measure all hooks."""
    rounds, times = (2, 10) if options.quick else (40, 2_000)
    session = wxtcb.Session(component_appid="wx0123456789abcdef", component_appsecret="bench", ticket="bench")
    dispatchers = {name: HookDispatcher.create(session, [hook]) for name, hook in create_hooks().items()}

    def emit(dispatcher: HookDispatcher) -> None:
        dispatcher.emit(CallStarted(PATH, 1))
        dispatcher.emit(CallFinished(PATH, 1, 1, 0.1, None, cancelled=False))

    blocks = {name: work_block(lambda each=each: emit(each), times) for name, each in dispatchers.items()}
    costs = await interleave(blocks, rounds)
    return [_figure(costs, name) for name in costs if name not in ("baseline", "control")]


def _figure(costs: dict[str, list[float]], name: str) -> Figure:
    return Figure(
        f"{name}, per call",
        Interval.ratio(costs[name], costs["baseline"]),
        value=statistics.median(costs[name]),
        baseline=statistics.median(costs["baseline"]),
        value_unit="us CPU",
        baseline_name="a hook that does nothing",
        control=Interval.ratio(costs["control"], costs["baseline"]),
    )


if __name__ == "__main__":
    raise SystemExit(main(__doc__, measure, packages=["opentelemetry-sdk", "prometheus-client"]))
