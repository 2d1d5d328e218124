"""Ready hooks and filters: the log, OpenTelemetry, Prometheus, Sentry. What they stand on is loaded when it is used.

`OpenTelemetryHook` comes with the extra ``[otel]``, `PrometheusHook` with ``[prometheus]``.
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

_LAZY: Final = {
    "OpenTelemetryHook": ("otel", "opentelemetry"),
    "PrometheusHook": ("prometheus", "prometheus_client"),
}


def __dir__() -> list[str]:
    return __all__


def __getattr__(name: str) -> Any:  # a class of a room below, which type checkers see above
    if name not in _LAZY:
        raise AttributeError(f"module 'wxtcb.telemetry' has no attribute {name!r}")
    extra, package = _LAZY[name]
    try:
        room = importlib.import_module(f"wxtcb.telemetry.{extra}")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != package:
            raise
        room = None
    if room is None:
        raise ImportError(f"wxtcb.telemetry.{name} needs {package}: pip install 'wxtcb[{extra}]'", name=package)
    return getattr(room, name)
