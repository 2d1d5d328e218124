"""`wxtcb ticket serve`: tickets find their way from a platform into a store."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from aiohttp.test_utils import make_mocked_request
from yarl import URL

from wxtcb.cli.ticket import (
    ListenAddress,
    NotFoundHandler,
    _listen,
    _log_event,
    _log_notification,
    read_receiver_settings,
)
from wxtcb.events import PushMalformed, PushRefused, TicketReceived, TicketWriteFailed, TokenStoreWriteFailed
from wxtcb.tokens.encrypted import EncryptedStore
from wxtcb.tokens.shared_state import SharedState
from wxtcb.tokens.stores import SqliteStore
from wxtcb.tokens.ticket import Notification

from .children import start
from .conftest import Cli
from .test_sandbox import exports

SEAL = "c2VhbGVkIHdpdGggdGhpcyBrZXkgb2YgMzIgYnl0ZXM="
MORE = "Once more cuts it off."
KEY = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG"
GIVEN = {
    "WXTCB_COMPONENT_APPID": "wx0123456789abcdef",
    "WXTCB_MESSAGE_TOKEN": "S1GN",
    "WXTCB_ENCODING_AES_KEY": KEY,
    "WXTCB_TOKEN_STORE": "sqlite:///tokens.db",
}


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Set all that is needed."""
    monkeypatch.chdir(tmp_path)
    for name, value in GIVEN.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def port() -> int:
    """Find a port that is free."""
    with socket.create_server(("127.0.0.1", 0)) as place:
        return int(place.getsockname()[1])


def follow(stream: object, *words: str) -> list[str]:
    """Read lines until each of *words* was in one, in that order; return all that was read."""
    lines = []
    for word in words:
        while True:
            line = stream.readline()
            assert line, f"it ended without {word!r}: {lines}"
            lines.append(line)
            if word in line:
                break
    return lines


def push(env: dict[str, str]) -> dict[str, Any]:
    """Let the sandbox push a ticket now, and return what came of it."""
    answer: dict[str, Any] = json.load(urlopen(f"{env['WXTCB_BASE_URL']}/_sandbox/push", data=b"", timeout=60))
    return answer


def state(env: dict[str, str]) -> dict[str, Any]:
    """Return what the sandbox tells of itself."""
    told: dict[str, Any] = json.load(urlopen(f"{env['WXTCB_BASE_URL']}/_sandbox", timeout=60))
    return told


def kept_ticket(path: Path, appid: str) -> str:
    """Return the ticket in the store, which is sealed."""

    async def read() -> str:
        async with SqliteStore(path) as store:
            ticket = (await SharedState(EncryptedStore(store, SEAL), appid).read()).state.ticket
        assert ticket is not None
        return ticket.value.reveal()

    return asyncio.run(read())


@pytest.mark.usefixtures("measured")
def test_tickets_come_through_whatever_happens(tmp_path: Path, port: int) -> None:
    """Receiver killed: the next one goes on. Too long away: pushing stops, until the platform is asked to start it."""
    url = f"http://127.0.0.1:{port}/wechat/push"
    box = start("sandbox", "--push", url, "--push-every", 3600)
    env = exports(box)
    with_store = {**env, "WXTCB_TOKEN_STORE": f"sqlite:///{tmp_path}/tokens.db", "WXTCB_TOKEN_STORE_KEY": SEAL}

    def receive() -> subprocess.Popen[str]:
        return start("ticket", "serve", "--port", port, env=with_store)

    def kept() -> str:
        return kept_ticket(tmp_path / "tokens.db", env["WXTCB_COMPONENT_APPID"])

    first = receive()
    lines = follow(first.stdout, f"listening at {url}\n", "ticket kept")
    ticket = kept()
    first.kill()
    first.wait(60)
    second = receive()
    lines += follow(second.stdout, "listening")
    assert push(env) == {"accepted": True, "answer": "HTTP 200 'success'"}
    assert kept() != ticket
    second.send_signal(signal.SIGTERM)
    lines += second.communicate(timeout=60)
    assert second.returncode == 143
    assert (
        lines[-1]
        == f"The store has a ticket already. Ctrl-C ends it.\nEnding: what is under way is done first. {MORE}\n"
    )
    while push(env)["answer"] and not state(env)["push"]["stopped"]:
        pass

    third = receive()
    lines += follow(third.stdout, "listening")
    call = start("call", "api_start_push_ticket", env=env)
    assert '"ok"' in call.communicate(timeout=60)[0]
    lines += follow(third.stdout, "ticket kept")
    third.send_signal(signal.SIGINT)
    lines += third.communicate(timeout=60)
    assert third.returncode == 130
    lines += follow(box.stderr, "Nobody has answered", "and accepted", "nothing more is pushed", "and accepted")
    secrets = [ticket, env["WXTCB_MESSAGE_TOKEN"], env["WXTCB_ENCODING_AES_KEY"], env["WXTCB_COMPONENT_APPSECRET"]]
    assert not any(secret in line for secret in secrets for line in lines)


def test_what_is_missing_is_named(cli: Cli) -> None:
    """With what the store is for."""
    result = cli("ticket", "serve")
    assert result.exit_code == 2
    assert result.stderr == (
        "wxtcb: not set in the environment: WXTCB_COMPONENT_APPID, WXTCB_MESSAGE_TOKEN, WXTCB_ENCODING_AES_KEY, "
        "WXTCB_TOKEN_STORE; WXTCB_TOKEN_STORE is where programs find the ticket, as in sqlite:///wxtcb-tokens.db; "
        "without it nobody could use one\n"
    )


@pytest.mark.usefixtures("given")
@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("WXTCB_MESSAGE_TOKEN", "", "not set in the environment: WXTCB_MESSAGE_TOKEN\n"),
        ("WXTCB_ENCODING_AES_KEY", "short", "wxtcb: WXTCB_ENCODING_AES_KEY must be"),
        ("WXTCB_PREVIOUS_ENCODING_AES_KEY", "short", "wxtcb: WXTCB_PREVIOUS_ENCODING_AES_KEY must be"),
        ("WXTCB_COMPONENT_APPID", "ww1", "wxtcb: WXTCB_COMPONENT_APPID must be"),
        ("WXTCB_MESSAGE_TOKEN", "\udcff", "wxtcb: WXTCB_MESSAGE_TOKEN must be"),
        ("WXTCB_TOKEN_STORE_KEY", "short", "wxtcb: WXTCB_TOKEN_STORE_KEY: key must be one or more keys"),
        ("WXTCB_TOKEN_STORE", "mysql://user:hush@db", "wxtcb: WXTCB_TOKEN_STORE: the URL of a token store must begin"),
        (
            "WXTCB_TOKEN_STORE",
            "sqlite:////no/such/tokens.db",
            "wxtcb: WXTCB_TOKEN_STORE: there is no directory /no/such\n",
        ),
    ],
)
def test_what_is_wrong_is_named(cli: Cli, monkeypatch: pytest.MonkeyPatch, name: str, value: str, told: str) -> None:
    """And not shown."""
    monkeypatch.setenv(name, value)
    result = cli("ticket", "serve")
    assert result.exit_code == 2
    assert told in result.stderr
    assert "hush" not in result.stderr


@pytest.mark.usefixtures("given")
@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--path", "push"], "--path push: it begins with /"),
        (["--path", "/{push}"], "--path /{push}: it begins with /"),
        (["--host", ""], "--host: an empty address would be all of this machine's"),
        (["--host", "192.0.2.1"], "--host 192.0.2.1 --port 8080: "),
    ],
)
def test_a_place_that_cannot_be_is_refused(cli: Cli, words: list[str], told: str) -> None:
    """Exit 2 with the reason."""
    result = cli("ticket", "serve", *words)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"wxtcb: {told}")


@pytest.mark.usefixtures("given")
def test_a_port_that_is_taken_is_told(cli: Cli) -> None:
    """With its number, and exit 2."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = cli("ticket", "serve", "--port", port)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"wxtcb: --host 127.0.0.1 --port {port}: ")


@pytest.mark.usefixtures("given", "measured")
def test_a_store_that_is_down_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tickets are received all the same: a receiver that is away makes the platform stop pushing."""
    monkeypatch.setenv("WXTCB_TOKEN_STORE", "redis://127.0.0.1:1")
    process = start("ticket", "serve", "--host", "::1", "--port", 0)
    [line] = follow(process.stderr, "what comes is kept in memory until it does")
    assert line.startswith("The store does not answer yet (")
    [line] = follow(process.stdout, "/wechat/push")
    assert "listening at http://[::1]:" in line
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130


@pytest.mark.usefixtures("given")
def test_a_store_that_only_somebody_can_mend_is_refused(cli: Cli, tmp_path: Path) -> None:
    """Others can read the file: exit 2, and nothing is listened to, rather than to lose what comes."""
    (tmp_path / "tokens.db").touch(mode=0o644)
    result = cli("ticket", "serve")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("wxtcb: WXTCB_TOKEN_STORE: the token store")
    assert "has mode 644" in result.stderr


async def test_a_push_to_another_path_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    """With the path that pushes come in at, and once a minute: anybody may knock there."""
    times = iter([0.0, 59.0, 61.0])
    stray = NotFoundHandler("/wechat/push", lambda: next(times))
    for path in ("/wrong", "/again", f"/%1b{'x' * 99}"):
        answer = await stray.handle(make_mocked_request("POST", path))
        assert answer.status == 404
    told = [line.split(" ", 2)[2] for line in capsys.readouterr().out.splitlines()]
    assert told == [
        "404 for POST /wrong: pushes come in at /wechat/push",
        f"404 for POST /\\x1b{'x' * 53}: pushes come in at /wechat/push",
    ]


@pytest.mark.usefixtures("given")
async def test_what_is_under_way_is_waited_for_within_a_bound(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A body that never comes to its end delays the end by no more; all other paths are answered, and told."""
    monkeypatch.setattr("wxtcb.cli.ticket._SHUTDOWN_TIMEOUT", 0.01)
    async with read_receiver_settings(os.environ).open_receiver() as receiver, AsyncExitStack() as stack:
        url = URL(await stack.enter_async_context(_listen(receiver, ListenAddress("127.0.0.1", 0, "/push"))))
        reader, writer = await asyncio.open_connection(url.host, url.port)
        writer.write(b"GET /wrong HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await asyncio.wait_for(reader.readuntil(b"not here\n"), 60)).startswith(b"HTTP/1.1 404")
        writer.write(b"POST /push HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n<")
        assert (await reader.readline()).startswith(b"HTTP/1.1 100")
        async with asyncio.timeout(60):
            await stack.aclose()
        writer.close()
    assert "404 for GET /wrong: pushes come in at /push\n" in capsys.readouterr().out


@pytest.mark.usefixtures("given", "measured")
def test_a_second_signal_cuts_the_end_off() -> None:
    """A push that comes slowly is waited for, but not against somebody's will."""
    process = start("ticket", "serve", "--port", 0)
    [line] = follow(process.stdout, "listening")
    port = int(line.rpartition(":")[2].partition("/")[0])
    follow(process.stderr, "Ctrl-C ends it")
    with socket.create_connection(("127.0.0.1", port)) as slow:
        slow.sendall(b"POST /wechat/push HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n<")
        assert slow.recv(99).startswith(b"HTTP/1.1 100")
        process.send_signal(signal.SIGTERM)
        follow(process.stderr, "Ending")
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=60) == ("", "Cut off.\n")
    assert process.returncode == 143


@pytest.mark.usefixtures("measured")
@pytest.mark.parametrize("missing", ["cryptography", "defusedxml"])
def test_without_the_extra_it_says_what_to_install(missing: str) -> None:
    """One line and exit 2."""
    code = f"import sys; sys.modules[{missing!r}] = None; sys.argv[1:] = ['ticket', 'serve']; "
    code += f"import os; os.environ.update({GIVEN!r}); from wxtcb.cli import main; main()"
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert process.returncode == 2
    assert process.stderr.endswith("needs cryptography and defusedxml: pip install 'wxtcb[ticket]'\n")


def test_what_happens_is_told_a_line_each(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """With the time; what else is observed is not told."""
    monkeypatch.setattr("time.strftime", lambda _: "now")
    monkeypatch.setattr("time.time", lambda: 1000.4)
    for event in (
        TicketReceived(999, is_newest=True),
        TicketReceived(400, is_newest=False),
        TicketReceived(999, is_newest=True, in_memory_only=True),
        PushMalformed("there must be one CreateTime"),
        PushRefused("no", 403),
        TicketWriteFailed(999, "it is full", 2.0),
        TicketWriteFailed(999, "it is full", None),
        TokenStoreWriteFailed(1, "not here"),
    ):
        _log_event(event)
    asyncio.run(_log_notification(Notification("a\x1b", "wx1", 1, {})))
    assert capsys.readouterr().out.splitlines() == [
        "now ticket kept, made 1 s ago",
        "now ticket known already, made 600 s ago",
        "now ticket kept in memory, made 1 s ago",
        "now push answered, but not understood: there must be one CreateTime",
        "now push refused with 403: no",
        "now ticket not in the store yet, next try in 2 s: it is full",
        "now ticket not in the store yet, it is lost: it is full",
        "now a\\x1b: answered, and handed on to nobody",
    ]
