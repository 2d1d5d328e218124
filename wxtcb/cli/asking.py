"""A person is asked before something that cannot be taken back."""

from __future__ import annotations

import sys

from wxtcb.errors import InvalidArgument


class NotConfirmed(InvalidArgument):
    """The person said no, or nobody could be asked."""


def require_terminal(question: str) -> None:
    """Raise `NotConfirmed` where nobody could be asked *question*."""
    if sys.stdin is None or not sys.stdin.isatty():
        raise NotConfirmed(f"{question} There is no terminal to ask: add --yes. Nothing was sent.")


def confirm(question: str) -> None:
    """Return if the person at the terminal says yes; else raise `NotConfirmed`."""
    require_terminal(question)
    try:
        answer = _prompt(question)
    except KeyboardInterrupt:
        sys.stderr.write("\nNothing was changed.\n")
        raise
    if answer not in ("y", "yes"):
        raise NotConfirmed("You said no. Nothing was changed.")


def _prompt(question: str) -> str:
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower()
