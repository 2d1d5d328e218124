"""Transport interface: the request and the results of one attempt, and the mapping of aiohttp's exceptions.

aiohttp's exceptions and URLs hold the token, so they never leave the `send` method of a transport. A failure is
returned as a value that records whether the request may have been sent.

There are two transports. `wxtcb._http.client_session_transport` uses `aiohttp.ClientSession`.
`wxtcb._http.connector_transport` bypasses it and is faster.
"""

from __future__ import annotations

import asyncio
import functools
import select
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Generic, Protocol, TypeVar

import aiohttp
import attrs
from aiohttp.http import HttpProcessingError
from yarl import URL

from wxtcb._protocol.limits import LIMITS
from wxtcb.validation import check_seconds, is_loopback, validator

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wxtcb._protocol.codec import RequestBody
    from wxtcb.secret import Secret

T = TypeVar("T")

# What a failing connection raises.
CONNECTION_ERRORS: Final = (OSError, aiohttp.ClientError, HttpProcessingError)
# What code of the caller (a tracing callback, a connector, a mock) raises by mistake. Before a request is sent, any
# other exception may be a failing connection, too: connectors for proxies raise exceptions of their own. After it, none
# is.
PROGRAMMING_ERRORS: Final = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    NameError,
    NotImplementedError,
    TypeError,
    ValueError,
)
CONTENT_TYPE: Final = "application/json; charset=utf-8"
CONNECTION_HINT: Final = "Check base_url, proxy and network."
LOOPBACK_HINT: Final = "Check base_url; is `wxtcb sandbox` still running? Each run has a new port and new credentials."


@functools.cache
def user_agent() -> str:
    """Return the User-Agent of all requests: wxtcb and its version."""
    # It takes several milliseconds, which a program that opens no session need not spend.
    import importlib.metadata  # noqa: PLC0415

    try:
        return f"wxtcb/{importlib.metadata.version('wxtcb')}"
    # A source tree on PYTHONPATH has no metadata.
    except importlib.metadata.PackageNotFoundError:
        return "wxtcb"


@attrs.frozen(kw_only=True)
class Timeout:
    """Time limits in seconds of one attempt.

    - `connect`: limit for getting a connection, TLS handshake included.
    - `reply`: added to `connect`, it limits the whole attempt.

    Both always apply. Set a deadline for a whole call, retries included, with `asyncio.timeout`.
    """

    connect: float = attrs.field(default=5.0, validator=validator(check_seconds))
    reply: float = attrs.field(default=30.0, validator=validator(check_seconds))

    @property
    def total(self) -> float:
        """The limit in seconds for a whole attempt."""
        return self.connect + self.reply

    def to_aiohttp(self) -> aiohttp.ClientTimeout:
        """Return the same limits as aiohttp's timeout."""
        return aiohttp.ClientTimeout(total=self.total, connect=self.connect)


@attrs.frozen
class Request:
    """Request of one attempt; its repr shows no secret.

    A transport calls `may_send` right before it writes the first byte. Unless that returns True, it sends nothing. It
    reads at most `max_reply_bytes` of a body, after decompression.
    """

    path: str
    body: RequestBody
    token: Secret | None = None
    query: Mapping[str, str] | None = None
    may_send: Callable[[], bool] | None = attrs.field(default=None, repr=False)
    max_reply_bytes: int = LIMITS.reply_bytes

    def is_vetoed(self) -> bool:
        """Return whether `may_send` forbids the request. If it raises, the loop's exception handler gets the error."""
        try:
            return self.may_send is not None and self.may_send() is not True
        except Exception as error:
            context = {"message": "may_send raised an exception, so the request was not sent", "exception": error}
            asyncio.get_running_loop().call_exception_handler(context)
            return True


@attrs.frozen
class Response:
    """Complete response with any HTTP status; the body is decompressed."""

    status: int
    body: bytes = attrs.field(repr=False)


@attrs.frozen
class SendFailure:
    """Attempt without a response.

    - `reason`: description without secrets.
    - `sent`: true if the request may have been sent, at least in part.
    - `timeout`: true if a limit of `Timeout` ended the attempt.
    - `closed`: true if the connections were closed, so that further attempts are pointless.
    - `permanent`: true if further attempts would fail in the same way, for instance after a programming error.
    - `hint`: what to do, for a call to the platform.
    """

    reason: str
    sent: bool
    timeout: bool = False
    closed: bool = False
    permanent: bool = False
    hint: str = ""


@attrs.frozen
class ResponseTooLarge:
    """Response with a body of more than `Request.max_reply_bytes` bytes; the rest was not read."""

    status: int


@attrs.frozen
class SendCancelled:
    """Cancelled attempt; `args` are the arguments for the CancelledError that the caller raises instead."""

    args: tuple[object, ...]
    sent: bool


@attrs.frozen
class Vetoed:
    """Request that was not sent, because `Request.may_send` did not return True."""


SendResult = Response | SendFailure | ResponseTooLarge | SendCancelled | Vetoed


class Transport(Protocol):
    """HTTP client as the executor needs it. `send` never raises: it returns cancellation as a value, too."""

    async def send(self, request: Request) -> SendResult: ...

    async def aclose(self) -> None: ...


@attrs.define(repr=False, eq=False)
class PerTokenCache(Generic[T]):
    """Cache of a value that `factory` builds from path and token; a new token empties it."""

    factory: Callable[[Request], T]
    _values: dict[str, T] = attrs.field(init=False, factory=dict, repr=False)
    _token: Secret | None = attrs.field(init=False, default=None)

    def get(self, request: Request) -> T:
        if request.query:
            return self.factory(request)
        # Compared by identity, which is faster than by value: all calls of a session share one Secret per token.
        if self._token is not request.token:
            self._values.clear()
            self._token = request.token
        value = self._values.get(request.path)
        if value is None:
            value = self._values[request.path] = self.factory(request)
        return value


def build_url(base_url: str, request: Request) -> URL:
    """Return the URL of *request*, including the token."""
    query = dict(request.query or {})
    if request.token:
        query["access_token"] = request.token.reveal()
    return URL(base_url + request.path).with_query(query)


def build_headers() -> dict[str, str]:
    """Return the headers of every request to the platform, without those that aiohttp adds."""
    return {"Content-Type": CONTENT_TYPE, "User-Agent": user_agent()}


async def is_stale(connection: asyncio.BaseTransport | None) -> bool:
    """Return whether the server has sent something, or closed, before a request: then *connection* must not be used.

    Nothing awaits between the last look at the socket and the return, so the caller can write in the same step.
    """
    if connection is None or not _is_closing_or_readable(connection):
        return connection is None
    # While the loop was held by other code, it has read nothing. The first turn only runs what was scheduled already;
    # the second one reads. TLS records such as new session tickets are read then, and leave the connection usable.
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return _is_closing_or_readable(connection)


def _is_closing_or_readable(connection: asyncio.BaseTransport) -> bool:
    # A closing transport may have no socket any more; an open one has none only in tests.
    if connection.is_closing() or (socket := connection.get_extra_info("socket")) is None:
        return connection.is_closing()
    # Windows has no `poll`. Elsewhere `select` fails for descriptors above 1023.
    if not hasattr(select, "poll"):
        return bool(select.select([socket], [], [], 0)[0])
    poll = select.poll()
    poll.register(socket.fileno(), select.POLLIN)
    return bool(poll.poll(0))


async def read_bounded(stream: aiohttp.StreamReader, max_bytes: int) -> bytes | None:
    """Read *stream* to its end and return all bytes, or None once there are more than *max_bytes*."""
    # Most replies arrive in one chunk, which needs no copy.
    chunk = await stream.readany()
    if stream.at_eof():
        return chunk if len(chunk) <= max_bytes else None
    whole = bytearray(chunk)
    while len(whole) <= max_bytes and (chunk := await stream.readany()):
        whole += chunk
    return bytes(whole) if len(whole) <= max_bytes else None


def map_cancellation(error: asyncio.CancelledError, *, sent: bool, closed: bool) -> SendCancelled | SendFailure:
    """Return a cancellation of the current task as `SendCancelled`, and one inside aiohttp as a failure.

    aiohttp cancels its own DNS lookups when the connector is closed. They raise CancelledError here, although nothing
    has cancelled the current task.
    """
    task = asyncio.current_task()
    if closed and task is not None and not task.cancelling():
        return SendFailure("the connections were closed", sent=sent, closed=not sent)
    return SendCancelled(error.args, sent=sent)


def map_exception(error: Exception, *, sent: bool, closed: bool) -> SendFailure:
    """Return the failure for an exception of aiohttp, with a reason that contains no secret."""
    match error:
        case TimeoutError():
            return SendFailure("no reply in time" if sent else "no connection in time", sent=sent, timeout=True)
        case aiohttp.ClientConnectorDNSError():
            return SendFailure("the host name could not be resolved", sent=False)
        case aiohttp.ClientProxyConnectionError() | aiohttp.ClientHttpProxyError():
            return SendFailure("the connection to the proxy failed", sent=False)
        case aiohttp.ClientConnectorCertificateError():
            return SendFailure("the server's certificate is not trusted", sent=False)
        case aiohttp.ClientSSLError():
            return SendFailure("the TLS handshake failed", sent=False)
        case aiohttp.ClientConnectorError():
            on_loopback = is_loopback(str(URL.build(scheme="http", host=error.host)))
            hint = LOOPBACK_HINT if on_loopback else CONNECTION_HINT
            return SendFailure(f"no connection ({error.os_error.strerror or 'refused'})", sent=False, hint=hint)
        case aiohttp.ClientResponseError() | HttpProcessingError():
            return SendFailure("the reply is not valid HTTP", sent=sent)
        case aiohttp.ClientPayloadError():
            return SendFailure("the reply was truncated or could not be decompressed", sent=sent)
        case _:
            return _map_other_exception(error, sent=sent, closed=closed)


def _map_other_exception(error: Exception, *, sent: bool, closed: bool) -> SendFailure:
    """Return the failure for a lost connection, or for an exception of other code, with the line that raised it."""
    # An exception of a tracing callback that runs during the write is the cause of a connection error of aiohttp.
    cause = error.__cause__ if isinstance(error, aiohttp.ClientConnectionError) else error
    if cause is None or cause.__traceback__ is None or isinstance(cause, CONNECTION_ERRORS):
        return SendFailure(f"the connection was lost ({type(error).__name__})", sent=sent)
    # aiohttp itself raises RuntimeError for a closed session, and AssertionError if it is closed during a request.
    if closed:
        return SendFailure("the connections were closed", sent=sent, closed=not sent)
    # Without the message of the exception, which may contain the token.
    *_, (frame, line) = traceback.walk_tb(cause.__traceback__)
    name, where = type(cause).__name__, f"{frame.f_code.co_filename}, line {line}"
    permanent = sent or isinstance(cause, PROGRAMMING_ERRORS)
    if str(frame.f_globals.get("__name__")).startswith("wxtcb."):
        reason = f"wxtcb raised {name}; report it, unless your own mock was called there ({where})"
    else:
        reason = f"code that aiohttp called raised {name}{'; fix the code' if permanent else ''} ({where})"
    return SendFailure(reason, sent=sent, permanent=permanent)
