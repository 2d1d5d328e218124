"""Server adapters of the ticket receiver: ASGI and aiohttp.web. They only translate; the receiver decides."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web
from aiohttp.http import HttpProcessingError

from wxtcb.errors import TokenStoreError
from wxtcb.events import PushRefused

if TYPE_CHECKING:
    from wxtcb.tokens.ticket import TicketReceiver

MAX_BODY: Final = 64 * 1024
BODY_TIMEOUT: Final = 5.0
# With these statuses the rest of the body may still arrive. The connection is closed, because the rest would be taken
# for the next request.
_BODY_UNREAD_STATUSES: Final = (408, 413, 503)

# ASGI's own types. `Any`, because the type of a value depends on its key.
Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ReadChunk = Callable[[], Awaitable[bytes | None]]


class BodyIncomplete(Exception):
    """The body did not arrive in full: the sender disconnected, or sent invalid HTTP."""


async def read_body(read_chunk: ReadChunk) -> bytes | PushRefused:
    """Return the body; reject one that is over 64 KiB or takes over five seconds, regardless of its headers."""
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_TIMEOUT):
            while (chunk := await read_chunk()) is not None:
                body += chunk
                if len(body) > MAX_BODY:
                    return PushRefused("the body is too large", 413)
    except TimeoutError:
        return PushRefused("the body arrives too slowly", 408)
    except BodyIncomplete:
        return PushRefused("the body is incomplete", 400)
    return bytes(body)


def to_address(peer: str | None) -> str:
    """Return the IP address in *peer* in its usual form, or "" if it is none.

    A server that trusts a proxy takes the address from a header, which can contain any text.
    """
    try:
        # Without the zone of an IPv6 address, which can contain any text, too.
        address = ipaddress.ip_address((peer or "").partition("%")[0])
    except ValueError:
        return ""
    # A socket for both versions reports 192.0.2.1 as ::ffff:192.0.2.1.
    return str(getattr(address, "ipv4_mapped", None) or address)


async def serve_asgi(receiver: TicketReceiver, scope: Scope, receive: Receive, send: Send) -> None:
    """Serve one ASGI connection: a request or the lifespan. A WebSocket is closed."""
    if scope["type"] == "http":
        await _serve_request(receiver, scope, receive, send)
    elif scope["type"] == "lifespan":
        await receive()
        try:
            await receiver.__aenter__()
        except TokenStoreError as error:
            # The server logs the message and exits.
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await receiver.aclose()
        await send({"type": "lifespan.shutdown.complete"})
    else:
        await send({"type": "websocket.close"})


async def serve_aiohttp(receiver: TicketReceiver, request: web.Request) -> web.Response:
    """Serve one request of aiohttp.web."""
    # The raw path, because aiohttp's parsed query is decoded and re-encoded, and the signature covers the bytes.
    query = request.raw_path.partition("?")[2].encode("utf-8", "surrogateescape")

    async def read_chunk() -> bytes | None:
        try:
            return await request.content.readany() or None
        except (web.RequestPayloadError, HttpProcessingError, ConnectionError) as error:
            raise BodyIncomplete from error

    refusal = await receiver.handle_push(request.method, query, read_chunk, path=request.path, peer=request.remote)
    status, headers, body = _response_parts(refusal)
    response = web.Response(status=status, headers=headers, body=body)
    if status in _BODY_UNREAD_STATUSES:
        response.force_close()
    return response


async def _serve_request(receiver: TicketReceiver, scope: Scope, receive: Receive, send: Send) -> None:
    is_complete = is_disconnected = False

    async def read_chunk() -> bytes | None:
        nonlocal is_complete, is_disconnected
        if is_complete:
            return None
        message = await receive()
        if message["type"] == "http.disconnect":
            is_disconnected = True
            raise BodyIncomplete
        is_complete = not message.get("more_body", False)
        chunk: bytes = message.get("body", b"")
        return chunk

    client = scope.get("client")
    refusal = await receiver.handle_push(
        scope["method"],
        scope.get("query_string", b""),
        read_chunk,
        path=scope.get("path", ""),
        peer=client[0] if client else None,
    )
    # After a disconnect, ASGI servers ignore messages or raise.
    if is_disconnected:
        return
    status, headers, content = _response_parts(refusal)
    # HTTP/2 and 3 have no Connection header; there a stream can end early without harm.
    if status in _BODY_UNREAD_STATUSES and scope.get("http_version", "1.1").startswith("1"):
        headers["Connection"] = "close"
    encoded = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    encoded.append((b"content-length", str(len(content)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": encoded})
    await send({"type": "http.response.body", "body": content})


def _response_parts(rejection: PushRefused | None) -> tuple[int, dict[str, str], bytes]:
    headers = {"Content-Type": "text/plain"}
    if rejection is None:
        return 200, headers, b"success"
    if rejection.status == 405:
        headers["Allow"] = "POST"
    return rejection.status, headers, rejection.reason.encode()
