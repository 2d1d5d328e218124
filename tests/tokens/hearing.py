"""How tests of stores wait: for what happens, and not for a time."""

from __future__ import annotations

import asyncio

LONG = 3600  # seconds: longer than anything that works


async def heard(waiting):
    """Wait for what ends long before its own time if it works, and fail only if it does not."""
    done, _ = await asyncio.wait([asyncio.ensure_future(waiting)], timeout=60)
    assert done, "it does not come to its end"
    return done.pop().result()
