"""Transports on real loopback sockets: every result is a value that records whether the request was sent."""

from __future__ import annotations

import asyncio
import gzip
import importlib.metadata
import re
import ssl
import traceback

import aiohttp
import attrs
import pytest
from yarl import URL

from wxtcb._http import client_session_transport
from wxtcb._http.client_session_transport import ClientSessionTransport
from wxtcb._http.executor import read_result
from wxtcb._http.transport import Request, Response, ResponseTooLarge, SendCancelled, SendFailure, Timeout, user_agent
from wxtcb._protocol.codec import RequestBody
from wxtcb._protocol.endpoint import Done, Endpoint, Repeat
from wxtcb.errors import InvalidArgument
from wxtcb.secret import Secret

from .raw_http import LIMITS, OK, REQUEST, TOKEN, plain


async def test_response_is_returned_for_any_status_and_content_type(serve, connect):
    """The transport does not evaluate them."""
    server = await serve(plain(b"<h1>bad</h1>", "Content-Length: 12", "Content-Type: text/html", status="502 Bad"))
    assert await (await connect(server.url)).send(REQUEST) == Response(502, b"<h1>bad</h1>")


async def test_request_is_a_json_post_with_the_token_in_the_query(serve, connect):
    """Method, path, query, content type and body are those that the platform documents."""
    server = await serve(OK)
    transport = await connect(server.url)
    await transport.send(Request("/tcb/x", RequestBody(b"{}"), TOKEN, {"action": "a b"}))
    await transport.send(Request("/tcb/y", RequestBody(b'{"a":1}')))
    (with_query, _), (bare, body) = server.requests
    assert with_query.startswith("POST /tcb/x?action=a+b&access_token=T0KEN-of-the-test HTTP/1.1")
    assert bare.startswith("POST /tcb/y HTTP/1.1")
    assert "Content-Type: application/json; charset=utf-8" in bare
    assert body == b'{"a":1}'


async def test_new_token_is_sent_to_a_path_called_before(serve, connect):
    """A cached URL is not used with another token."""
    server = await serve(OK)
    transport = await connect(server.url)
    for token in (TOKEN, TOKEN, Secret("newer"), None):
        await transport.send(Request("/tcb/x", RequestBody(b"{}"), token))
    lines = [head.split(" ")[1] for head, _ in server.requests]
    old = "/tcb/x?access_token=T0KEN-of-the-test"
    assert lines == [old, old, "/tcb/x?access_token=newer", "/tcb/x"]


async def test_connection_is_reused(serve, connect):
    """Consecutive calls share one connection."""
    server = await serve(OK)
    transport = await connect(server.url)
    for _ in range(3):
        await transport.send(REQUEST)
    assert server.connections == 1


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"])
async def test_redirect_is_never_followed(serve, connect, status):
    """A redirect is returned as a response, and its target is not requested."""
    server = await serve(plain(b"", "Location: /elsewhere", "Content-Length: 0", status=status))
    outcome = await (await connect(server.url)).send(REQUEST)
    assert outcome == Response(int(status[:3]), b"")
    assert len(server.requests) == 1


async def test_refused_connection_is_not_sent(connect, free_port):
    """The failure records that nothing was sent."""
    outcome = await (await connect(f"http://127.0.0.1:{free_port}")).send(REQUEST)
    assert isinstance(outcome, SendFailure)
    assert (outcome.sent, outcome.timeout) == (False, False)
    assert "no connection" in outcome.reason


@pytest.mark.parametrize(
    ("base_url", "advice"),
    [
        ("https://api.example", "base_url, proxy and network"),
        ("http://127.0.0.1:9", "wxtcb sandbox"),
        ("http://[::1]:9", "wxtcb sandbox"),
    ],
)
async def test_refused_connection_has_advice(connect_plain, base_url, advice):
    """The advice names the settings to check; on loopback it names the sandbox, which has a new port in each run."""
    connector = FailingConnector()
    connector.make = lambda key: aiohttp.ClientConnectorError(key, OSError(111, "Connection refused"))
    async with aiohttp.ClientSession(connector=connector) as http:
        outcome = await (await connect_plain(base_url, http=http)).send(REQUEST)
    error = read_result(Endpoint("/tcb/x", Done, Repeat.READ, name="x", official="x"), outcome, ())
    assert advice in str(error)
    assert "Connection refused" in str(error)


class Resolver(aiohttp.abc.AbstractResolver):
    """Resolver that fails for every name."""

    async def resolve(self, host, port=0, family=0):
        raise OSError(-2, "Name or service not known")

    async def close(self):
        pass


async def test_dns_failure_is_not_sent(connect_plain):
    """The failure records that nothing was sent."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(resolver=Resolver())) as http:
        outcome = await (await connect_plain("https://api.example", http=http)).send(REQUEST)
    assert outcome == SendFailure("the host name could not be resolved", sent=False)


async def test_connection_lost_after_the_request_is_sent(serve, connect):
    """The failure is recorded as sent, and the transport does not retry."""
    server = await serve(ConnectionError)
    outcome = await (await connect(server.url)).send(REQUEST)
    assert isinstance(outcome, SendFailure)
    assert outcome.sent
    assert len(server.requests) == 1


async def test_connection_lost_during_the_body_is_sent(serve, connect):
    """The server may have read the body, so the failure is recorded as sent."""
    server = await serve(ConnectionError, read_body=False)
    outcome = await (await connect(server.url)).send(Request("/tcb/x", RequestBody(b"x" * 3_000_000), TOKEN))
    assert isinstance(outcome, SendFailure)
    assert outcome.sent
    assert len(server.requests) == 1


async def test_stale_connection_is_not_retried_silently(serve, connect):
    """A kept connection that breaks during a request causes a failure, not a second request."""
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
async def test_truncated_or_corrupt_reply_is_sent(serve, connect, data):
    """The failure is recorded as sent."""
    server = await serve(data)
    outcome = await (await connect(server.url)).send(REQUEST)
    assert outcome == SendFailure("the reply was truncated or could not be decompressed", sent=True)


async def test_reply_that_is_not_http_is_sent(serve, connect):
    """The failure is recorded as sent and does not quote the reply."""
    server = await serve(b"T0KEN nonsense\r\n\r\nConnection: close")
    outcome = await (await connect(server.url)).send(REQUEST)
    assert isinstance(outcome, SendFailure)
    assert outcome.sent
    assert "T0KEN" not in outcome.reason


async def test_gzip_is_decoded(serve, connect):
    """A compressed response is returned decompressed."""
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
async def test_reply_size_is_limited_for_every_encoding(serve, connect, data):
    """At most `max_reply_bytes` are read: with a length, chunked, until close, and after decompression."""
    server = await serve(data)
    assert await (await connect(server.url)).send(REQUEST) == ResponseTooLarge(200)


async def test_contradicting_length_headers_do_not_lift_the_limit(serve, connect):
    """A small Content-Length with a chunked body is limited, too."""
    body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(BIG), BIG)
    server = await serve(plain(body, "Content-Length: 13", "Transfer-Encoding: chunked"))
    outcome = await (await connect(server.url)).send(REQUEST)
    assert not isinstance(outcome, Response)


async def test_reply_of_exactly_the_limit_is_read(serve, connect):
    """A reply of 1 MiB is accepted; an endpoint may have a higher limit."""
    body = b"x" * (1 << 20)
    server = await serve(plain(b"", "Transfer-Encoding: chunked") + b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body))
    chunked = await (await connect(server.url)).send(REQUEST)
    assert chunked == Response(200, body)
    server = await serve(plain(BIG, f"Content-Length: {len(BIG)}"))
    higher = attrs.evolve(REQUEST, max_reply_bytes=len(BIG))
    assert await (await connect(server.url)).send(higher) == Response(200, BIG)


async def test_too_large_reply_closes_its_connection(serve, connect):
    """The rest of it is not read as the next reply."""
    server = await serve(lambda number: plain(BIG, f"Content-Length: {len(BIG)}") if number == 1 else OK)
    transport = await connect(server.url)
    await transport.send(REQUEST)
    assert await transport.send(REQUEST) == Response(200, b'{"errcode":0}')
    assert server.connections == 2


async def test_timeout_without_reply_is_sent(serve, connect, send_in_vain):
    """A server that does not reply causes a timeout after sending."""
    server = await serve(None)
    outcome = await send_in_vain(server, await connect(server.url, LIMITS))
    assert outcome == SendFailure("no reply in time", sent=True, timeout=True)


async def test_timeout_covers_the_body_of_the_reply(serve, connect, send_in_vain):
    """A reply that never ends causes a timeout, too."""
    server = await serve(plain(b"{", "Content-Length: 100"))
    outcome = await send_in_vain(server, await connect(server.url, LIMITS))
    assert outcome == SendFailure("no reply in time", sent=True, timeout=True)


async def test_timeout_while_connecting_is_not_sent(serve, connect):
    """A server that never completes the handshake causes a timeout before sending."""

    async def mute(reader, writer):
        await reader.read()
        writer.close()

    listener = await asyncio.start_server(mute, "127.0.0.1", 0)
    url = f"https://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    outcome = await (await connect(url, Timeout(connect=0.1, reply=30))).send(REQUEST)
    listener.close()
    assert outcome == SendFailure("no connection in time", sent=False, timeout=True)


async def test_tls_failure_is_not_sent(serve, connect):
    """TLS to a port with plain HTTP fails in the handshake."""

    async def speak_http(reader, writer):
        await reader.read(10)
        writer.write(b"HTTP/1.1 400 Bad\r\n\r\n")
        writer.close()

    listener = await asyncio.start_server(speak_http, "127.0.0.1", 0)
    url = f"https://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    outcome = await (await connect(url)).send(REQUEST)
    listener.close()
    assert outcome == SendFailure("the TLS handshake failed", sent=False)


def with_cause(error, cause):
    """Return *error* with a cause that was never raised."""
    error.__cause__ = cause
    return error


class FailingConnector(aiohttp.TCPConnector):
    """Connector that raises what `make` returns for the key of the connection."""

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
        (
            lambda key: aiohttp.ClientConnectionError(f"odd {TOKEN.reveal()}"),
            "the connection was lost (ClientConnectionError)",
        ),
        (lambda key: OSError(f"odd {TOKEN.reveal()}"), "the connection was lost (ClientOSError)"),
        (
            lambda key: with_cause(aiohttp.ServerDisconnectedError(), KeyError()),
            "the connection was lost (ServerDisconnectedError)",
        ),
        (lambda key: aiohttp.ClientConnectorError(key, OSError("odd")), "no connection (refused)"),
    ],
    ids=["certificate", "timeout", "aiohttp", "os", "cause", "no strerror"],
)
async def test_exception_of_the_connector_becomes_a_failure(connect_plain, make, reason):
    """No exception leaves `send`, because its traceback and message could contain the token."""
    connector = FailingConnector()
    connector.make = make
    async with aiohttp.ClientSession(connector=connector) as http:
        outcome = await (await connect_plain("https://api.example", http=http)).send(REQUEST)
    assert (outcome.reason, outcome.sent) == (reason, False)


async def test_unreachable_proxy_is_not_sent(serve, connect_plain, free_port):
    """The failure does not mention the address of the proxy, which contains a password."""
    server = await serve(OK)
    proxy = Secret(f"http://user:pr0xyword@127.0.0.1:{free_port}")
    transport = await connect_plain(server.url, proxy=proxy)
    assert await transport.send(REQUEST) == SendFailure("the connection to the proxy failed", sent=False)
    assert "pr0xyword" not in repr(transport)
    assert server.requests == []


async def test_proxy_that_denies_the_tunnel_is_not_sent(connect_plain):
    """An error in response to CONNECT means that nothing was forwarded."""

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
    """The request is sent to the proxy."""
    server = await serve(OK)
    outcome = await (await connect_plain("http://api.example", proxy=Secret(server.url))).send(REQUEST)
    assert outcome == Response(200, b'{"errcode":0}')
    assert server.requests[0][0].startswith("POST http://api.example/tcb/x?")


async def test_session_of_the_caller_stays_open(serve, connect_plain):
    """An aiohttp session passed by the caller is used but not closed."""
    server = await serve(OK)
    async with aiohttp.ClientSession() as http:
        transport = await connect_plain(server.url, http=http)
        await transport.send(REQUEST)
        await transport.aclose()
        assert not http.closed
    assert len(server.requests) == 1


async def test_own_session_is_closed(connect_plain):
    """The transport closes the session that it opened."""
    transport = await connect_plain("http://127.0.0.1:1")
    await transport.aclose()
    assert transport.http.closed


async def test_own_pool_has_no_limit(connect_plain):
    """Only the limiter bounds the calls, because aiohttp's pool lets new requests overtake waiting ones."""
    transport = await connect_plain("http://127.0.0.1:1")
    assert transport.http.connector.limit == 0
    assert transport.http.connector.limit_per_host == 0


async def test_raise_for_status_of_the_caller_has_no_effect(serve, connect_plain):
    """The response is returned although the session raises for error statuses."""
    server = await serve(plain(b"no", "Content-Length: 2", status="502 Bad"))
    async with aiohttp.ClientSession(raise_for_status=True) as http:
        assert await (await connect_plain(server.url, http=http)).send(REQUEST) == Response(502, b"no")


async def test_timeouts_of_the_caller_have_no_effect(serve, connect_plain, send_in_vain):
    """A session without timeouts does not disable those of the transport."""
    server = await serve(None)
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None)) as http:
        outcome = await send_in_vain(server, await connect_plain(server.url, LIMITS, http=http))
    assert outcome == SendFailure("no reply in time", sent=True, timeout=True)


async def test_middleware_of_the_caller_cannot_resend(serve, connect_plain):
    """A retrying middleware could repeat a create, which is billed."""
    server = await serve(plain(b"", "Content-Length: 0", status="502 Bad"))

    async def retry(request, handler):
        for _ in range(2):
            await handler(request)
        return await handler(request)

    async with aiohttp.ClientSession(middlewares=(retry,)) as http:
        await (await connect_plain(server.url, http=http)).send(REQUEST)
    assert len(server.requests) == 1


async def test_auto_decompress_of_the_caller_has_no_effect(serve, connect_plain):
    """Compressed replies are always decoded."""
    data = gzip.compress(b"{}")
    server = await serve(plain(data, "Content-Encoding: gzip", f"Content-Length: {len(data)}"))
    async with aiohttp.ClientSession(auto_decompress=False) as http:
        assert await (await connect_plain(server.url, http=http)).send(REQUEST) == Response(200, b"{}")


@pytest.mark.filterwarnings("ignore:(BasicAuth|The 'auth')")
async def test_request_has_no_headers_cookies_or_credentials_of_the_caller(serve, connect_plain):
    """The request has the same headers as with a session that has none of them."""
    server = await serve(OK)
    jar = aiohttp.CookieJar(unsafe=True)
    jar.update_cookies({"sid": "C00KIE"}, URL(server.url))
    headers = {"X-Mine": "1", "content-type": "text/plain", "User-Agent": "mine", "Host": "evil", "Content-Length": "1"}
    async with (
        aiohttp.ClientSession() as bare,
        aiohttp.ClientSession(headers=headers, cookie_jar=jar, auth=aiohttp.BasicAuth("me", "W0RD")) as http,
        aiohttp.ClientSession(headers={"Authorization": "Bearer 1NTERNAL", "Cookie": "sid=1"}) as internal,
    ):
        for session in (bare, http, internal):
            assert (await (await connect_plain(server.url, http=session)).send(REQUEST)).status == 200
    expected, *others = [(sorted(head.split("\r\n")), body) for head, body in server.requests]
    assert others == [expected, expected]


async def test_credentials_of_a_netrc_file_are_not_sent(serve, connect_plain, client_tls, monkeypatch, tmp_path):
    """A session with trust_env has credentials for a host from there."""
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password W0RD")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    server = await serve(OK)
    async with aiohttp.ClientSession(trust_env=True) as http:
        async with http.post(server.url, data=b"{}", ssl=client_tls):
            pass
        await (await connect_plain(server.url, http=http)).send(REQUEST)
    assert ["Authorization:" in head for head, _ in server.requests] == [True, False]


async def test_header_of_a_trace_is_sent(serve, connect_plain):
    """Tracing tools add one, such as traceparent, to each request."""
    server = await serve(OK)
    trace = aiohttp.TraceConfig()

    async def inject(_session, _context, params):
        params.headers["traceparent"] = "00-1-2-01"

    trace.on_request_start.append(inject)
    async with aiohttp.ClientSession(trace_configs=[trace], headers={"X-Mine": "1"}) as http:
        await (await connect_plain(server.url, http=http)).send(REQUEST)
    assert "traceparent: 00-1-2-01" in server.requests[0][0]


async def test_user_agent_is_wxtcb_and_its_version(serve, connect):
    """The platform sees which library sends the request."""
    server = await serve(OK)
    await (await connect(server.url)).send(REQUEST)
    assert f"\r\nUser-Agent: wxtcb/{importlib.metadata.version('wxtcb')}\r\n" in server.requests[0][0]


def test_user_agent_without_an_installed_package_has_no_version(monkeypatch):
    """A source tree on PYTHONPATH has no metadata."""

    def raise_not_found(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", raise_not_found)
    assert user_agent.__wrapped__() == "wxtcb"


async def test_closed_session_of_the_caller_is_not_sent(connect_plain):
    """The failure is marked as closed."""
    http = aiohttp.ClientSession()
    await http.close()
    outcome = await (await connect_plain("http://127.0.0.1:1", http=http)).send(REQUEST)
    assert outcome == SendFailure("the connections were closed", sent=False, closed=True)


async def test_closing_the_transport_during_a_call_loses_the_connection(serve, connect):
    """A pending reply fails and does not hang."""
    server = await serve(None)
    transport = await connect(server.url)
    call = asyncio.create_task(transport.send(REQUEST))
    await server.came.wait()
    await transport.aclose()
    outcome = await call
    assert isinstance(outcome, SendFailure)
    assert outcome.sent


async def test_attempt_cancelled_after_sending_is_sent(serve, connect):
    """The result has the arguments of the cancellation, and the connection is closed."""
    server = await serve(None)
    call = asyncio.create_task((await connect(server.url)).send(REQUEST))
    await server.came.wait()
    call.cancel("the reason")
    assert await call == SendCancelled(("the reason",), sent=True)
    await server.gone.wait()


async def test_attempt_cancelled_while_connecting_is_not_sent(connect_plain):
    """Nothing was sent before there was a connection."""
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


class CallerError(KeyError):
    """Programming error of the caller's code."""


def raise_caller_error(*_):
    """Raise an exception whose message contains the token, as that of a KeyError may."""
    raise CallerError(TOKEN.reveal())


def assert_names_the_code(outcome, *, sent):
    """Check that *outcome* names the line above, without the token, and forbids a retry."""
    line = raise_caller_error.__code__.co_firstlineno + 2
    assert f"CallerError; fix the code ({__file__}, line {line})" in outcome.reason
    assert (outcome.sent, outcome.permanent, outcome.closed) == (sent, True, False)
    assert TOKEN.reveal() not in repr(outcome)


@pytest.mark.parametrize(
    ("signal", "sent"),
    [
        ("on_request_start", False),
        ("on_connection_create_end", False),
        ("on_request_chunk_sent", True),
        ("on_request_end", True),
    ],
)
async def test_exception_of_a_trace_is_permanent(serve, connect_plain, signal, sent):
    """The failure names the file and line of the caller's code, also where aiohttp wraps the exception."""
    server = await serve(OK)
    trace = aiohttp.TraceConfig()

    async def break_down(*_):
        raise_caller_error()

    getattr(trace, signal).append(break_down)
    async with aiohttp.ClientSession(trace_configs=[trace]) as http:
        assert_names_the_code(await (await connect_plain(server.url, http=http)).send(REQUEST), sent=sent)


async def send_through(kind, client_tls, make):
    """Send a request through a connector of the caller that raises what *make* returns, or what it raises."""
    connector = FailingConnector()
    connector.make = make
    transport = kind.open(
        "https://api.example",
        Timeout(),
        ssl=client_tls,
        **{"http" if kind is ClientSessionTransport else "connector": connector},
    )
    try:
        return await transport.send(REQUEST)
    finally:
        await transport.aclose()
        await connector.close()


async def test_exception_of_a_connector_of_the_caller_is_permanent(kind, client_tls):
    """Both transports name the line of the connector."""
    assert_names_the_code(await send_through(kind, client_tls, raise_caller_error), sent=False)


class ProxyError(Exception):
    """Exception of a connector that cannot reach its proxy."""


@pytest.mark.parametrize("error", [ProxyError, RuntimeError])
async def test_exception_before_the_request_may_be_a_failing_connection(kind, client_tls, error):
    """Connectors raise exceptions of their own for a failing proxy, and a retry may succeed."""

    def fail(_):
        raise error(TOKEN.reveal())

    outcome = await send_through(kind, client_tls, fail)
    assert f"{error.__name__} ({__file__}, line " in outcome.reason
    assert (outcome.sent, outcome.permanent) == (False, False)
    assert TOKEN.reveal() not in repr(outcome)


@pytest.mark.parametrize(
    "error",
    [
        AssertionError,
        AttributeError,
        ImportError,
        IndexError,
        KeyError,
        NameError,
        NotImplementedError,
        TypeError,
        UnicodeError,
        ValueError,
        ZeroDivisionError,
    ],
)
async def test_programming_error_before_the_request_is_permanent(kind, client_tls, error):
    """A retry would fail in the same way."""

    def fail(_):
        raise error

    assert (await send_through(kind, client_tls, fail)).permanent


@pytest.mark.parametrize("sent", [False, True], ids=["not sent", "sent"])
async def test_exception_of_a_trace_is_transient_only_before_the_request(serve, connect_plain, sent):
    """After the request was sent, no exception of the caller's code is a failing connection."""
    server, trace = await serve(OK), aiohttp.TraceConfig()

    async def fail(*_):
        raise ProxyError

    getattr(trace, "on_request_end" if sent else "on_request_start").append(fail)
    async with aiohttp.ClientSession(trace_configs=[trace]) as http:
        outcome = await (await connect_plain(server.url, http=http)).send(REQUEST)
    assert (outcome.sent, outcome.permanent) == (sent, sent)


async def test_exception_raised_by_a_line_of_wxtcb_is_to_be_reported(connect_direct):
    """The caller is not asked to fix a line of wxtcb."""

    class Broken(aiohttp.TCPConnector):
        async def connect(self, *_):
            return None

    transport = await connect_direct("https://api.example")
    transport._connector = Broken()
    outcome = await transport.send(REQUEST)
    assert re.search(r"wxtcb raised AttributeError; report it.*connector_transport.py, line \d+\)", outcome.reason)
    assert "fix the code" not in outcome.reason
    assert outcome.permanent


async def test_unexpected_exception_after_closing_is_not_the_caller_s(serve, connect_plain):
    """The code of aiohttp may fail in any way while its session is closed."""
    server = await serve(OK)
    http = aiohttp.ClientSession()
    trace = aiohttp.TraceConfig()

    async def close(*_):
        await http.close()
        raise AssertionError

    trace.on_request_start.append(close)
    trace.freeze()
    http.trace_configs.append(trace)
    outcome = await (await connect_plain(server.url, http=http)).send(REQUEST)
    assert outcome == SendFailure("the connections were closed", sent=False, closed=True)


@pytest.mark.parametrize("field", ["connect", "reply"])
@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf"), None, "5", True])
def test_timeout_must_be_positive_and_finite(field, value):
    """Both timeouts always apply."""
    with pytest.raises(InvalidArgument, match=field):
        Timeout(**{field: value})


async def test_repr_shows_no_token(serve, connect):
    """Transport, request and response can be printed safely."""
    server = await serve(OK)
    transport = await connect(server.url)
    answer = await transport.send(REQUEST)
    assert TOKEN.reveal() not in f"{transport!r} {REQUEST!r} {answer!r}"
    assert "errcode" not in repr(answer)


def test_payload_can_be_decoded():
    """A payload is decoded where aiohttp displays it."""
    assert client_session_transport._TrackedPayload(REQUEST).decode() == '{"a":1}'


async def test_failures_leave_no_task_and_no_warning(serve, connect, send_in_vain):
    """This holds for lost connections and for cancellations."""
    server = await serve(None)
    await send_in_vain(server, await connect(server.url, LIMITS))
    others = [task for task in asyncio.all_tasks() if "ClientRequest" in repr(task.get_coro())]
    assert others == [], traceback.format_exc()
