"""A person is asked, and only a yes is one."""

from __future__ import annotations

import io
import sys

import pytest

from wxtcb.cli.asking import NotConfirmed, confirm


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
