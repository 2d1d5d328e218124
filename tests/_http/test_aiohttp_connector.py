"""What servers, callers and clocks may do to the connections of the faster transport."""

from __future__ import annotations

import asyncio
import gc
import socket

import aiohttp
import pytest

from wxtcb._http import aiohttp_connector
from wxtcb._http.aiohttp_connector import ConnectorTransport, is_supported, open_transport
from wxtcb._http.aiohttp_session import SessionTransport
from wxtcb._http.transport import Request, Response, SendFailure, Timeout, Vetoed
from wxtcb._protocol.codec import RequestBody
from wxtcb.secret import Secret

from .raw_http import LIMITS, OK, OVER, REQUEST, TOKEN, plain, until

GOOD = Response(200, b'{"errcode":0}')
HUGE = Request("/tcb/x", RequestBody(b"x" * 8_000_000), TOKEN)


def other(number):
    """Write a reply that tells its number."""
    return plain(b"%d" % number, "Content-Length: 1")


def forget(things):
    """Drop the last references to *things*."""
    things.clear()
    gc.collect()


def pool(transport):
    """Return how many connections are in use, and how many are kept for later."""
    connector = transport._connector
    return len(connector._acquired), sum(map(len, connector._conns.values()))


def is_idle_usable(transport):
    """Tell whether a connection is kept that is open and on which nothing has come."""
    connector = transport._connector if isinstance(transport, ConnectorTransport) else transport.http.connector
    kept = [protocol for kept in connector._conns.values() for protocol, *_ in kept]
    return any(each.is_connected() and not each.should_close for each in kept)


async def test_request_has_the_head_that_aiohttp_writes(serve, connect_plain, connect_direct):
    """Byte for byte the faster transport sends the headers of the plain one, their order aside."""
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
async def test_host_is_named_as_the_standard_says(connect_direct, url, host):
    """A port is named unless it is the usual one, an IPv6 address stands in brackets, a name in ASCII."""
    transport = await connect_direct(url)
    assert f"\r\nHost: {host}\r\n".encode() in transport._build_head(REQUEST)


async def test_prefix_of_the_base_url_is_kept(serve, connect):
    """A base_url behind a gateway may have a path of its own."""
    server = await serve(OK)
    await (await connect(f"{server.url}/gateway")).send(REQUEST)
    assert server.requests[0][0].startswith("POST /gateway/tcb/x?access_token=")


async def test_connection_that_the_server_closed_is_not_used(serve, connect):
    """Closed while it was idle: the next request opens another one, and is sent once."""
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
    """A server that has said its last word, but still listens, is left."""
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


async def test_connection_is_left_when_the_server_says_close(serve, connect):
    """`Connection: close` is taken at its word, even if the server leaves the connection open."""
    server = await serve(lambda _: OK.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n"))
    transport = await connect(server.url)
    assert await transport.send(REQUEST) == GOOD
    assert await transport.send(REQUEST) == GOOD
    assert server.connections == 2


async def test_reply_without_a_length_ends_with_the_connection(serve, connect):
    """Neither length nor chunks: all until the server closes is the reply."""
    server = await serve(plain(b'{"errcode":0}', "Connection: close"))
    assert await (await connect(server.url)).send(REQUEST) == GOOD


async def test_reply_in_chunks_is_put_together(serve, connect):
    """Chunks are joined, and the connection is used again."""
    server = await serve(plain(b'5\r\n{"err\r\n8\r\ncode":0}\r\n0\r\n\r\n', "Transfer-Encoding: chunked"))
    transport = await connect(server.url)
    assert [await transport.send(REQUEST), await transport.send(REQUEST)] == [GOOD, GOOD]
    assert server.connections == 1


async def test_word_in_between_is_no_answer(serve, connect):
    """100 Continue and 103 Early Hints are passed over."""
    server = await serve(plain(b"", status="100 Continue") + plain(b"", "Link: </x>", status="103 Early Hints") + OK)
    transport = await connect(server.url)
    assert await transport.send(REQUEST) == GOOD
    assert await transport.send(REQUEST) == GOOD


async def test_other_protocol_is_never_spoken(serve, connect):
    """101 is an answer without a body, and its connection is left."""
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
async def test_bytes_after_a_reply_are_never_the_next_answer(serve, connect_direct, extra):
    """What a server says beyond its reply, whole or in part, does not reach the next call."""
    server = await serve(lambda number: other(number) + extra)
    transport = await connect_direct(server.url)
    assert await transport.send(REQUEST) == Response(200, b"1")
    outcome = await transport.send(REQUEST)
    assert outcome == Response(200, b"2") or (extra is not OK and isinstance(outcome, SendFailure))


async def test_reply_that_nobody_asked_for_is_never_the_next_answer(listen, connect_direct):
    """What comes on an idle connection spoils it: the next call takes another one."""
    pushed = asyncio.Event()
    connections = []

    async def push(reader, writer):
        connections.append(writer)
        await reader.readuntil(b"\r\n\r\n")
        writer.write(other(len(connections)))
        await pushed.wait()
        writer.write(OK)
        await reader.read()

    url = await listen(push)
    transport = await connect_direct(url)
    assert await transport.send(REQUEST) == Response(200, b"1")
    pushed.set()
    await until(lambda: not is_idle_usable(transport))
    assert await transport.send(REQUEST) == Response(200, b"2")


async def test_server_that_speaks_first_is_given_up(listen, connect_direct):
    """A port that greets is no web server: after three tries nothing was sent."""
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


async def test_answer_before_the_request_is_read_gives_the_connection_up(serve, connect_direct):
    """The rest of a body that the server did not wait for is not sent in front of the next request."""
    server = await serve(OK, read_body=False)
    transport = await connect_direct(server.url)
    assert await transport.send(HUGE) == GOOD
    assert pool(transport) == (0, 0)


async def test_drip_does_not_outlast_the_whole_timeout(listen, connect, pass_time):
    """A byte now and then is no progress that counts: the attempt ends with its time."""
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


async def test_reply_until_close_that_is_out_of_time_is_no_answer(serve, connect, send_in_vain):
    """Ended by our clock, what came so far is not taken for the whole."""
    server = await serve(plain(b'{"errcode":0}'))
    outcome = await send_in_vain(server, await connect(server.url, LIMITS))
    assert outcome == SendFailure("no reply in time", sent=True, timeout=True)


async def test_word_in_between_does_not_stop_the_clock(serve, connect, send_in_vain):
    """A server that says 100 Continue and then nothing runs out of time as well."""
    server = await serve(plain(b"", status="100 Continue"))
    outcome = await send_in_vain(server, await connect(server.url, LIMITS))
    assert outcome == SendFailure("no reply in time", sent=True, timeout=True)


@pytest.mark.parametrize("error", [ValueError, KeyError, RuntimeError, OSError, aiohttp.ClientError])
async def test_whatever_the_pool_raises_is_a_failure_without_secrets(connect_direct, error):
    """No exception leaves `send`, and its text, which may hold the token, is not repeated."""

    class Broken(aiohttp.TCPConnector):
        async def connect(self, *args):
            raise error(TOKEN.reveal())

    transport = await connect_direct("http://127.0.0.1:1")
    transport._connector = Broken()
    outcome = await transport.send(REQUEST)
    assert isinstance(outcome, SendFailure)
    assert not outcome.sent
    assert TOKEN.reveal() not in repr((outcome, transport))


async def test_every_attempt_has_its_own_time(serve, connect_direct, pass_time, settle):
    """One clock for all ends each attempt when it is due, not earlier and not never."""
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


async def test_connecting_that_outlasts_the_whole_time_sends_nothing(serve, connect_direct, pass_time):
    """However the pool keeps time, a request never leaves after its own is up."""

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


async def test_answer_whose_head_comes_when_the_time_is_up_is_not_waited_for(serve, connect_direct, monkeypatch):
    """Ended between head and body, an attempt does not wait for a body that nobody would end."""
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
async def test_closing_ends_what_is_under_way(serve, connect_direct, settle, data):
    """Whatever part of the answer is awaited: a lost connection, and no answer made of what came so far."""
    server = await serve(data)
    transport = await connect_direct(server.url)
    call = asyncio.create_task(transport.send(REQUEST))
    await server.came.wait()
    await settle()
    await transport.aclose()
    assert await call == SendFailure("the connection was lost (ServerDisconnectedError)", sent=True)
    assert await transport.send(REQUEST) == SendFailure("the connections are closed", sent=False, closed=True)


async def test_closing_does_not_wait_for_a_server_that_reads_nothing(listen, connect_direct):
    """What is not written yet is dropped, when the transport closes and when an attempt is cancelled."""
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


async def test_closing_while_a_name_is_looked_up_cancels_nobody(connect):
    """The end of aiohttp's own look-up is no cancellation of the caller."""
    asked = asyncio.Event()

    class Resolver(aiohttp.abc.AbstractResolver):
        async def resolve(self, host, port=0, family=0):
            asked.set()
            await asyncio.Event().wait()

        async def close(self):
            pass

    transport = await connect("http://api.example")
    connector = transport._connector if isinstance(transport, ConnectorTransport) else transport.http.connector
    await connector._resolver.close()
    connector._resolver = Resolver()
    call = asyncio.create_task(transport.send(REQUEST))
    await asked.wait()
    await transport.aclose()
    assert await call == SendFailure("the connections were closed", sent=False, closed=True)


async def test_forgotten_connections_are_warned_about(serve, client_tls):
    """A transport that is dropped with connections open does not keep silent, nor does it live on."""
    server = await serve(OK)
    transport = ConnectorTransport.open(server.url, Timeout(), ssl=client_tls)
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)
    await transport.send(REQUEST)
    forgotten = [transport]
    del transport
    with pytest.warns(ResourceWarning) as warned:
        forget(forgotten)
    assert [each for each in warned if "Unclosed connector" in str(each.message)]


async def test_request_that_is_withheld_never_leaves(serve, connect):
    """`may_send` is asked once per request, and after False nothing of it reaches the server."""
    server = await serve(OK)
    transport = await connect(server.url)
    said = iter([True, False, True])
    request = Request("/tcb/x", RequestBody(b"{}"), TOKEN, may_send=lambda: next(said))
    assert [await transport.send(request) for _ in range(3)] == [GOOD, Vetoed(), GOOD]
    assert len(server.requests) == 2


async def test_may_send_is_asked_when_there_is_a_connection(connect_direct):
    """A change of mind while connecting still counts, so nothing is asked before."""
    request = Request("/tcb/x", RequestBody(b"{}"), may_send=lambda: pytest.fail("asked"))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}"
        assert (await (await connect_direct(url)).send(request)).sent is False


async def test_may_send_that_raises_withholds_and_is_reported(serve, connect):
    """In doubt nothing is sent, and the loop's exception handler hears of the bug."""
    reported = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context["exception"]))
    server = await serve(OK)
    request = Request("/tcb/x", RequestBody(b"{}"), may_send=lambda: 1 / 0)
    assert await (await connect(server.url)).send(request) == Vetoed()
    assert [type(error) for error in reported] == [ZeroDivisionError]
    assert server.requests == []


async def test_own_pool_of_the_direct_transport_has_no_limit_of_its_own(connect_direct):
    """The gate alone bounds the calls."""
    connector = (await connect_direct("http://127.0.0.1:1"))._connector
    assert (connector.limit, connector.limit_per_host) == (0, 0)


async def test_faster_transport_is_chosen_where_it_can_serve():
    """It is the usual one; an aiohttp session of the caller's and a proxy take the plain one."""
    async with aiohttp.ClientSession() as http:
        made = [
            open_transport("http://127.0.0.1:1", Timeout()),
            open_transport("http://127.0.0.1:1", Timeout(), http=http),
            open_transport("http://127.0.0.1:1", Timeout(), proxy=Secret("http://127.0.0.1:2")),
        ]
        assert [type(each) for each in made] == [ConnectorTransport, SessionTransport, SessionTransport]
        for each in made:
            await each.aclose()


@pytest.mark.parametrize("change", ["name", "arguments"])
async def test_plain_transport_serves_where_aiohttp_has_changed(monkeypatch, change):
    """An aiohttp without one of the names, or with other arguments, costs speed and nothing else."""
    is_supported.cache_clear()
    if change == "name":
        monkeypatch.setattr(aiohttp_connector, "REQUIRED_ATTRIBUTES", ("connector.Connection.let_go", "client_proto"))
    else:
        monkeypatch.setattr(aiohttp.TCPConnector, "connect", lambda self: None)
    transport = open_transport("http://127.0.0.1:1", Timeout())
    is_supported.cache_clear()
    assert isinstance(transport, SessionTransport)
    await transport.aclose()
