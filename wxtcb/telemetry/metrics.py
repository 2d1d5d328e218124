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
    Event,
    MayHaveActed,
    NoticeDropped,
    Observed,
    OtherFetcherSuspected,
    PathPaused,
    PushRefused,
    PushUnreadable,
    RenewalFailed,
    Resending,
    Retrying,
    Stats,
    StoreFailed,
    TicketReceived,
    TicketUnsaved,
    TokenRenewed,
)

BUCKETS: Final = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 60.0, 120.0, 300.0)
DURATION: Final = "Time that calls took, all waiting and all attempts included"


@attrs.frozen
class Counter:
    """What only grows; `name` has dots, `unit` is what one of them is."""

    name: str
    unit: str
    help: str
    labels: tuple[str, ...] = ()


@attrs.frozen
class Gauge:
    """What is read off sessions at any moment; `fold` makes one value of those of one component_appid."""

    name: str
    unit: str
    help: str
    read: Callable[[Stats], float | None]
    fold: Callable[[list[float]], float] = sum

    def value(self, stats: Iterable[Stats]) -> float | None:
        """Return the value for sessions of one component_appid; None if none of them has a reading."""
        readings = [reading for each in stats if (reading := self.read(each)) is not None]
        return self.fold(readings) if readings else None


RETRIES: Final = Counter("retries", "{retry}", "Attempts that failed and were made again", ("endpoint", "cause"))
PAUSES: Final = Counter("pauses", "{pause}", "Pauses of a path at its minute limit", ("endpoint",))
DOUBTS: Final = Counter(
    "doubts", "{call}", "Calls that add something and may have acted unseen, to be looked at", ("endpoint", "end")
)
RENEWALS: Final = Counter("renewals", "{renewal}", "Renewals of the token", ("cause", "outcome"))
STORE_FAILURES: Final = Counter("store.failures", "{token}", "New tokens that could not be kept in the token store")
CONTESTS: Final = Counter("token.contests", "{renewal}", "Renewals after somebody else seemed to have voided the token")
TICKETS: Final = Counter("tickets", "{ticket}", "Pushed tickets: kept, in memory alone, known already", ("outcome",))
UNSAVED: Final = Counter("ticket.writes.failed", "{try}", "Tries to write a ticket to the token store that failed")
REFUSALS: Final = Counter("pushes.refused", "{push}", "Pushes that were refused", ("status",))
UNREADABLE: Final = Counter("pushes.unreadable", "{push}", "Pushes that were answered, but could not be read")
DROPS: Final = Counter("notices.dropped", "{push}", "Pushes that were answered, but not handed on")
COUNTERS: Final = (
    RETRIES,
    PAUSES,
    DOUBTS,
    RENEWALS,
    STORE_FAILURES,
    CONTESTS,
    TICKETS,
    UNSAVED,
    REFUSALS,
    UNREADABLE,
    DROPS,
)

GAUGES: Final = (
    Gauge("calls.under_way", "{call}", "Calls that hold a slot", lambda stats: stats.calls_under_way),
    Gauge("calls.waiting", "{call}", "Calls that wait for a slot", lambda stats: stats.calls_waiting),
    Gauge("calls.paused", "{call}", "Calls that wait for a paused path", lambda stats: stats.calls_paused),
    Gauge("token.age", "s", "Age of the token", lambda stats: stats.token_age, max),
    Gauge("token.left", "s", "Time until the token expires", lambda stats: stats.token_left, min),
    Gauge("token.waiters", "{call}", "Calls that wait for a token", lambda stats: stats.token_waiters),
    Gauge("retry_quota", "{unit}", "What retries may still draw", lambda stats: stats.retry_quota, min),
)


Count = tuple[Counter, tuple[str, ...]]


def _outcome(event: TicketReceived) -> str:
    if not event.kept:
        return "known"
    return "in_memory" if event.in_memory else "kept"


_COUNTS: Final[dict[type[Any], Callable[[Any], Count]]] = {
    Retrying: lambda event: (RETRIES, (event.endpoint, event.cause)),
    Resending: lambda event: (RETRIES, (event.endpoint, event.cause)),
    PathPaused: lambda event: (PAUSES, (event.endpoint,)),
    Abandoned: lambda event: (DOUBTS, (event.endpoint, "cancelled")),
    MayHaveActed: lambda event: (DOUBTS, (event.endpoint, "ok")),
    TokenRenewed: lambda event: (RENEWALS, (event.cause, "adopted" if event.adopted else "ok")),
    RenewalFailed: lambda event: (RENEWALS, (event.cause, type(event.error).__name__)),
    StoreFailed: lambda _: (STORE_FAILURES, ()),
    OtherFetcherSuspected: lambda _: (CONTESTS, ()),
    TicketReceived: lambda event: (TICKETS, (_outcome(event),)),
    TicketUnsaved: lambda _: (UNSAVED, ()),
    PushRefused: lambda event: (REFUSALS, (str(event.status),)),
    PushUnreadable: lambda _: (UNREADABLE, ()),
    NoticeDropped: lambda _: (DROPS, ()),
}


def count(event: Event) -> Count | None:
    """Return what *event* adds one to, with the values of the labels."""
    counted = _COUNTS.get(type(event))
    return None if counted is None else counted(event)


@attrs.define(eq=False)
class Watched:
    """The sessions that gauges are read off, as long as they live and are open; read from any thread."""

    _sessions: tuple[weakref.ref[Observed], ...] = ()

    def add(self, session: Observed) -> None:
        others = [each for each in self._sessions if (other := each()) is not None and other is not session]
        self._sessions = (*others, weakref.ref(session))

    def read(self) -> Mapping[str, list[Stats]]:
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
