"""Provisioning client as a caller's type checker sees it; checked, never run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from datetime import datetime
from typing import assert_type

from wxtcb.provision import (
    Decision,
    DesiredState,
    MemoryJournal,
    ProvisioningClient,
    SqliteJournal,
    Submission,
    Tenant,
    TenantStatus,
)


async def calls(tenants: list[Tenant]) -> None:
    """Submit, follow and decide."""
    client = ProvisioningClient(MemoryJournal())
    ProvisioningClient(SqliteJournal("journal.db"), clock=lambda: 1.0)
    assert_type(await client.submit(tenants), Submission)
    await client.submit(tenant for tenant in tenants)
    await client.submit("a")  # type: ignore[arg-type]
    assert_type((await client.submission(tenants)).sql, str)
    assert_type(await client.status("a"), TenantStatus | None)
    assert_type(client.needs_attention(), AsyncIterator[TenantStatus])
    async for status in client.follow("a"):
        assert_type(status.state, DesiredState)
        assert_type(status.step, str | None)
        assert_type(status.next_attempt, datetime | None)
        assert_type(status.decision, Decision | None)
        assert_type(status.to_json(), str)
    assert_type(await client.counts(), Mapping[DesiredState, int])
    assert_type(await client.cancel("a"), bool)
    await client.decide("a", adopt="env-1")
    await client.decide("a", "env-1")  # type: ignore[call-arg]
    async for status in client.statuses({"a"}, states=[DesiredState.DONE]):
        assert_type(status, TenantStatus)
