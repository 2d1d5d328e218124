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
from typing import TYPE_CHECKING, Any, Final

import anyio
import attrs
from aiohttp import web

from wxtcb.cli.output import printable, say, say_below
from wxtcb.cli.settings import AES_KEY, APPID, PREVIOUS_AES_KEY, SIGNING, STORE
from wxtcb.cli.signals import ENDING, Ended
from wxtcb.errors import InvalidArgument, TokenStoreError
from wxtcb.events import Event, PushRefused, TicketReceived, TicketUnsaved

if TYPE_CHECKING:
    from wxtcb.tokens.ticket import Notice, TicketReceiver

_NEEDED: Final = (APPID, SIGNING, AES_KEY, STORE)
_PATH: Final = re.compile(r"(/[\w.~-]*)+", re.ASCII)
_GRACE: Final = 2.0  # for pushes under way; those who end services wait about ten seconds


@attrs.frozen
class Place:
    """Where pushes come in."""

    host: str
    port: int
    path: str

    def url(self, port: int) -> str:
        """Return the address, at the port that was taken."""
        return f"http://{f'[{self.host}]' if ':' in self.host else self.host}:{port}{self.path}"


def serve(place: Place) -> int:
    """Receive until a signal comes; return the exit code that belongs to it."""
    if not place.host:
        raise InvalidArgument("--host: an empty address would be all of this machine's; 0.0.0.0 says so")
    if not _PATH.fullmatch(place.path):
        raise InvalidArgument(f"--path {place.path}: it begins with / and has letters, digits and -._~ between slashes")
    return asyncio.run(_serve(open_receiver(os.environ), place))


def open_receiver(env: Mapping[str, str]) -> TicketReceiver:
    """Return a receiver with the credentials of the environment; one `InvalidArgument` names all that is missing."""
    given = {name: env.get(name, "").strip() for name in (*_NEEDED, PREVIOUS_AES_KEY)}
    if missing := [name for name in _NEEDED if not given[name]]:
        told = f"not set in the environment: {', '.join(missing)}"
        raise InvalidArgument(f"{told}; {_WHY_STORE}" if STORE in missing else told)
    try:
        return _build(given)
    except ModuleNotFoundError as error:
        reason = str(error)
    raise InvalidArgument(reason)


_WHY_STORE: Final = (
    f"{STORE} is where programs find the ticket, as in sqlite:///wxtcb-tokens.db; without it nobody could use one"
)


def _build(given: Mapping[str, str]) -> TicketReceiver:
    receiver: TicketReceiver = importlib.import_module("wxtcb.tokens.ticket").TicketReceiver(
        component_appid=given[APPID],
        message_token=given[SIGNING],
        encoding_aes_key=given[AES_KEY],
        previous_encoding_aes_key=given[PREVIOUS_AES_KEY] or None,
        token_store=given[STORE],
        on_notice=_tell_notice,
        hooks=[_tell_event],
    )
    return receiver


async def _serve(receiver: TicketReceiver, place: Place) -> int:
    ended: asyncio.Future[Ended] = asyncio.get_running_loop().create_future()
    with anyio.open_signal_receiver(*ENDING) as signals:
        receiving = asyncio.create_task(_receive(receiver, place, ended))
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


async def _receive(receiver: TicketReceiver, place: Place, ended: asyncio.Future[Ended]) -> None:
    async with receiver, _listening(receiver, place) as url:
        _tell(f"listening at {url}")
        say(f"{await _stock(receiver)} Ctrl-C ends it.")
        await ended
        say_below("Ending: what is under way is done first. Once more cuts it off.")


@asynccontextmanager
async def _listening(receiver: TicketReceiver, place: Place) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_route("*", place.path, receiver.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=_GRACE)
    await runner.setup()
    try:
        await _bind(runner, place)
        yield place.url(runner.addresses[0][1])
    finally:
        await runner.cleanup()


async def _bind(runner: web.AppRunner, place: Place) -> None:
    try:
        await web.TCPSite(runner, place.host, place.port).start()
    except OSError as error:
        raise InvalidArgument(f"--host {place.host} --port {place.port}: {error.strerror}") from None


async def _stock(receiver: TicketReceiver) -> str:
    try:
        ticket = await receiver.newest_ticket()
    except TokenStoreError as error:
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
    return f"ticket {'kept' if event.kept else 'known already'}, made {time.time() - event.created:.0f} s ago"


def _refused(event: PushRefused) -> str:
    return f"push refused with {event.status}: {event.reason}"


def _unsaved(event: TicketUnsaved) -> str:
    when = "it is lost" if event.retry_after is None else f"next try in {event.retry_after:.0f} s"
    return f"ticket not in the store yet, {when}: {event.reason}"


_WORDS: Final[dict[type[Any], Callable[[Any], str]]] = {
    TicketReceived: _received,
    PushRefused: _refused,
    TicketUnsaved: _unsaved,
}
