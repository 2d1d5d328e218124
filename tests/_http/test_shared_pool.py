"""Several platforms in one process: one pool of connections, and nothing else in common."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web

import wxtcb
from wxtcb._http.aiohttp_connector import open_transport
from wxtcb._http.aiohttp_session import SessionTransport
from wxtcb._http.transport import Response, SendFailure, Timeout
from wxtcb.api import environment
from wxtcb.secret import Secret

from .raw_http import OK, REQUEST

GOOD = Response(200, b'{"errcode":0}')


@pytest.fixture
async def office():
    """Serve the platform for any appid; tell who came over which connection."""
    seen = []

    async def answer(request):
        fields = await request.json()
        port = request.transport.get_extra_info("peername")[1]
        seen.append((request.query.get("access_token", fields.get("component_appid")), port))
        if request.path.endswith("api_component_token"):
            return web.json_response({"component_access_token": "T-" + fields["component_appid"], "expires_in": 7200})
        return web.json_response({"errcode": 0, "info_list": []})

    runner = web.ServerRunner(web.Server(answer))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}", seen
    await runner.cleanup()


def connector():
    """Make a pool as a caller does."""
    return aiohttp.TCPConnector(limit=0)


@asynccontextmanager
async def http():
    """Open an aiohttp session as a caller does."""
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.mark.parametrize("pool", [connector, http])
async def test_platforms_share_connections_and_nothing_else(office, pool):
    """Two platforms on one pool: one connection, each with its token, and one closes without the other."""
    url, seen = office
    async with pool() as shared:
        options = {"component_appsecret": "s", "ticket": "t", "base_url": url, "http": shared}
        async with wxtcb.Session(component_appid="wxB", **options) as other:
            async with wxtcb.Session(component_appid="wxA", **options) as session:
                await environment.describe_envs(session)
                await environment.describe_envs(other)
            await environment.describe_envs(other)
        assert not shared.closed
    assert [who for who, _ in seen] == ["wxA", "T-wxA", "wxB", "T-wxB", "T-wxB"]
    assert len({port for _, port in seen}) == 1


async def test_closed_transport_sends_no_more_on_a_pool_that_is_open(serve, client_tls):
    """The pool is the caller's, the right to use it ends with the session."""
    server = await serve(lambda number: OK)
    async with connector() as shared:
        one, two = (open_transport(server.url, Timeout(), http=shared, ssl=client_tls) for _ in range(2))
        assert await one.send(REQUEST) == GOOD
        await one.aclose()
        assert await one.send(REQUEST) == SendFailure("the connections are closed", sent=False, closed=True)
        assert await two.send(REQUEST) == GOOD
        await two.aclose()
    assert server.connections == 1


async def test_calls_under_way_end_with_their_session_on_a_pool_that_is_open(serve, client_tls):
    """They fail as if disconnected; those of the other session go on."""
    server = await serve(lambda number: None if number == 1 else OK)
    async with connector() as shared:
        one, two = (open_transport(server.url, Timeout(), http=shared, ssl=client_tls) for _ in range(2))
        call = asyncio.create_task(one.send(REQUEST))
        await server.came.wait()
        await one.aclose()
        assert (await call).sent
        assert await two.send(REQUEST) == GOOD
        await two.aclose()


async def test_pool_of_the_caller_serves_through_a_proxy_too(serve):
    """The plain transport uses the connector, and leaves it open."""
    async with connector() as shared:
        transport = open_transport("http://127.0.0.1:1", Timeout(), http=shared, proxy=Secret("http://127.0.0.1:2"))
        assert isinstance(transport, SessionTransport)
        assert transport.http.connector is shared
        await transport.aclose()
        assert not shared.closed
