"""Terminal output and input: messages, JSON, tables with wide characters, and confirmation questions."""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import zip_longest
from typing import Final, TextIO, cast

import attrs
import orjson
from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.text import Text

from wxtcb import secret
from wxtcb.cli.runner import discard_output
from wxtcb.errors import InvalidArgument
from wxtcb.tokens.state_repository import NOT_REQUIRED_HINT

# Wide enough that rich breaks no line that goes to a pipe or a file.
_PIPE_WIDTH: Final = 1000
escape_unprintable: Final = secret.escape_unprintable
_MIN_COLUMN_WIDTH: Final = 8
# Advice that only a program can follow.
_PYTHON_OPTION: Final = re.compile(r"[,;] (?:or )?set allow_http=True(?: for plain http to another one)?")
# `Text.wrap` needs a console, but takes the width as an argument.
_WRAP_CONSOLE: Final = Console(markup=False, emoji=False, highlight=False)


def make_console(*, stderr: bool = False, resilient: bool = False) -> Console:
    """Return a rich console that prints text literally, and does not break lines unless it is a terminal.

    With *resilient*, a failure to write is reported once, and raises nothing; see `ResilientStream`.
    """
    stream = sys.stderr if stderr else sys.stdout
    is_terminal = stream.isatty()
    return Console(
        file=cast("TextIO", resilient_stream(stderr=stderr)) if resilient else stream,
        width=None if is_terminal else _PIPE_WIDTH,
        # Without this, FORCE_COLOR in the environment would put progress bars and escape codes into a pipe.
        force_terminal=None if is_terminal else False,
        markup=False,
        emoji=False,
        highlight=False,
    )


@attrs.define(eq=False)
class ResilientStream:
    """Text stream that never raises `OSError`, for output during a run that spends money.

    After a failure such as a full disk, the rest is written to `fallback`, where the failure is reported once. It is
    discarded without a `fallback`, if that fails as well, or if the reader of a pipe is gone.
    """

    stream: TextIO
    fallback: TextIO | None = None

    def write(self, text: str) -> int:
        self._run_with_fallback(lambda: self.stream.write(text))
        return len(text)

    def flush(self) -> None:
        self._run_with_fallback(self.stream.flush)

    # rich asks the stream for more than `TextIO` guarantees, such as `encoding`.
    def __getattr__(self, name: str) -> object:
        return getattr(self.stream, name)

    def _run_with_fallback(self, operation: Callable[[], object]) -> None:
        # One attempt at the stream itself, one at the fallback and one at the null device.
        for _ in range(3):
            try:
                operation()
            except OSError as error:
                with contextlib.suppress(OSError):
                    self._redirect(error)
            else:
                return

    def _redirect(self, error: OSError) -> None:
        """Point the descriptor at the fallback, so that the data in the buffer of the stream follows there too."""
        fallback, self.fallback = self.fallback, None
        if fallback is None or isinstance(error, BrokenPipeError):
            discard_output(self.stream)
            return
        fallback.write(f"Standard output cannot be written ({error.strerror}). The rest of the output follows here.\n")
        fallback.flush()
        os.dup2(fallback.fileno(), self.stream.fileno())


def resilient_stream(*, stderr: bool = False) -> ResilientStream:
    """Return a `ResilientStream` for standard output, which falls back to standard error, or for standard error."""
    return ResilientStream(sys.stderr) if stderr else ResilientStream(sys.stdout, sys.stderr)


def as_command(text: str) -> str:
    """Return *text* with functions of `wxtcb.api.token` replaced by commands, and without options of Python."""
    text = _PYTHON_OPTION.sub("", text.removesuffix(f" {NOT_REQUIRED_HINT}"))
    return re.sub(r"\bapi\.token\.(\w+)", r"`wxtcb call \1`", text)


def echo_err(text: str) -> None:
    """Print a message to standard error, wrapped between words on a narrow terminal; never raise `OSError`."""
    stream = resilient_stream(stderr=True)
    stream.write(f"{_wrap_text(text, make_console(stderr=True))}\n")
    stream.flush()


def echo_err_newline(text: str) -> None:
    """Print a message to standard error, on a line of its own below the ^C that a terminal shows."""
    echo_err(f"\n{text}" if sys.stderr.isatty() else text)


def echo_out(text: str) -> None:
    """Print a message to standard output, wrapped between words on a narrow terminal."""
    sys.stdout.write(f"{_wrap_text(text, make_console())}\n")
    sys.stdout.flush()


def _wrap_text(text: str, console: Console) -> str:
    if not console.is_terminal:
        return text
    # Not rich: it would break long words, and a broken URL or path cannot be copied.
    return "\n".join(
        textwrap.fill(line, console.width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
        for line in text.split("\n")
    )


def print_json(value: object) -> None:
    """Print *value* to standard output as indented JSON."""
    print_json_bytes(orjson.dumps(value, option=orjson.OPT_INDENT_2))


def print_json_bytes(document: bytes, *, resilient: bool = False) -> None:
    """Print an encoded JSON document to standard output; with *resilient*, raise no `OSError`.

    On a terminal, control and bidirectional characters are written as JSON escapes: JSON itself escapes only those
    below 0x20, but U+009B starts a control sequence as well.
    """
    stream, text = resilient_stream() if resilient else sys.stdout, document.decode()
    if sys.stdout.isatty():
        text = "\n".join(map(_escape_json_line, text.split("\n")))
    stream.write(text + "\n")
    stream.flush()


def _escape_json_line(line: str) -> str:
    if line.isprintable():
        return line
    return "".join(letter if letter.isprintable() else json.dumps(letter)[1:-1] for letter in line)


def print_table(console: Console, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print *rows* below a *header*: in a pipe one line for each row, on a narrow terminal with wrapped cells."""
    lines = align_columns([header, *rows], console.width if console.is_terminal else None)
    console.print(next(lines), style="bold", soft_wrap=True)
    # `console.print` for each line would add 0.3 s for 10,000 rows of a plan, three times the rest.
    for line in lines:
        console.file.write(f"{line}\n")


def align_columns(rows: Sequence[Sequence[str]], width: int | None = None) -> Iterator[str]:
    """Iterate over the lines of a table whose columns are aligned by terminal cells; a Chinese character takes two.

    If the table is wider than *width* cells, the widest columns are narrowed and their cells are wrapped. No text is
    left out. Unprintable characters are escaped, so that a tenant name cannot control the terminal.
    """
    # Not rich.Table: 10,000 rows of a plan take it 3.4 s, and this function 0.7 s with wrapped cells and 0.1 s without.
    cells = [[escape_unprintable(cell) for cell in row] for row in rows]
    widths = [max(map(cell_len, column)) for column in zip(*cells, strict=True)]
    available = None if width is None else width - 2 * (len(widths) - 1)
    if available is None or sum(widths) <= available:
        yield from (_join_cells(row, widths) for row in cells)
        return
    widths = _shrink_widths(widths, available)
    for row in cells:
        # "fold" breaks inside a word that is too long; Chinese text has no spaces to break at.
        wrapped = [
            [line.plain.rstrip() for line in Text(cell).wrap(_WRAP_CONSOLE, limit, overflow="fold")]
            for cell, limit in zip(row, widths, strict=True)
        ]
        yield from (_join_cells(parts, widths) for parts in zip_longest(*wrapped, fillvalue=""))


def _join_cells(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(map(set_cell_size, cells, widths)).rstrip()


def _shrink_widths(widths: Sequence[int], available: int) -> list[int]:
    """Return widths that share the *available* cells: narrow columns keep theirs, wide ones get an equal part."""
    shrunk = list(widths)
    # From the narrowest to the widest, so that each column can pass on the cells that it does not need.
    by_width = sorted(range(len(widths)), key=widths.__getitem__)
    for position, column in enumerate(by_width):
        share = max(available // (len(widths) - position), _MIN_COLUMN_WIDTH)
        shrunk[column] = min(widths[column], share)
        available -= shrunk[column]
    return shrunk


class NotConfirmed(InvalidArgument):
    """The question was answered with no, or there is no terminal to ask at."""


def require_terminal(question: str) -> None:
    """Raise `NotConfirmed` if *question* could not be asked because standard input is not a terminal."""
    if sys.stdin is None or not sys.stdin.isatty():
        raise NotConfirmed(f"{question} There is no terminal to ask at: add --yes. No request was sent.")


def confirm(question: str) -> None:
    """Ask *question* at the terminal; raise `NotConfirmed` unless the answer is "y" or "yes"."""
    require_terminal(question)
    # Standard error, because standard output may be redirected to a file. It is not made resilient: if the question
    # cannot be shown, an answer to it is worth nothing.
    try:
        # Ctrl-C can come as soon as the question is visible, which is before `write` returns.
        sys.stderr.write(f"{question} [y/N] ")
        sys.stderr.flush()
        answer = sys.stdin.readline().strip().lower()
    except KeyboardInterrupt:
        sys.stderr.write("\nNothing was changed.\n")
        raise
    if answer not in ("y", "yes"):
        raise NotConfirmed("Cancelled. Nothing was changed.")
