"""Several platforms in one process: they share a connection pool and nothing else."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web

import wxtcb
from wxtcb._http.client_session_transport import ClientSessionTransport
from wxtcb._http.connector_transport import open_transport
from wxtcb._http.transport import Response, SendFailure, Timeout
from wxtcb.api import environment
from wxtcb.secret import Secret

from .raw_http import OK, REQUEST

GOOD = Response(200, b'{"errcode":0}')


@pytest.fixture
async def office():
    """Serve the platform for any appid, and record the connection of each request."""
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
    """Create a connection pool, as a caller would."""
    return aiohttp.TCPConnector(limit=0)


@asynccontextmanager
async def http():
    """Open an aiohttp session, as a caller would."""
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.mark.parametrize("pool", [connector, http])
async def test_platforms_share_connections_and_nothing_else(office, pool):
    """Two platforms use one connection with different tokens, and one closes without the other."""
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


async def test_closed_transport_does_not_use_the_open_pool(serve, client_tls):
    """The pool belongs to the caller and stays open."""
    server = await serve(lambda number: OK)
    async with connector() as shared:
        one, two = (open_transport(server.url, Timeout(), http=shared, ssl=client_tls) for _ in range(2))
        assert await one.send(REQUEST) == GOOD
        await one.aclose()
        assert await one.send(REQUEST) == SendFailure("the connections are closed", sent=False, closed=True)
        assert await two.send(REQUEST) == GOOD
        await two.aclose()
    assert server.connections == 1


async def test_closing_a_session_ends_only_its_own_calls(serve, client_tls):
    """They fail as disconnected, and those of the other session go on."""
    server = await serve(lambda number: None if number == 1 else OK)
    async with connector() as shared:
        one, two = (open_transport(server.url, Timeout(), http=shared, ssl=client_tls) for _ in range(2))
        call = asyncio.create_task(one.send(REQUEST))
        await server.came.wait()
        await one.aclose()
        assert (await call).sent
        assert await two.send(REQUEST) == GOOD
        await two.aclose()


async def test_pool_of_the_caller_is_used_with_a_proxy(serve):
    """The session transport uses the connector and leaves it open."""
    async with connector() as shared:
        transport = open_transport("http://127.0.0.1:1", Timeout(), http=shared, proxy=Secret("http://127.0.0.1:2"))
        assert isinstance(transport, ClientSessionTransport)
        assert transport.http.connector is shared
        await transport.aclose()
        assert not shared.closed
