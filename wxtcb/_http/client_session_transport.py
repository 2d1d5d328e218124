"""Transport on `aiohttp.ClientSession`: for a session of the caller, a proxy, or an unknown version of aiohttp."""

from __future__ import annotations

import asyncio
import functools
import ssl as tls
from typing import TYPE_CHECKING, Final, cast

import aiohttp
import attrs
from aiohttp import hdrs
from aiohttp.payload import Payload
from yarl import URL

from wxtcb._http import transport

if TYPE_CHECKING:
    from aiohttp.abc import AbstractStreamWriter

    from wxtcb.secret import Secret


UNSOLICITED_REPLY: Final = transport.SendFailure("the connection had received data before the request", sent=False)


class _BodyNotSent(ConnectionError):
    """Exception raised to aiohttp instead of writing the body; it counts as a lost connection."""


class _TrackedPayload(Payload):
    """Request body that records its progress.

    - `requested`: aiohttp has prepared a request with it. A mock in place of aiohttp does not do that.
    - `sent`: aiohttp may have written the body or a part of it.
    - `vetoed`: `may_send` forbade the request, so the body was not written.
    """

    _value: bytes
    # aiohttp closes a payload after the request unless it is marked so; there is nothing to close.
    _autoclose = True

    def __init__(self, request: transport.Request) -> None:
        super().__init__(request.body.data, content_type=transport.CONTENT_TYPE)
        self._request = request
        self.requested = False
        self.sent = False
        self.vetoed = False

    @property
    def size(self) -> int:
        # aiohttp reads the size for the Content-Length header, before it writes anything.
        self.requested = True
        return len(self._value)

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        return self._value.decode(encoding, errors)

    async def write(self, writer: AbstractStreamWriter) -> None:
        # Continue in a new turn of the loop, in aiohttp's writer task. Otherwise an exception of `may_send`, a user's
        # function, would have frames of aiohttp in its traceback that hold the URL with the token.
        await asyncio.sleep(0)
        is_stale = await transport.is_stale(getattr(writer, "transport", None))
        # Asked last: nothing may pass between the permission and the write.
        self.vetoed = self._request.is_vetoed()
        if self.vetoed or is_stale or _has_unsolicited_data(writer):
            raise _BodyNotSent
        self.sent = True
        await writer.write(self._value)


@attrs.define(repr=False, eq=False)
class ClientSessionTransport:
    """Transport that sends with `aiohttp.ClientSession.post`.

    Redirects and timeouts are set on every request, so that a session passed by the caller cannot weaken them.
    """

    base_url: str
    timeout: transport.Timeout
    http: aiohttp.ClientSession = attrs.field(repr=False)
    owns_session: bool
    proxy: Secret | None = None
    ssl: tls.SSLContext | None = attrs.field(default=None, repr=False)
    _client_timeout: aiohttp.ClientTimeout = attrs.field(
        init=False, default=attrs.Factory(lambda self: self.timeout.to_aiohttp(), takes_self=True)
    )
    _headers: dict[str, str] = attrs.field(init=False, repr=False, factory=transport.build_headers)
    _url_cache: transport.PerTokenCache[URL] = attrs.field(
        init=False,
        repr=False,
        default=attrs.Factory(
            lambda self: transport.PerTokenCache(functools.partial(transport.build_url, self.base_url)), takes_self=True
        ),
    )

    @classmethod
    def open(
        cls,
        base_url: str,
        timeout: transport.Timeout,
        *,
        http: aiohttp.ClientSession | aiohttp.TCPConnector | None = None,
        proxy: Secret | None = None,
        ssl: tls.SSLContext | None = None,
    ) -> ClientSessionTransport:
        """Create a transport with its own connections, or on those of *http*, which the caller must close."""
        if isinstance(http, aiohttp.ClientSession):
            return cls(base_url, timeout, http, owns_session=False, proxy=proxy, ssl=ssl)
        session = aiohttp.ClientSession(
            # No limit here: with a limit, aiohttp lets new requests overtake waiting ones, some of which then never get
            # a connection. `RequestLimiter` limits the requests in FIFO order.
            connector=http or aiohttp.TCPConnector(limit=0),
            connector_owner=http is None,
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        return cls(base_url, timeout, session, owns_session=True, proxy=proxy, ssl=ssl)

    async def send(self, request: transport.Request) -> transport.SendResult:
        body = _TrackedPayload(request)
        try:
            response = await self.http.post(
                self._url_cache.get(request),
                data=body,
                headers=self._headers,
                allow_redirects=False,
                auto_decompress=True,
                # In place of the caller's middlewares, which could send the request twice.
                middlewares=() if self.owns_session else (_remove_foreign_headers,),
                raise_for_status=False,
                timeout=self._client_timeout,
                proxy=self.proxy.reveal() if self.proxy else None,
                ssl=self.ssl or True,
            )
            # A response although the body was not written: it cannot be the response to this request.
            if body.requested and not body.sent:
                response.close()
                return transport.Vetoed() if body.vetoed else UNSOLICITED_REPLY
            return await _read_response(response, request.max_reply_bytes)
        except asyncio.CancelledError as error:
            return transport.map_cancellation(error, sent=body.sent, closed=self.http.closed)
        # Any exception of aiohttp may hold the URL with the token, so none may leave.
        except Exception as error:
            if body.vetoed:
                return transport.Vetoed()
            return transport.map_exception(error, sent=body.sent, closed=self.http.closed)

    async def aclose(self) -> None:
        if self.owns_session:
            await self.http.close()


# A function, not a method: mocks such as aioresponses copy the arguments of a request deeply.
async def _remove_foreign_headers(
    request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    """Send *request* without headers, cookies and credentials of the caller's session: they are for other servers.

    This is a middleware of aiohttp, because a session cannot omit its defaults in a single request. Headers that a
    tracing callback has added stay.
    """
    for name in (*request.session.headers, hdrs.AUTHORIZATION, hdrs.COOKIE):
        request.headers.popall(name, None)
    # Any of these may have been a default of the session.
    host, size = request.url.host_port_subcomponent or "", cast("Payload", request.body).size
    request.headers.update({**transport.build_headers(), hdrs.HOST: host, hdrs.CONTENT_LENGTH: str(size)})
    return await handler(request)


def _has_unsolicited_data(writer: AbstractStreamWriter) -> bool:
    """Return whether data has arrived on the connection before this request was written."""
    # `should_close` is also True once the server has closed the connection.
    return bool(getattr(getattr(writer, "protocol", None), "should_close", False))


async def _read_response(
    response: aiohttp.ClientResponse, max_bytes: int
) -> transport.Response | transport.ResponseTooLarge:
    try:
        body = await transport.read_bounded(response.content, max_bytes)
    finally:
        # Once everything is read, the connection is back in the pool and this does nothing.
        response.close()
    return transport.ResponseTooLarge(response.status) if body is None else transport.Response(response.status, body)
