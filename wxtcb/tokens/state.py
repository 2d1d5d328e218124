"""What all processes of a platform know in common: token, ticket, who may renew, and what went wrong. Pure thinking.

A `TokenState` is a value; each of its methods returns the record that comes next, or None where the change may not be made
(any more). All times are seconds on the clock of the store that keeps it. Because that clock may be set back, no span
that is derived from it is believed beyond the length it can have.
"""

from __future__ import annotations

from typing import Final

import attrs
import orjson

from wxtcb._protocol.converter import structure_hook
from wxtcb.secret import Secret

HOUR: Final = 3600.0
LEASE_DURATION: Final = 5.0
MAX_BACKOFF: Final = 30.0
TICKET_TTL: Final = 12 * HOUR
CONFLICT_WINDOW: Final = 600.0
CONFLICT_THRESHOLD: Final = 3
MAX_CONFLICT_BACKOFF: Final = 60.0
MAX_FETCH_TIMES: Final = 1000
_FORMAT_VERSION: Final = 1


def _exponential_backoff(doublings: int, maximum: float) -> float:
    """Return a pause of 1 second, doubled so many *times*, and no longer than *longest*."""
    return min(maximum, 2.0 ** min(doublings, 10))


def _remaining(until: float, now: float, duration: float) -> float:
    """Return what is left of a *whole* pause; more than the whole can only come of a clock set back, and is nothing."""
    return until - now if until - now <= duration else 0.0


@attrs.frozen
class StoredToken:
    """A component_access_token: who (`by`) fetched it, and why (`reason`, as in `events.TokenRefreshed`).

    It was asked for at `requested_at`, and the answer `took` so many seconds.
    """

    value: Secret
    generation: int
    life: float
    minted_at: float
    by: str
    cause: str
    took: float = 0.0

    def remaining(self, now: float) -> float:
        """Return the seconds until it expires, below 0 when it has."""
        return min(self.life, self.minted_at + self.life - now)


@attrs.frozen
class StoredTicket:
    """A component_verify_ticket; `create_time` is its CreateTime, Unix seconds by the platform's clock."""

    value: Secret
    created: int
    kept_at: float

    def age(self, now: float) -> float:
        """Return the seconds since it was kept."""
        return max(0.0, now - self.kept_at)


@attrs.frozen
class Lease:
    """The right to renew, of the process `by`, until it is given back or its time is up.

    `counts_as_fetch`: a token that is asked for under it counts as fetched from the platform. `contested`: it takes the place
    of one that was called "not latest" soon after it was fetched.
    """

    nonce: str
    by: str
    until: float
    counted: bool = True
    contested: bool = False

    def remaining(self, now: float) -> float:
        """Return the seconds it still holds for, not above 0 when it is over."""
        return min(LEASE_DURATION, self.until - now)


@attrs.frozen
class RefreshFailure:
    """The last renewals, `failure_count` of them, failed for a passing `reason`; none is tried before `until`."""

    failures: int
    reason: str
    until: float
    pause: float

    def remaining(self, now: float) -> float:
        """Return the seconds of the pause that are left, not above 0 when it is over."""
        return _remaining(self.until, now, self.pause)


@attrs.frozen
class RejectedRefresh:
    """What WeChat refused a fetch with, for a reason that does not pass by itself, when the process `by` made it."""

    errcode: int
    errmsg: str
    by: str
    at: float


@attrs.frozen
class TokenState:
    """The state of a platform's token and ticket.

    `mints` are the times at which tokens of the last hour were asked for. `contests` counts how often in a row a token
    had to be replaced because the platform called it "not latest". `refusal` is the last one since the newest token.
    """

    token: StoredToken | None = None
    ticket: StoredTicket | None = None
    lease: Lease | None = None
    trouble: RefreshFailure | None = None
    mints: tuple[float, ...] = ()
    contests: int = 0
    refusal: RejectedRefresh | None = None

    def lease_for(self, nonce: str) -> Lease | None:
        """Return the lease if it is that of *nonce*."""
        return self.lease if self.lease is not None and self.lease.nonce == nonce else None

    def recent_fetch_times(self, now: float) -> tuple[float, ...]:
        """Return when the tokens of the last hour were asked for, the oldest first."""
        return tuple(min(at, now) for at in self.mints if now - HOUR < at)

    def conflict_backoff(self, now: float) -> float:
        """Return the seconds that another replacement of a token called "not latest" has to wait for."""
        if self.contests < CONFLICT_THRESHOLD or not self.mints:
            return 0.0
        pause = _exponential_backoff(self.contests - CONFLICT_THRESHOLD, MAX_CONFLICT_BACKOFF)
        return max(0.0, _remaining(self.mints[-1] + pause, now, pause))

    def with_lease(self, nonce: str, owner: str, now: float, *, not_latest: bool, counts_as_fetch: bool) -> TokenState:
        """Give the right to renew away, and count the token that will be asked for."""
        mints = self.recent_fetch_times(now)
        contested = not_latest and bool(mints) and now - mints[-1] < CONFLICT_WINDOW
        return attrs.evolve(
            self,
            lease=Lease(nonce, owner, now + LEASE_DURATION, counts_as_fetch, contested),
            mints=(*mints, now)[-MAX_FETCH_TIMES:] if counts_as_fetch else mints,
        )

    def with_lease_extended(self, nonce: str, now: float) -> TokenState | None:
        """Prolong the lease of *nonce*, unless it has gone to somebody else."""
        lease = self.lease_for(nonce)
        return None if lease is None else attrs.evolve(self, lease=attrs.evolve(lease, until=now + LEASE_DURATION))

    def with_fetched_token(
        self, nonce: str, token: Secret, ttl: float, *, age: float, now: float, reason: str
    ) -> TokenState | None:
        """Keep the token fetched under the lease of *nonce*, and end the lease."""
        if (lease := self.lease_for(nonce)) is None:
            return None
        settled = attrs.evolve(self, contests=self.contests + 1 if lease.contested else 0)
        return settled.with_token(token, ttl, age=age, now=now, fetched_by=lease.by, reason=reason)

    def with_fetch_counted(self, requested_at: float, now: float) -> TokenState:
        """Count a token that was asked for without a lease."""
        return attrs.evolve(self, mints=tuple(sorted((*self.recent_fetch_times(now), requested_at)))[-MAX_FETCH_TIMES:])

    def with_token(
        self, token: Secret, ttl: float, *, age: float, now: float, fetched_by: str, reason: str
    ) -> TokenState:
        """Keep a token as the newest; whoever held a lease holds it no longer."""
        generation = 1 if self.token is None else self.token.generation + 1
        kept = StoredToken(token, generation, ttl, now - age, fetched_by, reason)
        return attrs.evolve(self, token=kept, lease=None, trouble=None, refusal=None)

    def with_latency(self, seconds: float) -> TokenState:
        """Note how long the answer with the token took."""
        return self if self.token is None else attrs.evolve(self, token=attrs.evolve(self.token, took=seconds))

    def with_rejection(self, errcode: int, errmsg: str, owner: str, now: float) -> TokenState:
        """Keep, for all to see, what a fetch was refused with."""
        return attrs.evolve(self, refusal=RejectedRefresh(errcode, errmsg, owner, now))

    def with_failure(self, nonce: str, reason: str, now: float, *, backoff: float | None) -> TokenState | None:
        """End the lease of *nonce*, which brought no token.

        With a *pause*, nobody tries before it is over; without one, the failure concerns that process alone. It counts
        as no fetch, though a token may have been made for an answer that was lost: an outage must not use the ceiling
        up, and so outlast itself.
        """
        if (lease := self.lease_for(nonce)) is None:
            return None
        trouble = (
            self.trouble if backoff is None else RefreshFailure(self.failure_count + 1, reason, now + backoff, backoff)
        )
        mints = self.mints[:-1] if lease.counted else self.mints
        return attrs.evolve(self, lease=None, trouble=trouble, mints=mints)

    def without_lease(self, nonce: str) -> TokenState | None:
        """End the lease of *nonce* without a word on how the request ended; the token it may have made counts."""
        return None if self.lease_for(nonce) is None else attrs.evolve(self, lease=None)

    @property
    def failure_count(self) -> int:
        """The number of renewals that failed in a row."""
        return 0 if self.trouble is None else self.trouble.failures

    def next_backoff(self) -> float:
        """Return the pause in seconds after one more failure: 1, doubled each time, at most 30."""
        return _exponential_backoff(self.failure_count, MAX_BACKOFF)

    def with_ticket(self, ticket: Secret, create_time: int, now: float) -> TokenState | None:
        """Keep a ticket, unless the one that is kept is as new."""
        if self.ticket is not None and self.ticket.created >= create_time:
            return None
        return attrs.evolve(self, ticket=StoredTicket(ticket, create_time, now))


def dump_state(state: TokenState) -> str:
    """Return *record* as the document that stores keep; it holds the secrets in the clear."""

    def show(_: object, __: object, value: object) -> object:
        return value.reveal() if isinstance(value, Secret) else value

    return orjson.dumps({"format": _FORMAT_VERSION, **attrs.asdict(state, value_serializer=show)}).decode()


def parse_state(document: str | None) -> TokenState | None:
    """Return the record that *document* stands for, an empty one for None; None if it is nothing of the kind."""
    if document is None:
        return TokenState()
    try:
        fields = orjson.loads(document)
        record: TokenState = structure_hook(TokenState)(fields, TokenState)
    except Exception:
        return None
    return record if fields.get("format") == _FORMAT_VERSION else None
