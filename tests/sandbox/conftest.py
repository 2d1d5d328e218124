"""Fixtures: a running sandbox under a manual clock."""

from __future__ import annotations

from collections.abc import AsyncIterator

import aiohttp
import pytest
import pytest_asyncio

from wxtcb.sandbox import Sandbox, World

from .sandbox_harness import Clock, Harness


@pytest.fixture
def clock() -> Clock:
    """Return a clock that a test advances."""
    return Clock()


@pytest.fixture
def world(clock: Clock) -> World:
    """Return a world under that clock, started at Unix time 1,600,000,000."""
    return World(clock=clock, started_at_unix=1_600_000_000)


@pytest_asyncio.fixture
async def harness(world: World, clock: Clock) -> AsyncIterator[Harness]:
    """Serve a sandbox with that world, and open a client for it."""
    async with Sandbox(world=world) as sandbox, aiohttp.ClientSession(sandbox.url) as http:
        yield Harness(sandbox, clock, http)
