"""Tokens: where component_access_tokens come from, where they are stored, and their health. Provisional."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from wxtcb.tokens.providers import ComponentToken, ReadOnly, TicketSource, TokenSource
from wxtcb.tokens.stores import MemoryStore, SqliteStore, StoredDocument, TokenStore

if TYPE_CHECKING:
    from wxtcb.tokens.health import Health

__all__ = [
    "ComponentToken",
    "Health",
    "MemoryStore",
    "ReadOnly",
    "SqliteStore",
    "StoredDocument",
    "TicketSource",
    "TokenSource",
    "TokenStore",
]


def __getattr__(name: str) -> type[Health]:
    """Import `Health` on first access: it loads the token cache, which only an open session needs."""
    if name != "Health":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    health: type[Health] = importlib.import_module("wxtcb.tokens.health").Health
    return health
