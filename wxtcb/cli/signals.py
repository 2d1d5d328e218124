"""Ctrl-C and SIGTERM: what is under way is ended in good order."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

import anyio
import attrs

T = TypeVar("T")

TERMINATION_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


@attrs.frozen
class Interrupted:
    """Something was cut off by signal `signum`."""

    signum: int

    @property
    def signal_name(self) -> str:
        return "Ctrl-C" if self.signum == signal.SIGINT else signal.Signals(self.signum).name

    @property
    def exit_code(self) -> int:
        return 128 + self.signum


def run_until_signal(coroutine: Coroutine[Any, Any, T]) -> T | Interrupted:
    """Run *work* in a loop of its own; what a signal does not cut off in time is told as if none had come."""
    return asyncio.run(_wait_for_work_or_signal(coroutine))


async def _wait_for_work_or_signal(coroutine: Coroutine[Any, Any, T]) -> T | Interrupted:
    with anyio.open_signal_receiver(*TERMINATION_SIGNALS) as signals:
        working, heeding = asyncio.ensure_future(coroutine), asyncio.ensure_future(anext(signals))
        await asyncio.wait((working, heeding), return_when=asyncio.FIRST_COMPLETED)
        (heeding if working.done() else working).cancel()
        await asyncio.wait((working, heeding))
    return Interrupted(heeding.result()) if working.cancelled() else working.result()
