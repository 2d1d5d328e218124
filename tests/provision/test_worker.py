"""Workers: whoever is elected provisions what is desired."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from wxtcb.errors import InvalidArgument
from wxtcb.provision import MemoryJournal, Provisioner, ProvisioningClient, Tenant
from wxtcb.provision.desired import DesiredState
from wxtcb.provision.events import RunStopped, TermEnded, TermStarted
from wxtcb.provision.report import StopReason
from wxtcb.sandbox import Fault, FaultKind, ReadyPolicy

from .conftest import EPOCH, Harness
from .constants import API, CREATE, LIST, SHARE, WX1, plain_tenants, wait_for_requests

pytestmark = pytest.mark.virtual_time


@pytest.fixture
def journal() -> MemoryJournal:
    """Return a journal whose storage has the time of the loop."""
    return MemoryJournal(clock=lambda: EPOCH + asyncio.get_running_loop().time())


@contextlib.asynccontextmanager
async def serving(harness: Harness, journal: MemoryJournal, **options: object) -> AsyncIterator[Provisioner]:
    """Serve until the end of the block."""
    async with harness.provisioner(journal=journal, **options) as provisioner:
        task = asyncio.create_task(provisioner.serve())
        try:
            yield provisioner
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


async def follow_to_end(client: ProvisioningClient, name: str) -> DesiredState:
    """Return the state in which a tenant ends."""
    states = [status.state async for status in client.follow(name)]
    return states[-1]


async def test_submitted_tenants_are_provisioned(harness: Harness, journal: MemoryJournal) -> None:
    """Each client that follows one sees its end; the environments, links and services are those of a run."""
    async with serving(harness, journal):
        client = ProvisioningClient(journal)
        tenants = [Tenant("a", appids=[WX1], services=[API]), *plain_tenants(50)]
        await client.submit(tenants)
        states = await asyncio.gather(*(follow_to_end(client, tenant.name) for tenant in tenants))
        status = await client.status("a")
    assert {*states} == {DesiredState.DONE}
    assert len(harness.sandbox.world.environments) == 51
    assert (list(status.services), len(status.links)) == (["api"], 1)
