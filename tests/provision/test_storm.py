"""Runs under random faults."""

from __future__ import annotations

import asyncio
import collections

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wxtcb.api.environment import DESCRIBE_ENVS
from wxtcb.provision import (
    Outcome,
    Provisioner,
    Tenant,
)
from wxtcb.sandbox import Fault, Sandbox, Trouble, World

from .conftest import connect
from .places import API, CREATE, WX1, seen

CALAMITIES = [
    Trouble.BUSY,
    Trouble.BUSY_AFTER,
    Trouble.SYSTEM_ERROR_AFTER,
    Trouble.DROP,
    Trouble.DROP_AFTER,
    Trouble.HTTP_AFTER,
    Trouble.EMPTY,
    Trouble.KILL,
    Trouble.TRUNCATE,
]


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    seed=st.integers(0, 2**32),
    troubles=st.lists(st.sampled_from(CALAMITIES), min_size=1, max_size=3),
    cut=st.booleans(),
)
def test_everybody_is_in_the_report_once_whatever_happens(seed: int, troubles: list[Trouble], *, cut: bool) -> None:
    """Under random faults, and cancelled or not: no environment is opened twice, and none is unaccounted for."""
    asyncio.run(_storm(seed, troubles, cut=cut))


async def _storm(seed: int, troubles: list[Trouble], *, cut: bool) -> None:
    tenants = [Tenant(f"t{number}", alias=f"a{number}", appids=[WX1], services=[API]) for number in range(12)]
    async with Sandbox(world=World(seed=seed)) as box, connect(box) as session:
        session.sweep(DESCRIBE_ENVS).every = 0.0
        box.faults.seed = seed
        for trouble in troubles:
            box.faults.add(Fault(trouble, probability=0.15))
        async with Provisioner(session, concurrency=4, interval=0.01, timeout=1.0, grace=0.01) as provisioner:
            run = provisioner.apply(tenants)
            if cut:
                await seen(box, CREATE, 3)
                await run.cancel()
            report = await run.wait()
        opened = collections.Counter(row.alias for row in box.world.environments.values())
    assert [entry.tenant for entry in report.tenants] == [tenant.name for tenant in tenants]
    assert all(count == 1 for count in opened.values())
    for entry in report.tenants:
        told = entry.env is not None or entry.outcome is Outcome.UNKNOWN
        assert told or not opened[entry.alias], entry
