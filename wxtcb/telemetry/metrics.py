"""Metric definitions shared by the OpenTelemetry and Prometheus hooks.

Labels have a low cardinality: endpoint paths, and words defined by wxtcb. No label contains an alias, a tenant, an
environment or a token.
"""

from __future__ import annotations

import weakref
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import attrs

from wxtcb import events
from wxtcb.errors import SessionClosed
from wxtcb.events import Event, SessionInfo, Stats

DURATION_BUCKETS: Final = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 60.0, 120.0, 300.0)
DURATION_HELP: Final = "Duration of calls, including all waits and all attempts"


@attrs.frozen
class Counter:
    """Counter metric; `name` is dotted, `unit` is a UCUM unit such as ``{call}``."""

    name: str
    unit: str
    help: str
    labels: tuple[str, ...] = ()


@attrs.frozen
class Gauge:
    """Gauge metric, read from the stats of a session; `aggregate` combines the sessions of one component_appid."""

    name: str
    unit: str
    help: str
    read: Callable[[Stats], float | None]
    aggregate: Callable[[list[float]], float] = sum

    def value(self, stats: Iterable[Stats]) -> float | None:
        """Return the combined value of sessions of one component_appid, or None if none of them has a value."""
        values = [value for each in stats if (value := self.read(each)) is not None]
        return self.aggregate(values) if values else None


RETRIES: Final = Counter(
    "retries", "{retry}", "Failed attempts that were followed by another one", ("endpoint", "reason")
)
RATE_LIMIT_PAUSES: Final = Counter(
    "rate_limit.pauses", "{pause}", "Pauses of a path after its minute limit (45011)", ("endpoint",)
)
AMBIGUOUS_CALLS: Final = Counter(
    "ambiguous_calls",
    "{call}",
    "Calls that may have taken effect more than once, or unnoticed",
    ("endpoint", "outcome"),
)
TOKEN_REFRESHES: Final = Counter("token.refreshes", "{refresh}", "Refreshes of the token", ("reason", "outcome"))
TOKEN_STORE_FAILURES: Final = Counter(
    "token.writes.failed", "{write}", "New tokens that could not be written to the token store"
)
TOKEN_STORE_ROLLBACKS: Final = Counter(
    "token.rollbacks", "{rollback}", "Times that the token store went back to an older state"
)
TOKEN_CONFLICTS: Final = Counter(
    "token.conflicts", "{conflict}", "Series of tokens that another program seems to have invalidated"
)
TICKETS: Final = Counter("tickets", "{ticket}", "Tickets pushed by WeChat", ("outcome",))
TICKET_WRITE_FAILURES: Final = Counter(
    "ticket.writes.failed", "{write}", "Failed attempts to write a ticket to the token store"
)
PUSHES_REFUSED: Final = Counter("pushes.refused", "{push}", "Pushes that were rejected", ("status",))
PUSHES_UNDECRYPTABLE: Final = Counter(
    "pushes.undecryptable", "{push}", "Pushes that were signed, but could not be decrypted"
)
PUSHES_MALFORMED: Final = Counter("pushes.malformed", "{push}", "Pushes that were acknowledged, but malformed")
NOTIFICATIONS_DROPPED: Final = Counter(
    "notifications.dropped", "{push}", "Notifications that were not accepted, because too many were in progress"
)
NOTIFICATIONS_FAILED: Final = Counter(
    "notifications.failed", "{push}", "Notifications for which the callback raised or was cancelled"
)
COUNTERS: Final = (
    RETRIES,
    RATE_LIMIT_PAUSES,
    AMBIGUOUS_CALLS,
    TOKEN_REFRESHES,
    TOKEN_STORE_FAILURES,
    TOKEN_STORE_ROLLBACKS,
    TOKEN_CONFLICTS,
    TICKETS,
    TICKET_WRITE_FAILURES,
    PUSHES_REFUSED,
    PUSHES_UNDECRYPTABLE,
    PUSHES_MALFORMED,
    NOTIFICATIONS_DROPPED,
    NOTIFICATIONS_FAILED,
)

GAUGES: Final = (
    Gauge("calls.in_flight", "{call}", "Calls that hold a slot", lambda stats: stats.calls_in_flight),
    Gauge("calls.waiting", "{call}", "Calls waiting for a slot", lambda stats: stats.calls_waiting),
    Gauge("calls.paused", "{call}", "Calls waiting for a paused path", lambda stats: stats.calls_paused),
    Gauge("token.age", "s", "Age of the token", lambda stats: stats.token_age, max),
    Gauge("token.expires_in", "s", "Time until the token expires", lambda stats: stats.token_expires_in, min),
    Gauge("token.waiters", "{call}", "Calls waiting for a token", lambda stats: stats.token_waiters),
    Gauge("retry_quota", "{unit}", "Remaining retry quota", lambda stats: stats.retry_quota, min),
)


CounterIncrement = tuple[Counter, tuple[str, ...]]


def _ticket_outcome(event: events.TicketReceived) -> str:
    if not event.is_newest:
        return "ignored"
    return "in_memory" if event.in_memory_only else "stored"


# Each function receives the event of its key; the values have no common type narrower than `Any`.
_INCREMENTS: Final[dict[type[Any], Callable[[Any], CounterIncrement]]] = {
    events.RetryScheduled: lambda event: (RETRIES, (event.endpoint, event.reason)),
    events.RequestResent: lambda event: (RETRIES, (event.endpoint, event.reason)),
    events.EndpointRateLimited: lambda event: (RATE_LIMIT_PAUSES, (event.endpoint,)),
    events.Abandoned: lambda event: (AMBIGUOUS_CALLS, (event.endpoint, "cancelled")),
    events.PossibleDuplicate: lambda event: (AMBIGUOUS_CALLS, (event.endpoint, "ok")),
    events.TokenRefreshed: lambda event: (TOKEN_REFRESHES, (event.reason, "from_store" if event.from_store else "ok")),
    events.TokenRefreshFailed: lambda event: (TOKEN_REFRESHES, (event.reason, type(event.error).__name__)),
    events.TokenStoreWriteFailed: lambda _: (TOKEN_STORE_FAILURES, ()),
    events.TokenStoreRolledBack: lambda _: (TOKEN_STORE_ROLLBACKS, ()),
    events.TokenConflictDetected: lambda _: (TOKEN_CONFLICTS, ()),
    events.TicketReceived: lambda event: (TICKETS, (_ticket_outcome(event),)),
    events.TicketWriteFailed: lambda _: (TICKET_WRITE_FAILURES, ()),
    events.PushRefused: lambda event: (PUSHES_REFUSED, (str(event.status),)),
    events.PushUndecryptable: lambda _: (PUSHES_UNDECRYPTABLE, ()),
    events.PushMalformed: lambda _: (PUSHES_MALFORMED, ()),
    events.NotificationDropped: lambda _: (NOTIFICATIONS_DROPPED, ()),
    events.NotificationFailed: lambda _: (NOTIFICATIONS_FAILED, ()),
}


def increment_for(event: Event) -> CounterIncrement | None:
    """Return the counter that *event* increments and its label values, or None if it increments none."""
    increment = _INCREMENTS.get(type(event))
    return None if increment is None else increment(event)


@attrs.define(eq=False)
class SessionRegistry:
    """Registry of the sessions that gauges are read from; it may be read from any thread.

    The references are weak, so that a hook, which often lives as long as the process, keeps no session alive.
    """

    _sessions: tuple[weakref.ref[SessionInfo], ...] = ()

    def add(self, session: SessionInfo) -> None:
        """Add *session*, unless it is registered already."""
        # A new tuple each time: a thread that iterates over the old one is not disturbed.
        others = [each for each in self._sessions if (other := each()) is not None and other is not session]
        self._sessions = (*others, weakref.ref(session))

    def stats_by_appid(self) -> Mapping[str, list[Stats]]:
        """Return the stats of all open sessions by component_appid."""
        stats_by_appid: defaultdict[str, list[Stats]] = defaultdict(list)
        for each in self._sessions:
            session = each()
            if session is None:
                continue
            try:
                stats = session.stats()
            except SessionClosed:
                continue
            stats_by_appid[session.component_appid].append(stats)
        return stats_by_appid
