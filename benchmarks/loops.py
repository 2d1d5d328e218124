"""The same call through wxtcb and on bare aiohttp, and the server for both."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Final

import aiohttp
import attrs
import orjson
import trustme
from harness import Call, run_script
from yarl import URL

import wxtcb
from wxtcb.api import environment
from wxtcb.events import Hook

ALIAS: Final = "bench"
PATH: Final = "/componenttcb/createenv"
TOKEN: Final = "bench-token-0123456789abcdef"


@attrs.frozen
class Target:
    """The URL of the server, and the TLS context that verifies its certificate."""

    url: str
    tls: ssl.SSLContext | None = None


@contextlib.contextmanager
def run_server(scheme: str = "http", *, environments: int = 0) -> Iterator[Target]:
    """Run the server in a process of its own; with "https", it has a new certificate, which clients verify.

    It lists *environments* environments.
    """
    with contextlib.ExitStack() as stack:
        files, tls = [], None
        if scheme == "https":
            authority, tls = trustme.CA(), ssl.create_default_context()
            authority.configure_trust(tls)
            pem = authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem
            files = [stack.enter_context(pem.tempfile())]
        server = stack.enter_context(run_script("server.py", str(environments), *files))
        yield Target(f"{scheme}://127.0.0.1:{int(server.ready)}", tls)


@contextlib.asynccontextmanager
async def bare_aiohttp(target: Target) -> AsyncIterator[Call]:
    """Open a session that is tuned by hand for this one call: no retries, no token refresh, no typed reply."""
    url = URL(f"{target.url}{PATH}?access_token={TOKEN}", encoded=True)
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, ssl=target.tls or True),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"Content-Type": "application/json; charset=utf-8"},
        timeout=aiohttp.ClientTimeout(total=35, connect=5),
    ) as http:

        async def call() -> object:
            reply = await http.post(url, data=orjson.dumps({"alias": ALIAS}), allow_redirects=False)
            return orjson.loads(await reply.read())

        yield call


def new_session(target: Target, *, connections: int = 100, hooks: Sequence[Hook] = ()) -> wxtcb.Session:
    """Return a session with default timeouts."""
    return wxtcb.Session(
        component_appid="wx0123456789abcdef",
        component_appsecret="bench",
        ticket="ticket@@@bench",
        base_url=target.url,
        ssl=target.tls,
        connections=connections,
        hooks=hooks,
    )


@contextlib.asynccontextmanager
async def wxtcb_call(target: Target, *, connections: int = 100, hooks: Sequence[Hook] = ()) -> AsyncIterator[Call]:
    """Open a session of wxtcb for this one call."""
    async with new_session(target, connections=connections, hooks=hooks) as session:

        async def call() -> object:
            return await environment.create_env(session, alias=ALIAS)

        yield call
