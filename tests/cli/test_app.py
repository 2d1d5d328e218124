"""The commands, their help, and what leaves the process."""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

import wxtcb
from wxtcb import cli as command_line
from wxtcb.api.environment import CREATE_ENV
from wxtcb.cli.endpoints import _endpoint_row, _print_endpoint_table, endpoint_groups

from .children import start
from .conftest import Cli

COMMANDS = ("plan", "provision", "call", "sandbox", "endpoints", "token")


@pytest.mark.parametrize(
    "words",
    [[], ["--help"], ["ticket", "-h"], ["ticket", "serve", "-h"], *([name, "-h"] for name in COMMANDS)],
)
@pytest.mark.parametrize("columns", ["80", "200"])
def test_help_fits_80_columns(cli: Cli, words: list[str], columns: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No line is longer, and nobody is told to give a credential as an argument."""
    monkeypatch.setenv("COLUMNS", columns)
    result = cli(*words)
    assert result.exit_code == (0 if words else 2)
    assert max(map(len, result.output.splitlines())) <= 80
    assert "--ticket" not in result.stdout


def test_many_options_stand_in_groups(cli: Cli) -> None:
    """And few in one list; an argument is called what the usage calls it."""
    many, few = cli("provision", "--help").stdout, cli("call", "--help").stdout
    assert "\nPace:\n  --concurrency N" in many
    assert "\nOptions:\n  --query NAME=VALUE" in few
    assert "\nPermission:\n  --yes " in many
    assert "\nPermission:\n" not in few
    assert "\n  JSON | @FILE | -  Its body" in few


def test_help_loads_nothing_that_a_command_stands_on() -> None:
    """So that it, and completion, come quickly."""
    code = "import sys, wxtcb.cli.app; print({*sys.modules} & {'rich', 'wxtcb.provision', 'wxtcb.sandbox'})"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert ended.stdout == "set()\n"


def test_the_version_is_told(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """That of the installed package; from a bare source tree there is none."""
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "1.2.3")
    assert cli("--version").stdout == "wxtcb 1.2.3\n"

    def missing(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    assert cli("--version").stdout == "wxtcb (not installed)\n"


def test_an_unknown_option_is_a_matter_of_usage(cli: Cli) -> None:
    """Exit 2, and the option is named."""
    result = cli("provision", "x.csv", "--namespace", "5")
    assert result.exit_code == 2
    assert "--namespace" in result.stderr


def test_no_error_steers_the_terminal(cli: Cli) -> None:
    """What comes from outside is written out."""
    result = cli("call", "describe_envs", "@no\x1b[31msuch")
    assert result.exit_code == 2
    assert "@no\\x1b[31msuch: it cannot be read" in result.stderr


def test_endpoints_are_listed_a_row_each(cli: Cli) -> None:
    """Group, name, path, official interface and repeat rule; wide enough for grep when piped."""
    lines = cli("endpoints").stdout.splitlines()
    assert lines[0].split() == ["group", "name", "path", "official", "repeat"]
    assert len(lines) == 1 + len(wxtcb.endpoints())
    assert lines[1].split() == ["environment", "create_env", "/componenttcb/createenv", "createTcbEnv", "once"]


def test_endpoints_are_json_on_request(cli: Cli) -> None:
    """All facts, by name."""
    rows = json.loads(cli("endpoints", "--json").stdout)
    assert [row["name"] for row in rows] == [endpoint.name for endpoint in wxtcb.endpoints()]
    assert rows[0] == {
        "group": "environment",
        "name": "create_env",
        "path": "/componenttcb/createenv",
        "action": None,
        "official": "createTcbEnv",
        "repeat": "once",
        "reply": "NewEnv",
        "credential": "component",
    }


@pytest.mark.parametrize(("width", "lines"), [(60, 4), (200, 1)])
def test_endpoints_fit_a_terminal(capsys: pytest.CaptureFixture[str], width: int, lines: int) -> None:
    """Where it is narrow, the path stands below the name, and the group above."""
    _print_endpoint_table(
        Console(width=width, force_terminal=True, highlight=False), [_endpoint_row("environment", CREATE_ENV)]
    )
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 1 + lines
    assert " ".join(printed[1:]).split().count("/componenttcb/createenv") == 1


def test_a_terminal_of_80_is_wide_enough_for_all_endpoints(capsys: pytest.CaptureFixture[str]) -> None:
    """No line of theirs is broken."""
    rows = [_endpoint_row(group, endpoint) for endpoint, group in endpoint_groups().items()]
    _print_endpoint_table(Console(width=80, force_terminal=True, color_system=None, highlight=False), rows)
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 80


def test_endpoints_stand_in_their_groups() -> None:
    """Each is there once, in the order of `wxtcb.endpoints()`, with the group that has its coroutine."""
    assert list(endpoint_groups()) == list(wxtcb.endpoints())
    assert all(hasattr(getattr(wxtcb.api, group), endpoint.name) for endpoint, group in endpoint_groups().items())


def test_a_pipe_that_closes_is_no_matter() -> None:
    """`wxtcb endpoints | head -0` leaves no traceback and its own exit code."""
    read, write = os.pipe()
    os.close(read)
    process = start("endpoints", stdout=write)
    os.close(write)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_streams_that_are_closed_are_no_matter(closed: str) -> None:
    """`wxtcb endpoints >&-` ends as if somebody had read it."""
    process = start("endpoints", under=("sh", "-c", f'exec "$@" {closed}', "sh"))
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")


def test_letters_the_terminal_lacks_are_written_out(tmp_path: Path) -> None:
    """A message with Chinese in it reaches an ASCII terminal."""
    process = start(
        "provision", tmp_path / "商户.csv", "--sandbox", env={"PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii"}
    )
    _, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "\\u5546\\u6237.csv: 1 problem" in err


@pytest.mark.usefixtures("measured")
def test_without_the_extra_it_says_what_to_install(tmp_path: Path) -> None:
    """One line and exit 2, whether typer or rich is missing."""
    for missing in ("typer", "rich"):
        code = f"import sys; sys.modules[{missing!r}] = None; from wxtcb.cli import main; main()"
        process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
        assert process.returncode == 2
        assert process.stderr == "wxtcb: the command line needs typer and rich: pip install 'wxtcb[cli]'\n"


def test_another_missing_module_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    """A broken installation is told as it is."""

    def missing(name: str) -> object:
        raise ModuleNotFoundError(name=name)

    monkeypatch.setattr("importlib.import_module", missing)
    with pytest.raises(ModuleNotFoundError):
        command_line.main()
