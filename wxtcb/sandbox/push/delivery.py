"""Deliveries: one push over HTTP, and the task that makes them in time."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
from collections.abc import Awaitable, Callable
from typing import Final

import aiohttp
from attrs import define, field
from yarl import URL

from wxtcb.sandbox.push.schedule import Push, Pushes, Receipt

__all__ = ["PATIENCE", "Pusher", "Told", "deliver", "is_loopback", "read_target"]

PATIENCE: Final = 5.0
_REMEMBERED: Final = 64
_EXAMPLE: Final = "http://127.0.0.1:8080/wechat/push"
_HEADERS: Final = {"Content-Type": "text/xml", "User-Agent": "Mozilla/4.0"}
Told = Callable[[Push, Receipt], None]


def is_loopback(host: str) -> bool:
    """Tell whether this host is this machine, and nothing but it."""
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


def read_target(url: str) -> URL:
    """Return the address to push to; `ValueError` for one that is not on loopback, for who knows whose that is."""
    with contextlib.suppress(TypeError, ValueError):
        target = URL(url)
        if target.scheme == "http" and is_loopback(target.host or ""):
            return target
    raise ValueError(f"tickets are pushed to http on this machine only, as in {_EXAMPLE}, not to {url!r}")


async def deliver(target: URL, push: Push) -> Receipt:
    """Send a push and return what came of it, within five seconds, whatever the receiver does."""
    patience = aiohttp.ClientTimeout(total=PATIENCE)
    try:
        async with (
            aiohttp.ClientSession(timeout=patience, auto_decompress=False) as http,
            http.post(
                target.update_query(push.query),
                data=push.body,
                headers=_HEADERS,
                skip_auto_headers=["Accept-Encoding"],
                allow_redirects=False,
            ) as reply,
        ):
            return Receipt(reply.status, await _start_of(reply))
    except TimeoutError:
        return Receipt(trouble=f"no answer within {PATIENCE:g} s")
    except (aiohttp.ClientError, OSError) as error:
        return Receipt(trouble=f"no answer ({_reason(error)})")


def _reason(error: Exception) -> str:
    number = error.errno if isinstance(error, OSError) else None
    return type(error).__name__ if number is None else os.strerror(number)


async def _start_of(reply: aiohttp.ClientResponse) -> bytes:
    start = b""
    while more := await reply.content.read(_REMEMBERED - len(start)):
        start += more
    return start


@define(eq=False)
class Pusher:
    """Pushes to one address for as long as pushing is not stopped; `told` hears of every delivery.

    What `told` raises goes to the loop's exception handler, and ends nothing.
    """

    target: URL
    pushes: Pushes
    sleep: Callable[[float], Awaitable[None]]
    told: Told | None = None
    _task: asyncio.Task[None] | None = field(init=False, default=None)

    def begin(self) -> None:
        """Push at once, and from then on in time."""
        self.end()
        self._task = asyncio.create_task(self._run())

    def end(self) -> None:
        """Cut off what is under way, and push no more by itself."""
        if self._task is not None:
            self._task.cancel()

    async def aclose(self) -> None:
        """End, and return when nothing is under way."""
        self.end()
        if self._task is not None:
            await asyncio.wait([self._task])

    async def send(self, push: Push) -> Receipt:
        """Deliver a push now, and take note of what came of it."""
        receipt = await deliver(self.target, push)
        self.pushes.judge(receipt)
        if self.told is not None:
            self._tell(self.told, push, receipt)
        return receipt

    def _tell(self, told: Told, push: Push, receipt: Receipt) -> None:
        try:
            told(push, receipt)
        except (Exception, asyncio.CancelledError) as error:
            context = {"message": "what hears of the sandbox's pushes raised", "exception": error}
            asyncio.get_running_loop().call_exception_handler(context)

    async def _run(self) -> None:
        while not self.pushes.stopped:
            for push in self.pushes.round():
                await self.send(push)
            if (pause := self.pushes.pause) is None:
                return
            await self.sleep(pause)
