"""What the history of a tenant says of each commit."""

from __future__ import annotations

from datetime import UTC, datetime

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wxtcb.provision import HistoryEntry, Intent, ServiceState, TenantRecord
from wxtcb.provision.journal import describe_change, to_utc

NEW = TenantRecord(tenant="a", alias="x")
INTENDED = attrs.evolve(NEW, attempt=1, intent=Intent(deadline=1.0))
OPEN = attrs.evolve(NEW, attempt=1, env="x-1", tranid="2026")
SENT = attrs.evolve(OPEN, services={"api": ServiceState.SENT})


@pytest.mark.parametrize(
    ("before", "after", "change"),
    [
        (NEW, INTENDED, "create 1 intended under alias x"),
        (INTENDED, attrs.evolve(NEW, attempt=1), "create 1 did not act"),
        (INTENDED, OPEN, "environment x-1 opened, order 2026"),
        (INTENDED, attrs.evolve(OPEN, tranid=None), "environment x-1 adopted"),
        (OPEN, attrs.evolve(OPEN, env=None), "environment x-1 given up"),
        (OPEN, attrs.evolve(OPEN, links={"wx1": "", "wx2": "u"}), "shared with wx1, wx2"),
        (OPEN, SENT, "service api is being established"),
        (SENT, attrs.evolve(OPEN, services={"api": ServiceState.DONE}), "service api established"),
        (SENT, attrs.evolve(OPEN, services={"api": ServiceState.UNCONFIRMED}), "service api there, unconfirmed"),
        (SENT, OPEN, "service api not established"),
        (SENT, attrs.evolve(SENT, retired=True), "removed from the tenants"),
        (
            attrs.evolve(OPEN, marks={"dns": "set"}),
            attrs.evolve(OPEN, marks={"dns": "set", "cdn": "on"}),
            "cdn: on",
        ),
        (OPEN, attrs.evolve(OPEN, marks={"dns": "set"}), "dns: set"),
        (OPEN, attrs.evolve(OPEN, retired=True), "removed from the tenants"),
        (attrs.evolve(OPEN, retired=True), OPEN, "among the tenants again"),
        (OPEN, attrs.evolve(OPEN, version=2), "noted"),
    ],
)
def test_a_change_is_told_in_words(before: TenantRecord, after: TenantRecord, change: str) -> None:
    """One line says what differs."""
    assert describe_change(before, after) == change


def test_a_moment_that_no_calendar_has_is_none() -> None:
    """A clock that was far off spoils no page and no audit."""
    assert (to_utc(0.0), to_utc(1e15)) == (datetime(1970, 1, 1, tzinfo=UTC), None)


@given(st.lists(st.builds(HistoryEntry, st.integers(0, 2**40).map(lambda ms: ms / 1000), st.text(min_size=1))))
def test_moments_are_read_as_they_were_written(moments: list[HistoryEntry]) -> None:
    """Whatever a change says; a line break in it becomes a space."""
    read = HistoryEntry.parse_lines("".join(moment.to_line() for moment in moments))
    assert [(moment.timestamp, moment.change) for moment in read] == [
        (moment.timestamp, " ".join(moment.change.splitlines())) for moment in moments
    ]
