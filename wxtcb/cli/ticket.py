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

from wxtcb.cli.config import AES_KEY, APPID, PREVIOUS_AES_KEY, SIGNING, STORE, SharedStore, read_store
from wxtcb.cli.console import printable, say, say_below
from wxtcb.cli.signals import ENDING, Ended
from wxtcb.errors import InvalidArgument, TokenStoreError
from wxtcb.events import Event, PushRefused, PushUnreadable, TicketReceived, TicketUnsaved
from wxtcb.secret import Secret

if TYPE_CHECKING:
    from wxtcb.tokens import TokenStore
    from wxtcb.tokens.ticket import Notice, TicketReceiver

_WHY_STORE: Final = (
    f"{STORE} is where programs find the ticket, as in sqlite:///wxtcb-tokens.db; without it nobody could use one"
)
_PATH: Final = re.compile(r"(/[\w.~-]*)+", re.ASCII)
_GRACE: Final = 2.0  # for pushes under way; those who end services wait about ten seconds
_AT_ONCE: Final = 0.01  # not 0, which aiohttp takes for "wait without limit"
_QUIET: Final = 60.0
_LONGEST_PATH: Final = 60
_VARIABLES: Final = {
    "TicketReceiver: component_appid": APPID,
    "TicketReceiver: message_token": SIGNING,
    "encoding_aes_key": AES_KEY,
    "previous_encoding_aes_key": PREVIOUS_AES_KEY,
}


@attrs.frozen
class Place:
    """Where pushes come in."""

    host: str
    port: int
    path: str

    def url(self, port: int) -> str:
        """Return the address, at the port that was taken."""
        return f"http://{f'[{self.host}]' if ':' in self.host else self.host}:{port}{self.path}"


@attrs.frozen
class Credentials:
    """What the environment says about the pushes, and where tickets are kept; the repr shows no secret."""

    component_appid: str
    message_token: Secret
    encoding_aes_key: Secret
    previous_encoding_aes_key: Secret | None
    store: SharedStore

    @asynccontextmanager
    async def receiver(self) -> AsyncIterator[TicketReceiver]:
        """Open store and receiver, and close them at the end."""
        async with self.store.open() as store, self._receiver(store) as receiver:
            yield receiver

    def _receiver(self, store: TokenStore) -> TicketReceiver:
        try:
            return _load_receiver()(
                component_appid=self.component_appid,
                message_token=self.message_token,
                encoding_aes_key=self.encoding_aes_key,
                previous_encoding_aes_key=self.previous_encoding_aes_key,
                token_store=store,
                on_notice=_tell_notice,
                hooks=[_tell_event],
            )
        except InvalidArgument as error:
            raise InvalidArgument(_by_variable(str(error))) from None


def read_credentials(env: Mapping[str, str]) -> Credentials:
    """Read all that is needed; one `InvalidArgument` names what is missing."""
    given = {name: env.get(name, "").strip() for name in (APPID, SIGNING, AES_KEY, PREVIOUS_AES_KEY)}
    store = read_store(env)
    missing = [name for name in (APPID, SIGNING, AES_KEY) if not given[name]]
    if store is not None and not missing:
        previous = Secret.of(given[PREVIOUS_AES_KEY]) if given[PREVIOUS_AES_KEY] else None
        return Credentials(given[APPID], Secret.of(given[SIGNING]), Secret.of(given[AES_KEY]), previous, store)
    told = f"not set in the environment: {', '.join(missing + [STORE] * (store is None))}"
    raise InvalidArgument(told if store else f"{told}; {_WHY_STORE}")


def _by_variable(told: str) -> str:
    """Let what is wrong with a value begin with the variable that it came from."""
    name, must, rest = told.partition(" must be ")
    return f"{_VARIABLES.get(name, name)}{must}{rest}"


def _load_receiver() -> type[TicketReceiver]:
    try:
        return cast("type[TicketReceiver]", importlib.import_module("wxtcb.tokens.ticket").TicketReceiver)
    except ModuleNotFoundError as error:
        reason = str(error)
    raise InvalidArgument(reason)


def serve(place: Place) -> int:
    """Receive until a signal comes; return the exit code that belongs to it."""
    if not place.host:
        raise InvalidArgument("--host: an empty address would be all of this machine's; 0.0.0.0 says so")
    if not _PATH.fullmatch(place.path):
        raise InvalidArgument(f"--path {place.path}: it begins with / and has letters, digits and -._~ between slashes")
    return asyncio.run(_serve(read_credentials(os.environ), place))


async def _serve(credentials: Credentials, place: Place) -> int:
    ended: asyncio.Future[Ended] = asyncio.get_running_loop().create_future()
    with anyio.open_signal_receiver(*ENDING) as signals:
        receiving = asyncio.create_task(_receive(credentials, place, ended))
        heeding = asyncio.create_task(_heed(signals, ended, receiving))
        await asyncio.wait([receiving])
        heeding.cancel()
        await asyncio.wait([heeding])
    if receiving.cancelled():
        say("Cut off.")
    else:
        receiving.result()
    return ended.result().exit_code


async def _heed(signals: AsyncIterator[int], ended: asyncio.Future[Ended], receiving: asyncio.Task[None]) -> None:
    """Let the first signal end it in good order, and each one after it cut off what that takes."""
    ended.set_result(Ended(await anext(signals)))
    async for _ in signals:
        receiving.cancel()


async def _receive(credentials: Credentials, place: Place, ended: asyncio.Future[Ended]) -> None:
    async with credentials.receiver() as receiver:
        stock = await _stock(receiver)
        async with _listening(receiver, place) as url:
            _tell(f"listening at {url}")
            say(f"{stock} Ctrl-C ends it.")
            await ended
            say_below("Ending: what is under way is done first. Once more cuts it off.")


@attrs.define(eq=False)
class Stray:
    """Answers what comes to another path than `path`, and tells of it, at most once a minute."""

    path: str
    now: Callable[[], float] = time.monotonic
    _quiet_until: float = attrs.field(init=False, default=float("-inf"))

    async def handle(self, request: web.Request) -> web.Response:
        if (now := self.now()) >= self._quiet_until:
            self._quiet_until = now + _QUIET
            asked = printable(f"{request.method} {request.path}"[:_LONGEST_PATH])
            _tell(f"404 for {asked}: pushes come in at {self.path}")
        return web.Response(status=404, text="not here\n")


@asynccontextmanager
async def _listening(receiver: TicketReceiver, place: Place) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_route("*", place.path, receiver.handle)
    app.router.add_route("*", "/{elsewhere:.*}", Stray(place.path).handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=_GRACE)
    await runner.setup()
    server = cast("web.Server", runner.server)
    try:
        await _bind(runner, place)
        yield place.url(runner.addresses[0][1])
    finally:
        try:
            await runner.cleanup()
        except asyncio.CancelledError:
            await server.shutdown(_AT_ONCE)
            raise


async def _bind(runner: web.AppRunner, place: Place) -> None:
    try:
        await web.TCPSite(runner, place.host, place.port).start()
    except OSError as error:
        raise InvalidArgument(f"--host {place.host} --port {place.port}: {error.strerror}") from None


async def _stock(receiver: TicketReceiver) -> str:
    try:
        ticket = await receiver.newest_ticket()
    except TokenStoreError as error:
        if error.lasting:
            raise InvalidArgument(f"{STORE}: {error}") from None
        return f"The store does not answer yet ({error.reason}); what comes is kept in memory until it does."
    return "The store has no ticket yet." if ticket is None else "The store has a ticket already."


def _tell(text: str) -> None:
    sys.stdout.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}\n")
    sys.stdout.flush()


def _tell_event(event: Event) -> None:
    words = _WORDS.get(type(event))
    if words is not None:
        _tell(words(event))


async def _tell_notice(notice: Notice) -> None:
    _tell(f"{printable(notice.info_type)}: answered, and handed on to nobody")


def _received(event: TicketReceived) -> str:
    kept = "kept in memory" if event.in_memory else "kept" if event.kept else "known already"
    return f"ticket {kept}, made {time.time() - event.create_time:.0f} s ago"


def _refused(event: PushRefused) -> str:
    return f"push refused with {event.status}: {event.reason}"


def _unreadable(event: PushUnreadable) -> str:
    return f"push answered, but not understood: {event.reason}"


def _unsaved(event: TicketUnsaved) -> str:
    when = "it is lost" if event.retry_after is None else f"next try in {event.retry_after:.0f} s"
    return f"ticket not in the store yet, {when}: {event.reason}"


_WORDS: Final[dict[type[Any], Callable[[Any], str]]] = {
    TicketReceived: _received,
    PushRefused: _refused,
    PushUnreadable: _unreadable,
    TicketUnsaved: _unsaved,
}
