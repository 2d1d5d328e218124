"""How pushes come in: as ASGI and through aiohttp.web. Thin: all that is said of a push is said behind them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final, Protocol

import attrs
from aiohttp import web
from aiohttp.http import HttpProcessingError

from wxtcb.events import PushRefused

LARGEST_BODY: Final = 64 * 1024
BODY_PATIENCE: Final = 5.0
SUCCESS: Final = b"success"
_UNREAD: Final = (408, 413, 503)  # the rest of the body may still come, so nothing else can on this connection

Scope = MutableMapping[str, Any]  # these are ASGI's own types: what a key holds depends on the key
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
NextPiece = Callable[[], Awaitable[bytes | None]]


class BrokenOff(Exception):
    """The body will not come to its end: the sender went away, or wrote what no server can read."""


class Behind(Protocol):
    """What stands behind the doors."""

    async def answer(self, method: str, query: bytes, next_piece: NextPiece) -> PushRefused | None:
        """Take a push in, and return why it is refused, or None."""
        ...

    def open(self) -> None: ...

    async def aclose(self) -> None: ...


async def read_body(next_piece: NextPiece) -> bytes | PushRefused:
    """Return a body of at most 64 KiB that comes within five seconds, whatever its headers promise."""
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_PATIENCE):
            while (piece := await next_piece()) is not None:
                body += piece
                if len(body) > LARGEST_BODY:
                    return PushRefused("the body is too large", 413)
    except TimeoutError:
        return PushRefused("the body comes too slowly", 408)
    except BrokenOff:
        return PushRefused("the body broke off", 400)
    return bytes(body)


async def serve_asgi(behind: Behind, scope: Scope, receive: Receive, send: Send) -> None:
    """Serve one connection of an ASGI server: a request, or the lifespan; a WebSocket is refused."""
    if scope["type"] == "http":
        await _serve_request(behind, scope, receive, send)
    elif scope["type"] == "lifespan":
        await _live(behind, receive, send)
    else:
        await send({"type": "websocket.close"})


async def serve_aiohttp(behind: Behind, request: web.Request) -> web.Response:
    """Serve one request of aiohttp.web."""
    query = request.raw_path.partition("?")[2].encode("utf-8", "surrogateescape")

    async def next_piece() -> bytes | None:
        try:
            return await request.content.readany() or None
        except (web.RequestPayloadError, HttpProcessingError, ConnectionError):
            pass
        raise BrokenOff

    status, headers, body = _written(await behind.answer(request.method, query, next_piece))
    response = web.Response(status=status, headers=headers, body=body)
    if status in _UNREAD:
        response.force_close()
    return response


@attrs.define(eq=False)
class _AsgiBody:
    receive: Receive
    is_whole: bool = False
    hung_up: bool = False

    async def next_piece(self) -> bytes | None:
        if self.is_whole:
            return None
        message = await self.receive()
        if message["type"] == "http.disconnect":
            self.hung_up = True
            raise BrokenOff
        self.is_whole = not message.get("more_body", False)
        piece: bytes = message.get("body", b"")
        return piece


async def _serve_request(behind: Behind, scope: Scope, receive: Receive, send: Send) -> None:
    body = _AsgiBody(receive)
    refusal = await behind.answer(scope["method"], scope.get("query_string", b""), body.next_piece)
    if body.hung_up:
        return
    status, headers, content = _written(refusal)
    if status in _UNREAD and scope.get("http_version", "1.1").startswith("1"):
        headers["Connection"] = "close"
    lines = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    lines.append((b"content-length", str(len(content)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": lines})
    await send({"type": "http.response.body", "body": content})


async def _live(behind: Behind, receive: Receive, send: Send) -> None:
    await receive()
    behind.open()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await behind.aclose()
    await send({"type": "lifespan.shutdown.complete"})


def _written(refusal: PushRefused | None) -> tuple[int, dict[str, str], bytes]:
    headers = {"Content-Type": "text/plain"}
    if refusal is None:
        return 200, headers, SUCCESS
    if refusal.status == 405:
        headers["Allow"] = "POST"
    return refusal.status, headers, refusal.reason.encode()
