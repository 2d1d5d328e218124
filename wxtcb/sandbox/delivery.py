"""Sending what was decided: the thin I/O under the faults."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import web

from wxtcb.sandbox.playing import Manner, Outgoing

__all__ = ["Sleep", "deliver"]

Sleep = Callable[[float], Awaitable[None]]

_MEGABYTE: Final = b"x" * (1 << 20)


async def deliver(request: web.BaseRequest, out: Outgoing, sleep: Sleep) -> web.StreamResponse:
    """Send an answer in the manner laid down; a client that leaves or a sandbox that closes cancels this."""
    if out.delay:
        await sleep(out.delay)
    if out.manner is Manner.WHOLE:
        return web.Response(body=out.body, status=out.status, headers=out.headers)
    return await _OTHERWISE[out.manner](request, out)


async def _drop(request: web.BaseRequest, _out: Outgoing) -> web.StreamResponse:
    request.protocol.force_close()
    return web.Response()


async def _hang(_request: web.BaseRequest, _out: Outgoing) -> web.StreamResponse:
    never: asyncio.Future[web.StreamResponse] = asyncio.get_running_loop().create_future()
    return await never


async def _truncate(request: web.BaseRequest, out: Outgoing) -> web.StreamResponse:
    response = web.StreamResponse(headers={**out.headers, "Content-Length": str(len(out.body))})
    await response.prepare(request)
    await response.write(out.body[: len(out.body) // 2])
    request.protocol.force_close()
    return response


async def _pad(request: web.BaseRequest, out: Outgoing) -> web.StreamResponse:
    response = web.StreamResponse(headers=out.headers)
    await response.prepare(request)
    await response.write(out.body[:-1] + b',"padding":"')
    for _ in range(out.megabytes):
        await response.write(_MEGABYTE)
    await response.write(b'"}')
    return response


_OTHERWISE: Final = {
    Manner.DROPPED: _drop,
    Manner.HUNG: _hang,
    Manner.TRUNCATED: _truncate,
    Manner.PADDED: _pad,
}
