"""The life of the component_access_token: where it comes from and where it is kept. Provisional."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from wxtcb.tokens.sources import ComponentToken, ReadOnly, TicketSource, TokenSource
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
    """Load what only an open session needs when it is asked for."""
    if name != "Health":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    kind: type[Health] = importlib.import_module("wxtcb.tokens.health").Health
    return kind
