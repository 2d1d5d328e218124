"""A server that answers fixed JSON texts and does nothing else, so that the client is what is measured.

Run as a program it takes a free port of this machine, prints it, and serves until its standard input is closed. The
number given to it is that of the environments it lists; given a file with a key and certificates too, it speaks TLS.
"""

from __future__ import annotations

import asyncio
import ssl
import sys
from typing import Final, cast

import uvloop
from environments import listing

NEW_ENV: Final = b'{"errcode":0,"errmsg":"ok","tranid":"20251122000001","env":"bench-0123456789abcdef"}'
NEW_TOKEN: Final = b'{"component_access_token":"bench-token-0123456789abcdef","expires_in":7200}'

_END: Final = b"\r\n\r\n"
_LENGTH: Final = b"content-length:"


def _whole(body: bytes) -> bytes:
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json; encoding=utf-8\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


_ANSWER: Final = _whole(NEW_ENV)
_TOKEN: Final = _whole(NEW_TOKEN)
_LISTED: Final = _whole(listing(int(sys.argv[1])))


class Answering(asyncio.Protocol):
    """Answers every whole request on a connection, in order."""

    def __init__(self) -> None:
        self.received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.WriteTransport", transport)

    def data_received(self, data: bytes) -> None:
        self.received += data
        while (length := _length_of_first(self.received)) is not None:
            line = self.received[: self.received.find(b"\r\n")]
            self.received = self.received[length:]
            self.transport.write(_answer_to(line))


def _answer_to(line: bytes) -> bytes:
    if b"api_component_token" in line:
        return _TOKEN
    return _LISTED if b"describeenvs" in line else _ANSWER


def _length_of_first(received: bytes) -> int | None:
    """Return the bytes of the first request, head and body, or None while it is not whole."""
    end = received.find(_END)
    if end < 0:
        return None
    head = received[:end].lower() + b"\r\n"
    at = head.find(_LENGTH)
    body = int(head[at + len(_LENGTH) : head.find(b"\r\n", at)]) if at >= 0 else 0
    whole = end + len(_END) + body
    return whole if len(received) >= whole else None


async def serve(certificate: str | None = None) -> None:
    """Serve until standard input is closed."""
    context = None
    if certificate:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificate)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Answering, "127.0.0.1", 0, backlog=1024, ssl=context)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await loop.run_in_executor(None, sys.stdin.read)
    server.close()


if __name__ == "__main__":
    uvloop.run(serve(*sys.argv[2:]))
