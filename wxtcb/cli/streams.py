"""The standard streams, made patient: a reader who leaves, a full disk, or letters the terminal lacks, end nothing."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final, TextIO, cast

import attrs

_PLACES: Final = 3


@attrs.define(eq=False)
class Patient:
    """A stream whose failures do not end the run behind it, nor change its exit code.

    When nobody reads it any more, the rest goes nowhere. When it fails otherwise (a full disk), that is said once at
    `spare`, and the rest goes there, unless it is `private`.
    """

    stream: TextIO
    spare: TextIO | None = None
    private: bool = False

    def write(self, text: str) -> int:
        self._insist(lambda: self.stream.write(text))
        return len(text)

    def flush(self) -> None:
        self._insist(self.stream.flush)

    def __getattr__(self, name: str) -> object:
        return getattr(self.stream, name)

    def _insist(self, act: Callable[[], object]) -> None:
        """Try it here, at the spare, and nowhere."""
        for _ in range(_PLACES):
            try:
                act()
            except OSError as error:
                with contextlib.suppress(OSError):
                    self._move(error)
            else:
                return

    def _move(self, error: OSError) -> None:
        """Point the descriptor elsewhere, or Python complains once more when it flushes at exit."""
        spare, self.spare = self.spare, None
        if spare is None or isinstance(error, BrokenPipeError):
            with _nowhere() as nowhere:
                os.dup2(nowhere.fileno(), self.stream.fileno())
            return
        rest = "it is lost" if self.private else "the rest of it follows here"
        spare.write(f"The output cannot be written ({error.strerror}); {rest}.\n")
        spare.flush()
        with _nowhere() as nowhere:
            os.dup2((nowhere if self.private else spare).fileno(), self.stream.fileno())


def be_patient() -> None:
    """Make both standard streams patient, and let them write every letter in some way."""
    sys.stderr = _patient(sys.stderr)
    sys.stdout = _patient(sys.stdout, sys.stderr)


def be_private() -> None:
    """Let nothing that is meant for standard output go to standard error, which logs keep."""
    if isinstance(stream := cast("object", sys.stdout), Patient):
        stream.private = True


def _patient(stream: TextIO | None, spare: TextIO | None = None) -> TextIO:
    """Return a patient *stream*; one that was closed from the start (None) goes nowhere."""
    stream = _nowhere() if stream is None else stream
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="backslashreplace")
    return cast("TextIO", Patient(stream, spare))


def _nowhere() -> TextIO:
    return Path(os.devnull).open("w", encoding="utf-8")
