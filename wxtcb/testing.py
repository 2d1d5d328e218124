"""Pytest fixtures: the simulated platform, and a session on it.

They come with the extra ``testing``, and only to who asks for them: pytest loads no plugin by itself because wxtcb is
installed. Name this one in a test module, or for all of them in the conftest.py at the top of your tests::

    pytest_plugins = ["wxtcb.testing"]

Annotate the fixtures as you use them::

    async def test_opening(wxtcb_session: wxtcb.Session, wxtcb_sandbox: wxtcb.sandbox.Sandbox) -> None: ...
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from wxtcb.sandbox import Sandbox
    from wxtcb.session import Session

__all__ = ["wxtcb_sandbox", "wxtcb_session"]


def _async_fixture(function: Callable[[Sandbox], AsyncIterator[Session]]) -> object:
    """Mark *function* as pytest-asyncio's strict mode wants it; without that plugin, anyio's runs it as it is."""
    try:
        import pytest_asyncio
    except ImportError:
        return pytest.fixture(function)
    return pytest_asyncio.fixture(function)


@pytest.fixture
def wxtcb_sandbox() -> Iterator[Sandbox]:
    """Serve a fresh `Sandbox` on a free port of loopback for the length of one test.

    It runs in a thread of its own, so it answers whatever loop the test uses, and also tests that are no coroutines,
    such as those with Starlette's TestClient. Set the scene, and look at the world, between calls, not during one.
    """
    from anyio.from_thread import start_blocking_portal

    from wxtcb.sandbox import Sandbox

    with start_blocking_portal() as portal, portal.wrap_async_context_manager(Sandbox()) as sandbox:
        yield sandbox


@_async_fixture
async def wxtcb_session(wxtcb_sandbox: Sandbox) -> AsyncIterator[Session]:
    """Open a `Session` on `wxtcb_sandbox`, in the loop of the test; it retries as usual, but at once.

    With pytest-asyncio it works in strict and in auto mode, without it under anyio's plugin.
    """
    from wxtcb._http.retry import RetryPolicy
    from wxtcb.session import Session

    async with Session(
        component_appid=wxtcb_sandbox.component_appid,
        component_appsecret=wxtcb_sandbox.component_appsecret,
        ticket=wxtcb_sandbox.ticket,
        base_url=wxtcb_sandbox.url,
        retry=RetryPolicy(base=0.001),
    ) as session:
        yield session
