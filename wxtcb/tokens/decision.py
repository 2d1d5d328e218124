"""What to do about a token, seeing the record that all share: take what is kept, leave it to others, or renew."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import attrs

from wxtcb.errors import TokenConflict, TokenFetchLimit, TransportError
from wxtcb.secret import Secret
from wxtcb.tokens.sources import API_COMPONENT_TOKEN
from wxtcb.tokens.state import HOUR, StoredToken, TokenState

MAX_BACKOFF_WAIT: Final = 4.0


@attrs.frozen
class RefreshRequest:
    """Why a token is wanted: `reason` as in `events.TokenRefreshed`; `current_token`, which lives `current_remaining` seconds more, if any.

    `invalid_tokens` are tokens that are of no use, whatever the store says; `not_latest` tells that the platform called the last
    one so. `generation` is the last one that this process knew.
    """

    reason: str
    current_token: Secret | None = None
    current_remaining: float = 0.0
    invalid_tokens: tuple[Secret, ...] = ()
    not_latest: bool = False
    generation: int = 0


def usable_token(state: TokenState, now: float, request: RefreshRequest) -> StoredToken | None:
    """Return the kept token if it serves: not dead, not the one held, and living longer than that."""
    token = state.token
    if token is None or token.value in request.invalid_tokens or token.value == request.current_token:
        return None
    return token if token.remaining(now) > request.current_remaining else None


def refresh_delay(state: TokenState, now: float, request: RefreshRequest, lease_remaining: float) -> float:
    """Return for how many seconds to leave a renewal to others, 0 for not at all.

    *leased* says for how long somebody else holds the lease.
    Raises `TransportError` after the failure of somebody else, and `TokenConflict`, where that is over 4 seconds.
    """
    if lease_remaining > 0:
        return lease_remaining
    if state.trouble is not None and (left := state.trouble.remaining(now)) > 0:
        if left > MAX_BACKOFF_WAIT:
            raise _peer_failure_error(state.trouble.reason, left)
        return left
    truce = state.conflict_backoff(now) if request.not_latest else 0.0
    if truce > MAX_BACKOFF_WAIT:
        raise TokenConflict(state.contests, truce)
    return truce


def check_hourly_limit(ages: Iterable[float], limit: int | None) -> None:
    """Raise `TokenFetchLimit` where tokens of these *ages*, in seconds, are as many as may be fetched in an hour."""
    recent = sorted((age for age in ages if age < HOUR), reverse=True)
    if limit is not None and len(recent) >= limit:
        raise TokenFetchLimit(limit, HOUR - recent[-limit])


def _peer_failure_error(reason: str, remaining: float) -> TransportError:
    words = (
        f"the last renewal by a process of this platform failed ({reason}), and the next is due in {remaining:.0f} s"
    )
    error = TransportError(words, endpoint=API_COMPONENT_TOKEN.path, sent=False)
    error.retry_after = remaining
    return error
