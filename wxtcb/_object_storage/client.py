"""Requests to object storage: connections of their own, and no word of aiohttp's about them."""

from __future__ import annotations

import asyncio
import ssl as tls
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Final, TypeVar

import aiohttp
import attrs

from wxtcb._concurrency.limiter import Gate
from wxtcb._http.transport import Cancelled, Failure, Timeout, explain, explain_cancelled
from wxtcb._object_storage.body import Outflow
from wxtcb._object_storage.response import MOST_READ, Heard
from wxtcb._object_storage.urls import as_it_is
from wxtcb.secret import Secret

T = TypeVar("T")

_BUFFER: Final = 256 * 1024
_WAY: Final = "object storage"  # what the gate calls a path; this one is never paused


@attrs.frozen
class Order:
    """One request to object storage. `form` are the fields that stand before the file of a POST; a PUT has none."""

    method: str
    url: Secret
    headers: Mapping[str, str] = attrs.field(factory=dict[str, str], repr=False)
    form: Mapping[str, str] | None = attrs.field(default=None, repr=False)
    outflow: Outflow | None = None

    @property
    def sent(self) -> bool:
        return self.outflow is None or self.outflow.begun

    def body(self) -> aiohttp.FormData | Outflow | None:
        if self.form is None:
            return self.outflow
        fields = aiohttp.FormData()
        for name, value in self.form.items():
            fields.add_field(name, value)
        fields.add_field("file", self.outflow, filename="file")
        return fields


@attrs.define(repr=False, eq=False)
class Transfers:
    """Sends to object storage, over connections that are opened when first needed and closed with the session.

    Of an aiohttp session of the caller's, only the connector is used: its middlewares, cookies, headers and credentials
    are for WeChat. As many transfers as `gate` has slots are under way at a time, first come, first served. One may
    take as long as it likes, while it moves: `timeout.connect` bounds the way to be connected, `timeout.reply` every
    pause after that.
    """

    timeout: Timeout
    gate: Gate = attrs.field(repr=False)
    allow_http: bool = False
    _http: aiohttp.ClientSession | aiohttp.TCPConnector | None = attrs.field(default=None, repr=False)
    _proxy: Secret | None = None
    _ssl: tls.SSLContext | None = attrs.field(default=None, repr=False)
    _pool: aiohttp.ClientSession | None = attrs.field(init=False, default=None, repr=False)
    _read: set[aiohttp.ClientResponse] = attrs.field(init=False, factory=set[aiohttp.ClientResponse])
    _closed: bool = attrs.field(init=False, default=False)

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Hold one of the slots; wait for it before a file is opened or a link is asked for, which does not keep."""
        await self.gate.enter(_WAY)
        try:
            yield
        finally:
            self.gate.leave()

    async def send(self, order: Order, take: Callable[[aiohttp.ClientResponse], Awaitable[T]]) -> T | Failure:
        """Make one request, once, and let *take* read the answer; return what it does, or why there is no answer."""
        outcome = await self._attempt(order, take)
        if order.outflow is not None:
            await order.outflow.aclose()
        return _not_cancelled(outcome)

    async def aclose(self) -> None:
        self._closed = True
        self.gate.close()
        for response in self._read:
            response.close()  # who reads it would not hear of a pool that closes, and wait for ever
        if self._pool is not None:
            await self._pool.close()

    async def _attempt(
        self, order: Order, take: Callable[[aiohttp.ClientResponse], Awaitable[T]]
    ) -> T | Failure | Cancelled:
        connector = self._http.connector if isinstance(self._http, aiohttp.ClientSession) else self._http
        if self._closed or (self._http is not None and (connector is None or connector.closed)):
            return Failure("the connections are closed", sent=False, closed=True)
        try:
            return await self._ask(self._pool or self._open(connector), order, take)
        except asyncio.CancelledError as error:
            return explain_cancelled(error, sent=order.sent, closed=self._closed)
        except Exception as error:
            return explain(error, sent=order.sent)

    async def _ask(
        self, pool: aiohttp.ClientSession, order: Order, take: Callable[[aiohttp.ClientResponse], Awaitable[T]]
    ) -> T:
        response = await pool.request(
            order.method,
            as_it_is(order.url),
            data=order.body(),
            headers=order.headers,
            allow_redirects=False,
            proxy=self._proxy.reveal() if self._proxy else None,
            ssl=self._ssl or True,
        )
        self._read.add(response)
        try:
            return await take(response)
        finally:
            self._read.discard(response)
            response.close()

    def _open(self, connector: aiohttp.BaseConnector | None) -> aiohttp.ClientSession:
        """Open a session without anything of the caller's but his connector; a connection serves one transfer."""
        self._pool = aiohttp.ClientSession(
            connector=connector or aiohttp.TCPConnector(limit=0, force_close=True),
            connector_owner=connector is None,
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"Accept-Encoding": "identity"},
            auto_decompress=False,
            read_bufsize=_BUFFER,
            timeout=aiohttp.ClientTimeout(total=None, connect=self.timeout.connect, sock_read=self.timeout.reply),
        )
        return self._pool


def _not_cancelled(outcome: T | Failure | Cancelled) -> T | Failure:
    """Raise that the caller was cancelled, from where nothing secret is below."""
    if isinstance(outcome, Cancelled):
        raise asyncio.CancelledError(*outcome.args)
    return outcome


async def hear(response: aiohttp.ClientResponse) -> Heard:
    """Read an answer that is no file, as far as it is worth it."""
    body = bytearray()
    while len(body) < MOST_READ and (chunk := await response.content.readany()):
        body += chunk
    return Heard.read(response.status, bytes(body[:MOST_READ]))
