"""A process that is stopped for longer than its create may take: it sends nothing late when it goes on."""

from __future__ import annotations

import pytest

from wxtcb.sandbox import Fault, FaultKind

from .constants import CREATE, LIST
from .simulated_history import Past


@pytest.mark.parametrize("turns", range(12))
def test_a_pause_at_any_turn_before_a_send_lets_nothing_leave_late(turns):
    """While its token is renewed, up to the turn in which it would be sent again; all are done in the end."""
    past = Past()
    past.platform.acts[CREATE].extend([Fault(FaultKind.EXPIRE_TOKEN)] * 3)
    process, marks = past.begin(), past.line.marks
    past.line.run(lambda: marks[f"told {CREATE}"] == 1)
    goal = marks["turn"] + turns
    past.line.run(lambda: marks["turn"] == goal)
    process.freeze()
    past.line.pass_time(100)
    process.thaw()
    past.line.run()
    assert past.witness.wrongs == []
    assert process.report.all_done
    past.close()


def test_a_create_whose_intent_took_its_whole_time_to_keep_is_taken_back():
    """A look that took long stays fresh for longer than the create may last; the next intent is kept in time."""
    past = Past()
    past.platform.acts[CREATE].extend([Fault(FaultKind.SLOW, seconds=20.0)])
    past.platform.acts[LIST].extend([None, Fault(FaultKind.HANG), Fault(FaultKind.SLOW, seconds=25.0)])
    past.desk.acts.extend([None, None, 50.0])
    process = past.begin(concurrency=1)
    past.line.run()
    assert past.witness.wrongs == []
    assert process.report.all_done
    past.close()
