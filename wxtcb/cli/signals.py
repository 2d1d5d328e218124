"""Ctrl-C and SIGTERM: what is under way is ended in good order."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

import anyio
import attrs

T = TypeVar("T")

ENDING: Final = (signal.SIGINT, signal.SIGTERM)


@attrs.frozen
class Ended:
    """Something was cut off by signal `number`."""

    number: int

    @property
    def name(self) -> str:
        return "Ctrl-C" if self.number == signal.SIGINT else signal.Signals(self.number).name

    @property
    def exit_code(self) -> int:
        return 128 + self.number


def run_until_signal(work: Coroutine[Any, Any, T]) -> T | Ended:
    """Run *work* in a loop of its own; what a signal does not cut off in time is told as if none had come."""
    return asyncio.run(_until_signal(work))


async def _until_signal(work: Coroutine[Any, Any, T]) -> T | Ended:
    with anyio.open_signal_receiver(*ENDING) as signals:
        working, heeding = asyncio.ensure_future(work), asyncio.ensure_future(anext(signals))
        await asyncio.wait((working, heeding), return_when=asyncio.FIRST_COMPLETED)
        (heeding if working.done() else working).cancel()
        await asyncio.wait((working, heeding))
    return Ended(heeding.result()) if working.cancelled() else working.result()
