"""The life of the component_access_token: where it comes from and where it is kept. Provisional."""

from wxtcb.tokens.sources import ComponentToken, TicketSource
from wxtcb.tokens.stores import Kept, MemoryStore, TokenStore

__all__ = ["ComponentToken", "Kept", "MemoryStore", "TicketSource", "TokenStore"]
