"""How a command ends: with its exit code, and with the reason where something went wrong."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

import anyio
import attrs
import typer

from wxtcb.errors import ApiError, InvalidArgument, TicketError, WxtcbError

EXIT_REJECTED: Final = 2
EXIT_FAILED: Final = 3
EXIT_INTERRUPTED: Final = 130


def run_and_exit(command: Callable[[], int]) -> None:
    """Leave with the command's exit code; with the reason for what was refused, or for the call that raised."""
    try:
        code = command()
    except WxtcbError as error:
        code = _report_error(error)
    except KeyboardInterrupt:
        code = EXIT_INTERRUPTED
    raise typer.Exit(code)


def _report_error(error: WxtcbError) -> int:
    """Say what went wrong; tell what was refused before anything was sent from what came of a call."""
    from wxtcb.cli.console import as_command, echo_err, escape_unprintable
    from wxtcb.provision.journal import JournalError

    for line in (*f"wxtcb: {error}".splitlines(), *getattr(error, "__notes__", ())):
        echo_err(as_command(escape_unprintable(line)))
    unsent = isinstance(error, InvalidArgument | TicketError | JournalError) and not isinstance(error, ApiError)
    return EXIT_REJECTED if unsent else EXIT_FAILED


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
