"""Terminal output and input: tables, wrapped messages, streams that fail, and confirmation questions."""

from __future__ import annotations

import io
import json
import os
import sys
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
    print_json,
    print_table,
)
from wxtcb.cli.runner import prepare_standard_streams

from .conftest import width_of

ROWS = [
    ["tenant", "alias", "remark"],
    ["商户１", "shop-a", "一家在北京的书店专卖旧书"],
    ["a", "コンニチハ", "a shop in Hangzhou"],
    ["한국어", "c", ""],
]


def test_unprintable_characters_are_escaped() -> None:
    """Chinese characters are printable; escape codes and line breaks are not."""
    assert escape_unprintable("商户 a\x1b[31m\n") == "商户 a\\x1b[31m\\n"


def test_columns_are_aligned_with_wide_characters() -> None:
    """A Chinese, Japanese or Korean character counts as two cells, in a pipe and on a terminal."""
    lines = list(align_columns(ROWS))
    starts = {width_of(line[: line.index(row[2])]) for line, row in zip(lines, ROWS, strict=True) if row[2]}
    assert starts == {20}
    assert lines == list(align_columns(ROWS, 80))
    assert lines[-1] == "한국어  c"


@pytest.mark.parametrize("width", [28, 33, 40])
def test_wide_table_is_wrapped_without_loss(width: int) -> None:
    """No line is wider than the terminal, and no character is left out."""
    lines = list(align_columns(ROWS, width))
    assert max(map(width_of, lines)) <= width
    assert len(lines) > len(ROWS)
    assert sorted("".join("".join(map("".join, ROWS)).split())) == sorted("".join("".join(lines).split()))


def test_cells_are_wrapped_between_words() -> None:
    """A word is broken only if it is wider than its column."""
    assert list(align_columns([["a", "a shop in Hangzhou"]], 14)) == ["a  a shop in", "   Hangzhou"]


def test_widest_columns_are_narrowed() -> None:
    """A narrow column keeps its width."""
    line = next(align_columns([["name", "x" * 50, "y" * 60]], 80))
    assert line.startswith(f"name  {'x' * 36}  {'y' * 36}")


def test_columns_have_a_minimum_width() -> None:
    """A terminal that is too narrow for any table still gets all of it."""
    assert list(align_columns([["abcdefghij", "klm"]], 2)) == ["abcdefgh  klm", "ij"]


def test_pipe_gets_one_line_for_each_row() -> None:
    """Nothing is wrapped or cut, and markup is text."""
    console = Console(file=io.StringIO(), width=1000, markup=False)
    print_table(console, ["name", "remark"], [["a", "长" * 2000], ["b\n", "[bold]x[/bold]"]])
    assert console.file.getvalue().splitlines() == ["name  remark", f"a     {'长' * 2000}", "b\\n   [bold]x[/bold]"]


def test_terminal_gets_wrapped_cells() -> None:
    """On a terminal the table has its width, and a bold header."""
    console = Console(file=io.StringIO(), width=30, force_terminal=True, markup=False, highlight=False)
    print_table(console, ["name", "remark"], [["a", "长" * 20]])
    header, first, second = console.file.getvalue().splitlines()
    assert header == "\x1b[1mname  remark\x1b[0m"
    assert [first, second] == [f"a     {'长' * 12}", f"      {'长' * 8}"]


@pytest.mark.parametrize(("write", "name"), [(echo_err, "stderr"), (echo_out, "stdout")])
@pytest.mark.parametrize(
    ("is_terminal", "printed"),
    [
        (True, "no more than twenty\ncells are in this\n  one:\n  http://127.0.0.1:8080/wechat/push\n"),
        (False, "no more than twenty\ncells are in this one: http://127.0.0.1:8080/wechat/push\n"),
    ],
)
def test_message_is_wrapped_on_a_narrow_terminal(
    monkeypatch: pytest.MonkeyPatch, write: Callable[[str], None], name: str, *, is_terminal: bool, printed: str
) -> None:
    """Continuation lines are indented, and long words stay whole; a pipe gets the message unchanged."""
    monkeypatch.setenv("COLUMNS", "20")
    monkeypatch.setenv("TERM", "xterm")
    stream = io.StringIO()
    monkeypatch.setattr(stream, "isatty", lambda: is_terminal)
    monkeypatch.setattr(sys, name, stream)
    write("no more than twenty\ncells are in this one: http://127.0.0.1:8080/wechat/push")
    assert stream.getvalue() == printed


@pytest.mark.parametrize(("is_terminal", "printed"), [(True, "\nDone.\n"), (False, "Done.\n")])
def test_message_after_ctrl_c_starts_on_a_new_line(
    monkeypatch: pytest.MonkeyPatch, *, is_terminal: bool, printed: str
) -> None:
    """A terminal shows ^C at the cursor; a pipe does not."""
    stream = io.StringIO()
    monkeypatch.setattr(stream, "isatty", lambda: is_terminal)
    monkeypatch.setattr(sys, "stderr", stream)
    echo_err_newline("Done.")
    assert stream.getvalue() == printed


def test_write_to_closed_pipe_is_ignored() -> None:
    """Neither a write nor a flush raises, and later output is discarded."""
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as stream:
        resilient = ResilientStream(stream)
        text = "x" * (1 << 20)
        assert resilient.write(text) == len(text)
        resilient.flush()
        assert resilient.write("more") == 4
        assert resilient.fileno() == stream.fileno()


def test_flush_to_closed_pipe_is_ignored() -> None:
    """Output that was buffered before the reader closed the pipe is discarded."""
    read, write = os.pipe()
    with os.fdopen(write, "w") as stream:
        resilient = ResilientStream(stream)
        resilient.write("x")
        os.close(read)
        resilient.flush()


class BrokenStream(io.StringIO):
    """Stream without a descriptor, whose writes fail."""

    def write(self, text: str) -> int:
        raise OSError


def test_write_is_ignored_if_the_fallback_fails() -> None:
    """A stream that cannot be redirected raises nothing, and does not retry indefinitely."""
    assert ResilientStream(BrokenStream(), BrokenStream()).write("x") == 1


def test_standard_streams_of_other_types_are_unchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program may replace the standard streams by buffers."""
    buffer = io.StringIO()
    monkeypatch.setattr(sys, "stdout", buffer)
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    prepare_standard_streams()
    sys.stdout.write("商户")
    assert buffer.getvalue() == "商户"


class Keyboard(io.StringIO):
    """Standard input of a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("answer", ["y\n", "YES\n"])
def test_yes_confirms(answer: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The question goes to standard error, so that standard output contains results only."""
    monkeypatch.setattr(sys, "stdin", Keyboard(answer))
    confirm("Spend?")
    assert capsys.readouterr() == ("", "Spend? [y/N] ")


@pytest.mark.parametrize("answer", ["n\n", "\n", ""])
def test_any_other_answer_cancels(answer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """So does the end of the input."""
    monkeypatch.setattr(sys, "stdin", Keyboard(answer))
    with pytest.raises(NotConfirmed, match="Nothing was changed"):
        confirm("Spend?")


@pytest.mark.parametrize("stream", [None, io.StringIO("y\n")])
def test_confirmation_requires_a_terminal(stream: io.StringIO | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A "y" from a pipe does not confirm; the message names --yes."""
    monkeypatch.setattr(sys, "stdin", stream)
    with pytest.raises(NotConfirmed, match="--yes"):
        confirm("Spend?")


def test_ctrl_c_at_the_question_cancels(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A message follows on a line of its own, and KeyboardInterrupt is raised."""

    def interrupt() -> str:
        raise KeyboardInterrupt

    keyboard = Keyboard()
    monkeypatch.setattr(keyboard, "readline", interrupt)
    monkeypatch.setattr(sys, "stdin", keyboard)
    with pytest.raises(KeyboardInterrupt):
        confirm("Spend?")
    assert capsys.readouterr().err == "Spend? [y/N] \nNothing was changed.\n"


class Screen(io.StringIO):
    """Standard output that is a terminal."""

    def isatty(self) -> bool:
        return True


def test_json_on_a_terminal_contains_no_control_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    """C1 and bidirectional characters are escaped, and the output is the same JSON; Chinese stays readable."""
    value = {"errmsg": "商户 \x9b31m \u202e \x1b[2J", "rows": [1, 2]}
    screen = Screen()
    monkeypatch.setattr(sys, "stdout", screen)
    print_json(value)
    text = screen.getvalue()
    assert all(line.isprintable() for line in text.split("\n"))
    assert "商户" in text
    assert json.loads(text) == value


def test_json_in_a_pipe_is_unchanged(capsys: pytest.CaptureFixture[str]) -> None:
    """Another program reads it, and needs no escapes."""
    print_json({"errmsg": "\u202e"})
    assert "\u202e" in capsys.readouterr().out
