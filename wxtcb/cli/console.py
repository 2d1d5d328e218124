"""What the command line writes: notes to the person, JSON, and tables whose columns stand straight."""

from __future__ import annotations

import re
import sys
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from itertools import zip_longest
from typing import Final

import orjson
from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.text import Text

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
