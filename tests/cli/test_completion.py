"""Shell completion of calls, options and files."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

import wxtcb
from wxtcb.cli.app import app
from wxtcb.cli.options import complete_body_file, complete_endpoint_name, join_at_sign_words

from .children import HANG_TIMEOUT

NAMES = [endpoint.name for endpoint in wxtcb.endpoints()]
JOURNAL_COMMANDS = ["submit", "status", "decide", "worker", "init"]
COMPLETE = """
PATH="$PWD:$PATH"
eval "$(_WXTCB_COMPLETE=source_bash wxtcb)"
while read -r -a COMP_WORDS; do
    COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
    COMP_WORDS[COMP_CWORD]=${COMP_WORDS[COMP_CWORD]%_}
    _wxtcb_completion wxtcb
    echo "${COMPREPLY[@]}"
done
complete -p wxtcb
"""
# The words of a command line as bash splits them, with Tab pressed at "_", and the expected completions.
COMPLETIONS = {
    "wxtcb _": ["plan", "provision", "audit", *JOURNAL_COMMANDS, "call", "endpoints", "token", "sandbox", "ticket"],
    "wxtcb status --w_": ["--watch"],
    "wxtcb status shop_": [],
    "wxtcb ticket _": ["serve"],
    "wxtcb call _": NAMES,
    "wxtcb call cre_": [name for name in NAMES if name.startswith("cre")],
    "wxtcb call create_env --y_": ["--yes"],
    "wxtcb call create_env @ bod_": ["@bodies/", "@body.json"],
    "wxtcb provision bod_": [],
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder that contains the command, a body, and a folder of bodies."""
    command = tmp_path / "wxtcb"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m wxtcb "$@"\n')
    command.chmod(0o700)
    (tmp_path / "bodies").mkdir()
    (tmp_path / "bodies/商户.json").touch()
    (tmp_path / "body.json").touch()
    return tmp_path


@pytest.mark.skipif(not shutil.which("bash"), reason="bash is not installed")
def test_bash_completes_names_options_and_files(folder: Path) -> None:
    """The script for bash prints the completions, and lets bash complete other files itself."""
    root = str(Path(wxtcb.__file__).parents[1])
    command = ["bash", "--norc", "--noprofile", "-c", COMPLETE]
    options = {"cwd": folder, "env": {**os.environ, "PYTHONPATH": root}, "input": "\n".join(COMPLETIONS) + "\n"}
    process = subprocess.run(command, **options, capture_output=True, text=True, check=True, timeout=HANG_TIMEOUT)
    assert process.stderr == ""
    *completions, rule = process.stdout.splitlines()
    assert dict(zip(COMPLETIONS, map(str.split, completions), strict=True)) == COMPLETIONS
    assert rule == "complete -o default -F _wxtcb_completion wxtcb"


@pytest.mark.parametrize(
    ("shell", "registration"), [("zsh", "compdef _wxtcb_completion wxtcb"), ("fish", "complete --command")]
)
def test_other_shells_complete_names(shell: str, registration: str) -> None:
    """Zsh and fish have a script, and get the same names."""
    words = {"_TYPER_COMPLETE_ARGS": "wxtcb call cre", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    source, completions = (
        CliRunner().invoke(app, prog_name="wxtcb", env={"_WXTCB_COMPLETE": f"{action}_{shell}", **words}).stdout
        for action in ("source", "complete")
    )
    assert registration in source
    assert "create_env" in completions


def test_files_are_completed_after_an_at_sign(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Folders end with a slash; a JSON argument has no completions."""
    monkeypatch.chdir(folder)
    assert list(complete_body_file("@")) == ["@bodies/", "@body.json", "@wxtcb"]
    assert list(complete_body_file("@bodies/")) == ["@bodies/商户.json"]
    assert list(complete_body_file(f"@{folder}/body")) == [f"@{folder}/body.json"]
    assert list(complete_body_file("bo")) == []


def test_names_are_completed_from_their_start() -> None:
    """An empty word is completed to all names."""
    assert list(complete_endpoint_name("create_e")) == ["create_env"]
    assert list(complete_endpoint_name("")) == NAMES


def test_at_sign_is_joined_with_the_next_word() -> None:
    """Bash splits words at "@"."""
    environ = {"COMP_WORDS": "wxtcb\ncall\ncreate_env\n@\nbod", "COMP_CWORD": "4"}
    join_at_sign_words(environ)
    assert environ == {"COMP_WORDS": "wxtcb\ncall\ncreate_env\n@bod", "COMP_CWORD": "3"}


@pytest.mark.parametrize("environ", [{}, {"COMP_WORDS": "wxtcb\ncall\na@b", "COMP_CWORD": "2"}])
def test_other_words_are_unchanged(environ: dict[str, str]) -> None:
    """So is an environment without words to complete."""
    before = dict(environ)
    join_at_sign_words(environ)
    assert environ == before
