"""Where the command line writes: a reader who leaves early, and letters the terminal lacks, end nothing."""

from __future__ import annotations

import io
import os
import sys
from typing import Final, TextIO, cast

import attrs
from rich.console import Console

_PIPED: Final = 1000


@attrs.define(eq=False)
class Patient:
    """A stream that swallows what nobody reads any more: the run behind it goes on, and its exit code holds."""

    stream: TextIO

    def write(self, text: str) -> int:
        try:
            return self.stream.write(text)
        except BrokenPipeError:
            self._let_go()
        return len(text)

    def flush(self) -> None:
        try:
            self.stream.flush()
        except BrokenPipeError:
            self._let_go()

    def __getattr__(self, name: str) -> object:
        return getattr(self.stream, name)

    def _let_go(self) -> None:
        """Point the descriptor elsewhere, or Python complains once more when it flushes at exit."""
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.stream.fileno())
        os.close(nowhere)


def be_patient() -> None:
    """Make both standard streams patient, and let them write every letter in some way."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
        setattr(sys, name, cast("TextIO", Patient(stream)))


def console(*, stderr: bool = False) -> Console:
    """Return a console that takes every text literally; where it is no terminal, lines are not broken."""
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else _PIPED
    return Console(file=stream, width=width, markup=False, emoji=False, highlight=False)


def printable(text: str) -> str:
    """Return *text* on one line, with everything that could steer a terminal written out."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


def say(text: str) -> None:
    """Tell the person something that is no result."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()
