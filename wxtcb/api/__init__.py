"""Endpoints of the platform, in one module per group; `endpoints` lists them all."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import ModuleType

    from wxtcb._protocol.endpoint import Endpoint, Reply
    from wxtcb.api import cloudrun, containers, database, environment, functions, hosting, storage, token

__all__ = ["cloudrun", "containers", "database", "endpoints", "environment", "functions", "hosting", "storage", "token"]

# In the order of the platform's documentation, which is the order of `wxtcb endpoints`.
_GROUPS = ("environment", "database", "storage", "hosting", "functions", "cloudrun", "containers", "token")


def endpoints() -> tuple[Endpoint[Reply], ...]:
    """Return every `Endpoint` of wxtcb, including the token endpoints."""
    groups = (importlib.import_module(f"wxtcb.api.{name}") for name in _GROUPS)
    return tuple(endpoint for group in groups for endpoint in group.ENDPOINTS)


def __dir__() -> list[str]:
    return __all__


def __getattr__(name: str) -> ModuleType:
    """Import a group on first access: most programs use one or two groups, and each takes time to import."""
    if name in _GROUPS:
        return importlib.import_module(f"wxtcb.api.{name}")
    raise AttributeError(f"module 'wxtcb.api' has no attribute {name!r}")
