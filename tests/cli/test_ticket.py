"""Command `wxtcb ticket serve`: tickets get from a platform into a token store."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import aiohttp
import pytest
from aiohttp.test_utils import make_mocked_request
from aiohttp.web_protocol import RequestHandler
from yarl import URL

from wxtcb.cli.ticket import (
    ListenAddress,
    NotFoundHandler,
    create_receiver,
    listen,
    log_event,
    log_notification,
)
from wxtcb.events import (
    SIGNATURE_HINT,
    UNDECRYPTABLE_HINT,
    WRONG_SIGNATURE,
    PushMalformed,
    PushRefused,
    PushUndecryptable,
    TicketReceived,
    TicketWriteFailed,
    TokenStoreWriteFailed,
)
from wxtcb.telemetry.dispatch import RepeatFilter
from wxtcb.tokens.encrypted import EncryptedStore
from wxtcb.tokens.state_repository import StateRepository
from wxtcb.tokens.stores import SqliteStore
from wxtcb.tokens.ticket import Notification

from .children import HANG_TIMEOUT, start
from .conftest import Cli
from .test_sandbox import read_exports

STORE_KEY = "c2VhbGVkIHdpdGggdGhpcyBrZXkgb2YgMzIgYnl0ZXM="
ENV = {
    "WXTCB_COMPONENT_APPID": "wx0123456789abcdef",
    "WXTCB_MESSAGE_TOKEN": "S1GNS1GNS1GNS1GN",
    "WXTCB_ENCODING_AES_KEY": "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG",
    "WXTCB_TOKEN_STORE": "sqlite:///tokens.db",
}
PARTIAL_PUSH = b"POST {} HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n<"


@pytest.fixture
def configured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Set all required environment variables."""
    monkeypatch.chdir(tmp_path)
    for name, value in ENV.items():
        monkeypatch.setenv(name, value)
    # An absolute path, which is no warning.
    monkeypatch.setenv("WXTCB_TOKEN_STORE", f"sqlite:///{tmp_path}/tokens.db")


@pytest.fixture
def port() -> int:
    """Return a free port."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def read_until(stream: object, *texts: str) -> list[str]:
    """Read lines until each of *texts* was in one of them, in this order; return all lines."""
    lines = []
    for text in texts:
        while True:
            line = stream.readline()
            assert line, f"the output ended without {text!r}: {lines}"
            lines.append(line)
            if text in line:
                break
    return lines


def push_ticket(env: dict[str, str]) -> dict[str, Any]:
    """Make the sandbox push a ticket now, and return the result."""
    request = Request(f"{env['WXTCB_BASE_URL']}/_sandbox/push", b"", {"Content-Type": "application/json"})
    result: dict[str, Any] = json.load(urlopen(request, timeout=HANG_TIMEOUT))
    return result


def has_stopped_pushing(env: dict[str, str]) -> bool:
    """Return whether the sandbox has stopped pushing after too many failures."""
    state: dict[str, Any] = json.load(urlopen(f"{env['WXTCB_BASE_URL']}/_sandbox", timeout=HANG_TIMEOUT))
    return bool(state["push"]["stopped"])


def stored_ticket(path: Path, appid: str) -> str:
    """Return the ticket in an encrypted store."""

    async def read() -> str:
        async with SqliteStore(path) as store:
            ticket = (await StateRepository(EncryptedStore(store, STORE_KEY), appid).read()).state.ticket
        assert ticket is not None
        return ticket.value.reveal()

    return asyncio.run(read())


@pytest.mark.usefixtures("measured")
def test_tickets_are_received_after_restarts(tmp_path: Path, port: int) -> None:
    """A new receiver replaces a killed one; after a long outage, pushing is restarted by a call."""
    url = f"http://127.0.0.1:{port}/wechat/push"
    sandbox = start("sandbox", "--push", url, "--push-every", 3600)
    env = read_exports(sandbox)
    path, appid = tmp_path / "tokens.db", env["WXTCB_COMPONENT_APPID"]
    receiver_env = {**env, "WXTCB_TOKEN_STORE": f"sqlite:///{path}", "WXTCB_TOKEN_STORE_KEY": STORE_KEY}

    def start_receiver() -> subprocess.Popen[str]:
        return start("ticket", "serve", "--port", port, env=receiver_env)

    first = start_receiver()
    lines = read_until(first.stdout, f"listening at {url}\n", "ticket stored")
    ticket = stored_ticket(path, appid)
    first.kill()
    first.wait()
    second = start_receiver()
    lines += read_until(second.stdout, "listening")
    assert push_ticket(env)["accepted"]
    assert stored_ticket(path, appid) != ticket
    second.send_signal(signal.SIGTERM)
    lines += second.communicate()
    assert second.returncode == 143
    contains_ticket, stopping = lines[-1].splitlines()
    assert contains_ticket.startswith("The store contains a ticket.")
    assert stopping.startswith("Stopping: ")
    while push_ticket(env)["result"] and not has_stopped_pushing(env):
        pass

    third = start_receiver()
    lines += read_until(third.stdout, "listening")
    call = start("call", "api_start_push_ticket", env=env)
    assert '"ok"' in call.communicate()[0]
    lines += read_until(third.stdout, "ticket stored")
    third.send_signal(signal.SIGINT)
    lines += third.communicate()
    assert third.returncode == 130
    lines += read_until(sandbox.stderr, "No response", "pushed and accepted", "Pushing stops", "pushed and accepted")
    secrets = [ticket, env["WXTCB_MESSAGE_TOKEN"], env["WXTCB_ENCODING_AES_KEY"], env["WXTCB_COMPONENT_APPSECRET"]]
    assert not any(secret in line for secret in secrets for line in lines)


def test_missing_variables_are_named(cli: Cli) -> None:
    """The message explains the token store."""
    result = cli("ticket", "serve")
    assert result.exit_code == 2
    names = re.findall(r"(WXTCB_\w+) \(", result.stderr)
    assert names == [
        f"WXTCB_{name}" for name in ("COMPONENT_APPID", "MESSAGE_TOKEN", "ENCODING_AES_KEY", "TOKEN_STORE")
    ]
    assert "WXTCB_TOKEN_STORE (URL of the token store" in result.stderr


@pytest.mark.usefixtures("configured")
@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("WXTCB_MESSAGE_TOKEN", "", "not set in the environment: WXTCB_MESSAGE_TOKEN ("),
        ("WXTCB_ENCODING_AES_KEY", "short", "wxtcb: WXTCB_ENCODING_AES_KEY must be"),
        ("WXTCB_PREVIOUS_ENCODING_AES_KEY", "short", "wxtcb: WXTCB_PREVIOUS_ENCODING_AES_KEY must be"),
        ("WXTCB_COMPONENT_APPID", "ww 1", "wxtcb: WXTCB_COMPONENT_APPID must be"),
        ("WXTCB_MESSAGE_TOKEN", "\udcff", "wxtcb: WXTCB_MESSAGE_TOKEN: the value is not UTF-8"),
        ("WXTCB_MESSAGE_TOKEN", "hush-hush", "wxtcb: WXTCB_MESSAGE_TOKEN must be"),
        ("WXTCB_COMPONENT_APPID", "hu sh", "wxtcb: WXTCB_COMPONENT_APPID must be"),
        ("WXTCB_PLAIN_PUSH_KEY", "hush", "wxtcb: WXTCB_PLAIN_PUSH_KEY must be"),
        ("WXTCB_TOKEN_STORE_KEY", "short", "wxtcb: WXTCB_TOKEN_STORE_KEY: key "),
        ("WXTCB_TOKEN_STORE", "mysql://user:hush@db", "wxtcb: WXTCB_TOKEN_STORE: "),
        ("WXTCB_TOKEN_STORE", "sqlite:////no/such/tokens.db", "wxtcb: WXTCB_TOKEN_STORE: directory /no/such does not"),
    ],
)
def test_invalid_variable_is_named(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, name: str, value: str, message: str
) -> None:
    """The exit code is 2, and the message does not contain the value."""
    monkeypatch.setenv(name, value)
    result = cli("ticket", "serve")
    assert result.exit_code == 2
    assert message in result.stderr
    assert "hush" not in result.stderr


@pytest.mark.usefixtures("configured")
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--path", "push"], "--path push: it must start with /"),
        (["--path", "/{push}"], "--path /{push}: it must start with /"),
        (["--host", ""], "--host must not be empty"),
        (["--host", "192.0.2.1"], "--host 192.0.2.1 --port 8080: "),
    ],
)
def test_invalid_address_is_rejected(cli: Cli, words: list[str], message: str) -> None:
    """The exit code is 2, and the message names the option."""
    result = cli("ticket", "serve", *words)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"wxtcb: {message}")


@pytest.mark.usefixtures("configured")
def test_port_in_use_is_rejected(cli: Cli) -> None:
    """The exit code is 2, and the message has the port."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        result = cli("ticket", "serve", "--port", port)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"wxtcb: --host 127.0.0.1 --port {port}: ")


@pytest.mark.usefixtures("configured", "measured")
def test_receiver_starts_while_the_store_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    """WeChat stops pushing to a receiver that is away for too long."""
    monkeypatch.setenv("WXTCB_TOKEN_STORE", "redis://127.0.0.1:1")
    process = start("ticket", "serve", "--host", "::1", "--port", 0)
    [line] = read_until(process.stderr, "kept in memory")
    assert line.startswith("The store is unavailable (")
    [line] = read_until(process.stdout, "/wechat/push")
    assert "listening at http://[::1]:" in line
    process.send_signal(signal.SIGINT)
    process.communicate()
    assert process.returncode == 130


@pytest.mark.usefixtures("configured")
def test_store_that_can_never_be_used_is_rejected(cli: Cli, tmp_path: Path) -> None:
    """Other users can read the file: the exit code is 2, and no ticket is accepted that could not be stored."""
    (tmp_path / "tokens.db").touch(mode=0o644)
    result = cli("ticket", "serve")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("wxtcb: token store: ")
    assert "644" in result.stderr


async def test_request_for_another_path_is_logged_once_a_minute(capsys: pytest.CaptureFixture[str]) -> None:
    """The line has the path of pushes; the requested path is truncated and escaped."""
    times = iter([0.0, 59.0, 61.0])
    handler = NotFoundHandler("/wechat/push", lambda: next(times))
    for path in ("/wrong", "/again", f"/%1b{'x' * 99}"):
        response = await handler.handle(make_mocked_request("POST", path))
        assert response.status == 404
    lines = [line.split(" ", 2)[2] for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        "404 for POST /wrong: pushes are received at /wechat/push",
        f"404 for POST /\\x1b{'x' * 53}: pushes are received at /wechat/push",
    ]


@pytest.mark.usefixtures("configured")
async def test_shutdown_waits_for_a_limited_time(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A push whose body never ends does not prevent the shutdown."""
    monkeypatch.setattr("wxtcb.cli.ticket._SHUTDOWN_TIMEOUT", 0.01)
    async with create_receiver() as receiver, AsyncExitStack() as stack:
        url = URL(await stack.enter_async_context(listen(receiver, ListenAddress("127.0.0.1", 0, "/push"))))
        reader, writer = await asyncio.open_connection(url.host, url.port)
        writer.write(b"GET /wrong HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await asyncio.wait_for(reader.readuntil(b"not found\n"), HANG_TIMEOUT)).startswith(b"HTTP/1.1 404")
        writer.write(PARTIAL_PUSH.replace(b"{}", b"/push"))
        assert (await reader.readline()).startswith(b"HTTP/1.1 100")
        async with asyncio.timeout(HANG_TIMEOUT):
            await stack.aclose()
        writer.close()
    assert "404 for GET /wrong: pushes are received at /push\n" in capsys.readouterr().out


@pytest.fixture
def listening(configured: None) -> Callable[..., AbstractAsyncContextManager[URL]]:
    """Return a context manager that serves a receiver, and gives the URL of pushes."""

    @asynccontextmanager
    async def serve(path: str = "/push") -> AsyncIterator[URL]:
        async with (
            create_receiver() as receiver,
            listen(receiver, ListenAddress("127.0.0.1", 0, path)) as url,
        ):
            yield URL(url)

    return serve


Listening = Callable[..., AbstractAsyncContextManager[URL]]


@pytest.mark.parametrize(
    "head", [b"", b"POST /push HT", b"POST /push HTTP/1.1\r\nHost: x\r\n", b"GET / HTTP/1.1\r\nHost: x\r\n\r\nGET"]
)
async def test_connection_without_a_whole_request_is_closed(
    monkeypatch: pytest.MonkeyPatch, listening: Listening, head: bytes
) -> None:
    """A sender that stops in the head of its first or next request does not keep its connection."""
    monkeypatch.setattr("wxtcb.cli.ticket._HEAD_TIMEOUT", 0.05)
    # Older versions of aiohttp limit the time only after a first request.
    connection_made = RequestHandler.connection_made

    def without_timer(handler: RequestHandler, transport: asyncio.BaseTransport) -> None:
        connection_made(handler, transport)
        if handler._keepalive_handle is not None:
            handler._keepalive_handle.cancel()
            handler._keepalive_handle = None

    monkeypatch.setattr(RequestHandler, "connection_made", without_timer)
    async with asyncio.timeout(60), listening() as url:
        reader, writer = await asyncio.open_connection(url.host, url.port)
        writer.write(head)
        answer = await reader.read()
        assert answer.startswith(b"HTTP/1.1 404") if b"GET" in head else answer == b""
        writer.close()


async def test_connections_are_limited(monkeypatch: pytest.MonkeyPatch, listening: Listening) -> None:
    """One more is closed at once; there is room again when another one ends."""
    monkeypatch.setattr("wxtcb.cli.ticket._MAX_CONNECTIONS", 2)

    async def get(url: URL) -> tuple[asyncio.StreamWriter, bytes]:
        """Open a connection, and return it with the first line of an answer."""
        reader, writer = await asyncio.open_connection(url.host, url.port)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        with suppress(ConnectionError):
            return writer, await reader.readline()
        return writer, b""

    async with asyncio.timeout(60), listening() as url:
        # At once, so that asyncio accepts them in one go.
        tried = await asyncio.gather(*(get(url) for _ in range(9)))
        admitted = [writer for writer, line in tried if line == b"HTTP/1.1 404 Not Found\r\n"]
        assert len(admitted) == 2
        assert sum(line == b"" for _, line in tried) == 7
        admitted[0].close()
        await admitted[0].wait_closed()
        while not (last := await get(url))[1]:
            last[0].close()
        for writer in (last[0], *(writer for writer, _ in tried)):
            writer.close()


async def test_plain_push_is_accepted_below_the_path(
    monkeypatch: pytest.MonkeyPatch, listening: Listening, capsys: pytest.CaptureFixture[str]
) -> None:
    """The key of cloud hosting is the last segment; it is not logged, even if the variable is missing."""
    key = "plain-Push_key0123456789abcdefghij"
    push = {
        "AppId": ENV["WXTCB_COMPONENT_APPID"],
        "CreateTime": int(time.time()),
        "InfoType": "component_verify_ticket",
        "ComponentVerifyTicket": "ticket@@@1",
    }
    async with aiohttp.ClientSession() as http:
        async with listening() as url, http.post(url / key, json=push) as response:
            assert response.status == 404
        monkeypatch.setenv("WXTCB_PLAIN_PUSH_KEY", key)
        async with listening() as url, http.post(url / key, json=push) as response:
            assert (response.status, await response.read()) == (200, b"success")
        async with listening() as url, http.post(url / "other", json=push) as response:
            assert response.status == 400
    output = capsys.readouterr()
    assert "404 for POST /push/***: pushes are received at /push\n" in output.out
    assert "ticket stored" in output.out
    assert key not in output.out + output.err


@pytest.mark.usefixtures("configured", "measured")
@pytest.mark.parametrize(
    ("host", "token", "warnings"),
    [
        ("127.0.0.1", "S1GN" * 4, []),
        ("localhost", "S1GN" * 4, []),
        ("0.0.0.0", "S1GN" * 4, ["Warning: other machines can connect to 0.0.0.0 without TLS."]),
        ("127.0.0.1", "S1GN", ["Warning: the message token has fewer than 16 characters"]),
    ],
)
def test_weak_settings_are_warned_of(
    monkeypatch: pytest.MonkeyPatch, host: str, token: str, warnings: list[str]
) -> None:
    """Plain HTTP beyond this machine, and a message token that can be guessed; the token is not printed."""
    monkeypatch.setenv("WXTCB_MESSAGE_TOKEN", token)
    process = start("ticket", "serve", "--host", host, "--port", 0)
    lines = read_until(process.stderr, "Ctrl-C ends it")
    process.send_signal(signal.SIGINT)
    output = "".join((*lines, *process.communicate(timeout=60)))
    found = [line for line in lines if line.startswith("Warning: ")]
    assert [line.startswith(warning) for line, warning in zip(found, warnings, strict=True)] == [True] * len(warnings)
    assert "S1GN" not in output


@pytest.mark.usefixtures("configured", "measured")
def test_second_signal_cancels_pushes_in_progress() -> None:
    """The exit code is that of the first signal."""
    process = start("ticket", "serve", "--port", 0)
    [line] = read_until(process.stdout, "listening")
    port = int(line.rpartition(":")[2].partition("/")[0])
    read_until(process.stderr, "Ctrl-C ends it")
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(PARTIAL_PUSH.replace(b"{}", b"/wechat/push"))
        assert connection.recv(99).startswith(b"HTTP/1.1 100")
        process.send_signal(signal.SIGTERM)
        read_until(process.stderr, "Stopping")
        process.send_signal(signal.SIGINT)
        assert process.communicate() == ("", "Pushes in progress were cancelled.\n")
    assert process.returncode == 143


@pytest.mark.usefixtures("measured")
@pytest.mark.parametrize("missing", ["cryptography", "defusedxml"])
def test_missing_extra_is_reported(missing: str) -> None:
    """The exit code is 2, and one line names what to install."""
    code = f"import sys; sys.modules[{missing!r}] = None; sys.argv[1:] = ['ticket', 'serve']; "
    code += f"import os; os.environ.update({ENV!r}); from wxtcb.cli import main; main()"
    process = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=HANG_TIMEOUT
    )
    assert process.returncode == 2
    assert process.stderr.endswith("pip install 'wxtcb[ticket]'\n")
    assert len(process.stderr.splitlines()) == 1


def test_events_are_logged(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Each event of the receiver has a line with the time; other events have none."""
    monkeypatch.setattr("time.strftime", lambda _: "now")
    monkeypatch.setattr("time.time", lambda: 1000.4)
    refusals = RepeatFilter(lambda: 0.0)
    for event in (
        TicketReceived(999, is_newest=True),
        TicketReceived(400, is_newest=False),
        TicketReceived(999, is_newest=True, in_memory_only=True),
        PushMalformed("there must be one CreateTime"),
        PushUndecryptable("192.0.2.1"),
        PushRefused("no", 403, "192.0.2.1"),
        # Equal to the one before, so it has no line.
        PushRefused("no", 403, "192.0.2.1"),
        PushRefused(WRONG_SIGNATURE, 403),
        TicketWriteFailed(999, "it is full", 2.0),
        TicketWriteFailed(999, "it is full", None),
        TokenStoreWriteFailed(1, "not here"),
    ):
        log_event(refusals, event)
    asyncio.run(log_notification(Notification("a\x1b", "wx1", 1, {})))
    assert capsys.readouterr().out.splitlines() == [
        "now ticket stored, created 1 s ago",
        "now ticket already known, created 600 s ago",
        "now ticket kept in memory, created 1 s ago",
        "now push acknowledged, but malformed: there must be one CreateTime",
        f"now push from 192.0.2.1 acknowledged, but it cannot be decrypted. {UNDECRYPTABLE_HINT}",
        "now push from 192.0.2.1 rejected with 403: no",
        f"now push rejected with 403: the signature does not match. {SIGNATURE_HINT}",
        "now ticket not stored, retrying in 2 s: it is full",
        "now ticket not stored, it is lost: it is full",
        "now a\\x1b: acknowledged and discarded",
    ]
