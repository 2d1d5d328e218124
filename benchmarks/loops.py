"""The same call made in several ways: through the library, and by hand on bare aiohttp."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Final

import aiohttp
import attrs
import orjson
import trustme
from harness import Call, child
from yarl import URL

import wxtcb
from wxtcb.api import environment
from wxtcb.events import Hook

ALIAS: Final = "bench"
PATH: Final = "/componenttcb/createenv"
TOKEN: Final = "bench-token-0123456789abcdef"


@attrs.frozen
class Place:
    """Where the server is, and whom to trust there."""

    url: str
    trust: ssl.SSLContext | None = None


@contextlib.contextmanager
def serving(scheme: str = "http", *, environments: int = 0) -> Iterator[Place]:
    """Run the server in a process of its own; "https" comes with a certificate made for it, which clients verify.

    It lists so many environments.
    """
    with contextlib.ExitStack() as stack:
        files, trust = [], None
        if scheme == "https":
            authority, trust = trustme.CA(), ssl.create_default_context()
            authority.configure_trust(trust)
            pem = authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem
            files = [stack.enter_context(pem.tempfile())]
        server = stack.enter_context(child("server.py", str(environments), *files))
        yield Place(f"{scheme}://127.0.0.1:{int(server.ready)}", trust)


@contextlib.asynccontextmanager
async def bare(place: Place) -> AsyncIterator[Call]:
    """Open what a careful author would tune by hand for this one call: no retries, no renewal, no typed replies."""
    url = URL(f"{place.url}{PATH}?access_token={TOKEN}", encoded=True)
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, ssl=place.trust or True),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"Content-Type": "application/json; charset=utf-8"},
        timeout=aiohttp.ClientTimeout(total=35, connect=5),
    ) as http:

        async def call() -> object:
            reply = await http.post(url, data=orjson.dumps({"alias": ALIAS}), allow_redirects=False)
            return orjson.loads(await reply.read())

        yield call


def new_session(place: Place, *, connections: int = 100, hooks: Sequence[Hook] = ()) -> wxtcb.Session:
    """Make a session as everybody would; its timeouts are the default."""
    return wxtcb.Session(
        component_appid="wx0123456789abcdef",
        component_appsecret="bench",
        ticket="ticket@@@bench",
        base_url=place.url,
        ssl=place.trust,
        connections=connections,
        hooks=hooks,
    )


@contextlib.asynccontextmanager
async def library(place: Place, *, connections: int = 100, hooks: Sequence[Hook] = ()) -> AsyncIterator[Call]:
    """Open a session for this one call."""
    async with new_session(place, connections=connections, hooks=hooks) as session:

        async def call() -> object:
            return await environment.create_env(session, alias=ALIAS)

        yield call
