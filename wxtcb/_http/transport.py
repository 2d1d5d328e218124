"""One attempt over HTTP: a request in; an answer out, or a failure that knows whether anything was sent.

This is where aiohttp's errors become ours. They, and the URLs, carry the token, so they never leave the `send` of a
transport: what went wrong is returned as a value. There are two: `wxtcb._http.aiohttp_session` stands on
`aiohttp.ClientSession`, `wxtcb._http.aiohttp_connector` goes below it and is faster.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Generic, Protocol, TypeVar

import aiohttp
import attrs
from aiohttp.http import HttpProcessingError
from yarl import URL

from wxtcb.validation import check_seconds, validator

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wxtcb._protocol.codec import RequestBody
    from wxtcb.secret import Secret

T = TypeVar("T")

MAX_REPLY_BYTES: Final = 32 * 1024 * 1024
HEADERS: Final = {"Content-Type": "application/json; charset=utf-8"}


@attrs.frozen(kw_only=True)
class Timeout:
    """The seconds one attempt may take: `connect` to be connected (TLS included), `connect` + `reply` in all.

    Both are always on. The deadline of a whole call, retries included, is the caller's (`asyncio.timeout`).
    """

    connect: float = attrs.field(default=5.0, validator=validator(check_seconds))
    reply: float = attrs.field(default=30.0, validator=validator(check_seconds))

    @property
    def total(self) -> float:
        """The seconds after which an attempt is over in any case."""
        return self.connect + self.reply

    def to_aiohttp(self) -> aiohttp.ClientTimeout:
        """Return the same limits in aiohttp's terms."""
        return aiohttp.ClientTimeout(total=self.total, connect=self.connect)


@attrs.frozen
class Request:
    """One attempt to be made; its repr shows no secret.

    A transport asks `may_send` right before the first byte leaves, and sends nothing unless the answer is True.
    """

    path: str
    body: RequestBody
    token: Secret | None = None
    query: Mapping[str, str] | None = None
    may_send: Callable[[], bool] | None = attrs.field(default=None, repr=False)

    def is_vetoed(self) -> bool:
        """Ask `may_send`. One that raises withholds the request; the loop's exception handler is told why."""
        try:
            return self.may_send is not None and self.may_send() is not True
        except Exception as error:
            context = {"message": "may_send raised, so nothing was sent", "exception": error}
            asyncio.get_running_loop().call_exception_handler(context)
            return True


@attrs.frozen
class Response:
    """What came back, whatever the HTTP status; the body is decompressed and whole."""

    status: int
    body: bytes = attrs.field(repr=False)


@attrs.frozen
class SendFailure:
    """No answer: `reason` in words without secrets, and whether the body may have left (`sent`).

    `closed`: there is nothing left to send with.
    """

    reason: str
    sent: bool
    timeout: bool = False
    closed: bool = False


@attrs.frozen
class ResponseTooLarge:
    """An answer over `MAX_REPLY_BYTES` bytes; the rest was not read."""

    status: int


@attrs.frozen
class SendCancelled:
    """The attempt was cancelled; `args` belong into the CancelledError that the caller raises in its place."""

    args: tuple[object, ...]
    sent: bool


@attrs.frozen
class Vetoed:
    """Nothing was sent, for `Request.may_send` said no."""


SendResult = Response | SendFailure | ResponseTooLarge | SendCancelled | Vetoed


class Transport(Protocol):
    """What the exchange needs of an HTTP client. `send` raises nothing, cancellation included."""

    async def send(self, request: Request) -> SendResult: ...

    async def aclose(self) -> None: ...


@attrs.define(repr=False, eq=False)
class PerTokenCache(Generic[T]):
    """What `factory` makes of a request without its body, kept per path for as long as the token stays the same."""

    factory: Callable[[Request], T]
    _values: dict[str, T] = attrs.field(init=False, factory=dict, repr=False)
    _token: Secret | None = attrs.field(init=False, default=None)

    def get(self, request: Request) -> T:
        if request.query:
            return self.factory(request)
        if self._token is not request.token:
            self._values.clear()
            self._token = request.token
        made = self._values.get(request.path)
        if made is None:
            made = self._values[request.path] = self.factory(request)
        return made


def build_url(base_url: str, request: Request) -> URL:
    """Return the URL of *request*, token included."""
    query = dict(request.query or {})
    if request.token:
        query["access_token"] = request.token.reveal()
    return URL(base_url + request.path).with_query(query)


async def read_bounded(stream: aiohttp.StreamReader) -> bytes | None:
    """Read *stream* to its end and return the whole, or None as soon as that is more than `MAX_REPLY_BYTES`."""
    chunk = await stream.readany()
    if stream.at_eof():
        return chunk if len(chunk) <= MAX_REPLY_BYTES else None
    whole = bytearray(chunk)
    while len(whole) <= MAX_REPLY_BYTES and (chunk := await stream.readany()):
        whole += chunk
    return bytes(whole) if len(whole) <= MAX_REPLY_BYTES else None


def map_cancellation(error: asyncio.CancelledError, *, sent: bool, closed: bool) -> SendCancelled | SendFailure:
    """Tell whether the caller was cancelled, or only a look-up of aiohttp's, which ends so when its pool is closed."""
    task = asyncio.current_task()
    if closed and task is not None and not task.cancelling():
        return SendFailure("the connections were closed", sent=sent, closed=not sent)
    return SendCancelled(error.args, sent=sent)


def map_exception(error: Exception, *, sent: bool) -> SendFailure:
    """Turn what aiohttp raised into words without secrets."""
    match error:
        case TimeoutError():
            return SendFailure("no reply in time" if sent else "no connection in time", sent=sent, timeout=True)
        case aiohttp.ClientConnectorDNSError():
            return SendFailure("the host name cannot be resolved", sent=False)
        case aiohttp.ClientProxyConnectionError() | aiohttp.ClientHttpProxyError():
            return SendFailure("the proxy cannot be used", sent=False)
        case aiohttp.ClientConnectorCertificateError():
            return SendFailure("the server's certificate is not trusted", sent=False)
        case aiohttp.ClientSSLError():
            return SendFailure("the TLS handshake failed", sent=False)
        case aiohttp.ClientConnectorError():
            return SendFailure(f"no connection ({error.os_error.strerror or 'refused'})", sent=False)
        case aiohttp.ClientResponseError() | HttpProcessingError():
            return SendFailure("the reply is no HTTP", sent=sent)
        case aiohttp.ClientPayloadError():
            return SendFailure("the reply was cut off or cannot be decompressed", sent=sent)
        case RuntimeError() if not sent:
            return SendFailure("the aiohttp session is closed", sent=False, closed=True)
        case _:
            return SendFailure(f"the connection was lost ({type(error).__name__})", sent=sent)
