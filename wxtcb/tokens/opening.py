"""The token life of one session, put together when the session opens; until then none of it is loaded."""

from __future__ import annotations

from wxtcb._http.executor import Exchange
from wxtcb.secret import Secret
from wxtcb.telemetry.dispatch import Observers
from wxtcb.tokens.cache import TokenCache
from wxtcb.tokens.providers import CentralService, ComponentTicket, KeptTicketSource, Origin
from wxtcb.tokens.refresh import LOOK_FOR_OTHERS, SHARE, Renewal, whoami
from wxtcb.tokens.shared_state import SharedRecord
from wxtcb.tokens.sources import ReadOnly, TicketSource, TokenSource
from wxtcb.tokens.stores import MemoryStore, TokenStore


def open_cache(
    exchange: Exchange,
    observers: Observers,
    *,
    component_appid: str,
    component_appsecret: Secret,
    ticket: TicketSource | None,
    token_source: TokenSource | ReadOnly | None,
    store: TokenStore | None,
    await_push: float | None,
    patience: float,
    max_fetches_per_hour: int | None,
) -> TokenCache:
    """Return the token cache of a session; without a *store* its record is in memory, for itself alone."""
    shared = SharedRecord(store or MemoryStore(exchange.now), component_appid)

    def origin() -> Origin | None:
        if isinstance(token_source, ReadOnly):
            return None
        if token_source is not None:
            return CentralService(token_source, patience)
        newest = ticket or KeptTicketSource(shared)
        return ComponentTicket(
            exchange, component_appid, component_appsecret, newest, exchange.now, patience, await_push or 0.0
        )

    rest = exchange.gate.rest
    advice = SHARE if store is None else LOOK_FOR_OTHERS
    renewal = Renewal(whoami(), shared, origin(), observers, exchange.now, rest, max_fetches_per_hour, advice)
    return TokenCache(renewal)
