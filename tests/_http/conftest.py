"""Fixtures: both transports, over plain sockets and over TLS."""

from __future__ import annotations

import asyncio
import contextlib
import ssl

import pytest
import trustme

from wxtcb._http.client_session_transport import ClientSessionTransport
from wxtcb._http.connector_transport import ConnectorTransport
from wxtcb._http.transport import Timeout

from .raw_http import OVER, REQUEST, Server


@pytest.fixture(scope="session")
def authority():
    """Return a certificate authority for 127.0.0.1."""
    return trustme.CA()


@pytest.fixture(scope="session")
def client_tls(authority):
    """Return a client context that trusts the authority."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


@pytest.fixture(scope="session")
def server_tls(authority):
    """Return a server context with a certificate for 127.0.0.1."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


@pytest.fixture(params=["http", "tls"])
def scheme(request):
    """Run the test without and with TLS."""
    return request.param


@pytest.fixture
def secured(scheme, server_tls):
    """Return the TLS context for a server of the scheme under test, or None."""
    return server_tls if scheme == "tls" else None


@pytest.fixture
async def serve(secured):
    """Return a function that starts a `Server`; all of them stop with the test."""
    async with contextlib.AsyncExitStack() as stack:

        async def start(answer, **options):
            server = Server(answer if callable(answer) else lambda _: answer, **options)
            listener = await asyncio.start_server(server.serve, "127.0.0.1", 0, ssl=secured)
            stack.callback(listener.close)
            prefix = "https" if secured else "http"
            server.url = f"{prefix}://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
            return server

        yield start


@pytest.fixture
async def listen():
    """Return a function that serves each connection with a coroutine function; all end with the test."""
    listeners, tasks = [], set()

    async def start(serve_one, secured=None):
        async def handle(reader, writer):
            tasks.add(asyncio.current_task())
            with contextlib.suppress(ConnectionError, asyncio.CancelledError):
                await serve_one(reader, writer)
            writer.close()

        listener = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=secured)
        listeners.append(listener)
        return f"{'https' if secured else 'http'}://127.0.0.1:{listener.sockets[0].getsockname()[1]}"

    yield start
    for listener in listeners:
        listener.close()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks)
    await asyncio.sleep(0.01)


@pytest.fixture(params=[ClientSessionTransport, ConnectorTransport], ids=["plain", "direct"])
def kind(request):
    """Run the test with either transport."""
    return request.param


@pytest.fixture
async def connect(kind, client_tls):
    """Return a function that opens a transport of the kind; all of them close with the test."""
    async with opening(kind, client_tls) as start:
        yield start


@pytest.fixture
async def connect_plain(client_tls):
    """Return a function that opens a transport on `aiohttp.ClientSession`."""
    async with opening(ClientSessionTransport, client_tls) as start:
        yield start


@pytest.fixture
async def connect_direct(client_tls):
    """Return a function that opens the fast transport."""
    async with opening(ConnectorTransport, client_tls) as start:
        yield start


@contextlib.asynccontextmanager
async def opening(kind, client_tls):
    async with contextlib.AsyncExitStack() as stack:

        async def start(url, limits=None, **options):
            transport = kind.open(url, limits or Timeout(), **{"ssl": client_tls, **options})
            stack.push_async_callback(transport.aclose)
            return transport

        yield start


@pytest.fixture
def send_in_vain(pass_time, settle):
    """Return a function that sends to a server which does not respond, until the attempt times out."""

    async def send(server, transport):
        call = asyncio.create_task(transport.send(REQUEST))
        await server.came.wait()
        await settle()
        assert not call.done()
        pass_time(OVER)
        async with asyncio.timeout(60):
            return await call

    return send
