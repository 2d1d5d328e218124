"""The life of the component_access_token: where it comes from and where it is kept. Provisional."""

from wxtcb.tokens.health import Health
from wxtcb.tokens.sources import ComponentToken, ReadOnly, TicketSource, TokenSource
from wxtcb.tokens.stores import Kept, MemoryStore, SqliteStore, TokenStore

__all__ = [
    "ComponentToken",
    "Health",
    "Kept",
    "MemoryStore",
    "ReadOnly",
    "SqliteStore",
    "TicketSource",
    "TokenSource",
    "TokenStore",
]
