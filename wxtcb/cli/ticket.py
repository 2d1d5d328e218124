"""Command `wxtcb ticket serve`: a ticket receiver for platforms whose backend does not receive tickets itself."""

from __future__ import annotations

import asyncio
import importlib
import re
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final, cast

import attrs
from aiohttp import web

from wxtcb.cli.console import echo_err, echo_err_newline, escape_unprintable, resilient_stream
from wxtcb.cli.runner import GracefulStop, run_until_signal
from wxtcb.errors import InvalidArgument, TokenStoreError
from wxtcb.events import Event, PushMalformed, PushRefused, TicketReceived, TicketWriteFailed

if TYPE_CHECKING:
    # These need the extra `[ticket]`; see `create_receiver`.
    from wxtcb.tokens.ticket import Notification, TicketReceiver

_PATH_PATTERN: Final = re.compile(r"(/[\w.~-]*)+", re.ASCII)
# Seconds for pushes in progress. Service managers wait about ten seconds before they kill a process.
_SHUTDOWN_TIMEOUT: Final = 2.0


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
    return receiver_class.from_env(on_notification=log_notification, hooks=[log_event])


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
            state = await _describe_stored_ticket(receiver)
            async with listen(receiver, address) as url:
                _log_line(f"listening at {url}")
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
    app = web.Application()
    app.router.add_route("*", address.path, receiver.handle)
    app.router.add_route("*", "/{path:.*}", NotFoundHandler(address.path).handle)
    # No access log: the query of a push contains its signature.
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=_SHUTDOWN_TIMEOUT)
    await runner.setup()
    server = cast("web.Server", runner.server)
    try:
        try:
            await web.TCPSite(runner, address.host, address.port).start()
        except OSError as error:
            raise InvalidArgument(f"--host {address.host} --port {address.port}: {error.strerror}") from error
        yield address.url(runner.addresses[0][1])
    finally:
        try:
            await runner.cleanup()
        except asyncio.CancelledError:
            # The clean-up was cancelled while it waited for handlers: close their connections now. Not 0, which
            # aiohttp takes for "no limit".
            await server.shutdown(0.01)
            raise


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
            line = escape_unprintable(f"{request.method} {request.path}"[:60])
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


def log_event(event: Event) -> None:
    """Log an event of the receiver; skip events of other parts of the library."""
    match event:
        case TicketReceived():
            state = "kept in memory" if event.in_memory_only else "stored" if event.is_newest else "already known"
            _log_line(f"ticket {state}, created {time.time() - event.create_time:.0f} s ago")
        case TicketWriteFailed():
            consequence = "it is lost" if event.retry_after is None else f"retrying in {event.retry_after:.0f} s"
            _log_line(f"ticket not stored, {consequence}: {event.reason}")
        case PushRefused():
            _log_line(f"push rejected with {event.status}: {event.reason}")
        case PushMalformed():
            _log_line(f"push acknowledged, but malformed: {event.reason}")
        case _:
            pass
