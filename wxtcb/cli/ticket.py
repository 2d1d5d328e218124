"""`wxtcb ticket serve`: a receiver of pushes for a platform whose backend has none."""

from __future__ import annotations

import asyncio
import importlib
import os
import re
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, cast

import anyio
import attrs
from aiohttp import web

from wxtcb.cli.config import (
    AES_KEY_VAR,
    APPID_VAR,
    MSGTOKEN_VAR,
    PREVIOUS_AES_KEY_VAR,
    STORE_URL_VAR,
    StoreConfig,
    read_store_config,
)
from wxtcb.cli.console import echo_err, echo_err_newline, escape_unprintable
from wxtcb.cli.runner import TERMINATION_SIGNALS, Interrupted
from wxtcb.errors import InvalidArgument, TokenStoreError
from wxtcb.events import Event, PushMalformed, PushRefused, TicketReceived, TicketWriteFailed
from wxtcb.secret import Secret

if TYPE_CHECKING:
    from wxtcb.tokens import TokenStore
    from wxtcb.tokens.ticket import Notification, TicketReceiver

_STORE_HINT: Final = f"{STORE_URL_VAR} is where programs find the ticket, as in sqlite:///wxtcb-tokens.db; without it nobody could use one"
_PATH_PATTERN: Final = re.compile(r"(/[\w.~-]*)+", re.ASCII)
_SHUTDOWN_TIMEOUT: Final = 2.0  # for pushes under way; those who end services wait about ten seconds
_MIN_SHUTDOWN_TIMEOUT: Final = 0.01  # not 0, which aiohttp takes for "wait without limit"
_NOT_FOUND_LOG_INTERVAL: Final = 60.0
_MAX_PATH_LENGTH: Final = 60
_VARIABLE_BY_ARGUMENT: Final = {
    "TicketReceiver: component_appid": APPID_VAR,
    "TicketReceiver: message_token": MSGTOKEN_VAR,
    "encoding_aes_key": AES_KEY_VAR,
    "previous_encoding_aes_key": PREVIOUS_AES_KEY_VAR,
}


@attrs.frozen
class ListenAddress:
    """Where pushes come in."""

    host: str
    port: int
    path: str

    def url(self, port: int) -> str:
        """Return the address, at the port that was taken."""
        return f"http://{f'[{self.host}]' if ':' in self.host else self.host}:{port}{self.path}"


@attrs.frozen
class ReceiverSettings:
    """What the environment says about the pushes, and where tickets are kept; the repr shows no secret."""

    component_appid: str
    message_token: Secret
    encoding_aes_key: Secret
    previous_encoding_aes_key: Secret | None
    store: StoreConfig

    @asynccontextmanager
    async def open_receiver(self) -> AsyncIterator[TicketReceiver]:
        """Open store and receiver, and close them at the end."""
        async with self.store.open() as store, self._create_receiver(store) as receiver:
            yield receiver

    def _create_receiver(self, store: TokenStore) -> TicketReceiver:
        try:
            return _load_receiver_class()(
                component_appid=self.component_appid,
                message_token=self.message_token,
                encoding_aes_key=self.encoding_aes_key,
                previous_encoding_aes_key=self.previous_encoding_aes_key,
                token_store=store,
                on_notification=_log_notification,
                hooks=[_log_event],
            )
        except InvalidArgument as error:
            raise InvalidArgument(_name_variable(str(error))) from None


def read_receiver_settings(env: Mapping[str, str]) -> ReceiverSettings:
    """Read all that is needed; one `InvalidArgument` names what is missing."""
    given = {name: env.get(name, "").strip() for name in (APPID_VAR, MSGTOKEN_VAR, AES_KEY_VAR, PREVIOUS_AES_KEY_VAR)}
    store = read_store_config(env)
    missing = [name for name in (APPID_VAR, MSGTOKEN_VAR, AES_KEY_VAR) if not given[name]]
    if store is not None and not missing:
        previous = Secret.of(given[PREVIOUS_AES_KEY_VAR]) if given[PREVIOUS_AES_KEY_VAR] else None
        return ReceiverSettings(
            given[APPID_VAR], Secret.of(given[MSGTOKEN_VAR]), Secret.of(given[AES_KEY_VAR]), previous, store
        )
    told = f"not set in the environment: {', '.join(missing + [STORE_URL_VAR] * (store is None))}"
    raise InvalidArgument(told if store else f"{told}; {_STORE_HINT}")


def _name_variable(message: str) -> str:
    """Let what is wrong with a value begin with the variable that it came from."""
    name, must, rest = message.partition(" must be ")
    return f"{_VARIABLE_BY_ARGUMENT.get(name, name)}{must}{rest}"


def _load_receiver_class() -> type[TicketReceiver]:
    try:
        return cast("type[TicketReceiver]", importlib.import_module("wxtcb.tokens.ticket").TicketReceiver)
    except ModuleNotFoundError as error:
        reason = str(error)
    raise InvalidArgument(reason)


def serve(address: ListenAddress) -> int:
    """Receive until a signal comes; return the exit code that belongs to it."""
    if not address.host:
        raise InvalidArgument("--host: an empty address would be all of this machine's; 0.0.0.0 says so")
    if not _PATH_PATTERN.fullmatch(address.path):
        raise InvalidArgument(
            f"--path {address.path}: it begins with / and has letters, digits and -._~ between slashes"
        )
    return asyncio.run(_serve_until_signal(read_receiver_settings(os.environ), address))


async def _serve_until_signal(settings: ReceiverSettings, address: ListenAddress) -> int:
    ended: asyncio.Future[Interrupted] = asyncio.get_running_loop().create_future()
    with anyio.open_signal_receiver(*TERMINATION_SIGNALS) as signals:
        receiving = asyncio.create_task(_run_receiver(settings, address, ended))
        heeding = asyncio.create_task(_handle_signals(signals, ended, receiving))
        await asyncio.wait([receiving])
        heeding.cancel()
        await asyncio.wait([heeding])
    if receiving.cancelled():
        echo_err("Cut off.")
    else:
        receiving.result()
    return ended.result().exit_code


async def _handle_signals(
    signals: AsyncIterator[int], interruption: asyncio.Future[Interrupted], receiver_task: asyncio.Task[None]
) -> None:
    """Let the first signal end it in good order, and each one after it cut off what that takes."""
    interruption.set_result(Interrupted(await anext(signals)))
    async for _ in signals:
        receiver_task.cancel()


async def _run_receiver(
    settings: ReceiverSettings, address: ListenAddress, interruption: asyncio.Future[Interrupted]
) -> None:
    async with settings.open_receiver() as receiver:
        stock = await _describe_stored_ticket(receiver)
        async with _listen(receiver, address) as url:
            _log_line(f"listening at {url}")
            echo_err(f"{stock} Ctrl-C ends it.")
            await interruption
            echo_err_newline("Ending: what is under way is done first. Once more cuts it off.")


@attrs.define(eq=False)
class NotFoundHandler:
    """Answers what comes to another path than `path`, and tells of it, at most once a minute."""

    path: str
    clock: Callable[[], float] = time.monotonic
    _next_log_at: float = attrs.field(init=False, default=float("-inf"))

    async def handle(self, request: web.Request) -> web.Response:
        if (now := self.clock()) >= self._next_log_at:
            self._next_log_at = now + _NOT_FOUND_LOG_INTERVAL
            asked = escape_unprintable(f"{request.method} {request.path}"[:_MAX_PATH_LENGTH])
            _log_line(f"404 for {asked}: pushes come in at {self.path}")
        return web.Response(status=404, text="not here\n")


@asynccontextmanager
async def _listen(receiver: TicketReceiver, address: ListenAddress) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_route("*", address.path, receiver.handle)
    app.router.add_route("*", "/{elsewhere:.*}", NotFoundHandler(address.path).handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=_SHUTDOWN_TIMEOUT)
    await runner.setup()
    server = cast("web.Server", runner.server)
    try:
        await _bind_port(runner, address)
        yield address.url(runner.addresses[0][1])
    finally:
        try:
            await runner.cleanup()
        except asyncio.CancelledError:
            await server.shutdown(_MIN_SHUTDOWN_TIMEOUT)
            raise


async def _bind_port(runner: web.AppRunner, address: ListenAddress) -> None:
    try:
        await web.TCPSite(runner, address.host, address.port).start()
    except OSError as error:
        raise InvalidArgument(f"--host {address.host} --port {address.port}: {error.strerror}") from None


async def _describe_stored_ticket(receiver: TicketReceiver) -> str:
    try:
        ticket = await receiver.newest_ticket()
    except TokenStoreError as error:
        if error.permanent:
            raise InvalidArgument(f"{STORE_URL_VAR}: {error}") from None
        return f"The store does not answer yet ({error.reason}); what comes is kept in memory until it does."
    return "The store has no ticket yet." if ticket is None else "The store has a ticket already."


def _log_line(text: str) -> None:
    sys.stdout.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}\n")
    sys.stdout.flush()


def _log_event(event: Event) -> None:
    words = _EVENT_FORMATTERS.get(type(event))
    if words is not None:
        _log_line(words(event))


async def _log_notification(notification: Notification) -> None:
    _log_line(f"{escape_unprintable(notification.info_type)}: answered, and handed on to nobody")


def _describe_received(event: TicketReceived) -> str:
    kept = "kept in memory" if event.in_memory_only else "kept" if event.is_newest else "known already"
    return f"ticket {kept}, made {time.time() - event.create_time:.0f} s ago"


def _describe_rejected(event: PushRefused) -> str:
    return f"push refused with {event.status}: {event.reason}"


def _describe_malformed(event: PushMalformed) -> str:
    return f"push answered, but not understood: {event.reason}"


def _describe_write_failure(event: TicketWriteFailed) -> str:
    when = "it is lost" if event.retry_after is None else f"next try in {event.retry_after:.0f} s"
    return f"ticket not in the store yet, {when}: {event.reason}"


_EVENT_FORMATTERS: Final[dict[type[Any], Callable[[Any], str]]] = {
    TicketReceived: _describe_received,
    PushRefused: _describe_rejected,
    PushMalformed: _describe_malformed,
    TicketWriteFailed: _describe_write_failure,
}
