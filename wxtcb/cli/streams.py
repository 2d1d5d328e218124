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

_MAX_WRITE_ATTEMPTS: Final = 3


@attrs.define(eq=False)
class ResilientStream:
    """A stream whose failures do not end the run behind it, nor change its exit code.

    When nobody reads it any more, the rest goes nowhere. When it fails otherwise (a full disk), that is said once at
    `fallback`, and the rest goes there, unless it is `sensitive`.
    """

    stream: TextIO
    fallback: TextIO | None = None
    sensitive: bool = False

    def write(self, text: str) -> int:
        self._run_with_fallback(lambda: self.stream.write(text))
        return len(text)

    def flush(self) -> None:
        self._run_with_fallback(self.stream.flush)

    def __getattr__(self, name: str) -> object:
        return getattr(self.stream, name)

    def _run_with_fallback(self, operation: Callable[[], object]) -> None:
        """Try it here, at the spare, and nowhere."""
        for _ in range(_MAX_WRITE_ATTEMPTS):
            try:
                operation()
            except OSError as error:
                with contextlib.suppress(OSError):
                    self._redirect_descriptor(error)
            else:
                return

    def _redirect_descriptor(self, error: OSError) -> None:
        """Point the descriptor elsewhere, or Python complains once more when it flushes at exit."""
        spare, self.fallback = self.fallback, None
        if spare is None or isinstance(error, BrokenPipeError):
            with _open_devnull() as nowhere:
                os.dup2(nowhere.fileno(), self.stream.fileno())
            return
        rest = "it is lost" if self.sensitive else "the rest of it follows here"
        spare.write(f"The output cannot be written ({error.strerror}); {rest}.\n")
        spare.flush()
        with _open_devnull() as nowhere:
            os.dup2((nowhere if self.sensitive else spare).fileno(), self.stream.fileno())


def make_streams_resilient() -> None:
    """Make both standard streams patient, and let them write every letter in some way."""
    sys.stderr = _make_resilient(sys.stderr)
    sys.stdout = _make_resilient(sys.stdout, sys.stderr)


def mark_stdout_sensitive() -> None:
    """Let nothing that is meant for standard output go to standard error, which logs keep."""
    if isinstance(stream := cast("object", sys.stdout), ResilientStream):
        stream.sensitive = True


def _make_resilient(stream: TextIO | None, fallback: TextIO | None = None) -> TextIO:
    """Return a patient *stream*; one that was closed from the start (None) goes nowhere."""
    stream = _open_devnull() if stream is None else stream
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="backslashreplace")
    return cast("TextIO", ResilientStream(stream, fallback))


def _open_devnull() -> TextIO:
    return Path(os.devnull).open("w", encoding="utf-8")
