"""Client for object storage: its own connections, and no exceptions of aiohttp."""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl as tls
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final, TypeVar

import aiohttp
import attrs

from wxtcb._concurrency.limiter import RequestLimiter
from wxtcb._http.transport import SendCancelled, SendFailure, Timeout, map_cancellation, map_exception, user_agent
from wxtcb._object_storage.body import UploadBody
from wxtcb._object_storage.link_policy import LinkPolicy
from wxtcb._object_storage.response import MAX_BODY_BYTES, StorageResponse
from wxtcb._object_storage.urls import raw_url
from wxtcb.secret import Secret

if TYPE_CHECKING:
    from aiohttp.connector import Connection

T = TypeVar("T")

# aiohttp's default of 64 KiB would mean four times as many chunks, each written to the disk in a thread of its own.
_READ_BUFFER_SIZE: Final = 256 * 1024
# The limiter keeps state per path. All transfers share this one, which is never paused.
_LIMITER_KEY: Final = "object storage"


@attrs.frozen
class StorageRequest:
    """Request to object storage; `form` holds the fields before the file of a POST, and is None for other methods."""

    method: str
    url: Secret
    headers: Mapping[str, str] = attrs.field(factory=dict[str, str], repr=False)
    form: Mapping[str, str] | None = attrs.field(default=None, repr=False)
    upload_body: UploadBody | None = None

    @property
    def sent(self) -> bool:
        """Whether the request may have been sent: always for one without a body, which cannot be observed."""
        return self.upload_body is None or self.upload_body.started

    def build_body(self) -> aiohttp.FormData | UploadBody | None:
        if self.form is None:
            return self.upload_body
        fields = aiohttp.FormData()
        for name, value in self.form.items():
            fields.add_field(name, value)
        # COS requires the file to be the last field of the form.
        fields.add_field("file", self.upload_body, filename="file")
        return fields


class _ForbiddenAddress(OSError):
    """Error that ends a connection to a forbidden address; `strerror` is the reason of the `SendFailure`."""

    def __init__(self, address: str) -> None:
        super().__init__(
            errno.EACCES,
            f"the host has the address {address}, which is not public; if that is right, as inside of Tencent Cloud, "
            "add the address or its network to transfer_hosts of the Session",
        )

    def __str__(self) -> str:
        # Without the address: if a host has several, aiohttp keeps the exception only if all of them have one text.
        return "the address is not public"


@attrs.define(repr=False, eq=False)
class StorageClient:
    """Client for object storage; its connections are opened on first use and closed with the session.

    Of an aiohttp session passed by the caller, only the connector is used: its middlewares, cookies, headers and
    credentials are meant for WeChat. The slots of `limiter` bound the number of concurrent transfers, in FIFO order. A
    transfer has no overall time limit: `timeout.connect` limits the time to connect, and `timeout.reply` each pause in
    the transfer after that.
    """

    timeout: Timeout
    limiter: RequestLimiter = attrs.field(repr=False)
    link_policy: LinkPolicy
    # An explicit `alias`, because basedpyright does not know that attrs removes the underscore.
    _http: aiohttp.ClientSession | aiohttp.TCPConnector | None = attrs.field(default=None, alias="http", repr=False)
    _proxy: Secret | None = attrs.field(default=None, alias="proxy")
    _ssl: tls.SSLContext | None = attrs.field(default=None, alias="ssl", repr=False)
    _session: aiohttp.ClientSession | None = attrs.field(init=False, default=None, repr=False)
    _open_responses: set[aiohttp.ClientResponse] = attrs.field(init=False, factory=set[aiohttp.ClientResponse])
    _closed: bool = attrs.field(init=False, default=False)

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Hold a slot. Enter before opening a file or requesting a link, because links expire."""
        await self.limiter.acquire(_LIMITER_KEY)
        try:
            yield
        finally:
            self.limiter.release()

    async def send(
        self, request: StorageRequest, read: Callable[[aiohttp.ClientResponse], Awaitable[T]]
    ) -> T | SendFailure:
        """Send *request* once and return the result of *read* on its response, or the failure."""
        outcome = await self._send_once(request, read)
        if request.upload_body is not None:
            await request.upload_body.aclose()
        if isinstance(outcome, SendCancelled):
            # Raised anew: the frames of the original CancelledError hold the signed URL.
            raise asyncio.CancelledError(*outcome.args)
        return outcome

    async def aclose(self) -> None:
        self._closed = True
        self.limiter.close()
        for response in self._open_responses:
            # Closing the pool does not wake a reader of a response; it would wait indefinitely.
            response.close()
        if self._session is not None:
            await self._session.close()

    async def _send_once(
        self, request: StorageRequest, read: Callable[[aiohttp.ClientResponse], Awaitable[T]]
    ) -> T | SendFailure | SendCancelled:
        connector = self._http.connector if isinstance(self._http, aiohttp.ClientSession) else self._http
        if self._closed or (self._http is not None and (connector is None or connector.closed)):
            return SendFailure("the connections are closed", sent=False, closed=True)
        try:
            session = self._session or self._open_session(connector)
            response = await session.request(
                request.method,
                raw_url(request.url),
                data=request.build_body(),
                headers=request.headers,
                allow_redirects=False,
                proxy=self._proxy.reveal() if self._proxy else None,
                ssl=self._ssl or True,
            )
            self._open_responses.add(response)
            try:
                return await read(response)
            finally:
                self._open_responses.discard(response)
                response.close()
        except asyncio.CancelledError as error:
            return map_cancellation(error, sent=request.sent, closed=self._closed)
        # Any exception of aiohttp may hold the signed URL, so none may leave.
        except Exception as error:
            if isinstance(error, aiohttp.ClientConnectorError) and isinstance(error.os_error, _ForbiddenAddress):
                return SendFailure(str(error.os_error.strerror), sent=False, permanent=True)
            return map_exception(error, sent=request.sent, closed=self._closed)

    def _open_session(self, connector: aiohttp.BaseConnector | None) -> aiohttp.ClientSession:
        """Open a session on *connector*, or on a new one that opens a connection for each transfer."""
        self._session = aiohttp.ClientSession(
            # A new connection for each transfer: a PUT on a reused one that the server has just closed would fail.
            connector=connector or aiohttp.TCPConnector(limit=0, force_close=True, socket_factory=self._open_socket),
            connector_owner=connector is None,
            request_class=self._request_class(),
            cookie_jar=aiohttp.DummyCookieJar(),
            # Files are stored as they are received, so they must not be compressed for the transfer.
            headers={"Accept-Encoding": "identity", "User-Agent": user_agent()},
            auto_decompress=False,
            read_bufsize=_READ_BUFFER_SIZE,
            timeout=aiohttp.ClientTimeout(total=None, connect=self.timeout.connect, sock_read=self.timeout.reply),
        )
        return self._session

    def _open_socket(self, address_info: aiohttp.AddrInfoType) -> socket.socket:
        """Return a socket for one of the addresses of a host, right before the connection to it.

        Not earlier: between a separate look-up and the connection, the name could get another address.
        """
        family, kind, protocol, _, address = address_info
        self._check_address(address)
        return socket.socket(family, kind, protocol)

    def _request_class(self) -> type[aiohttp.ClientRequest]:
        """Return a request class that checks the address of a connection, for a connector of the caller."""
        client = self

        class CheckedRequest(aiohttp.ClientRequest):
            async def send(self, conn: Connection) -> aiohttp.ClientResponse:
                peer = conn.transport and conn.transport.get_extra_info("peername")
                try:
                    client._check_address(peer)
                except _ForbiddenAddress as error:
                    raise aiohttp.ClientConnectorError(self.connection_key, error) from None
                return await super().send(conn)

        return CheckedRequest

    def _check_address(self, address: object) -> None:
        """Raise `_ForbiddenAddress` for an IP address that the link policy forbids."""
        # A proxy resolves the name itself, and has a private address more often than not. The address of a Unix socket,
        # which a connector of the caller may use, is a string.
        if self._proxy is None and isinstance(address, tuple) and not self.link_policy.allows_address(address[0]):
            raise _ForbiddenAddress(address[0])


async def read_response(response: aiohttp.ClientResponse) -> StorageResponse:
    """Read a response that is not a file, up to `MAX_BODY_BYTES` bytes."""
    body = bytearray()
    while len(body) < MAX_BODY_BYTES and (chunk := await response.content.readany()):
        body += chunk
    return StorageResponse.parse(response.status, bytes(body[:MAX_BODY_BYTES]))
