"""The life of the component_access_token: where it comes from and where it is kept. Provisional."""

from wxtcb.tokens.sources import ComponentToken, TicketSource
from wxtcb.tokens.stores import MemoryStore, TokenRecord, TokenStore

__all__ = ["ComponentToken", "MemoryStore", "TicketSource", "TokenRecord", "TokenStore"]
