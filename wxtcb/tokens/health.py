"""The ticket doctor: how token and ticket are, and what to do where something is wrong."""

from __future__ import annotations

import attrs

from wxtcb._protocol.errcodes import api_error
from wxtcb.errors import ApiError, TicketMissing, TicketTooOld, TokenStoreError, WxtcbError
from wxtcb.tokens.cache import TokenCache
from wxtcb.tokens.sources import API_COMPONENT_TOKEN
from wxtcb.tokens.state import TICKET_LIFE, Record, Refusal


@attrs.frozen(kw_only=True)
class Health:
    """The life of a platform's token and ticket at one moment; seconds throughout, None for what is not known.

    The token is the one that this process works with, or else the one in the store; `token_by` names the process (host
    and process id) that fetched it, `token_cause` says why: "first", "advisory", "mandatory", "expired" or "dead".
    `ticket_age` counts from when the kept ticket arrived, None where none is kept. `fetches` of tokens were made within
    the last hour by all who share the store, of at most `ceiling`. `renewing` names the process that fetches one just
    now. `failure` is why the last renewal of this process failed, None if it did not; `problems` are the errors that a
    call would meet now, or will soon, each saying what to do; among them what WeChat refused the last fetch with, by
    whichever process.
    """

    token_age: float | None
    token_left: float | None
    token_by: str | None
    token_cause: str | None
    ticket_age: float | None
    fetches: int | None
    ceiling: int | None
    renewing: str | None
    failure: WxtcbError | None
    problems: tuple[WxtcbError, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems


async def look_at(cache: TokenCache) -> Health:
    """Look at what *cache* holds and at what its store keeps."""
    renewal, down, now = cache.renewal, None, 0.0
    record = Record()
    try:
        seen = await renewal.shared.read()
    except TokenStoreError as error:
        down = error
    else:
        record, now = seen.record, seen.now
    return _health(cache, record, now, down)


def _health(cache: TokenCache, record: Record, now: float, down: TokenStoreError | None) -> Health:
    token, ticket, lease = record.token, record.ticket, record.lease
    kept = None if token is None else (token.life - token.left(now), token.left(now))
    age, left = cache.life() or kept or (None, None)
    known = cache.held or token
    ticket_age = None if ticket is None else ticket.age(now)
    failure = None if isinstance(cache.failure, TokenStoreError) and down is not None else cache.failure
    refusal = None if record.refusal is None or isinstance(failure, ApiError) else _error_of(record.refusal)
    lacking = _lacking(ticket_age) if cache.renewal.needs_kept_ticket and down is None else None
    return Health(
        token_age=age,
        token_left=left,
        token_by=None if known is None else known.by,
        token_cause=None if known is None else known.cause,
        ticket_age=ticket_age,
        fetches=None if down is not None else len(record.recent_mints(now)),
        ceiling=cache.renewal.max_fetches_per_hour,
        renewing=lease.by if lease is not None and lease.left(now) > 0 else None,
        failure=cache.failure,
        problems=tuple(problem for problem in (down, lacking, failure, refusal) if problem is not None),
    )


def _error_of(refusal: Refusal) -> WxtcbError:
    """Return the error that another process met."""
    error = api_error(refusal.errcode, refusal.errmsg, endpoint=API_COMPONENT_TOKEN.path, tokenless=True)
    error.add_note(f"met by {refusal.by}")
    return error


def _lacking(ticket_age: float | None) -> WxtcbError | None:
    if ticket_age is None:
        return TicketMissing()
    return TicketTooOld(ticket_age) if ticket_age > TICKET_LIFE else None
