"""Journal records: history texts, and points in time."""

from __future__ import annotations

from datetime import UTC, datetime

import attrs
import pytest
from hypothesis import given, strategies as st

from wxtcb.provision.record import HistoryEntry, Intent, ServiceState, TenantRecord, describe_change, to_utc

NEW = TenantRecord(tenant="a", alias="x")
INTENDED = attrs.evolve(NEW, attempt=1, intent=Intent(deadline=1.0))
OPEN = attrs.evolve(NEW, attempt=1, env="x-1", tranid="2026")
SENT = attrs.evolve(OPEN, services={"api": ServiceState.SENT})


@pytest.mark.parametrize(
    ("before", "after", "change"),
    [
        (NEW, INTENDED, "create 1 intended under alias x"),
        (INTENDED, attrs.evolve(NEW, attempt=1), "create 1 had no effect"),
        (INTENDED, OPEN, "environment x-1 created, order 2026"),
        (INTENDED, attrs.evolve(OPEN, tranid=None), "environment x-1 adopted"),
        (OPEN, attrs.evolve(OPEN, env=None), "environment x-1 released"),
        (OPEN, attrs.evolve(OPEN, links={"wx1": "", "wx2": "u"}), "shared with wx1, wx2"),
        (OPEN, SENT, "service api requested"),
        (SENT, attrs.evolve(OPEN, services={"api": ServiceState.DONE}), "service api established"),
        (SENT, attrs.evolve(OPEN, services={"api": ServiceState.UNCONFIRMED}), "service api exists, unconfirmed"),
        (SENT, OPEN, "service api not established"),
        (SENT, attrs.evolve(SENT, retired=True), "tenant removed"),
        (
            attrs.evolve(OPEN, metadata={"dns": "set"}),
            attrs.evolve(OPEN, metadata={"dns": "set", "cdn": "on"}),
            "cdn: on",
        ),
        (OPEN, attrs.evolve(OPEN, metadata={"dns": "set"}), "dns: set"),
        (OPEN, attrs.evolve(OPEN, retired=True), "tenant removed"),
        (attrs.evolve(OPEN, retired=True), OPEN, "tenant added again"),
        (OPEN, attrs.evolve(OPEN, version=2), "no visible change"),
    ],
)
def test_describe_change_names_each_difference(before: TenantRecord, after: TenantRecord, change: str) -> None:
    """The description is one line."""
    assert describe_change(before, after) == change


def test_to_utc_outside_the_calendar_is_none() -> None:
    """A timestamp of a wrong clock breaks neither a report nor an audit."""
    assert (to_utc(0.0), to_utc(1e15)) == (datetime(1970, 1, 1, tzinfo=UTC), None)


@given(st.lists(st.builds(HistoryEntry, st.integers(0, 2**40).map(lambda ms: ms / 1000), st.text(min_size=1))))
def test_history_lines_are_read_back(entries: list[HistoryEntry]) -> None:
    """Any text survives; a line break becomes a space."""
    read = HistoryEntry.parse_lines("".join(entry.to_line() for entry in entries))
    assert [(entry.timestamp, entry.change) for entry in read] == [
        (entry.timestamp, " ".join(entry.change.splitlines())) for entry in entries
    ]
