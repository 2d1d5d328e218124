"""The plain transport, on `aiohttp.ClientSession`: for a session of the caller's, and for proxies."""

from __future__ import annotations

import asyncio
import functools
import ssl as tls
from typing import TYPE_CHECKING, Final

import aiohttp
import attrs
from aiohttp.payload import Payload
from yarl import URL

from wxtcb._http.transport import (
    HEADERS,
    PerTokenCache,
    Request,
    Response,
    ResponseTooLarge,
    SendFailure,
    SendResult,
    Timeout,
    Vetoed,
    build_url,
    map_cancellation,
    map_exception,
    read_bounded,
)

if TYPE_CHECKING:
    from aiohttp.abc import AbstractStreamWriter

    from wxtcb.secret import Secret


UNSOLICITED_REPLY: Final = SendFailure("the connection carried a reply that nobody asked for", sent=False)


class _BodyNotSent(Exception):
    """Keeps a body from leaving."""


class _TrackedPayload(Payload):
    """The body of a request, which knows whether it began to leave; one that is withheld does not.

    `requested`: a request was made of it, as by aiohttp and not by a mock in its place.
    """

    _value: bytes
    _autoclose = True

    def __init__(self, request: Request) -> None:
        super().__init__(request.body.data, content_type=HEADERS["Content-Type"])
        self._request = request
        self.requested = False
        self.sent = False
        self.vetoed = False

    @property
    def size(self) -> int:
        self.requested = True
        return len(self._value)

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        return self._value.decode(encoding, errors)

    async def write(self, writer: AbstractStreamWriter) -> None:
        await asyncio.sleep(0)  # so that no frame which holds the URL is below the question
        self.vetoed = self._request.is_vetoed()
        if self.vetoed or _has_unsolicited_data(writer):
            raise _BodyNotSent
        self.sent = True
        await writer.write(self._value)


@attrs.define(repr=False, eq=False)
class SessionTransport:
    """Sends with `aiohttp.ClientSession.post`; redirects are not followed, both timeouts are set on every request."""

    base_url: str
    timeout: Timeout
    http: aiohttp.ClientSession = attrs.field(repr=False)
    owns_session: bool
    proxy: Secret | None = None
    ssl: tls.SSLContext | None = attrs.field(default=None, repr=False)
    _client_timeout: aiohttp.ClientTimeout = attrs.field(
        init=False, default=attrs.Factory(lambda self: self.timeout.to_aiohttp(), takes_self=True)
    )
    _url_cache: PerTokenCache[URL] = attrs.field(
        init=False,
        repr=False,
        default=attrs.Factory(lambda self: PerTokenCache(functools.partial(build_url, self.base_url)), takes_self=True),
    )

    @classmethod
    def open(
        cls,
        base_url: str,
        timeout: Timeout,
        *,
        http: aiohttp.ClientSession | aiohttp.TCPConnector | None = None,
        proxy: Secret | None = None,
        ssl: tls.SSLContext | None = None,
    ) -> SessionTransport:
        """Open a pool of connections of our own, or use that of *http*, which then stays the caller's to close."""
        if isinstance(http, aiohttp.ClientSession):
            return cls(base_url, timeout, http, owns_session=False, proxy=proxy, ssl=ssl)
        mine = aiohttp.ClientSession(
            connector=http or aiohttp.TCPConnector(limit=0),
            connector_owner=http is None,
            cookie_jar=aiohttp.DummyCookieJar(),
            headers=HEADERS,
        )
        return cls(base_url, timeout, mine, owns_session=True, proxy=proxy, ssl=ssl)

    async def send(self, request: Request) -> SendResult:
        body = _TrackedPayload(request)
        try:
            response = await self.http.post(
                self._url_cache.get(request),
                data=body,
                headers=None if self.owns_session else HEADERS,
                allow_redirects=False,
                auto_decompress=True,
                middlewares=(),
                raise_for_status=False,
                timeout=self._client_timeout,
                proxy=self.proxy.reveal() if self.proxy else None,
                ssl=self.ssl or True,
            )
            if body.requested and not body.sent:
                response.close()
                return Vetoed() if body.vetoed else UNSOLICITED_REPLY
            return await _read_response(response)
        except asyncio.CancelledError as error:
            return map_cancellation(error, sent=body.sent, closed=self.http.closed)
        except Exception as error:
            return Vetoed() if body.vetoed else map_exception(error, sent=body.sent)

    async def aclose(self) -> None:
        if self.owns_session:
            await self.http.close()


def _has_unsolicited_data(writer: AbstractStreamWriter) -> bool:
    """Tell whether something has come on the connection before anything was asked on it."""
    return bool(getattr(getattr(writer, "protocol", None), "should_close", False))


async def _read_response(response: aiohttp.ClientResponse) -> Response | ResponseTooLarge:
    try:
        body = await read_bounded(response.content)
    finally:
        response.close()  # which does nothing once all is read
    return ResponseTooLarge(response.status) if body is None else Response(response.status, body)
