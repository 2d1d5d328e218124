"""Waiting in tests of stores: for events and not for a time."""

from __future__ import annotations

import asyncio

# Seconds; longer than any test runs, so that what is waited for must come from an event.
LONG = 3600


async def finish(awaitable):
    """Return the result of *awaitable*; fail if it has none after a minute, which no slow machine needs."""
    done, _ = await asyncio.wait([asyncio.ensure_future(awaitable)], timeout=60)
    assert done, "it did not finish"
    return done.pop().result()
