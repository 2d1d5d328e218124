"""Receiver of pushes, written from the protocol alone: decrypts messages, and responds from a script."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from xml.etree import ElementTree as ET

from aiohttp import web
from attrs import define, field
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from wxtcb.sandbox import Sandbox
from wxtcb.sandbox.credentials import MessageSettings


def read_push(query: Mapping[str, str], body: bytes, settings: MessageSettings, key: str = "") -> dict[str, str]:
    """Verify, decrypt and parse a push; anything invalid is an AssertionError."""
    outer = fields(body)
    parts = [settings.message_token, query["timestamp"], query["nonce"], outer["Encrypt"]]
    assert query["msg_signature"] == hashlib.sha1("".join(sorted(parts)).encode()).hexdigest()
    assert query["encrypt_type"] == "aes"
    secret = base64.b64decode(f"{key or settings.encoding_aes_key}=")
    decryptor = Cipher(algorithms.AES(secret), modes.CBC(secret[:16])).decryptor()
    plain = decryptor.update(base64.b64decode(outer["Encrypt"], validate=True)) + decryptor.finalize()
    assert len(plain) % 32 == 0
    assert plain.endswith(plain[-1:] * plain[-1])
    plain = plain[: -plain[-1]]
    end = 20 + int.from_bytes(plain[16:20], "big")
    assert plain[end:].decode() == outer["AppId"]
    return fields(plain[20:end])


def fields(document: bytes) -> dict[str, str]:
    """Return the texts of a flat XML document by element."""
    return {element.tag: element.text or "" for element in ET.fromstring(document)}


@define
class Receiver:
    """Receiver that responds to each push with the next of `responses`, then always with success."""

    url: str = ""
    pushes: list[tuple[Mapping[str, str], bytes]] = field(factory=list)
    responses: deque[web.StreamResponse] = field(factory=deque)
    headers: Mapping[str, str] = field(factory=dict)
    arrived: asyncio.Event = field(factory=asyncio.Event)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Record a push and respond."""
        self.pushes.append((dict(request.query), await request.read()))
        self.headers = request.headers
        self.arrived.set()
        return self.responses.popleft() if self.responses else web.Response(text="success")

    async def wait_for_pushes(self, count: int) -> None:
        """Wait until so many pushes have arrived."""
        while len(self.pushes) < count:
            self.arrived.clear()
            await asyncio.wait_for(self.arrived.wait(), 60)

    def tickets(self, sandbox: Sandbox) -> list[str]:
        """Return the received tickets in order."""
        return [read_push(*push, sandbox.world.message_settings)["ComponentVerifyTicket"] for push in self.pushes]


@asynccontextmanager
async def serve_receiver(handler: object = None) -> AsyncIterator[Receiver]:
    """Serve a receiver on loopback."""
    receiver = Receiver()
    app = web.Application()
    app.router.add_route("*", "/push", handler or receiver.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.05)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    receiver.url = f"http://127.0.0.1:{runner.addresses[0][1]}/push"
    try:
        yield receiver
    finally:
        await runner.cleanup()
