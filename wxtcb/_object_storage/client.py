"""Requests to object storage: connections of their own, and no word of aiohttp's about them."""

from __future__ import annotations

import asyncio
import ssl as tls
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Final, TypeVar

import aiohttp
import attrs

from wxtcb._concurrency.limiter import RequestLimiter
from wxtcb._http.transport import SendCancelled, SendFailure, Timeout, map_cancellation, map_exception
from wxtcb._object_storage.body import UploadBody
from wxtcb._object_storage.response import MAX_BODY_BYTES, StorageResponse
from wxtcb._object_storage.urls import raw_url
from wxtcb.secret import Secret

T = TypeVar("T")

_READ_BUFFER_SIZE: Final = 256 * 1024
_LIMITER_KEY: Final = "object storage"  # what the gate calls a path; this one is never paused


@attrs.frozen
class StorageRequest:
    """One request to object storage. `form` are the fields that stand before the file of a POST; a PUT has none."""

    method: str
    url: Secret
    headers: Mapping[str, str] = attrs.field(factory=dict[str, str], repr=False)
    form: Mapping[str, str] | None = attrs.field(default=None, repr=False)
    upload_body: UploadBody | None = None

    @property
    def sent(self) -> bool:
        return self.upload_body is None or self.upload_body.started

    def build_body(self) -> aiohttp.FormData | UploadBody | None:
        if self.form is None:
            return self.upload_body
        fields = aiohttp.FormData()
        for name, value in self.form.items():
            fields.add_field(name, value)
        fields.add_field("file", self.upload_body, filename="file")
        return fields


@attrs.define(repr=False, eq=False)
class StorageClient:
    """Sends to object storage, over connections that are opened when first needed and closed with the session.

    Of an aiohttp session of the caller's, only the connector is used: its middlewares, cookies, headers and credentials
    are for WeChat. As many transfers as `limiter` has slots are under way at a time, first come, first served. One may
    take as long as it likes, while it moves: `timeout.connect` bounds the way to be connected, `timeout.reply` every
    pause after that.
    """

    timeout: Timeout
    limiter: RequestLimiter = attrs.field(repr=False)
    allow_http: bool = False
    _http: aiohttp.ClientSession | aiohttp.TCPConnector | None = attrs.field(default=None, repr=False)
    _proxy: Secret | None = None
    _ssl: tls.SSLContext | None = attrs.field(default=None, repr=False)
    _session: aiohttp.ClientSession | None = attrs.field(init=False, default=None, repr=False)
    _open_responses: set[aiohttp.ClientResponse] = attrs.field(init=False, factory=set[aiohttp.ClientResponse])
    _closed: bool = attrs.field(init=False, default=False)

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Hold one of the slots; wait for it before a file is opened or a link is asked for, which does not keep."""
        await self.limiter.acquire(_LIMITER_KEY)
        try:
            yield
        finally:
            self.limiter.release()

    async def send(
        self, request: StorageRequest, read: Callable[[aiohttp.ClientResponse], Awaitable[T]]
    ) -> T | SendFailure:
        """Make one request, once, and let *take* read the answer; return what it does, or why there is no answer."""
        outcome = await self._send_once(request, read)
        if request.upload_body is not None:
            await request.upload_body.aclose()
        return _raise_if_cancelled(outcome)

    async def aclose(self) -> None:
        self._closed = True
        self.limiter.close()
        for response in self._open_responses:
            response.close()  # who reads it would not hear of a pool that closes, and wait for ever
        if self._session is not None:
            await self._session.close()

    async def _send_once(
        self, request: StorageRequest, read: Callable[[aiohttp.ClientResponse], Awaitable[T]]
    ) -> T | SendFailure | SendCancelled:
        connector = self._http.connector if isinstance(self._http, aiohttp.ClientSession) else self._http
        if self._closed or (self._http is not None and (connector is None or connector.closed)):
            return SendFailure("the connections are closed", sent=False, closed=True)
        try:
            return await self._send_on_session(self._session or self._open_session(connector), request, read)
        except asyncio.CancelledError as error:
            return map_cancellation(error, sent=request.sent, closed=self._closed)
        except Exception as error:
            return map_exception(error, sent=request.sent)

    async def _send_on_session(
        self,
        session: aiohttp.ClientSession,
        request: StorageRequest,
        read: Callable[[aiohttp.ClientResponse], Awaitable[T]],
    ) -> T:
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

    def _open_session(self, connector: aiohttp.BaseConnector | None) -> aiohttp.ClientSession:
        """Open a session without anything of the caller's but his connector; a connection serves one transfer."""
        self._session = aiohttp.ClientSession(
            connector=connector or aiohttp.TCPConnector(limit=0, force_close=True),
            connector_owner=connector is None,
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"Accept-Encoding": "identity"},
            auto_decompress=False,
            read_bufsize=_READ_BUFFER_SIZE,
            timeout=aiohttp.ClientTimeout(total=None, connect=self.timeout.connect, sock_read=self.timeout.reply),
        )
        return self._session


def _raise_if_cancelled(outcome: T | SendFailure | SendCancelled) -> T | SendFailure:
    """Raise that the caller was cancelled, from where nothing secret is below."""
    if isinstance(outcome, SendCancelled):
        raise asyncio.CancelledError(*outcome.args)
    return outcome


async def read_response(response: aiohttp.ClientResponse) -> StorageResponse:
    """Read an answer that is no file, as far as it is worth it."""
    body = bytearray()
    while len(body) < MAX_BODY_BYTES and (chunk := await response.content.readany()):
        body += chunk
    return StorageResponse.parse(response.status, bytes(body[:MAX_BODY_BYTES]))
