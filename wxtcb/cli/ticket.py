"""Command `wxtcb ticket serve`: a ticket receiver for platforms whose backend does not receive tickets itself."""

from __future__ import annotations

import asyncio
import functools
import importlib
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final, cast

import attrs
from aiohttp import web

from wxtcb.cli.console import echo_err, echo_err_newline, escape_unprintable, resilient_stream
from wxtcb.cli.runner import GracefulStop, run_until_signal
from wxtcb.errors import InvalidArgument, TokenStoreError
from wxtcb.events import (
    UNDECRYPTABLE_HINT,
    Event,
    PushMalformed,
    PushRefused,
    PushUndecryptable,
    TicketReceived,
    TicketWriteFailed,
)
from wxtcb.telemetry.dispatch import RepeatFilter
from wxtcb.validation import RECOMMENDED_TOKEN_LENGTH, is_loopback

if TYPE_CHECKING:
    # These need the extra `[ticket]`; see `create_receiver`.
    from wxtcb.tokens.ticket import Notification, TicketReceiver

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_PATH_PATTERN: Final = re.compile(r"(/[\w.~-]*)+", re.ASCII)
# Seconds for pushes in progress. Service managers wait about ten seconds before they kill a process.
_SHUTDOWN_TIMEOUT: Final = 2.0
# Seconds for the head of a request, at the beginning of a connection and after each answer. With the five seconds that
# the receiver gives to a body, a whole request has ten.
_HEAD_TIMEOUT: Final = 5.0
_MAX_CONNECTIONS: Final = 1000


@attrs.frozen
class ListenAddress:
    """Address and path at which pushes are received."""

    host: str
    port: int
    path: str

    def url(self, port: int) -> str:
        """Return the URL for *port*, the actual port if `port` is 0."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{port}{self.path}"


def create_receiver() -> TicketReceiver:
    """Return a receiver with the settings of the environment variables; raise `InvalidArgument` if one is invalid."""
    try:
        # cryptography and defusedxml come with the extra. Without it, the command must say what to install.
        receiver_class = cast("type[TicketReceiver]", importlib.import_module("wxtcb.tokens.ticket").TicketReceiver)
    except ModuleNotFoundError as error:
        raise InvalidArgument(str(error)) from error
    hook = functools.partial(log_event, RepeatFilter())
    # `_describe_stored_ticket` reports a store that cannot be read.
    return receiver_class.from_env(on_notification=log_notification, hooks=[hook], store_required=False)


def serve(address: ListenAddress) -> int:
    """Receive tickets at *address* until a signal; return the exit code of the signal.

    Pushes in progress are completed after the first signal, and are cancelled by the second. Raises `InvalidArgument`
    if the address, an environment variable or the token store cannot be used.
    """
    if not address.host:
        # The event loop would take it for all addresses, which only a spelled out 0.0.0.0 should mean.
        raise InvalidArgument("--host must not be empty: to listen on all addresses, pass 0.0.0.0")
    if not _PATH_PATTERN.fullmatch(address.path):
        # The router of aiohttp would take braces for a pattern.
        must = "it must start with / and contain only letters, digits, / and -._~"
        raise InvalidArgument(f"--path {address.path}: {must}")
    stop = GracefulStop()
    run_until_signal(_run_receiver(create_receiver(), address, stop), stop)
    return stop.exit_code


async def _run_receiver(receiver: TicketReceiver, address: ListenAddress, stop: GracefulStop) -> None:
    try:
        async with receiver:
            if len(receiver.message_token.reveal()) < RECOMMENDED_TOKEN_LENGTH:
                echo_err(
                    f"Warning: the message token has fewer than {RECOMMENDED_TOKEN_LENGTH} characters and can be "
                    "guessed from one captured push. Generate one of 32 letters and digits."
                )
            state = await _describe_stored_ticket(receiver)
            async with listen(receiver, address) as url:
                _log_line(f"listening at {url}")
                if not is_loopback(url):
                    echo_err(
                        f"Warning: other machines can connect to {address.host} without TLS. Allow only your TLS proxy "
                        "to connect, or listen on 127.0.0.1."
                    )
                echo_err(f"{state} Ctrl-C ends it.")
                await stop.wait()
                echo_err_newline("Stopping: waiting for pushes in progress. Repeat to cancel them.")
    except asyncio.CancelledError:
        echo_err("Pushes in progress were cancelled.")
        raise


async def _describe_stored_ticket(receiver: TicketReceiver) -> str:
    """Return a sentence about the ticket in the store; raise `InvalidArgument` if the store can never be used."""
    try:
        ticket = await receiver.newest_ticket()
    except TokenStoreError as error:
        if error.permanent:
            raise InvalidArgument(str(error)) from error
        # WeChat stops pushing after too many failures, so tickets are accepted while the store is unavailable.
        return f"The store is unavailable ({error.reason}); tickets are kept in memory until it is available."
    return "The store contains no ticket yet." if ticket is None else "The store contains a ticket."


@asynccontextmanager
async def listen(receiver: TicketReceiver, address: ListenAddress) -> AsyncIterator[str]:
    """Serve *receiver* for the duration of the context, which gives the URL of pushes."""
    head_timers: dict[asyncio.BaseProtocol, asyncio.TimerHandle] = {}

    @web.middleware
    async def cancel_head_timer(request: web.Request, handler: Handler) -> web.StreamResponse:
        if (timer := head_timers.pop(request.protocol, None)) is not None:
            timer.cancel()
        return await handler(request)

    app = web.Application(middlewares=[cancel_head_timer])
    app.router.add_route("*", address.path, receiver.handle)
    if receiver.plain_push_key is not None:
        app.router.add_route("*", f"{address.path.rstrip('/')}/{{key}}", receiver.handle)
    app.router.add_route("*", "/{path:.*}", NotFoundHandler(address.path).handle)
    # No access log: the query of a push contains its signature, and the path may contain the key of plain pushes.
    # aiohttp limits the time of a head as that of an idle connection, the first one since aiohttp 3.14.5 only.
    runner = web.AppRunner(
        app,
        access_log=None,
        shutdown_timeout=_SHUTDOWN_TIMEOUT,
        keepalive_timeout=_HEAD_TIMEOUT,
        lingering_time=_HEAD_TIMEOUT,
    )
    await runner.setup()
    server = cast("web.Server", runner.server)
    listener: asyncio.Server | None = None
    try:
        try:
            # Not a `TCPSite`, which has no limit of connections.
            listener = await asyncio.get_running_loop().create_server(
                lambda: AdmissionProtocol(server, head_timers), address.host, address.port
            )
        except OSError as error:
            raise InvalidArgument(f"--host {address.host} --port {address.port}: {error.strerror}") from error
        yield address.url(listener.sockets[0].getsockname()[1])
    finally:
        if listener is not None:
            listener.close()
        try:
            await runner.cleanup()
        except asyncio.CancelledError:
            # The clean-up was cancelled while it waited for handlers: close their connections now. Not 0, which
            # aiohttp takes for "no limit".
            await server.shutdown(0.01)
            raise


@attrs.define(eq=False)
class AdmissionProtocol(asyncio.Protocol):
    """Protocol that passes a new connection to *server*, or closes it if there are `_MAX_CONNECTIONS` already.

    The connection is closed as well when its timer ends, which is in *head_timers* until its first request arrives.
    """

    server: web.Server
    head_timers: dict[asyncio.BaseProtocol, asyncio.TimerHandle]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        abort = cast("asyncio.Transport", transport).abort
        # Decided here and not when the protocol is created: asyncio accepts up to 100 connections before it calls this.
        if len(self.server.connections) >= _MAX_CONNECTIONS:
            abort()
            return
        handler = self.server()

        def end_head() -> None:
            del self.head_timers[handler]
            abort()

        self.head_timers[handler] = asyncio.get_running_loop().call_later(_HEAD_TIMEOUT, end_head)
        transport.set_protocol(handler)
        handler.connection_made(transport)


def is_below(path: str, parent: str) -> bool:
    """Return whether *path* is that of *parent* and one more segment."""
    return path.rpartition("/")[0] == parent.rstrip("/")


@attrs.define(eq=False)
class NotFoundHandler:
    """Request handler for all paths but `path`; it logs the mistake at most once a minute."""

    path: str
    clock: Callable[[], float] = time.monotonic
    _next_log_at: float = attrs.field(init=False, default=float("-inf"))

    async def handle(self, request: web.Request) -> web.Response:
        # Limited because anyone on the internet can send such requests.
        if (now := self.clock()) >= self._next_log_at:
            self._next_log_at = now + 60
            # The last segment may be the key of plain pushes, which is not set here.
            path = f"{self.path.rstrip('/')}/***" if is_below(request.path, self.path) else request.path
            line = escape_unprintable(f"{request.method} {path}"[:60])
            _log_line(f"404 for {line}: pushes are received at {self.path}")
        return web.Response(status=404, text="not found\n")


def _log_line(text: str) -> None:
    # Resilient: a full disk behind the log must not stop the receiver, or WeChat stops pushing.
    stream = resilient_stream()
    stream.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}\n")
    stream.flush()


async def log_notification(notification: Notification) -> None:
    """Log a push that is not a ticket; the receiver has acknowledged it."""
    _log_line(f"{escape_unprintable(notification.info_type)}: acknowledged and discarded")


def log_event(refusals: RepeatFilter, event: Event) -> None:
    """Log an event of the receiver; skip events of other parts of the library, and repeated *refusals*."""
    match event:
        case TicketReceived():
            state = "kept in memory" if event.in_memory_only else "stored" if event.is_newest else "already known"
            _log_line(f"ticket {state}, created {time.time() - event.create_time:.0f} s ago")
        case TicketWriteFailed():
            consequence = "it is lost" if event.retry_after is None else f"retrying in {event.retry_after:.0f} s"
            _log_line(f"ticket not stored, {consequence}: {event.reason}")
        case PushRefused() if refusals.admits(event):
            hint = event.hint and f". {event.hint}"
            _log_line(f"push{_describe_peer(event.peer)} rejected with {event.status}: {event.reason}{hint}")
        case PushUndecryptable():
            line = "acknowledged, but it cannot be decrypted"
            _log_line(f"push{_describe_peer(event.peer)} {line}. {UNDECRYPTABLE_HINT}")
        case PushMalformed():
            _log_line(f"push{_describe_peer(event.peer)} acknowledged, but malformed: {event.reason}")
        case _:
            pass


def _describe_peer(peer: str) -> str:
    return f" from {peer}" if peer else ""
