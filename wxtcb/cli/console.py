"""What the command line writes: notes to the person, JSON, and tables whose columns stand straight."""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Final, TextIO, cast

import attrs
import orjson
from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.text import Text

from wxtcb.errors import InvalidArgument

_PIPE_WIDTH: Final = 1000
_COLUMN_SEPARATOR: Final = "  "
_MIN_COLUMN_WIDTH: Final = 8
_WRAP_CONSOLE: Final = Console(markup=False, emoji=False, highlight=False)
_CONTINUATION_INDENT: Final = "  "
_API_CALL_PATTERN: Final = re.compile(r"\bapi\.token\.(\w+)")


def make_console(*, stderr: bool = False) -> Console:
    """Return a console that takes every text literally; where it is no terminal, lines are not broken.

    FORCE_COLOR makes no terminal of a pipe: there would be bars in it.
    """
    stream = sys.stderr if stderr else sys.stdout
    at_terminal = stream.isatty()
    return Console(
        file=stream,
        width=None if at_terminal else _PIPE_WIDTH,
        force_terminal=None if at_terminal else False,
        markup=False,
        emoji=False,
        highlight=False,
    )


def escape_unprintable(text: str) -> str:
    """Return *text* on one line, with everything that could steer a terminal written out."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


def as_command(text: str) -> str:
    """Return advice with the calls in it named as they are made from a shell."""
    return _API_CALL_PATTERN.sub(r"`wxtcb call \1`", text)


def echo_err(text: str) -> None:
    """Tell the person something that is no result; a terminal that is too narrow gets it broken between words."""
    sys.stderr.write(f"{_wrap_text(text, make_console(stderr=True))}\n")
    sys.stderr.flush()


def echo_out(text: str) -> None:
    """Print a sentence that is a result, laid out in the same way."""
    sys.stdout.write(f"{_wrap_text(text, make_console())}\n")
    sys.stdout.flush()


def _wrap_text(text: str, console: Console) -> str:
    return "\n".join(_wrap_line(line, console.width) for line in text.split("\n")) if console.is_terminal else text


def _wrap_line(line: str, width: int) -> str:
    """Break *line* between words; what follows its first part stands below it, indented."""
    return textwrap.fill(
        line, width, subsequent_indent=_CONTINUATION_INDENT, break_long_words=False, break_on_hyphens=False
    )


def echo_err_newline(text: str) -> None:
    """Tell the person something below the ^C that a terminal shows."""
    echo_err(f"\n{text}" if sys.stderr.isatty() else text)


def print_json(value: object) -> None:
    """Print *value* as indented JSON."""
    print_json_bytes(orjson.dumps(value, option=orjson.OPT_INDENT_2))


def print_json_bytes(document: bytes) -> None:
    """Print a JSON document that is there already."""
    sys.stdout.write(document.decode() + "\n")
    sys.stdout.flush()


def print_table(console: Console, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print *rows* under a *header*, one row a line in a pipe; a terminal that is too narrow gets folded cells."""
    lines = align_columns([header, *rows], console.width if console.is_terminal else None)
    console.print(next(lines), style="bold", soft_wrap=True)
    for line in lines:
        console.file.write(f"{line}\n")


def align_columns(rows: Sequence[Sequence[str]], width: int | None = None) -> Iterator[str]:
    """Lay *rows* out in columns that stand straight with Chinese in them too; nothing is left out.

    Where a row takes more than *width* cells of a terminal, the widest columns are made narrower, and what does not fit
    goes on below. A cell is one line of text: what could steer a terminal is written out.
    """
    cells = [[escape_unprintable(cell) for cell in row] for row in rows]
    widths = [max(map(cell_len, column)) for column in zip(*cells, strict=True)]
    room = None if width is None else width - len(_COLUMN_SEPARATOR) * (len(widths) - 1)
    if room is None or sum(widths) <= room:
        yield from (_join_cells(row, widths) for row in cells)
        return
    widths = _shrink_widths(widths, room)
    for row in cells:
        folded = [_wrap_cell(cell, most) for cell, most in zip(row, widths, strict=True)]
        yield from (_join_cells(parts, widths) for parts in zip_longest(*folded, fillvalue=""))


def _join_cells(cells: Sequence[str], widths: Sequence[int]) -> str:
    return _COLUMN_SEPARATOR.join(map(set_cell_size, cells, widths)).rstrip()


def _shrink_widths(widths: Sequence[int], available: int) -> list[int]:
    """Let each column have its width as far as an equal share of what the narrower ones leave allows."""
    narrowed = list(widths)
    by_width = sorted(range(len(widths)), key=widths.__getitem__)
    for place, column in enumerate(by_width):
        share = max(available // (len(widths) - place), _MIN_COLUMN_WIDTH)
        narrowed[column] = min(widths[column], share)
        available -= narrowed[column]
    return narrowed


def _wrap_cell(cell: str, width: int) -> list[str]:
    """Break *cell* between words where there are some, and anywhere where one is too long."""
    return [line.plain.rstrip() for line in Text(cell).wrap(_WRAP_CONSOLE, width, overflow="fold")]


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
