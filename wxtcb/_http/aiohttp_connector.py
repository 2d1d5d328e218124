"""The faster transport: aiohttp connects, keeps the connections and parses; its requests and responses are left out.

`aiohttp.TCPConnector` does DNS, happy eyeballs, TLS and the pool; aiohttp's own protocol reads the answer. Between them
a request is bytes, prepared once per token and path and written in one piece, and nothing is ever written twice.
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

from wxtcb._http.aiohttp_session import AiohttpTransport
from wxtcb._http.transport import (
    HEADERS,
    Answer,
    Failure,
    HeldBack,
    Outcome,
    Prepared,
    Request,
    Timeout,
    TooLarge,
    Transport,
    explain,
    explain_cancelled,
    read_bounded,
    url_of,
)

if TYPE_CHECKING:
    from aiohttp.client_proto import ResponseHandler
    from aiohttp.connector import Connection

    from wxtcb.secret import Secret

MOST_SPOILT: Final = 3
NEEDED: Final = (
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
    """Open the faster transport; the plain one for a session of the caller's, a proxy, or an aiohttp that changed."""
    if not isinstance(http, aiohttp.ClientSession) and proxy is None and has_what_it_takes():
        return DirectTransport.open(base_url, timeout, connector=http, ssl=ssl)
    return AiohttpTransport.open(base_url, timeout, http=http, proxy=proxy, ssl=ssl)


@functools.cache
def has_what_it_takes() -> bool:
    """Tell whether this aiohttp still has the names below its front door that `DirectTransport` calls."""
    try:
        operator.attrgetter(*NEEDED)(aiohttp)
        set_response_params = operator.attrgetter("client_proto.ResponseHandler.set_response_params")(aiohttp)
        inspect.signature(aiohttp.ClientRequest).bind("POST", URL(), headers={}, ssl=True)
        inspect.signature(aiohttp.TCPConnector.connect).bind(None, None, [], None)
        inspect.signature(set_response_params).bind(None, read_until_eof=True)
    except (AttributeError, TypeError):
        return False
    return True


@attrs.define(repr=False, eq=False)
class _Attempt:
    """One request under way; `ended` is why it was ended from outside."""

    connection: Connection | None = None
    stream: aiohttp.StreamReader | None = None
    sent: bool = False
    ended: type[Exception] | None = None

    def end(self, why: type[Exception]) -> None:
        """Make whatever it waits for raise *why*, and drop what is not written yet."""
        self.ended = why
        protocol = self.connection and self.connection.protocol
        if self.stream is not None:
            self.stream.set_exception(why())
        elif protocol is not None:
            protocol.set_exception(why())
        self._abort()

    def check(self) -> None:
        """Raise the reason, if it was ended at a moment when it waited for nothing."""
        if self.ended is not None:
            raise self.ended

    def keep_connection(self) -> None:
        """Let the next request use the connection, unless something of this one is still on the way."""
        connection = self.connection
        transport = connection and connection.transport
        if connection is not None and transport is not None and not transport.get_write_buffer_size():
            connection.release()
            self.connection = None

    def drop_connection(self) -> None:
        """Cut the connection off, unless it was kept; what is not written yet never will be."""
        connection = self.connection
        if connection is not None:
            self._abort()
            connection.close()
            self.connection = self.stream = None

    def _abort(self) -> None:
        transport = self.connection and self.connection.transport
        if transport is not None:
            transport.abort()


@attrs.define(repr=False, eq=False)
class _Watch:
    """Ends every attempt after `seconds`; what begins first is due first, so one timer does for all."""

    seconds: float
    loop: asyncio.AbstractEventLoop
    _due: dict[_Attempt, float] = attrs.field(init=False, factory=dict)
    _timer: asyncio.TimerHandle | None = attrs.field(init=False, default=None)

    def begin(self, attempt: _Attempt) -> None:
        due = self._due[attempt] = self.loop.time() + self.seconds
        if self._timer is None:
            self._timer = self.loop.call_at(due, self._look)

    def forget(self, attempt: _Attempt) -> None:
        self._due.pop(attempt, None)

    def end_all(self, why: type[Exception]) -> None:
        for attempt in self._due:
            attempt.end(why)
        self._due.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        now, self._timer = self.loop.time(), None
        while self._due:
            attempt, due = next(iter(self._due.items()))
            if due > now:
                self._timer = self.loop.call_at(due, self._look)
                return
            del self._due[attempt]
            attempt.end(TimeoutError)


@attrs.define(repr=False, eq=False)
class DirectTransport:
    """Sends over the connections of a connector; both timeouts are always on, and nothing is followed or repeated."""

    base_url: str
    timeout: Timeout
    owned: bool
    _connector: aiohttp.TCPConnector = attrs.field(repr=False)
    _origin: aiohttp.ClientRequest = attrs.field(repr=False)
    _limits: aiohttp.ClientTimeout = attrs.field(repr=False)
    _watch: _Watch = attrs.field(repr=False)
    _closed: bool = attrs.field(init=False, default=False)
    _heads: Prepared[bytes] = attrs.field(
        init=False, repr=False, default=attrs.Factory(lambda self: Prepared(self._head), takes_self=True)
    )

    @classmethod
    def open(
        cls,
        base_url: str,
        timeout: Timeout,
        *,
        connector: aiohttp.TCPConnector | None = None,
        ssl: tls.SSLContext | None = None,
    ) -> DirectTransport:
        """Open a pool of connections without a limit, or use *connector*, which then stays the caller's to close."""
        origin = aiohttp.ClientRequest("POST", URL(base_url), headers=HEADERS, ssl=ssl or True)
        watch = _Watch(timeout.whole, asyncio.get_running_loop())
        pool = connector or aiohttp.TCPConnector(limit=0)
        return cls(base_url, timeout, connector is None, pool, origin, timeout.for_aiohttp(), watch)

    async def send(self, request: Request) -> Outcome:
        if self._is_closed():
            return Failure("the connections are closed", sent=False, closed=True)
        attempt = _Attempt()
        self._watch.begin(attempt)
        try:
            return await self._ask(request, attempt)
        except asyncio.CancelledError as error:
            return explain_cancelled(error, sent=attempt.sent, closed=self._is_closed())
        except Exception as error:
            return explain(attempt.ended() if attempt.ended else error, sent=attempt.sent)
        finally:
            self._watch.forget(attempt)
            attempt.drop_connection()

    async def aclose(self) -> None:
        self._closed = True
        self._watch.end_all(aiohttp.ServerDisconnectedError)
        if self.owned:
            await self._connector.close()

    def _is_closed(self) -> bool:
        return self._closed or self._connector.closed

    async def _ask(self, request: Request, attempt: _Attempt) -> Outcome:
        protocol, transport = await self._connect(attempt)
        if request.is_withheld():
            attempt.keep_connection()
            return HeldBack()
        self._write(request, attempt, transport)
        message, attempt.stream = await protocol.read()
        while 100 <= message.code < 200 and message.code != 101:
            message, attempt.stream = await protocol.read()
        attempt.check()
        reply = await read_bounded(attempt.stream)
        if reply is None:
            return TooLarge(message.code)
        attempt.keep_connection()
        return Answer(message.code, reply)

    def _write(self, request: Request, attempt: _Attempt, transport: asyncio.Transport) -> None:
        """Send all; the bytes, which hold the token, stand in no frame that runs code of the caller's."""
        head, body = self._heads.of(request), request.body.data
        attempt.sent = True
        transport.write(b"%b%d\r\n\r\n%b" % (head, len(body), body))

    async def _connect(self, attempt: _Attempt) -> tuple[ResponseHandler, asyncio.Transport]:
        """Take a connection that is open, and on which nothing has come that nobody asked for."""
        for _ in range(MOST_SPOILT):
            connection = await self._connector.connect(self._origin, [], self._limits)
            attempt.connection = connection
            await asyncio.sleep(0)  # a close that has arrived is heard of in the loop's next turn
            attempt.check()
            protocol, transport = connection.protocol, connection.transport
            if protocol is not None and transport is not None and protocol.is_connected() and not protocol.should_close:
                protocol.set_response_params(read_until_eof=True)
                return protocol, transport
            attempt.drop_connection()
        raise ConnectionError

    def _head(self, request: Request) -> bytes:
        """Write all that comes before the number of bytes in the body, as aiohttp would."""
        lines = [f"POST {url_of(self.base_url, request).raw_path_qs} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in self._origin.headers.items() if name != "Content-Length"]
        return "\r\n".join([*lines, "Content-Length: "]).encode()
