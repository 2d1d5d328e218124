"""The command line in this process, and a platform on loopback in a thread."""

from __future__ import annotations

import asyncio
import os
import threading
import time
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

from .children import end_all

VARIABLES = ("COMPONENT_APPID", "COMPONENT_APPSECRET", "TICKET", "TICKET_FILE", "TOKEN_STORE", "BASE_URL")
VARIABLES += ("TOKEN_STORE_KEY", "MESSAGE_TOKEN", "ENCODING_AES_KEY", "PREVIOUS_ENCODING_AES_KEY")
INTERVAL = 0.001
Cli = Callable[..., Result]


@pytest.fixture(autouse=True)
def no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no test see the credentials of the machine."""
    for name in VARIABLES:
        monkeypatch.delenv(f"WXTCB_{name}", raising=False)


@pytest.fixture(autouse=True)
def no_survivors() -> Iterator[None]:
    """End what a test has started."""
    yield
    end_all()


@pytest.fixture
def cli() -> Cli:
    """Run a command in this process; its streams are no terminals."""
    runner = CliRunner()
    return lambda *words, stdin=None: runner.invoke(app, [str(word) for word in words], input=stdin)


@pytest.fixture
def swift(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let environments be ready at once, and looks follow each other without a pause."""
    monkeypatch.setattr("wxtcb.cli.target._SANDBOX_READY_AFTER", 0.0)
    monkeypatch.setattr("wxtcb.cli.target.SandboxTarget", partial(SandboxTarget, interval=INTERVAL))
    monkeypatch.setattr("wxtcb.cli.target.RealTarget", partial(RealTarget, interval=INTERVAL))
    monkeypatch.setattr("wxtcb.session.SharedPoller", partial(SharedPoller, min_interval=0.0))


@define
class Platform:
    """A sandbox that runs in a thread of its own."""

    box: Sandbox = field(factory=Sandbox)
    _up: threading.Event = field(init=False, factory=threading.Event)
    _loop: asyncio.AbstractEventLoop = field(init=False)
    _end: asyncio.Event = field(init=False)

    def serve(self) -> None:
        """Run the sandbox until `stop`."""
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        async with self.box:
            self._up.set()
            await self._end.wait()

    def wait(self) -> None:
        """Return when it is up."""
        assert self._up.wait(60)

    def stop(self) -> None:
        """Let it end."""
        self._loop.call_soon_threadsafe(self._end.set)

    @property
    def env(self) -> dict[str, str]:
        """The variables that point at it."""
        return {
            "WXTCB_COMPONENT_APPID": self.box.component_appid,
            "WXTCB_COMPONENT_APPSECRET": self.box.component_appsecret,
            "WXTCB_TICKET": self.box.ticket,
            "WXTCB_BASE_URL": self.box.url,
        }


@pytest.fixture
def platform(monkeypatch: pytest.MonkeyPatch) -> Iterator[Platform]:
    """Run a platform on loopback, and set the variables that point at it."""
    made = Platform()
    thread = threading.Thread(target=made.serve, daemon=True)
    thread.start()
    made.wait()
    for name, value in made.env.items():
        monkeypatch.setenv(name, value)
    yield made
    made.stop()
    thread.join(60)
    assert not thread.is_alive()


@pytest.fixture
def tenants(tmp_path: Path) -> Callable[[str], Path]:
    """Write a tenants file of CSV rows."""

    def write(*rows: str) -> Path:
        path = tmp_path / "tenants.csv"
        path.write_text("\n".join(("tenant,alias,appids,services", *rows)))
        return path

    return write


def kept_secret(platform: Platform, *texts: str) -> bool:
    """Tell whether no credential of the platform is in *texts*."""
    box = platform.box
    return not any(secret in text for text in texts for secret in (box.component_appsecret, box.ticket))


@contextmanager
def signal_when_asked(platform: Platform, path: str, number: int) -> Iterator[None]:
    """Send this process a signal as soon as the platform was asked for *path*; by then the command heeds it."""

    def send() -> None:
        end = time.monotonic() + 60
        while not platform.box.count(path) and time.monotonic() < end:
            time.sleep(0.005)
        os.kill(os.getpid(), number)

    sender = threading.Thread(target=send)
    sender.start()
    yield
    sender.join()
