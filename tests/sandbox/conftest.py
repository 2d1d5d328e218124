"""A running sandbox under a manual clock."""

from __future__ import annotations

from collections.abc import AsyncIterator

import aiohttp
import pytest
import pytest_asyncio

from wxtcb.sandbox import Sandbox, World

from .sandbox_harness import Clock, Rig


@pytest.fixture
def clock() -> Clock:
    """Stop the clock until a test moves it."""
    return Clock()


@pytest.fixture
def world(clock: Clock) -> World:
    """Make a world under that clock, at the Unix time 1,600,000,000."""
    return World(clock=clock, started_at_unix=1_600_000_000)


@pytest_asyncio.fixture
async def rig(world: World, clock: Clock) -> AsyncIterator[Rig]:
    """Serve a sandbox with that world, and a client of it."""
    async with Sandbox(world=world) as box, aiohttp.ClientSession(box.url) as http:
        yield Rig(box, clock, http)
