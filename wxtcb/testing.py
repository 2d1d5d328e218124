"""Pytest fixtures: the simulated platform, and a session connected to it; and your own replies for single calls.

They need the extra ``testing``. Installing wxtcb does not register them with pytest; name the plugin in a test module,
or for all tests in the conftest.py of the root directory::

    pytest_plugins = ["wxtcb.testing"]

Type annotations for the fixtures::

    async def test_opening(wxtcb_session: wxtcb.Session, wxtcb_sandbox: wxtcb.sandbox.Sandbox) -> None: ...

PYTEST_DONT_REWRITE: there are no assertions here, and pytest would warn if a conftest.py imports this module first.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from aiohttp import ClientResponse

try:
    import pytest
except ImportError as error:
    raise ImportError("wxtcb.testing needs pytest: pip install 'wxtcb[testing]'") from error

if TYPE_CHECKING:
    from aioresponses import aioresponses

    from wxtcb.sandbox import Sandbox
    from wxtcb.session import Session

__all__ = ["MockResponse", "mock_platform", "wxtcb_environ", "wxtcb_sandbox", "wxtcb_session"]


class MockResponse(ClientResponse):
    """Response for aioresponses, whose own (0.7.9) lacks the argument `stream_writer` of aiohttp 3.14.

    `mock_platform` uses it. Without that, pass it to each reply: `mock.post(url, response_class=MockResponse)`.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - the arguments of any version of aiohttp
        super().__init__(*args, **{"stream_writer": SimpleNamespace(output_size=0), **kwargs})


@contextmanager
def mock_platform(**options: object) -> Iterator[aioresponses]:
    """Replace the requests of every `aiohttp.ClientSession` by your own replies; yield the `aioresponses` to set them.

    Only a session on a `ClientSession` is affected (`Session(http=...)`), because the default transport does not use
    one. A request without a matching reply raises `TransportError`. *options* are those of `aioresponses`.

    In a callback, `kwargs["data"].decode()` is the body of the request.

    Raises `ImportError` if aioresponses is missing.
    """
    try:
        from aioresponses import aioresponses
    except ImportError as error:
        raise ImportError("mock_platform needs aioresponses: pip install 'wxtcb[testing]'") from error
    # Replaced where aioresponses looks it up, so that replies of callbacks are covered as well.
    with patch("aioresponses.core.ClientResponse", MockResponse), aioresponses(**options) as mock:
        yield mock


def _async_fixture(function: Callable[[Sandbox], AsyncIterator[Session]]) -> object:
    """Return *function* as a fixture of pytest-asyncio, or as a plain fixture if that is not installed."""
    # In strict mode, pytest-asyncio runs only fixtures made by its own decorator. anyio's plugin runs plain ones.
    try:
        import pytest_asyncio
    except ImportError:
        return pytest.fixture(function)
    return pytest_asyncio.fixture(function)


@pytest.fixture
def wxtcb_sandbox() -> Iterator[Sandbox]:
    """Yield a fresh `Sandbox` on a free port of loopback for one test.

    It runs in a thread of its own. So it responds to every event loop of the test, and to synchronous tests such as
    those with Starlette's TestClient. Change and read its world between calls, not during one.
    """
    from anyio.from_thread import start_blocking_portal

    from wxtcb.sandbox import Sandbox

    with start_blocking_portal() as portal, portal.wrap_async_context_manager(Sandbox()) as sandbox:
        yield sandbox


@pytest.fixture
def wxtcb_environ(wxtcb_sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, str]:
    """Set the environment variables of a program to `wxtcb_sandbox`, for one test; return them.

    They are those of a session and of a ticket receiver, with a token store in the directory of the test. All other
    variables whose name begins with ``WXTCB_`` are removed. A program that reads them when it is imported must be
    imported by the test.
    """
    for name in [name for name in os.environ if name.startswith("WXTCB_")]:
        monkeypatch.delenv(name)
    variables = {
        "WXTCB_BASE_URL": wxtcb_sandbox.url,
        "WXTCB_COMPONENT_APPID": wxtcb_sandbox.component_appid,
        "WXTCB_COMPONENT_APPSECRET": wxtcb_sandbox.component_appsecret,
        "WXTCB_TICKET": wxtcb_sandbox.ticket,
        "WXTCB_MESSAGE_TOKEN": wxtcb_sandbox.message_token,
        "WXTCB_ENCODING_AES_KEY": wxtcb_sandbox.encoding_aes_key,
        "WXTCB_TOKEN_STORE": f"sqlite:///{tmp_path / 'wxtcb-tokens.db'}",
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return variables


@_async_fixture
async def wxtcb_session(wxtcb_sandbox: Sandbox) -> AsyncIterator[Session]:
    """Yield a `Session` on `wxtcb_sandbox`, in the event loop of the test.

    It works with pytest-asyncio in strict and auto mode, and with anyio's plugin if pytest-asyncio is not installed.
    """
    from wxtcb._http.retry import RetryPolicy
    from wxtcb.session import Session

    async with Session(
        component_appid=wxtcb_sandbox.component_appid,
        component_appsecret=wxtcb_sandbox.component_appsecret,
        ticket=wxtcb_sandbox.ticket,
        base_url=wxtcb_sandbox.url,
        # The same retries as in production, with delays of milliseconds.
        retry=RetryPolicy(base=0.001),
    ) as session:
        yield session
