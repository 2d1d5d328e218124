"""A process that is paused for longer than its create may take sends nothing late when it continues."""

from __future__ import annotations

import pytest

from wxtcb.sandbox import Fault, FaultKind

from .constants import CREATE, LIST
from .simulated_history import SimulatedHistory


@pytest.mark.parametrize("turns", range(12))
def test_process_paused_before_create_does_not_send_it_late(turns):
    """A pause at any turn of a token refresh delays no create past its deadline; all tenants are done in the end."""
    history = SimulatedHistory()
    history.platform.faults[CREATE].extend([Fault(FaultKind.EXPIRE_TOKEN)] * 3)
    process, counts = history.begin(), history.timeline.counts
    history.timeline.run(lambda: counts[f"answered {CREATE}"] == 1)
    goal = counts["turn"] + turns
    history.timeline.run(lambda: counts["turn"] == goal)
    process.freeze()
    history.timeline.advance(100)
    process.thaw()
    history.timeline.run()
    assert history.checker.violations == []
    assert process.report.all_done
    history.close()


def test_intent_stored_after_its_deadline_is_cleared_and_written_again():
    """A slow listing may stay fresh for longer than the create window; the deadline of the intent still holds."""
    history = SimulatedHistory()
    history.platform.faults[CREATE].extend([Fault(FaultKind.SLOW, seconds=20.0)])
    history.platform.faults[LIST].extend([None, Fault(FaultKind.HANG), Fault(FaultKind.SLOW, seconds=25.0)])
    history.backend.faults.extend([None, None, 50.0])
    process = history.begin(concurrency=1)
    history.timeline.run()
    assert history.checker.violations == []
    assert process.report.all_done
    history.close()
