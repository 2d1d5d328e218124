"""Histories in which one process meets what another one has done: each was found at random once."""

from __future__ import annotations

import pytest

from wxtcb.provision import Outcome
from wxtcb.provision.desired import DesiredState
from wxtcb.sandbox import Fault, FaultKind

from .constants import CREATE
from .simulated_history import SimulatedHistory
from .simulated_workers import WorkerHistory


@pytest.fixture
def history():
    history = SimulatedHistory()
    yield history
    assert history.violations() == []
    history.close()


@pytest.fixture
def worker_history():
    history = WorkerHistory()
    yield history
    assert history.violations() == []
    history.close()


def test_tenant_that_another_process_marks_as_removed_is_done(history):
    """The process that provisions it takes the removal back, and does not try again for ever."""
    history.platform.faults[CREATE].append(Fault(FaultKind.BUSY_AFTER))
    process = history.begin()
    history.timeline.advance(10.0)
    history.begin(tenants=history.tenants[1:], all_tenants=True, removed=True)
    history.timeline.advance(5.0)
    assert history.checker.records["t0"].retired
    history.timeline.run()
    assert process.report.all_done
    assert not history.checker.records["t0"].retired


def test_outcome_check_does_not_expect_a_forgotten_environment(history):
    """A create is checked with listings that lack what another process has forgotten meanwhile."""
    history.begin(tenants=history.tenants[:1])
    history.timeline.run()
    history.timeline.advance(60.0)
    history.platform.faults[CREATE].append(Fault(FaultKind.BUSY))
    process = history.begin(tenants=history.tenants[1:2])
    history.timeline.advance(10.0)
    history.delete_by_hand(*history.environments())
    history.begin(tenants=history.tenants[:1], forget=history.deleted_envs())
    history.timeline.run()
    assert process.report.tenants[0].outcome is Outcome.DONE


def test_slow_journal_makes_no_listing_fresh_for_longer(history):
    """The time in which the journal answers is no time that the platform took for a listing."""
    history.platform.faults[CREATE].append(Fault(FaultKind.SLOW, seconds=20.0))
    process = history.begin(concurrency=1)
    history.timeline.run(lambda: history.timeline.counts[f"acted {CREATE}"])
    history.backend.call_faults.append(8.0)
    history.timeline.run()
    assert process.report.all_done


def test_decision_is_carried_out_once(worker_history):
    """It allows three creates, also if each worker is killed before it can store the end of its attempt."""
    history, counts = worker_history, worker_history.timeline.counts
    history.platform.faults[CREATE].extend([Fault(FaultKind.BUSY)] * 20)
    history.submit(history.tenants[:1])
    process = history.serve()
    history.timeline.run(lambda: history.rows(DesiredState.NEEDS_ATTENTION))
    history.decide("t0", retry=True)
    history.timeline.run(lambda: counts[f"sent {CREATE}"] == 6)
    process.kill(stored=True)
    history.serve()
    history.timeline.run(lambda: history.rows(DesiredState.NEEDS_ATTENTION))
    assert counts[f"sent {CREATE}"] == 6
