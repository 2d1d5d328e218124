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
    deadline = asyncio.timeout(patience)
    try:
        async with deadline:
            return await question()
    except WxtcbError as error:
        return copy.copy(error)
    except asyncio.CancelledError:
        if _being_cancelled():
            raise
        return Told("was cancelled from within")
    except Exception as error:
        if deadline.expired():
            return Told(f"gave no answer within {patience:g} s")
        return Told(f"failed ({type(error).__name__} {_place_of(error)})")


def _being_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _place_of(error: Exception) -> str:
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"in {frame.filename}, line {frame.lineno}"
