"""A person is asked before something that cannot be taken back."""

from __future__ import annotations

import sys

from wxtcb.errors import InvalidArgument


class Declined(InvalidArgument):
    """The person said no, or nobody could be asked."""


def ask(question: str) -> None:
    """Return if the person at the terminal says yes; else raise `Declined`: nothing was sent."""
    if sys.stdin is None or not sys.stdin.isatty():
        raise Declined(f"{question} There is no terminal to ask: add --yes. Nothing was sent.")
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise Declined("You said no. Nothing was sent.")
