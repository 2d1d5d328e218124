"""The commands: their help pages, and what they do with closed, full or ASCII streams."""

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
from wxtcb.cli import app as app_module
from wxtcb.cli.endpoints import endpoint_groups, endpoint_row, print_endpoint_table

from .children import HANG_TIMEOUT, start
from .conftest import Cli, width_of

COMMANDS = (
    "plan",
    "provision",
    "audit",
    "submit",
    "status",
    "decide",
    "worker",
    "init",
    "call",
    "sandbox",
    "endpoints",
    "token",
)


@pytest.mark.parametrize(
    "words",
    [[], ["--help"], ["ticket", "-h"], ["ticket", "serve", "-h"], *([name, "-h"] for name in COMMANDS)],
)
@pytest.mark.parametrize("columns", ["80", "200"])
def test_help_fits_80_columns(cli: Cli, words: list[str], columns: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No line of a help page is wider, and no option takes a credential."""
    monkeypatch.setenv("COLUMNS", columns)
    result = cli(*words)
    assert result.exit_code == (0 if words else 2)
    assert max(map(width_of, result.output.splitlines())) <= 80
    assert "--ticket" not in result.stdout


PAGES = "https://developers.weixin.qq.com/doc/oplatform/"


def test_help_groups_many_options(cli: Cli) -> None:
    """Many options are listed under several headings, few under one."""
    many, few = cli("provision", "--help").stdout, cli("token", "--help").stdout
    assert "\nExecution:\n  --concurrency N" in many
    assert "\nConfirmation:\n  --yes " in many
    assert "\nOptions:\n  --fetch" in few
    assert "\nConfirmation:\n" not in few
    assert "\n  JSON | @FILE | -  " in cli("call", "--help").stdout


def test_help_does_not_import_what_commands_need() -> None:
    """Importing the commands loads neither rich nor provision nor sandbox, so that help and completion are fast."""
    code = "import sys, wxtcb.cli.app; print({*sys.modules} & {'rich', 'wxtcb.provision', 'wxtcb.sandbox'})"
    process = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=HANG_TIMEOUT
    )
    assert process.stdout == "set()\n"


def test_version_is_that_of_the_installed_package(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """--version prints the version of the package metadata, or that there is none."""
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "1.2.3")
    assert cli("--version").stdout == "wxtcb 1.2.3\n"

    def raise_not_found(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", raise_not_found)
    assert cli("--version").stdout == "wxtcb (not installed)\n"


def test_unknown_option_exits_with_2(cli: Cli) -> None:
    """The message names the option."""
    result = cli("provision", "x.csv", "--namespace", "5")
    assert result.exit_code == 2
    assert "--namespace" in result.stderr


def test_error_message_contains_no_escape_codes(cli: Cli) -> None:
    """Control characters of an argument are escaped."""
    result = cli("call", "describe_envs", "@no\x1b[31msuch")
    assert result.exit_code == 2
    assert "@no\\x1b[31msuch" in result.stderr


def test_endpoints_prints_one_line_for_each(cli: Cli) -> None:
    """In a pipe, each line has group, name, path, official name and repeat rule."""
    lines = cli("endpoints").stdout.splitlines()
    assert lines[0].split() == ["group", "name", "path", "official", "repeat"]
    assert len(lines) == 1 + len(wxtcb.endpoints())
    assert lines[1].split() == ["environment", "create_env", "/componenttcb/createenv", "createTcbEnv", "once"]


def test_endpoints_prints_json(cli: Cli) -> None:
    """--json prints all properties of each endpoint."""
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
        "description": "Create a pay-as-you-go environment; every success creates, and bills, another one, even with "
        "the same alias.",
        "page": f"{PAGES}openApi/OpenApiDoc/cloudbase-batch/env-mgnt/createTcbEnv.html",
    }


def test_every_endpoint_has_a_description_and_an_official_page() -> None:
    """Pages of the older family are in another folder of the documentation."""
    rows = {row["name"]: row for row in (endpoint_row(group, each) for each, group in endpoint_groups().items())}
    assert [row["name"] for row in rows.values() if not row["description"] or not row["page"]] == []
    assert rows["get_cs_list"]["page"] == f"{PAGES}Third-party_Platforms/2.0/api/cloudbase/batch/getcslist.html"


def test_endpoints_searches_names_paths_and_descriptions(cli: Cli) -> None:
    """The matching calls are printed with description, path and official page."""
    output = cli("endpoints", "BATCHSHARE").stdout
    assert output.startswith("batch_share_env\n  Bind environments to mini programs;")
    assert "\n  /componenttcb/batchshareenv\n" in output
    assert "\n  shareCloudbaseEnv: https://developers.weixin.qq.com/" in output
    assert "  /componenttcb/dbindex (action create)\n" in cli("endpoints", "create indexes").stdout
    assert [row["name"] for row in json.loads(cli("endpoints", "getTcbEnvList", "--json").stdout)] == ["describe_envs"]


def test_search_without_a_match_is_rejected(cli: Cli) -> None:
    """The exit code is 2."""
    result = cli("endpoints", "xyzzy")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "no call contains 'xyzzy'" in result.stderr


def test_endpoint_without_a_docstring_has_no_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python removes docstrings with -OO."""
    monkeypatch.setattr("wxtcb.api.environment.create_env.__doc__", None)
    row = endpoint_row("environment", CREATE_ENV)
    assert (row["description"], row["page"]) == ("", None)


@pytest.mark.parametrize(("width", "lines"), [(60, 4), (200, 1)])
def test_endpoint_table_adapts_to_terminal_width(capsys: pytest.CaptureFixture[str], width: int, lines: int) -> None:
    """On a narrow terminal the path is printed below the name, and the group above."""
    print_endpoint_table(
        Console(width=width, force_terminal=True, highlight=False), [endpoint_row("environment", CREATE_ENV)]
    )
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 1 + lines
    assert " ".join(printed[1:]).split().count("/componenttcb/createenv") == 1


def test_endpoint_table_fits_80_columns(capsys: pytest.CaptureFixture[str]) -> None:
    """No endpoint has a line that is wider than a terminal of 80 columns."""
    rows = [endpoint_row(group, endpoint) for endpoint, group in endpoint_groups().items()]
    print_endpoint_table(Console(width=80, force_terminal=True, color_system=None, highlight=False), rows)
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 80


def test_endpoint_groups_contain_the_coroutines() -> None:
    """Each endpoint has the group that contains its coroutine, in the order of `wxtcb.endpoints()`."""
    assert list(endpoint_groups()) == list(wxtcb.endpoints())
    assert all(hasattr(getattr(wxtcb.api, group), endpoint.name) for endpoint, group in endpoint_groups().items())


@pytest.mark.usefixtures("measured")
@pytest.mark.parametrize("words", [["endpoints"], ["endpoints", "--json"], ["--version"]])
def test_full_disk_exits_with_1(words: list[str]) -> None:
    """A command whose output cannot be written fails with one plain line."""
    with Path("/dev/full").open("w") as full:
        process = start(*words, stdout=full)
    _, err = process.communicate()
    assert (process.returncode, len(err.splitlines())) == (1, 1)
    assert err.startswith("wxtcb: cannot write to standard output (No space left")


def test_other_os_error_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error that is not one of the output is not reported as such."""

    def fail(**_: object) -> None:
        raise FileNotFoundError(2, "No such file or directory", "lost")

    monkeypatch.setattr("wxtcb.cli.app.app", fail)
    with pytest.raises(FileNotFoundError):
        app_module.main()


def test_closed_pipe_exits_without_message() -> None:
    """`wxtcb endpoints | head -0` prints no traceback."""
    read, write = os.pipe()
    os.close(read)
    process = start("endpoints", stdout=write)
    os.close(write)
    _, err = process.communicate()
    assert (process.returncode, err) == (1, "")


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_streams_may_be_closed_from_the_start(closed: str) -> None:
    """`wxtcb endpoints >&-` succeeds, and its output is discarded."""
    process = start("endpoints", wrapper=("sh", "-c", f'exec "$@" {closed}', "sh"))
    _, err = process.communicate()
    assert (process.returncode, err) == (0, "")


def test_ascii_terminal_gets_escaped_characters(tmp_path: Path) -> None:
    """Chinese characters of a message are escaped if the encoding of the stream lacks them."""
    environment = {"PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii"}
    process = start("provision", tmp_path / "商户.csv", "--sandbox", env=environment)
    _, err = process.communicate()
    assert process.returncode == 2
    assert "\\u5546\\u6237.csv: 1 problem" in err


@pytest.mark.usefixtures("measured")
@pytest.mark.parametrize("missing", ["typer", "rich"])
def test_missing_extra_is_reported(missing: str) -> None:
    """Without typer or rich, one line names what to install, and the exit code is 2."""
    code = f"import sys; sys.modules[{missing!r}] = None; from wxtcb.cli import main; main()"
    process = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=HANG_TIMEOUT
    )
    assert process.returncode == 2
    assert process.stderr == "wxtcb: the command line needs typer and rich: pip install 'wxtcb[cli]'\n"


def test_other_missing_module_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    """A broken installation is not reported as a missing extra."""

    def raise_not_found(name: str) -> object:
        raise ModuleNotFoundError(name=name)

    monkeypatch.setattr("importlib.import_module", raise_not_found)
    with pytest.raises(ModuleNotFoundError):
        command_line.main()
