"""How a command ends: with its exit code, and with the reason where something went wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

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
