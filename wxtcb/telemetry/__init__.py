"""Hooks and filters for logging, OpenTelemetry, Prometheus and Sentry.

`OpenTelemetryHook` needs the extra ``[otel]``, `PrometheusHook` the extra ``[prometheus]``. Each is imported on first
access.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

from wxtcb.telemetry.dispatch import LoggingHook
from wxtcb.telemetry.filters import sentry_filter, url_filter

if TYPE_CHECKING:
    from wxtcb.telemetry.otel import OpenTelemetryHook
    from wxtcb.telemetry.prometheus import PrometheusHook

__all__ = ["LoggingHook", "OpenTelemetryHook", "PrometheusHook", "sentry_filter", "url_filter"]

_LAZY: Final = {"OpenTelemetryHook": ("otel", "opentelemetry"), "PrometheusHook": ("prometheus", "prometheus_client")}


def __dir__() -> list[str]:
    return __all__


# `Any` hides nothing from type checkers: they see the classes in the `TYPE_CHECKING` block above.
def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'wxtcb.telemetry' has no attribute {name!r}")
    extra, package = _LAZY[name]
    try:
        module = importlib.import_module(f"wxtcb.telemetry.{extra}")
    except ModuleNotFoundError as error:
        # Only the extra's own package may be missing; anything else is a broken installation, which must be shown.
        if (error.name or "").partition(".")[0] != package:
            raise
        message = f"wxtcb.telemetry.{name} needs {package}: pip install 'wxtcb[{extra}]'"
        raise ImportError(message, name=package) from error
    return getattr(module, name)
