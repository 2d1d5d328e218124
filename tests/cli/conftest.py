"""Fixtures: the command line in this process, and a platform on loopback in a thread."""

from __future__ import annotations

import asyncio
import os
import threading
import time
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from attrs import define, field
from typer.testing import CliRunner, Result

from wxtcb._concurrency.shared_poll import SharedPoller
from wxtcb.cli.app import app
from wxtcb.cli.target import RealTarget, SandboxTarget
from wxtcb.sandbox import Sandbox

from .children import HANG_TIMEOUT, end_all

VARIABLES = ("COMPONENT_APPID", "COMPONENT_APPSECRET", "TICKET", "TICKET_FILE", "TOKEN_STORE", "BASE_URL")
VARIABLES += (
    "TOKEN_STORE_KEY",
    "MESSAGE_TOKEN",
    "ENCODING_AES_KEY",
    "PREVIOUS_ENCODING_AES_KEY",
    "ENV_FILE",
    "PROFILE",
    "JOURNAL",
    "JOURNAL_FILE",
)
INTERVAL = 0.001
CREATE = "/componenttcb/createenv"
LIST = "/componenttcb/describeenvs"
TOKEN = "/cgi-bin/component/api_component_token"
Cli = Callable[..., Result]
Tenants = Callable[..., Path]


@pytest.fixture(autouse=True)
def no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the credentials of the machine from the tests."""
    for name in VARIABLES:
        monkeypatch.delenv(f"WXTCB_{name}", raising=False)


@pytest.fixture(autouse=True)
def no_survivors() -> Iterator[None]:
    """Kill the processes that a test has left running."""
    yield
    end_all()


@pytest.fixture
def cli() -> Cli:
    """Return a function that runs a command in this process; its streams are not terminals."""
    runner = CliRunner()
    return lambda *words, stdin=None: runner.invoke(app, [str(word) for word in words], input=stdin)


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make environments ready at once, and poll without pauses."""
    monkeypatch.setattr("wxtcb.cli.target._SANDBOX_READY_AFTER", 0.0)
    monkeypatch.setattr("wxtcb.cli.target.SandboxTarget", partial(SandboxTarget, interval=INTERVAL))
    monkeypatch.setattr("wxtcb.cli.target.RealTarget", partial(RealTarget, interval=INTERVAL))
    monkeypatch.setattr("wxtcb.session.SharedPoller", partial(SharedPoller, min_interval=0.0))


@define
class Platform:
    """A sandbox in a thread of its own."""

    sandbox: Sandbox = field(factory=Sandbox)
    _started: threading.Event = field(init=False, factory=threading.Event)
    _loop: asyncio.AbstractEventLoop = field(init=False)
    _stop: asyncio.Event = field(init=False)

    def serve(self) -> None:
        """Run the sandbox until `stop` is called."""
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        async with self.sandbox:
            self._started.set()
            await self._stop.wait()

    def wait_until_started(self) -> None:
        """Return when the sandbox accepts requests."""
        assert self._started.wait(HANG_TIMEOUT)

    def stop(self) -> None:
        """End the sandbox."""
        self._loop.call_soon_threadsafe(self._stop.set)

    @property
    def env(self) -> dict[str, str]:
        """Environment variables that select this platform."""
        return {
            "WXTCB_COMPONENT_APPID": self.sandbox.component_appid,
            "WXTCB_COMPONENT_APPSECRET": self.sandbox.component_appsecret,
            "WXTCB_TICKET": self.sandbox.ticket,
            "WXTCB_BASE_URL": self.sandbox.url,
        }


@pytest.fixture
def platform(monkeypatch: pytest.MonkeyPatch) -> Iterator[Platform]:
    """Run a platform on loopback, and set the environment variables that select it."""
    platform = Platform()
    thread = threading.Thread(target=platform.serve, daemon=True)
    thread.start()
    platform.wait_until_started()
    for name, value in platform.env.items():
        monkeypatch.setenv(name, value)
    yield platform
    platform.stop()
    thread.join(HANG_TIMEOUT)
    assert not thread.is_alive()


@pytest.fixture
def tenants(tmp_path: Path) -> Tenants:
    """Return a function that writes CSV rows to a tenants file, and returns its path."""

    def write(*rows: str) -> Path:
        path = tmp_path / "tenants.csv"
        path.write_text("\n".join(("tenant,alias,appids,services", *rows)))
        return path

    return write


def contains_no_secret(platform: Platform, *texts: str) -> bool:
    """Return whether none of *texts* contains a credential of the platform."""
    secrets = (platform.sandbox.component_appsecret, platform.sandbox.ticket)
    return not any(secret in text for text in texts for secret in secrets)


def width_of(text: str) -> int:
    """Return the number of terminal cells that *text* takes, according to the Unicode database."""
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)


def wait_for_request(platform: Platform, path: str) -> None:
    """Wait until the platform has received a request for *path*; its sender handles signals by then."""
    end = time.monotonic() + HANG_TIMEOUT
    while not platform.sandbox.count(path):
        assert time.monotonic() < end
        time.sleep(0.005)


@contextmanager
def signal_at_request(platform: Platform, path: str, number: int) -> Iterator[None]:
    """Send a signal to this process when the platform has received a request for *path*."""

    def send() -> None:
        try:
            wait_for_request(platform, path)
        finally:
            # Also after a timeout, or the command would never end.
            os.kill(os.getpid(), number)

    sender = threading.Thread(target=send)
    sender.start()
    yield
    sender.join()
