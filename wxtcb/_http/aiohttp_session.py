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
    Answer,
    Failure,
    HeldBack,
    Outcome,
    Prepared,
    Request,
    Timeout,
    TooLarge,
    explain,
    explain_cancelled,
    read_bounded,
    url_of,
)

if TYPE_CHECKING:
    from aiohttp.abc import AbstractStreamWriter

    from wxtcb.secret import Secret


UNASKED: Final = Failure("the connection carried a reply that nobody asked for", sent=False)


class _Refusal(Exception):
    """Keeps a body from leaving."""


class _TrackedBody(Payload):
    """The body of a request, which knows whether it began to leave; one that is withheld does not.

    `wanted`: a request was made of it, as by aiohttp and not by a mock in its place.
    """

    _value: bytes
    _autoclose = True

    def __init__(self, request: Request) -> None:
        super().__init__(request.body.data, content_type=HEADERS["Content-Type"])
        self._request = request
        self.wanted = False
        self.left = False
        self.withheld = False

    @property
    def size(self) -> int:
        self.wanted = True
        return len(self._value)

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        return self._value.decode(encoding, errors)

    async def write(self, writer: AbstractStreamWriter) -> None:
        await asyncio.sleep(0)  # so that no frame which holds the URL is below the question
        self.withheld = self._request.is_withheld()
        if self.withheld or _is_spoilt(writer):
            raise _Refusal
        self.left = True
        await writer.write(self._value)


@attrs.define(repr=False, eq=False)
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
    _urls: Prepared[URL] = attrs.field(
        init=False,
        repr=False,
        default=attrs.Factory(lambda self: Prepared(functools.partial(url_of, self.base_url)), takes_self=True),
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
    ) -> AiohttpTransport:
        """Open a pool of connections of our own, or use that of *http*, which then stays the caller's to close."""
        if isinstance(http, aiohttp.ClientSession):
            return cls(base_url, timeout, http, owned=False, proxy=proxy, ssl=ssl)
        mine = aiohttp.ClientSession(
            connector=http or aiohttp.TCPConnector(limit=0),
            connector_owner=http is None,
            cookie_jar=aiohttp.DummyCookieJar(),
            headers=HEADERS,
        )
        return cls(base_url, timeout, mine, owned=True, proxy=proxy, ssl=ssl)

    async def send(self, request: Request) -> Outcome:
        body = _TrackedBody(request)
        try:
            response = await self.http.post(
                self._urls.of(request),
                data=body,
                headers=None if self.owned else HEADERS,
                allow_redirects=False,
                auto_decompress=True,
                middlewares=(),
                raise_for_status=False,
                timeout=self._limits,
                proxy=self.proxy.reveal() if self.proxy else None,
                ssl=self.ssl or True,
            )
            if body.wanted and not body.left:
                response.close()
                return HeldBack() if body.withheld else UNASKED
            return await _read(response)
        except asyncio.CancelledError as error:
            return explain_cancelled(error, sent=body.left, closed=self.http.closed)
        except Exception as error:
            return HeldBack() if body.withheld else explain(error, sent=body.left)

    async def aclose(self) -> None:
        if self.owned:
            await self.http.close()


def _is_spoilt(writer: AbstractStreamWriter) -> bool:
    """Tell whether something has come on the connection before anything was asked on it."""
    return bool(getattr(getattr(writer, "protocol", None), "should_close", False))


async def _read(response: aiohttp.ClientResponse) -> Answer | TooLarge:
    try:
        body = await read_bounded(response.content)
    finally:
        response.close()  # which does nothing once all is read
    return TooLarge(response.status) if body is None else Answer(response.status, body)
