"""Fast transport, the default: uses aiohttp's connector and response parser, but not its `ClientSession`.

`aiohttp.TCPConnector` does DNS, happy eyeballs, TLS and the connection pool; aiohttp's protocol class parses the
response. The head of a request is built once per token and path. Head and body are written in one piece, and never
twice.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import operator
import ssl as tls
from typing import TYPE_CHECKING, Final

import aiohttp
import attrs
from yarl import URL

from wxtcb._http.client_session_transport import ClientSessionTransport
from wxtcb._http.transport import (
    PerTokenCache,
    Request,
    Response,
    ResponseTooLarge,
    SendFailure,
    SendResult,
    Timeout,
    Transport,
    Vetoed,
    build_headers,
    build_url,
    is_stale,
    map_cancellation,
    map_exception,
    read_bounded,
)

if TYPE_CHECKING:
    from aiohttp.client_proto import ResponseHandler
    from aiohttp.connector import Connection

    from wxtcb.secret import Secret

MAX_STALE_CONNECTIONS: Final = 3
# Attributes of aiohttp that this module uses; those outside its documented API may change in any release.
REQUIRED_ATTRIBUTES: Final = (
    "ClientRequest.connection_key",
    "StreamReader.at_eof",
    "StreamReader.readany",
    "StreamReader.set_exception",
    "client_proto.ResponseHandler.is_connected",
    "client_proto.ResponseHandler.read",
    "client_proto.ResponseHandler.set_exception",
    "client_proto.ResponseHandler.should_close",
    "connector.Connection.close",
    "connector.Connection.protocol",
    "connector.Connection.release",
    "connector.Connection.transport",
)


def open_transport(
    base_url: str,
    timeout: Timeout,
    *,
    http: aiohttp.ClientSession | aiohttp.TCPConnector | None = None,
    proxy: Secret | None = None,
    ssl: tls.SSLContext | None = None,
) -> Transport:
    """Create the fast transport, or `ClientSessionTransport` if there is a session of the caller or a proxy.

    An aiohttp version without the attributes that the fast transport needs gets `ClientSessionTransport`, too.
    """
    if not isinstance(http, aiohttp.ClientSession) and proxy is None and is_supported():
        return ConnectorTransport.open(base_url, timeout, connector=http, ssl=ssl)
    return ClientSessionTransport.open(base_url, timeout, http=http, proxy=proxy, ssl=ssl)


@functools.cache
def is_supported() -> bool:
    """Return whether this version of aiohttp has the internal attributes that `ConnectorTransport` uses."""
    try:
        operator.attrgetter(*REQUIRED_ATTRIBUTES)(aiohttp)
        set_response_params = operator.attrgetter("client_proto.ResponseHandler.set_response_params")(aiohttp)
        inspect.signature(aiohttp.ClientRequest).bind("POST", URL(), headers={}, ssl=True)
        inspect.signature(aiohttp.TCPConnector.connect).bind(None, None, [], None)
        inspect.signature(set_response_params).bind(None, read_until_eof=True)
    except (AttributeError, TypeError):
        return False
    return True


@attrs.define(repr=False, eq=False)
class _Attempt:
    """Request in flight; `abort_error` is set if it was ended by the deadline or by closing the transport."""

    connection: Connection | None = None
    stream: aiohttp.StreamReader | None = None
    sent: bool = False
    abort_error: type[Exception] | None = None

    def abort(self, error: type[Exception]) -> None:
        """End the attempt: its pending wait raises *error*, and unwritten data is dropped."""
        self.abort_error = error
        protocol = self.connection and self.connection.protocol
        if self.stream is not None:
            self.stream.set_exception(error())
        elif protocol is not None:
            protocol.set_exception(error())
        self._abort_transport()

    def raise_if_aborted(self) -> None:
        """Raise `abort_error` if the attempt was ended while no wait was pending."""
        if self.abort_error is not None:
            raise self.abort_error

    def release_connection(self) -> None:
        """Return the connection to the pool, unless a part of the request is still unwritten."""
        # A server may reply before it has read the whole request. The rest would then precede the next request.
        connection = self.connection
        transport = connection and connection.transport
        if connection is not None and transport is not None and not transport.get_write_buffer_size():
            connection.release()
            self.connection = None

    def close_connection(self) -> None:
        """Close the connection, unless it was released; unwritten data is dropped."""
        connection = self.connection
        if connection is not None:
            self._abort_transport()
            connection.close()
            self.connection = self.stream = None

    def _abort_transport(self) -> None:
        transport = self.connection and self.connection.transport
        if transport is not None:
            transport.abort()


@attrs.define(repr=False, eq=False)
class _DeadlineTimer:
    """Timer that ends every attempt `timeout` seconds after its start.

    All attempts have the same timeout, so they expire in the order of the dictionary, and one timer serves them all.
    """

    timeout: float
    loop: asyncio.AbstractEventLoop
    _deadlines: dict[_Attempt, float] = attrs.field(init=False, factory=dict)
    _timer: asyncio.TimerHandle | None = attrs.field(init=False, default=None)

    def add(self, attempt: _Attempt) -> None:
        due = self._deadlines[attempt] = self.loop.time() + self.timeout
        if self._timer is None:
            self._timer = self.loop.call_at(due, self._on_timer)

    def remove(self, attempt: _Attempt) -> None:
        self._deadlines.pop(attempt, None)

    def abort_all(self, error: type[Exception]) -> None:
        for attempt in self._deadlines:
            attempt.abort(error)
        self._deadlines.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_timer(self) -> None:
        now, self._timer = self.loop.time(), None
        while self._deadlines:
            attempt, due = next(iter(self._deadlines.items()))
            if due > now:
                self._timer = self.loop.call_at(due, self._on_timer)
                return
            del self._deadlines[attempt]
            attempt.abort(TimeoutError)


@attrs.define(repr=False, eq=False)
class ConnectorTransport:
    """Transport on a `TCPConnector`: both timeouts always apply; redirects are not followed; nothing is sent twice."""

    base_url: str
    timeout: Timeout
    owns_connector: bool
    _connector: aiohttp.TCPConnector = attrs.field(repr=False)
    _connection_request: aiohttp.ClientRequest = attrs.field(repr=False)
    _client_timeout: aiohttp.ClientTimeout = attrs.field(repr=False)
    _deadline_timer: _DeadlineTimer = attrs.field(repr=False)
    _closed: bool = attrs.field(init=False, default=False)
    _head_cache: PerTokenCache[memoryview] = attrs.field(
        init=False, repr=False, default=attrs.Factory(lambda self: PerTokenCache(self._build_head), takes_self=True)
    )

    @classmethod
    def open(
        cls,
        base_url: str,
        timeout: Timeout,
        *,
        connector: aiohttp.TCPConnector | None = None,
        ssl: tls.SSLContext | None = None,
    ) -> ConnectorTransport:
        """Create a transport with its own connections, or on those of *connector*, which the caller must close."""
        origin = aiohttp.ClientRequest("POST", URL(base_url), headers=build_headers(), ssl=ssl or True)
        timer = _DeadlineTimer(timeout.total, asyncio.get_running_loop())
        pool = connector or aiohttp.TCPConnector(limit=0)
        return cls(base_url, timeout, connector is None, pool, origin, timeout.to_aiohttp(), timer)

    async def send(self, request: Request) -> SendResult:
        if self._is_closed():
            return SendFailure("the connections are closed", sent=False, closed=True)
        attempt = _Attempt()
        self._deadline_timer.add(attempt)
        try:
            return await self._send_attempt(request, attempt)
        except asyncio.CancelledError as error:
            return map_cancellation(error, sent=attempt.sent, closed=self._is_closed())
        # After an abort the exception depends on what the attempt waited for, so `abort_error` takes precedence.
        except Exception as error:
            failure = attempt.abort_error() if attempt.abort_error else error
            return map_exception(failure, sent=attempt.sent, closed=self._is_closed())
        finally:
            self._deadline_timer.remove(attempt)
            attempt.close_connection()

    async def aclose(self) -> None:
        self._closed = True
        self._deadline_timer.abort_all(aiohttp.ServerDisconnectedError)
        if self.owns_connector:
            await self._connector.close()

    def _is_closed(self) -> bool:
        return self._closed or self._connector.closed

    async def _send_attempt(self, request: Request, attempt: _Attempt) -> SendResult:
        protocol, transport = await self._connect(attempt)
        if request.is_vetoed():
            attempt.release_connection()
            return Vetoed()
        self._write(request, attempt, transport)
        message, attempt.stream = await protocol.read()
        # Skip interim responses such as 100 Continue; 101 is final, because the protocol changes after it.
        while 100 <= message.code < 200 and message.code != 101:
            message, attempt.stream = await protocol.read()
        attempt.raise_if_aborted()
        reply = await read_bounded(attempt.stream, request.max_reply_bytes)
        if reply is None:
            return ResponseTooLarge(message.code)
        attempt.release_connection()
        return Response(message.code, reply)

    def _write(self, request: Request, attempt: _Attempt, transport: asyncio.Transport) -> None:
        """Write head and body.

        No frame has the bytes, which hold the token, in a local variable with a repr that shows them: neither during a
        wait, nor if a signal handler raises in the middle of the write.
        """
        body = request.body
        attempt.sent = True
        transport.write(
            memoryview(b"".join((self._head_cache.get(request), b"%d\r\n\r\n" % len(body.data), body.data)))
        )

    async def _connect(self, attempt: _Attempt) -> tuple[ResponseHandler, asyncio.Transport]:
        """Return a connection that is open and has received no data before the request."""
        for _ in range(MAX_STALE_CONNECTIONS):
            connection = await self._connector.connect(self._connection_request, [], self._client_timeout)
            attempt.connection = connection
            # A pooled connection may have been closed by the server, and the loop may not have noticed it yet.
            stale = await is_stale(connection.transport)
            attempt.raise_if_aborted()
            protocol, transport = connection.protocol, connection.transport
            if (
                not stale
                and protocol is not None
                and transport is not None
                and protocol.is_connected()
                and not protocol.should_close
            ):
                protocol.set_response_params(read_until_eof=True)
                return protocol, transport
            attempt.close_connection()
        raise ConnectionError

    def _build_head(self, request: Request) -> memoryview:
        """Return the request line and headers up to the value of Content-Length, formatted as aiohttp does."""
        headers = [
            f"{name}: {value}" for name, value in self._connection_request.headers.items() if name != "Content-Length"
        ]
        # One expression, so that no local variable holds the token.
        return memoryview(
            "\r\n".join(
                [f"POST {build_url(self.base_url, request).raw_path_qs} HTTP/1.1", *headers, "Content-Length: "]
            ).encode()
        )
