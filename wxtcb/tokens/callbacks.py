"""What is the user's and may do anything: asked within a time, quoted by place alone, for frames hold secrets."""

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
    """What became of a question, in `message`: "failed (KeyError in app.py, line 7)", "gave no answer within 35 s"."""

    message: str


async def call_user_code(function: Callable[[], Awaitable[T]], timeout: float) -> T | WxtcbError | UserCodeFailure:
    """Return the answer, or what went wrong instead; raise nothing but the cancellation of the caller."""
    requests = cancellation_count()
    deadline = asyncio.timeout(timeout)
    try:
        async with deadline:
            answer = await function()
    except WxtcbError as error:
        return copy.copy(error)
    except asyncio.CancelledError:
        if cancellation_count() > requests:
            raise
        return UserCodeFailure("was cancelled from within")
    except Exception as error:
        if deadline.expired():
            return UserCodeFailure(f"gave no answer within {timeout:g} s")
        return UserCodeFailure(f"failed ({type(error).__name__} {_format_location(error)})")
    await raise_if_cancelled(requests)
    return answer


def cancellation_count() -> int:
    """Return how often the cancellation of this task was asked for."""
    task = asyncio.current_task()
    return 0 if task is None else task.cancelling()


async def raise_if_cancelled(count_before: int) -> None:
    """Be cancelled, if that was asked for since there were so many *requests*: foreign code may have swallowed it."""
    if cancellation_count() > count_before:
        await asyncio.sleep(0)  # anyio cancels again, with the words that it knows its own cancellations by
        raise asyncio.CancelledError


def _format_location(error: Exception) -> str:
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"in {frame.filename}, line {frame.lineno}"
