"""Connections of the fast transport under unusual behaviour of servers, callers and clocks."""

from __future__ import annotations

import asyncio
import gc
import socket
import sys
import traceback

import aiohttp
import pytest

from wxtcb._http import connector_transport
from wxtcb._http.client_session_transport import ClientSessionTransport
from wxtcb._http.connector_transport import ConnectorTransport, is_supported, open_transport
from wxtcb._http.transport import Request, Response, SendFailure, Timeout, Vetoed
from wxtcb._protocol.codec import RequestBody
from wxtcb.secret import Secret

from .raw_http import LIMITS, OK, OVER, REQUEST, TOKEN, plain, until

GOOD = Response(200, b'{"errcode":0}')
HUGE = Request("/tcb/x", RequestBody(b"x" * 8_000_000), TOKEN)


def numbered_reply(number):
    """Return a reply that contains its number."""
    return plain(b"%d" % number, "Content-Length: 1")


def drop(things):
    """Drop the last references to *things*."""
    things.clear()
    gc.collect()


def pool_sizes(transport):
    """Return the numbers of connections in use and of idle ones."""
    connector = transport._connector
    return len(connector._acquired), sum(map(len, connector._conns.values()))


def is_idle_usable(transport):
    """Return whether there is an idle connection that is open and has received no data."""
    connector = transport._connector if isinstance(transport, ConnectorTransport) else transport.http.connector
    idle = [protocol for entries in connector._conns.values() for protocol, *_ in entries]
    return any(each.is_connected() and not each.should_close for each in idle)


async def test_request_head_equals_that_of_aiohttp(serve, connect_plain, connect_direct):
    """Apart from the order of headers, both transports send the same bytes."""
    server = await serve(OK)
    request = Request("/tcb/x", RequestBody(b'{"a":1}'), Secret("a+b/ü"), {"action": "ü &\r\nX-Injected: yes"})
    for connect in (connect_plain, connect_direct):
        await (await connect(server.url)).send(request)
    (plain_head, plain_body), (direct_head, direct_body) = server.requests
    assert direct_head.split("\r\n")[0] == plain_head.split("\r\n")[0]
    assert sorted(direct_head.split("\r\n")) == sorted(plain_head.split("\r\n"))
    assert direct_body == plain_body
    assert "\r\nX-Injected" not in direct_head


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://api.weixin.qq.com", "api.weixin.qq.com"),
        ("https://api.weixin.qq.com:443/", "api.weixin.qq.com"),
        ("https://api.example:8443/prefix", "api.example:8443"),
        ("http://[::1]:8080", "[::1]:8080"),
        ("http://bücher.example", "xn--bcher-kva.example"),
    ],
)
async def test_host_header_follows_the_standard(connect_direct, url, host):
    """A non-default port is included, IPv6 addresses have brackets, and names are ASCII."""
    transport = await connect_direct(url)
    assert f"\r\nHost: {host}\r\n".encode() in bytes(transport._build_head(REQUEST))


async def test_path_of_the_base_url_is_kept(serve, connect):
    """A base_url of a gateway may have a path."""
    server = await serve(OK)
    await (await connect(f"{server.url}/gateway")).send(REQUEST)
    assert server.requests[0][0].startswith("POST /gateway/tcb/x?access_token=")


async def test_connection_that_the_server_closed_is_not_used(serve, connect):
    """The next request opens a new connection and is sent once."""
    server = await serve(
        lambda number: OK if number > 1 else OK.replace(b"\r\n\r\n", b"\r\nX: Connection: close\r\n\r\n")
    )
    transport = await connect(server.url)
    assert await transport.send(REQUEST) == GOOD
    await server.gone.wait()
    await until(lambda: not is_idle_usable(transport))
    assert await transport.send(REQUEST) == GOOD
    assert (server.connections, len(server.requests)) == (2, 2)


async def test_connection_that_the_server_shut_down_for_writing_is_not_used(listen, connect_direct):
    """A half-closed connection is not reused."""
    connections = []

    async def say_last_word(reader, writer):
        connections.append(writer)
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK)
        writer.write_eof()
        await reader.read()

    url = await listen(say_last_word)
    transport = await connect_direct(url)
    assert await transport.send(REQUEST) == GOOD
    await until(lambda: not is_idle_usable(transport))
    assert await transport.send(REQUEST) == GOOD
    assert len(connections) == 2


async def test_connection_close_header_is_obeyed(serve, connect):
    """The connection is not reused even if the server keeps it open."""
    server = await serve(lambda _: OK.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n"))
    transport = await connect(server.url)
    assert await transport.send(REQUEST) == GOOD
    assert await transport.send(REQUEST) == GOOD
    assert server.connections == 2


async def test_reply_without_a_length_ends_with_the_connection(serve, connect):
    """Without length and chunks the reply is everything until the server closes."""
    server = await serve(plain(b'{"errcode":0}', "Connection: close"))
    assert await (await connect(server.url)).send(REQUEST) == GOOD


async def test_chunked_reply_is_joined(serve, connect):
    """The connection is reused afterwards."""
    server = await serve(plain(b'5\r\n{"err\r\n8\r\ncode":0}\r\n0\r\n\r\n', "Transfer-Encoding: chunked"))
    transport = await connect(server.url)
    assert [await transport.send(REQUEST), await transport.send(REQUEST)] == [GOOD, GOOD]
    assert server.connections == 1


async def test_interim_responses_are_skipped(serve, connect):
    """100 Continue and 103 Early Hints are not the response."""
    server = await serve(plain(b"", status="100 Continue") + plain(b"", "Link: </x>", status="103 Early Hints") + OK)
    transport = await connect(server.url)
    assert await transport.send(REQUEST) == GOOD
    assert await transport.send(REQUEST) == GOOD


async def test_protocol_switch_is_not_followed(serve, connect):
    """101 is returned as a response without body, and the connection is not reused."""
    server = await serve(
        lambda number: (
            OK if number > 1 else plain(b"noise", "Upgrade: x", "Connection: upgrade", status="101 Switching")
        )
    )
    transport = await connect(server.url)
    assert (await transport.send(REQUEST)).status == 101
    assert await transport.send(REQUEST) == GOOD
    assert server.connections == 2


@pytest.mark.parametrize("extra", [OK, b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwr", b"HTTP/1.1 200 OK\r\n"])
async def test_bytes_after_a_reply_are_not_the_next_reply(serve, connect_direct, extra):
    """Excess data of a server does not reach the next call."""
    server = await serve(lambda number: numbered_reply(number) + extra)
    transport = await connect_direct(server.url)
    assert await transport.send(REQUEST) == Response(200, b"1")
    outcome = await transport.send(REQUEST)
    assert outcome == Response(200, b"2") or (extra is not OK and isinstance(outcome, SendFailure))


async def test_unsolicited_reply_is_not_the_next_reply(listen, connect_direct):
    """Data on an idle connection makes the next call use another connection."""
    pushed = asyncio.Event()
    connections = []

    async def push(reader, writer):
        connections.append(writer)
        await reader.readuntil(b"\r\n\r\n")
        writer.write(numbered_reply(len(connections)))
        await pushed.wait()
        writer.write(OK)
        await reader.read()

    url = await listen(push)
    transport = await connect_direct(url)
    assert await transport.send(REQUEST) == Response(200, b"1")
    pushed.set()
    await until(lambda: not is_idle_usable(transport))
    assert await transport.send(REQUEST) == Response(200, b"2")


async def test_server_that_sends_first_is_abandoned(listen, connect_direct):
    """After three connections with data before the request nothing was sent."""
    connections = []

    async def greet(reader, writer):
        connections.append(writer)
        writer.write(b"220 ready\r\n")
        await reader.read()
        writer.close()

    class Late(aiohttp.TCPConnector):
        async def connect(self, *args):
            connection = await super().connect(*args)
            await until(lambda: connection.protocol.should_close)
            return connection

    url = await listen(greet)
    transport = await connect_direct(url)
    transport._connector = Late()
    assert await transport.send(REQUEST) == SendFailure("the connection was lost (ConnectionError)", sent=False)
    assert len(connections) == 3


async def test_reply_before_the_request_is_read_closes_the_connection(serve, connect_direct):
    """The unsent rest of the body does not precede the next request."""
    server = await serve(OK, read_body=False)
    transport = await connect_direct(server.url)
    assert await transport.send(HUGE) == GOOD
    assert pool_sizes(transport) == (0, 0)


async def test_slow_reply_does_not_extend_the_timeout(listen, connect, pass_time):
    """Single bytes do not restart the time limit."""
    passed = 0

    async def drip(reader, writer):
        nonlocal passed
        await reader.readuntil(b"\r\n\r\n")
        writer.write(plain(b"", "Content-Length: 1000"))
        while passed < OVER + 100 and not writer.is_closing():
            writer.write(b" ")
            await asyncio.sleep(0.005)
            pass_time(10)
            passed += 10
        await reader.read()

    url = await listen(drip)
    outcome = await (await connect(url, LIMITS)).send(REQUEST)
    assert outcome == SendFailure("no reply in time", sent=True, timeout=True)
    assert LIMITS.reply < passed < OVER + 100


async def test_reply_cut_short_by_the_timeout_is_not_a_reply(serve, connect, send_in_vain):
    """The part received so far is not taken for the whole."""
    server = await serve(plain(b'{"errcode":0}'))
    outcome = await send_in_vain(server, await connect(server.url, LIMITS))
    assert outcome == SendFailure("no reply in time", sent=True, timeout=True)


async def test_interim_response_does_not_stop_the_timeout(serve, connect, send_in_vain):
    """A server that sends only 100 Continue causes a timeout."""
    server = await serve(plain(b"", status="100 Continue"))
    outcome = await send_in_vain(server, await connect(server.url, LIMITS))
    assert outcome == SendFailure("no reply in time", sent=True, timeout=True)


@pytest.mark.parametrize("error", [ValueError, KeyError, RuntimeError, OSError, aiohttp.ClientError])
async def test_exception_of_the_pool_becomes_a_failure_without_secrets(connect_direct, error):
    """No exception leaves `send`, and its message is not repeated."""

    class Broken(aiohttp.TCPConnector):
        async def connect(self, *args):
            raise error(TOKEN.reveal())

    transport = await connect_direct("http://127.0.0.1:1")
    transport._connector = Broken()
    outcome = await transport.send(REQUEST)
    assert isinstance(outcome, SendFailure)
    assert not outcome.sent
    assert TOKEN.reveal() not in repr((outcome, transport))


async def test_every_attempt_has_its_own_deadline(serve, connect_direct, pass_time, settle):
    """The shared timer ends each attempt when its time is over."""
    server = await serve(None)
    transport = await connect_direct(server.url, LIMITS)
    calls = []

    async def begin(number):
        calls.extend(asyncio.create_task(transport.send(REQUEST)) for _ in range(number))
        await until(lambda: len(server.requests) == len(calls))

    for number in (2, 1, 1):
        await begin(number)
        pass_time(100)
    for over in (2, 3, 4):
        await until(lambda over=over: sum(call.done() for call in calls) >= over)
        await settle()
        assert [call.done() for call in calls] == [True] * over + [False] * (4 - over)
        pass_time(100)
    await begin(1)
    await settle()
    assert not calls[-1].done()
    pass_time(OVER)
    assert all([(await call).timeout for call in calls])


async def test_attempt_that_connects_too_late_sends_nothing(serve, connect_direct, pass_time):
    """No request is sent after its deadline."""

    class Slow(aiohttp.TCPConnector):
        async def connect(self, *args):
            pass_time(OVER)
            await asyncio.sleep(0)
            return await super().connect(*args)

    server = await serve(OK)
    transport = await connect_direct(server.url, LIMITS)
    transport._connector = Slow()
    assert await transport.send(REQUEST) == SendFailure("no connection in time", sent=False, timeout=True)
    assert server.requests == []


async def test_deadline_between_head_and_body_ends_the_attempt(serve, connect_direct, monkeypatch):
    """The body is not waited for."""
    server = await serve(plain(b"{", "Content-Length: 100"))
    transport = await connect_direct(server.url)
    read = aiohttp.client_proto.ResponseHandler.read

    async def read_late(protocol):
        message = await read(protocol)
        transport._deadline_timer.abort_all(TimeoutError)
        return message

    monkeypatch.setattr(aiohttp.client_proto.ResponseHandler, "read", read_late)
    async with asyncio.timeout(60):
        assert await transport.send(REQUEST) == SendFailure("no reply in time", sent=True, timeout=True)


@pytest.mark.parametrize("data", [None, plain(b"{", "Content-Length: 100"), plain(b"{")], ids=["head", "body", "end"])
async def test_closing_ends_attempts_in_flight(serve, connect_direct, settle, data):
    """They fail with a lost connection, whichever part of the reply they wait for."""
    server = await serve(data)
    transport = await connect_direct(server.url)
    call = asyncio.create_task(transport.send(REQUEST))
    await server.came.wait()
    await settle()
    await transport.aclose()
    assert await call == SendFailure("the connection was lost (ServerDisconnectedError)", sent=True)
    assert await transport.send(REQUEST) == SendFailure("the connections are closed", sent=False, closed=True)


async def test_closing_does_not_wait_for_a_server_that_does_not_read(listen, connect_direct):
    """Unwritten data is dropped on close and on cancellation."""
    came, over = asyncio.Semaphore(0), asyncio.Event()

    async def ignore(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        came.release()
        await over.wait()

    url = await listen(ignore)
    transport = await connect_direct(url)
    calls = [asyncio.create_task(transport.send(HUGE)) for _ in range(2)]
    for _ in calls:
        await came.acquire()
    calls[0].cancel()
    async with asyncio.timeout(60):
        assert (await calls[0]).sent
        await transport.aclose()
        assert (await calls[1]).sent


async def test_closing_during_a_dns_lookup_does_not_cancel_the_caller(connect):
    """The cancellation of aiohttp's own lookup becomes a failure."""
    called = asyncio.Event()

    class Resolver(aiohttp.abc.AbstractResolver):
        async def resolve(self, host, port=0, family=0):
            called.set()
            await asyncio.Event().wait()

        async def close(self):
            pass

    transport = await connect("http://api.example")
    connector = transport._connector if isinstance(transport, ConnectorTransport) else transport.http.connector
    await connector._resolver.close()
    connector._resolver = Resolver()
    call = asyncio.create_task(transport.send(REQUEST))
    await called.wait()
    await transport.aclose()
    assert await call == SendFailure("the connections were closed", sent=False, closed=True)


async def test_unclosed_transport_warns(serve, client_tls):
    """A transport that is dropped with open connections emits a ResourceWarning and is collected."""
    server = await serve(OK)
    transport = ConnectorTransport.open(server.url, Timeout(), ssl=client_tls)
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)
    await transport.send(REQUEST)
    forgotten = [transport]
    del transport
    with pytest.warns(ResourceWarning) as warned:
        drop(forgotten)
    assert [each for each in warned if "Unclosed connector" in str(each.message)]


async def test_vetoed_request_is_not_sent(serve, connect):
    """`may_send` is called once per request, and after False the server gets nothing."""
    server = await serve(OK)
    transport = await connect(server.url)
    said = iter([True, False, True])
    request = Request("/tcb/x", RequestBody(b"{}"), TOKEN, may_send=lambda: next(said))
    assert [await transport.send(request) for _ in range(3)] == [GOOD, Vetoed(), GOOD]
    assert len(server.requests) == 2


async def test_no_frame_holds_a_secret_if_a_signal_ends_the_write(serve, connect_direct):
    """A handler of a signal may raise SystemExit at any time; its traceback has the frames of wxtcb and asyncio."""
    server = await serve(OK)
    transport = await connect_direct(server.url)
    secret = "S3CRET-in-the-body"
    request = Request("/tcb/x", RequestBody(secret.encode()), TOKEN)
    assert await transport.send(request) == GOOD

    def exit_in_write(_frame, event, function):
        if event == "c_call" and function.__name__ in ("send", "write"):
            raise SystemExit

    sys.setprofile(exit_in_write)
    try:
        with pytest.raises(SystemExit) as caught:
            await transport.send(request)
    finally:
        sys.setprofile(None)
    frames = [frame for frame, _ in traceback.walk_tb(caught.value.__traceback__)][1:]
    assert {"_write", "write"} <= {frame.f_code.co_name for frame in frames}
    text = repr([frame.f_locals for frame in frames])
    assert TOKEN.reveal() not in text
    assert secret not in text


async def test_may_send_is_called_after_connecting(connect_direct):
    """A decision that changes during the connection setup counts."""
    request = Request("/tcb/x", RequestBody(b"{}"), may_send=lambda: pytest.fail("may_send was called"))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}"
        assert (await (await connect_direct(url)).send(request)).sent is False


async def test_exception_of_may_send_vetoes_the_request(serve, connect):
    """It is reported to the loop's exception handler."""
    reported = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context["exception"]))
    server = await serve(OK)
    request = Request("/tcb/x", RequestBody(b"{}"), may_send=lambda: 1 / 0)
    assert await (await connect(server.url)).send(request) == Vetoed()
    assert [type(error) for error in reported] == [ZeroDivisionError]
    assert server.requests == []


async def test_own_pool_of_the_fast_transport_has_no_limit(connect_direct):
    """Only the limiter bounds the calls."""
    connector = (await connect_direct("http://127.0.0.1:1"))._connector
    assert (connector.limit, connector.limit_per_host) == (0, 0)


async def test_fast_transport_is_the_default():
    """An aiohttp session of the caller and a proxy use the numbered_reply transport."""
    async with aiohttp.ClientSession() as http:
        made = [
            open_transport("http://127.0.0.1:1", Timeout()),
            open_transport("http://127.0.0.1:1", Timeout(), http=http),
            open_transport("http://127.0.0.1:1", Timeout(), proxy=Secret("http://127.0.0.1:2")),
        ]
        assert [type(each) for each in made] == [ConnectorTransport, ClientSessionTransport, ClientSessionTransport]
        for each in made:
            await each.aclose()


@pytest.mark.parametrize("change", ["name", "arguments"])
async def test_session_transport_is_used_if_aiohttp_has_changed(monkeypatch, change):
    """Missing or changed internals of aiohttp only cost speed."""
    is_supported.cache_clear()
    if change == "name":
        monkeypatch.setattr(connector_transport, "REQUIRED_ATTRIBUTES", ("connector.Connection.let_go", "client_proto"))
    else:
        monkeypatch.setattr(aiohttp.TCPConnector, "connect", lambda self: None)
    transport = open_transport("http://127.0.0.1:1", Timeout())
    is_supported.cache_clear()
    assert isinstance(transport, ClientSessionTransport)
    await transport.aclose()
