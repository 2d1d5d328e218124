"""The rules of provisioning hold in every history of workers, elections, submissions, cancellations and decisions."""

from __future__ import annotations

import contextlib

from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

from wxtcb.provision import Tenant
from wxtcb.provision.desired import AliasInUse, DecisionPending, DesiredState

from .constants import CREATE
from .simulated_workers import WorkerHistory
from .test_histories import CREATE_FAULTS, INDEXES, SKEWS, RandomHistory, quick_settings

MAX_WORKERS = 3


class WorkerHistories(RandomHistory):
    """At most three processes serve; a client in another process submits, cancels and decides at any moment."""

    def create_history(self):
        return WorkerHistory(self.store())

    def restart(self, skew):
        self.history.serve(skew=skew)

    @initialize(
        faults=st.lists(st.sampled_from(CREATE_FAULTS), max_size=6), concurrency=st.sampled_from([1, 4]), skew=SKEWS
    )
    def begin_first(self, faults, concurrency, skew):
        self.history.platform.faults[CREATE].extend(faults)
        self.history.sandbox.world.visible_after = self.visibility_delays[0]
        self.history.submit(self.history.tenants)
        self.history.serve(concurrency=concurrency)
        self.history.serve(concurrency=concurrency, skew=skew)

    @precondition(lambda self: len(self.history.processes) < MAX_WORKERS)
    @rule(concurrency=st.sampled_from([1, 4]), skew=SKEWS)
    def start(self, concurrency, skew):
        self.history.serve(concurrency=concurrency, skew=skew)

    @rule(index=st.integers(0, 3), alias=st.sampled_from(["", "", "b"]))
    def submit(self, index, alias):
        with contextlib.suppress(AliasInUse):
            self.history.submit([Tenant(f"t{index}", alias=f"a{index}{alias}")])

    @rule(index=st.integers(0, 3))
    def cancel_tenant(self, index):
        self.history.cancel_tenant(f"t{index}")

    @rule(index=INDEXES, kind=st.sampled_from(["retry", "retry", "forget", "adopt"]))
    def decide(self, index, kind):
        rows = self.history.rows(DesiredState.NEEDS_ATTENTION, DesiredState.WAITING)
        row = rows[index % len(rows)] if rows else None
        deleted, listed = self.history.deleted_envs(), self.history.environments()
        alike = [env for env in listed if row is not None and listed[env].alias == row.alias]
        with contextlib.suppress(DecisionPending):
            if row is not None and kind == "retry":
                self.history.decide(row.tenant, retry=True)
            elif row is not None and kind == "forget" and row.tenant in deleted:
                self.history.decide(row.tenant, forget=deleted[row.tenant])
            elif kind == "adopt" and alike:
                self.history.touched_aliases.add(row.alias)
                self.history.decide(row.tenant, adopt=alike[0])

    @rule(notifies=st.booleans())
    def set_notifications(self, notifies):
        """Let changes be noticed at once, or by the next poll only."""
        self.history.backend.notifies = notifies


TestWorkerHistories = WorkerHistories.TestCase
TestWorkerHistories.settings = quick_settings(100)
