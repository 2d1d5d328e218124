"""Delivery of pushes over HTTP: one push, and the task that delivers them periodically."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final
from urllib.parse import urlencode

import aiohttp
from attrs import define, field
from yarl import URL

from wxtcb.sandbox.push.schedule import Push, PushResult, PushSchedule

DELIVERY_TIMEOUT: Final = 5.0
# The accepted body is 7 bytes long; the rest only has to be enough for an error message.
_MAX_RESPONSE_BYTES: Final = 64
_EXAMPLE_URL: Final = "http://127.0.0.1:8080/wechat/push"
# As the platform's own pushes have them.
_HEADERS: Final = {"Content-Type": "text/xml", "User-Agent": "Mozilla/4.0"}
ResultCallback = Callable[[Push, PushResult], None]
_Message = MutableMapping[str, Any]
ASGIApp = Callable[
    [_Message, Callable[[], Awaitable[_Message]], Callable[[_Message], Awaitable[None]]], Awaitable[object]
]


def is_loopback(host: str) -> bool:
    """Return whether *host* is a loopback address or "localhost"."""
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


def parse_target(url: str) -> URL:
    """Return the URL to push to. Raises `ValueError` unless it is an http URL on loopback."""
    # Loopback only: a mistyped address must not send messages to a stranger's server.
    with contextlib.suppress(TypeError, ValueError):
        target = URL(url)
        if target.scheme == "http" and is_loopback(target.host or ""):
            return target
    raise ValueError(f"push URL {url!r} is invalid: it must be an http URL on this machine, such as {_EXAMPLE_URL}")


async def deliver(target: URL, push: Push) -> PushResult:
    """Deliver a push and return the result, after five seconds at most."""
    timeout = aiohttp.ClientTimeout(total=DELIVERY_TIMEOUT)
    try:
        async with (
            # No decompression and no redirects: the platform compares the bytes of the first response.
            aiohttp.ClientSession(timeout=timeout, auto_decompress=False) as http,
            http.post(
                target.update_query(push.query),
                data=push.body,
                headers=_HEADERS,
                skip_auto_headers=["Accept-Encoding"],
                allow_redirects=False,
            ) as response,
        ):
            prefix = b""
            # One read may return fewer bytes than have been asked for, long before the body ends.
            while chunk := await response.content.read(_MAX_RESPONSE_BYTES - len(prefix)):
                prefix += chunk
            return PushResult(response.status, prefix)
    except TimeoutError:
        return PushResult(error=f"no response within {DELIVERY_TIMEOUT:g} s")
    except (aiohttp.ClientError, OSError) as error:
        # The message of an aiohttp error may contain the URL, so only its type or its error number is reported.
        errno = error.errno if isinstance(error, OSError) else None
        reason = type(error).__name__ if errno is None else os.strerror(errno)
        return PushResult(error=f"no response ({reason})")


async def deliver_to_app(app: ASGIApp, path: str, push: Push) -> PushResult:
    """Deliver a push to an ASGI application in this event loop, without a socket; its exceptions are raised."""
    headers = {"host": "127.0.0.1", "content-length": str(len(push.body)), **_HEADERS}
    scope: _Message = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": urlencode(push.query).encode(),
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
    }
    requests: list[_Message] = [{"type": "http.request", "body": push.body, "more_body": False}]
    status, body = None, b""

    async def receive() -> _Message:
        return requests.pop() if requests else {"type": "http.disconnect"}

    async def send(message: _Message) -> None:
        nonlocal status, body
        status = message.get("status", status)
        body += message.get("body", b"")

    await app(scope, receive, send)
    return PushResult(status, body[:_MAX_RESPONSE_BYTES], "" if status else "no response")


@define(eq=False)
class PushClient:
    """Delivery of the pushes of a schedule to one URL, until pushing stops.

    `on_result` is called after each delivery. An exception it raises goes to the loop's exception handler.
    """

    target: URL
    schedule: PushSchedule
    sleep: Callable[[float], Awaitable[None]]
    on_result: ResultCallback | None = None
    _task: asyncio.Task[None] | None = field(init=False, default=None)

    def start(self) -> None:
        """Push now, and then periodically; a task that is already running is replaced."""
        self.stop()
        self._task = asyncio.create_task(self._run())

    def stop(self) -> None:
        """Cancel the periodic pushes, and the one in delivery."""
        if self._task is not None:
            self._task.cancel()

    async def aclose(self) -> None:
        """Stop, and wait until the task has ended."""
        self.stop()
        if self._task is not None:
            # `wait` neither raises the task's CancelledError nor cancels the task again.
            await asyncio.wait([self._task])

    async def send(self, push: Push) -> PushResult:
        """Deliver a push now, and record the result."""
        result = await deliver(self.target, push)
        self.schedule.record_result(result)
        if self.on_result is not None:
            try:
                self.on_result(push, result)
            # CancelledError too: raised by the callback, it would look like a cancellation of the push task.
            except (Exception, asyncio.CancelledError) as error:
                context = {"message": "on_result of Sandbox.push_to raised an exception", "exception": error}
                asyncio.get_running_loop().call_exception_handler(context)
        return result

    async def _run(self) -> None:
        while not self.schedule.stopped:
            for push in self.schedule.due_pushes():
                await self.send(push)
            if (delay := self.schedule.next_delay) is None:
                return
            await self.sleep(delay)
