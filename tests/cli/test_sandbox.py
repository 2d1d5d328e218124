"""`wxtcb sandbox`: the platform for other programs."""

from __future__ import annotations

import asyncio
import shlex
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import wxtcb
from wxtcb.api import environment
from wxtcb.cli.sandbox import PushReporter, serve
from wxtcb.sandbox import PushResult, Sandbox, World
from wxtcb.sandbox.push.schedule import PushSettings

from .children import start
from .conftest import Cli

STOPPED = (
    "It was the last of too many; nothing more is pushed until `wxtcb call api_start_push_ticket` starts it again."
)

HINT = "is invalid: it must be an http URL on this machine, such as http://127.0.0.1:8080/wechat/push"


def exports(process: subprocess.Popen[str]) -> dict[str, str]:
    """Read the lines to paste as a shell would."""
    assert process.stdout is not None
    lines = [shlex.split(process.stdout.readline()) for _ in range(6)]
    assert {line[0] for line in lines} == {"export"}
    return dict(line[1].split("=", 1) for line in lines)


@pytest.mark.usefixtures("measured")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_it_serves_what_it_prints_until_a_signal(number: int, code: int) -> None:
    """The lines can be pasted; another process provisions with them; then it ends cleanly."""
    process = start("sandbox", "--token-life", 100, "--ready-after", 0.01, "--seed", 7)
    given = exports(process)
    assert given["WXTCB_COMPONENT_APPID"] == World(seed=7).credentials.appid
    client = start("token", "--fetch", env=given)
    assert client.communicate(timeout=60)[0] == "A token was fetched; it lives 100 s.\n"
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (code, "")
    assert err == (
        "The sandbox is up; its credentials are made up anew each time (--seed 7 makes these up again). Ctrl-C ends "
        "it.\n"
    )


def test_each_run_is_another_platform(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a token store keeps of an earlier run is not taken for this one's."""
    worlds: list[World] = []

    async def note(box: Sandbox, aim: object) -> int:
        worlds.append(box.world)
        return 0

    monkeypatch.setattr("wxtcb.cli.sandbox._serve_until_signal", note)
    for seed in (None, None, 7):
        serve(port=0, ready_after=0, token_ttl=7200, busy=0, seed=seed, push_target=None)
    assert len({world.credentials.appid for world in worlds}) == 3
    assert worlds[2].seed == 7


def test_it_does_not_outlive_the_tests() -> None:
    """A sandbox that a test has started ends when the test run is killed."""
    code = "from tests.cli.children import start; start('sandbox', stdout=None, stderr=None).wait()"
    root = Path(__file__).parents[2]
    tests = subprocess.Popen([sys.executable, "-c", code], cwd=root, text=True, stdout=-1, stderr=-1)
    exports(tests)
    tests.kill()
    tests.communicate(timeout=60)


@pytest.mark.usefixtures("measured")
def test_busy_answers_minus_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """With --busy 1 every call meets it."""
    process = start("sandbox", "--busy", 1)
    given = exports(process)
    with pytest.raises(wxtcb.PlatformBusy):
        asyncio.run(_look(given))
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)


async def _look(given: dict[str, str]) -> None:
    async with wxtcb.Session(
        component_appid=given["WXTCB_COMPONENT_APPID"],
        component_appsecret=given["WXTCB_COMPONENT_APPSECRET"],
        ticket=given["WXTCB_TICKET"],
        base_url=given["WXTCB_BASE_URL"],
        retry=wxtcb.RetryPolicy(attempts=1),
    ) as session:
        await environment.describe_envs(session)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--push", "http://example.com/"], f"--push: push URL 'http://example.com/' {HINT}"),
        (["--push", "http://[::1"], f"--push: push URL 'http://[::1' {HINT}"),
        (["--push", ""], f"--push: push URL '' {HINT}"),
        (["--push", "http://127.0.0.1/", "--push-every", "inf"], "--push-every inf: it is a number of seconds"),
    ],
)
def test_a_place_to_push_to_is_judged(cli: Cli, words: list[str], reason: str) -> None:
    """Exit 2 with the reason and an address that would do, before anything is printed to paste."""
    result = cli("sandbox", *words)
    assert (result.exit_code, result.stdout, result.stderr) == (2, "", f"wxtcb: {reason}\n")


def test_pushing_needs_its_extra(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """And says so with exit 2."""

    def missing() -> None:
        raise ImportError("pushing needs cryptography: pip install 'wxtcb[ticket]'")

    monkeypatch.setattr("wxtcb.sandbox.server.load_encryptor_factory", missing)
    result = cli("sandbox", "--push", "http://127.0.0.1:8080/wechat/push")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == "wxtcb: --push: pushing needs cryptography: pip install 'wxtcb[ticket]'\n"


def test_what_comes_of_pushes_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    """What fails as it did before is told once; what is accepted is told every time."""
    box = Sandbox()
    box.pushes.configure(PushSettings(every=600))
    tell, push = PushReporter(box, "http://127.0.0.1:8080/"), box.pushes.make_notification("authorized", {})
    nobody, wrong, right = PushResult(error="no answer"), PushResult(404, b"no\x1b"), PushResult(200, b"success")
    for receipt in (nobody, nobody, wrong, wrong, right, right, nobody, nobody, nobody, nobody, nobody):
        box.pushes.record_result(receipt)
        tell(push, receipt)
    assert capsys.readouterr().err.splitlines() == [
        "Nobody has answered at http://127.0.0.1:8080/ yet: no answer. It is tried again every second.",
        "authorized was not accepted: HTTP 404 'no\\x1b'.",
        "authorized was pushed, and accepted.",
        "authorized was pushed, and accepted.",
        "authorized was not accepted: no answer.",
        f"authorized was not accepted: no answer. {STOPPED}",
    ]


def test_a_port_that_is_taken_is_told(cli: Cli) -> None:
    """With its number, and exit 2."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = cli("sandbox", "--port", port)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"wxtcb: --port {port}: ")
