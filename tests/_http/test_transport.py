"""One attempt over real sockets on loopback: every ending is a value, and knows whether anything was sent."""

from __future__ import annotations

import asyncio
import gzip
import ssl
import traceback

import aiohttp
import pytest

from wxtcb._http import aiohttp_session as plain_module
from wxtcb._http.transport import Request, Response, ResponseTooLarge, SendCancelled, SendFailure, Timeout
from wxtcb._protocol.codec import RequestBody
from wxtcb.errors import InvalidArgument
from wxtcb.secret import Secret

from .raw_http import LIMITS, OK, REQUEST, TOKEN, plain


async def test_answer_comes_back_whatever_its_status_and_type(serve, connect):
    """Status and bytes are returned; neither a content type nor an error status is judged here."""
    server = await serve(plain(b"<h1>bad</h1>", "Content-Length: 12", "Content-Type: text/html", status="502 Bad"))
    assert await (await connect(server.url)).send(REQUEST) == Response(502, b"<h1>bad</h1>")


async def test_request_is_a_json_post_with_the_token_in_the_query(serve, connect):
    """Method, path, query, content type and body are what the platform documents."""
    server = await serve(OK)
    transport = await connect(server.url)
    await transport.send(Request("/tcb/x", RequestBody(b"{}"), TOKEN, {"action": "a b"}))
    await transport.send(Request("/tcb/y", RequestBody(b'{"a":1}')))
    (with_query, _), (bare, body) = server.requests
    assert with_query.startswith("POST /tcb/x?action=a+b&access_token=T0KEN-of-the-test HTTP/1.1")
    assert bare.startswith("POST /tcb/y HTTP/1.1")
    assert "Content-Type: application/json; charset=utf-8" in bare
    assert body == b'{"a":1}'


async def test_newer_token_is_sent_when_the_path_was_called_before(serve, connect):
    """The kept URL of a path does not outlive its token."""
    server = await serve(OK)
    transport = await connect(server.url)
    for token in (TOKEN, TOKEN, Secret("newer"), None):
        await transport.send(Request("/tcb/x", RequestBody(b"{}"), token))
    lines = [head.split(" ")[1] for head, _ in server.requests]
    old = "/tcb/x?access_token=T0KEN-of-the-test"
    assert lines == [old, old, "/tcb/x?access_token=newer", "/tcb/x"]


async def test_connection_is_used_again(serve, connect):
    """Calls one after the other share one connection."""
    server = await serve(OK)
    transport = await connect(server.url)
    for _ in range(3):
        await transport.send(REQUEST)
    assert server.connections == 1


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"])
async def test_redirect_is_never_followed(serve, connect, status):
    """A redirect is an answer like others, and the place it names is not visited."""
    server = await serve(plain(b"", "Location: /elsewhere", "Content-Length: 0", status=status))
    outcome = await (await connect(server.url)).send(REQUEST)
    assert outcome == Response(int(status[:3]), b"")
    assert len(server.requests) == 1


async def test_refused_connection_is_known_as_not_sent(connect, free_port):
    """Where nobody listens, nothing was sent."""
    outcome = await (await connect(f"http://127.0.0.1:{free_port}")).send(REQUEST)
    assert isinstance(outcome, SendFailure)
    assert (outcome.sent, outcome.timeout) == (False, False)
    assert "no connection" in outcome.reason


class Resolver(aiohttp.abc.AbstractResolver):
    """Resolves nothing."""

    async def resolve(self, host, port=0, family=0):
        raise OSError(-2, "Name or service not known")

    async def close(self):
        pass


async def test_name_that_cannot_be_resolved_is_known_as_not_sent(connect_plain):
    """A DNS failure says so, and that nothing was sent."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(resolver=Resolver())) as http:
        outcome = await (await connect_plain("https://api.example", http=http)).send(REQUEST)
    assert outcome == SendFailure("the host name could not be resolved", sent=False)


async def test_server_that_closes_after_the_request_may_have_acted(serve, connect):
    """A connection lost after the body left is a failure that was sent, and is not tried again here."""
    server = await serve(ConnectionError)
    outcome = await (await connect(server.url)).send(REQUEST)
    assert isinstance(outcome, SendFailure)
    assert outcome.sent
    assert len(server.requests) == 1


async def test_server_that_closes_before_reading_the_body_may_have_acted(serve, connect):
    """What the server did with a body that was on its way nobody knows: sent."""
    server = await serve(ConnectionError, read_body=False)
    outcome = await (await connect(server.url)).send(Request("/tcb/x", RequestBody(b"x" * 3_000_000), TOKEN))
    assert isinstance(outcome, SendFailure)
    assert outcome.sent
    assert len(server.requests) == 1


async def test_stale_connection_is_not_silently_tried_again(serve, connect):
    """A kept connection that breaks under the next request makes a failure, not a second request."""
    server = await serve(lambda number: OK if number == 1 else ConnectionError)
    transport = await connect(server.url)
    assert await transport.send(REQUEST) == Response(200, b'{"errcode":0}')
    outcome = await transport.send(REQUEST)
    assert isinstance(outcome, SendFailure)
    assert outcome.sent
    assert len(server.requests) == 2
    assert server.connections == 1


@pytest.mark.parametrize(
    "data",
    [
        plain(b"{", "Content-Length: 100", "Connection: close"),
        plain(b"5\r\n{", "Transfer-Encoding: chunked", "Connection: close"),
        plain(gzip.compress(b"{}")[:-9], "Content-Encoding: gzip", "Content-Length: 100", "Connection: close"),
        plain(b"no gzip", "Content-Encoding: gzip", "Content-Length: 7"),
    ],
    ids=["length", "chunked", "gzip cut", "gzip broken"],
)
async def test_truncated_or_broken_reply_may_have_acted(serve, connect, data):
    """A reply that ends early, or cannot be decompressed, is a failure of something that was sent."""
    server = await serve(data)
    outcome = await (await connect(server.url)).send(REQUEST)
    assert outcome == SendFailure("the reply was truncated or could not be decompressed", sent=True)


async def test_reply_that_is_no_http_may_have_acted(serve, connect):
    """Noise instead of HTTP is a failure of something that was sent, and is not quoted."""
    server = await serve(b"T0KEN nonsense\r\n\r\nConnection: close")
    outcome = await (await connect(server.url)).send(REQUEST)
    assert isinstance(outcome, SendFailure)
    assert outcome.sent
    assert "T0KEN" not in outcome.reason


async def test_gzip_is_decoded(serve, connect):
    """A compressed answer comes back in clear."""
    data = gzip.compress(b'{"errcode":0}')
    server = await serve(plain(data, "Content-Encoding: gzip", f"Content-Length: {len(data)}"))
    assert await (await connect(server.url)).send(REQUEST) == Response(200, b'{"errcode":0}')


BIG = b"x" * (1 << 21)
BOMB = gzip.compress(bytes(20 << 20))


@pytest.mark.parametrize(
    "data",
    [
        plain(BIG, f"Content-Length: {len(BIG)}"),
        plain(b"%x\r\n%s\r\n0\r\n\r\n" % (len(BIG), BIG), "Transfer-Encoding: chunked"),
        plain(b"%x\r\n%s\r\n" % (len(BIG), BIG), "Transfer-Encoding: chunked"),
        plain(BIG, "Connection: close"),
        plain(BOMB, "Content-Encoding: gzip", f"Content-Length: {len(BOMB)}"),
    ],
    ids=["length", "chunked", "chunked without end", "until close", "gzip bomb"],
)
async def test_reply_is_bounded_whatever_the_headers_say(serve, connect, small_replies, data):
    """More than `MAX_REPLY_BYTES` bytes are not read: honest, chunked, endless, or hidden in gzip."""
    server = await serve(data)
    assert await (await connect(server.url)).send(REQUEST) == ResponseTooLarge(200)


async def test_reply_is_bounded_when_two_headers_disagree_about_its_length(serve, connect, small_replies):
    """A small Content-Length beside a chunked body does not lift the bound."""
    body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(BIG), BIG)
    server = await serve(plain(body, "Content-Length: 13", "Transfer-Encoding: chunked"))
    outcome = await (await connect(server.url)).send(REQUEST)
    assert not isinstance(outcome, Response)


async def test_reply_of_just_the_bound_is_read(serve, connect, small_replies):
    """`MAX_REPLY_BYTES` itself is not too much."""
    body = b"x" * (1 << 20)
    server = await serve(plain(b"", "Transfer-Encoding: chunked") + b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body))
    chunked = await (await connect(server.url)).send(REQUEST)
    assert chunked == Response(200, body)


async def test_too_large_reply_gives_its_connection_up(serve, connect, small_replies):
    """The rest of an over-long reply is not taken for the next reply."""
    server = await serve(lambda number: plain(BIG, f"Content-Length: {len(BIG)}") if number == 1 else OK)
    transport = await connect(server.url)
    await transport.send(REQUEST)
    assert await transport.send(REQUEST) == Response(200, b'{"errcode":0}')
    assert server.connections == 2


async def test_timeout_while_waiting_for_the_reply_may_have_acted(serve, connect, send_in_vain):
    """A server that says nothing: a timeout after sending."""
    server = await serve(None)
    outcome = await send_in_vain(server, await connect(server.url, LIMITS))
    assert outcome == SendFailure("no reply in time", sent=True, timeout=True)


async def test_timeout_covers_the_body_of_the_reply(serve, connect, send_in_vain):
    """A reply that begins and never ends is a timeout too."""
    server = await serve(plain(b"{", "Content-Length: 100"))
    outcome = await send_in_vain(server, await connect(server.url, LIMITS))
    assert outcome == SendFailure("no reply in time", sent=True, timeout=True)


async def test_timeout_while_connecting_is_known_as_not_sent(serve, connect):
    """A server that accepts but never shakes hands: a timeout before anything was sent."""

    async def mute(reader, writer):
        await reader.read()
        writer.close()

    listener = await asyncio.start_server(mute, "127.0.0.1", 0)
    url = f"https://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    outcome = await (await connect(url, Timeout(connect=0.1, reply=30))).send(REQUEST)
    listener.close()
    assert outcome == SendFailure("no connection in time", sent=False, timeout=True)


async def test_tls_failure_is_known_as_not_sent(serve, connect):
    """TLS to a port that speaks plain http fails in the handshake."""

    async def speak_http(reader, writer):
        await reader.read(10)
        writer.write(b"HTTP/1.1 400 Bad\r\n\r\n")
        writer.close()

    listener = await asyncio.start_server(speak_http, "127.0.0.1", 0)
    url = f"https://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    outcome = await (await connect(url)).send(REQUEST)
    listener.close()
    assert outcome == SendFailure("the TLS handshake failed", sent=False)


class FailingConnector(aiohttp.TCPConnector):
    """Connects nowhere: raises what `make` makes of the connection's key."""

    make = None

    async def connect(self, req, *_, **__):
        raise self.make(req.connection_key)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (
            lambda key: aiohttp.ClientConnectorCertificateError(key, ssl.CertificateError("no")),
            "the server's certificate is not trusted",
        ),
        (lambda key: aiohttp.ServerTimeoutError("no"), "no connection in time"),
        (lambda key: ValueError(f"odd {TOKEN.reveal()}"), "the connection was lost (ValueError)"),
        (lambda key: KeyError(f"odd {TOKEN.reveal()}"), "the connection was lost (KeyError)"),
        (lambda key: aiohttp.ClientConnectorError(key, OSError("odd")), "no connection (refused)"),
    ],
    ids=["certificate", "timeout", "value", "key", "no strerror"],
)
async def test_whatever_the_connector_raises_becomes_a_failure_that_was_not_sent(connect_plain, make, reason):
    """No exception leaves `send`, for its traceback and its text would carry the token."""
    connector = FailingConnector()
    connector.make = make
    async with aiohttp.ClientSession(connector=connector) as http:
        outcome = await (await connect_plain("https://api.example", http=http)).send(REQUEST)
    assert (outcome.reason, outcome.sent) == (reason, False)


async def test_proxy_that_refuses_is_known_as_not_sent(serve, connect_plain, free_port):
    """Where the proxy cannot be reached, nothing was sent, and its address with the password is not told."""
    server = await serve(OK)
    proxy = Secret(f"http://user:pr0xyword@127.0.0.1:{free_port}")
    transport = await connect_plain(server.url, proxy=proxy)
    assert await transport.send(REQUEST) == SendFailure("the connection to the proxy failed", sent=False)
    assert "pr0xyword" not in repr(transport)
    assert server.requests == []


async def test_proxy_that_denies_the_tunnel_is_known_as_not_sent(connect_plain):
    """A proxy that answers CONNECT with an error has passed nothing on."""

    async def deny(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
        await reader.read()
        writer.close()

    listener = await asyncio.start_server(deny, "127.0.0.1", 0)
    proxy = Secret(f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}")
    outcome = await (await connect_plain("https://api.example", proxy=proxy)).send(REQUEST)
    listener.close()
    assert outcome == SendFailure("the connection to the proxy failed", sent=False)


async def test_request_goes_through_the_proxy(serve, connect_plain):
    """With a proxy the request is made to it."""
    server = await serve(OK)
    outcome = await (await connect_plain("http://api.example", proxy=Secret(server.url))).send(REQUEST)
    assert outcome == Response(200, b'{"errcode":0}')
    assert server.requests[0][0].startswith("POST http://api.example/tcb/x?")


async def test_foreign_session_stays_open(serve, connect_plain):
    """An aiohttp session of the caller's is used, and is the caller's to close."""
    server = await serve(OK)
    async with aiohttp.ClientSession(headers={"X-Mine": "yes"}) as http:
        transport = await connect_plain(server.url, http=http)
        await transport.send(REQUEST)
        await transport.aclose()
        assert not http.closed
    assert "X-Mine: yes" in server.requests[0][0]


async def test_own_session_is_closed(connect_plain):
    """The pool we opened we close."""
    transport = await connect_plain("http://127.0.0.1:1")
    await transport.aclose()
    assert transport.http.closed


async def test_own_pool_has_no_limit_of_its_own(connect_plain):
    """The gate alone bounds the calls: aiohttp's pool lets newcomers overtake."""
    transport = await connect_plain("http://127.0.0.1:1")
    assert transport.http.connector.limit == 0
    assert transport.http.connector.limit_per_host == 0


async def test_foreign_raise_for_status_changes_nothing(serve, connect_plain):
    """A session that raises for statuses still gives us the answer."""
    server = await serve(plain(b"no", "Content-Length: 2", status="502 Bad"))
    async with aiohttp.ClientSession(raise_for_status=True) as http:
        assert await (await connect_plain(server.url, http=http)).send(REQUEST) == Response(502, b"no")


async def test_foreign_timeouts_do_not_replace_ours(serve, connect_plain, send_in_vain):
    """A session without timeouts does not make us wait for ever."""
    server = await serve(None)
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None)) as http:
        outcome = await send_in_vain(server, await connect_plain(server.url, LIMITS, http=http))
    assert outcome == SendFailure("no reply in time", sent=True, timeout=True)


async def test_foreign_middleware_cannot_send_again(serve, connect_plain):
    """A retrying middleware of the caller's session never repeats a call: a create would bill twice."""
    server = await serve(plain(b"", "Content-Length: 0", status="502 Bad"))

    async def retry(request, handler):
        for _ in range(2):
            await handler(request)
        return await handler(request)

    async with aiohttp.ClientSession(middlewares=(retry,)) as http:
        await (await connect_plain(server.url, http=http)).send(REQUEST)
    assert len(server.requests) == 1


async def test_foreign_session_that_does_not_decompress_changes_nothing(serve, connect_plain):
    """Compressed replies are decoded even when the caller's session leaves it as it is."""
    data = gzip.compress(b"{}")
    server = await serve(plain(data, "Content-Encoding: gzip", f"Content-Length: {len(data)}"))
    async with aiohttp.ClientSession(auto_decompress=False) as http:
        assert await (await connect_plain(server.url, http=http)).send(REQUEST) == Response(200, b"{}")


async def test_foreign_default_headers_do_not_replace_our_content_type(serve, connect_plain):
    """The body is announced as JSON whatever the caller's session says by default."""
    server = await serve(OK)
    async with aiohttp.ClientSession(headers={"Content-Type": "text/plain"}) as http:
        await (await connect_plain(server.url, http=http)).send(REQUEST)
    assert "Content-Type: application/json" in server.requests[0][0]


async def test_closed_foreign_session_is_known_as_not_sent(connect_plain):
    """A session that its owner closed says so."""
    http = aiohttp.ClientSession()
    await http.close()
    outcome = await (await connect_plain("http://127.0.0.1:1", http=http)).send(REQUEST)
    assert outcome == SendFailure("the aiohttp session is closed", sent=False, closed=True)


async def test_transport_closed_under_a_call_may_have_acted(serve, connect):
    """Closing the pool while a reply is awaited is a lost connection, not a hang."""
    server = await serve(None)
    transport = await connect(server.url)
    call = asyncio.create_task(transport.send(REQUEST))
    await server.came.wait()
    await transport.aclose()
    outcome = await call
    assert isinstance(outcome, SendFailure)
    assert outcome.sent


async def test_cancelled_attempt_says_that_it_was_sent(serve, connect):
    """Cancelled while the reply is awaited: a value with the cancellation's args, and sent; the connection is gone."""
    server = await serve(None)
    call = asyncio.create_task((await connect(server.url)).send(REQUEST))
    await server.came.wait()
    call.cancel("the reason")
    assert await call == SendCancelled(("the reason",), sent=True)
    await server.gone.wait()


async def test_cancelled_attempt_says_that_nothing_was_sent_when_it_was_still_connecting(connect_plain):
    """Cancelled before there was a connection: not sent."""
    begun = asyncio.Event()

    class Slow(aiohttp.TCPConnector):
        async def connect(self, req, *_, **__):
            begun.set()
            await asyncio.Event().wait()

    async with aiohttp.ClientSession(connector=Slow()) as http:
        call = asyncio.create_task((await connect_plain("http://127.0.0.1:1", http=http)).send(REQUEST))
        await begun.wait()
        call.cancel()
        assert await call == SendCancelled((), sent=False)


async def test_raising_trace_of_a_foreign_session_becomes_a_failure(serve, connect_plain):
    """A bug in the caller's tracing does not carry our URL out in a traceback."""
    server = await serve(OK)

    async def break_down(*_):
        raise LookupError(TOKEN.reveal())

    trace = aiohttp.TraceConfig()
    trace.on_request_end.append(break_down)
    async with aiohttp.ClientSession(trace_configs=[trace]) as http:
        outcome = await (await connect_plain(server.url, http=http)).send(REQUEST)
    assert outcome == SendFailure("the connection was lost (LookupError)", sent=True)


@pytest.mark.parametrize("field", ["connect", "reply"])
@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf"), None, "5", True])
def test_timeout_refuses_what_would_switch_it_off(field, value):
    """Both timeouts are always on: positive, finite numbers only."""
    with pytest.raises(InvalidArgument, match=field):
        Timeout(**{field: value})


async def test_repr_of_everything_shows_no_token(serve, connect):
    """The transport (with its kept URLs), the request and the answer are safe to print."""
    server = await serve(OK)
    transport = await connect(server.url)
    answer = await transport.send(REQUEST)
    assert TOKEN.reveal() not in f"{transport!r} {REQUEST!r} {answer!r}"
    assert "errcode" not in repr(answer)


def test_body_can_be_read_as_text():
    """The client library asks a payload for its text where it shows one."""
    assert plain_module._TrackedPayload(REQUEST).decode() == '{"a":1}'


async def test_no_warning_and_no_task_is_left_by_failures(serve, connect, send_in_vain):
    """After lost connections and cancellations no task of aiohttp's is left over."""
    server = await serve(None)
    await send_in_vain(server, await connect(server.url, LIMITS))
    others = [task for task in asyncio.all_tasks() if "ClientRequest" in repr(task.get_coro())]
    assert others == [], traceback.format_exc()
