"""Calls of user code: with a deadline, and with errors that name a location but no frames, which may hold secrets."""

from __future__ import annotations

import asyncio
import copy
import traceback
from collections.abc import Awaitable, Callable
from typing import TypeVar

import attrs

from wxtcb.errors import WxtcbError

T = TypeVar("T")


@attrs.frozen
class UserCodeFailure:
    """The failure of a call, as the end of a sentence: "failed (KeyError in app.py, line 7)"."""

    message: str


async def call_user_code(function: Callable[[], Awaitable[T]], timeout: float) -> T | WxtcbError | UserCodeFailure:
    """Return the result of *function*, or its failure without a traceback; raise only if the caller is cancelled."""
    count_before = cancellation_count()
    deadline = asyncio.timeout(timeout)
    result: T | WxtcbError | UserCodeFailure
    try:
        async with deadline:
            result = await function()
    except WxtcbError as error:
        result = copy.copy(error)
    except asyncio.CancelledError:
        if cancellation_count() > count_before:
            raise
        # The function raised CancelledError itself, for example because it awaited a task that was cancelled.
        result = UserCodeFailure("was cancelled internally")
    except Exception as error:
        # `asyncio.timeout` raises TimeoutError, which the function may raise as well.
        if deadline.expired():
            result = UserCodeFailure(f"did not answer within {timeout:g} s")
        else:
            frame = traceback.extract_tb(error.__traceback__)[-1]
            result = UserCodeFailure(f"failed ({type(error).__name__} in {frame.filename}, line {frame.lineno})")
    # Also after a failure: the function may have turned the CancelledError into another exception.
    await raise_if_cancelled(count_before)
    return result


def cancellation_count() -> int:
    """Return how often cancellation of the current task was requested."""
    task = asyncio.current_task()
    return 0 if task is None else task.cancelling()


async def raise_if_cancelled(count_before: int) -> None:
    """Raise CancelledError if a cancellation was requested since the count was *count_before*.

    User code may have swallowed the CancelledError; without this check the task would go on as if nothing happened.
    """
    if cancellation_count() > count_before:
        # anyio delivers its cancellation again at the next await, with the message by which it recognises its own.
        await asyncio.sleep(0)
        raise asyncio.CancelledError
