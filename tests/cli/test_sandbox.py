"""Command `wxtcb sandbox`."""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import wxtcb
from wxtcb.api import environment
from wxtcb.cli.runner import GracefulStop
from wxtcb.cli.sandbox import PushReporter, StateFile, serve
from wxtcb.sandbox import PushResult, Sandbox, World
from wxtcb.sandbox.push.schedule import PushSettings
from wxtcb.sandbox.state import WorldState

from .children import HANG_TIMEOUT, start
from .conftest import Cli


def read_exports(process: subprocess.Popen[str]) -> dict[str, str]:
    """Return the variables of the lines to paste, as a shell reads them."""
    assert process.stdout is not None
    lines = [shlex.split(process.stdout.readline()) for _ in range(6)]
    assert {line[0] for line in lines} == {"export"}
    return dict(line[1].split("=", 1) for line in lines)


@pytest.mark.usefixtures("measured")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_sandbox_serves_other_processes_until_a_signal(number: int, code: int) -> None:
    """Another process fetches a token with the printed variables."""
    process = start("sandbox", "--token-life", 100, "--ready-after", 0.01, "--seed", 7)
    variables = read_exports(process)
    assert variables["WXTCB_COMPONENT_APPID"] == World(seed=7).credentials.appid
    client = start("token", "--fetch", env=variables)
    assert client.communicate()[0] == "A token was fetched; it expires in 100 s.\n"
    process.send_signal(number)
    out, err = process.communicate()
    assert (process.returncode, out) == (code, "")
    assert len(err.splitlines()) == 1
    assert "--seed 7" in err


def test_each_run_has_other_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """A token store with data of an earlier run does not apply to the next one, unless the seed is given."""
    worlds: list[World] = []

    async def record_world(sandbox: Sandbox, _target: object, _state: object, _stop: GracefulStop) -> None:
        worlds.append(sandbox.world)

    monkeypatch.setattr("wxtcb.cli.sandbox._serve_until_stopped", record_world)
    for seed in (None, None, 7):
        serve(port=0, ready_after=0, token_ttl=7200, busy=0, faults=(), seed=seed, push_target=None, state_path=None)
    assert len({world.credentials.appid for world in worlds}) == 3
    assert worlds[2].seed == 7


def test_child_process_ends_with_the_test_run() -> None:
    """A sandbox that a test has started does not outlive a killed test run."""
    code = "from tests.cli.children import start; start('sandbox', stdout=None, stderr=None).wait()"
    root = Path(__file__).parents[2]
    test_run = subprocess.Popen([sys.executable, "-c", code], cwd=root, text=True, stdout=-1, stderr=-1)
    read_exports(test_run)
    test_run.kill()
    test_run.communicate(timeout=HANG_TIMEOUT)


@pytest.mark.usefixtures("measured")
def test_busy_option_answers_with_minus_one() -> None:
    """With --busy 1 every call fails."""
    process = start("sandbox", "--busy", 1)
    variables = read_exports(process)
    with pytest.raises(wxtcb.PlatformBusy):
        asyncio.run(_describe_envs(variables))
    process.send_signal(signal.SIGINT)
    process.communicate()


@pytest.mark.usefixtures("measured")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_state_survives_a_restart(tmp_path: Path, number: int) -> None:
    """With --state the next run has the same URL and credentials, the token and the environments, also after a kill."""
    path = tmp_path / "sandbox.json"
    process = start("sandbox", "--state", path, "--port", 0)
    variables = read_exports(process)
    env = asyncio.run(_create_env(variables))
    while env not in path.read_text():
        asyncio.run(_describe_envs(variables))
    process.send_signal(number)
    process.communicate(timeout=60)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [*tmp_path.iterdir()] == [path]
    process = start("sandbox", "--state", path)
    assert read_exports(process) == variables
    assert [each.env for each in asyncio.run(_describe_envs(variables)).info_list] == [env]
    process.send_signal(signal.SIGINT)
    assert f"--state {path} continues" in process.communicate(timeout=60)[1]


def test_seed_and_state_exclude_each_other(cli: Cli, tmp_path: Path) -> None:
    """A seed would repeat the random values of the earlier run."""
    result = cli("sandbox", "--seed", 1, "--state", tmp_path / "state")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("wxtcb: --seed cannot be combined with --state")


def make_link(path: Path) -> None:
    """Make a link to a valid state of another user."""
    target = path.with_name("target")
    target.write_bytes(WorldState.of(World(), 1).dump())
    target.chmod(0o600)
    path.symlink_to(target)


def make_readable(path: Path) -> None:
    """Write a valid state that other users can read."""
    path.write_bytes(WorldState.of(World(), 1).dump())
    path.chmod(0o644)


def make_invalid(path: Path) -> None:
    """Write something else."""
    path.write_text("{}")
    path.chmod(0o600)


@pytest.mark.parametrize(
    ("prepare", "reason"),
    [
        (make_link, "symbolic links"),
        (make_readable, "chmod 600"),
        (make_invalid, "not a state of the sandbox; delete the file"),
        (Path.mkdir, "Is a directory"),
        (os.mkfifo, "it must be your own file"),
        (lambda path: path.parent.rmdir(), "No such file or directory"),
    ],
)
def test_unusable_state_is_rejected(cli: Cli, tmp_path: Path, prepare: Callable[[Path], None], reason: str) -> None:
    """The exit code is 2, the message says what is wrong, and no variables are printed."""
    path = tmp_path / "directory" / "state"
    path.parent.mkdir()
    prepare(path)
    result = cli("sandbox", "--state", path)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"wxtcb: --state {path}: ")
    assert reason in " ".join(result.stderr.split())


def test_unchanged_state_is_not_written(tmp_path: Path) -> None:
    """The file is replaced only if something has changed."""
    sandbox, state_file = Sandbox(), StateFile(tmp_path / "state")
    state_file.write(sandbox)
    before = state_file.path.stat().st_ino
    state_file.write(sandbox)
    assert state_file.path.stat().st_ino == before
    sandbox.world.add("a")
    state_file.write(sandbox)
    assert b'"alias": "a"' in state_file.path.read_bytes()


def test_state_that_cannot_be_saved_is_reported_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A failure to save does not end the sandbox, and leaves no draft."""
    (tmp_path / "state").mkdir()
    state_file = StateFile(tmp_path / "state")
    for _ in range(2):
        state_file.write_or_report(Sandbox())
    assert " ".join(capsys.readouterr().err.split()).count("the state was not saved: Is a directory") == 1
    assert [*tmp_path.iterdir()] == [tmp_path / "state"]


async def _create_env(variables: dict[str, str]) -> str:
    async with _session(variables) as session:
        return (await environment.create_env(session, alias="tea")).env


async def _describe_envs(variables: dict[str, str]) -> environment.EnvList:
    async with _session(variables) as session:
        return await environment.describe_envs(session)


def _session(variables: dict[str, str]) -> wxtcb.Session:
    return wxtcb.Session(
        component_appid=variables["WXTCB_COMPONENT_APPID"],
        component_appsecret=variables["WXTCB_COMPONENT_APPSECRET"],
        ticket=variables["WXTCB_TICKET"],
        base_url=variables["WXTCB_BASE_URL"],
        retry=wxtcb.RetryPolicy(attempts=1),
    )


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--fault", "drp"], "--fault 'drp': .*known are busy, .*drop-after"),
        (["--push", "http://example.com/"], "--push: .*'http://example.com/'"),
        (["--push", "http://[::1"], r"--push: .*'http://\[::1'"),
        (["--push", ""], "--push: .*''"),
        (["--push", "http://127.0.0.1/", "--push-every", "inf"], "--push-every inf: .*finite"),
    ],
)
def test_invalid_option_is_rejected(cli: Cli, words: list[str], reason: str) -> None:
    """The exit code is 2, and no variables are printed."""
    result = cli("sandbox", *words)
    assert (result.exit_code, result.stdout) == (2, "")
    assert re.match(f"wxtcb: {reason}", result.stderr)


def test_missing_extra_for_pushes_is_reported(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """The exit code is 2, and the message names what to install."""

    def fail() -> None:
        raise ImportError("pushing needs cryptography: pip install 'wxtcb[ticket]'")

    monkeypatch.setattr("wxtcb.sandbox.server.load_encryptor_factory", fail)
    result = cli("sandbox", "--push", "http://127.0.0.1:8080/wechat/push")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == "wxtcb: --push: pushing needs cryptography: pip install 'wxtcb[ticket]'\n"


def test_repeated_push_failure_is_reported_once(capsys: pytest.CaptureFixture[str]) -> None:
    """Each accepted push is reported."""
    sandbox = Sandbox()
    sandbox.pushes.configure(PushSettings(every=600))
    reporter = PushReporter(sandbox, "http://127.0.0.1:8080/")
    push = sandbox.pushes.make_notification("authorized", {})
    no_reply, rejected = PushResult(error="no answer"), PushResult(404, b"no\x1b")
    accepted = PushResult(200, b"success")
    results = [no_reply, no_reply, *[rejected] * 9, no_reply, accepted, accepted, *[no_reply] * 5]
    for result in results:
        sandbox.pushes.record_result(result)
        reporter(push, result)
    lines = capsys.readouterr().err.splitlines()
    advice = "start the receiver with the variables printed by this sandbox."
    assert lines[:-1] == [
        f"No response from http://127.0.0.1:8080/ yet: {no_reply}. Retrying every second.",
        f"authorized was not accepted: {rejected}. Retrying every second: {advice}",
        f"No response from http://127.0.0.1:8080/ yet: {no_reply}. Retrying every second.",
        "authorized was pushed and accepted.",
        "authorized was pushed and accepted.",
        f"authorized was not accepted: {no_reply}.",
    ]
    assert lines[-1].startswith(f"authorized was not accepted: {no_reply}. Pushing stops")
    assert "`wxtcb call api_start_push_ticket`" in lines[-1]


def test_port_in_use_is_rejected(cli: Cli) -> None:
    """The exit code is 2, and the message has the port."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        result = cli("sandbox", "--port", port)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"wxtcb: --port {port}: ")
