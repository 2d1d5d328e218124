"""A thousand concurrent calls, cancelled and disconnected at random: no call gets the reply of another."""

from __future__ import annotations

import asyncio
import gzip
import random
from collections import Counter

import attrs
import pytest

from wxtcb._http.connector_transport import ConnectorTransport
from wxtcb._http.transport import Request, Response, SendCancelled, SendFailure, Timeout
from wxtcb._protocol.codec import RequestBody

from .raw_http import TOKEN, plain

CALLS = 1000
AT_ONCE = 50


def in_one_piece(body):
    return plain(body, f"Content-Length: {len(body)}")


def in_chunks(body):
    halves = body[: len(body) // 2], body[len(body) // 2 :]
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(half), half) for half in halves)
    return plain(chunks + b"0\r\n\r\n", "Transfer-Encoding: chunked")


def zipped(body):
    packed = gzip.compress(body)
    return plain(packed, "Content-Encoding: gzip", f"Content-Length: {len(packed)}")


def and_close(body):
    return plain(body, "Connection: close")


@attrs.define(eq=False)
class RandomServer:
    """Server that replies to each request with its own body, in random ways and after random times, or disconnects."""

    dice: random.Random
    received: Counter = attrs.field(factory=Counter)

    async def serve(self, reader, writer):
        alive = True
        while alive:
            try:
                head = await reader.readuntil(b"\r\n\r\n")
            except asyncio.IncompleteReadError:
                return
            body = await reader.readexactly(int(head.lower().split(b"content-length:")[1].split()[0]))
            self.received[body] += 1
            alive = await self._answer(writer, body)

    async def _answer(self, writer, body):
        if self.dice.random() < 0.3:
            await asyncio.sleep(self.dice.random() * 0.02)
        way = self.dice.choices([in_one_piece, in_chunks, zipped, and_close, None], [10, 3, 3, 1, 1])[0]
        if way is None:
            return False
        data = way(body)
        cut = self.dice.randrange(len(data))
        writer.write(data[:cut])
        if self.dice.random() < 0.3:
            await asyncio.sleep(0)
        writer.write(data[cut:])
        await writer.drain()
        return way is not and_close


async def call(transport, dice, turns, number):
    """Make one call, which may be cancelled, and return the body that was sent and the result."""
    body = b"%d " % number + b"x" * dice.choice([0, 0, 0, 200, 300_000])
    async with turns:
        task = asyncio.create_task(transport.send(Request(f"/tcb/{number % 7}", RequestBody(body), TOKEN)))
        if dice.random() < 0.3:
            for _ in range(dice.randrange(50)):
                await asyncio.sleep(0)
            task.cancel()
        try:
            return body, await task
        except asyncio.CancelledError:
            return body, SendCancelled((), sent=False)  # before its first step


@pytest.mark.unmeasured
async def test_every_call_gets_its_own_reply_or_none(kind, listen, client_tls, secured):
    """No request is sent twice, `sent` is correct, and no connection leaks."""
    server = RandomServer(random.Random(0))
    url = await listen(server.serve, secured)
    transport = kind.open(url, Timeout(), ssl=client_tls)
    dice, turns = random.Random(0), asyncio.Semaphore(AT_ONCE)
    ended = await asyncio.gather(*(call(transport, dice, turns, number) for number in range(CALLS)))
    for body, outcome in ended:
        assert server.received[body] <= 1
        match outcome:
            case Response(status, answer):
                assert (status, answer) == (200, body)
            case SendCancelled(sent=sent) | SendFailure(sent=sent):
                assert sent or server.received[body] == 0
    kinds = Counter(type(outcome) for _, outcome in ended)
    assert min(kinds[Response], kinds[SendFailure], kinds[SendCancelled]) > 10
    connector = transport._connector if kind is ConnectorTransport else transport.http.connector
    assert connector._acquired == set()
    assert kind is not ConnectorTransport or transport._deadline_timer._deadlines == {}
    await transport.aclose()
