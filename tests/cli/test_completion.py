"""What the shells are offered, by the scripts that they are given."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import wxtcb
from wxtcb.cli.completion import complete_body, rejoin_words

from .children import start

NAMES = [endpoint.name for endpoint in wxtcb.endpoints()]
COMPLETE = """
PATH="$PWD:$PATH"
eval "$(_WXTCB_COMPLETE=source_bash wxtcb)"
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
_wxtcb_completion wxtcb
printf '%s\\n' "${COMPREPLY[@]}"
complete -p wxtcb
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Make a folder with the command in it, some bodies, and a folder of them."""
    command = tmp_path / "wxtcb"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m wxtcb "$@"\n')
    command.chmod(0o700)
    (tmp_path / "bodies").mkdir()
    (tmp_path / "bodies/商户.json").touch()
    (tmp_path / "body.json").touch()
    return tmp_path


@pytest.mark.skipif(not shutil.which("bash"), reason="there is no bash")
@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["wxtcb", ""], ["plan", "provision", "call", "endpoints", "token", "sandbox", "ticket"]),
        (["wxtcb", "ticket", ""], ["serve"]),
        (["wxtcb", "call", ""], NAMES),
        (["wxtcb", "call", "cre"], ["create_env"]),
        (["wxtcb", "call", "create_env", "--y"], ["--yes"]),
        (["wxtcb", "call", "create_env", "@", "bod"], ["@bodies/", "@body.json"]),
        (["wxtcb", "provision", "bod"], [""]),
    ],
)
def test_bash_is_offered_names_options_and_files(folder: Path, words: list[str], offered: list[str]) -> None:
    """Its own script asks and takes the answer; where there is none, bash offers files."""
    root = str(Path(wxtcb.__file__).parents[1])
    command = ["bash", "--norc", "--noprofile", "-c", COMPLETE, "bash", *words]
    environ = {**os.environ, "PYTHONPATH": root}
    ended = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, check=True, timeout=30)
    assert ended.stderr == ""
    *given, rule = ended.stdout.splitlines()
    assert given == offered
    assert rule == "complete -o default -F _wxtcb_completion wxtcb"


@pytest.mark.parametrize(
    ("shell", "asks"), [("zsh", "compdef _wxtcb_completion wxtcb"), ("fish", "complete --command")]
)
def test_other_shells_have_scripts_too(shell: str, asks: str) -> None:
    """And are offered the same names."""
    script = start(env={"_WXTCB_COMPLETE": f"source_{shell}"})
    assert asks in script.communicate(timeout=10)[0]
    words = {"_TYPER_COMPLETE_ARGS": "wxtcb call cre", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    process = start(env={"_WXTCB_COMPLETE": f"complete_{shell}", **words})
    assert "create_env" in process.communicate(timeout=10)[0]


def test_files_are_offered_behind_an_at(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Folders end with a slash; what has no @ is JSON, for which there is nothing to offer."""
    monkeypatch.chdir(folder)
    assert list(complete_body("@")) == ["@bodies/", "@body.json", "@wxtcb"]
    assert list(complete_body("@bodies/")) == ["@bodies/商户.json"]
    assert list(complete_body(f"@{folder}/body")) == [f"@{folder}/body.json"]
    assert list(complete_body("bo")) == []


def test_words_without_an_at_stay_as_they_are() -> None:
    """And so does an environment in which nothing is completed."""
    environ = {"COMP_WORDS": "wxtcb\ncall\na@b", "COMP_CWORD": "2"}
    rejoin_words(environ)
    assert environ == {"COMP_WORDS": "wxtcb\ncall\na@b", "COMP_CWORD": "2"}
    rejoin_words(empty := {})
    assert empty == {}
