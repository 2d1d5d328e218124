"""What all processes of a platform know in common: token, ticket, who may renew, and what went wrong. Pure thinking.

A `Record` is a value; each of its methods returns the record that comes next, or None where the change may not be made
(any more). All times are seconds on the clock of the store that keeps it. Because that clock may be set back, no span
that is derived from it is believed beyond the length it can have.
"""

from __future__ import annotations

from typing import Final

import attrs
import orjson

from wxtcb._protocol.converter import reader_of
from wxtcb.secret import Secret

HOUR: Final = 3600.0
LEASE: Final = 5.0
LONGEST_PAUSE: Final = 30.0
TICKET_LIFE: Final = 12 * HOUR
CONTEST: Final = 600.0
CONTESTED: Final = 3
LONGEST_TRUCE: Final = 60.0
MOST_MINTS: Final = 1000
_FORMAT: Final = 1


def _doubled(times: int, longest: float) -> float:
    """Return a pause of 1 second, doubled so many *times*, and no longer than *longest*."""
    return min(longest, 2.0 ** min(times, 10))


def _left(until: float, now: float, whole: float) -> float:
    """Return what is left of a *whole* pause; more than the whole can only come of a clock set back, and is nothing."""
    return until - now if until - now <= whole else 0.0


@attrs.frozen
class KeptToken:
    """A component_access_token: who (`by`) fetched it, and why (`cause`, as in `events.TokenRenewed`).

    It was asked for at `minted_at`, and the answer `took` so many seconds.
    """

    value: Secret
    generation: int
    life: float
    minted_at: float
    by: str
    cause: str
    took: float = 0.0

    def left(self, now: float) -> float:
        """Return the seconds until it expires, below 0 when it has."""
        return min(self.life, self.minted_at + self.life - now)


@attrs.frozen
class KeptTicket:
    """A component_verify_ticket; `created` is its CreateTime, Unix seconds by the platform's clock."""

    value: Secret
    created: int
    kept_at: float

    def age(self, now: float) -> float:
        """Return the seconds since it was kept."""
        return max(0.0, now - self.kept_at)


@attrs.frozen
class Lease:
    """The right to renew, of the process `by`, until it is given back or its time is up.

    `counted`: a token that is asked for under it counts as fetched from the platform. `contested`: it takes the place
    of one that was called "not latest" soon after it was fetched.
    """

    nonce: str
    by: str
    until: float
    counted: bool = True
    contested: bool = False

    def left(self, now: float) -> float:
        """Return the seconds it still holds for, not above 0 when it is over."""
        return min(LEASE, self.until - now)


@attrs.frozen
class Trouble:
    """The last renewals, `failures` of them, failed for a passing `reason`; none is tried before `until`."""

    failures: int
    reason: str
    until: float
    pause: float

    def left(self, now: float) -> float:
        """Return the seconds of the pause that are left, not above 0 when it is over."""
        return _left(self.until, now, self.pause)


@attrs.frozen
class Refusal:
    """What WeChat refused a fetch with, for a reason that does not pass by itself, when the process `by` made it."""

    errcode: int
    errmsg: str
    by: str
    at: float


@attrs.frozen
class Record:
    """The state of a platform's token and ticket.

    `mints` are the times at which tokens of the last hour were asked for. `contests` counts how often in a row a token
    had to be replaced because the platform called it "not latest". `refusal` is the last one since the newest token.
    """

    token: KeptToken | None = None
    ticket: KeptTicket | None = None
    lease: Lease | None = None
    trouble: Trouble | None = None
    mints: tuple[float, ...] = ()
    contests: int = 0
    refusal: Refusal | None = None

    def leased_to(self, nonce: str) -> Lease | None:
        """Return the lease if it is that of *nonce*."""
        return self.lease if self.lease is not None and self.lease.nonce == nonce else None

    def recent_mints(self, now: float) -> tuple[float, ...]:
        """Return when the tokens of the last hour were asked for, the oldest first."""
        return tuple(min(at, now) for at in self.mints if now - HOUR < at)

    def truce(self, now: float) -> float:
        """Return the seconds that another replacement of a token called "not latest" has to wait for."""
        if self.contests < CONTESTED or not self.mints:
            return 0.0
        pause = _doubled(self.contests - CONTESTED, LONGEST_TRUCE)
        return max(0.0, _left(self.mints[-1] + pause, now, pause))

    def granted(self, nonce: str, by: str, now: float, *, not_latest: bool, counted: bool) -> Record:
        """Give the right to renew away, and count the token that will be asked for."""
        mints = self.recent_mints(now)
        contested = not_latest and bool(mints) and now - mints[-1] < CONTEST
        return attrs.evolve(
            self,
            lease=Lease(nonce, by, now + LEASE, counted, contested),
            mints=(*mints, now)[-MOST_MINTS:] if counted else mints,
        )

    def extended(self, nonce: str, now: float) -> Record | None:
        """Prolong the lease of *nonce*, unless it has gone to somebody else."""
        lease = self.leased_to(nonce)
        return None if lease is None else attrs.evolve(self, lease=attrs.evolve(lease, until=now + LEASE))

    def settled(self, nonce: str, token: Secret, life: float, *, age: float, now: float, cause: str) -> Record | None:
        """Keep the token fetched under the lease of *nonce*, and end the lease."""
        if (lease := self.leased_to(nonce)) is None:
            return None
        settled = attrs.evolve(self, contests=self.contests + 1 if lease.contested else 0)
        return settled.with_token(token, life, age=age, now=now, by=lease.by, cause=cause)

    def counting(self, minted_at: float, now: float) -> Record:
        """Count a token that was asked for without a lease."""
        return attrs.evolve(self, mints=tuple(sorted((*self.recent_mints(now), minted_at)))[-MOST_MINTS:])

    def with_token(self, token: Secret, life: float, *, age: float, now: float, by: str, cause: str) -> Record:
        """Keep a token as the newest; whoever held a lease holds it no longer."""
        generation = 1 if self.token is None else self.token.generation + 1
        kept = KeptToken(token, generation, life, now - age, by, cause)
        return attrs.evolve(self, token=kept, lease=None, trouble=None, refusal=None)

    def taking(self, seconds: float) -> Record:
        """Note how long the answer with the token took."""
        return self if self.token is None else attrs.evolve(self, token=attrs.evolve(self.token, took=seconds))

    def refused(self, errcode: int, errmsg: str, by: str, now: float) -> Record:
        """Keep, for all to see, what a fetch was refused with."""
        return attrs.evolve(self, refusal=Refusal(errcode, errmsg, by, now))

    def failed(self, nonce: str, reason: str, now: float, *, pause: float | None) -> Record | None:
        """End the lease of *nonce*, which brought no token.

        With a *pause*, nobody tries before it is over; without one, the failure concerns that process alone. It counts
        as no fetch, though a token may have been made for an answer that was lost: an outage must not use the ceiling
        up, and so outlast itself.
        """
        if (lease := self.leased_to(nonce)) is None:
            return None
        trouble = self.trouble if pause is None else Trouble(self.failures + 1, reason, now + pause, pause)
        mints = self.mints[:-1] if lease.counted else self.mints
        return attrs.evolve(self, lease=None, trouble=trouble, mints=mints)

    def released(self, nonce: str) -> Record | None:
        """End the lease of *nonce* without a word on how the request ended; the token it may have made counts."""
        return None if self.leased_to(nonce) is None else attrs.evolve(self, lease=None)

    @property
    def failures(self) -> int:
        """The number of renewals that failed in a row."""
        return 0 if self.trouble is None else self.trouble.failures

    def next_pause(self) -> float:
        """Return the pause in seconds after one more failure: 1, doubled each time, at most 30."""
        return _doubled(self.failures, LONGEST_PAUSE)

    def with_ticket(self, ticket: Secret, created: int, now: float) -> Record | None:
        """Keep a ticket, unless the one that is kept is as new."""
        if self.ticket is not None and self.ticket.created >= created:
            return None
        return attrs.evolve(self, ticket=KeptTicket(ticket, created, now))


def write_record(record: Record) -> str:
    """Return *record* as the document that stores keep; it holds the secrets in the clear."""

    def show(_: object, __: object, value: object) -> object:
        return value.reveal() if isinstance(value, Secret) else value

    return orjson.dumps({"format": _FORMAT, **attrs.asdict(record, value_serializer=show)}).decode()


def read_record(document: str | None) -> Record | None:
    """Return the record that *document* stands for, an empty one for None; None if it is nothing of the kind."""
    if document is None:
        return Record()
    try:
        fields = orjson.loads(document)
        record: Record = reader_of(Record)(fields, Record)
    except Exception:
        return None
    return record if fields.get("format") == _FORMAT else None
