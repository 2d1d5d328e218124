"""The ticket doctor: how token and ticket are, and what to do where something is wrong."""

from __future__ import annotations

import attrs

from wxtcb._protocol.errcodes import api_error
from wxtcb.errors import ApiError, TicketExpired, TicketMissing, TokenStoreError, WxtcbError
from wxtcb.tokens.cache import TokenCache
from wxtcb.tokens.sources import API_COMPONENT_TOKEN
from wxtcb.tokens.state import TICKET_TTL, RejectedRefresh, TokenState


@attrs.frozen(kw_only=True)
class Health:
    """The life of a platform's token and ticket at one moment; seconds throughout, None for what is not known.

    The token is the one that this process works with, or else the one in the store; `token_fetched_by` names the process (host
    and process id) that fetched it, `token_fetch_reason` says why: "first", "advisory", "mandatory", "expired" or "dead".
    `ticket_age` counts from when the kept ticket arrived, None where none is kept. `fetches_last_hour` of tokens were made within
    the last hour by all who share the store, of at most `max_fetches_per_hour`. `lease_owner` names the process that fetches one just
    now. `last_error` is why the last renewal of this process failed, None if it did not; `problems` are the errors that a
    call would meet now, or will soon, each saying what to do; among them what WeChat refused the last fetch with, by
    whichever process.
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
        """Whether nothing is wrong."""
        return not self.problems


async def read_health(cache: TokenCache) -> Health:
    """Look at what *cache* holds and at what its store keeps."""
    renewal, down, now = cache.refresher, None, 0.0
    record = TokenState()
    try:
        seen = await renewal.shared_state.read()
    except TokenStoreError as error:
        down = error
    else:
        record, now = seen.state, seen.store_time
    return _build_health(cache, record, now, down)


def _build_health(cache: TokenCache, state: TokenState, now: float, store_error: TokenStoreError | None) -> Health:
    token, ticket, lease = state.token, state.ticket, state.lease
    kept = None if token is None else (token.life - token.remaining(now), token.remaining(now))
    age, left = cache.age_and_remaining() or kept or (None, None)
    fetched = cache.current
    known = (
        (None if token is None else (token.by, token.cause))
        if fetched is None
        else (fetched.fetched_by, fetched.reason)
    )
    ticket_age = None if ticket is None else ticket.age(now)
    failure = None if isinstance(cache.last_error, TokenStoreError) and store_error is not None else cache.last_error
    refusal = None if state.refusal is None or isinstance(failure, ApiError) else _rejection_error(state.refusal)
    lacking = _ticket_error(ticket_age) if cache.refresher.uses_stored_ticket and store_error is None else None
    return Health(
        token_age=age,
        token_expires_in=left,
        token_fetched_by=None if known is None else known[0],
        token_fetch_reason=None if known is None else known[1],
        ticket_age=ticket_age,
        fetches_last_hour=None if store_error is not None else len(state.recent_fetch_times(now)),
        max_fetches_per_hour=cache.refresher.max_fetches_per_hour,
        lease_owner=lease.by if lease is not None and lease.remaining(now) > 0 else None,
        last_error=cache.last_error,
        problems=tuple(problem for problem in (store_error, lacking, failure, refusal) if problem is not None),
    )


def _rejection_error(rejection: RejectedRefresh) -> WxtcbError:
    """Return the error that another process met."""
    error = api_error(rejection.errcode, rejection.errmsg, endpoint=API_COMPONENT_TOKEN.path, without_token=True)
    error.add_note(f"met by {rejection.by}")
    return error


def _ticket_error(ticket_age: float | None) -> WxtcbError | None:
    if ticket_age is None:
        return TicketMissing()
    return TicketExpired(ticket_age) if ticket_age > TICKET_TTL else None
