"""Health of a platform's token and ticket: their state, and the problems that calls would run into."""

from __future__ import annotations

import attrs

from wxtcb._protocol.errcodes import api_error
from wxtcb.errors import ApiError, TicketExpired, TicketMissing, TokenStoreError, WxtcbError
from wxtcb.tokens.cache import TokenCache
from wxtcb.tokens.providers import API_COMPONENT_TOKEN
from wxtcb.tokens.token_state import TICKET_TTL, TokenState


@attrs.frozen(kw_only=True)
class Health:
    """The state of a platform's token and ticket at one moment.

    All durations are in seconds. A field is None if its value is unknown. Token and process fields describe the token
    in this process, or else the one in the store.

    - `token_age`, `token_expires_in`: since the token was requested, and until it expires.
    - `token_fetched_by`: the process (host and process id) that fetched it.
    - `token_fetch_reason`: "first", "advisory", "mandatory", "expired" or "rejected".
    - `ticket_age`: since the stored ticket arrived.
    - `fetches_last_hour`: tokens fetched in the last hour by all processes that share the store, of at most
      `max_fetches_per_hour`.
    - `lease_owner`: the process that is fetching a token now.
    - `last_error`: the error of this process's last refresh, None if it succeeded.
    - `problems`: the errors that a call would raise now or soon, each with what to do. They include the last rejection
      by WeChat, also one that another process received.
    """

    token_age: float | None
    token_expires_in: float | None
    token_fetched_by: str | None
    token_fetch_reason: str | None
    ticket_age: float | None
    fetches_last_hour: int | None
    max_fetches_per_hour: int | None
    lease_owner: str | None
    last_error: WxtcbError | None
    problems: tuple[WxtcbError, ...]

    @property
    def ok(self) -> bool:
        """Whether there are no problems."""
        return not self.problems


async def read_health(cache: TokenCache) -> Health:
    """Return the health of what *cache* and its store hold."""
    store_error, state, now = None, TokenState(), 0.0
    try:
        snapshot = await cache.refresher.state_repository.read()
    except TokenStoreError as error:
        store_error = error
    else:
        state, now = snapshot.state, snapshot.store_time
    token, ticket, lease = state.token, state.ticket, state.lease
    age_and_remaining = cache.age_and_remaining()
    if age_and_remaining is None and token is not None:
        age_and_remaining = token.ttl - token.remaining(now), token.remaining(now)
    age, remaining = age_and_remaining or (None, None)
    newest = cache.current or token
    ticket_age = None if ticket is None else ticket.age(now)

    # A store that is down is one problem, although the last refresh failed with it too.
    refresh_error = cache.last_error
    if isinstance(refresh_error, TokenStoreError) and store_error is not None:
        refresh_error = None
    # This process's own rejection is as new as the stored one, or newer.
    rejection = None
    if (stored := state.rejection) is not None and not isinstance(refresh_error, ApiError):
        path = API_COMPONENT_TOKEN.path
        rejection = api_error(stored.errcode, stored.errmsg, endpoint=path, without_token=True)
        rejection.add_note(f"received by {stored.owner}")
    ticket_error: WxtcbError | None = None
    if cache.refresher.uses_stored_ticket and store_error is None:
        if ticket_age is None:
            ticket_error = TicketMissing()
        elif ticket_age > TICKET_TTL:
            ticket_error = TicketExpired(ticket_age)

    # A refresh without a ticket failed for the reason that the missing ticket is.
    if ticket_error is not None and type(refresh_error) is type(ticket_error):
        refresh_error = None
    problems = (store_error, ticket_error, refresh_error, rejection)
    return Health(
        token_age=age,
        token_expires_in=remaining,
        token_fetched_by=None if newest is None else newest.fetched_by,
        token_fetch_reason=None if newest is None else newest.reason,
        ticket_age=ticket_age,
        fetches_last_hour=None if store_error is not None else len(state.recent_fetch_times(now)),
        max_fetches_per_hour=cache.refresher.max_fetches_per_hour,
        lease_owner=lease.owner if lease is not None and lease.remaining(now) > 0 else None,
        last_error=cache.last_error,
        problems=tuple(problem for problem in problems if problem is not None),
    )
