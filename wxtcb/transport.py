"""One attempt over HTTP: a request in; an answer out, or a failure that knows whether anything was sent.

This is the only module that sees aiohttp, and the only one where its errors become ours. They, and the URLs, carry the
token, so they never leave `AiohttpTransport.send`: what went wrong is returned as a value.
"""

from __future__ import annotations

import asyncio
import ssl as tls
from typing import TYPE_CHECKING, Final, Protocol

import aiohttp
import attrs
from aiohttp.payload import Payload
from yarl import URL

from wxtcb.arguments import check_seconds, field_is

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiohttp.abc import AbstractStreamWriter

    from wxtcb.secret import Secret
    from wxtcb.wire import Body

MAX_REPLY: Final = 32 * 1024 * 1024
_HEADERS: Final = {"Content-Type": "application/json; charset=utf-8"}


@attrs.frozen(kw_only=True)
class Timeout:
    """The seconds one attempt may take: `connect` to be connected (TLS included), `connect` + `reply` in all.

    Both are always on. The deadline of a whole call, retries included, is the caller's (`asyncio.timeout`).
    """

    connect: float = attrs.field(default=5.0, validator=field_is(check_seconds))
    reply: float = attrs.field(default=30.0, validator=field_is(check_seconds))

    @property
    def whole(self) -> float:
        """The seconds after which an attempt is over in any case."""
        return self.connect + self.reply

    def for_aiohttp(self) -> aiohttp.ClientTimeout:
        """Return the same limits in aiohttp's terms."""
        return aiohttp.ClientTimeout(total=self.whole, connect=self.connect)


@attrs.frozen
class Request:
    """One attempt to be made; its repr shows no secret."""

    path: str
    body: Body
    token: Secret | None = None
    query: Mapping[str, str] | None = None


@attrs.frozen
class Answer:
    """What came back, whatever the HTTP status; the body is decompressed and whole."""

    status: int
    body: bytes = attrs.field(repr=False)


@attrs.frozen
class Failure:
    """No answer: `reason` in words without secrets, and whether the body may have left (`sent`).

    `closed`: there is nothing left to send with.
    """

    reason: str
    sent: bool
    timeout: bool = False
    closed: bool = False


@attrs.frozen
class TooLarge:
    """An answer over `MAX_REPLY` bytes; the rest was not read."""

    status: int


@attrs.frozen
class Cancelled:
    """The attempt was cancelled; `args` belong into the CancelledError that the caller raises in its place."""

    args: tuple[object, ...]
    sent: bool


Outcome = Answer | Failure | TooLarge | Cancelled


class Transport(Protocol):
    """What the exchange needs of an HTTP client. `send` raises nothing, cancellation included."""

    async def send(self, request: Request) -> Outcome: ...

    async def aclose(self) -> None: ...


class _TrackedBody(Payload):
    """A body that knows whether it began to leave."""

    _value: bytes
    _autoclose = True

    def __init__(self, data: bytes) -> None:
        super().__init__(data, content_type=_HEADERS["Content-Type"])
        self._size = len(data)
        self.left = False

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        return self._value.decode(encoding, errors)

    async def write(self, writer: AbstractStreamWriter) -> None:
        self.left = True
        await writer.write(self._value)


@attrs.define(eq=False)
class AiohttpTransport:
    """Sends with `aiohttp.ClientSession.post`; redirects are not followed, both timeouts are set on every request."""

    base_url: str
    timeout: Timeout
    http: aiohttp.ClientSession = attrs.field(repr=False)
    owned: bool
    proxy: Secret | None = None
    ssl: tls.SSLContext | None = attrs.field(default=None, repr=False)
    _limits: aiohttp.ClientTimeout = attrs.field(
        init=False, default=attrs.Factory(lambda self: self.timeout.for_aiohttp(), takes_self=True)
    )
    _urls: dict[str, URL] = attrs.field(init=False, factory=dict, repr=False)
    _urls_of: Secret | None = attrs.field(init=False, default=None)

    @classmethod
    def open(
        cls,
        base_url: str,
        timeout: Timeout,
        *,
        http: aiohttp.ClientSession | None = None,
        proxy: Secret | None = None,
        ssl: tls.SSLContext | None = None,
    ) -> AiohttpTransport:
        """Open a pool of connections of our own, or use that of *http*, which then stays the caller's to close."""
        if http is not None:
            return cls(base_url, timeout, http, owned=False, proxy=proxy, ssl=ssl)
        mine = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers=_HEADERS,
        )
        return cls(base_url, timeout, mine, owned=True, proxy=proxy, ssl=ssl)

    async def send(self, request: Request) -> Outcome:
        body = _TrackedBody(request.body.data)
        try:
            response = await self.http.post(
                self._url(request),
                data=body,
                headers=None if self.owned else _HEADERS,
                allow_redirects=False,
                auto_decompress=True,
                middlewares=(),
                raise_for_status=False,
                timeout=self._limits,
                proxy=self.proxy.reveal() if self.proxy else None,
                ssl=self.ssl or True,
            )
            return await _read(response)
        except asyncio.CancelledError as error:
            return Cancelled(error.args, sent=body.left)
        except Exception as error:
            return _explain(error, sent=body.left)

    async def aclose(self) -> None:
        if self.owned:
            await self.http.close()

    def _url(self, request: Request) -> URL:
        if request.query:
            return self._build(request)
        if self._urls_of is not request.token:
            self._urls.clear()
            self._urls_of = request.token
        url = self._urls.get(request.path)
        if url is None:
            url = self._urls[request.path] = self._build(request)
        return url

    def _build(self, request: Request) -> URL:
        query = dict(request.query or {})
        if request.token:
            query["access_token"] = request.token.reveal()
        return URL(self.base_url + request.path).with_query(query)


async def _read(response: aiohttp.ClientResponse) -> Answer | TooLarge:
    """Read to the end, but never past `MAX_REPLY`, whatever the headers promise and the compression hides."""
    length = response.content_length
    if length is not None and length <= MAX_REPLY and "Content-Encoding" not in response.headers:
        return Answer(response.status, await response.read())
    chunks = bytearray()
    async with response:
        async for chunk in response.content.iter_any():
            chunks += chunk
            if len(chunks) > MAX_REPLY:
                response.close()
                return TooLarge(response.status)
    return Answer(response.status, bytes(chunks))


def _explain(error: Exception, *, sent: bool) -> Failure:
    match error:
        case aiohttp.ConnectionTimeoutError():
            return Failure("no connection in time", sent=False, timeout=True)
        case TimeoutError():
            return Failure("no reply in time" if sent else "no connection in time", sent=sent, timeout=True)
        case aiohttp.ClientConnectorDNSError():
            return Failure("the host name cannot be resolved", sent=False)
        case aiohttp.ClientProxyConnectionError() | aiohttp.ClientHttpProxyError():
            return Failure("the proxy cannot be used", sent=False)
        case aiohttp.ClientConnectorCertificateError():
            return Failure("the server's certificate is not trusted", sent=False)
        case aiohttp.ClientSSLError():
            return Failure("the TLS handshake failed", sent=False)
        case aiohttp.ClientConnectorError():
            return Failure(f"no connection ({error.os_error.strerror or 'refused'})", sent=False)
        case aiohttp.ClientPayloadError():
            return Failure("the reply was cut off or cannot be decompressed", sent=sent)
        case RuntimeError() if not sent:
            return Failure("the aiohttp session is closed", sent=False, closed=True)
        case _:
            return Failure(f"the connection was lost ({type(error).__name__})", sent=sent)
