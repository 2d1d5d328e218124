"""A session with a faked HTTP transport, and one with the sandbox."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import aiohttp
import attrs
import orjson
import pytest
import pytest_asyncio
from aioresponses import CallbackResult

import wxtcb
from wxtcb.sandbox import Sandbox
from wxtcb.testing import mock_platform

TOKEN_PATH = "/cgi-bin/component/api_component_token"
NEW_TOKEN = {"component_access_token": "token-of-the-session", "expires_in": 7200}


@attrs.frozen
class Sent:
    """One request as it was sent."""

    path: str
    query: dict
    body: object


@attrs.define
class Platform:
    """A fake platform: answers each call with the next of `replies`, and repeats the last one; `sent` are the calls.

    `token_reply` answers the requests for the session's token, which are in `token_requests`.
    """

    replies: list = attrs.field(factory=list)
    sent: list = attrs.field(factory=list)
    token_reply: object = attrs.field(factory=lambda: NEW_TOKEN)
    token_requests: list = attrs.field(factory=list)
    keeps_token_calls: bool = False

    @property
    def bodies(self):
        return [each.body for each in self.sent]

    def answer(self, url, **kwargs):
        """Record a request and return its reply; aioresponses calls this."""
        request = Sent(url.path, dict(url.query), orjson.loads(kwargs["data"].decode()))
        if request.path == TOKEN_PATH and not self.keeps_token_calls:
            self.token_requests.append(request)
            reply = self.token_reply
        else:
            self.sent.append(request)
            reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
        return CallbackResult(body=orjson.dumps(reply))


@pytest.fixture
def platform():
    """Answer every URL from a fake platform."""
    made = Platform()
    with mock_platform() as border:
        border.post(re.compile(".*"), callback=made.answer, repeat=True)
        yield made


@pytest.fixture
def make_session() -> Callable[..., AbstractAsyncContextManager[wxtcb.Session]]:
    """Return a factory of sessions on aiohttp's `ClientSession`: aioresponses replaces no lower layer."""

    @asynccontextmanager
    async def make(**options):
        account = {"component_appid": "wx-app", "component_appsecret": "app-secret", "ticket": "ticket@@@one"}
        async with aiohttp.ClientSession() as http, wxtcb.Session(**account | options, http=http) as opened:
            yield opened

    return make


@pytest_asyncio.fixture
async def session(platform, make_session):
    """Open a session with the fake platform."""
    async with make_session() as opened:
        yield opened


@pytest_asyncio.fixture
async def sandbox():
    """Serve the simulated platform."""
    async with Sandbox() as opened:
        yield opened


@pytest_asyncio.fixture
async def live(sandbox):
    """Open a session with the simulated platform, over sockets."""
    account = {"component_appid": sandbox.component_appid, "component_appsecret": sandbox.component_appsecret}
    async with wxtcb.Session(**account, ticket=sandbox.ticket, base_url=sandbox.url) as opened:
        yield opened
