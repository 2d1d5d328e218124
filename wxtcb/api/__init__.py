"""The platform's calls, one module per group, loaded when it is first asked for; `endpoints` lists them all."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import ModuleType

    from wxtcb._protocol.endpoint import Endpoint, Reply
    from wxtcb.api import cloudrun, containers, database, environment, functions, hosting, storage, token

__all__ = [
    "cloudrun",
    "containers",
    "database",
    "endpoints",
    "environment",
    "functions",
    "hosting",
    "storage",
    "token",
]

_GROUPS = ("environment", "database", "storage", "hosting", "functions", "cloudrun", "containers", "token")


def endpoints() -> tuple[Endpoint[Reply], ...]:
    """Return every `Endpoint` that wxtcb knows, the token layer's two included."""
    groups = (importlib.import_module(f"wxtcb.api.{name}") for name in _GROUPS)
    return tuple(endpoint for group in groups for endpoint in group.ENDPOINTS)


def __dir__() -> list[str]:
    return __all__


def __getattr__(name: str) -> ModuleType:
    """Load a group of calls when it is first asked for: most programs need few of them."""
    if name in _GROUPS:
        return importlib.import_module(f"wxtcb.api.{name}")
    raise AttributeError(f"module 'wxtcb.api' has no attribute {name!r}")
