"""How pushes come in: as ASGI and through aiohttp.web. Thin: all that is said of a push is said behind them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final, Protocol

import attrs
from aiohttp import web
from aiohttp.http import HttpProcessingError

from wxtcb.events import PushRefused

MAX_BODY: Final = 64 * 1024
BODY_TIMEOUT: Final = 5.0
SUCCESS_BODY: Final = b"success"
_BODY_UNREAD_STATUSES: Final = (
    408,
    413,
    503,
)  # the rest of the body may still come, so nothing else can on this connection

Scope = MutableMapping[str, Any]  # these are ASGI's own types: what a key holds depends on the key
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ReadChunk = Callable[[], Awaitable[bytes | None]]


class BodyIncomplete(Exception):
    """The body will not come to its end: the sender went away, or wrote what no server can read."""


class PushHandler(Protocol):
    """What stands behind the doors."""

    async def handle_push(self, method: str, query: bytes, read_chunk: ReadChunk) -> PushRefused | None:
        """Take a push in, and return why it is refused, or None."""
        ...

    def open(self) -> None: ...

    async def aclose(self) -> None: ...


async def read_body(read_chunk: ReadChunk) -> bytes | PushRefused:
    """Return a body of at most 64 KiB that comes within five seconds, whatever its headers promise."""
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_TIMEOUT):
            while (piece := await read_chunk()) is not None:
                body += piece
                if len(body) > MAX_BODY:
                    return PushRefused("the body is too large", 413)
    except TimeoutError:
        return PushRefused("the body comes too slowly", 408)
    except BodyIncomplete:
        return PushRefused("the body broke off", 400)
    return bytes(body)


async def serve_asgi(handler: PushHandler, scope: Scope, receive: Receive, send: Send) -> None:
    """Serve one connection of an ASGI server: a request, or the lifespan; a WebSocket is refused."""
    if scope["type"] == "http":
        await _serve_request(handler, scope, receive, send)
    elif scope["type"] == "lifespan":
        await _serve_lifespan(handler, receive, send)
    else:
        await send({"type": "websocket.close"})


async def serve_aiohttp(handler: PushHandler, request: web.Request) -> web.Response:
    """Serve one request of aiohttp.web."""
    query = request.raw_path.partition("?")[2].encode("utf-8", "surrogateescape")

    async def next_piece() -> bytes | None:
        try:
            return await request.content.readany() or None
        except (web.RequestPayloadError, HttpProcessingError, ConnectionError):
            pass
        raise BodyIncomplete

    status, headers, body = _response_parts(await handler.handle_push(request.method, query, next_piece))
    response = web.Response(status=status, headers=headers, body=body)
    if status in _BODY_UNREAD_STATUSES:
        response.force_close()
    return response


@attrs.define(eq=False)
class _AsgiBody:
    receive: Receive
    is_complete: bool = False
    is_disconnected: bool = False

    async def read_chunk(self) -> bytes | None:
        if self.is_complete:
            return None
        message = await self.receive()
        if message["type"] == "http.disconnect":
            self.is_disconnected = True
            raise BodyIncomplete
        self.is_complete = not message.get("more_body", False)
        piece: bytes = message.get("body", b"")
        return piece


async def _serve_request(handler: PushHandler, scope: Scope, receive: Receive, send: Send) -> None:
    body = _AsgiBody(receive)
    refusal = await handler.handle_push(scope["method"], scope.get("query_string", b""), body.read_chunk)
    if body.is_disconnected:
        return
    status, headers, content = _response_parts(refusal)
    if status in _BODY_UNREAD_STATUSES and scope.get("http_version", "1.1").startswith("1"):
        headers["Connection"] = "close"
    lines = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    lines.append((b"content-length", str(len(content)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": lines})
    await send({"type": "http.response.body", "body": content})


async def _serve_lifespan(handler: PushHandler, receive: Receive, send: Send) -> None:
    await receive()
    handler.open()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await handler.aclose()
    await send({"type": "lifespan.shutdown.complete"})


def _response_parts(rejection: PushRefused | None) -> tuple[int, dict[str, str], bytes]:
    headers = {"Content-Type": "text/plain"}
    if rejection is None:
        return 200, headers, SUCCESS_BODY
    if rejection.status == 405:
        headers["Allow"] = "POST"
    return rejection.status, headers, rejection.reason.encode()
