"""Data on a connection before a request is sent: unsolicited replies, a close, and no secret in any frame."""

from __future__ import annotations

import asyncio
import contextlib
import select
import socket
import ssl
import sys
import threading

import attrs
import pytest
import uvloop

from wxtcb._http.client_session_transport import ClientSessionTransport
from wxtcb._http.connector_transport import ConnectorTransport
from wxtcb._http.transport import Request, Response, SendFailure, Timeout, Vetoed, is_stale
from wxtcb._protocol.codec import RequestBody

from .raw_http import OK, REQUEST, TOKEN, plain

GOOD = Response(200, b'{"errcode":0}')


async def read_request(reader):
    """Return the body of the next request."""
    head = await reader.readuntil(b"\r\n\r\n")
    return await reader.readexactly(int(head.lower().split(b"content-length:")[1].split()[0]))


async def test_late_copy_of_a_reply_is_not_the_reply_to_another_call(listen, connect, settle):
    """If each reply arrives twice, each call gets its own or was not sent."""
    sent, taken, repeated = [], asyncio.Event(), asyncio.Event()

    async def answer_twice(reader, writer):
        with contextlib.suppress(asyncio.IncompleteReadError):
            while True:
                sent.append(await read_request(reader))
                reply = plain(sent[-1], f"Content-Length: {len(sent[-1])}")
                writer.write(reply)
                await taken.wait()
                taken.clear()
                writer.write(reply)
                repeated.set()

    transport = await connect(await listen(answer_twice))
    for number in range(6):
        body = b"%d" % number
        outcome = await transport.send(Request("/tcb/x", RequestBody(body), TOKEN))
        if body in sent:
            assert outcome == Response(200, body)
            taken.set()
            await repeated.wait()
            repeated.clear()
        else:
            assert isinstance(outcome, SendFailure)
            assert not outcome.sent
        await settle()
        withheld = await transport.send(Request("/tcb/x", RequestBody(b"never"), TOKEN, may_send=lambda: False))
        assert withheld == Vetoed() or (isinstance(withheld, SendFailure) and not withheld.sent)
        await settle()
    assert b"never" not in sent
    assert len(sent) > 2


def send_first(transport, *, may):
    """Make the server send data before the request, and set whether the request *may* be sent."""
    (protocol,) = transport.http.connector._acquired
    protocol.data_received(OK)
    return may


async def test_reply_before_the_body_prevents_sending(serve, connect_plain):
    """A connection that received data at the last moment is not written to."""
    server = await serve(OK)
    transport = await connect_plain(server.url)

    request = Request("/tcb/x", RequestBody(b"{}"), TOKEN, may_send=lambda: send_first(transport, may=True))
    outcome = await transport.send(request)
    assert isinstance(outcome, SendFailure)
    assert not outcome.sent
    assert server.requests == []
    assert await transport.send(REQUEST) == GOOD


async def test_vetoed_request_ignores_data_sent_first(serve, connect_plain):
    """The result is the veto, with any data on the connection."""
    server = await serve(OK)
    transport = await connect_plain(server.url)

    request = Request("/tcb/x", RequestBody(b"{}"), TOKEN, may_send=lambda: send_first(transport, may=False))
    assert await transport.send(request) == Vetoed()
    assert server.requests == []


async def test_close_is_noticed_before_the_next_request(listen, connect_direct):
    """A server that closes after each reply causes no failed request."""

    async def answer_once(reader, writer):
        await read_request(reader)
        writer.write(OK)

    transport = await connect_direct(await listen(answer_once))
    assert [await transport.send(REQUEST) for _ in range(20)] == [GOOD] * 20


@attrs.define(eq=False)
class ClosingServer:
    """Server in a thread of its own that answers one request per connection, and closes when the test says so."""

    listener: socket.socket = attrs.field(factory=lambda: socket.create_server(("127.0.0.1", 0)))
    tls: ssl.SSLContext | None = None
    bodies: list[bytes] = attrs.field(factory=list)
    may_close: threading.Semaphore = attrs.field(factory=lambda: threading.Semaphore(0))
    closed: threading.Semaphore = attrs.field(factory=lambda: threading.Semaphore(0))

    @property
    def url(self):
        scheme = "https" if self.tls else "http"
        return f"{scheme}://127.0.0.1:{self.listener.getsockname()[1]}"

    def serve(self, count):
        for _ in range(count):
            connection, _ = self.listener.accept()
            with self.tls.wrap_socket(connection, server_side=True) if self.tls else connection as wrapped:
                self.bodies.append(self._read(wrapped))
                wrapped.sendall(OK)
                self.may_close.acquire()
            self.closed.release()

    @staticmethod
    def _read(connection):
        received = b""
        while not received.endswith(REQUEST.body.data):
            received += connection.recv(65536)
        return received


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
@pytest.mark.parametrize("is_direct", [True, False], ids=["connector", "session"])
def test_request_is_not_written_to_a_connection_that_closed_while_the_loop_was_held(
    secured, client_tls, new_loop, is_direct
):
    """Each of 200 requests arrives on a new connection; a create would otherwise have an unknown outcome."""
    # Fewer with TLS, because a handshake takes much longer.
    server, count = ClosingServer(tls=secured), 20 if secured else 200

    async def send_all():
        open_transport = ConnectorTransport.open if is_direct else ClientSessionTransport.open
        transport = open_transport(server.url, Timeout(), ssl=client_tls if secured else None)
        outcomes = []
        for _ in range(count):
            while not isinstance(outcome := await transport.send(REQUEST), Response):
                # A failure before the request was written is repeated by the executor.
                assert not outcome.sent
            outcomes.append(outcome)
            server.may_close.release()
            # Blocks the event loop, as a slow handler does, until the server has closed.
            server.closed.acquire()
        await transport.aclose()
        return outcomes

    thread = threading.Thread(target=server.serve, args=[count])
    thread.start()
    with asyncio.Runner(loop_factory=new_loop) as runner, server.listener:
        assert runner.run(send_all()) == [GOOD] * count
        thread.join()
    assert len(server.bodies) == count


@pytest.mark.parametrize("answer", [None, 1, "yes", asyncio.Future], ids=str)
async def test_may_send_must_return_true(serve, connect, answer):
    """Other true values and awaitables veto the request."""
    server = await serve(OK)
    said = answer() if answer is asyncio.Future else answer
    request = Request("/tcb/x", RequestBody(b"{}"), TOKEN, may_send=lambda: said)
    assert await (await connect(server.url)).send(request) == Vetoed()
    assert server.requests == []


async def test_no_frame_holds_a_secret_while_may_send_runs(serve, connect):
    """Frames seen from `may_send`, or from its exception, contain no token and no body."""
    server = await serve(OK)
    secret, seen = "S3CRET-in-the-body", []

    def inspect_frames():
        frame = sys._getframe(1)
        while frame is not None and frame.f_code is not test_code:
            seen.append((frame.f_code.co_name, repr(frame.f_locals)))
            frame = frame.f_back
        return True

    test_code = sys._getframe().f_code
    transport = await connect(server.url)
    for _ in range(2):
        assert (
            await transport.send(Request("/tcb/x", RequestBody(secret.encode()), TOKEN, may_send=inspect_frames))
            == GOOD
        )
    assert "is_vetoed" in dict(seen)
    assert not [name for name, text in seen if TOKEN.reveal() in text or secret in text]


@pytest.mark.parametrize("has_poll", [True, False], ids=["poll", "no poll"])
async def test_connection_with_unread_data_is_stale(monkeypatch, has_poll):
    """Windows has no `select.poll`."""
    if not has_poll:
        monkeypatch.delattr(select, "poll")
    near, far = socket.socketpair()
    with far:
        connection, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, sock=near)
        fresh = await is_stale(connection)
        # Otherwise the loop would read the data.
        connection.pause_reading()
        far.send(b"x")
        assert (fresh, await is_stale(connection)) == (False, True)
        connection.close()
