"""The receiver of component_verify_tickets: an ASGI app, and a handler of aiohttp.web.

It needs the extra ``[ticket]``.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final, Self

import attrs
from aiohttp import web

from wxtcb.errors import InvalidArgument, SessionClosed
from wxtcb.events import Hook, PushRefused
from wxtcb.secret import Secret
from wxtcb.telemetry.dispatch import HookDispatcher, is_async_callable, to_hooks
from wxtcb.tokens.shared_state import SharedState
from wxtcb.tokens.store_urls import open_store
from wxtcb.tokens.stores import ClosableTokenStore, TokenStore, is_token_store
from wxtcb.tokens.ticket.asgi import (
    BODY_TIMEOUT,
    ReadChunk,
    Receive,
    Scope,
    Send,
    read_body,
    serve_aiohttp,
    serve_asgi,
)
from wxtcb.tokens.ticket.writer import MAX_WRITE_WAIT, TicketWriter
from wxtcb.validation import check_secret, hide_arguments_in_traceback, validator

try:
    from wxtcb.tokens.ticket.crypto import AesKey, MessageCrypto
    from wxtcb.tokens.ticket.message import Notification, PushedTicket, parse_push
    from wxtcb.tokens.ticket.notices import NotificationTasks
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "wxtcb.tokens.ticket needs cryptography and defusedxml: pip install 'wxtcb[ticket]'", name=error.name
    ) from error

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["Notification", "TicketReceiver"]

_APPID_PATTERN: Final = re.compile(r"wx[0-9A-Za-z]+")
_MAX_PUSH_SECONDS: Final = BODY_TIMEOUT + MAX_WRITE_WAIT


def _to_secret(value: str | Secret) -> Secret:
    """Wrap a text; anything else becomes what `check_secret` refuses."""
    return Secret.of(value) if isinstance(value, str | Secret) else Secret("")


def _to_optional_secret(value: str | Secret | None) -> Secret | None:
    return None if value is None else _to_secret(value)


def _to_store_or_url(store: TokenStore | str | Secret) -> TokenStore | Secret:
    """Keep a URL as what it is: it may hold a password."""
    return Secret(store) if isinstance(store, str) else store


def _check_appid(name: str, value: object) -> None:
    if not isinstance(value, str) or not _APPID_PATTERN.fullmatch(value):
        raise InvalidArgument(f"{name} must be the platform's appid, wx and letters or digits, not {value!r}")


def _check_store(name: str, value: object) -> None:
    if not isinstance(value, Secret) and not is_token_store(value):
        raise InvalidArgument(f"{name} must be a token store or a URL, the same as the session's; not {value!r}")


def _check_callback(name: str, value: object) -> None:
    if not callable(value) or not is_async_callable(value):
        raise InvalidArgument(f"{name} must be an async callable, async def; this {type(value).__name__} is none")


def _check_clock(name: str, value: object) -> None:
    if not callable(value) or is_async_callable(value):
        raise InvalidArgument(f"{name} must be a function that returns Unix seconds, not {type(value).__name__}")


@hide_arguments_in_traceback
@attrs.define(eq=False, kw_only=True)
class TicketReceiver:
    """Takes in what WeChat pushes to the platform's authorisation-event URL, and keeps the newest ticket.

    It is an ASGI app, for any path that leads to it, and `handle` a handler of aiohttp.web; `newest_ticket` is the
    `ticket` of a `Session`. `message_token` and the 43 characters of `encoding_aes_key` stand in WeChat's console;
    while the key is being changed, `previous_encoding_aes_key` opens what is still sealed with the old one.
    `token_store` is that of the sessions, or its URL: then the receiver opens and closes it.

    Every push that is signed for this platform is answered with ``success`` within about a second, also while the store
    is slow or down: memory holds the ticket until the store takes it. One that cannot be read changes nothing, with the
    event `PushMalformed`; so does a ticket that is more than a day ahead of `clock`. All else is refused with a 4xx
    and changes nothing; so is a body of more than 64 KiB, or one that takes more than five seconds to come.

    `on_notification` is awaited in a task of its own with every push that is no ticket. At most 100 run at once; one more is
    dropped, with the event `NotificationDropped`. What it raises goes to the loop's exception handler. `hooks` are called
    with the events.

    Use it with ``async with``, or alone under an ASGI server, whose lifespan opens and closes it. It works without,
    from its first request on; then call `aclose` at the end. It belongs to one event loop, and may be opened again.

    Raises `InvalidArgument` for what cannot work. Secrets are in no repr.
    """

    component_appid: str = attrs.field(validator=validator(_check_appid))
    message_token: Secret = attrs.field(converter=_to_secret, validator=validator(check_secret))
    encoding_aes_key: Secret = attrs.field(converter=_to_secret)
    previous_encoding_aes_key: Secret | None = attrs.field(default=None, converter=_to_optional_secret)
    token_store: TokenStore | Secret = attrs.field(
        converter=_to_store_or_url, validator=validator(_check_store), repr=False
    )
    on_notification: Callable[[Notification], Awaitable[object]] | None = attrs.field(
        default=None, validator=validator(_check_callback, optional=True)
    )
    hooks: tuple[Hook, ...] = attrs.field(default=(), converter=to_hooks)
    clock: Callable[[], float] = attrs.field(default=time.time, validator=validator(_check_clock), repr=False)
    _crypto: MessageCrypto = attrs.field(init=False, repr=False)
    _dispatcher: HookDispatcher = attrs.field(init=False, repr=False)
    _notification_tasks: NotificationTasks = attrs.field(init=False, repr=False)
    _writer: TicketWriter | None = attrs.field(init=False, repr=False, default=None)
    _owned_store: ClosableTokenStore | None = attrs.field(init=False, repr=False, default=None)
    _active_pushes: set[asyncio.Future[None]] = attrs.field(init=False, repr=False, factory=set["asyncio.Future[None]"])
    _closed: bool = attrs.field(init=False, repr=False, default=False)

    def __attrs_post_init__(self) -> None:
        keys = [AesKey.from_encoded("encoding_aes_key", self.encoding_aes_key)]
        if self.previous_encoding_aes_key is not None:
            keys.append(AesKey.from_encoded("previous_encoding_aes_key", self.previous_encoding_aes_key))
        self._crypto = MessageCrypto(self.component_appid, self.message_token, tuple(keys))
        self._dispatcher = HookDispatcher(self.hooks)
        self._notification_tasks = NotificationTasks(self.on_notification, self._dispatcher)
        self._get_store()

    async def __aenter__(self) -> Self:
        self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection of an ASGI server."""
        await serve_asgi(self, scope, receive, send)

    async def handle(self, request: web.Request) -> web.Response:
        """Serve one request of aiohttp.web."""
        return await serve_aiohttp(self, request)

    async def newest_ticket(self) -> Secret | None:
        """Return the newest ticket of memory and store, None before the first.

        Raises `TokenStoreError` when the store is down and memory has none, `SessionClosed` after `aclose`.
        """
        return await self._get_writer().newest()

    def open(self) -> None:
        """Open the receiver, again if it was closed."""
        self._closed = False
        self._get_writer()

    async def aclose(self) -> None:
        """Refuse further pushes with 503, take in those under way, and end.

        Pushes under way take six seconds at most. Then five are left to `on_notification`, and one more try to a ticket that
        is not written yet: ten seconds at most. What still runs is cancelled, and left behind if it has not ended
        within another second.
        """
        keeper, self._writer = self._writer, None
        store, self._owned_store = self._owned_store, None
        self._closed = True
        try:
            if self._active_pushes:
                await asyncio.wait(self._active_pushes, timeout=_MAX_PUSH_SECONDS)
            await self._finish_tasks(keeper)
        finally:
            self._notification_tasks.cancel()
            if keeper is not None:
                keeper.cancel()
            if store is not None:
                await store.aclose()

    async def handle_push(self, method: str, query: bytes, read_chunk: ReadChunk) -> PushRefused | None:
        """Take one push in: None means ``success``. For a server that is neither ASGI nor aiohttp.web.

        *query* is what follows the question mark, as it came; *next_piece* gives the body piece by piece, then None.
        """
        done = asyncio.get_running_loop().create_future()
        self._active_pushes.add(done)
        try:
            refusal = await self._process_push(method, query, read_chunk)
        finally:
            self._active_pushes.discard(done)
            done.set_result(None)
        if refusal is not None:
            self._dispatcher.emit(refusal)
        return refusal

    async def _process_push(self, method: str, query: bytes, read_chunk: ReadChunk) -> PushRefused | None:
        if method != "POST":
            return PushRefused("pushes are POST requests", 405)
        if self._closed:
            return PushRefused("the receiver is closed", 503)
        keeper = self._get_writer()
        body = await read_body(read_chunk)
        said = body if isinstance(body, PushRefused) else parse_push(self._crypto, query, body, self.clock())
        if isinstance(said, PushRefused):
            return said
        if isinstance(said, Notification):
            self._notification_tasks.dispatch(said)
        else:
            self._dispatcher.emit(
                await keeper.submit(said.value, said.create_time) if isinstance(said, PushedTicket) else said
            )
        return None

    async def _finish_tasks(self, writer: TicketWriter | None) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._notification_tasks.aclose())
            if writer is not None:
                tasks.create_task(writer.aclose())

    def _get_writer(self) -> TicketWriter:
        if self._closed:
            raise SessionClosed("the ticket receiver is closed")
        if self._writer is None:
            self._writer = TicketWriter(SharedState(self._get_store(), self.component_appid), self._dispatcher)
        return self._writer

    def _get_store(self) -> TokenStore:
        if not isinstance(self.token_store, Secret):
            return self.token_store
        if self._owned_store is None:
            self._owned_store = open_store(self.token_store.reveal())
        return self._owned_store
