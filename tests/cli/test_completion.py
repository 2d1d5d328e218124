"""What the shells are offered, by the scripts that they are given."""

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

NAMES = [endpoint.name for endpoint in wxtcb.endpoints()]
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
# What is typed, its words parted as bash parts them and Tab pressed at the _, and what is offered.
OFFERED = {
    "wxtcb _": ["plan", "provision", "audit", "call", "endpoints", "token", "sandbox", "ticket"],
    "wxtcb ticket _": ["serve"],
    "wxtcb call _": NAMES,
    "wxtcb call cre_": [name for name in NAMES if name.startswith("cre")],
    "wxtcb call create_env --y_": ["--yes"],
    "wxtcb call create_env @ bod_": ["@bodies/", "@body.json"],
    "wxtcb provision bod_": [],
}


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
def test_bash_is_offered_names_options_and_files(folder: Path) -> None:
    """Its own script asks and takes the answer; where there is none, bash offers files."""
    root = str(Path(wxtcb.__file__).parents[1])
    command = ["bash", "--norc", "--noprofile", "-c", COMPLETE]
    options = {"cwd": folder, "env": {**os.environ, "PYTHONPATH": root}, "input": "\n".join(OFFERED) + "\n"}
    ended = subprocess.run(command, **options, capture_output=True, text=True, check=True, timeout=300)
    assert ended.stderr == ""
    *given, rule = ended.stdout.splitlines()
    assert dict(zip(OFFERED, map(str.split, given), strict=True)) == OFFERED
    assert rule == "complete -o default -F _wxtcb_completion wxtcb"


@pytest.mark.parametrize(
    ("shell", "asks"), [("zsh", "compdef _wxtcb_completion wxtcb"), ("fish", "complete --command")]
)
def test_other_shells_have_scripts_too(shell: str, asks: str) -> None:
    """And are offered the same names."""
    words = {"_TYPER_COMPLETE_ARGS": "wxtcb call cre", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    told = [
        CliRunner().invoke(app, prog_name="wxtcb", env={"_WXTCB_COMPLETE": f"{what}_{shell}", **words}).stdout
        for what in ("source", "complete")
    ]
    assert asks in told[0]
    assert "create_env" in told[1]


def test_files_are_offered_behind_an_at(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Folders end with a slash; what has no @ is JSON, for which there is nothing to offer."""
    monkeypatch.chdir(folder)
    assert list(complete_body_file("@")) == ["@bodies/", "@body.json", "@wxtcb"]
    assert list(complete_body_file("@bodies/")) == ["@bodies/商户.json"]
    assert list(complete_body_file(f"@{folder}/body")) == [f"@{folder}/body.json"]
    assert list(complete_body_file("bo")) == []


def test_names_are_offered_by_their_beginning() -> None:
    """All of them where nothing was typed yet."""
    assert list(complete_endpoint_name("create_e")) == ["create_env"]
    assert list(complete_endpoint_name("")) == NAMES


def test_an_at_and_what_stands_behind_it_are_one_word() -> None:
    """Bash counts them as two."""
    environ = {"COMP_WORDS": "wxtcb\ncall\ncreate_env\n@\nbod", "COMP_CWORD": "4"}
    join_at_sign_words(environ)
    assert environ == {"COMP_WORDS": "wxtcb\ncall\ncreate_env\n@bod", "COMP_CWORD": "3"}


def test_words_without_an_at_stay_as_they_are() -> None:
    """And so does an environment in which nothing is completed."""
    environ = {"COMP_WORDS": "wxtcb\ncall\na@b", "COMP_CWORD": "2"}
    join_at_sign_words(environ)
    assert environ == {"COMP_WORDS": "wxtcb\ncall\na@b", "COMP_CWORD": "2"}
    join_at_sign_words(empty := {})
    assert empty == {}
