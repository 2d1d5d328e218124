"""Ticket receiver: takes WeChat's pushes as an ASGI app or an aiohttp.web handler, and stores the newest ticket.

It needs the extra ``[ticket]``.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import re
import time
from collections.abc import Awaitable, Callable, Iterable
from hashlib import blake2b
from hmac import compare_digest
from pathlib import Path
from typing import Final, Self, TypedDict, Unpack

import attrs
import orjson
from aiohttp import web

from wxtcb._concurrency.tasks import cancel_tasks, end_tasks
from wxtcb.errors import InvalidArgument, SessionClosed
from wxtcb.events import Hook, NotificationDropped, NotificationFailed, PushRefused
from wxtcb.secret import Secret
from wxtcb.telemetry.dispatch import HookDispatcher, is_async_callable, logger, to_hooks
from wxtcb.tokens.env_vars import naming_arguments, read_receiver
from wxtcb.tokens.state_repository import StateRepository
from wxtcb.tokens.store_urls import StoreURL
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
    to_address,
)
from wxtcb.tokens.ticket.writer import MAX_WRITE_WAIT, TicketWriter
from wxtcb.validation import (
    RECOMMENDED_TOKEN_LENGTH,
    check_appid,
    check_seconds,
    hide_arguments_in_traceback,
    to_secret,
    type_validator,
    validator,
)

try:
    from wxtcb.tokens.ticket.crypto import AesKey, MessageCrypto
    from wxtcb.tokens.ticket.message import Notification, PushedTicket, parse_plain_push, parse_push
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "wxtcb.tokens.ticket needs cryptography and defusedxml: pip install 'wxtcb[ticket]'", name=error.name
    ) from error

__all__ = ["Notification", "TicketReceiver"]

MAX_CONCURRENT_NOTIFICATIONS: Final = 100
NOTIFICATION_CLOSE_TIMEOUT: Final = 5.0
# About 1 MB. WeChat repeats a push within minutes.
MAX_REMEMBERED_NOTIFICATIONS: Final = 10_000
DEFAULT_REPLAY_WINDOW: Final = 600.0


def _to_token_store(store: TokenStore | StoreURL | str | Secret) -> TokenStore | StoreURL:
    # It stays a URL until the first use, because a store may belong to an event loop.
    return StoreURL(Secret.of(store)) if isinstance(store, str | Secret) else store


def _check_message_token(name: str, value: object) -> None:
    # The rule of WeChat's console. A longer or other text cannot be the token there, so no push would be accepted.
    if not isinstance(value, Secret) or not re.fullmatch(r"[A-Za-z0-9]{3,32}", value.reveal()):
        raise InvalidArgument(f"{name} must be the message token of WeChat's console, 3 to 32 letters and digits")


def _check_plain_push_key(name: str, value: object) -> None:
    # Characters that are the same in a path and in a percent-encoded path.
    if not isinstance(value, Secret) or not re.fullmatch(r"[A-Za-z0-9_-]{32,128}", value.reveal()):
        example = "such as the result of secrets.token_urlsafe(32)"
        raise InvalidArgument(f"{name} must be 32 to 128 letters, digits, '-' and '_', {example}")


def _check_store(name: str, value: object) -> None:
    if not isinstance(value, StoreURL) and not is_token_store(value):
        raise InvalidArgument(f"{name} must be the token store of the sessions or its URL, not {type(value).__name__}")


def _check_callback(name: str, value: object) -> None:
    if not callable(value) or not is_async_callable(value):
        raise InvalidArgument(f"{name} must be an async callable (async def), not {type(value).__name__}")


def _check_clock(name: str, value: object) -> None:
    if not callable(value) or is_async_callable(value):
        raise InvalidArgument(f"{name} must be a function that returns Unix seconds, not {type(value).__name__}")


class ReceiverOptions(TypedDict, total=False):
    """Options of a `TicketReceiver` that no environment variable contains."""

    on_notification: Callable[[Notification], Awaitable[object]] | None
    store_required: bool
    hooks: Iterable[Hook]
    clock: Callable[[], float]
    replay_window: float


@hide_arguments_in_traceback
@attrs.define(eq=False, kw_only=True)
class TicketReceiver:
    """Receiver of the pushes to the platform's authorisation event URL (授权事件接收URL); stores the newest ticket.

    The receiver is an ASGI app, for any path that is routed to it, and `handle` is a handler of aiohttp.web.
    `newest_ticket` is the `ticket` of a `Session`.

    - `message_token` and `encoding_aes_key` (43 characters) are set in WeChat's console. While the key is being
      changed, `previous_encoding_aes_key` decrypts messages that are still encrypted with the old one.
    - `token_store` is the store of the sessions, or its URL. The receiver opens and closes a store given by URL.
      ``async with`` and the lifespan raise `TokenStoreError` if it cannot be read, unless `store_required` is False.
    - `on_notification` is awaited, in a task of its own, with every push that is not a ticket. At most 100 run at once.
      While they do, every push is answered with 503, so that WeChat repeats it. A ticket is stored nevertheless. Any
      other push is not passed on, and emits `NotificationDropped`. A repeated push is passed on once by each process,
      unless the function failed, so it must be idempotent. If it raises or is cancelled, `NotificationFailed` is
      emitted; WeChat, which has its answer, need not repeat the push. Its exceptions go to the event loop's exception
      handler.
    - `hooks` are called with the events. `clock` returns Unix seconds.
    - `replay_window`: a push is refused if its signature is more than so many seconds older or newer than `clock`.
    - `plain_push_key` (32 to 128 letters, digits, "-" and "_") accepts pushes in plain JSON, which WeChat's cloud
      hosting (微信云托管) sends, at paths whose last segment is this key. None: only encrypted pushes are accepted.

    Except for that 503, every push that is signed for this platform is answered with ``success`` within about a second,
    even if the store is slow or down: the ticket stays in memory until the store accepts it. The answer is the same if
    the push cannot be decrypted or read, or if its CreateTime is over 12 hours old, or for a ticket over five minutes
    ahead of `clock`; such a push changes nothing and emits `PushUndecryptable` or `PushMalformed`.

    Any other request is answered with a 4xx status and changes nothing. So is a body over 64 KiB, or one that takes
    over five seconds.

    Use it with ``async with``, or let the lifespan of an ASGI server open and close it. Otherwise it opens at the first
    request; call `aclose` at the end. It belongs to one event loop, and may be opened again after it was closed.

    Raises `InvalidArgument` for invalid arguments. No repr shows a secret.
    """

    component_appid: str = attrs.field(validator=validator(check_appid))
    message_token: Secret = attrs.field(converter=to_secret, validator=validator(_check_message_token))
    encoding_aes_key: Secret = attrs.field(converter=to_secret)
    previous_encoding_aes_key: Secret | None = attrs.field(default=None, converter=to_secret)
    token_store: TokenStore | StoreURL = attrs.field(
        converter=_to_token_store, validator=validator(_check_store), repr=False
    )
    store_required: bool = attrs.field(default=True, validator=type_validator(bool, optional=False))
    on_notification: Callable[[Notification], Awaitable[object]] | None = attrs.field(
        default=None, validator=validator(_check_callback, optional=True)
    )
    hooks: tuple[Hook, ...] = attrs.field(default=(), converter=to_hooks)
    clock: Callable[[], float] = attrs.field(default=time.time, validator=validator(_check_clock), repr=False)
    replay_window: float = attrs.field(default=DEFAULT_REPLAY_WINDOW, validator=validator(check_seconds))
    plain_push_key: Secret | None = attrs.field(
        default=None,
        converter=to_secret,
        validator=validator(_check_plain_push_key, optional=True),
    )
    _crypto: MessageCrypto = attrs.field(init=False, repr=False)
    _dispatcher: HookDispatcher = attrs.field(init=False, repr=False)
    _notification_tasks: NotificationTasks = attrs.field(init=False, repr=False)
    _writer: TicketWriter | None = attrs.field(init=False, repr=False, default=None)
    _owned_store: ClosableTokenStore | None = attrs.field(init=False, repr=False, default=None)
    # One future for each push under way, so that `aclose` can wait for them without cancelling the server's tasks.
    _active_pushes: set[asyncio.Future[None]] = attrs.field(init=False, repr=False, factory=set["asyncio.Future[None]"])
    _closed: bool = attrs.field(init=False, repr=False, default=False)

    def __attrs_post_init__(self) -> None:
        keys = [AesKey.from_encoded("encoding_aes_key", self.encoding_aes_key)]
        if self.previous_encoding_aes_key is not None:
            keys.append(AesKey.from_encoded("previous_encoding_aes_key", self.previous_encoding_aes_key))
        self._crypto = MessageCrypto(self.component_appid, self.message_token, tuple(keys))
        self._dispatcher = HookDispatcher(self.hooks)
        self._notification_tasks = NotificationTasks(self.on_notification, self._dispatcher)
        if (length := len(self.message_token.reveal())) < RECOMMENDED_TOKEN_LENGTH:
            logger.warning(
                "message_token has only %d characters and can be guessed from one captured push; generate one of 32 "
                "letters and digits, and set it here and in WeChat's console",
                length,
            )
        # Opens a store given by URL, without connecting: an invalid URL is an error now, not at the first push.
        self._get_store()

    @classmethod
    def from_env(
        cls,
        *,
        env_file: str | Path | None = None,
        profile: str | None = None,
        **options: Unpack[ReceiverOptions],
    ) -> Self:
        """Return a receiver with the settings of the environment variables, and with *options* of the constructor.

        The variables are ``WXTCB_COMPONENT_APPID``, ``WXTCB_MESSAGE_TOKEN``, ``WXTCB_ENCODING_AES_KEY``,
        ``WXTCB_TOKEN_STORE``, and optionally ``WXTCB_PREVIOUS_ENCODING_AES_KEY``, ``WXTCB_PLAIN_PUSH_KEY`` and
        ``WXTCB_TOKEN_STORE_KEY``. They are read as `wxtcb.Session.from_env` reads its own. Raises one `InvalidArgument`
        for all variables that are missing, and one for a variable that is invalid.
        """
        settings = read_receiver(env_file=env_file, profile=profile)
        with naming_arguments(settings.prefix):
            return cls(
                component_appid=settings.component_appid,
                message_token=settings.message_token,
                encoding_aes_key=settings.encoding_aes_key,
                previous_encoding_aes_key=settings.previous_encoding_aes_key,
                plain_push_key=settings.plain_push_key,
                token_store=StoreURL.from_settings(settings.store),
                **options,
            )

    async def __aenter__(self) -> Self:
        self.open()
        if self.store_required:
            try:
                await self._get_writer().state_repository.require_readable()
            except BaseException:
                await self.aclose()
                raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection of an ASGI server."""
        await serve_asgi(self, scope, receive, send)

    async def handle(self, request: web.Request) -> web.Response:
        """Serve one request of aiohttp.web."""
        return await serve_aiohttp(self, request)

    async def newest_ticket(self) -> Secret | None:
        """Return the newest ticket in memory or in the store; return None before the first one.

        Raises `TokenStoreError` if the store is down and memory has no ticket, and `SessionClosed` after `aclose`.
        """
        return await self._get_writer().newest()

    def open(self) -> None:
        """Open the receiver, again if it was closed."""
        self._closed = False
        self._get_writer()

    async def aclose(self) -> None:
        """Answer further pushes with 503, finish those under way, and close.

        Pushes under way take at most six seconds. Then `on_notification` has five seconds to finish, and a ticket that
        is not stored yet is written once more, within ten. Tasks still running then are cancelled, and abandoned if
        they have not ended a second later.
        """
        # Taken first, so that a receiver which is opened again meanwhile gets a new writer and store.
        writer, self._writer = self._writer, None
        store, self._owned_store = self._owned_store, None
        self._closed = True
        try:
            if self._active_pushes:
                await asyncio.wait(self._active_pushes, timeout=BODY_TIMEOUT + MAX_WRITE_WAIT)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._notification_tasks.aclose())
                if writer is not None:
                    tasks.create_task(writer.aclose())
        finally:
            # If this was cancelled, nothing above has ended the tasks.
            self._notification_tasks.cancel()
            if writer is not None:
                writer.cancel()
            if store is not None:
                await store.aclose()

    async def handle_push(
        self, method: str, query: bytes, read_chunk: ReadChunk, *, path: str = "", peer: str | None = None
    ) -> PushRefused | None:
        """Process one push; return None if the answer is ``success``. For servers other than ASGI and aiohttp.web.

        *query* is the raw query string without the question mark. *read_chunk* returns the next chunk of the body, None
        at its end. *path* is needed only for `plain_push_key`. *peer* is the sender's IP address, for the events.
        """
        done = asyncio.get_running_loop().create_future()
        self._active_pushes.add(done)
        peer = to_address(peer)
        try:
            refusal = await self._process_push(method, query, read_chunk, path, peer)
        finally:
            self._active_pushes.discard(done)
            done.set_result(None)
        if refusal is None:
            return None
        refusal = attrs.evolve(refusal, peer=peer)
        self._dispatcher.emit(refusal)
        return refusal

    async def _process_push(
        self, method: str, query: bytes, read_chunk: ReadChunk, path: str, peer: str
    ) -> PushRefused | None:
        if method != "POST":
            return PushRefused("pushes are POST requests", 405)
        if self._closed:
            return PushRefused("the receiver is closed", 503)
        # Taken before the body is read: `aclose` may run meanwhile, and it waits for this push.
        writer = self._get_writer()
        body = await read_body(read_chunk)
        if isinstance(body, PushRefused):
            return body
        push = (
            parse_plain_push(self.component_appid, body, self.clock())
            if self._has_plain_push_key(path)
            else parse_push(self._crypto, query, body, self.clock(), self.replay_window)
        )
        if isinstance(push, PushRefused):
            return push
        # From here on the answer must not depend on what *push* is, or it would show what can be decrypted and read.
        is_full = self._notification_tasks.is_full
        if isinstance(push, PushedTicket):
            self._dispatcher.emit(await writer.submit(push.value, push.create_time))
        elif isinstance(push, Notification):
            self._notification_tasks.dispatch(push)
        else:
            self._dispatcher.emit(attrs.evolve(push, peer=peer))
        return PushRefused("too many notifications are being processed", 503) if is_full else None

    def _has_plain_push_key(self, path: str) -> bool:
        key, last_segment = self.plain_push_key, path.rpartition("/")[2]
        return key is not None and compare_digest(last_segment.encode(errors="replace"), key.reveal().encode())

    def _get_writer(self) -> TicketWriter:
        if self._closed:
            raise SessionClosed("the ticket receiver is closed")
        if self._writer is None:
            state_repository = StateRepository(self._get_store(), self.component_appid, self._dispatcher)
            self._writer = TicketWriter(state_repository, self._dispatcher)
        return self._writer

    def _get_store(self) -> TokenStore:
        if not isinstance(self.token_store, StoreURL):
            return self.token_store
        if self._owned_store is None:
            self._owned_store = self.token_store.open()
        return self._owned_store


@attrs.define(eq=False)
class NotificationTasks:
    """The tasks that run `on_notification`, at most `MAX_CONCURRENT_NOTIFICATIONS`."""

    on_notification: Callable[[Notification], Awaitable[object]] | None
    dispatcher: HookDispatcher
    _tasks: set[asyncio.Task[None]] = attrs.field(init=False, factory=set["asyncio.Task[None]"])
    # Digests of the newest notifications, the oldest first. Of their contents and not of their signatures, because
    # anyone who knows the message token can sign a captured push again, and WeChat may do so when it repeats one.
    _remembered: dict[bytes, None] = attrs.field(init=False, factory=dict[bytes, None])

    @property
    def is_full(self) -> bool:
        """Whether `dispatch` would start no task."""
        return len(self._tasks) >= MAX_CONCURRENT_NOTIFICATIONS

    def dispatch(self, notification: Notification) -> None:
        """Start a task for *notification*, unless it is a repeated one or too many are running."""
        if self.on_notification is None:
            return
        content = orjson.dumps(dict(notification.fields), option=orjson.OPT_SORT_KEYS)
        digest = blake2b(content, digest_size=16).digest()
        if digest in self._remembered:
            return
        if self.is_full:
            # Not remembered, so that it is passed on when WeChat repeats it.
            self.dispatcher.emit(NotificationDropped(notification.info_type, len(self._tasks)))
            return
        self._remembered[digest] = None
        if len(self._remembered) > MAX_REMEMBERED_NOTIFICATIONS:
            del self._remembered[next(iter(self._remembered))]
        # An empty context, so that callback and hooks do not see the context variables of the server's request.
        context = contextvars.Context()
        task = asyncio.get_running_loop().create_task(
            _run_callback(self.on_notification, notification), context=context
        )
        self._tasks.add(task)
        # Not in the task: one that is cancelled before it starts would forget nothing.
        task.add_done_callback(functools.partial(self._record_end, notification, digest), context=context)

    async def aclose(self) -> None:
        """Wait five seconds for the running tasks, then cancel the rest and give them one more second."""
        await end_tasks(self._tasks, NOTIFICATION_CLOSE_TIMEOUT)

    def cancel(self) -> None:
        """Cancel the running tasks."""
        cancel_tasks(self._tasks)

    def _record_end(self, notification: Notification, digest: bytes, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        if error is None:
            return
        # Forgotten, so that it is passed on when WeChat repeats it.
        self._remembered.pop(digest, None)
        self.dispatcher.emit(NotificationFailed(notification.info_type, type(error).__name__))
        if not task.cancelled():
            # WeChat has its answer by now, so the exception has no caller to go to.
            message = f"on_notification of a TicketReceiver failed for {notification!r}"
            task.get_loop().call_exception_handler({"message": message, "exception": error})


async def _run_callback(callback: Callable[[Notification], Awaitable[object]], notification: Notification) -> None:
    # A task needs a coroutine, and the callback may return any awaitable.
    await callback(notification)
