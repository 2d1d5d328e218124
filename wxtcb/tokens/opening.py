"""The token life of one session, put together when the session opens; until then none of it is loaded."""

from __future__ import annotations

from wxtcb._http.executor import RequestExecutor
from wxtcb.secret import Secret
from wxtcb.telemetry.dispatch import HookDispatcher
from wxtcb.tokens.cache import TokenCache
from wxtcb.tokens.providers import ExternalTokenProvider, StoredTicketSource, TicketTokenProvider, TokenProvider
from wxtcb.tokens.refresh import FIND_OTHER_FETCHER_HINT, SHARE_STORE_HINT, TokenRefresher, process_id
from wxtcb.tokens.shared_state import SharedState
from wxtcb.tokens.sources import ReadOnly, TicketSource, TokenSource
from wxtcb.tokens.stores import MemoryStore, TokenStore


def create_token_cache(
    executor: RequestExecutor,
    dispatcher: HookDispatcher,
    *,
    component_appid: str,
    component_appsecret: Secret,
    ticket: TicketSource | None,
    token_source: TokenSource | ReadOnly | None,
    store: TokenStore | None,
    push_timeout: float | None,
    timeout: float,
    max_fetches_per_hour: int | None,
) -> TokenCache:
    """Return the token cache of a session; without a *store* its record is in memory, for itself alone."""
    shared = SharedState(store or MemoryStore(executor.now), component_appid)

    def origin() -> TokenProvider | None:
        if isinstance(token_source, ReadOnly):
            return None
        if token_source is not None:
            return ExternalTokenProvider(token_source, timeout)
        newest = ticket or StoredTicketSource(shared)
        return TicketTokenProvider(
            executor, component_appid, component_appsecret, newest, executor.now, timeout, push_timeout or 0.0
        )

    rest = executor.limiter.sleep
    advice = SHARE_STORE_HINT if store is None else FIND_OTHER_FETCHER_HINT
    renewal = TokenRefresher(
        process_id(), shared, origin(), dispatcher, executor.now, rest, max_fetches_per_hour, advice
    )
    return TokenCache(renewal)
