"""Runs under random faults, in virtual time."""

from __future__ import annotations

import asyncio
import collections

import pytest
from hypothesis import given, settings, strategies as st

from wxtcb.provision import MemoryJournal, Outcome, Provisioner, Tenant
from wxtcb.sandbox import Fault, FaultKind, ReadyPolicy, Sandbox, World

from .conftest import SessionFactory
from .constants import API, CREATE, WX1, wait_for_requests

TROUBLES = [trouble for trouble in FaultKind if trouble not in (FaultKind.ECHO_MESSAGE, FaultKind.ERRCODE)]


@pytest.mark.unmeasured
@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    troubles=st.lists(st.sampled_from(TROUBLES), min_size=1, max_size=4),
    errcodes=st.lists(st.sampled_from([-1, -1000, 42001, 45011, 45009, 40097, 61007, 85088, 48001]), max_size=2),
    cut=st.booleans(),
    ready_after=st.sampled_from([0.0, 12.0]),
)
def test_report_is_complete_under_random_faults(
    virtual_run, seed: int, troubles: list[FaultKind], errcodes: list[int], ready_after: float, *, cut: bool
) -> None:
    """Cancelled or not, a run and its repetition create nothing twice, and each tenant is in the report once."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        faults = [Fault(trouble, probability=0.1, seconds=3.0) for trouble in troubles]
        faults += [Fault(FaultKind.ERRCODE, errcode=errcode, probability=0.1) for errcode in errcodes]
        virtual_run(_storm(SessionFactory(monkeypatch), seed, faults, ready_after, cut=cut))


async def _storm(
    session_factory: SessionFactory, seed: int, faults: list[Fault], ready_after: float, *, cut: bool
) -> None:
    tenants = [Tenant(f"t{number}", alias=f"a{number}", appids=[WX1], services=[API]) for number in range(12)]
    clock = asyncio.get_running_loop().time
    sandbox = Sandbox(world=World(seed=seed, clock=clock, ready_after=ReadyPolicy.after_seconds(ready_after)))
    sandbox.faults.seed = seed
    for fault in faults:
        sandbox.faults.add(fault)
    journal = MemoryJournal()
    async with session_factory.session(sandbox) as session:
        for again in (False, True):
            provisioner = Provisioner(session, journal=journal, concurrency=4, settle=2.0, timeout=60.0, grace=0.01)
            async with provisioner:
                run = provisioner.apply(tenants)
                if cut and not again:
                    await wait_for_requests(sandbox, CREATE, 3)
                    await run.cancel()
                report = await run.wait()
            _check(report.tenants, tenants, sandbox, await journal.load(tenant.name for tenant in tenants))


def _check(entries, tenants: list[Tenant], sandbox: Sandbox, records) -> None:
    assert [entry.tenant for entry in entries] == [tenant.name for tenant in tenants]
    created = collections.Counter(row.alias for row in sandbox.world.environments.values())
    assert all(count == 1 for count in created.values())
    for entry in entries:
        record = records.get(entry.tenant)
        recorded = record is not None and (record.env or record.intent)
        reported = entry.env or entry.outcome in (Outcome.UNKNOWN, Outcome.CONFLICT) or entry.not_started
        assert (recorded and reported) or not created[entry.alias], entry


@pytest.mark.virtual_time
@pytest.mark.parametrize("trouble", FaultKind)
async def test_report_is_complete_under_each_fault(session_factory: SessionFactory, trouble: FaultKind) -> None:
    """With each kind of fault on a third of all requests, each tenant is reported once and nothing is created twice."""
    await _storm(session_factory, 7, [Fault(trouble, probability=0.3, seconds=3.0)], 12.0, cut=False)
