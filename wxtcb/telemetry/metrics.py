"""What is counted and what is gauged, whoever keeps the figures.

Labels have few values: the paths of endpoints, and words of ours. None is an alias, a tenant, an environment or a
token.
"""

from __future__ import annotations

import weakref
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import attrs

from wxtcb.errors import SessionClosed
from wxtcb.events import (
    Abandoned,
    EndpointRateLimited,
    Event,
    NotificationDropped,
    PossibleDuplicate,
    PushMalformed,
    PushRefused,
    RequestResent,
    RetryScheduled,
    SessionInfo,
    Stats,
    TicketReceived,
    TicketWriteFailed,
    TokenConflictDetected,
    TokenRefreshed,
    TokenRefreshFailed,
    TokenStoreWriteFailed,
)

DURATION_BUCKETS: Final = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 60.0, 120.0, 300.0)
DURATION_HELP: Final = "Time that calls took, all waiting and all attempts included"


@attrs.frozen
class Counter:
    """What only grows; `name` has dots, `unit` is what one of them is."""

    name: str
    unit: str
    help: str
    labels: tuple[str, ...] = ()


@attrs.frozen
class Gauge:
    """What is read off sessions at any moment; `aggregate` makes one value of those of one component_appid."""

    name: str
    unit: str
    help: str
    read: Callable[[Stats], float | None]
    aggregate: Callable[[list[float]], float] = sum

    def value(self, stats: Iterable[Stats]) -> float | None:
        """Return the value for sessions of one component_appid; None if none of them has a reading."""
        readings = [reading for each in stats if (reading := self.read(each)) is not None]
        return self.aggregate(readings) if readings else None


RETRIES: Final = Counter("retries", "{retry}", "Attempts that failed and were made again", ("endpoint", "cause"))
RATE_LIMIT_PAUSES: Final = Counter("pauses", "{pause}", "Pauses of a path at its minute limit", ("endpoint",))
AMBIGUOUS_CALLS: Final = Counter(
    "doubts", "{call}", "Calls that add something and may have acted unseen, to be looked at", ("endpoint", "end")
)
TOKEN_REFRESHES: Final = Counter("renewals", "{renewal}", "Renewals of the token", ("cause", "outcome"))
TOKEN_STORE_FAILURES: Final = Counter(
    "store.failures", "{token}", "New tokens that could not be kept in the token store"
)
TOKEN_CONFLICTS: Final = Counter(
    "token.contests", "{renewal}", "Renewals after somebody else seemed to have voided the token"
)
TICKETS: Final = Counter("tickets", "{ticket}", "Pushed tickets: kept, in memory alone, known already", ("outcome",))
TICKET_WRITE_FAILURES: Final = Counter(
    "ticket.writes.failed", "{try}", "Tries to write a ticket to the token store that failed"
)
PUSHES_REFUSED: Final = Counter("pushes.refused", "{push}", "Pushes that were refused", ("status",))
PUSHES_MALFORMED: Final = Counter("pushes.unreadable", "{push}", "Pushes that were answered, but could not be read")
NOTIFICATIONS_DROPPED: Final = Counter("notices.dropped", "{push}", "Pushes that were answered, but not handed on")
COUNTERS: Final = (
    RETRIES,
    RATE_LIMIT_PAUSES,
    AMBIGUOUS_CALLS,
    TOKEN_REFRESHES,
    TOKEN_STORE_FAILURES,
    TOKEN_CONFLICTS,
    TICKETS,
    TICKET_WRITE_FAILURES,
    PUSHES_REFUSED,
    PUSHES_MALFORMED,
    NOTIFICATIONS_DROPPED,
)

GAUGES: Final = (
    Gauge("calls.under_way", "{call}", "Calls that hold a slot", lambda stats: stats.calls_in_flight),
    Gauge("calls.waiting", "{call}", "Calls that wait for a slot", lambda stats: stats.calls_waiting),
    Gauge("calls.paused", "{call}", "Calls that wait for a paused path", lambda stats: stats.calls_paused),
    Gauge("token.age", "s", "Age of the token", lambda stats: stats.token_age, max),
    Gauge("token.left", "s", "Time until the token expires", lambda stats: stats.token_expires_in, min),
    Gauge("token.waiters", "{call}", "Calls that wait for a token", lambda stats: stats.token_waiters),
    Gauge("retry_quota", "{unit}", "What retries may still draw", lambda stats: stats.retry_quota, min),
)


CounterIncrement = tuple[Counter, tuple[str, ...]]


def _ticket_outcome(event: TicketReceived) -> str:
    if not event.is_newest:
        return "known"
    return "in_memory" if event.in_memory_only else "kept"


_INCREMENTS: Final[dict[type[Any], Callable[[Any], CounterIncrement]]] = {
    RetryScheduled: lambda event: (RETRIES, (event.endpoint, event.reason)),
    RequestResent: lambda event: (RETRIES, (event.endpoint, event.reason)),
    EndpointRateLimited: lambda event: (RATE_LIMIT_PAUSES, (event.endpoint,)),
    Abandoned: lambda event: (AMBIGUOUS_CALLS, (event.endpoint, "cancelled")),
    PossibleDuplicate: lambda event: (AMBIGUOUS_CALLS, (event.endpoint, "ok")),
    TokenRefreshed: lambda event: (TOKEN_REFRESHES, (event.reason, "adopted" if event.from_store else "ok")),
    TokenRefreshFailed: lambda event: (TOKEN_REFRESHES, (event.reason, type(event.error).__name__)),
    TokenStoreWriteFailed: lambda _: (TOKEN_STORE_FAILURES, ()),
    TokenConflictDetected: lambda _: (TOKEN_CONFLICTS, ()),
    TicketReceived: lambda event: (TICKETS, (_ticket_outcome(event),)),
    TicketWriteFailed: lambda _: (TICKET_WRITE_FAILURES, ()),
    PushRefused: lambda event: (PUSHES_REFUSED, (str(event.status),)),
    PushMalformed: lambda _: (PUSHES_MALFORMED, ()),
    NotificationDropped: lambda _: (NOTIFICATIONS_DROPPED, ()),
}


def increment_for(event: Event) -> CounterIncrement | None:
    """Return what *event* adds one to, with the values of the labels."""
    counted = _INCREMENTS.get(type(event))
    return None if counted is None else counted(event)


@attrs.define(eq=False)
class SessionRegistry:
    """The sessions that gauges are read off, as long as they live and are open; read from any thread."""

    _sessions: tuple[weakref.ref[SessionInfo], ...] = ()

    def add(self, session: SessionInfo) -> None:
        others = [each for each in self._sessions if (other := each()) is not None and other is not session]
        self._sessions = (*others, weakref.ref(session))

    def stats_by_appid(self) -> Mapping[str, list[Stats]]:
        """Return the stats of all by component_appid."""
        found: defaultdict[str, list[Stats]] = defaultdict(list)
        for each in self._sessions:
            session = each()
            if session is None:
                continue
            try:
                stats = session.stats()
            except SessionClosed:
                continue
            found[session.component_appid].append(stats)
        return found
