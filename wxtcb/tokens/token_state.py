"""State of one platform that its processes share: immutable values, pure transitions, and their JSON. No I/O.

A `TokenState` has the token, the ticket, the lease and the failures of a platform. Each of its `with_...` methods
returns the next state, or None if the change is not allowed (any more), for example because the lease has moved on.
`wxtcb.tokens.state_repository` reads and writes it in a token store.

All times are seconds on the store's clock. That clock may be set back, so no duration computed from it is trusted
beyond its possible maximum.
"""

from __future__ import annotations

from typing import Final

import attrs
import orjson

from wxtcb._concurrency.tasks import Backoff
from wxtcb._protocol.fields import wire_fields, wire_name
from wxtcb._protocol.structuring import structure_hook
from wxtcb.secret import Secret

HOUR: Final = 3600.0
LEASE_DURATION: Final = 5.0
MAX_BACKOFF: Final = 30.0
TICKET_TTL: Final = 12 * HOUR

RETRY_BACKOFF: Final = Backoff(1.0, MAX_BACKOFF)

# A token that is replaced as "not latest" (40001) within this time of its fetch points to a second fetcher.
CONFLICT_WINDOW: Final = 600.0
CONFLICT_THRESHOLD: Final = 3
CONFLICT_BACKOFF: Final = Backoff(1.0, 60.0)

# Bounds the document: without an hourly limit a process could fetch thousands of tokens in an hour.
MAX_FETCH_TIMES: Final = 1000
_FORMAT_VERSION: Final = 1


def _remaining(until: float, now: float, duration: float) -> float:
    """Return the seconds from *now* to *until*, or 0 if that is more than the whole *duration*."""
    # More than the whole can only mean that the store's clock was set back. Waiting it out could take hours.
    return until - now if until - now <= duration else 0.0


# The attributes below carry the names of version 1 of the document as `wire_name`, so that processes which run
# different versions of wxtcb can share a store. Do not change these names without a new format version.


@attrs.frozen
class StoredToken:
    """A component_access_token in the store.

    `requested_at` is when its request was sent, and `latency` the seconds until the response. `ttl` counts from
    `requested_at`. `fetched_by` names the process that fetched it, and `reason` is that of `events.TokenRefreshed`.
    """

    value: Secret
    generation: int
    ttl: float = attrs.field(metadata=wire_name("life"))
    requested_at: float = attrs.field(metadata=wire_name("minted_at"))
    fetched_by: str = attrs.field(metadata=wire_name("by"))
    reason: str = attrs.field(metadata=wire_name("cause"))
    latency: float = attrs.field(default=0.0, metadata=wire_name("took"))

    def remaining(self, now: float) -> float:
        """Return the seconds until it expires, negative if it has expired."""
        # If the store's clock was set back, `requested_at` may be in the future. A token still lasts one ttl at most.
        return min(self.ttl, self.requested_at + self.ttl - now)


@attrs.frozen
class StoredTicket:
    """A component_verify_ticket (验证票据) in the store.

    `create_time` is its CreateTime, in Unix seconds on the platform's clock. `stored_at` is on the store's clock.
    """

    value: Secret
    create_time: int = attrs.field(metadata=wire_name("created"))
    stored_at: float = attrs.field(metadata=wire_name("kept_at"))

    def age(self, now: float) -> float:
        """Return the seconds since it was stored."""
        return max(0.0, now - self.stored_at)


@attrs.frozen
class Lease:
    """The right of the process `owner` to fetch the next token, until it is released or expires.

    `counts_as_fetch` is true if the fetch counts towards the hourly limit. `is_conflict` is true if the new token
    replaces one that the platform called "not latest" soon after it was fetched.
    """

    nonce: str
    owner: str = attrs.field(metadata=wire_name("by"))
    expires_at: float = attrs.field(metadata=wire_name("until"))
    counts_as_fetch: bool = attrs.field(default=True, metadata=wire_name("counted"))
    is_conflict: bool = attrs.field(default=False, metadata=wire_name("contested"))

    def remaining(self, now: float) -> float:
        """Return the seconds until it expires, 0 or less if it has expired."""
        return min(LEASE_DURATION, self.expires_at - now)


@attrs.frozen
class RefreshFailure:
    """The last `count` refreshes, all failed with a transient `reason`; no process retries before `retry_at`."""

    count: int = attrs.field(metadata=wire_name("failures"))
    reason: str
    retry_at: float = attrs.field(metadata=wire_name("until"))
    backoff: float = attrs.field(metadata=wire_name("pause"))

    def remaining(self, now: float) -> float:
        """Return the seconds until the next attempt is allowed, 0 or less if it is allowed now."""
        return _remaining(self.retry_at, now, self.backoff)


@attrs.frozen
class RejectedRefresh:
    """A permanent rejection of a fetch by WeChat, as the process `owner` received it."""

    errcode: int
    errmsg: str
    owner: str = attrs.field(metadata=wire_name("by"))
    rejected_at: float = attrs.field(metadata=wire_name("at"))


@attrs.frozen
class TokenState:
    """The state of a platform's token and ticket.

    `fetch_times` are the times at which tokens of the last hour were requested, the oldest first. `conflicts` counts
    how many tokens in a row were replaced because the platform called them "not latest". `rejection` is the last one
    since the newest token was fetched. `revision` is higher by 1 after each write to the store.
    """

    token: StoredToken | None = None
    ticket: StoredTicket | None = None
    lease: Lease | None = None
    failure: RefreshFailure | None = attrs.field(default=None, metadata=wire_name("trouble"))
    fetch_times: tuple[float, ...] = attrs.field(default=(), metadata=wire_name("mints"))
    conflicts: int = attrs.field(default=0, metadata=wire_name("contests"))
    rejection: RejectedRefresh | None = attrs.field(default=None, metadata=wire_name("refusal"))
    revision: int = 0

    @property
    def generation(self) -> int:
        """The number of the newest token, 0 without one."""
        return 0 if self.token is None else self.token.generation

    def lease_for(self, nonce: str) -> Lease | None:
        """Return the lease if it has this *nonce*."""
        return self.lease if self.lease is not None and self.lease.nonce == nonce else None

    def recent_fetch_times(self, now: float) -> tuple[float, ...]:
        """Return when the tokens of the last hour were requested, the oldest first."""
        # A time in the future means that the clock was set back. It counts as now, so that it is dropped in an hour.
        return tuple(min(at, now) for at in self.fetch_times if now - HOUR < at)

    def conflict_backoff(self, now: float) -> float:
        """Return the seconds to wait before another token that is "not latest" may be replaced."""
        if self.conflicts < CONFLICT_THRESHOLD or not self.fetch_times:
            return 0.0
        backoff = CONFLICT_BACKOFF.delay(self.conflicts - CONFLICT_THRESHOLD + 1)
        return max(0.0, _remaining(self.fetch_times[-1] + backoff, now, backoff))

    @property
    def failure_count(self) -> int:
        """The number of refreshes that failed in a row."""
        return 0 if self.failure is None else self.failure.count

    def with_lease(self, nonce: str, owner: str, now: float, *, not_latest: bool, counts_as_fetch: bool) -> TokenState:
        """Grant the lease to *owner*, and count the token that will be fetched under it."""
        # The fetch is counted before it happens: a process that is killed after sending would otherwise not be counted.
        fetch_times = self.recent_fetch_times(now)
        is_conflict = not_latest and bool(fetch_times) and now - fetch_times[-1] < CONFLICT_WINDOW
        return attrs.evolve(
            self,
            lease=Lease(nonce, owner, now + LEASE_DURATION, counts_as_fetch, is_conflict),
            fetch_times=(*fetch_times, now)[-MAX_FETCH_TIMES:] if counts_as_fetch else fetch_times,
        )

    def with_lease_extended(self, nonce: str, now: float) -> TokenState | None:
        """Extend the lease with this *nonce*; return None if another process holds it."""
        lease = self.lease_for(nonce)
        if lease is None:
            return None
        return attrs.evolve(self, lease=attrs.evolve(lease, expires_at=now + LEASE_DURATION))

    def without_lease(self, nonce: str) -> TokenState | None:
        """Release the lease without recording a result; the token that may have been fetched stays counted."""
        return None if self.lease_for(nonce) is None else attrs.evolve(self, lease=None)

    def with_fetched_token(
        self, nonce: str, token: Secret, ttl: float, *, age: float, now: float, reason: str
    ) -> TokenState | None:
        """Store the token fetched under the lease with this *nonce*, and release the lease."""
        lease = self.lease_for(nonce)
        if lease is None:
            return None
        counted = attrs.evolve(self, conflicts=self.conflicts + 1 if lease.is_conflict else 0)
        return counted.with_token(token, ttl, age=age, now=now, fetched_by=lease.owner, reason=reason)

    def with_token(
        self, token: Secret, ttl: float, *, age: float, now: float, fetched_by: str, reason: str
    ) -> TokenState:
        """Store *token*, requested *age* seconds ago, as the newest; any lease ends, and failures are cleared."""
        stored = StoredToken(token, self.generation + 1, ttl, now - age, fetched_by, reason)
        return attrs.evolve(self, token=stored, lease=None, failure=None, rejection=None)

    def with_latency(self, seconds: float) -> TokenState:
        """Record how long the response with the token took."""
        return self if self.token is None else attrs.evolve(self, token=attrs.evolve(self.token, latency=seconds))

    def with_fetch_counted(self, requested_at: float, now: float) -> TokenState:
        """Count a token that was fetched without a lease."""
        fetch_times = sorted((*self.recent_fetch_times(now), requested_at))
        return attrs.evolve(self, fetch_times=tuple(fetch_times)[-MAX_FETCH_TIMES:])

    def with_failure(self, nonce: str, reason: str, now: float, *, backoff: float | None) -> TokenState | None:
        """Release the lease *nonce*; with a *backoff* in seconds, no process tries again before it is over."""
        lease = self.lease_for(nonce)
        if lease is None:
            return None
        failure = self.failure
        if backoff is not None:
            failure = RefreshFailure(self.failure_count + 1, reason, now + backoff, backoff)
        # The failed fetch is uncounted, although the platform may have issued a token whose response was lost.
        # Otherwise a long outage would use up the hourly limit and block fetches after its end.
        fetch_times = self.fetch_times[:-1] if lease.counts_as_fetch else self.fetch_times
        return attrs.evolve(self, lease=None, failure=failure, fetch_times=fetch_times)

    def with_rejection(self, errcode: int, errmsg: str, owner: str, now: float) -> TokenState:
        """Record a permanent rejection, so that every process can report it."""
        return attrs.evolve(self, rejection=RejectedRefresh(errcode, errmsg, owner, now))

    def with_ticket(self, ticket: Secret, create_time: int, now: float) -> TokenState | None:
        """Store *ticket*; return None if the stored one is as new or newer."""
        if self.ticket is not None and self.ticket.create_time >= create_time:
            return None
        return attrs.evolve(self, ticket=StoredTicket(ticket, create_time, now))

    def is_older_than(self, newest: TokenState) -> bool:
        """Return whether this state has an earlier revision or token than *newest*, which the store had before."""
        if self.revision < newest.revision:
            return True
        # A process that did not know *newest* may have continued an older state up to a higher revision.
        if self.token is None or newest.token is None:
            return False
        # Both are compared: after the store was emptied, generations begin at 1 again, with later tokens. After its
        # clock was set back, a later token has an earlier time, but a higher generation.
        is_lower = self.token.generation <= newest.token.generation
        return is_lower and self.token.requested_at < newest.token.requested_at

    def with_newest(self, newest: TokenState) -> TokenState:
        """Return the state with the later token, with this lease, and the later ticket and all fetches of both."""
        # A process that did not know *newest* may have fetched a token, which made that of *newest* invalid.
        has_later_token = (
            self.token is not None and newest.token is not None and self.token.requested_at > newest.token.requested_at
        )
        tickets = [each for each in (self.ticket, newest.ticket) if each is not None]
        return attrs.evolve(
            self if has_later_token else newest,
            lease=self.lease,
            ticket=max(tickets, key=lambda ticket: ticket.create_time, default=None),
            revision=max(self.revision, newest.revision),
        ).with_fetch_times((*self.fetch_times, *newest.fetch_times))

    def with_fetch_times(self, fetch_times: tuple[float, ...]) -> TokenState:
        """Count the fetches at these times too, each once."""
        merged = sorted({*self.fetch_times, *fetch_times})
        return attrs.evolve(self, fetch_times=tuple(merged[-MAX_FETCH_TIMES:]))


def dump_state(state: TokenState) -> str:
    """Return *state* as the JSON document for a store; it contains the secrets in the clear."""
    return orjson.dumps({"format": _FORMAT_VERSION, **wire_fields(state)}, default=_to_json).decode()


def _to_json(value: Secret | attrs.AttrsInstance) -> object:
    return value.reveal() if isinstance(value, Secret) else wire_fields(value)


def parse_state(document: str | None) -> TokenState | None:
    """Return the state in *document*, an empty one for None; return None if it is not a valid document."""
    if document is None:
        return TokenState()
    # Another program may have written anything under this key, so any error means: not a valid document.
    try:
        fields = orjson.loads(document)
        state: TokenState = structure_hook(TokenState)(fields, TokenState)
    except Exception:
        return None
    return state if fields.get("format") == _FORMAT_VERSION else None
