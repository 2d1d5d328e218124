"""Raw HTTP server, and the request that is sent to it."""

from __future__ import annotations

import asyncio
import contextlib

import attrs

from wxtcb._http.transport import Request, Timeout
from wxtcb._protocol.codec import RequestBody
from wxtcb.secret import Secret

OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 13\r\n\r\n" + b'{"errcode":0}'
TOKEN = Secret("T0KEN-of-the-test")
REQUEST = Request("/tcb/x", RequestBody(b'{"a":1}'), TOKEN)
LIMITS = Timeout(connect=200, reply=100)  # long enough for a busy machine; tests advance the time with `pass_time`
OVER = 301


async def until(condition):
    """Wait until *condition* is true; fail after a minute."""
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.001)


@attrs.define(eq=False)
class Server:
    """Raw HTTP server: `answer` gets the number of a request (from 1) and returns bytes, or None for no response.

    If `answer` returns an exception class, the connection is closed without a response.
    """

    answer: object
    read_body: bool = True
    requests: list = attrs.field(factory=list)
    connections: int = 0
    came: asyncio.Event = attrs.field(factory=asyncio.Event)
    gone: asyncio.Event = attrs.field(factory=asyncio.Event)
    url: str = ""

    async def serve(self, reader, writer):
        self.connections += 1
        try:
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                while await self._serve_one(reader, writer):
                    pass
        finally:
            writer.close()
            self.gone.set()

    async def _serve_one(self, reader, writer):
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        size = int(head.lower().split("content-length:")[1].split()[0])
        body = await reader.readexactly(size) if self.read_body else b""
        self.requests.append((head, body))
        self.came.set()
        data = self.answer(len(self.requests))
        if data is None:
            await reader.read()
        if not isinstance(data, bytes):
            return False
        writer.write(data)
        await writer.drain()
        return b"Connection: close" not in data


def plain(body, *headers, status="200 OK"):
    """Return a response that ends with the connection, unless *headers* contain a length."""
    return "\r\n".join([f"HTTP/1.1 {status}", *headers, "", ""]).encode() + body
