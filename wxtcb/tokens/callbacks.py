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
class Told:
    """What became of a question, in `words`: "failed (KeyError in app.py, line 7)", "gave no answer within 35 s"."""

    words: str


async def ask_foreign(question: Callable[[], Awaitable[T]], patience: float) -> T | WxtcbError | Told:
    """Return the answer, or what went wrong instead; raise nothing but the cancellation of the caller."""
    requests = cancel_requests()
    deadline = asyncio.timeout(patience)
    try:
        async with deadline:
            answer = await question()
    except WxtcbError as error:
        return copy.copy(error)
    except asyncio.CancelledError:
        if cancel_requests() > requests:
            raise
        return Told("was cancelled from within")
    except Exception as error:
        if deadline.expired():
            return Told(f"gave no answer within {patience:g} s")
        return Told(f"failed ({type(error).__name__} {_place_of(error)})")
    await heed_cancellation(requests)
    return answer


def cancel_requests() -> int:
    """Return how often the cancellation of this task was asked for."""
    task = asyncio.current_task()
    return 0 if task is None else task.cancelling()


async def heed_cancellation(requests: int) -> None:
    """Be cancelled, if that was asked for since there were so many *requests*: foreign code may have swallowed it."""
    if cancel_requests() > requests:
        await asyncio.sleep(0)  # anyio cancels again, with the words that it knows its own cancellations by
        raise asyncio.CancelledError


def _place_of(error: Exception) -> str:
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"in {frame.filename}, line {frame.lineno}"
