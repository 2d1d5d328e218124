"""Tests of calls of user code."""

from __future__ import annotations

import asyncio

import pytest

from wxtcb.errors import TransportError
from wxtcb.tokens.user_code import call_user_code


@pytest.mark.parametrize("error", [KeyError("x"), TransportError("no", endpoint="/x", sent=False)])
async def test_cancellation_that_user_code_replaces_is_raised(error):
    """A cancelled caller does not go on, also if the function raises another exception instead."""
    started = asyncio.Event()

    async def function():
        started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise error from None

    task = asyncio.create_task(call_user_code(function, 60))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
