"""What to do about a token, seeing the record that all share: take what is kept, leave it to others, or renew."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import attrs

from wxtcb.errors import TokenCeiling, TokenContested, TransportError
from wxtcb.secret import Secret
from wxtcb.tokens.sources import API_COMPONENT_TOKEN
from wxtcb.tokens.state import HOUR, KeptToken, Record

WORTH_WAITING: Final = 4.0


@attrs.frozen
class Wish:
    """Why a token is wanted: `cause` as in `events.TokenRenewed`; `held`, which lives `held_left` seconds more, if any.

    `dead` are tokens that are of no use, whatever the store says; `not_latest` tells that the platform called the last
    one so. `generation` is the last one that this process knew.
    """

    cause: str
    held: Secret | None = None
    held_left: float = 0.0
    dead: tuple[Secret, ...] = ()
    not_latest: bool = False
    generation: int = 0


def serving(record: Record, now: float, wish: Wish) -> KeptToken | None:
    """Return the kept token if it serves: not dead, not the one held, and living longer than that."""
    token = record.token
    if token is None or token.value in wish.dead or token.value == wish.held:
        return None
    return token if token.left(now) > wish.held_left else None


def pause_before(record: Record, now: float, wish: Wish, leased: float) -> float:
    """Return for how many seconds to leave a renewal to others, 0 for not at all.

    *leased* says for how long somebody else holds the lease.
    Raises `TransportError` after the failure of somebody else, and `TokenContested`, where that is over 4 seconds.
    """
    if leased > 0:
        return leased
    if record.trouble is not None and (left := record.trouble.left(now)) > 0:
        if left > WORTH_WAITING:
            raise _failed_elsewhere(record.trouble.reason, left)
        return left
    truce = record.truce(now) if wish.not_latest else 0.0
    if truce > WORTH_WAITING:
        raise TokenContested(record.contests, truce)
    return truce


def stop_at_ceiling(ages: Iterable[float], ceiling: int | None) -> None:
    """Raise `TokenCeiling` where tokens of these *ages*, in seconds, are as many as may be fetched in an hour."""
    recent = sorted((age for age in ages if age < HOUR), reverse=True)
    if ceiling is not None and len(recent) >= ceiling:
        raise TokenCeiling(ceiling, HOUR - recent[-ceiling])


def _failed_elsewhere(reason: str, left: float) -> TransportError:
    words = f"the last renewal by a process of this platform failed ({reason}), and the next is due in {left:.0f} s"
    error = TransportError(words, endpoint=API_COMPONENT_TOKEN.path, sent=False)
    error.retry_after = left
    return error
