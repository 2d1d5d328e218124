"""The environment poller: evaluating many waiting tenants does not block the event loop."""

from __future__ import annotations

import asyncio

import pytest

from wxtcb._concurrency.shared_poll import Poller
from wxtcb._concurrency.tasks import YIELD_EVERY
from wxtcb.api.environment import EnvList
from wxtcb.provision.scheduler import EnvironmentPoller, Scheduler
from wxtcb.provision.step import StepResult

pytestmark = pytest.mark.virtual_time


class SatisfiedWait:
    """A wait that is due at once and ends with any snapshot."""

    due_at = 0.0

    def evaluate(self, _snapshot):
        return StepResult.NEXT


async def test_other_tasks_run_between_slices_of_evaluated_tenants() -> None:
    """Of three slices of waiting tenants, one is released per turn of the loop."""
    released = []
    scheduler = Scheduler(steps=())
    scheduler.pending_waits = {object(): SatisfiedWait() for _ in range(3 * YIELD_EVERY)}
    scheduler.earliest_due_at = 0.0
    clock = asyncio.get_running_loop().time
    poller = Poller(lambda: asyncio.sleep(0, EnvList(())), clock, asyncio.sleep)
    environment_poller = EnvironmentPoller(
        scheduler, poller, 1.0, lambda tenant_state, _: released.append(tenant_state), pytest.fail
    )
    polling = asyncio.create_task(environment_poller.run())
    observed_counts = set()
    while len(released) < 3 * YIELD_EVERY:
        await asyncio.sleep(0)
        observed_counts.add(len(released))
    polling.cancel()
    assert {YIELD_EVERY, 2 * YIELD_EVERY, 3 * YIELD_EVERY} <= observed_counts
