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

_PIPED: Final = 1000
_GAP: Final = "  "
_NARROWEST: Final = 8
_FOLDER: Final = Console(markup=False, emoji=False, highlight=False)
_INDENT: Final = "  "
_CALL: Final = re.compile(r"\bapi\.token\.(\w+)")


def console(*, stderr: bool = False) -> Console:
    """Return a console that takes every text literally; where it is no terminal, lines are not broken.

    FORCE_COLOR makes no terminal of a pipe: there would be bars in it.
    """
    stream = sys.stderr if stderr else sys.stdout
    at_terminal = stream.isatty()
    return Console(
        file=stream,
        width=None if at_terminal else _PIPED,
        force_terminal=None if at_terminal else False,
        markup=False,
        emoji=False,
        highlight=False,
    )


def printable(text: str) -> str:
    """Return *text* on one line, with everything that could steer a terminal written out."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


def as_typed(text: str) -> str:
    """Return advice with the calls in it named as they are made from a shell."""
    return _CALL.sub(r"`wxtcb call \1`", text)


def say(text: str) -> None:
    """Tell the person something that is no result; a terminal that is too narrow gets it broken between words."""
    sys.stderr.write(f"{_laid_out(text, console(stderr=True))}\n")
    sys.stderr.flush()


def print_line(text: str) -> None:
    """Print a sentence that is a result, laid out in the same way."""
    sys.stdout.write(f"{_laid_out(text, console())}\n")
    sys.stdout.flush()


def _laid_out(text: str, screen: Console) -> str:
    return "\n".join(_wrapped(line, screen.width) for line in text.split("\n")) if screen.is_terminal else text


def _wrapped(line: str, width: int) -> str:
    """Break *line* between words; what follows its first part stands below it, indented."""
    return textwrap.fill(line, width, subsequent_indent=_INDENT, break_long_words=False, break_on_hyphens=False)


def say_below(text: str) -> None:
    """Tell the person something below the ^C that a terminal shows."""
    say(f"\n{text}" if sys.stderr.isatty() else text)


def print_json(value: object) -> None:
    """Print *value* as indented JSON."""
    print_document(orjson.dumps(value, option=orjson.OPT_INDENT_2))


def print_document(document: bytes) -> None:
    """Print a JSON document that is there already."""
    sys.stdout.write(document.decode() + "\n")
    sys.stdout.flush()


def print_table(screen: Console, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print *rows* under a *header*, one row a line in a pipe; a terminal that is too narrow gets folded cells."""
    lines = columns([header, *rows], screen.width if screen.is_terminal else None)
    screen.print(next(lines), style="bold", soft_wrap=True)
    for line in lines:
        screen.file.write(f"{line}\n")


def columns(rows: Sequence[Sequence[str]], width: int | None = None) -> Iterator[str]:
    """Lay *rows* out in columns that stand straight with Chinese in them too; nothing is left out.

    Where a row takes more than *width* cells of a terminal, the widest columns are made narrower, and what does not fit
    goes on below. A cell is one line of text: what could steer a terminal is written out.
    """
    cells = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(cell_len, column)) for column in zip(*cells, strict=True)]
    room = None if width is None else width - len(_GAP) * (len(widths) - 1)
    if room is None or sum(widths) <= room:
        yield from (_line(row, widths) for row in cells)
        return
    widths = _narrowed(widths, room)
    for row in cells:
        folded = [_fold(cell, most) for cell, most in zip(row, widths, strict=True)]
        yield from (_line(parts, widths) for parts in zip_longest(*folded, fillvalue=""))


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    return _GAP.join(map(set_cell_size, cells, widths)).rstrip()


def _narrowed(widths: Sequence[int], room: int) -> list[int]:
    """Let each column have its width as far as an equal share of what the narrower ones leave allows."""
    narrowed = list(widths)
    by_width = sorted(range(len(widths)), key=widths.__getitem__)
    for place, column in enumerate(by_width):
        share = max(room // (len(widths) - place), _NARROWEST)
        narrowed[column] = min(widths[column], share)
        room -= narrowed[column]
    return narrowed


def _fold(cell: str, width: int) -> list[str]:
    """Break *cell* between words where there are some, and anywhere where one is too long."""
    return [line.plain.rstrip() for line in Text(cell).wrap(_FOLDER, width, overflow="fold")]
