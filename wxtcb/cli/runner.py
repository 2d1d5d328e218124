"""How a command ends: with its exit code, and with the reason where something went wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import typer

from wxtcb.errors import ApiError, InvalidArgument, TicketError, WxtcbError

REFUSED: Final = 2
RAISED: Final = 3
INTERRUPTED: Final = 130


def leave(command: Callable[[], int]) -> None:
    """Leave with the command's exit code; with the reason for what was refused, or for the call that raised."""
    try:
        code = command()
    except WxtcbError as error:
        code = _tell(error)
    except KeyboardInterrupt:
        code = INTERRUPTED
    raise typer.Exit(code)


def _tell(error: WxtcbError) -> int:
    """Say what went wrong; tell what was refused before anything was sent from what came of a call."""
    from wxtcb.cli.console import as_typed, printable, say
    from wxtcb.provision.journal import JournalError

    for line in (*f"wxtcb: {error}".splitlines(), *getattr(error, "__notes__", ())):
        say(as_typed(printable(line)))
    unsent = isinstance(error, InvalidArgument | TicketError | JournalError) and not isinstance(error, ApiError)
    return REFUSED if unsent else RAISED
