"""Server with fixed JSON replies that does nothing else, so that the client dominates a measurement.

Run as a program, it listens on a free port of loopback, prints the port, and serves until its standard input is closed.
Its arguments are the number of environments that it lists and, for TLS, a file with a private key and certificates.
"""

from __future__ import annotations

import asyncio
import ssl
import sys
from typing import Final, cast

import uvloop
from environments import environment_list

NEW_ENV: Final = b'{"errcode":0,"errmsg":"ok","tranid":"20251122000001","env":"bench-0123456789abcdef"}'
NEW_TOKEN: Final = b'{"component_access_token":"bench-token-0123456789abcdef","expires_in":7200}'

_HEAD_END: Final = b"\r\n\r\n"
_LENGTH: Final = b"content-length:"


def _response(body: bytes) -> bytes:
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json; encoding=utf-8\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


_NEW_ENV_RESPONSE: Final = _response(NEW_ENV)
_TOKEN_RESPONSE: Final = _response(NEW_TOKEN)
_LIST_RESPONSE: Final = _response(environment_list(int(sys.argv[1])))


class ServerProtocol(asyncio.Protocol):
    """Replies to the requests of a connection in order."""

    def __init__(self) -> None:
        self.received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.WriteTransport", transport)

    def data_received(self, data: bytes) -> None:
        self.received += data
        while (length := _request_length(self.received)) is not None:
            request_line = self.received[: self.received.find(b"\r\n")]
            self.received = self.received[length:]
            self.transport.write(_select_response(request_line))


def _select_response(request_line: bytes) -> bytes:
    if b"api_component_token" in request_line:
        return _TOKEN_RESPONSE
    return _LIST_RESPONSE if b"describeenvs" in request_line else _NEW_ENV_RESPONSE


def _request_length(received: bytes) -> int | None:
    """Return the length of the first request, with head and body, or None if it is incomplete."""
    end = received.find(_HEAD_END)
    if end < 0:
        return None
    head = received[:end].lower() + b"\r\n"
    at = head.find(_LENGTH)
    body_length = int(head[at + len(_LENGTH) : head.find(b"\r\n", at)]) if at >= 0 else 0
    length = end + len(_HEAD_END) + body_length
    return length if len(received) >= length else None


async def serve(certificate: str | None = None) -> None:
    """Serve until standard input is closed."""
    context = None
    if certificate:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificate)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(ServerProtocol, "127.0.0.1", 0, backlog=1024, ssl=context)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await loop.run_in_executor(None, sys.stdin.read)
    server.close()


if __name__ == "__main__":
    uvloop.run(serve(*sys.argv[2:]))
