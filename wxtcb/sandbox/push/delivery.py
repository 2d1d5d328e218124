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

from wxtcb.sandbox.push.schedule import Push, PushResult, PushSchedule

__all__ = ["DELIVERY_TIMEOUT", "PushClient", "ResultCallback", "deliver", "is_loopback", "parse_target"]

DELIVERY_TIMEOUT: Final = 5.0
_MAX_RESPONSE_BYTES: Final = 64
_EXAMPLE_URL: Final = "http://127.0.0.1:8080/wechat/push"
_HEADERS: Final = {"Content-Type": "text/xml", "User-Agent": "Mozilla/4.0"}
ResultCallback = Callable[[Push, PushResult], None]


def is_loopback(host: str) -> bool:
    """Tell whether this host is this machine, and nothing but it."""
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


def parse_target(url: str) -> URL:
    """Return the address to push to; `ValueError` for one that is not on loopback, for who knows whose that is."""
    with contextlib.suppress(TypeError, ValueError):
        target = URL(url)
        if target.scheme == "http" and is_loopback(target.host or ""):
            return target
    raise ValueError(f"tickets are pushed to http on this machine only, as in {_EXAMPLE_URL}, not to {url!r}")


async def deliver(target: URL, push: Push) -> PushResult:
    """Send a push and return what came of it, within five seconds, whatever the receiver does."""
    patience = aiohttp.ClientTimeout(total=DELIVERY_TIMEOUT)
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
            return PushResult(reply.status, await _read_prefix(reply))
    except TimeoutError:
        return PushResult(error=f"no answer within {DELIVERY_TIMEOUT:g} s")
    except (aiohttp.ClientError, OSError) as error:
        return PushResult(error=f"no answer ({_describe_error(error)})")


def _describe_error(error: Exception) -> str:
    number = error.errno if isinstance(error, OSError) else None
    return type(error).__name__ if number is None else os.strerror(number)


async def _read_prefix(reply: aiohttp.ClientResponse) -> bytes:
    start = b""
    while more := await reply.content.read(_MAX_RESPONSE_BYTES - len(start)):
        start += more
    return start


@define(eq=False)
class PushClient:
    """Pushes to one address for as long as pushing is not stopped; `on_result` hears of every delivery.

    What `on_result` raises goes to the loop's exception handler, and ends nothing.
    """

    target: URL
    schedule: PushSchedule
    sleep: Callable[[float], Awaitable[None]]
    on_result: ResultCallback | None = None
    _task: asyncio.Task[None] | None = field(init=False, default=None)

    def start(self) -> None:
        """Push at once, and from then on in time."""
        self.stop()
        self._task = asyncio.create_task(self._run())

    def stop(self) -> None:
        """Cut off what is under way, and push no more by itself."""
        if self._task is not None:
            self._task.cancel()

    async def aclose(self) -> None:
        """End, and return when nothing is under way."""
        self.stop()
        if self._task is not None:
            await asyncio.wait([self._task])

    async def send(self, push: Push) -> PushResult:
        """Deliver a push now, and take note of what came of it."""
        receipt = await deliver(self.target, push)
        self.schedule.record_result(receipt)
        if self.on_result is not None:
            self._notify(self.on_result, push, receipt)
        return receipt

    def _notify(self, on_result: ResultCallback, push: Push, result: PushResult) -> None:
        try:
            on_result(push, result)
        except (Exception, asyncio.CancelledError) as error:
            context = {"message": "what hears of the sandbox's pushes raised", "exception": error}
            asyncio.get_running_loop().call_exception_handler(context)

    async def _run(self) -> None:
        while not self.schedule.stopped:
            for push in self.schedule.due_pushes():
                await self.send(push)
            if (pause := self.schedule.next_delay) is None:
                return
            await self.sleep(pause)
