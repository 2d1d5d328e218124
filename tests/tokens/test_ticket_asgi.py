"""Tests of the receiver in real servers, over sockets: uvicorn, alone and in frameworks, and aiohttp.web."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket

import aiohttp
import pytest
import pytest_asyncio
import uvicorn
from aiohttp import web
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.routing import Route

from wxtcb.events import PushRefused, TicketReceived
from wxtcb.tokens.stores import MemoryStore
from wxtcb.tokens.ticket import TicketReceiver, asgi

from .push_messages import APPID, KEY, TOKEN, pushed

PATH = "/wechat/push"


def ticket(created=100):
    """Return query and body of a push."""
    message = (
        f"<xml><AppId>{APPID}</AppId><CreateTime>{created}</CreateTime><InfoType>component_verify_ticket</InfoType>"
        f"<ComponentVerifyTicket>ticket@@@{created}</ComponentVerifyTicket></xml>"
    )
    query, body = pushed(message)
    return query.decode(), body


def alone(receiver):
    """Return the receiver itself as the app of uvicorn."""
    return receiver


def in_starlette(receiver):
    """Return a Starlette app with the receiver on a route."""
    return Starlette(routes=[Route(PATH, receiver)])


def in_fastapi(receiver):
    """Return a FastAPI app with the receiver on a route, opened by its lifespan."""

    @contextlib.asynccontextmanager
    async def lifespan(_):
        async with receiver:
            yield

    app = FastAPI(lifespan=lifespan)
    app.router.routes.append(Route(PATH, receiver))
    return app


@contextlib.asynccontextmanager
async def uvicorn_serving(app):
    """Serve on a free port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = uvicorn.Config(app, log_level="error")
        config.load()
        server = uvicorn.Server(config)
        server.lifespan = config.lifespan_class(config)
        # `serve` does this too, and then polls ten times a second for its end.
        await server.startup(sockets=[listener])
        yield listener.getsockname()[1]
        await server.shutdown(sockets=[listener])


@contextlib.asynccontextmanager
async def aiohttp_serving(receiver):
    """Serve on a free port."""
    app = web.Application()
    app.router.add_post(PATH, receiver.handle)
    runner = web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield runner.addresses[0][1]
    await runner.cleanup()


SERVERS = {
    "uvicorn": lambda receiver: uvicorn_serving(alone(receiver)),
    "fastapi": lambda receiver: uvicorn_serving(in_fastapi(receiver)),
    "aiohttp": aiohttp_serving,
}


class EventLog(list):
    """The events so far, and a way to wait for the next one."""

    def __init__(self):
        super().__init__()
        self.bell = asyncio.Event()

    def append(self, event):
        super().append(event)
        self.bell.set()


@pytest.fixture
def events():
    """Return a list that collects the events."""
    return EventLog()


@pytest.fixture
def receiver(events):
    """Return a receiver."""
    return TicketReceiver(
        component_appid=APPID,
        message_token=TOKEN,
        encoding_aes_key=KEY,
        token_store=MemoryStore(),
        hooks=(events.append,),
        clock=lambda: 300.0,
    )


@pytest_asyncio.fixture(params=SERVERS)
async def port(receiver, request):
    """Return the port of each server in turn."""
    async with asyncio.timeout(300), SERVERS[request.param](receiver) as port:
        yield port
    await receiver.aclose()


def format_request(query, body, *, method="POST", version="1.1", headers=""):
    """Return a request as bytes."""
    head = f"{method} {PATH}?{query} HTTP/{version}\r\nHost: x\r\nContent-Length: {len(body)}\r\n{headers}\r\n"
    return head.encode() + body


async def ask(port, *pieces, answers=1, ends=False):
    """Send *pieces* over one connection, read that many answers, and return their statuses.

    Where the connection *ends* after them, wait until it has.
    """
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    statuses = []
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        for _ in range(answers):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            statuses.append(int(head.split()[1]))
            await reader.readexactly(int(re.search(r"(?i)content-length: (\d+)", head)[1]))
        assert not ends or await reader.read() == b""
        return statuses
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def test_connection_is_usable_after_a_rejection(port, events):
    """A push on the same connection is accepted after a forged or malformed one."""
    query, body = ticket()
    pieces = format_request(query + "0", body), format_request(query, b"<xml/>"), format_request(query, body)
    assert await ask(port, *pieces, answers=3) == [403, 400, 200]
    assert events[-1] == TicketReceived(100, is_newest=True)


async def test_starlette_route_works(receiver):
    """Without `async with` it works from the first request on."""
    async with uvicorn_serving(in_starlette(receiver)) as port:
        assert await ask(port, format_request(*ticket()), format_request(*ticket(), method="PUT"), answers=2) == [
            200,
            405,
        ]
    await receiver.aclose()


async def test_chunked_body_is_accepted(port):
    """A chunked body needs no Content-Length."""
    query, body = ticket()
    head = f"POST {PATH}?{query} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    chunks = [b"%x\r\n%b\r\n" % (len(body[at : at + 50]), body[at : at + 50]) for at in range(0, len(body), 50)]
    assert await ask(port, head, *chunks, b"0\r\n\r\n") == [200]


async def test_http_1_0_is_served(port):
    """An HTTP/1.0 connection ends after the answer."""
    assert await ask(port, format_request(*ticket(), version="1.0"), ends=True) == [200]


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
async def test_other_methods_are_rejected(port, method):
    """Another method is rejected by the receiver, or by the router before it."""
    assert await ask(port, format_request(ticket()[0], b"", method=method)) == [405]


@pytest.mark.parametrize("promised", [10**12, 10**5])
async def test_large_body_is_rejected_while_it_arrives(port, promised):
    """A body is rejected after 64 KiB, regardless of its Content-Length."""
    head = f"POST {PATH}?{ticket()[0]} HTTP/1.1\r\nHost: x\r\nContent-Length: {promised}\r\n\r\n".encode()
    assert await ask(port, head + b"x" * (asgi.MAX_BODY + 1)) == [413]


async def test_slow_body_is_rejected(port, monkeypatch):
    """The receiver limits the time of a body, because the servers do not."""
    monkeypatch.setattr(asgi, "BODY_TIMEOUT", 0.05)
    query, body = ticket()
    assert await ask(port, format_request(query, body)[:-10]) == [408]


async def test_disconnected_sender_does_not_affect_the_next(port, events):
    """The next push is accepted."""
    query, body = ticket()
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(format_request(query, body)[:-10])
    await writer.drain()
    writer.close()
    await events.bell.wait()
    assert events == [PushRefused("the body is incomplete", 400, "127.0.0.1")]
    assert await ask(port, format_request(query, body)) == [200]


@pytest.mark.unmeasured
async def test_a_thousand_deliveries_at_once_are_one_ticket(port, events):
    """Each of a thousand deliveries is answered with success, and one ticket is stored."""
    query, body = ticket(200)
    async with aiohttp.ClientSession() as client:

        async def push():
            async with client.post(f"http://127.0.0.1:{port}{PATH}?{query}", data=body) as answer:
                return answer.status, await answer.read()

        answers = await asyncio.gather(*(push() for _ in range(1000)))
    assert set(answers) == {(200, b"success")}
    assert events.count(TicketReceived(200, is_newest=True)) == 1
    assert events.count(TicketReceived(200, is_newest=False)) == 999
