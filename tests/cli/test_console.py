"""What is written: one line stays one line, and columns stand straight."""

from __future__ import annotations

import io
import os
import sys
import unicodedata
from collections.abc import Callable

import pytest
from rich.console import Console

from wxtcb.cli.console import (
    NotConfirmed,
    ResilientStream,
    align_columns,
    confirm,
    echo_err,
    echo_err_newline,
    echo_out,
    escape_unprintable,
    make_streams_resilient,
    print_table,
)

ROWS = [
    ["tenant", "alias", "remark"],
    ["商户１", "shop-a", "一家在北京的书店专卖旧书"],
    ["a", "コンニチハ", "a shop in Hangzhou"],
    ["한국어", "c", ""],
]


def width_of(text: str) -> int:
    """Count the cells of a terminal that *text* takes, as the Unicode database has it."""
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)


def test_only_what_can_be_printed_stays() -> None:
    """Chinese does, a terminal's commands and line breaks do not."""
    assert escape_unprintable("商户 a\x1b[31m\n") == "商户 a\\x1b[31m\\n"


def test_columns_stand_straight_with_wide_letters() -> None:
    """A Chinese, Japanese or Korean letter counts as the two cells it takes, in a pipe as in a terminal."""
    lines = list(align_columns(ROWS))
    starts = {width_of(line[: line.index(row[2])]) for line, row in zip(lines, ROWS, strict=True) if row[2]}
    assert starts == {20}
    assert lines == list(align_columns(ROWS, 80))
    assert lines[-1] == "한국어  c"


@pytest.mark.parametrize("width", [28, 33, 40])
def test_what_does_not_fit_goes_on_below(width: int) -> None:
    """No line is wider than the terminal, the columns stay, and no letter is lost."""
    lines = list(align_columns(ROWS, width))
    assert max(map(width_of, lines)) <= width
    assert len(lines) > len(ROWS)
    assert sorted("".join("".join(map("".join, ROWS)).split())) == sorted("".join("".join(lines).split()))


def test_words_stay_whole_where_they_fit() -> None:
    """A remark is broken between words."""
    assert list(align_columns([["a", "a shop in Hangzhou"]], 14)) == ["a  a shop in", "   Hangzhou"]


def test_the_widest_columns_give_way() -> None:
    """What is narrow stays on one line."""
    line = next(align_columns([["name", "x" * 50, "y" * 60]], 80))
    assert line.startswith(f"name  {'x' * 36}  {'y' * 36}")


def test_a_terminal_too_narrow_for_anything_loses_nothing() -> None:
    """Each column keeps a few cells."""
    assert list(align_columns([["abcdefghij", "klm"]], 2)) == ["abcdefgh  klm", "ij"]


def test_a_pipe_gets_a_line_per_row_whatever_its_width() -> None:
    """Nothing is folded or cut."""
    screen = Console(file=io.StringIO(), width=1000, markup=False)
    print_table(screen, ["name", "remark"], [["a", "长" * 2000], ["b\n", "[bold]x[/bold]"]])
    assert screen.file.getvalue().splitlines() == ["name  remark", f"a     {'长' * 2000}", "b\\n   [bold]x[/bold]"]


def test_a_terminal_gets_its_own_width() -> None:
    """And a bold header."""
    screen = Console(file=io.StringIO(), width=30, force_terminal=True, markup=False, highlight=False)
    print_table(screen, ["name", "remark"], [["a", "长" * 20]])
    header, first, second = screen.file.getvalue().splitlines()
    assert header == "\x1b[1mname  remark\x1b[0m"
    assert [first, second] == [f"a     {'长' * 12}", f"      {'长' * 8}"]


@pytest.mark.parametrize(("write", "name"), [(echo_err, "stderr"), (echo_out, "stdout")])
def test_a_narrow_terminal_gets_sentences_broken_between_words(
    monkeypatch: pytest.MonkeyPatch, write: Callable[[str], None], name: str
) -> None:
    """What goes on below is indented; a word that is too long stays whole. A pipe gets each line as it is."""
    monkeypatch.setenv("COLUMNS", "20")
    monkeypatch.setenv("TERM", "xterm")
    for terminal, told in (
        (True, "no more than twenty\ncells are in this\n  one:\n  http://127.0.0.1:8080/wechat/push\n"),
        (False, "no more than twenty\ncells are in this one: http://127.0.0.1:8080/wechat/push\n"),
    ):
        stream = io.StringIO()
        monkeypatch.setattr(stream, "isatty", lambda terminal=terminal: terminal)
        monkeypatch.setattr(sys, name, stream)
        write("no more than twenty\ncells are in this one: http://127.0.0.1:8080/wechat/push")
        assert stream.getvalue() == told


@pytest.mark.parametrize(("terminal", "told"), [(True, "\nIt was cut off.\n"), (False, "It was cut off.\n")])
def test_what_ctrl_c_leads_to_stands_below_it(monkeypatch: pytest.MonkeyPatch, *, terminal: bool, told: str) -> None:
    """A terminal shows ^C where the cursor was; in a pipe there is no such line."""
    stream = io.StringIO()
    monkeypatch.setattr(stream, "isatty", lambda: terminal)
    monkeypatch.setattr(sys, "stderr", stream)
    echo_err_newline("It was cut off.")
    assert stream.getvalue() == told


def test_writing_to_nobody_is_no_error() -> None:
    """Neither the write that overflows the buffer nor the flush at the end; afterwards all goes nowhere."""
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as stream:
        patient = ResilientStream(stream)
        text = "x" * (1 << 20)
        assert patient.write(text) == len(text)
        patient.flush()
        assert patient.write("more") == 4
        assert patient.fileno() == stream.fileno()


def test_a_flush_to_nobody_is_no_error() -> None:
    """What was buffered before the reader left is let go."""
    read, write = os.pipe()
    with os.fdopen(write, "w") as stream:
        patient = ResilientStream(stream)
        patient.write("x")
        os.close(read)
        patient.flush()


def test_streams_of_other_kinds_are_left_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that has put a buffer there gets its text."""
    buffer, errors = io.StringIO(), io.StringIO()
    monkeypatch.setattr(sys, "stdout", buffer)
    monkeypatch.setattr(sys, "stderr", errors)
    make_streams_resilient()
    sys.stdout.write("商户")
    assert buffer.getvalue() == "商户"


class Broken(io.StringIO):
    """A stream without a descriptor, that takes nothing."""

    def write(self, text: str) -> int:
        raise OSError


def test_what_no_stream_takes_is_let_go() -> None:
    """Where it cannot be led elsewhere either, nothing is raised and nothing is tried for ever."""
    assert ResilientStream(Broken(), Broken()).write("x") == 1


class Keyboard(io.StringIO):
    """A terminal on which somebody has typed."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("answer", ["y\n", "YES\n"])
def test_a_yes_lets_it_go_on(answer: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The question stands on standard error, where it spoils no result."""
    monkeypatch.setattr(sys, "stdin", Keyboard(answer))
    confirm("Spend?")
    assert capsys.readouterr() == ("", "Spend? [y/N] ")


@pytest.mark.parametrize("answer", ["n\n", "\n", ""])
def test_anything_else_is_a_no(answer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The end of the input too."""
    monkeypatch.setattr(sys, "stdin", Keyboard(answer))
    with pytest.raises(NotConfirmed, match=r"You said no. Nothing was changed"):
        confirm("Spend?")


@pytest.mark.parametrize("stream", [None, io.StringIO("y\n")])
def test_nobody_is_asked_without_a_terminal(stream: io.StringIO | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A yes in a pipe is none."""
    monkeypatch.setattr(sys, "stdin", stream)
    with pytest.raises(NotConfirmed, match=r"no terminal to ask: add --yes. Nothing was sent"):
        confirm("Spend?")


def test_ctrl_c_at_the_question_is_a_no(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """It says so on a line of its own, and passes on."""

    def interrupt() -> str:
        raise KeyboardInterrupt

    keyboard = Keyboard()
    monkeypatch.setattr(keyboard, "readline", interrupt)
    monkeypatch.setattr(sys, "stdin", keyboard)
    with pytest.raises(KeyboardInterrupt):
        confirm("Spend?")
    assert capsys.readouterr().err == "Spend? [y/N] \nNothing was changed.\n"
